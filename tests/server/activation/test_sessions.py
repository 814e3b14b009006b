"""Vehicles plugged in and unplugged: what that cuts, what it decides, and who is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.activation.v1 import activation_service_pb2 as api
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    ACTIVATED,
    AGG,
    CONFIRMED,
    DAY_MS,
    HELD,
    HOUR_MS,
    MINUTE_MS,
    RELEASED,
    RIVAL,
    SECOND_MS,
    SUSPENDED,
    Clock,
    Party,
    RunningLedger,
    after_start_ms,
    alias,
    at,
    audit,
    called,
    error_of,
    get,
    held,
    hold,
    kind_of,
    kinds,
    link,
    plug_in,
    pool,
    refusal_of,
    register,
    release,
    resource,
    running_ledger,
    sale,
    sold,
    state,
    unplug,
)
from tests.server.support import info_of, violations_of

Kind = api.ConflictEventKind
SNAPSHOT, COMPLETE, DECIDED, HEARTBEAT = Kind.values()[1:]
DAY_AGO_MS = -DAY_MS


def listed(party: Party, **fields: Any) -> list[str]:
    return [one.session_id for one in party.ListSessions(api.ListSessionsRequest(**fields)).sessions]


@contextmanager
def watching(here: RunningLedger, tenant_id: str, resume_token: str = "") -> Iterator[Iterator[Any]]:
    stream = here.party(tenant_id).stub.WatchConflicts(
        api.WatchConflictsRequest(resume_token=resume_token), metadata=(("evflex-tenant", tenant_id),), timeout=60.0
    )
    try:
        yield (message for message in stream if message.kind != HEARTBEAT)
    finally:
        stream.cancel()


def snapshot(events: Iterator[Any]) -> tuple[list[Any], str]:
    """What is there, and the token after it."""
    found: list[Any] = []
    for message in events:
        if message.kind == COMPLETE:
            return found, message.resume_token
        assert (message.kind, message.resume_token) == (SNAPSHOT, "")
        found.append(message.conflict)
    raise AssertionError("the stream ended")


def test_session_is_opened_closed_and_listed(tmp_path: Path, ledger_database_url: str) -> None:
    with running_ledger(tmp_path, ledger_database_url) as here:
        furnish(here)
        opened = plug_in(here.rival, "ev", "cp").session
        assert opened.session_id
        assert (opened.tenant_id, opened.area_id, opened.HasField("end_time")) == (RIVAL, "north", False)
        plug_in(here.cpo, "ev-2", "cp-2", "s-2", energy_wh=1, max_charge_w=10, departure_time=at(HOUR_MS))
        assert listed(here.rival) == [opened.session_id]
        assert listed(here.cpo) == ["s-2", opened.session_id], "its resources are in both"
        assert listed(here.stranger) == []
        assert listed(here.cpo, resource_id="cp-2") == ["s-2"]
        here.clock.set_ms(MINUTE_MS)
        closed = unplug(here.rival, opened.session_id, etag=opened.etag).session
        assert after_start_ms(closed.end_time) == MINUTE_MS
        assert closed.etag != opened.etag
        assert closed.sequence > opened.sequence
        assert listed(here.cpo, open=True) == ["s-2"]
        assert refusal_of(unplug, here.rival, opened.session_id) == ("FAILED_PRECONDITION", "SESSION_CLOSED")
        assert refusal_of(unplug, here.rival, "s-2") == ("PERMISSION_DENIED", "NOT_OWNER")
        assert refusal_of(unplug, here.rival, "s-3") == ("NOT_FOUND", "NOT_FOUND")
        assert refusal_of(unplug, here.cpo, "s-2", etag="other") == ("ABORTED", "ETAG_MISMATCH")


def test_session_needs_a_vehicle_and_a_charge_point(here: RunningLedger) -> None:
    for sides in (("cp", "ev"), ("ev", "site"), ("ev", "unknown"), ("unknown", "cp"), ("", "cp")):
        assert violations_of(error_of(plug_in, here.cpo, *sides)), sides


def test_session_that_overlaps_is_refused_and_the_other_is_named(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s-1")
    for sides in (("ev", "cp-2"), ("ev-2", "cp"), ("ev", "cp")):
        error = error_of(plug_in, here.rival, *sides)
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert info_of(error)["session_id"] == "s-1"
    link(here.cpo, "ev", alias("x"))
    link(here.cpo, "ev-2", alias("x"))
    assert info_of(error_of(plug_in, here.rival, "ev-2", "cp-2"))["session_id"] == "s-1", "by its other name"
    # also where it would end before the other began, since it is open
    assert refusal_of(plug_in, here.rival, "ev", "cp-2", start_ms=-1)[1] == "SESSION_OVERLAPS"


def test_checking_only_opens_and_closes_nothing(here: RunningLedger) -> None:
    held(here.agg, sale("ev", 1_000))
    held(here.rival, sale("cp", 1_000))
    assert not plug_in(here.cpo, "ev", "cp", "s", validate_only=True).HasField("session")
    assert [state(here.rival, name) for name in _names(here.rival)] == [HELD]
    assert listed(here.cpo) == []
    plug_in(here.cpo, "ev-2", "cp-2", "s")
    (one,) = sold(here.agg, sale("s", 1_000))
    here.clock.set_ms(MINUTE_MS)
    assert list(unplug(here.cpo, "s", validate_only=True).truncated_commitment_ids) == []
    assert get(here.agg, one.commitment_id) == one
    assert listed(here.cpo, open=True) == ["s"]
    assert kinds(hold(here.rival, sale("cp-2", 9_001))) == ["CAPACITY_EXCEEDED"]


def _names(party: Party) -> list[str]:
    return [one.commitment_id for one in party.ListCommitments(api.ListCommitmentsRequest()).commitments]


def test_time_of_plug_in_is_held_against_the_clock(tmp_path: Path) -> None:
    with running_ledger(tmp_path, max_clock_skew_s=60.0) as here:
        furnish(here)
        for start_ms in (60_001, DAY_AGO_MS - 1):
            assert set(violations_of(error_of(plug_in, here.cpo, "ev", "cp", start_ms=start_ms))) == {
                "session.start_time"
            }
        plug_in(here.cpo, "ev", "cp", "ahead", 60_000)
        plug_in(here.cpo, "ev-2", "cp-2", "late", DAY_AGO_MS)
        assert set(violations_of(error_of(unplug, here.cpo, "late", 60_001))) == {"end_time"}
        assert set(violations_of(error_of(unplug, here.cpo, "late", DAY_AGO_MS - 1))) == {"end_time"}
        # plugged in ahead of the clock, and unplugged before it comes there
        assert after_start_ms(unplug(here.cpo, "ahead").session.end_time) == 60_000
        assert after_start_ms(unplug(here.cpo, "late", 60_000).session.end_time) == 60_000


def test_identifier_of_a_session_is_never_given_again(tmp_path: Path, ledger_database_url: str) -> None:
    clock = Clock()
    with running_ledger(tmp_path, ledger_database_url, clock=clock) as here:
        furnish(here)
        plug_in(here.cpo, "ev", "cp", "s")
        assert refusal_of(plug_in, here.cpo, "ev-2", "cp-2", "s")[1] == "SESSION_EXISTS"
        clock.set_ms(MINUTE_MS)
        unplug(here.cpo, "s")
    clock.set_ms(3 * DAY_MS)
    # so old that it is no longer in memory
    with running_ledger(tmp_path, ledger_database_url, clock=clock) as here:
        for party in (here.cpo, here.rival):
            assert refusal_of(plug_in, party, "ev", "cp", "s", 3 * DAY_MS) == ("FAILED_PRECONDITION", "SESSION_EXISTS")
        assert refusal_of(register, here.cpo, resource("s"))[0] == "INVALID_ARGUMENT"
        assert refusal_of(plug_in, here.cpo, "ev", "cp", "site", 3 * DAY_MS)[1] == "SESSION_EXISTS"


def test_unplugging_cuts_what_was_sold_of_the_session(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s")
    (running,) = called(here.agg, sale("s", 1_000))
    (later,) = sold(here.agg, sale("s", 1_000, HOUR_MS, 2 * HOUR_MS))
    (other,) = sold(here.rival, sale("s", 1_000))
    (over,) = sold(here.rival, sale("s", 1_000, 0, MINUTE_MS))
    here.clock.set_ms(30 * MINUTE_MS)
    answer = unplug(here.cpo, "s")
    assert list(answer.truncated_commitment_ids) == [], "they are not the caller's"
    cut = get(here.agg, running.commitment_id)
    assert (cut.state, after_start_ms(cut.end_time), cut.power_w) == (ACTIVATED, 30 * MINUTE_MS, 1_000)
    assert cut.sequence == running.sequence
    assert state(here.agg, later.commitment_id) == RELEASED
    assert after_start_ms(get(here.rival, other.commitment_id).end_time) == 30 * MINUTE_MS
    assert get(here.rival, over.commitment_id) == over
    held(here.rival, sale("cp", 10_000, 30 * MINUTE_MS, 2 * HOUR_MS))


def test_unplugging_cuts_running_sales_of_the_vehicle_alone(here: RunningLedger) -> None:
    (running,) = sold(here.cpo, sale("ev", 1_000))
    (later,) = sold(here.cpo, sale("ev", 1_000, HOUR_MS, 2 * HOUR_MS))
    (of_point,) = sold(here.cpo, sale("cp-2", 1_000))
    plug_in(here.cpo, "ev", "cp", "s")
    here.clock.set_ms(MINUTE_MS)
    assert list(unplug(here.cpo, "s").truncated_commitment_ids) == [running.commitment_id]
    assert after_start_ms(get(here.cpo, running.commitment_id).end_time) == MINUTE_MS
    for same in (later, of_point):
        assert get(here.cpo, same.commitment_id) == same
    held(here.agg, sale("ev", 10_000, MINUTE_MS, HOUR_MS))


def test_unplugging_cuts_a_pool_row_by_row(here: RunningLedger) -> None:
    plug_in(here.cpo, "ev", "cp", "s")
    plug_in(here.cpo, "ev-2", "cp-2", "s-2")
    (one,) = sold(here.agg, pool({"s": 4_000, "s-2": 5_000}))
    (not_begun,) = held(here.agg, pool({"s": 1_000, "s-2": 1_000}, start_ms=HOUR_MS, end_ms=2 * HOUR_MS))
    here.clock.set_ms(MINUTE_MS)
    unplug(here.cpo, "s")
    cut = get(here.agg, one.commitment_id)
    assert cut.end_time == one.end_time
    assert after_start_ms(cut.allocation[0].truncated_time) == MINUTE_MS
    assert not cut.allocation[1].HasField("truncated_time")
    after = get(here.agg, not_begun.commitment_id)
    assert after.state == HELD
    assert after_start_ms(after.allocation[0].truncated_time) == HOUR_MS, "cut to nothing"
    here.clock.set_ms(2 * MINUTE_MS)
    unplug(here.cpo, "s-2")
    assert after_start_ms(get(here.agg, one.commitment_id).end_time) == 2 * MINUTE_MS
    gone = get(here.agg, not_begun.commitment_id)
    assert (gone.state, gone.HasField("expire_time")) == (RELEASED, False)


def test_cut_survives_a_restart(tmp_path: Path, ledger_database_url: str) -> None:
    clock = Clock()
    with running_ledger(tmp_path, ledger_database_url, clock=clock) as here:
        furnish(here)
        plug_in(here.cpo, "ev", "cp", "s")
        plug_in(here.cpo, "ev-2", "cp-2", "s-2")
        sold(here.agg, pool({"s": 4_000, "s-2": 5_000}))
        clock.set_ms(MINUTE_MS)
        unplug(here.cpo, "s")
    with running_ledger(tmp_path, ledger_database_url, clock=clock) as here:
        assert kinds(hold(here.rival, sale("cp-2", 5_001, MINUTE_MS, HOUR_MS))) == ["CAPACITY_EXCEEDED"]
        held(here.rival, sale("cp", 10_000, MINUTE_MS, HOUR_MS))


@pytest.mark.parametrize("first", ["ev", "cp"])
def test_plug_in_is_decided_by_sequence(here: RunningLedger, first: str) -> None:
    second = "cp" if first == "ev" else "ev"
    (kept,) = sold(here.rival, sale(first, 1_000))
    (lost,) = sold(here.agg, sale(second, 1_000))
    answer = plug_in(here.cpo, "ev", "cp", "s")
    assert list(answer.suspended_commitment_ids) == []
    assert state(here.rival, kept.commitment_id) == CONFIRMED
    after = get(here.agg, lost.commitment_id)
    assert (after.state, after.sequence) == (SUSPENDED, lost.sequence)
    for tenant_id, names in ((RIVAL, (RIVAL, "")), (AGG, ("", AGG))):
        with watching(here, tenant_id) as events:
            (told,), _ = snapshot(events)
        assert (told.kept_commitment_id, told.suspended_commitment_id) == (kept.commitment_id, lost.commitment_id)
        assert (told.kept_aggregator_id, told.suspended_aggregator_id) == names
        assert (told.session_id, kind_of(told.conflict)) == ("s", "CROSS_SALE")
        assert list(told.conflict.commitment_ids) == [kept.commitment_id, lost.commitment_id]
    with watching(here, "stranger") as events:
        assert snapshot(events)[0] == []
    with watching(here, "cpo") as events:
        assert snapshot(events)[0] == []


def test_hold_that_is_suspended_no_longer_expires(here: RunningLedger) -> None:
    sold(here.rival, sale("cp", 1_000))
    (lost,) = held(here.agg, sale("ev", 1_000))
    plug_in(here.cpo, "ev", "cp", "s")
    after = get(here.agg, lost.commitment_id)
    assert (after.state, after.HasField("expire_time")) == (SUSPENDED, False)
    here.clock.set_ms(10 * MINUTE_MS)
    held(here.agg, sale("ev-2", 1))
    assert state(here.agg, lost.commitment_id) == SUSPENDED


def test_conflicts_are_told_as_they_are_decided_and_after_a_restart(tmp_path: Path, ledger_database_url: str) -> None:
    clock = Clock()
    with running_ledger(tmp_path, ledger_database_url, clock=clock) as here:
        furnish(here)
        sold(here.rival, sale("ev", 1_000), sale("ev-2", 1_000))
        first, second = sold(here.agg, sale("cp", 1_000), sale("cp-2", 1_000))
        with watching(here, AGG) as events:
            known, start = snapshot(events)
            assert known == []
            plug_in(here.cpo, "ev", "cp", "s-1")
            told = next(events)
            assert (told.kind, told.conflict.suspended_commitment_id) == (DECIDED, first.commitment_id)
            plug_in(here.cpo, "ev-2", "cp-2", "s-2")
            again = next(events)
            assert again.conflict.suspended_commitment_id == second.commitment_id
    with running_ledger(tmp_path, ledger_database_url, clock=clock) as here:
        with watching(here, AGG, start) as events:
            for seen in (told, again):
                event = next(events)
                assert (event.kind, event.conflict, event.resume_token) == (DECIDED, seen.conflict, seen.resume_token)
        with watching(here, AGG, told.resume_token) as events:
            assert next(events).conflict == again.conflict
        release(here.agg, first.commitment_id)
        with watching(here, AGG) as events:
            assert [c.suspended_commitment_id for c in snapshot(events)[0]] == [second.commitment_id]


def test_watch_says_when_nothing_happens(tmp_path: Path) -> None:
    with running_ledger(tmp_path, watch_heartbeat_s=0.05) as here:
        stream = here.agg.stub.WatchConflicts(
            api.WatchConflictsRequest(), metadata=(("evflex-tenant", AGG),), timeout=60.0
        )
        assert [next(stream).kind for _ in range(3)] == [COMPLETE, HEARTBEAT, HEARTBEAT]
        stream.cancel()


def test_token_must_be_of_this_ledger(here: RunningLedger) -> None:
    for token in ("nonsense", "AAAA"):
        error = error_of(
            lambda token=token: list(here.agg.WatchConflicts(api.WatchConflictsRequest(resume_token=token)))
        )
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_log_shows_nobody_what_another_has_sold(here: RunningLedger) -> None:
    (kept,) = sold(here.rival, sale("cp", 1_000, product_id="secret-product"))
    (lost,) = sold(here.agg, sale("ev", 1_000, product_id="secret-product"))
    plug_in(here.cpo, "ev", "cp", "s")
    here.clock.set_ms(SECOND_MS)
    unplug(here.cpo, "s")
    lines = audit(here.cpo)
    assert [record.sequence for record in lines] == list(range(1, len(lines) + 1))
    told = b"".join(record.event for record in lines)
    assert b"ev-2" in told
    for secret in (b"secret-product", kept.commitment_id.encode(), lost.commitment_id.encode(), b"agg", b"rival"):
        assert secret not in told
    for party, other in ((here.agg, b"rival"), (here.rival, b"agg")):
        told = b"".join(record.event for record in audit(party))
        assert b"secret-product" in told
        assert other not in told
