"""`evflex forecast` and the RPCs of the congestion service: JSON in, JSON out, and a network from a file first."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2
from typer.testing import CliRunner, Result

from evflex.cli.main import app
from evflex.congestion.v1 import congestion_service_pb2 as pb
from tests.client.congestion.messages import (
    flow_answers,
    forecast_answers,
    forecast_message,
    network_answers,
    network_message,
    overload,
    overvoltage,
    stored_answers,
    streaming,
)
from tests.client.congestion.test_load_forecasts import forecast_message as load_message
from tests.client.congestion.test_networks import sent_files, sent_header
from tests.client.fake_server import FakeServer, after_reading, answering, failing

Write = Callable[[Any], str]
Run = Callable[..., Result]

REQUEST: dict[str, Any] = {
    "network_id": "n-1",
    "time_grid": {"start_time": "2026-01-14T17:00:00Z", "step_duration": "900s", "step_count": 4},
    "injections": {"bus_ids": ["1"], "p_kw": [10, 20, 30, 40]},
    "contingencies": {"selection": "CONTINGENCY_SELECTION_ALL_BRANCHES"},
}
MATPOWER = ("--format", "MATPOWER")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.on("ForecastCongestion", streaming(forecast_answers()))
    fake.on("ImportNetwork", after_reading(pb.ImportNetworkResponse(network=network_message("n-7"))))
    yield fake
    fake.stop()


@pytest.fixture
def run(server: FakeServer) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        runner = CliRunner(env={"EVFLEX_SERVER": server.address, "COLUMNS": "200", "NO_COLOR": "1"})
        return runner.invoke(app, list(arguments), input=stdin)

    return invoke


@pytest.fixture
def case(tmp_path: Path) -> str:
    path = tmp_path / "case.m"
    path.write_bytes(b"function mpc = case")
    return str(path)


def test_the_forecast_is_one_object_of_json(run: Run, server: FakeServer, write: Write) -> None:
    result = run("forecast", "--request", write(REQUEST), "--tenant", "dso")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert list(answer) == ["summary", "congestions"]
    assert json_format.ParseDict(answer["summary"], type(forecast_message())()) == forecast_message()
    rows = [json_format.ParseDict(row, type(overload())()) for row in answer["congestions"]]
    assert rows == [overvoltage(), overload()]
    assert answer["congestions"][1]["relief_needed_kw"] == [10.0, 25.0]
    (sent,) = server.asked("ForecastCongestion")
    assert list(sent.injections.p_kw) == [10.0, 20.0, 30.0, 40.0]
    assert sent.request_id
    assert server.calls[0][2]["evflex-tenant"] == "dso"


def test_worst_values_are_put_together(run: Run, server: FakeServer, write: Write) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers(worst=True)))
    result = run("forecast", "--request", write(REQUEST | {"return_worst": True}))
    assert result.exit_code == 0, result.stderr
    worst = json.loads(result.stdout)["worst"]
    assert worst["step_count"] == 4
    assert "first_step" not in worst
    assert worst["branch_loading_ratio"] == [0.0, "NaN", 1.0, "NaN", 2.0, "NaN", 3.0, "NaN"]
    assert server.asked("GetNetwork") == []


def test_no_congestion_is_an_empty_list(run: Run, server: FakeServer, write: Write) -> None:
    none = pb.ForecastCongestionResponse(summary=forecast_message(congestion_count=0))
    server.on("ForecastCongestion", streaming([none]))
    assert json.loads(run("forecast", "--request", write(REQUEST)).stdout)["congestions"] == []


def test_a_lost_forecast_is_asked_again_and_told_once(run: Run, server: FakeServer, write: Write) -> None:
    lost = streaming(forecast_answers()[:3], grpc.StatusCode.UNAVAILABLE)
    server.on("ForecastCongestion", lost, streaming(forecast_answers()))
    result = run("forecast", "--request", write(REQUEST))
    assert result.exit_code == 0, result.stderr
    assert [row["element_id"] for row in json.loads(result.stdout)["congestions"]] == ["1", "line 7"]


def test_a_network_is_imported_first(run: Run, server: FakeServer, write: Write, case: str) -> None:
    result = run("forecast", "--request", write(REQUEST), "--network", case, *MATPOWER, "--allow-refusals")
    assert result.exit_code == 0, result.stderr
    header = sent_header(server)
    assert (header.network_id, header.display_name, header.allow_refusals) == ("n-1", "case.m", True)
    assert sent_files(server) == {"case.m": b"function mpc = case"}
    assert server.asked("ForecastCongestion")[0].network_id == "n-7"


def test_a_folder_may_be_a_network(run: Run, server: FakeServer, write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    folder.mkdir()
    (folder / "Line.csv").write_bytes(b"id")
    result = run("forecast", "--request", write(REQUEST), "--network", str(folder), "--format", "simbench")
    assert result.exit_code == 0, result.stderr
    assert sent_files(server) == {"Line.csv": b"id"}


def test_a_network_that_is_refused_ends_with_1(run: Run, server: FakeServer, write: Write, case: str) -> None:
    fault = error_details_pb2.BadRequest()
    fault.field_violations.add(field="bus[3]", description="has no voltage")
    server.on("ImportNetwork", failing(grpc.StatusCode.INVALID_ARGUMENT, "the request breaks rules", fault))
    result = run("forecast", "--request", write(REQUEST), "--network", case, *MATPOWER)
    assert result.exit_code == 1
    assert "bus[3]: has no voltage" in result.stderr
    assert server.asked("ForecastCongestion") == []


@pytest.mark.parametrize(
    ("network", "flags", "problem"),
    [
        ("case.m", [], "say what case.m is with --format: MATPOWER, PANDAPOWER, POWER_GRID_MODEL, SIMBENCH"),
        ("none.m", MATPOWER, "cannot read none.m: No such file"),
        ("empty", MATPOWER, "empty cannot be used as a network: there are no files in empty"),
        ("case.m", ["--format", "CIM"], "'CIM' is not one of"),
    ],
)
def test_a_network_that_cannot_be_read_ends_with_2(
    run: Run, server: FakeServer, write: Write, case: str, monkeypatch: pytest.MonkeyPatch, network: str,
    flags: list[str], problem: str,
) -> None:  # fmt: skip
    folder = Path(case).parent
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    result = run("forecast", "--request", write(REQUEST), "--network", network, *flags)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (REQUEST | {"network": "n-1"}, 'has no field "network"; did you mean "network_id"?'),
        ('{"network_id": }', "is no JSON"),
        (None, "give the request with --request FILE"),
    ],
)
def test_a_request_that_cannot_be_used_ends_with_2(
    run: Run, server: FakeServer, write: Write, request_: Any, problem: str
) -> None:
    result = run("forecast", *(["--request", write(request_)] if request_ else []))
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


def test_a_refusal_ends_with_1(run: Run, server: FakeServer, write: Write) -> None:
    server.on("ForecastCongestion", failing(grpc.StatusCode.NOT_FOUND, "no network n-1"))
    result = run("forecast", "--request", write(REQUEST))
    assert result.exit_code == 1
    assert "ForecastCongestion failed [NOT_FOUND]: no network n-1" in result.stderr


def test_a_stream_that_is_not_whole_ends_with_1(run: Run, server: FakeServer, write: Write) -> None:
    server.on("ForecastCongestion", streaming(forecast_answers()[:-1]))
    result = run("forecast", "--request", write(REQUEST))
    assert result.exit_code == 1
    assert "ended before the forecast was whole" in result.stderr
    assert result.stdout == ""


def test_a_network_can_be_imported_as_json_lines(run: Run, server: FakeServer) -> None:
    content = b"function mpc = case"
    lines = [
        {"header": {"format": "NETWORK_FORMAT_MATPOWER", "network_id": "n-7"}},
        {"chunk": {"file_name": "case.m", "content": base64.b64encode(content).decode()}},
        {"commit": {}},
    ]
    result = run("call", "CongestionService/ImportNetwork", "--request", "-", stdin="\n".join(map(json.dumps, lines)))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["network"]["network_id"] == "n-7"
    assert sent_files(server) == {"case.m": content}


UNARY = {
    "ListNetworks": pb.ListNetworksResponse(networks=[network_message()]),
    "DeleteNetwork": pb.DeleteNetworkResponse(),
    "ForecastLoad": pb.ForecastLoadResponse(forecast=load_message()),
    "ListForecasts": pb.ListForecastsResponse(forecasts=[forecast_message()]),
    "DeleteForecast": pb.DeleteForecastResponse(),
}
STREAMS: dict[str, list[Any]] = {
    "GetNetwork": network_answers(),
    "RunPowerFlow": flow_answers(),
    "ForecastCongestion": forecast_answers(worst=True),
    "GetForecast": stored_answers(worst=True),
}


@pytest.mark.parametrize("rpc", UNARY)
def test_every_unary_rpc_can_be_called(run: Run, server: FakeServer, rpc: str) -> None:
    server.on(rpc, answering(UNARY[rpc]))
    result = run("call", f"CongestionService/{rpc}", "--request", "-", stdin="{}")
    assert result.exit_code == 0, result.stderr
    # NaN is no equal of itself
    assert str(json_format.ParseDict(json.loads(result.stdout), type(UNARY[rpc])())) == str(UNARY[rpc])


@pytest.mark.parametrize("rpc", STREAMS)
def test_every_stream_is_printed_as_json_lines(run: Run, server: FakeServer, rpc: str) -> None:
    server.on(rpc, streaming(STREAMS[rpc]))
    result = run("call", f"CongestionService/{rpc}")
    assert result.exit_code == 0, result.stderr
    kind = type(STREAMS[rpc][0])
    told = [str(json_format.ParseDict(json.loads(line), kind())) for line in result.stdout.splitlines()]
    assert told == list(map(str, STREAMS[rpc]))
