"""How far a commitment is: from a hold to its settlement, each step all or nothing, and no step out of turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from evflex.activation.v1 import commitment_pb2
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    ACTIVATED,
    AGG,
    CONFIRMED,
    DELIVERED,
    EXPIRED,
    HELD,
    HOUR_MS,
    MINUTE_MS,
    RELEASED,
    SECOND_MS,
    SETTLED,
    SUSPENDED,
    Party,
    RunningLedger,
    activate,
    after_start_ms,
    at,
    audit,
    called,
    complete,
    confirm,
    error_of,
    get,
    held,
    hold,
    kinds,
    new_id,
    plug_in,
    pool,
    reallocate,
    refusal_of,
    release,
    running_ledger,
    sale,
    settle,
    sold,
    state,
)
from tests.server.support import info_of, violations_of

State = commitment_pb2.CommitmentState


def test_commitment_goes_from_hold_to_settlement(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        asked = sale(energy_wh=9_000, co_delivery_group="g", end_ms=HOUR_MS)
        (first,) = held(here.agg, asked)
        name = first.commitment_id
        assert (first.state, first.aggregator_id, first.tenant_id, first.area_id) == (HELD, AGG, AGG, "north")
        assert after_start_ms(first.expire_time) == 5 * MINUTE_MS
        assert first.create_time == first.update_time == at(0)
        assert first.sequence == 6, "one line a resource, then this"
        assert (first.policy_kind, first.settlement_id) == (0, "")
        assert not first.HasField("delivered_energy_wh")
        for field in ("power_w", "energy_wh", "co_delivery_group", "start_time", "end_time", "resource_id"):
            assert getattr(first, field) == getattr(asked, field)
        etags = {first.etag}

        steps: list[tuple[Any, Callable[[], Any]]] = [
            (CONFIRMED, lambda: confirm(here.agg, name).commitments[0]),
            (ACTIVATED, lambda: activate(here.agg, name).commitments[0]),
            (DELIVERED, lambda: complete(here.agg, name, energy_wh=8_500)[0]),
            (SETTLED, lambda: settle(here.agg, name, settlement_id="invoice-7")[0]),
        ]
        for count, (wanted, step) in enumerate(steps):
            here.clock.set_ms((count + 1) * SECOND_MS)
            after = step()
            assert after.state == wanted
            assert after == get(here.agg, name)
            assert not after.HasField("expire_time")
            assert (after.create_time, after_start_ms(after.update_time)) == (at(0), (count + 1) * SECOND_MS)
            assert after.sequence == first.sequence
            etags.add(after.etag)
        assert len(etags) == 5
        assert (after.delivered_energy_wh, after.settlement_id) == (8_500, "invoice-7")


def _held(here: RunningLedger) -> str:
    return held(here.agg, sale())[0].commitment_id


def _confirmed(here: RunningLedger) -> str:
    return sold(here.agg, sale())[0].commitment_id


def _activated(here: RunningLedger) -> str:
    return called(here.agg, sale())[0].commitment_id


def _delivered(here: RunningLedger) -> str:
    return complete(here.agg, _activated(here))[0].commitment_id


def _settled(here: RunningLedger) -> str:
    return settle(here.agg, _delivered(here))[0].commitment_id


def _released(here: RunningLedger) -> str:
    return release(here.agg, _held(here))[0].commitment_id


def _expired(here: RunningLedger) -> str:
    (one,) = held(here.agg, sale(), hold_duration=Duration(seconds=1))
    here.clock.set_ms(SECOND_MS)
    return one.commitment_id


def _suspended(here: RunningLedger) -> str:
    held(here.rival, sale("cp", 1_000))
    name = _confirmed(here)
    plug_in(here.cpo, "ev", "cp")
    assert state(here.agg, name) == SUSPENDED
    return name


REACH: dict[Any, Callable[[RunningLedger], str]] = {
    HELD: _held, CONFIRMED: _confirmed, ACTIVATED: _activated, DELIVERED: _delivered, SETTLED: _settled,
    RELEASED: _released, EXPIRED: _expired, SUSPENDED: _suspended,
}  # fmt: skip
STEPS: dict[str, tuple[Callable[[Party, str], Any], set[Any]]] = {
    "confirm": (lambda party, name: confirm(party, name), {HELD, SUSPENDED}),
    "activate": (lambda party, name: activate(party, name), {CONFIRMED}),
    "complete": (lambda party, name: complete(party, name), {ACTIVATED}),
    "settle": (lambda party, name: settle(party, name), {DELIVERED}),
    "release": (lambda party, name: release(party, name), {HELD, SUSPENDED}),
    "reallocate": (lambda party, name: reallocate(party, name, {"ev-2": 10_000}), {HELD, CONFIRMED, ACTIVATED}),
}


@pytest.mark.parametrize("present", REACH, ids=State.Name)
def test_each_step_out_of_turn_is_refused_with_the_state(here: RunningLedger, present: Any) -> None:
    name = REACH[present](here)
    before = get(here.agg, name)
    for step, (call, allowed) in STEPS.items():
        if present in allowed:
            continue
        error = error_of(call, here.agg, name)
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, step
        reason = "HOLD_EXPIRED" if present == EXPIRED else "WRONG_STATE"
        assert refusal_of(call, here.agg, name)[1] == reason, step
        info = info_of(error)
        assert info["state"] == State.Name(present).removeprefix("COMMITMENT_STATE_"), step
        assert info["commitment_id"] == name
    assert get(here.agg, name).sequence == before.sequence
    assert get(here.agg, name).state == present


def test_what_is_released_is_free_again(here: RunningLedger) -> None:
    name = _held(here)
    assert kinds(hold(here.rival, sale())) == ["CAPACITY_EXCEEDED"]
    (gone,) = release(here.agg, name)
    assert (gone.state, gone.HasField("expire_time")) == (RELEASED, False)
    held(here.rival, sale())


def test_what_expires_is_free_again(here: RunningLedger) -> None:
    name = _expired(here)
    held(here.rival, sale())
    assert state(here.agg, name) == EXPIRED


def test_expiry_is_judged_by_the_clock_at_commit(tmp_path: Path) -> None:
    # the sweep looks at the clock every watch_poll_s only
    with running_ledger(tmp_path, watch_poll_s=3_600.0) as here:
        furnish(here)
        (last, gone) = held(here.agg, sale("ev"), sale("ev-2"), hold_duration=Duration(seconds=1))
        here.clock.set_ms(SECOND_MS - 1)
        assert confirm(here.agg, last.commitment_id).confirmed
        here.clock.set_ms(SECOND_MS)
        assert refusal_of(confirm, here.agg, gone.commitment_id) == ("FAILED_PRECONDITION", "HOLD_EXPIRED")
        assert state(here.agg, gone.commitment_id) == EXPIRED
        assert state(here.agg, last.commitment_id) == CONFIRMED


def test_commitment_that_is_over_is_completed_without_having_been_called(here: RunningLedger) -> None:
    name = _confirmed(here)
    here.clock.set_ms(HOUR_MS - 1)
    assert refusal_of(complete, here.agg, name) == ("FAILED_PRECONDITION", "WRONG_STATE")
    here.clock.set_ms(HOUR_MS)
    assert refusal_of(activate, here.agg, name) == ("FAILED_PRECONDITION", "COMMITMENT_OVER")
    (one,) = complete(here.agg, name, energy_wh=0)
    assert (one.state, one.delivered_energy_wh) == (DELIVERED, 0)


def test_what_is_left_of_the_time_of_a_delivery_is_free_again(here: RunningLedger) -> None:
    complete(here.agg, _activated(here))
    held(here.rival, sale())


def test_suspended_commitment_is_confirmed_again_once_nothing_stands_against_it(here: RunningLedger) -> None:
    (first,) = held(here.rival, sale("cp", 1_000))
    name = _confirmed(here)
    plug_in(here.cpo, "ev", "cp")
    assert kinds(confirm(here.agg, name)) == ["CROSS_SALE", "CASCADE"]
    assert state(here.agg, name) == SUSPENDED
    release(here.rival, first.commitment_id)
    assert confirm(here.agg, name).commitments[0].state == CONFIRMED
    assert kinds(hold(here.rival, sale("cp", 1_000))) == ["CROSS_SALE", "CASCADE"]


def test_suspended_commitment_is_released(here: RunningLedger) -> None:
    assert release(here.agg, _suspended(here))[0].state == RELEASED


def test_suspended_commitment_that_is_over_cannot_be_confirmed(here: RunningLedger) -> None:
    name = _suspended(here)
    here.clock.set_ms(HOUR_MS)
    assert refusal_of(confirm, here.agg, name) == ("FAILED_PRECONDITION", "COMMITMENT_OVER")


def test_two_suspended_commitments_are_confirmed_together_only_where_they_fit_together(here: RunningLedger) -> None:
    (first,) = held(here.rival, sale("cp", 1_000))
    a, b = (one.commitment_id for one in sold(here.agg, sale("ev", 6_000), sale("ev", 4_000)))
    plug_in(here.cpo, "ev", "cp")
    release(here.rival, first.commitment_id)
    held(here.rival, sale("ev", 5_000))
    assert kinds(confirm(here.agg, a, b)) == ["CAPACITY_EXCEEDED", "CASCADE"] * 2
    assert {state(here.agg, a), state(here.agg, b)} == {SUSPENDED}
    assert confirm(here.agg, b).confirmed


def test_one_bad_row_and_nothing_of_a_pool_is_held(here: RunningLedger) -> None:
    refused = hold(here.agg, pool({"ev": 10_000, "ev-2": 10_001}))
    assert kinds(refused) == ["CAPACITY_EXCEEDED"]
    conflict = refused.conflicts[0]
    assert (conflict.resource_id, conflict.excess_w, list(conflict.request_indices)) == ("ev-2", 1, [0])
    assert not conflict.commitment_ids
    held(here.rival, sale("ev"), sale("ev-2"))


def test_one_bad_commitment_and_none_of_the_request_is_held(here: RunningLedger) -> None:
    lines = len(audit(here.agg))
    refused = hold(here.agg, sale("ev"), sale("ev-2"), sale("ev", 1))
    assert kinds(refused) == ["CAPACITY_EXCEEDED"]
    assert list(refused.conflicts[0].request_indices) == [0, 2]
    assert not refused.commitments
    assert len(audit(here.agg)) == lines
    held(here.rival, sale("ev"), sale("ev-2"))


def test_pool_counts_at_each_resource(here: RunningLedger) -> None:
    (one,) = held(here.agg, pool({"cp": 5_000, "cp-2": 10_000}))
    assert [(r.resource_id, r.power_w, r.HasField("truncated_time")) for r in one.allocation] == [
        ("cp", 5_000, False), ("cp-2", 10_000, False),
    ]  # fmt: skip
    assert kinds(hold(here.rival, sale("cp-2", 1))) == ["CAPACITY_EXCEEDED", "CASCADE"]
    assert kinds(hold(here.rival, sale("cp", 1))) == ["CASCADE"]


@pytest.mark.parametrize(
    ("step", "good", "bad"),
    [
        ("confirm", HELD, CONFIRMED), ("activate", CONFIRMED, HELD), ("complete", ACTIVATED, HELD),
        ("settle", DELIVERED, HELD), ("release", HELD, CONFIRMED),
    ],
)  # fmt: skip
def test_list_is_done_as_a_whole_or_not_at_all(here: RunningLedger, step: str, good: Any, bad: Any) -> None:
    calls: dict[str, Callable[..., Any]] = {
        "confirm": confirm, "activate": activate, "complete": complete, "settle": settle, "release": release,
    }  # fmt: skip
    call = calls[step]
    names = []
    for wanted, resource_id in ((good, "ev"), (bad, "ev-2")):
        (one,) = held(here.agg, sale(resource_id))
        name = one.commitment_id
        for after, advance in ((CONFIRMED, confirm), (ACTIVATED, activate), (DELIVERED, complete)):
            if after <= wanted:
                advance(here.agg, name)
        names.append(name)
    before = [get(here.agg, name) for name in names]
    assert refusal_of(call, here.agg, *names) == ("FAILED_PRECONDITION", "WRONG_STATE")
    assert refusal_of(call, here.agg, names[0], new_id()) == ("NOT_FOUND", "NOT_FOUND")
    assert [get(here.agg, name) for name in names] == before
    error = error_of(call, here.agg, names[0], names[0])
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, "each once"
    call(here.agg, names[0])


def test_checking_only_says_what_would_happen_and_stores_nothing(here: RunningLedger) -> None:
    def checked(call: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
        lines = len(audit(here.agg))
        answer = call(here.agg, *arguments, validate_only=True, request_id="", **fields)
        assert len(audit(here.agg)) == lines
        return answer

    granted = checked(hold, sale())
    assert (granted.granted, len(granted.commitments)) == (True, 0)
    name = _held(here)
    assert kinds(checked(hold, sale())) == ["CAPACITY_EXCEEDED"]
    assert (checked(confirm, name).confirmed, state(here.agg, name)) == (True, HELD)
    assert checked(release, name) == []
    assert state(here.agg, name) == HELD
    confirm(here.agg, name)
    assert refusal_of(checked, confirm, name) == ("FAILED_PRECONDITION", "WRONG_STATE")
    assert (checked(activate, name).activated, state(here.agg, name)) == (True, CONFIRMED)
    activate(here.agg, name)
    assert checked(complete, name) == []
    assert state(here.agg, name) == ACTIVATED
    complete(here.agg, name)
    assert checked(settle, name) == []
    assert state(here.agg, name) == DELIVERED
    settle(here.agg, name)
    (one,) = held(here.agg, pool({"ev": 5_000, "ev-2": 5_000}))
    assert checked(reallocate, one.commitment_id, {"ev": 10_000}).reallocated
    assert get(here.agg, one.commitment_id) == one


def test_open_holds_are_limited(tmp_path: Path) -> None:
    with running_ledger(tmp_path, max_open_holds=3) as here:
        furnish(here)
        first = held(here.agg, *(sale("ev", 1) for _ in range(3)))
        assert refusal_of(hold, here.agg, sale("ev", 1)) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
        assert info_of(error_of(hold, here.agg, sale("ev", 1)))["limit"] == "max_open_holds"
        held(here.rival, sale("ev", 1), sale("ev", 1), sale("ev", 1))
        confirm(here.agg, first[0].commitment_id)
        held(here.agg, sale("ev", 1))
        release(here.agg, first[1].commitment_id)
        held(here.agg, sale("ev", 1), hold_duration=Duration(seconds=600))
        here.clock.set_ms(5 * MINUTE_MS)
        held(here.agg, sale("ev", 1), sale("ev", 1))
        assert refusal_of(hold, here.agg, sale("ev", 1)) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")


def test_hold_that_is_refused_takes_nothing_of_the_quota(tmp_path: Path) -> None:
    with running_ledger(tmp_path, max_open_holds=2) as here:
        furnish(here)
        for _ in range(3):
            hold(here.agg, sale("ev", 1), sale("ev"))
            hold(here.agg, sale("ev", 1), sale("ev", 1), validate_only=True)
        held(here.agg, sale("ev", 1), sale("ev", 1))


@pytest.mark.parametrize(
    ("duration", "is_good"),
    [
        (Duration(seconds=1), True), (Duration(seconds=3_600), True), (Duration(nanos=999_999_999), False),
        (Duration(seconds=3_600, nanos=1_000_000), False), (Duration(), False), (Duration(seconds=-300), False),
        (Duration(seconds=2, nanos=-1), False),
    ],
)  # fmt: skip
def test_hold_duration_is_limited(here: RunningLedger, duration: Duration, is_good: bool) -> None:
    if is_good:
        (one,) = held(here.agg, sale(), hold_duration=duration)
        assert after_start_ms(one.expire_time) == duration.seconds * SECOND_MS
    else:
        assert set(violations_of(error_of(hold, here.agg, sale(), hold_duration=duration))) == {"hold_duration"}
