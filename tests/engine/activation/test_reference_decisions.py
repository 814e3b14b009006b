"""The slow twin of the rules itself: what a candidate is told, and what is decided at plug-in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.activation.model import MOST_NAMED, ConflictKind, PolicyKind
from tests.conftest import SOAK
from tests.engine.activation.reference.brute import all_conflicts, candidate_conflicts, decided
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
from tests.engine.activation.reference.world import HOUR_MS, LinkAliases, random_change, random_commitment, random_world


def test_a_candidate_is_told_only_of_conflicts_where_and_when_it_counts() -> None:
    """From 0 to 4 there is too much under two names; the candidate counts from 3 on, when only one is left."""
    before = world(
        ev("a", up_headroom_w=5, aliases=(VIN,)), ev("b", aliases=(VIN,)), sold("x", ("a", 8)), sold("y", ("b", 9, 3)),
    )  # fmt: skip
    candidate = sold("new", ("a", 1), start=3, end=6)
    alone = conflict(ConflictKind.CAPACITY_EXCEEDED, "a", 3, 4, "x", "new", direction=UP, excess_w=4)
    assert candidate_conflicts(before, candidate) == [alone]
    both = conflict(ConflictKind.ALIAS_SALE, "a", 0, 4, "x", "y", "new", direction=UP, excess_w=12)
    assert all_conflicts(before, [candidate]) == [both]


def test_no_more_than_so_many_are_named_the_first_of_the_ledger() -> None:
    names = [f"c{k:02}" for k in range(MOST_NAMED + 5)]
    before = world(ev(up_headroom_w=0), *(sold(name, ("ev", 1)) for name in reversed(names)))
    (found,) = candidate_conflicts(before, sold("new", ("ev", 1)))
    assert found.commitment_ids == tuple(reversed(names))[:MOST_NAMED]


# --- decided at plug-in ----------------------------------------------------------------------------------------------


def test_at_plug_in_the_earlier_sale_stays() -> None:
    """The second and third clash with the first, but not with each other; the fourth is over before."""
    before = world(
        ev(), point(), sold("point", ("point", 5), start=2), sold("ev", ("ev", 5), start=2),
        sold("again", ("ev", 1), by="bob"), sold("over", ("ev", 5), end=1),
    )  # fmt: skip
    assert decided(before, plugged(1)) == ["ev", "again"]
    # Of those that clash with one that is suspended, the later stays.
    chain = world(
        ev(),
        point(up_headroom_w=5),
        sold("a", ("ev", 1), end=3),
        sold("b", ("point", 5), end=6),
        sold("c", ("ev", 1), start=4, end=6),
    )
    assert decided(chain, plugged(0)) == ["b"]


def test_forecasts_bind_at_plug_in_in_the_order_of_the_ledger() -> None:
    """The charge point bears 5 W: 3 W and 2 W of three forecasts; a vehicle elsewhere has nothing to do with it."""
    before = world(
        rule(PolicyKind.SESSION), ev(), ev("far"), point(up_headroom_w=5), sold("a", ("ev", 3)),
        sold("b", ("ev", 3), by="bob"), sold("c", ("point", 2)), sold("d", ("far", 9)),
    )  # fmt: skip
    assert decided(before, plugged(0)) == ["b"]
    # 2 W take 8 Wh of the 10 that can be spared, so the forecast of 3 W is too much, and the next fits no more either.
    assert decided(before, needing(90, departure=10, max_charge_w=10)) == ["a", "b"]


def test_what_stood_before_the_change_is_left_alone() -> None:
    """Too much is sold of the vehicle since an earlier, looser rule; plugging in adds nothing to that."""
    before = world(ev(up_headroom_w=1), point(), sold("a", ("ev", 5)), sold("b", ("ev", 5)))
    assert decided(before, plugged(0)) == []
    # A smaller headroom that comes with an alias makes it worse, for the first already.
    other = ev("twin", up_headroom_w=0, aliases=(VIN,))
    assert decided(before, LinkAliases("ev", (VIN,))) == []
    worse = replace(before, resources=(*before.resources, other))
    assert decided(worse, LinkAliases("ev", (VIN,))) == ["a", "b"]


def test_a_further_partner_is_a_new_conflict_between_two() -> None:
    """c meets a at the site since an earlier rule, and b only once the vehicle is there, with no more power."""
    before = world(
        rule(PolicyKind.SAME_AGGREGATOR), site(), point(parent_id="site"), ev(),
        sold("a", ("point", 5), direction=DOWN), sold("b", ("ev", 5), direction=DOWN), sold("c", ("site", 9)),
    )  # fmt: skip
    assert decided(before, plugged(0)) == ["c"]


def test_a_further_partner_in_a_lack_of_capacity_that_is_no_larger_changes_nothing() -> None:
    """b is too much at the site with 13 W until 2, and from then on counts there with 1 W, the lesser of c's group."""
    before = world(
        site(up_headroom_w=1), point(parent_id="site"), point("next", parent_id="site"), ev(), sold("a", ("next", 5)),
        sold("b", ("site", 9, 2), ("ev", 1), exclusive_group="g"), sold("c", ("site", 5), start=2, exclusive_group="g"),
    )  # fmt: skip
    assert decided(before, plugged(2)) == []


def test_aliases_that_join_two_things_are_decided_alike() -> None:
    before = world(
        ev("a", up_headroom_w=5, aliases=(VIN,)), ev("b"), sold("x", ("b", 4)), sold("y", ("a", 4)), sold("z", ("a", 1))
    )
    assert decided(before, LinkAliases("b", (VIN,))) == ["y"]


# --- worlds by chance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit_ms", [HOUR_MS, 1])
def test_worlds_by_chance_are_sound_and_break_every_rule_now_and_then(unit_ms: int) -> None:
    """Each kind in more than one of fifty worlds; candidates are admitted and refused, and changes suspend or not."""
    count = 1000 if SOAK else 120
    with_kind = dict.fromkeys(ConflictKind, 0)
    admitted = suspending = 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        drawn = random_world(rng, unit_ms)
        assert drawn.is_sound()
        for kind in {found.kind for found in all_conflicts(drawn)}:
            with_kind[kind] += 1
        candidate = random_commitment(rng, drawn, "new", unit_ms)
        told = candidate_conflicts(drawn, candidate)
        admitted += not told
        assert bool(told) == any("new" in found.commitment_ids for found in all_conflicts(drawn, [candidate]))
        change = random_change(rng, drawn, unit_ms)
        suspending += change is not None and bool(decided(drawn, change))
    assert min(with_kind.values()) > count / 50
    assert count / 5 < admitted < count * 4 / 5
    assert count / 10 < suspending < count * 9 / 10
