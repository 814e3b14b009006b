"""Ways to sell the same flexibility twice, or to stand in the way of others, and that none of them works."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.duration_pb2 import Duration

from evflex.activation.v1 import policy_pb2
from tests.server.activation.support import (
    AGG,
    CONFIRMED,
    DOWN,
    HOUR_MS,
    MINUTE_MS,
    NO_CASCADE,
    ONE_SIDE,
    RIVAL,
    SECOND_MS,
    SITE,
    SUSPENDED,
    UP,
    RunningLedger,
    alias,
    audit,
    confirm,
    error_of,
    get,
    held,
    hold,
    hold_request,
    kinds,
    link,
    plug_in,
    pool,
    refusal_of,
    register,
    release,
    resource,
    row,
    sale,
    set_policy,
    sold,
    state,
    time_of,
    unlink,
    unplug,
)
from tests.server.support import violations_of

COPENHAGEN = ZoneInfo("Europe/Copenhagen")


def test_replay_of_a_key_with_another_payload(here: RunningLedger) -> None:
    request = hold_request(sale("ev", 1_000))
    here.agg.HoldCommitments(request)
    request.commitments[0].power_w = 9_000
    assert refusal_of(here.agg.HoldCommitments, request) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    held(here.rival, sale("ev", 9_000))


def test_confirm_after_expiry_when_another_has_it(here: RunningLedger) -> None:
    (one,) = held(here.agg, sale(), hold_duration=Duration(seconds=1))
    here.clock.set_ms(SECOND_MS)
    sold(here.rival, sale())
    assert refusal_of(confirm, here.agg, one.commitment_id) == ("FAILED_PRECONDITION", "HOLD_EXPIRED")


def test_output_fields_that_choose_a_policy_or_an_earlier_end(here: RunningLedger) -> None:
    set_policy(here.cpo, ONE_SIDE, sold_side="RESOURCE_KIND_EV")
    forged: dict[str, Any] = {"commitment_id": "mine", "sequence": 1, "state": CONFIRMED}
    chosen = policy_pb2.ACTIVATION_POLICY_KIND_SAME_AGGREGATOR
    assert kinds(hold(here.agg, sale("cp", 1, policy_kind=chosen, **forged))) == ["POLICY"]
    held(here.agg, sale("ev", 1, policy_kind=99, **forged))
    cut = row("ev", 9_999)
    cut.policy_kind = chosen
    cut.truncated_time.CopyFrom(time_of(0))
    (one,) = held(here.agg, sale("", 9_999, allocation=[cut], **forged))
    assert one.commitment_id != "mine"
    assert (one.sequence > 1, one.allocation[0].HasField("truncated_time")) == (True, False)
    assert kinds(hold(here.rival, sale("ev", 1))) == ["CAPACITY_EXCEEDED"]


def test_sale_under_an_alias(here: RunningLedger) -> None:
    register(here.rival, resource("same-car", aliases=[alias("WVW1")]))
    link(here.cpo, "ev", alias("WVW1"))
    held(here.agg, sale("ev"))
    assert kinds(hold(here.rival, sale("same-car", 1))) == ["ALIAS_SALE"]
    assert kinds(hold(here.rival, sale("same-car", 1, direction=DOWN))) == ["COUNTER_ACTIVATION"]


def test_sale_of_a_site_and_of_what_is_behind_it(here: RunningLedger) -> None:
    held(here.agg, sale("cp", 9_000), sale("cp-2", 6_000))
    assert kinds(hold(here.rival, sale("site", 1))) == ["CASCADE"]
    held(here.rival, sale("site", 15_000, HOUR_MS, 2 * HOUR_MS))
    assert kinds(hold(here.agg, sale("cp", 1, HOUR_MS, 2 * HOUR_MS))) == ["CASCADE"]


def test_sale_of_a_site_and_of_what_is_behind_it_where_that_is_forbidden(here: RunningLedger) -> None:
    set_policy(here.cpo, NO_CASCADE, "north")
    held(here.agg, sale("cp", 1))
    assert kinds(hold(here.agg, sale("site", 1))) == ["CASCADE"]
    held(here.agg, sale("site", 1, HOUR_MS, 2 * HOUR_MS))
    assert kinds(hold(here.agg, sale("cp", 1, HOUR_MS, 2 * HOUR_MS))) == ["CASCADE"]
    assert kinds(hold(here.agg, pool({"cp": 1, "site": 1}, start_ms=3 * HOUR_MS, end_ms=4 * HOUR_MS))) == ["CASCADE"]


@pytest.mark.parametrize(("first", "second"), [("ev", "cp"), ("cp", "ev")])
def test_sale_of_a_vehicle_and_its_charge_point(here: RunningLedger, first: str, second: str) -> None:
    # sold before plug-in, both stand until they meet
    (kept,) = sold(here.agg, sale(first, 1_000))
    (lost,) = sold(here.rival, sale(second, 1_000))
    plug_in(here.cpo, "ev", "cp", "s")
    assert (state(here.agg, kept.commitment_id), state(here.rival, lost.commitment_id)) == (CONFIRMED, SUSPENDED)
    # and after plug-in the second is refused, by the same aggregator too
    for party in (here.agg, here.rival):
        assert kinds(hold(party, sale(second, 1_000))) == ["CROSS_SALE"]
    assert "CROSS_SALE" in kinds(hold(here.agg, pool({"ev": 1, "cp": 1}, start_ms=HOUR_MS, end_ms=2 * HOUR_MS)))


@pytest.mark.parametrize("gap_ms", [0, 1])
def test_session_spliced_to_slip_a_sale_in_between(here: RunningLedger, gap_ms: int) -> None:
    plug_in(here.cpo, "ev", "cp", "s-1")
    (first,) = sold(here.agg, sale("cp", 1_000))
    here.clock.set_ms(10 * MINUTE_MS)
    unplug(here.cpo, "s-1")
    answer = hold(here.rival, sale("ev", 1_000, 10 * MINUTE_MS, HOUR_MS))
    assert answer.granted, "the vehicle is nowhere"
    plug_in(here.cpo, "ev", "cp", "s-2", 10 * MINUTE_MS + gap_ms)
    assert state(here.agg, first.commitment_id) == CONFIRMED, "it was first"
    assert state(here.rival, answer.commitments[0].commitment_id) == SUSPENDED
    # what fits into the gap meets nothing
    in_gap = hold(here.rival, sale("ev", 1_000, 10 * MINUTE_MS, 10 * MINUTE_MS + 1))
    assert in_gap.granted == bool(gap_ms)


def test_sessions_that_overlap_or_lie_ahead_of_the_clock(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s-1")
    assert refusal_of(plug_in, here.rival, "ev", "cp-2")[1] == "SESSION_OVERLAPS"
    here.clock.set_ms(MINUTE_MS)
    unplug(here.cpo, "s-1", MINUTE_MS)
    assert refusal_of(plug_in, here.rival, "ev", "cp-2", start_ms=MINUTE_MS - 1)[1] == "SESSION_OVERLAPS"
    ahead = error_of(plug_in, here.rival, "ev", "cp-2", start_ms=2 * MINUTE_MS + 1)
    assert set(violations_of(ahead)) == {"session.start_time"}
    plug_in(here.rival, "ev", "cp-2", start_ms=MINUTE_MS)


def at_hour(local: datetime, power_w: int = 10_000) -> Any:
    """An hour of a local day, which the client sends in UTC."""
    made = sale("ev", power_w)
    start_ms = round(local.astimezone(UTC).timestamp() * 1_000)
    made.start_time.CopyFrom(time_of(start_ms))
    made.end_time.CopyFrom(time_of(start_ms + HOUR_MS))
    return made


def test_hour_that_autumn_has_twice(here: RunningLedger) -> None:
    first = datetime(2025, 10, 26, 2, tzinfo=COPENHAGEN)
    second = first.replace(fold=1)
    held(here.agg, at_hour(first))
    held(here.agg, at_hour(second))
    for again in (first, second):
        assert kinds(hold(here.rival, at_hour(again, 1))) == ["CAPACITY_EXCEEDED"]
    held(here.rival, at_hour(datetime(2025, 10, 26, 3, tzinfo=COPENHAGEN)))


def test_hour_that_spring_has_not(here: RunningLedger) -> None:
    before = datetime(2025, 3, 30, 1, tzinfo=COPENHAGEN)
    after = datetime(2025, 3, 30, 3, tzinfo=COPENHAGEN)
    assert after.astimezone(UTC) - before.astimezone(UTC) == timedelta(hours=1)
    held(here.agg, at_hour(before), at_hour(after))
    # 2 o'clock is not: who sends it all the same means 3 o'clock
    missing = datetime(2025, 3, 30, 2, tzinfo=COPENHAGEN)
    assert kinds(hold(here.rival, at_hour(missing, 1))) == ["CAPACITY_EXCEEDED"]


def test_up_and_down_traded_with_oneself(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s")
    held(here.agg, sale("s", 1_000))
    for name in ("s", "cp", "site", "ev"):
        assert "COUNTER_ACTIVATION" in kinds(hold(here.agg, sale(name, 1_000, direction=DOWN))), name
    # declared by one side only, or by two aggregators
    assert "COUNTER_ACTIVATION" in kinds(hold(here.agg, sale("s", 1, direction=DOWN, counter_activation_declared=True)))
    later = {"start_ms": HOUR_MS, "end_ms": 2 * HOUR_MS, "counter_activation_declared": True}
    held(here.agg, sale("s", 1_000, **later))
    assert "COUNTER_ACTIVATION" in kinds(hold(here.rival, sale("site", 1, direction=DOWN, **later)))
    held(here.agg, sale("site", 1, direction=DOWN, **later))


def _group(field: str) -> dict[str, Any]:
    return {field: "g"}


@pytest.mark.parametrize("group", ["exclusive_group", "co_delivery_group"])
def test_name_of_anothers_group(here: RunningLedger, group: str) -> None:
    held(here.agg, sale("ev", 6_000, **_group(group)))
    assert kinds(hold(here.rival, sale("ev", 6_000, **_group(group)))) == ["CAPACITY_EXCEEDED"]
    other = "co_delivery_group" if group == "exclusive_group" else "exclusive_group"
    assert kinds(hold(here.agg, sale("ev", 6_000, **_group(other)))) == ["CAPACITY_EXCEEDED"]
    held(here.agg, sale("ev", 6_000, **_group(group)))


def test_both_groups_at_once(here: RunningLedger) -> None:
    both = sale("ev", 1, exclusive_group="g", co_delivery_group="g")
    assert set(violations_of(error_of(hold, here.agg, both))) == {"commitments[0].co_delivery_group"}


def test_sale_in_the_name_of_another(here: RunningLedger) -> None:
    forged = sale("ev", 1, aggregator_id=RIVAL, tenant_id=RIVAL)
    assert refusal_of(hold, here.agg, forged) == ("PERMISSION_DENIED", "NOT_THE_AGGREGATOR")
    (one,) = held(here.agg, sale("ev", 1, tenant_id=RIVAL))
    assert (one.aggregator_id, one.tenant_id) == (AGG, AGG)


def test_squatting_ends_by_itself(here: RunningLedger) -> None:
    held(here.agg, sale(), hold_duration=Duration(seconds=3_600))
    assert kinds(hold(here.rival, sale("ev", 1))) == ["CAPACITY_EXCEEDED"]
    here.clock.set_ms(HOUR_MS)
    held(here.rival, sale("ev", 10_000, HOUR_MS, 2 * HOUR_MS), sale("ev", 10_000, 2 * HOUR_MS, 3 * HOUR_MS))


def test_one_watt_too_many(here: RunningLedger) -> None:
    held(here.agg, sale("ev", 3_333), sale("ev", 3_333), sale("ev", 3_333))
    refused = hold(here.rival, sale("ev", 2))
    assert (kinds(refused), refused.conflicts[0].excess_w) == (["CAPACITY_EXCEEDED"], 1)
    held(here.rival, sale("ev", 1))


def test_intervals_that_touch_and_that_overlap_by_a_millisecond(here: RunningLedger) -> None:
    held(here.agg, sale("ev", 10_000, HOUR_MS, 2 * HOUR_MS))
    for start_ms, end_ms in ((0, HOUR_MS + 1), (2 * HOUR_MS - 1, 3 * HOUR_MS)):
        refused = hold(here.rival, sale("ev", 1, start_ms, end_ms))
        assert kinds(refused) == ["CAPACITY_EXCEEDED"]
        conflict = refused.conflicts[0]
        assert conflict.end_time.ToMilliseconds() - conflict.start_time.ToMilliseconds() == 1
    held(here.rival, sale("ev", 10_000, 0, HOUR_MS), sale("ev", 10_000, 2 * HOUR_MS, 3 * HOUR_MS))


@pytest.mark.parametrize("power_w", [0, -1, -(1 << 63), 10**9 + 1, (1 << 63) - 1])
def test_powers_that_are_none(here: RunningLedger, power_w: int) -> None:
    assert "commitments[0].power_w" in violations_of(error_of(hold, here.agg, sale("ev", power_w)))
    mixed = sale("", 1, allocation=[row("ev", power_w), row("ev-2", 1)])
    assert "commitments[0].allocation[0].power_w" in violations_of(error_of(hold, here.agg, mixed))
    wanted = sale("ev", 1, energy_wh=power_w)
    assert set(violations_of(error_of(hold, here.agg, wanted))) == {"commitments[0].energy_wh"}


def test_times_that_are_none(here: RunningLedger) -> None:
    def faults(**fields: Any) -> set[str]:
        return set(violations_of(error_of(hold, here.agg, sale("ev", 1, **fields))))

    end, start = {"commitments[0].end_time"}, {"commitments[0].start_time"}
    assert faults(end_ms=0) == faults(start_ms=1, end_ms=0) == faults(end_ms=366 * 24 * HOUR_MS + 1) == end
    assert faults(start_ms=-2, end_ms=-1) == end, "over"
    odd = sale("ev", 1)
    odd.start_time.nanos = 999_999
    assert set(violations_of(error_of(hold, here.agg, odd))) == start
    for seconds, nanos in ((1 << 62, 0), (-(1 << 62), 0), (0, -1), (0, 1 << 30)):
        odd.start_time.seconds, odd.start_time.nanos = seconds, nanos
        assert start <= set(violations_of(error_of(hold, here.agg, odd)))
    held(here.agg, sale("ev", 1, start_ms=-HOUR_MS, end_ms=1))
    held(here.agg, sale("ev", 1, end_ms=366 * 24 * HOUR_MS))


def test_commitment_of_another_among_ones_own(here: RunningLedger) -> None:
    (own,), (other,) = held(here.agg, sale("ev", 1)), held(here.rival, sale("ev", 1))
    for call in (confirm, release):
        assert refusal_of(call, here.agg, own.commitment_id, other.commitment_id) == ("NOT_FOUND", "NOT_FOUND")
    assert get(here.agg, own.commitment_id) == own
    assert get(here.rival, other.commitment_id) == other


def test_alias_taken_away_to_sell_again(here: RunningLedger) -> None:
    register(here.cpo, resource("same-car", aliases=[alias("x")]))
    link(here.cpo, "ev", alias("x"))
    (first,) = sold(here.agg, sale("ev"))
    before = len(audit(here.cpo))
    unlink(here.cpo, "ev", alias("x"))
    (second,) = sold(here.rival, sale("same-car"))
    assert len(audit(here.cpo)) > before, "it is written down who did it"
    # and as soon as they are one again, the later one yields
    link(here.cpo, "ev", alias("x"))
    assert (state(here.agg, first.commitment_id), state(here.rival, second.commitment_id)) == (CONFIRMED, SUSPENDED)
    assert kinds(confirm(here.rival, second.commitment_id)) == ["ALIAS_SALE"]


def test_session_called_as_a_resource_is(here: RunningLedger) -> None:
    assert refusal_of(plug_in, here.cpo, "ev", "cp", "site") == ("FAILED_PRECONDITION", "SESSION_EXISTS")
    plug_in(here.cpo, "ev", "cp", "s")
    error = error_of(register, here.rival, resource("other"), resource("s"))
    assert set(violations_of(error)) == {"resources[1].resource_id"}


def test_mass_control(here: RunningLedger) -> None:
    register(here.cpo, *(resource(f"far-{i}", SITE, up_w=None, area_id="south") for i in range(2)))
    set_policy(here.cpo, area_id="south", aggregator_cap_w=1_000_000)
    held(here.agg, sale("far-0", 600_000), sale("far-1", 400_000))
    refused = hold(here.agg, sale("far-1", 1))
    assert (kinds(refused), refused.conflicts[0].area_id) == (["AGGREGATOR_CAP"], "south")
    # of each area, aggregator, direction and time its own
    held(here.agg, sale("ev", 1))
    held(here.rival, sale("far-1", 1_000_000))
    declared = {"direction": DOWN, "counter_activation_declared": True}
    register(here.cpo, resource("far-2", SITE, up_w=None, area_id="south"))
    held(here.agg, sale("far-2", 1_000_000, **declared))
    assert kinds(hold(here.agg, sale("far-2", 1, **declared))) == ["AGGREGATOR_CAP"]
    held(here.agg, sale("far-1", 1_000_000, HOUR_MS, 2 * HOUR_MS, UP))


def test_lists_that_are_too_long(here: RunningLedger) -> None:
    assert set(violations_of(error_of(hold, here.agg, *[sale("ev", 1)] * 1_001))) == {"commitments"}
    assert set(violations_of(error_of(hold, here.agg))) == {"commitments"}
    names = [f"c-{i}" for i in range(1_001)]
    for call in (confirm, release):
        assert set(violations_of(error_of(call, here.agg, *names))) == {"commitment_ids"}
    many = sale("", 10_001, allocation=[row(f"r{i}", 1) for i in range(10_001)])
    assert "commitments[0].allocation" in violations_of(error_of(hold, here.agg, many))
    assert len(held(here.agg, *[sale("ev", 1)] * 1_000)) == 1_000


def test_thousand_commitments_that_all_meet_each_other(here: RunningLedger) -> None:
    both = [sale("ev", 1, direction=UP if i % 2 else DOWN) for i in range(1_000)]
    refused = hold(here.agg, *both)
    assert kinds(refused) == ["COUNTER_ACTIVATION"] * 100
    held(here.agg, sale("ev"))
