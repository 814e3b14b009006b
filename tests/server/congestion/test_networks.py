"""Networks are shown with their tables, listed and deleted, and survive the server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sqlalchemy as sa

from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.congestion.v1 import network_pb2
from evflex.server.caller import Caller
from evflex.server.congestion.stored_network import network_blocks, read_stored_network
from evflex.server.store.database import Database
from evflex.server.store.tables import blocks
from tests.server.congestion.support import (
    OTHER_TENANT,
    RunningCongestion,
    flow_request,
    flowed,
    header,
    imported,
    refused,
    running_congestion,
    toy,
    toy_network,
    upload,
)
from tests.server.support import reason_of, settings_for, violations_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCongestion]:
    with running_congestion(tmp_path_factory.mktemp("server")) as server:
        imported(server, toy(5, cut=[2]))
        imported(server, toy(3, phases=3), network_id="phases")
        yield server


def tables_of(here: RunningCongestion, network_id: str) -> tuple[network_pb2.NetworkTables, list[int]]:
    """Merged tables, and the sizes of the messages that brought them."""
    request = api.GetNetworkRequest(network_id=network_id, return_tables=True)
    first, *rest = here.congestion.GetNetwork(request, timeout=60.0)
    assert first.network.network_id == network_id
    tables = network_pb2.NetworkTables()
    for message in rest:
        tables.MergeFrom(message.tables)
    return tables, [message.ByteSize() for message in rest]


@pytest.mark.parametrize(("network_id", "buses", "phases", "cut"), [("net", 5, 1, [2]), ("phases", 3, 3, [])])
def test_tables_are_those_of_the_network(
    here: RunningCongestion, network_id: str, buses: int, phases: int, cut: Sequence[int]
) -> None:
    network = toy_network(buses, phases, cut)
    tables, _ = tables_of(here, network_id)
    bus, branch, source = tables.buses, tables.branches, tables.sources
    assert tuple(bus.bus_ids) == network.buses.bus_ids
    for name in ("nominal_kv", "shunt_g_pu", "shunt_b_pu", "voltage_min_pu", "voltage_max_pu", "x", "y"):
        np.testing.assert_array_equal(getattr(bus, name), getattr(network.buses, name))
    np.testing.assert_array_equal(np.array(bus.load_p_kw).reshape(network.load_p_kw.shape), network.load_p_kw)
    np.testing.assert_array_equal(np.array(bus.load_q_kvar).reshape(network.load_p_kw.shape), network.load_q_kvar)
    assert tuple(branch.branch_ids) == network.branches.branch_ids
    same = (
        "kinds", "r_pu", "x_pu", "g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu", "shift_deg", "from_closed",
        "to_closed", "rated_from_a", "rated_to_a", "rated_kva",
    )  # fmt: skip
    zero_sequence = ("zero_sequence", "r0_pu", "x0_pu", "g0_from_pu", "b0_from_pu", "g0_to_pu", "b0_to_pu")
    for name in (*same, *zero_sequence) if phases == 3 else same:
        np.testing.assert_array_equal(getattr(branch, name), getattr(network.branches, name))
    assert phases == 3 or not any(len(getattr(branch, name)) for name in zero_sequence)
    assert (list(branch.from_bus_indices), list(branch.to_bus_indices)) == (
        network.branches.from_bus.tolist(), network.branches.to_bus.tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(branch.turns_ratio, network.branches.ratio)
    assert (list(source.bus_indices), list(source.voltage_pu), list(source.angle_deg)) == ([0], [1.02], [0.0])
    assert not tables.generators.bus_indices


def test_every_field_of_the_tables_has_a_column() -> None:
    unmentioned = {"from_bus", "to_bus", "ratio"}
    network = toy_network(2, 3)
    for table, message in ((network.buses, network_pb2.BusTable), (network.branches, network_pb2.BranchTable)):
        assert set(table.__dataclass_fields__) - unmentioned <= set(message.DESCRIPTOR.fields_by_name)


def test_tables_follow_only_when_asked_for(here: RunningCongestion) -> None:
    (only,) = here.congestion.GetNetwork(api.GetNetworkRequest(network_id="net"))
    assert only.network.bus_count == 5


def test_a_large_network_comes_in_chunks_under_a_mebibyte(tmp_path: Path) -> None:
    with running_congestion(tmp_path) as here:
        imported(here, toy(20_000, prefix="bus with a rather long identifier of some fifty bytes"))
        tables, sizes = tables_of(here, "net")
        assert len(sizes) > 4
        assert max(sizes) <= 1 << 20
        assert len(tables.buses.bus_ids) == len(tables.buses.load_p_kw) == 20_000
        assert list(tables.branches.to_bus_indices) == list(range(1, 20_000))


def test_a_network_comes_back_from_the_store_as_it_went() -> None:
    network = toy_network(7, 3, [3])
    again = read_stored_network(network_blocks(network))
    assert (again.base_kva, again.phase_count) == (network.base_kva, network.phase_count)
    for table in ("buses", "branches", "sources", "generators"):
        before, after = getattr(network, table), getattr(again, table)
        for name in before.__dataclass_fields__:
            value, other = getattr(before, name), getattr(after, name)
            if isinstance(value, tuple):
                assert value == other
            else:
                np.testing.assert_array_equal(value, other)
                assert value.dtype == other.dtype
    np.testing.assert_array_equal(network.load_p_kw, again.load_p_kw)


def test_networks_survive_a_restart(tmp_path: Path, database_url: str) -> None:
    messages = upload(header(), ("toy.json", toy(4, refused=["ward[0]"])))
    messages[0].header.allow_refusals = True
    with running_congestion(tmp_path, database_url=database_url) as here:
        first = here.congestion.ImportNetwork(iter(messages))
        before = flowed(here)
    with running_congestion(tmp_path, database_url=database_url) as here:
        (shown,) = here.congestion.GetNetwork(api.GetNetworkRequest(network_id="net"))
        assert shown.network == first.network
        assert here.engine.prepared == 0
        after = flowed(here)
        assert here.engine.prepared == 1
        np.testing.assert_array_equal(after.array("voltage_pu"), before.array("voltage_pu"))
        assert here.congestion.ImportNetwork(iter(messages)) == first


def test_networks_are_listed_newest_first_page_by_page(tmp_path: Path, database_url: str) -> None:
    with running_congestion(tmp_path, database_url=database_url) as here:
        for i in range(5):
            imported(here, toy(2, notes=["n"]), network_id=f"net-{i}")
        names, token = [], ""
        while True:
            page = here.congestion.ListNetworks(api.ListNetworksRequest(page_size=2, page_token=token))
            names += [network.network_id for network in page.networks]
            assert all(network.bus_count == 2 and not network.notes for network in page.networks)
            token = page.next_page_token
            if not token:
                break
        assert names == [f"net-{i}" for i in (4, 3, 2, 1, 0)]
        for request in ({"page_size": 1_001}, {"page_size": -1}, {"page_token": "x"}):
            error = refused(here.congestion.ListNetworks, api.ListNetworksRequest(**request))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_nothing_is_left_of_a_deleted_network(tmp_path: Path, database_url: str) -> None:
    settings = settings_for(tmp_path, database_url=database_url)
    with running_congestion(tmp_path, database_url=database_url) as here:
        etag = imported(here).etag
        delete = api.DeleteNetworkRequest(request_id=str(uuid.uuid4()), network_id="net", etag="other")
        assert refused(here.congestion.DeleteNetwork, delete).code() is grpc.StatusCode.ABORTED
        delete = api.DeleteNetworkRequest(request_id=str(uuid.uuid4()), network_id="net", etag=etag)
        here.congestion.DeleteNetwork(api.DeleteNetworkRequest(network_id="net", validate_only=True))
        here.congestion.DeleteNetwork(delete)
        here.congestion.DeleteNetwork(delete)
        assert refused(here.congestion.RunPowerFlow, flow_request()).code() is grpc.StatusCode.NOT_FOUND
        again = api.DeleteNetworkRequest(request_id=str(uuid.uuid4()), network_id="net")
        assert refused(here.congestion.DeleteNetwork, again).code() is grpc.StatusCode.NOT_FOUND
        database = Database(settings)
        with database.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(blocks)).scalar() == 0
        database.close()
        # a network of the same name is another one
        assert imported(here, toy(6)).etag != etag
        assert len(flowed(here).header.bus_ids) == 6


def test_tenants_see_only_their_own(here: RunningCongestion) -> None:
    stub = here.congestion
    delete = api.DeleteNetworkRequest(request_id=str(uuid.uuid4()), network_id="net")
    for method, request in (
        (stub.GetNetwork, api.GetNetworkRequest(network_id="net")),
        (stub.DeleteNetwork, delete),
        (stub.RunPowerFlow, flow_request()),
    ):
        assert refused(method, request, metadata=OTHER_TENANT).code() is grpc.StatusCode.NOT_FOUND
    assert not stub.ListNetworks(api.ListNetworksRequest(), metadata=OTHER_TENANT).networks
    theirs = upload(header(), ("toy.json", toy(2)))
    assert stub.ImportNetwork(iter(theirs), metadata=OTHER_TENANT).network.tenant_id == "other"
    assert len(flowed(here).header.bus_ids) == 5


def test_areas_of_others_are_not_there(tmp_path: Path) -> None:
    areas: set[str] = set()

    def resolve(metadata: object, peer: str) -> Caller:
        return Caller("default", areas=frozenset(areas) if areas else None)

    with running_congestion(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        imported(here, area_id="south")
        areas.add("north")
        delete = api.DeleteNetworkRequest(request_id=str(uuid.uuid4()), network_id="net")
        for method, request in (
            (here.congestion.GetNetwork, api.GetNetworkRequest(network_id="net")),
            (here.congestion.DeleteNetwork, delete),
            (here.congestion.RunPowerFlow, flow_request()),
        ):
            assert refused(method, request).code() is grpc.StatusCode.NOT_FOUND
        assert not here.congestion.ListNetworks(api.ListNetworksRequest()).networks


@pytest.mark.parametrize("name", ["", "a\x00", "x" * 257])
def test_a_name_that_no_network_has_is_refused(here: RunningCongestion, name: str) -> None:
    request_id = str(uuid.uuid4())
    for method, request in (
        (here.congestion.GetNetwork, api.GetNetworkRequest(network_id=name)),
        (here.congestion.DeleteNetwork, api.DeleteNetworkRequest(request_id=request_id, network_id=name)),
        (here.congestion.RunPowerFlow, flow_request(name)),
    ):
        assert list(violations_of(refused(method, request))) == ["network_id"]


def test_networks_in_memory_make_room_for_others(tmp_path: Path) -> None:
    with running_congestion(tmp_path, max_prepared_networks=2) as here:
        for name in ("a", "b", "c"):
            imported(here, network_id=name)
        assert here.engine.prepared == 3
        flowed(here, network_id="c")
        flowed(here, network_id="b")
        assert here.engine.prepared == 3
        flowed(here, network_id="a")
        flowed(here, network_id="b")
        assert here.engine.prepared == 4
        flowed(here, network_id="c")
        assert here.engine.prepared == 5


def test_a_network_is_prepared_once_for_all_who_wait(tmp_path: Path) -> None:
    with running_congestion(tmp_path) as here:
        imported(here, toy(50))
    with running_congestion(tmp_path) as here:
        ended: list[Any] = []
        threads = [threading.Thread(target=lambda: ended.append(flowed(here))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ended) == 6
        assert here.engine.prepared == 1


def test_too_many_streams_are_unavailable(tmp_path: Path) -> None:
    with running_congestion(tmp_path, max_congestion_streams=1) as here:
        imported(here)
        here.engine.hold = True
        first = here.congestion.RunPowerFlow(flow_request(), timeout=60.0)
        assert here.engine.started.acquire(timeout=10.0)
        error = refused(here.congestion.GetNetwork, api.GetNetworkRequest(network_id="net"))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "TOO_MANY_STREAMS")
        here.engine.release.set()
        assert [message.WhichOneof("payload") for message in first][-1] == "summary"
