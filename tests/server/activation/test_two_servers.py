"""Two servers on one database: what one writes the other sees, at once where it judges, and else soon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.server.activation.world import LedgerWorld
from tests.server.activation.live_support import (
    CONFIRMED,
    EXPIRED,
    HELD,
    HOUR_MS,
    POINT,
    RELEASED,
    SUSPENDED,
    Client,
    Live,
    activate,
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
    shape_of,
    tomorrow_ms,
)
from tests.server.support import reason_of, until

DECIDED = api.CONFLICT_EVENT_KIND_DECIDED
COMPLETE = api.CONFLICT_EVENT_KIND_SNAPSHOT_COMPLETE


@pytest.fixture
def pair(tmp_path: Path, ledger_database_url: str) -> Iterator[Live]:
    with live(tmp_path, ledger_database_url, servers=2) as made:
        yield made


@pytest.fixture
def lazy_pair(tmp_path: Path, ledger_database_url: str) -> Iterator[Live]:
    """Two servers that look for what the other wrote only where they must."""
    with live(tmp_path, ledger_database_url, servers=2, watch_poll_s=600.0) as made:
        yield made


def check_memories(servers: Live) -> None:
    """Assert that each server comes to know what is stored, and as one that begins anew would."""
    for server in servers.servers:
        ledger = server.ledger
        until(lambda ledger=ledger: ledger.position == ledger.store.head())
        assert ledger.look(lambda world: shape_of(world)) == shape_of(LedgerWorld(ledger.store.load(now_ms() * 1_000)))
    check_tables(servers.database_url)


def an_hour(of: str, hour: int = 0, **fields: Any) -> Any:
    start_ms = tomorrow_ms() + hour * HOUR_MS
    return sale(of, start_ms, start_ms + HOUR_MS, **fields)


def refusal(call: Any, request: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return reason_of(caught.value)


def test_each_server_judges_by_what_the_other_wrote(lazy_pair: Live) -> None:
    here, there = lazy_pair.client("agg", 0), lazy_pair.client("agg", 1)
    here.RegisterResources(register(resource("ev", up_w=1_000), resource("cp", POINT, up_w=1_000)))
    held = there.HoldCommitments(hold(an_hour("ev")))  # of a resource that it has not seen
    assert held.granted
    assert not here.HoldCommitments(hold(an_hour("ev"))).granted
    name = held.commitments[0].commitment_id
    assert here.ConfirmCommitments(confirm(name)).confirmed
    assert there.ActivateCommitments(activate(name)).activated
    assert refusal(here.ReleaseCommitments, release(name)) == "WRONG_STATE"
    here.OpenSession(open_session("s", "ev", "cp", now_ms()))
    refused = there.HoldCommitments(hold(an_hour("cp")))
    assert [list(c.commitment_ids) for c in refused.conflicts] == [[name]] * len(refused.conflicts)
    assert refused.conflicts
    assert refusal(there.OpenSession, open_session("t", "ev", "cp", now_ms())) == "SESSION_OVERLAPS"
    there.CloseSession(close_session("s"))
    assert refusal(here.CloseSession, close_session("s")) == "SESSION_CLOSED"
    assert there.HoldCommitments(hold(an_hour("cp"))).granted
    there.RegisterResources(register(resource("ev", up_w=3_000), resource("cp", POINT, up_w=1_000)))
    assert here.HoldCommitments(hold(an_hour("ev", power_w=2_000))).granted
    check_tables(lazy_pair.database_url)


def test_policies_of_one_server_hold_on_the_other(lazy_pair: Live) -> None:
    here, there = lazy_pair.client("agg", 0), lazy_pair.client("agg", 1)
    here.RegisterResources(register(resource("ev"), resource("cp", POINT)))
    assert there.HoldCommitments(hold(an_hour("ev"))).granted
    here.SetActivationPolicy(set_policy(cap_w=1_500))
    assert [c.area_id for c in there.HoldCommitments(hold(an_hour("ev"))).conflicts] == ["north"]
    there.SetActivationPolicy(set_policy(1, "afrr", sold_side=POINT))
    assert not here.HoldCommitments(hold(an_hour("ev", 5))).granted
    assert here.HoldCommitments(hold(an_hour("cp", 5))).granted
    check_tables(lazy_pair.database_url)


def test_request_repeated_at_the_other_server_gets_the_same_answer(lazy_pair: Live) -> None:
    here, there = lazy_pair.client("agg", 0), lazy_pair.client("agg", 1)
    registered = register(resource("ev", up_w=1_000))
    assert here.RegisterResources(registered) == there.RegisterResources(registered)
    wanted = hold(an_hour("ev"))
    assert here.HoldCommitments(wanted) == there.HoldCommitments(wanted)
    other = hold(an_hour("ev", 1))
    other.request_id = wanted.request_id
    assert refusal(there.HoldCommitments, other) == "REQUEST_ID_REUSED"


def test_what_one_server_wrote_is_soon_in_the_memory_of_the_other(pair: Live) -> None:
    here, there = pair.client("agg", 0), pair.client("agg", 1)
    here.RegisterResources(register(resource("ev", up_w=9_000, aliases=["x"]), resource("cp", POINT)))
    here.SetActivationPolicy(set_policy(cap_w=50_000))
    names = [here.HoldCommitments(hold(an_hour("ev"))).commitments[0].commitment_id for _ in range(3)]
    here.ConfirmCommitments(confirm(names[0]))
    here.ReleaseCommitments(release(names[1]))
    here.OpenSession(open_session("s", "ev", "cp", now_ms()))
    states = [there.state_of(name) for name in names]
    assert states == [CONFIRMED, RELEASED, HELD]
    check_memories(pair)
    there.RegisterResources(register(resource("twin", aliases=["x"])))
    there.CloseSession(close_session("s"))
    check_memories(pair)
    answer = here.GetResource(api.GetResourceRequest(resource_id="ev"))
    assert list(answer.same_resource_ids) == ["twin"]


def test_hold_expires_for_both_servers(pair: Live) -> None:
    here, there = pair.client("agg", 0), pair.client("agg", 1)
    here.RegisterResources(register(resource("ev", up_w=1_000)))
    name = here.HoldCommitments(hold(an_hour("ev"), seconds=1.0)).commitments[0].commitment_id
    until(lambda: there.state_of(name) == EXPIRED)
    assert refusal(there.ConfirmCommitments, confirm(name)) == "HOLD_EXPIRED"
    assert refusal(here.ConfirmCommitments, confirm(name)) == "HOLD_EXPIRED"
    assert there.HoldCommitments(hold(an_hour("ev"))).granted
    check_memories(pair)


def test_conflict_that_one_server_decides_is_watched_at_the_other(pair: Live) -> None:
    first, second, plugger = pair.client("first", 0), pair.client("second", 1), pair.client("cpo", 0)
    plugger.RegisterResources(register(resource("ev"), resource("cp", POINT)))
    kept = first.HoldCommitments(hold(an_hour("cp"))).commitments[0].commitment_id
    lost = second.HoldCommitments(hold(an_hour("ev"))).commitments[0].commitment_id
    watch = second.WatchConflicts(api.WatchConflictsRequest())
    assert next(watch).kind == COMPLETE
    plugger.OpenSession(open_session("s", "ev", "cp", now_ms()))
    event = next(watch)
    watch.cancel()
    assert event.kind == DECIDED
    assert (event.conflict.kept_commitment_id, event.conflict.suspended_commitment_id) == (kept, lost)
    assert second.state_of(lost) == SUSPENDED
    # who watches at either server from now on is told the same
    for number in (0, 1):
        again = pair.client("first", number).WatchConflicts(api.WatchConflictsRequest())
        until(lambda number=number: pair.servers[number].ledger.position == pair.servers[0].ledger.store.head())
        told = next(again)
        again.cancel()
        assert told.kind in (api.CONFLICT_EVENT_KIND_SNAPSHOT, COMPLETE)
    check_memories(pair)


def test_server_that_fell_behind_catches_up(lazy_pair: Live) -> None:
    here, there = lazy_pair.client("agg", 0), lazy_pair.client("agg", 1)
    here.RegisterResources(register(*[resource(f"ev{i}", up_w=1_000) for i in range(4)]))
    behind = lazy_pair.servers[1].ledger
    for hour in range(30):
        made = here.HoldCommitments(hold(an_hour(f"ev{hour % 4}", hour))).commitments[0].commitment_id
        if hour % 3 == 0:
            here.ConfirmCommitments(confirm(made))
        elif hour % 3 == 1:
            here.ReleaseCommitments(release(made))
    assert behind.position == 0
    assert there.HoldCommitments(hold(an_hour("ev1", 1))).granted  # what was released
    assert not there.HoldCommitments(hold(an_hour("ev0", 0))).granted  # what was confirmed
    fresh = LedgerWorld(behind.store.load(now_ms() * 1_000))
    assert behind.look(shape_of) == shape_of(fresh)
    check_tables(lazy_pair.database_url)


def test_both_servers_at_once_end_with_the_same_memory(pair: Live) -> None:
    clients = [pair.client("agg", i) for i in range(4)]
    clients[0].RegisterResources(register(*[resource(f"ev{i}", up_w=2_000) for i in range(3)]))
    trouble = []

    def work(client: Client, first: int) -> None:
        try:
            for step in range(12):
                answer = client.HoldCommitments(hold(an_hour(f"ev{(first + step) % 3}", step % 5)))
                if answer.granted and step % 2:
                    client.ReleaseCommitments(release(answer.commitments[0].commitment_id))
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(client, i)) for i, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    check_memories(pair)
