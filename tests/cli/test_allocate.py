"""`evflex allocate` and the RPCs of the capacity service: JSON in, JSON out, streams as JSON lines."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2
from typer.testing import CliRunner, Result

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.cli.main import app
from tests.cli.serving import EVFLEX
from tests.client.capacity.messages import (
    agreement_message,
    allocation_message,
    booking_message,
    grid_message,
    hub_capacity,
)
from tests.client.capacity.test_tracking import echo, event
from tests.client.fake_server import FakeServer, answering, failing

Write = Callable[[Any], str]
Run = Callable[..., Result]

REQUEST: dict[str, Any] = {
    "time_grid": {"start_time": "2026-01-14T17:00:00Z", "step_duration": "900s", "step_count": 2},
    "transformer": {"transformer_id": "t-1", "rated_kva": 630, "distribution": True},
    "loading": {"forecast": {"load_kw": [300, 320]}},
    "hubs": [{"hub_id": "homes", "demand_kw": [60, 60], "max_kw": 160}],
    "policy": "ALLOCATION_POLICY_PROPORTIONAL",
}
HEADER = {"header": {"transformer": {"transformer_id": "t-1", "rated_kva": 630}, "hubs": [{"hub_id": "homes"}]}}
MEASUREMENT = {"measurement": {"measurement_time": "2026-01-14T17:00:00Z", "current_a": [400, 410, 390]}}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.on("AllocateCapacity", answering(pb.AllocateCapacityResponse(allocation=allocation_message())))
    fake.on("TrackCapacity", echo)
    yield fake
    fake.stop()


@pytest.fixture
def run(server: FakeServer) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        runner = CliRunner(env={"EVFLEX_SERVER": server.address, "COLUMNS": "200", "NO_COLOR": "1"})
        return runner.invoke(app, list(arguments), input=stdin)

    return invoke


def test_the_allocation_is_json_on_standard_output(run: Run, server: FakeServer, write: Write) -> None:
    result = run("allocate", "--request", write(REQUEST))
    assert result.exit_code == 0, result.stderr
    allocation = json.loads(result.stdout)["allocation"]
    assert allocation["hubs"][0]["capacity_kw"] == [30.0, 20.0]
    assert allocation["binding"][0]["reason"] == "BINDING_REASON_CONTINGENCY"
    (sent,) = server.asked("AllocateCapacity")
    assert sent.transformer.rated_kva == 630.0
    assert sent.request_id


def test_the_request_may_come_from_standard_input(run: Run, server: FakeServer) -> None:
    result = run("allocate", "--request", "-", stdin=json.dumps(REQUEST, indent=2))
    assert result.exit_code == 0, result.stderr
    assert list(server.asked("AllocateCapacity")[0].loading.forecast.load_kw) == [300.0, 320.0]


def test_the_party_is_told_to_the_server(run: Run, server: FakeServer, write: Write) -> None:
    assert run("allocate", "--request", write(REQUEST), "--tenant", "grid-company").exit_code == 0
    assert server.calls[0][2]["evflex-tenant"] == "grid-company"
    assert run("allocate", "--request", write(REQUEST)).exit_code == 0
    assert "evflex-tenant" not in server.calls[1][2]


def test_a_refusal_names_the_rules_and_ends_with_1(run: Run, server: FakeServer, write: Write) -> None:
    fault = error_details_pb2.BadRequest()
    fault.field_violations.add(field="hubs[0].max_kw", description="must be finite and > 0, is -1")
    server.on("AllocateCapacity", failing(grpc.StatusCode.INVALID_ARGUMENT, "the request breaks rules", fault))
    result = run("allocate", "--request", write(REQUEST))
    assert result.exit_code == 1
    assert "the request breaks 1 rule" in result.stderr
    assert "hubs[0].max_kw: must be finite and > 0, is -1" in result.stderr


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (REQUEST | {"hub": []}, 'has no field "hub"; did you mean "hubs"?'),
        (REQUEST | {"hubs": [{"max_kv": 1}]}, 'hubs[0] has no field "max_kv"; did you mean "max_kw"?'),
        (REQUEST | {"policy": "MAXMIN"}, "MAXMIN"),
        ('{"hubs": [}', "is no JSON: Expecting value at line 1, column 11"),
        (None, "give the request with --request FILE"),
    ],
)
def test_a_request_that_cannot_be_used_ends_with_2(
    run: Run, server: FakeServer, write: Write, request_: Any, problem: str
) -> None:
    result = run("allocate", *(["--request", write(request_)] if request_ else []))
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


UNARY = {
    "RateTransformer": pb.RateTransformerResponse(rating=pb.TransformerRating(time_grid=grid_message())),
    "AllocateCapacity": pb.AllocateCapacityResponse(allocation=allocation_message()),
    "GetAllocation": pb.GetAllocationResponse(allocation=allocation_message()),
    "ListAllocations": pb.ListAllocationsResponse(next_page_token="more"),
    "DeleteAllocation": pb.DeleteAllocationResponse(),
    "ProposeAgreement": pb.ProposeAgreementResponse(agreement=agreement_message()),
    "AcceptAgreement": pb.AcceptAgreementResponse(agreement=agreement_message("ACTIVE")),
    "EndAgreement": pb.EndAgreementResponse(agreement=agreement_message("ENDED")),
    "GetAgreement": pb.GetAgreementResponse(agreement=agreement_message()),
    "ListAgreements": pb.ListAgreementsResponse(agreements=[agreement_message()]),
    "BookCapacity": pb.BookCapacityResponse(booking=booking_message()),
    "ReleaseBooking": pb.ReleaseBookingResponse(booking=booking_message(released=True)),
    "ListBookings": pb.ListBookingsResponse(bookings=[booking_message()]),
}


@pytest.mark.parametrize("rpc", UNARY)
def test_every_unary_rpc_can_be_called(run: Run, server: FakeServer, rpc: str) -> None:
    server.on(rpc, answering(UNARY[rpc]))
    result = run("call", f"CapacityService/{rpc}", "--request", "-", "--tenant", "dso", stdin="{}")
    assert result.exit_code == 0, result.stderr
    assert json_format.ParseDict(json.loads(result.stdout), type(UNARY[rpc])()) == UNARY[rpc]
    assert server.calls[0][2]["evflex-tenant"] == "dso"


def test_a_watch_is_printed_as_json_lines(run: Run, server: FakeServer) -> None:
    changed = event(pb.CAPACITY_EVENT_KIND_CHANGED, "2", hub_capacity("homes", 60.0))
    server.on("WatchCapacity", lambda _request, _context: iter([changed, event(pb.CAPACITY_EVENT_KIND_HEARTBEAT)]))
    result = run("call", "CapacityService/WatchCapacity")
    assert result.exit_code == 0, result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["hubs"][0]["capacity_kw"] == 60.0
    assert second["kind"] == "CAPACITY_EVENT_KIND_HEARTBEAT"


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_tracking_is_json_lines_both_ways(run: Run, server: FakeServer, write: Write, source: str) -> None:
    lines = "\n".join(map(json.dumps, [HEADER, MEASUREMENT, {"changes": {"cut_kw": 0}}]))
    given, stdin = ("-", lines) if source == "standard input" else (write(lines), None)
    result = run("call", "CapacityService/TrackCapacity", "--request", given, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer.get("outcome") for answer in answers] == [None, "MEASUREMENT_OUTCOME_ACCEPTED", None]
    assert answers[1]["hubs"][0]["capacity_kw"] == 400.0
    assert len(server.asked("TrackCapacity")[0]) == 3


def test_a_bad_line_of_a_file_is_told_before_anything_is_sent(run: Run, server: FakeServer, write: Write) -> None:
    lines = json.dumps(HEADER) + "\n" + json.dumps({"measurment": {}})
    result = run("call", "CapacityService/TrackCapacity", "--request", write(lines))
    assert result.exit_code == 2
    assert 'did you mean "measurement"?' in result.stderr
    assert server.calls == []


def test_a_bad_line_of_standard_input_ends_the_stream_and_is_told(run: Run, server: FakeServer) -> None:
    lines = json.dumps(HEADER, indent=2) + "\n\n" + '{"measurement": {]}\n' + json.dumps(MEASUREMENT)
    result = run("call", "CapacityService/TrackCapacity", "--request", "-", stdin=lines)
    assert result.exit_code == 2
    line = json.dumps(HEADER, indent=2).count("\n") + 3
    assert f"standard input is no JSON: Expecting property name enclosed in double quotes at line {line}" in (
        result.stderr
    )
    assert len(result.stdout.splitlines()) == 1
    assert len(server.asked("TrackCapacity")[0]) == 1


@pytest.mark.slow
def test_a_line_is_answered_before_the_next_is_written(server: FakeServer) -> None:
    with tracking_process(server) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (HEADER, MEASUREMENT, MEASUREMENT):
            process.stdin.write(json.dumps(message, indent=1) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["hubs"]
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.slow
def test_a_server_that_ends_the_stream_ends_the_command_though_input_is_open(server: FakeServer) -> None:
    server.on("TrackCapacity", failing(grpc.StatusCode.PERMISSION_DENIED, "not yours"))
    with tracking_process(server) as process:
        assert process.stderr is not None
        assert process.wait(30) == 1
        told = process.stderr.read()
    assert "TrackCapacity failed [PERMISSION_DENIED]: not yours" in told
    assert "Fatal" not in told


def tracking_process(server: FakeServer) -> subprocess.Popen[str]:
    command = [EVFLEX, "call", "CapacityService/TrackCapacity", "--request", "-", "--server", server.address]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
