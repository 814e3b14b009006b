"""Many want what there is once: exactly one gets it, on one server and on two that share a database."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.activation.v1 import activation_service_pb2 as api
from tests.conftest import SOAK
from tests.server.activation.live_support import (
    ACTIVATED,
    CONFIRMED,
    EXPIRED,
    HELD,
    HOUR_MS,
    POINT,
    SITE,
    SUSPENDED,
    Client,
    Live,
    Tables,
    activate,
    check_sums,
    check_tables,
    close_session,
    confirm,
    hold,
    live,
    now_ms,
    open_session,
    register,
    release,
    resource,
    sale,
    set_policy,
    tomorrow_ms,
)
from tests.server.support import reason_of

WRITERS = 8
ROUNDS = 1_000 if SOAK else 30
FEWER_ROUNDS = 200 if SOAK else 12


class Racers:
    """Threads that begin at the same moment."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)
        self._threads = ThreadPoolExecutor(count)

    def run(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """What each of as many works as there are threads comes to; a refusal is an outcome."""

        def start(work: Callable[[], Any]) -> Any:
            self._barrier.wait()
            try:
                return work()
            except grpc.RpcError as error:
                return error

        return list(self._threads.map(start, works))

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture
def racers() -> Iterator[Racers]:
    made = Racers(WRITERS)
    yield made
    made.close()


@pytest.fixture
def two() -> Iterator[Racers]:
    made = Racers(2)
    yield made
    made.close()


@pytest.fixture
def pair(tmp_path: Path, ledger_database_url: str) -> Iterator[Live]:
    """Two servers on one database."""
    with live(tmp_path, ledger_database_url, servers=2) as made:
        yield made


def writers(servers: Live, tenants: Sequence[str] = ("a", "b")) -> list[Client]:
    """A client for each writer, half of them at each of two servers, and of every tenant at both."""
    return [servers.client(tenants[(i // 2) % len(tenants)], server=i) for i in range(WRITERS)]


def granted(outcomes: Sequence[Any]) -> list[int]:
    """Who was granted a hold; nobody may have been told anything but yes, or what stands against it."""
    assert all(isinstance(outcome, api.HoldCommitmentsResponse) for outcome in outcomes), outcomes
    assert all(outcome.granted != bool(outcome.conflicts) for outcome in outcomes)
    return [i for i, outcome in enumerate(outcomes) if outcome.granted]


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("servers", [1, 2])
def test_last_kilowatt_has_one_winner(tmp_path: Path, ledger_database_url: str, servers: int, racers: Racers) -> None:
    with live(tmp_path, ledger_database_url, servers) as made:
        clients = writers(made)
        clients[0].RegisterResources(register(resource("last", SITE, up_w=1_000)))
        hour_ms, kept = tomorrow_ms(), set()
        for number in range(ROUNDS):
            works = [
                lambda c=client, at=hour_ms: c.HoldCommitments(hold(sale("last", at, at + HOUR_MS), seconds=3_000))
                for client in clients
            ]
            outcomes = racers.run(works)
            winners = granted(outcomes)
            assert len(winners) == 1, f"round {number} has {len(winners)} winners"
            winner, name = clients[winners[0]], outcomes[winners[0]].commitments[0].commitment_id
            if number % 3 == 0:  # the next round is about the same hour
                winner.ReleaseCommitments(release(name))
            else:
                winner.ConfirmCommitments(confirm(name))
                kept.add(name)
                hour_ms += HOUR_MS
        tables = check_tables(made.database_url)
        assert {c.commitment_id for c in tables.commitments.values() if c.state == CONFIRMED} == kept
        assert len(tables.commitments) == ROUNDS


@pytest.mark.timeout(600)
def test_vehicle_and_charge_point_of_a_session_are_not_both_sold(pair: Live, racers: Racers) -> None:
    clients = writers(pair)
    clients[0].RegisterResources(register(resource("ev"), resource("cp", POINT)))
    clients[0].OpenSession(open_session("s", "ev", "cp", now_ms() - HOUR_MS))
    hour_ms = tomorrow_ms()
    for number in range(FEWER_ROUNDS):
        sides = ["ev" if (i + i // 2 + number) % 2 else "cp" for i in range(WRITERS)]
        works = [
            lambda c=client, side=side, at=hour_ms: c.HoldCommitments(hold(sale(side, at, at + HOUR_MS)))
            for client, side in zip(clients, sides, strict=True)
        ]
        winners = granted(racers.run(works))
        assert len({sides[i] for i in winners}) == 1
        assert len(winners) == WRITERS // 2  # nothing stands between those of one side
        hour_ms += HOUR_MS
    check_tables(pair.database_url)


@pytest.mark.timeout(600)
def test_hold_and_plug_in_at_the_same_moment_leave_one_side_sold(pair: Live, two: Racers) -> None:
    seller, plugger = pair.client("seller", 0), pair.client("cpo", 1)
    numbers = range(FEWER_ROUNDS)
    made = [resource(f"ev{i}") for i in numbers] + [resource(f"cp{i}", POINT) for i in numbers]
    plugger.RegisterResources(register(*made))
    hour_ms = tomorrow_ms()
    for i in numbers:
        first = plugger.HoldCommitments(hold(sale(f"cp{i}", hour_ms, hour_ms + HOUR_MS)))
        kept = first.commitments[0].commitment_id
        plugger.ConfirmCommitments(confirm(kept))
        held, opened = two.run(
            [
                partial(seller.HoldCommitments, hold(sale(f"ev{i}", hour_ms, hour_ms + HOUR_MS))),
                partial(plugger.OpenSession, open_session(f"s{i}", f"ev{i}", f"cp{i}", now_ms())),
            ]
        )
        assert isinstance(opened, api.OpenSessionResponse), opened
        assert isinstance(held, api.HoldCommitmentsResponse), held
        assert plugger.state_of(kept) == CONFIRMED
        if held.granted:  # it came first, and lost to the one before it
            assert seller.state_of(held.commitments[0].commitment_id) == SUSPENDED
        else:
            assert [list(c.commitment_ids) for c in held.conflicts] == [[kept]]
        plugger.CloseSession(close_session(f"s{i}"))
    check_tables(pair.database_url)


@pytest.mark.timeout(600)
def test_confirmation_and_expiry_at_the_same_moment_end_in_one_state(pair: Live, racers: Racers) -> None:
    clients = writers(pair, ["a"])
    rng = random.Random(1)
    names = [f"ev{i}" for i in range(WRITERS)]
    clients[0].RegisterResources(register(*[resource(name, up_w=1_000) for name in names]))
    hour_ms = tomorrow_ms()
    other = [pair.client("b", server=i + 1) for i in range(WRITERS)]
    ends = set()
    for _ in range(60 if SOAK else 2):
        late_s = [rng.uniform(-0.03, 0.03) for _ in names]

        def race(i: int, hour_ms: int = hour_ms, late_s: list[float] = late_s) -> tuple[str, Any, Any]:
            wanted = sale(names[i], hour_ms, hour_ms + HOUR_MS)
            held = clients[i].HoldCommitments(hold(wanted, seconds=1.0))
            assert held.granted
            name = held.commitments[0].commitment_id
            end_s = held.commitments[0].expire_time.ToMilliseconds() / 1e3
            time.sleep(max(0.0, end_s + late_s[i] - time.time()))  # the moment is the point
            try:
                outcome: Any = clients[i].ConfirmCommitments(confirm(name)).confirmed
            except grpc.RpcError as error:
                outcome = reason_of(error)
            return name, outcome, other[i].HoldCommitments(hold(wanted)).granted

        outcomes = racers.run([partial(race, i) for i in range(WRITERS)])
        for i, (name, outcome, is_free) in enumerate(outcomes):
            assert outcome in (True, "HOLD_EXPIRED"), outcome
            state = clients[i].state_of(name)
            assert state == (CONFIRMED if outcome is True else EXPIRED)
            assert is_free == (state == EXPIRED)
            ends.add(state)
        hour_ms += HOUR_MS
    check_tables(pair.database_url)
    assert ends <= {CONFIRMED, EXPIRED}


@pytest.mark.timeout(600)
def test_of_an_exclusive_group_one_is_activated(pair: Live, racers: Racers) -> None:
    clients = writers(pair, ["a"])
    clients[0].RegisterResources(register(resource("ev")))
    hour_ms = tomorrow_ms()
    for _ in range(FEWER_ROUNDS):
        wanted = [sale("ev", hour_ms, hour_ms + HOUR_MS, exclusive_group="either") for _ in clients]
        held = clients[0].HoldCommitments(hold(*wanted))
        names = [c.commitment_id for c in held.commitments]
        clients[1].ConfirmCommitments(confirm(*names))
        works = [lambda c=c, name=n: c.ActivateCommitments(activate(name)) for c, n in zip(clients, names, strict=True)]
        outcomes = racers.run(works)
        assert [type(outcome) for outcome in outcomes] == [api.ActivateCommitmentsResponse] * WRITERS, outcomes
        assert sum(outcome.activated for outcome in outcomes) == 1
        assert sum(clients[0].state_of(name) == ACTIVATED for name in names) == 1
        hour_ms += HOUR_MS
    tables = check_tables(pair.database_url)
    assert len(tables.rights) == FEWER_ROUNDS


@pytest.mark.timeout(600)
def test_cap_of_an_aggregator_is_reached_once_by_each(pair: Live, racers: Racers) -> None:
    clients = writers(pair)
    clients[0].SetActivationPolicy(set_policy(cap_w=1_000))
    clients[0].RegisterResources(register(*[resource(f"ev{i}") for i in range(WRITERS)]))
    hour_ms = tomorrow_ms()
    for _ in range(FEWER_ROUNDS):
        works = [
            lambda c=client, i=i, at=hour_ms: c.HoldCommitments(hold(sale(f"ev{i}", at, at + HOUR_MS)))
            for i, client in enumerate(clients)
        ]
        winners = granted(racers.run(works))
        assert sorted(clients[i].tenant_id for i in winners) == ["a", "b"]
        hour_ms += HOUR_MS
    tables = check_tables(pair.database_url)
    assert sum(c.state == HELD for c in tables.commitments.values()) == 2 * FEWER_ROUNDS


@pytest.mark.timeout(600)
def test_what_is_new_on_one_server_is_changed_and_sold_on_the_other_at_once(pair: Live, racers: Racers) -> None:
    clients = writers(pair, ["a"])
    hour_ms = tomorrow_ms()
    for number in range(FEWER_ROUNDS):
        name = f"ev{number}"
        clients[0].RegisterResources(register(resource(name, up_w=1_000)))
        works = [
            lambda c=client, i=i, name=name: (
                c.RegisterResources(register(resource(name, up_w=1_000, aliases=[f"{name}-{i}"])))
                if i < WRITERS // 2
                else c.HoldCommitments(hold(sale(name, hour_ms, hour_ms + HOUR_MS)))
            )
            for i, client in enumerate(clients)
        ]
        outcomes = racers.run(works)
        assert not [outcome for outcome in outcomes if isinstance(outcome, grpc.RpcError)], outcomes
        assert len(granted(outcomes[WRITERS // 2 :])) == 1
    check_tables(pair.database_url)


def sold_by_mistake(sales: dict[str, int], *, plugged_in: bool = False) -> Tables:
    """Tables that hold confirmed sales, and no word of how they came there."""
    made = [resource("site", SITE, up_w=1_000), resource("cp", POINT, up_w=1_000, parent="site"), resource("ev")]
    session = open_session("s", "ev", "cp", 0).session
    commitments = {
        f"sale of {name}": sale(
            name, 0, HOUR_MS, power_w, commitment_id=f"sale of {name}", aggregator_id="a", state=CONFIRMED
        )
        for name, power_w in sales.items()
    }
    resources = {one.resource_id: one for one in made}
    return Tables(commitments, resources, {"s": session} if plugged_in else {}, [], set(), [], (0, b""))


def test_check_of_the_tables_sees_what_is_sold_twice() -> None:
    check_sums(sold_by_mistake({"cp": 600, "site": 400}))
    check_sums(sold_by_mistake({"cp": 1_000, "ev": 9_000}))
    for mistake in (
        sold_by_mistake({"cp": 600, "site": 401}),
        sold_by_mistake({"ev": 1_001}, plugged_in=True),
        sold_by_mistake({"ev": 1, "cp": 1}, plugged_in=True),
        sold_by_mistake({"s": 500, "cp": 501}, plugged_in=True),
    ):
        with pytest.raises(AssertionError):
            check_sums(mistake)
