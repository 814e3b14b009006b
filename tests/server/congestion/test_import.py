"""Networks come in as streams of files, are read as a whole, and are there with the commit or not at all."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.congestion.v1 import network_pb2
from evflex.engine.grid.formats import NetworkFormat
from evflex.server.caller import Caller
from tests.server.congestion.support import (
    FakeGridEngine,
    RunningCongestion,
    header,
    imported,
    refused,
    running_congestion,
    toy,
    upload,
)
from tests.server.support import info_of, reason_of, status_of, until, violations_of


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCongestion]:
    with running_congestion(tmp_path_factory.mktemp("server"), max_import_bytes=5_000, max_import_files=3) as server:
        yield server


def import_error(here: RunningCongestion, messages: list[Any]) -> Any:
    error = refused(here.congestion.ImportNetwork, iter(messages))
    gone = refused(here.congestion.GetNetwork, api.GetNetworkRequest(network_id="never"))
    assert gone.code() is grpc.StatusCode.NOT_FOUND
    return error


def faults(here: RunningCongestion, *files: tuple[str, bytes], **fields: Any) -> dict[str, str]:
    error = import_error(here, upload(header(**{"network_id": "never", **fields}), *files))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return violations_of(error)


def test_a_network_is_there_with_the_commit(here: RunningCongestion) -> None:
    network = imported(here, toy(5, cut=[2], notes=["taps have no effect"]), network_id="five", area_id="north")
    assert (network.network_id, network.display_name, network.tenant_id, network.area_id) == (
        "five", "Toy", "default", "north",
    )  # fmt: skip
    assert (network.bus_count, network.branch_count, network.source_count, network.generator_count) == (5, 4, 1, 0)
    assert (network.phase_count, network.base_kva, network.load_kw, network.load_kvar) == (1, 1000.0, 100.0, 50.0)
    assert network.islanded_bus_count == 2
    assert list(network.notes) == ["taps have no effect"]
    assert network.format == network_pb2.NETWORK_FORMAT_PANDAPOWER
    assert network.etag
    assert network.create_time == network.update_time


def test_parts_of_a_file_are_joined_in_the_order_in_which_they_come(here: RunningCongestion) -> None:
    whole = toy(3)
    other = b"elsewhere"
    messages = upload(
        header(network_id="parts", format=network_pb2.NETWORK_FORMAT_SIMBENCH),
        ("toy.json", whole[:5]), ("folder/other.csv", other[:4]), ("toy.json", whole[5:]),
        ("folder/other.csv", other[4:]),
    )  # fmt: skip
    assert here.congestion.ImportNetwork(iter(messages)).network.bus_count == 3
    assert here.engine.formats[-1] == (
        NetworkFormat.SIMBENCH, {"toy.json": whole, "folder/other.csv": other}, None,
    )  # fmt: skip


@pytest.mark.parametrize("three_phase", [True, False])
def test_phases_are_told_apart_when_asked_for(here: RunningCongestion, three_phase: bool) -> None:
    network = imported(here, network_id=f"phases-{three_phase}", three_phase=three_phase)
    assert here.engine.formats[-1][2] is three_phase
    assert network.phase_count == (3 if three_phase else 1)


def test_the_server_names_a_network_that_has_no_name(here: RunningCongestion) -> None:
    network = imported(here, network_id="")
    assert len(network.network_id) == 36
    answer = list(here.congestion.GetNetwork(api.GetNetworkRequest(network_id=network.network_id)))
    assert answer[0].network == network


def test_another_network_of_the_same_name_is_refused(here: RunningCongestion) -> None:
    imported(here, network_id="taken")
    error = refused(here.congestion.ImportNetwork, iter(upload(header(network_id="taken"), ("toy.json", toy()))))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "NETWORK_EXISTS")


def test_only_checked_is_not_stored(here: RunningCongestion) -> None:
    network = imported(here, network_id="never", validate_only=True, request_id="")
    assert (network.bus_count, network.network_id, network.etag) == (4, "", "")
    assert not network.HasField("create_time")
    assert "toy.json" in faults(here, ("toy.json", b"no JSON"), validate_only=True)


def test_each_refused_element_is_a_fault(here: RunningCongestion) -> None:
    content = toy(refused=["trafo3w[0]", "ward[2]"])
    assert faults(here, ("toy.json", content)) == {
        "trafo3w[0]": "is not known here", "ward[2]": "is not known here",
    }  # fmt: skip


def test_refused_elements_are_told_where_they_are_allowed(here: RunningCongestion) -> None:
    network = imported(here, toy(refused=["trafo3w[0]", "ward[2]"]), network_id="allowed", allow_refusals=True)
    assert network.refusal_count == 2
    assert [(r.element, r.reason) for r in network.refusals] == [
        ("trafo3w[0]", "is not known here"), ("ward[2]", "is not known here"),
    ]  # fmt: skip


def test_many_refused_elements_are_counted_and_the_first_told(tmp_path: Path) -> None:
    content = toy(refused=[f"ward[{i}]" for i in range(1_500)], notes=["n"] * 1_500)
    with running_congestion(tmp_path) as here:
        network = imported(here, content, allow_refusals=True)
        assert (network.refusal_count, len(network.refusals), len(network.notes)) == (1_500, 1_000, 1_000)
        error = refused(here.congestion.ImportNetwork, iter(upload(header(network_id="never"), ("toy.json", content))))
        assert info_of(error)["violation_count"] == "1500"
        assert len(violations_of(error)) == 100


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"request_id": "no-uuid"}, "header.request_id"),
        ({"request_id": ""}, "header.request_id"),
        ({"network_id": "a\nb"}, "header.network_id"),
        ({"display_name": "x" * 257}, "header.display_name"),
        ({"area_id": "\x00"}, "header.area_id"),
        ({"format": 0}, "header.format"),
        ({"format": 99}, "header.format"),
    ],
)
def test_a_header_that_is_wrong_is_refused(here: RunningCongestion, fields: dict[str, Any], path: str) -> None:
    assert path in faults(here, ("toy.json", toy()), **fields)


def test_a_file_needs_a_name_and_a_network_a_file(here: RunningCongestion) -> None:
    assert list(faults(here, ("", b"x"), ("a\tb", b""), ("ok", b""))) == ["chunks[0].file_name", "chunks[1].file_name"]
    assert list(faults(here)) == ["chunks"]


def test_the_order_is_header_chunks_commit(here: RunningCongestion) -> None:
    first, chunk, last = upload(header(network_id="never"), ("toy.json", toy()))
    nothing = api.ImportNetworkRequest()
    for messages, path in (
        ([], "header"), ([chunk, last], "header"), ([first, chunk], "commit"), ([first, first, chunk, last], "header"),
        ([first, chunk, last, chunk], "commit"), ([first, nothing, last], "payload"), ([nothing], "header"),
    ):  # fmt: skip
        error = import_error(here, messages)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations_of(error)) == [path]


def test_too_many_bytes_and_files_are_refused_while_they_come(here: RunningCongestion) -> None:
    part = ("toy.json", b"x" * 3_000)
    error = import_error(here, upload(header(network_id="never"), part, part))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info_of(error) == {"limit": "max_import_bytes", "maximum": "5000", "value": "6000"}
    files = [(f"file-{i}", b"") for i in range(4)]
    assert info_of(import_error(here, upload(header(network_id="never"), *files)))["limit"] == "max_import_files"


def test_a_stream_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    messages: queue.Queue[Any] = queue.Queue()
    messages.put(upload(header())[0])
    with running_congestion(tmp_path, max_upload_silence_s=0.3) as here:
        error = refused(here.congestion.ImportNetwork, iter(messages.get, None))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.DEADLINE_EXCEEDED, "UPLOAD_SILENT")
        messages.put(None)
        assert imported(here).bus_count == 4


def test_the_same_request_gets_the_same_answer_and_another_payload_none(here: RunningCongestion) -> None:
    head = header(network_id="again")
    messages = upload(head, ("toy.json", toy()))
    first = here.congestion.ImportNetwork(iter(messages))
    read = len(here.engine.formats)
    assert here.congestion.ImportNetwork(iter(messages)) == first
    assert len(here.engine.formats) == read
    error = refused(here.congestion.ImportNetwork, iter(upload(head, ("toy.json", toy(5)))))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


def test_the_same_request_sent_twice_at_once_makes_one_network(tmp_path: Path) -> None:
    messages = upload(header(network_id=""), ("toy.json", toy()))
    answers: list[Any] = []
    with running_congestion(tmp_path) as here:
        threads = [
            threading.Thread(target=lambda: answers.append(here.congestion.ImportNetwork(iter(messages))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 4
        assert all(answer == answers[0] for answer in answers)
        assert len(here.congestion.ListNetworks(api.ListNetworksRequest()).networks) == 1


def test_a_stream_that_breaks_changes_nothing(tmp_path: Path) -> None:
    gate = threading.Event()

    def breaking() -> Iterator[Any]:
        yield from upload(header(), ("toy.json", toy()))[:2]
        gate.wait(10.0)

    with running_congestion(tmp_path, max_congestion_streams=1) as here:
        calls = [here.congestion.ImportNetwork.future(breaking())]

        def holds_the_place() -> bool:
            if calls[-1].done():  # the look itself had the place when it came
                calls.append(here.congestion.ImportNetwork.future(breaking()))
            return refused_as_busy(here)

        until(holds_the_place)
        calls[-1].cancel()
        gate.set()
        until(lambda: not refused_as_busy(here))
        assert not here.congestion.ListNetworks(api.ListNetworksRequest()).networks
        assert imported(here).network_id == "net"


def refused_as_busy(here: RunningCongestion) -> bool:
    error = refused(here.congestion.GetNetwork, api.GetNetworkRequest(network_id="none"))
    return reason_of(error) == "TOO_MANY_STREAMS"


def test_an_area_that_the_caller_may_not_use_is_refused(tmp_path: Path) -> None:
    def resolve(metadata: object, peer: str) -> Caller:
        return Caller("default", areas=frozenset({"north"}))

    with running_congestion(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        messages = upload(header(area_id="south"), ("toy.json", toy()))
        assert refused(here.congestion.ImportNetwork, iter(messages)).code() is grpc.StatusCode.PERMISSION_DENIED
        assert imported(here, area_id="north").area_id == "north"


def test_reading_and_writing_need_their_scopes(tmp_path: Path) -> None:
    def resolve(metadata: object, peer: str) -> Caller:
        return Caller("default", scopes=frozenset({"congestion.read"}))

    with running_congestion(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        error = refused(here.congestion.ImportNetwork, iter(upload(header())))
        assert info_of(error)["scope"] == "congestion.write"
        assert not here.congestion.ListNetworks(api.ListNetworksRequest()).networks


def test_an_error_of_the_reader_tells_nothing_of_it(tmp_path: Path) -> None:
    engine = FakeGridEngine(read_error=RuntimeError("secret"))
    with running_congestion(tmp_path, engine) as here:
        error = refused(here.congestion.ImportNetwork, iter(upload(header(), ("toy.json", toy()))))
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in str(status_of(error))
