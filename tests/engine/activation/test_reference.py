"""The slow twin of the rules itself, in worlds whose answers anybody works out in the head; times are hours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evflex.engine.activation.model import ConflictKind, Policy, PolicyKind, ResourceKind
from tests.engine.activation.reference.brute import all_conflicts, candidate_conflicts
from tests.engine.activation.reference.builders import (
    DOWN,
    UP,
    VIN,
    conflict,
    ev,
    needing,
    plugged,
    point,
    rule,
    site,
    sold,
    world,
)
from tests.engine.activation.reference.world import HOUR_MS

# --- 1. capacity -----------------------------------------------------------------------------------------------------


def test_what_touches_does_not_meet() -> None:
    assert all_conflicts(world(ev(up_headroom_w=5), sold("a", ("ev", 5)), sold("b", ("ev", 5), start=4, end=6))) == []


def test_a_run_above_the_headroom_is_one_conflict_with_the_largest_excess() -> None:
    """5 W throughout, 2 W more from 1 to 2 and 4 W more from 2 to 3, of 6 W; free again until 5 to 6."""
    found = all_conflicts(world(
        ev(up_headroom_w=6), sold("a", ("ev", 5), end=8), sold("b", ("ev", 2), start=1, end=2),
        sold("c", ("ev", 4), start=2, end=3), sold("d", ("ev", 3), start=5, end=6),
    ))  # fmt: skip
    assert found == [
        conflict(ConflictKind.CAPACITY_EXCEEDED, "ev", 1, 3, "a", "b", "c", direction=UP, excess_w=3),
        conflict(ConflictKind.CAPACITY_EXCEEDED, "ev", 5, 6, "a", "d", direction=UP, excess_w=2),
    ]


def test_directions_have_their_own_headroom_and_none_is_no_limit() -> None:
    """Sold in both directions by one aggregator that declares it; 0 W upward, no limit downward."""
    declared: dict[str, Any] = {"counter_activation_declared": True}
    found = all_conflicts(world(
        ev(up_headroom_w=0), sold("a", ("ev", 1), **declared), sold("b", ("ev", 99), direction=DOWN, **declared)
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.CAPACITY_EXCEEDED, "ev", 0, 4, "a", direction=UP, excess_w=1)]


def test_one_thing_sold_under_two_names_is_an_alias_sale() -> None:
    """Three names in a chain; the smallest headroom of any holds, and the conflict bears the smallest name."""
    found = all_conflicts(world(
        ev("z", up_headroom_w=9, aliases=(VIN,)), ev("m", up_headroom_w=7, aliases=(VIN, ("emaid", "1"))),
        ev("b", aliases=(("emaid", "1"),)), sold("one", ("z", 4)), sold("two", ("b", 4), by="bob"),
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.ALIAS_SALE, "b", 0, 4, "one", "two", direction=UP, excess_w=1)]


def test_two_rows_of_one_pool_on_one_thing_add_up() -> None:
    found = all_conflicts(
        world(ev("a", up_headroom_w=5, aliases=(VIN,)), ev("b", aliases=(VIN,)), sold("p", ("a", 3), ("b", 3)))
    )
    assert found == [conflict(ConflictKind.ALIAS_SALE, "a", 0, 4, "p", direction=UP, excess_w=1)]


def test_what_is_sold_behind_a_site_counts_there() -> None:
    """The charge point bears its 6 W; the site 10 W, of which 5 W are sold of itself, and the node above only 8 W."""
    found = all_conflicts(world(
        site("node", up_headroom_w=8), site(parent_id="node", up_headroom_w=10),
        point(parent_id="site", up_headroom_w=6), sold("a", ("point", 6)), sold("b", ("site", 5), by="bob"),
    ))  # fmt: skip
    assert found == [
        conflict(ConflictKind.CASCADE, "node", 0, 4, "a", "b", direction=UP, excess_w=3),
        conflict(ConflictKind.CASCADE, "site", 0, 4, "a", "b", direction=UP, excess_w=1),
    ]


def test_a_pool_counts_at_a_node_with_the_sum_of_its_rows() -> None:
    found = all_conflicts(world(
        site(up_headroom_w=5), point("a", parent_id="site"), point("b", parent_id="site"), sold("p", ("a", 3), ("b", 4))
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.CASCADE, "site", 0, 4, "p", direction=UP, excess_w=2)]


def test_a_node_that_is_reached_twice_counts_once() -> None:
    """The vehicle is at home behind the node, and now at a charge point behind two sites of the same node."""
    nodes = (site("node", up_headroom_w=5), site("x", parent_id="node"), site("y", parent_id="node"))
    points = (point(parent_id="x", aliases=(VIN,)), point("twin", parent_id="y", aliases=(VIN,)))
    at_limit = world(*nodes, *points, ev(parent_id="node"), plugged(0), sold("a", ("ev", 5)))
    assert all_conflicts(at_limit) == []
    above = world(*nodes, *points, ev(parent_id="node"), plugged(0), sold("a", ("ev", 6)))
    assert all_conflicts(above) == [conflict(ConflictKind.CASCADE, "node", 0, 4, "a", direction=UP, excess_w=1)]


def test_a_vehicle_that_is_plugged_in_elsewhere_still_counts_at_home() -> None:
    found = all_conflicts(world(
        site("home", up_headroom_w=4), site("work", up_headroom_w=3), ev(parent_id="home"), point(parent_id="work"),
        plugged(2), sold("a", ("ev", 5)),
    ))  # fmt: skip
    assert found == [
        conflict(ConflictKind.CASCADE, "home", 0, 4, "a", direction=UP, excess_w=1),
        conflict(ConflictKind.CASCADE, "work", 2, 4, "a", direction=UP, excess_w=2),
    ]


def test_groups_count_by_their_largest_and_only_of_one_aggregator_and_sort() -> None:
    """Of ada's alternatives 5 W count, of bob's group of that name 2 W, of ada's co-delivery of that name 3 W: 10 W."""
    parts = (
        sold("a", ("ev", 5), exclusive_group="g"), sold("b", ("ev", 4), exclusive_group="g"),
        sold("c", ("ev", 2), exclusive_group="g", by="bob"), sold("d", ("ev", 3), co_delivery_group="g"),
    )  # fmt: skip
    assert all_conflicts(world(ev(up_headroom_w=10), *parts)) == []
    assert all_conflicts(world(ev(up_headroom_w=9), *parts)) == [
        conflict(ConflictKind.CAPACITY_EXCEEDED, "ev", 0, 4, "a", "b", "c", "d", direction=UP, excess_w=1)
    ]


def test_a_truncated_row_counts_no_longer() -> None:
    found = all_conflicts(world(ev(up_headroom_w=5), sold("a", ("ev", 5, 2)), sold("b", ("ev", 4), start=1)))
    assert found == [conflict(ConflictKind.CAPACITY_EXCEEDED, "ev", 1, 2, "a", "b", direction=UP, excess_w=4)]


def test_a_cap_holds_for_each_aggregator_area_and_direction() -> None:
    """At most 5 W in the north and 3 W in each other area: ada's 6 W upward are too much, bob's 5 W are not."""
    declared: dict[str, Any] = {"counter_activation_declared": True}
    found = all_conflicts(world(
        rule(PolicyKind.NONE, aggregator_cap_w=3), rule(PolicyKind.NONE, "north", aggregator_cap_w=5),
        rule(PolicyKind.NONE, "south"), site("n", area_id="north"), point(parent_id="n", area_id="north"),
        point("q", area_id="north"), site("s", area_id="south"), sold("a", ("point", 4), **declared),
        sold("b", ("n", 2), start=2, **declared), sold("c", ("q", 5), by="bob"),
        sold("d", ("n", 5), direction=DOWN, **declared), sold("e", ("s", 4), by="cyd"),
    ))  # fmt: skip
    assert found == [
        conflict(ConflictKind.AGGREGATOR_CAP, "", 2, 4, "a", "b", direction=UP, excess_w=1, area_id="north"),
        conflict(ConflictKind.AGGREGATOR_CAP, "", 0, 4, "e", direction=UP, excess_w=1, area_id="south"),
    ]


# --- 2. cross-sale ---------------------------------------------------------------------------------------------------


def test_vehicle_and_charge_point_are_not_both_sold_while_they_are_in_a_session() -> None:
    """In either direction, and only from plug-in at 1 to the end of the vehicle's sale at 3."""
    found = all_conflicts(world(
        ev(), point(), plugged(1, 6), sold("a", ("ev", 5), end=3), sold("b", ("point", 4), end=8, by="bob")
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.CROSS_SALE, "ev", 1, 3, "a", "b", excess_w=4, session_id="s")]
    touching = world(ev(), point(), plugged(3, 6), sold("a", ("ev", 5), end=3), sold("b", ("point", 4), end=8))
    assert all_conflicts(touching) == []


def test_two_sessions_spliced_are_two_cross_sales() -> None:
    found = all_conflicts(world(
        ev(), point(), plugged(0, 2), plugged(2, 3, name="t"), sold("a", ("point", 4)), sold("b", ("ev", 5), by="bob")
    ))  # fmt: skip
    assert found == [
        conflict(ConflictKind.CROSS_SALE, "ev", 0, 2, "a", "b", excess_w=4, session_id="s"),
        conflict(ConflictKind.CROSS_SALE, "ev", 2, 3, "a", "b", excess_w=4, session_id="t"),
    ]


def test_a_cross_sale_is_seen_through_other_names_and_bears_the_smallest() -> None:
    found = all_conflicts(world(
        ev(aliases=(VIN,)), ev("car", aliases=(VIN,)), point(), plugged(0, 2), sold("a", ("car", 1)),
        sold("b", ("point", 4)),
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.CROSS_SALE, "car", 0, 2, "a", "b", excess_w=1, session_id="s")]


def test_the_same_aggregator_may_sell_both_sides_within_their_capacity() -> None:
    """Both rows must be sold under it; at the charge point the vehicle's 5 W count beside the 4 W sold of itself."""
    both = (sold("a", ("ev", 5)), sold("b", ("point", 4)))
    parts = (ev(), point(up_headroom_w=8), plugged(0), rule(PolicyKind.SAME_AGGREGATOR))
    too_much = conflict(ConflictKind.CASCADE, "point", 0, 4, "a", "b", direction=UP, excess_w=1)
    crossed = conflict(ConflictKind.CROSS_SALE, "ev", 0, 4, "a", "b", excess_w=4, session_id="s")
    assert all_conflicts(world(*parts, *both)) == [too_much]
    assert all_conflicts(world(*parts, both[0], replace(both[1], aggregator_id="bob"))) == [crossed, too_much]
    assert all_conflicts(world(*parts, rule(PolicyKind.NONE, product="peak"), *both)) == [crossed, too_much]
    one_row = replace(both[1], product_id="balancing")
    assert all_conflicts(world(*parts, rule(PolicyKind.NONE, product="balancing"), both[0], one_row)) == [
        crossed,
        too_much,
    ]


def test_a_pool_may_not_sell_both_sides_of_a_session_either() -> None:
    """Of the vehicle 2 W and 1 W under two names, of the charge point 4 W: 3 W are sold twice."""
    found = all_conflicts(world(
        ev(aliases=(VIN,)), ev("twin", aliases=(VIN,)), point(), plugged(1, 2),
        sold("pool", ("ev", 2), ("point", 4), ("twin", 1)),
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.CROSS_SALE, "ev", 1, 2, "pool", excess_w=3, session_id="s")]


# --- under SESSION ---------------------------------------------------------------------------------------------------


def test_a_forecast_counts_nowhere_until_it_is_plugged_in_and_then_in_the_session() -> None:
    """Plugged in from 1 to 2 and from 3 on; directly at both, so no cascade and no cross-sale, and at the site."""
    found = all_conflicts(world(
        rule(PolicyKind.SESSION, aggregator_cap_w=6), site(up_headroom_w=5), point(parent_id="site", up_headroom_w=4),
        ev(up_headroom_w=0), plugged(1, 2), plugged(3, name="t"), sold("a", ("ev", 7)),
    ))  # fmt: skip
    at = [(1, 2), (3, 4)]
    assert found == [
        *(conflict(ConflictKind.CAPACITY_EXCEEDED, "ev", *when, "a", direction=UP, excess_w=7) for when in at),
        *(conflict(ConflictKind.CAPACITY_EXCEEDED, "point", *when, "a", direction=UP, excess_w=3) for when in at),
        *(conflict(ConflictKind.CASCADE, "site", *when, "a", direction=UP, excess_w=2) for when in at),
        *(conflict(ConflictKind.AGGREGATOR_CAP, "", *when, "a", direction=UP, excess_w=1) for when in at),
    ]


def test_forecasts_of_both_sides_are_no_cross_sale_but_share_the_capacity() -> None:
    found = all_conflicts(world(
        rule(PolicyKind.SESSION), ev(), point(up_headroom_w=5), plugged(2), sold("a", ("ev", 3)),
        sold("b", ("point", 3), by="bob"), sold("c", ("s", 1), start=3),
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.CAPACITY_EXCEEDED, "point", 2, 4, "a", "b", "c", direction=UP, excess_w=2)]


# --- 3. and 4. up against down, site against child -------------------------------------------------------------------


def test_up_and_down_do_not_meet_along_a_line() -> None:
    """Up at the charge point and down at its site, at once from 2 to 4; two charge points beside each other may."""
    parts = (site(), point("p", parent_id="site"), point("q", parent_id="site"), sold("a", ("p", 5)))
    found = all_conflicts(world(*parts, sold("b", ("site", 3), start=2, end=6, direction=DOWN, by="bob")))
    assert found == [conflict(ConflictKind.COUNTER_ACTIVATION, "site", 2, 4, "a", "b", excess_w=3)]
    assert all_conflicts(world(*parts, sold("b", ("q", 3), direction=DOWN, by="bob"))) == []


def test_what_is_sold_up_and_down_is_the_larger_of_both_ways_round() -> None:
    """At the site a counts with 5 W directly and 8 W at all, b with 10 W directly: 8 W of it are sold both ways."""
    found = all_conflicts(world(
        site(), point(parent_id="site"), sold("a", ("site", 5), ("point", 3)), sold("b", ("site", 10), direction=DOWN)
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.COUNTER_ACTIVATION, "site", 0, 4, "a", "b", excess_w=8)]


@pytest.mark.parametrize(("first", "second", "by", "stands"), [
    (True, True, "ada", True), (True, False, "ada", False), (False, True, "ada", False), (True, True, "bob", False),
])  # fmt: skip
def test_both_must_declare_and_be_of_one_aggregator(first: bool, second: bool, by: str, stands: bool) -> None:
    """A sale and its trade back at one thing."""
    found = all_conflicts(world(
        ev(), sold("a", ("ev", 5), counter_activation_declared=first),
        sold("b", ("ev", 5), direction=DOWN, by=by, counter_activation_declared=second),
    ))  # fmt: skip
    assert found == ([] if stands else [conflict(ConflictKind.COUNTER_ACTIVATION, "ev", 0, 4, "a", "b", excess_w=5)])


def test_two_that_meet_are_judged_at_the_first_instant() -> None:
    """At the site 1 W of the charge point meets what is sold downward; 2 W more of the vehicle do once it is there."""
    found = all_conflicts(world(
        rule(PolicyKind.SAME_AGGREGATOR), site(), point(parent_id="site"), ev(), plugged(2),
        sold("a", ("point", 1), ("ev", 2)), sold("b", ("site", 9), direction=DOWN),
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.COUNTER_ACTIVATION, "site", 0, 4, "a", "b", excess_w=1)]


def test_no_cascade_forbids_a_site_beside_its_child_even_in_one_pool() -> None:
    """Either row may bring the policy; under another product for both there is nothing against it."""
    parts = (site(area_id="north"), point(parent_id="site"), rule(PolicyKind.NO_CASCADE, "north"))
    found = all_conflicts(
        world(*parts, sold("a", ("point", 5), direction=DOWN), sold("b", ("site", 3), direction=DOWN, by="bob"))
    )
    assert found == [conflict(ConflictKind.CASCADE, "site", 0, 4, "a", "b", excess_w=3)]
    found = all_conflicts(world(*parts, sold("pool", ("point", 5), ("site", 8))))
    assert found == [conflict(ConflictKind.CASCADE, "site", 0, 4, "pool", excess_w=5)]
    loose = rule(PolicyKind.NONE, "north", "peak")
    assert all_conflicts(world(*parts, loose, sold("pool", ("point", 5), ("site", 8)))) == []


# --- 5. energy -------------------------------------------------------------------------------------------------------


def test_a_vehicle_must_reach_what_it_needs() -> None:
    """10 W for 10 hours are 100 Wh, of which 70 are needed: 8 W for four hours take 32, two too much."""
    parts = (ev(), point(), needing(70, departure=10, max_charge_w=10))
    missing = conflict(ConflictKind.ENERGY_EXCEEDED, "ev", 0, 10, "a", direction=UP, excess_wh=2, session_id="s")
    for name in ("ev", "point", "s"):
        assert all_conflicts(world(*parts, sold("a", (name, 8)))) == [missing]
    assert all_conflicts(world(*parts, sold("a", ("ev", 7)))) == []
    assert all_conflicts(world(*parts, sold("a", ("ev", 8), direction=DOWN))) == []
    # Only the two hours before departure take anything from it.
    assert all_conflicts(world(*parts, sold("a", ("ev", 8), start=8, end=12))) == []
    assert all_conflicts(world(ev(), point(), replace(parts[2], end_ms=11 * HOUR_MS), sold("a", ("ev", 8)))) == []
    # A need that cannot be met anyway is no conflict of anybody.
    assert all_conflicts(world(ev(), point(), needing(200, departure=10, max_charge_w=10))) == []


def test_energy_is_limited_by_commitment_and_group_and_rounds_up() -> None:
    """Nothing to spare: what is missing is what is taken.

    a: a third of at most 10 Wh, 4 Wh. b and c, alternatives: 6 W from 0 to 2, then 4 W from 2 to 3, are 16 Wh, less
    than 12 and 12. d and e, one delivery: 5 W for four hours, but together they deliver no more than 3 and 2 Wh.
    """
    found = all_conflicts(world(
        ev(), point(), ev("other"), needing(100, departure=10, max_charge_w=10),
        sold("a", ("ev", 2), ("other", 4), energy_wh=10),
        sold("b", ("ev", 6), end=2, exclusive_group="g"),
        sold("c", ("point", 4), end=3, exclusive_group="g", energy_wh=12),
        sold("d", ("s", 5), co_delivery_group="g", energy_wh=3),
        sold("e", ("s", 5), co_delivery_group="g", energy_wh=2),
    ))  # fmt: skip
    assert [each for each in found if each.kind == ConflictKind.ENERGY_EXCEEDED] == [
        conflict(
            ConflictKind.ENERGY_EXCEEDED, "ev", 0, 10, *"abcde", direction=UP, excess_wh=4 + 16 + 5, session_id="s"
        )
    ]


# --- 6. policy -------------------------------------------------------------------------------------------------------


def test_one_side_lets_only_that_side_be_sold() -> None:
    """Only charge points may be sold in the north; a site is neither, a session in the area of its charge point."""
    found = all_conflicts(world(
        rule(PolicyKind.ONE_SIDE, "north", sold_side=ResourceKind.CHARGE_POINT), site(area_id="north"),
        point(area_id="north"), ev(area_id="south"), ev("car", area_id="north"), plugged(0, 9),
        sold("a", ("site", 1), ("car", 1)), sold("b", ("s", 1)), sold("c", ("ev", 1), start=10, end=11),
        sold("d", ("point", 1), start=10, end=12),
    ))  # fmt: skip
    assert found == [conflict(ConflictKind.POLICY, "car", 0, 4, "a"), conflict(ConflictKind.POLICY, "s", 0, 4, "b")]


def test_the_most_specific_policy_holds() -> None:
    """Area and product, then area, then product, then neither."""
    forbids = {"kind": PolicyKind.ONE_SIDE, "sold_side": ResourceKind.CHARGE_POINT}
    car, sale = ev("car", area_id="north"), sold("a", ("car", 1))
    steps = [("", ""), ("", "peak"), ("north", ""), ("north", "peak")]
    for k, (area_id, product_id) in enumerate(steps):
        looser = [rule(PolicyKind.NONE, *step) for step in steps[:k]]
        stricter = [Policy(*step, **forbids) for step in steps[:k]]  # type: ignore[arg-type]
        found = all_conflicts(world(car, sale, *looser, Policy(area_id, product_id, **forbids)))  # type: ignore[arg-type]
        assert found == [conflict(ConflictKind.POLICY, "car", 0, 4, "a")]
        assert all_conflicts(world(car, sale, *stricter, rule(PolicyKind.NONE, area_id, product_id))) == []


def test_a_session_is_sold_within_its_time() -> None:
    """Any end will do while it is open; where a row was truncated, its own end counts."""
    open_one = world(ev(), point(), plugged(1))
    assert candidate_conflicts(open_one, sold("a", ("s", 1), start=1, end=99)) == []
    early = conflict(ConflictKind.POLICY, "s", 0, 4, "a")
    assert candidate_conflicts(open_one, sold("a", ("s", 1))) == [early]
    closed = world(ev(), point(), plugged(1, 3))
    late = conflict(ConflictKind.POLICY, "s", 2, 4, "a")
    assert candidate_conflicts(closed, sold("a", ("s", 1), start=2)) == [late]
    assert candidate_conflicts(closed, sold("a", ("s", 1, 3), start=2)) == []
    # What was cut to nothing sells nothing.
    assert candidate_conflicts(closed, sold("a", ("s", 1, 3), start=3)) == []
    assert candidate_conflicts(open_one, sold("a", ("s", 1, 0), ("ev", 1))) == []
