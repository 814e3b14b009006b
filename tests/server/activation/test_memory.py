"""The ledger in memory is what the store would lead to, whatever was asked, refused, or broken on the way."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import audit_pb2
from evflex.server.activation.activating import Activating
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.policies import Policies
from evflex.server.activation.registering import Register
from evflex.server.activation.selling import Selling
from evflex.server.activation.sessions import Sessions
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import ServiceError, busy
from evflex.server.log import make_log
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import Head, LedgerState
from evflex.server.store.ledger_turn import LedgerTurn
from evflex.server.store.retention import Retention
from tests.conftest import SOAK
from tests.server.activation.live_support import (
    ACTIVATED,
    CONFIRMED,
    DOWN,
    EV,
    EXPIRED,
    HELD,
    HOUR_MS,
    POINT,
    RELEASED,
    SITE,
    SUSPENDED,
    UP,
    activate,
    check_chain,
    check_state_is_that_of_the_log,
    close_session,
    confirm,
    hold,
    new_request_id,
    open_session,
    read_tables,
    register,
    release,
    resource,
    sale,
    set_policy,
    shape_of,
    sqlite_url,
)
from tests.server.support import START_S, settings_for, until

START_MS = START_S * 1_000
AGGREGATOR = Caller("agg")
SEEDS = range(60 if SOAK else 3)
STEPS = 300 if SOAK else 60


class Bench:
    """A keeper with its parts, a clock that is set, and faults that happen when told to."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.settings = settings_for(folder, database_url=database_url, watch_poll_s=600.0, log_level="error")
        self.database_url = database_url or sqlite_url(folder)
        self.database = Database(self.settings)
        self.store = LedgerStore(self.database, Retention(30.0, 30.0))
        self.now_us = START_MS * 1_000
        self.keeper = self.new_keeper()
        self.register = Register(self.keeper)
        self.selling = Selling(self.keeper)
        self.activating = Activating(self.keeper)
        self.sessions = Sessions(self.keeper)
        self.policies = Policies(self.keeper)

    def new_keeper(self) -> LedgerKeeper:
        return LedgerKeeper(self.settings, self.store, lambda: self.now_us, make_log("error"))

    def close(self) -> None:
        self.keeper.close()
        self.database.close()

    def together(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """Let requests wait until all of them are there, so that they are judged together, or in two parts."""
        waiting = threading.Semaphore(0)
        requests = self.keeper._requests
        put = requests.put

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(requests, name)

            def put(self, request: Any) -> None:
                put(request)
                waiting.release()

        def outcome(work: Callable[[], Any]) -> Any:
            try:
                return work()
            except ServiceError as error:
                waiting.release()  # some are refused before they wait
                return error

        self.keeper._requests = Counted()  # type: ignore[assignment]
        try:
            with ThreadPoolExecutor(len(works)) as threads:
                with self.keeper._looking:
                    answers = [threads.submit(outcome, work) for work in works]
                    for _ in works:
                        waiting.acquire()
                return [answer.result() for answer in answers]
        finally:
            self.keeper._requests = requests


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def any_bench(tmp_path: Path, ledger_database_url: str) -> Iterator[Bench]:
    made = Bench(tmp_path, ledger_database_url)
    yield made
    made.close()


def replayed(bench: Bench) -> LedgerWorld:
    """A ledger that has lived through the whole log."""
    world = LedgerWorld(LedgerState(Head(0, bytes(32)), [], [], [], []))
    for line in bench.store.audit(1):
        world.apply(audit_pb2.LedgerEvent.FromString(line.event))
        world.position = line.sequence
    return world


def check_memory(bench: Bench) -> None:
    """Assert that memory is what the store leads to, both at once and line by line."""
    bench.keeper.look(lambda world: _check_world(bench, world))


def _check_world(bench: Bench, world: LedgerWorld) -> None:
    present = shape_of(world)
    assert present == shape_of(LedgerWorld(bench.store.load(bench.now_us)))
    assert present == shape_of(replayed(bench))
    held = {name: c for name, c in world.commitments.items() if c.state == HELD}
    assert present["open holds"] == Counter(c.aggregator_id for c in held.values())
    assert held.keys() <= {name for _, name in world._expiries}
    tables = read_tables(bench.database_url)
    check_chain(tables)
    check_state_is_that_of_the_log(tables)


class Chance:
    """Random requests about a small world, most of which make sense."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.random = bench, random.Random(seed)
        self.tenants = [Caller("agg"), Caller("other")]
        self.cars = [f"ev{i}" for i in range(4)]
        self.points = [f"cp{i}" for i in range(4)]
        self.sites = ["site", "feeder"]
        self.opened = 0

    def set_up(self) -> None:
        made = [resource("feeder", SITE, up_w=60_000), resource("site", SITE, up_w=30_000, parent="feeder")]
        made += [resource(name, POINT, up_w=11_000, down_w=11_000, parent="site") for name in self.points]
        made += [resource(name, EV, up_w=7_000, down_w=7_000) for name in self.cars]
        self.bench.register.register(register(*made), AGGREGATOR)

    def work(self) -> Callable[[], Any]:
        """A request, ready to be made."""
        bench, chance = self.bench, self.random
        caller = chance.choice(self.tenants)
        only_checks = chance.random() < 0.15
        makers: list[tuple[int, Callable[[Caller], Callable[[], Any]]]] = [
            (10, self._hold), (6, self._confirm), (3, self._release), (3, self._activate), (2, self._complete),
            (1, self._settle), (2, self._reallocate), (4, self._open), (3, self._close), (2, self._link),
            (2, self._unlink), (2, self._register), (2, self._policy), (1, self._delete_policy),
        ]  # fmt: skip
        ((_, maker),) = chance.choices(makers, [weight for weight, _ in makers])
        self._only_checks = only_checks
        if chance.random() < 0.1:
            bench.now_us += chance.choice([1, 50_000, 700_000, 400_000_000])
        return maker(caller)

    def _named(self, states: tuple[int, ...]) -> list[str]:
        """Some commitments, most of them in one of these states."""
        known = self.bench.keeper.look(lambda world: {n: int(c.state) for n, c in world.commitments.items()})
        fit = [name for name, state in known.items() if state in states or self.random.random() < 0.1]
        if not fit:
            return [new_request_id()]
        return self.random.sample(fit, min(len(fit), self.random.choice([1, 1, 2])))

    def _sale(self) -> Any:
        chance = self.random
        start_ms = self.bench.now_us // 1_000 + chance.randrange(-1, 6) * HOUR_MS // 4
        end_ms = start_ms + chance.randrange(1, 8) * HOUR_MS // 4
        sessions = list(self.bench.keeper.look(lambda world: world.sessions))
        names = [*self.cars, *self.points, *self.sites, *sessions, "unknown"]
        of: str | dict[str, int] = chance.choice(names)
        if chance.random() < 0.4:
            of = {name: chance.randrange(1, 4) * 500 for name in chance.sample(names[:-1], chance.randrange(1, 4))}
        fields: dict[str, Any] = {"product_id": chance.choice(["afrr", "fcr"])}
        kind = chance.random()
        if kind < 0.2:
            fields["exclusive_group"] = chance.choice("gh")
        elif kind < 0.4:
            fields["co_delivery_group"] = chance.choice("gh")
        if chance.random() < 0.3:
            fields["counter_activation_declared"] = True
        if chance.random() < 0.3:
            fields["energy_wh"] = chance.randrange(100, 3_000)
        power_w = chance.randrange(1, 8) * 500
        return sale(of, start_ms, end_ms, power_w, chance.choice([UP, UP, DOWN]), **fields)

    def _hold(self, caller: Caller) -> Callable[[], Any]:
        made = [self._sale() for _ in range(self.random.choice([1, 1, 1, 2, 3]))]
        request = hold(*made, seconds=self.random.choice([1.0, 300.0]), validate_only=self._only_checks)
        return lambda: self.bench.selling.hold(request, caller)

    def _confirm(self, caller: Caller) -> Callable[[], Any]:
        request = confirm(*self._named((HELD, SUSPENDED)), validate_only=self._only_checks)
        return lambda: self.bench.selling.confirm(request, caller)

    def _release(self, caller: Caller) -> Callable[[], Any]:
        request = release(*self._named((HELD, SUSPENDED)), validate_only=self._only_checks)
        return lambda: self.bench.selling.release(request, caller)

    def _activate(self, caller: Caller) -> Callable[[], Any]:
        request = activate(*self._named((CONFIRMED,)), validate_only=self._only_checks)
        return lambda: self.bench.activating.activate(request, caller)

    def _complete(self, caller: Caller) -> Callable[[], Any]:
        request = api.CompleteCommitmentsRequest(request_id=new_request_id(), validate_only=self._only_checks)
        for name in self._named((ACTIVATED,)):
            request.deliveries.add(commitment_id=name, delivered_energy_wh=100)
        return lambda: self.bench.activating.complete(request, caller)

    def _settle(self, caller: Caller) -> Callable[[], Any]:
        stored = self.bench.store.commitments_page(caller.tenant_id, None, 20, None, state=4)
        names = [c.commitment_id for c in stored] or [new_request_id()]
        request = api.SettleCommitmentsRequest(
            request_id=new_request_id(), commitment_ids=[self.random.choice(names)], settlement_id="bill",
            validate_only=self._only_checks,
        )  # fmt: skip
        return lambda: self.bench.activating.settle(request, caller)

    def _reallocate(self, caller: Caller) -> Callable[[], Any]:
        pools = self.bench.keeper.look(lambda world: [c for c in world.commitments.values() if c.allocation])
        if not pools:
            return self._hold(caller)
        pool = self.random.choice(pools)
        names = self.random.sample([*self.cars, *self.points], 2)
        request = api.ReallocateCommitmentRequest(
            request_id=new_request_id(), commitment_id=pool.commitment_id, validate_only=self._only_checks
        )
        first_w = self.random.randrange(1, max(pool.power_w, 2))
        request.allocation.add(resource_id=names[0], power_w=first_w)
        if pool.power_w > first_w:
            request.allocation.add(resource_id=names[1], power_w=pool.power_w - first_w)
        return lambda: self.bench.selling.reallocate(request, caller)

    def _open(self, caller: Caller) -> Callable[[], Any]:
        self.opened += 1
        start_ms = self.bench.now_us // 1_000 - self.random.randrange(0, 3) * HOUR_MS // 4
        request = open_session(
            f"session{self.opened}", self.random.choice(self.cars), self.random.choice(self.points), start_ms,
            validate_only=self._only_checks,
        )  # fmt: skip
        if self.random.random() < 0.4:
            request.session.departure_time.FromMilliseconds(start_ms + 4 * HOUR_MS)
            request.session.max_charge_w = 11_000
            request.session.energy_wh = self.random.choice([1_000, 30_000, 43_000])
        return lambda: self.bench.sessions.open(request, caller)

    def _close(self, caller: Caller) -> Callable[[], Any]:
        sessions = self.bench.keeper.look(lambda world: list(world.sessions.values()))
        still = [s for s in sessions if not s.HasField("end_time") or self.random.random() < 0.1]
        if not still:
            return self._open(caller)
        session = self.random.choice(still)
        request = close_session(session.session_id, validate_only=self._only_checks)
        if self.random.random() < 0.3:
            request.end_time.FromMilliseconds(session.start_time.ToMilliseconds() + self.random.randrange(HOUR_MS))
        return lambda: self.bench.sessions.close(request, Caller(session.tenant_id))

    def _link(self, caller: Caller) -> Callable[[], Any]:
        request = api.LinkAliasesRequest(request_id=new_request_id(), validate_only=self._only_checks)
        request.resource_id = self.random.choice([*self.cars, *self.points])
        request.aliases.add(scheme="vin", value=self.random.choice("xyz"))
        return lambda: self.bench.register.link(request, AGGREGATOR)

    def _unlink(self, caller: Caller) -> Callable[[], Any]:
        request = api.UnlinkAliasesRequest(request_id=new_request_id(), validate_only=self._only_checks)
        named = self.bench.keeper.look(lambda world: [r for r in world.resources.values() if r.aliases])
        if not named:
            return self._link(caller)
        found = self.random.choice(named)
        request.resource_id = found.resource_id
        request.aliases.add(scheme="vin", value=self.random.choice(found.aliases).value)
        return lambda: self.bench.register.unlink(request, AGGREGATOR)

    def _register(self, caller: Caller) -> Callable[[], Any]:
        chance = self.random
        name = chance.choice([*self.cars, *self.points, f"new{chance.randrange(6)}"])
        kind = POINT if name.startswith("cp") else EV
        parent = chance.choice(["site", "feeder", ""]) if kind == POINT else ""
        aliases = [chance.choice("xyz")] if chance.random() < 0.3 else []
        made = [resource(name, kind, chance.randrange(4, 12) * 1_000, 11_000, parent, aliases)]
        if chance.random() < 0.2:
            made.append(resource(f"late{chance.randrange(3)}", SITE, parent=chance.choice(["site", "nowhere"])))
        request = register(*made, validate_only=self._only_checks)
        return lambda: self.bench.register.register(request, AGGREGATOR)

    def _policy(self, caller: Caller) -> Callable[[], Any]:
        chance = self.random
        product_id = chance.choice(["", "afrr", "fcr"])
        cap_w = None if product_id or chance.random() < 0.5 else chance.randrange(5, 30) * 1_000
        kind = chance.choice([0, 1, 2, 3, 4])
        request = set_policy(kind, product_id, chance.choice(["", "north"]), cap_w, EV if kind == 1 else 0)
        request.validate_only = self._only_checks
        return lambda: self.bench.policies.set(request, caller)

    def _delete_policy(self, caller: Caller) -> Callable[[], Any]:
        request = api.DeleteActivationPolicyRequest(request_id=new_request_id(), validate_only=self._only_checks)
        request.area_id = self.random.choice(["", "north"])
        request.product_id = self.random.choice(["", "afrr"])
        return lambda: self.bench.policies.delete(request, caller)


class BrokenError(Exception):
    """Something that nobody expects."""


@contextmanager
def breaking_after(monkeypatch: pytest.MonkeyPatch, changes: int, error: Exception) -> Iterator[None]:
    """Let the next request break once it has written some changes."""
    left = [changes]
    put = Turn._log

    def log(self: Turn, *arguments: Any) -> None:
        put(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Turn, "_log", log)
        yield


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_is_what_the_store_leads_to(bench: Bench, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Chance(bench, seed)
    chance.set_up()
    outcomes: Counter[str] = Counter()
    for step in range(STEPS):
        kind = chance.random.random()
        if kind < 0.7:
            outcomes[_outcome(chance.work())] += 1
        elif kind < 0.85:
            for answer in bench.together([chance.work() for _ in range(chance.random.randrange(2, 6))]):
                outcomes["refused" if isinstance(answer, ServiceError) else "done"] += 1
        else:
            error = chance.random.choice([BrokenError(), ServiceError(code_pb2.FAILED_PRECONDITION, "NO", "no")])
            with breaking_after(monkeypatch, chance.random.randrange(1, 4), error):
                outcomes[_outcome(chance.work())] += 1
        if step % 3 == 0:
            check_memory(bench)
    check_memory(bench)
    assert outcomes["done"] > STEPS // 5
    assert outcomes["refused"] > STEPS // 20


def _outcome(work: Callable[[], Any]) -> str:
    try:
        work()
    except ServiceError:
        return "refused"
    return "done"


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
