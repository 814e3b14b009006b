"""Networks of both clients: files of every kind go out, tables come in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest

from evflex.client import AlreadyExistsError, InvalidRequestError, Network, NetworkFormat, ServerError
from evflex.client.congestion import network_files
from evflex.congestion.v1 import congestion_service_pb2 as pb
from evflex.congestion.v1 import network_pb2
from tests.client.congestion.messages import UNAVAILABLE, network_answers, network_message, streaming
from tests.client.fake_server import FakeServer, after_reading, answering, failing

IMPORTED = pb.ImportNetworkResponse(network=network_message())


def sent_files(server: FakeServer, call: int = 0) -> dict[str, bytes]:
    """Files of an import, put together from their parts, whose frame is checked."""
    messages = server.asked("ImportNetwork")[call]
    kinds = [message.WhichOneof("payload") for message in messages]
    assert (kinds[0], kinds[-1]) == ("header", "commit")
    files: dict[str, bytes] = {}
    for message in messages[1:-1]:
        files[message.chunk.file_name] = files.get(message.chunk.file_name, b"") + message.chunk.content
    return files


def sent_header(server: FakeServer) -> Any:
    return server.asked("ImportNetwork")[0][0].header


def test_a_file_becomes_a_network(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "case.m").write_bytes(b"function mpc = case")
    server.on("ImportNetwork", after_reading(IMPORTED))
    network = client.import_network(
        tmp_path / "case.m", "MATPOWER", network_id="n-1", display_name="Feeder", area_id="DK1", allow_refusals=True
    )
    assert isinstance(network, Network)
    assert (network.network_id, network.network_format, network.bus_count) == ("n-1", "PANDAPOWER", 3)
    assert network.refusals.loc[0, "element"] == "trafo3w[2]"
    assert network.notes == ("no vector group",)
    assert network.buses is None
    assert sent_files(server) == {"case.m": b"function mpc = case"}
    header = sent_header(server)
    assert header.format == network_pb2.NETWORK_FORMAT_MATPOWER
    assert (header.network_id, header.display_name, header.area_id) == ("n-1", "Feeder", "DK1")
    assert header.request_id
    assert header.allow_refusals
    assert not header.HasField("three_phase")


def test_a_folder_brings_its_files(client: Any, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "Line.csv").write_bytes(b"id;length")
    (tmp_path / "Node.csv").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "below").mkdir()
    server.on("ImportNetwork", after_reading(IMPORTED))
    client.import_network(str(tmp_path), NetworkFormat.SIMBENCH)
    assert sent_files(server) == {"Line.csv": b"id;length", "Node.csv": b""}


def test_several_files_and_contents_are_taken(client: Any, server: FakeServer, tmp_path: Path) -> None:
    for name in ("Line.csv", "Node.csv"):
        (tmp_path / name).write_text(name)
    server.on("ImportNetwork", after_reading(IMPORTED))
    client.import_network([tmp_path / "Line.csv", tmp_path / "Node.csv"], "SIMBENCH", three_phase=False)
    client.import_network({"a.json": b"{}"}, "POWER_GRID_MODEL")
    assert sent_files(server) == {"Line.csv": b"Line.csv", "Node.csv": b"Node.csv"}
    assert sent_files(server, 1) == {"a.json": b"{}"}
    assert sent_header(server).HasField("three_phase")


def test_a_large_file_goes_in_parts(client: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_files, "PART_BYTES", 4)
    server.on("ImportNetwork", after_reading(IMPORTED))
    client.import_network({"a.m": b"0123456789"}, "MATPOWER")
    assert len(server.asked("ImportNetwork")[0]) == 5
    assert sent_files(server) == {"a.m": b"0123456789"}


def test_a_lost_import_is_sent_again_with_the_same_id(client: Any, server: FakeServer) -> None:
    server.on("ImportNetwork", UNAVAILABLE, after_reading(IMPORTED))
    client.import_network({"a.m": b"x"}, "MATPOWER")
    second = server.asked("ImportNetwork")[1]
    assert second[0].header.request_id
    assert sent_files(server, 1) == {"a.m": b"x"}


@pytest.mark.parametrize(
    ("source", "network_format", "problem"),
    [
        ({"a.m": b""}, "MATPOWR", "unknown network format 'MATPOWR'; known are MATPOWER, PANDAPOWER"),
        ([], "MATPOWER", "there are no files"),
        ("", "SIMBENCH", "there are no files"),
        (["case.m", "below/case.m"], "MATPOWER", "there are two files named case.m"),
    ],
)
def test_what_cannot_be_sent_is_told_before(
    client: Any, server: FakeServer, tmp_path: Path, source: Any, network_format: str, problem: str
) -> None:
    for folder in (tmp_path / "files", tmp_path / "files" / "below", tmp_path / "empty"):
        folder.mkdir()
        if folder.name != "empty":
            (folder / "case.m").write_bytes(b"x")
    if isinstance(source, str):
        source = tmp_path / "empty"
    elif isinstance(source, list):
        source = [tmp_path / "files" / name for name in source]
    with pytest.raises(InvalidRequestError, match=problem):
        client.import_network(source, network_format)
    with pytest.raises(FileNotFoundError):
        client.import_network(tmp_path / "none.m", "MATPOWER")
    assert server.calls == []


def test_a_pandapower_network_is_sent_as_its_json(client: Any, server: FakeServer) -> None:
    pandapower = pytest.importorskip("pandapower")
    net = pandapower.create_empty_network(name="Street")
    pandapower.create_bus(net, vn_kv=0.4)
    server.on("ImportNetwork", after_reading(IMPORTED))
    client.import_pandapower(net, network_id="n-1")
    client.import_pandapower(net, display_name="other")
    (content,) = sent_files(server).values()
    read = pandapower.from_json_string(content.decode())
    assert read.bus["vn_kv"].tolist() == [0.4]
    header = sent_header(server)
    assert (header.format, header.display_name) == (network_pb2.NETWORK_FORMAT_PANDAPOWER, "Street")
    assert server.asked("ImportNetwork")[1][0].header.display_name == "other"


def test_a_missing_pandapower_is_told(client: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandapower", None)
    with pytest.raises(ImportError, match=r"pip install 'evflex\[pandapower\]'"):
        client.import_pandapower(object())
    assert server.calls == []


def test_a_network_that_exists_is_told(client: Any, server: FakeServer) -> None:
    server.on("ImportNetwork", failing(grpc.StatusCode.ALREADY_EXISTS, "there is a network n-1"))
    with pytest.raises(AlreadyExistsError):
        client.import_network({"a.m": b"x"}, "MATPOWER", network_id="n-1")


def test_tables_come_by_the_names_of_buses_and_branches(client: Any, server: FakeServer) -> None:
    server.on("GetNetwork", UNAVAILABLE, streaming(network_answers()))
    network = client.get_network("n-1", return_tables=True)
    assert list(network.buses.index) == ["0", "1", "2"]
    assert network.buses["load_p_kw"].tolist() == [0.0, 100.0, 200.0]
    assert network.buses["voltage_min_pu"].isna().tolist() == [True, False, False]
    line = network.branches.loc["line 7"]
    assert line[["kind", "from_bus_id", "to_bus_id", "r_pu"]].tolist() == ["LINE", "1", "2", 0.02]
    assert network.branches["from_closed"].tolist() == [True, False]
    assert network.sources.loc["0", "voltage_pu"] == 1.02
    assert network.generators.empty
    assert list(network.generators.columns) == ["p_kw", "voltage_pu"]
    assert network.create_time == pd.Timestamp("2026-01-14T17:00:00Z")


def test_loads_by_phase_have_a_column_each(client: Any, server: FakeServer) -> None:
    server.on("GetNetwork", streaming(network_answers(3)))
    buses = client.get_network("n-1", return_tables=True).buses
    assert buses.loc["1", ["load_p_kw.L1", "load_p_kw.L2", "load_p_kw.L3"]].tolist() == [10.0, 20.0, 30.0]
    assert buses.loc["2", "load_p_kw.L3"] == 240.0


def test_tables_are_not_fetched_unless_asked_for(client: Any, server: FakeServer) -> None:
    server.on("GetNetwork", streaming(network_answers(tables=False)))
    assert client.get_network("n-1").branches is None
    assert not server.asked("GetNetwork")[0].return_tables


def test_tables_that_broke_off_begin_anew(client: Any, server: FakeServer) -> None:
    lost = streaming(network_answers()[:2], grpc.StatusCode.UNAVAILABLE)
    server.on("GetNetwork", lost, streaming(network_answers()))
    assert len(client.get_network("n-1", return_tables=True).buses) == 3


@pytest.mark.parametrize(
    "messages", [[], network_answers()[:2], network_answers()[1:]], ids=["none", "short", "headless"]
)
def test_a_network_that_is_not_whole_is_an_error(client: Any, server: FakeServer, messages: list[Any]) -> None:
    server.on("GetNetwork", streaming(messages))
    with pytest.raises(ServerError, match="the server's stream ended before the network was whole"):
        client.get_network("n-1", return_tables=True)


def test_networks_are_listed_and_deleted(client: Any, server: FakeServer) -> None:
    pages = [
        pb.ListNetworksResponse(networks=[network_message("n-1")], next_page_token="more"),
        pb.ListNetworksResponse(networks=[network_message("n-2")]),
    ]
    server.on("ListNetworks", *map(answering, pages))
    server.on("DeleteNetwork", UNAVAILABLE, answering(pb.DeleteNetworkResponse()))
    assert [network.network_id for network in client.list_networks(page_size=1)] == ["n-1", "n-2"]
    client.delete_network("n-1", etag="e-1")
    first, second = server.asked("DeleteNetwork")
    assert first == second
    assert (first.network_id, first.etag) == ("n-1", "e-1")
