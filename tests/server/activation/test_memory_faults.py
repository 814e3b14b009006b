"""A keeper at its edges: what fails is taken back and told, and leaves alone what waits together with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.server.activation.sessions import Sessions
from evflex.server.caller import Caller
from evflex.server.errors import ServiceError, busy
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_turn import LedgerTurn
from tests.server.activation.ledger_bench import AGGREGATOR, START_MS, Bench, BrokenError, breaking_after, check_memory
from tests.server.activation.live_support import (
    EXPIRED,
    HELD,
    HOUR_MS,
    POINT,
    RELEASED,
    close_session,
    confirm,
    hold,
    new_request_id,
    open_session,
    register,
    release,
    resource,
    sale,
)
from tests.server.support import until


def _a_held_kilowatt(bench: Bench) -> str:
    bench.register.register(register(resource("ev", up_w=1_000), resource("cp", POINT, up_w=1_000)), AGGREGATOR)
    answer = bench.selling.hold(hold(_kilowatt(), seconds=300.0), AGGREGATOR)
    assert answer.granted
    return answer.commitments[0].commitment_id


def _kilowatt(name: str = "ev", hour: int = 1) -> Any:
    return sale(name, START_MS + hour * HOUR_MS, START_MS + (hour + 1) * HOUR_MS)


def fail_at(monkeypatch: pytest.MonkeyPatch, where: str, error: Exception) -> None:
    """Let the store fail: before it adds to the log, before it remembers requests, or before or after it commits."""
    if where in ("append", "log_requests"):

        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr(LedgerTurn, where, fail)
        return
    turn = LedgerStore.turn

    @contextmanager
    def broken(self: LedgerStore) -> Iterator[LedgerTurn]:
        with turn(self) as stored:
            yield stored
            if where == "commit":
                raise error
        raise error

    monkeypatch.setattr(LedgerStore, "turn", broken)


UNAVAILABLE = busy("STORAGE_UNAVAILABLE", "the database cannot be used", 1.0)
FAULTS = [("append", UNAVAILABLE), ("log_requests", UNAVAILABLE), ("commit", UNAVAILABLE), ("commit", BrokenError())]


@pytest.mark.parametrize(("where", "error"), FAULTS)
def test_what_fails_to_be_stored_is_taken_back_and_told(
    any_bench: Bench, where: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = any_bench
    name = _a_held_kilowatt(bench)
    requests: list[Any] = [confirm(name), hold(_kilowatt("cp")), open_session("s", "ev", "cp", START_MS)]
    calls: list[Callable[..., Any]] = [bench.selling.confirm, bench.selling.hold, bench.sessions.open]
    with monkeypatch.context() as patch:
        fail_at(patch, where, error)
        works: list[Callable[[], Any]] = [
            partial(call, request, AGGREGATOR) for call, request in zip(calls, requests, strict=True)
        ]
        answers = bench.together(works)
    expected = "INTERNAL" if isinstance(error, BrokenError) else "STORAGE_UNAVAILABLE"
    assert [answer.reason for answer in answers] == [expected] * 3
    check_memory(bench)
    stored = bench.store.commitment(name)
    assert stored is not None
    assert stored.state == HELD
    assert bench.store.session("s") is None
    # the same requests go through once the store works again
    assert bench.selling.confirm(requests[0], AGGREGATOR).confirmed
    assert bench.selling.hold(requests[1], AGGREGATOR).granted
    check_memory(bench)


@pytest.mark.parametrize("error", [UNAVAILABLE, BrokenError()])
def test_commit_that_came_through_though_it_failed_is_found(
    any_bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = any_bench
    name = _a_held_kilowatt(bench)
    request = confirm(name)
    with monkeypatch.context() as patch:
        fail_at(patch, "after commit", error)
        with pytest.raises(ServiceError):
            bench.selling.confirm(request, AGGREGATOR)
    answer = bench.selling.confirm(request, AGGREGATOR)
    assert answer.confirmed
    assert answer.commitments[0] == bench.store.commitment(name)
    check_memory(bench)
    # nothing was written twice: resources, hold and confirmation
    assert bench.store.head() == 4


def test_refusal_by_what_was_never_stored_is_not_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name = _a_held_kilowatt(bench)
    with monkeypatch.context() as patch:
        fail_at(patch, "commit", UNAVAILABLE)
        works = [lambda: bench.selling.release(release(name), AGGREGATOR)] * 4
        answers = bench.together(works)
    # one would have released it; that it is released already must not be said to the others
    assert [answer.reason for answer in answers] == ["STORAGE_UNAVAILABLE"] * 4
    check_memory(bench)


def test_request_that_breaks_in_the_middle_leaves_the_others_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _a_held_kilowatt(bench)
    bench.selling.confirm(confirm(name), AGGREGATOR)
    bench.selling.hold(hold(sale({"cp": 500}, START_MS + HOUR_MS, START_MS + 2 * HOUR_MS)), AGGREGATOR)
    open_now = bench.keeper.look(lambda world: world.ledger.open_session)
    ledger = bench.keeper.look(lambda world: world.ledger)

    def break_half_way(session: Any) -> Any:
        open_now(session)
        raise BrokenError

    monkeypatch.setattr(ledger, "open_session", break_half_way)
    answers = bench.together(
        [
            lambda: _reason(lambda: bench.sessions.open(open_session("s", "ev", "cp", START_MS), AGGREGATOR)),
            lambda: bench.selling.hold(hold(_kilowatt(hour=3)), AGGREGATOR).granted,
            lambda: bench.selling.hold(hold(_kilowatt(hour=4)), AGGREGATOR).granted,
        ]
    )
    assert answers == ["INTERNAL", True, True]
    check_memory(bench)


def _reason(work: Callable[[], Any]) -> str:
    try:
        work()
    except ServiceError as error:
        return error.reason
    return ""


def test_conflicts_decided_are_taken_back_with_the_session(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _a_held_kilowatt(bench)
    assert bench.selling.hold(hold(_kilowatt("cp"), seconds=300.0), Caller("other")).granted
    for changes in (1, 2, 3):  # the session, what is suspended, and the conflict
        with breaking_after(monkeypatch, changes, BrokenError()), pytest.raises(ServiceError):
            bench.sessions.open(open_session("s", "ev", "cp", START_MS), AGGREGATOR)
        check_memory(bench)
    only = bench.sessions.open(open_session("s", "ev", "cp", START_MS, validate_only=True), Caller("other"))
    assert len(only.suspended_commitment_ids) == 1
    check_memory(bench)
    assert bench.sessions.open(open_session("s", "ev", "cp", START_MS), Caller("other")).suspended_commitment_ids
    check_memory(bench)


def test_repeats_that_wait_together_get_one_answer(bench: Bench) -> None:
    name = _a_held_kilowatt(bench)
    request = confirm(name)
    answers = bench.together([lambda: bench.selling.confirm(request, AGGREGATOR)] * 6)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].confirmed
    check_memory(bench)


def test_expiry_that_cannot_be_stored_comes_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    name = _a_held_kilowatt(bench)
    bench.now_us += 301_000_000
    with monkeypatch.context() as patch:
        fail_at(patch, "append", UNAVAILABLE)
        with pytest.raises(ServiceError):
            bench.selling.confirm(confirm(name), AGGREGATOR)
        # nor is it tried again and again meanwhile
        assert bench.keeper._patience_s() == bench.settings.watch_poll_s
    assert _reason(lambda: bench.selling.confirm(confirm(name), AGGREGATOR)) == "HOLD_EXPIRED"
    # an answer that refuses leaves no line, but the expiry does
    until(lambda: bench.store.commitment(name).state == EXPIRED)  # type: ignore[union-attr]
    check_memory(bench)
    assert bench.selling.hold(hold(_kilowatt()), AGGREGATOR).granted


def test_session_that_ends_when_it_begins_counts_for_nothing(bench: Bench) -> None:
    bench.register.register(register(resource("ev"), resource("cp", POINT, up_w=1_000)), AGGREGATOR)
    bench.sessions.open(open_session("s", "ev", "cp", START_MS), AGGREGATOR)
    bench.sessions.close(close_session("s"), AGGREGATOR)
    for _ in range(3):
        answer = bench.selling.hold(hold(sale("ev", START_MS - HOUR_MS, START_MS + HOUR_MS)), AGGREGATOR)
        assert answer.granted
        check_memory(bench)
    assert bench.keeper.look(lambda world: "cp" not in world.ledger._books)


def test_unlinking_that_only_checks_moves_nothing(bench: Bench) -> None:
    bench.register.register(register(*[resource(f"ev{i}", up_w=1_000, aliases=["x"]) for i in range(2)]), AGGREGATOR)
    assert bench.selling.hold(hold(_kilowatt("ev1")), AGGREGATOR).granted
    request = api.UnlinkAliasesRequest(request_id=new_request_id(), resource_id="ev0", validate_only=True)
    request.aliases.add(scheme="vin", value="x")
    bench.register.unlink(request, AGGREGATOR)
    check_memory(bench)
    assert not bench.selling.hold(hold(_kilowatt("ev0")), AGGREGATOR).granted


def test_session_identifier_of_long_ago_is_not_given_again(bench: Bench) -> None:
    _a_held_kilowatt(bench)
    first = open_session("s", "ev", "cp", START_MS)
    bench.sessions.open(first, AGGREGATOR)
    bench.sessions.close(close_session("s"), AGGREGATOR)
    closed = bench.store.session("s")
    bench.now_us += 3 * 86_400_000_000
    later = bench.new_keeper()  # which needs to know nothing of that session
    try:
        sessions = Sessions(later)
        again = open_session("s", "ev", "cp", bench.now_us // 1_000)
        assert _reason(lambda: sessions.open(again, AGGREGATOR)) == "SESSION_EXISTS"
        assert sessions.open(first, AGGREGATOR).session.session_id == "s"
        assert bench.store.session("s") == closed
    finally:
        later.close()


def test_ledger_that_drains_does_what_is_asked_until_it_is_closed(bench: Bench) -> None:
    name = _a_held_kilowatt(bench)
    bench.keeper.drain()
    bench.selling.release(release(name), AGGREGATOR)
    bench.keeper.close()
    stored = bench.store.commitment(name)
    assert stored is not None
    assert stored.state == RELEASED
    assert _reason(lambda: bench.selling.hold(hold(_kilowatt(), seconds=300.0), AGGREGATOR)) == "SHUTTING_DOWN"
