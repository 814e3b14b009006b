"""Running it: health, reflection, metrics, logs, traces, draining, and what a kill leaves behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.server.log import make_log
from tests.server.support import (
    FakeEngine,
    answers_of,
    one_by_one,
    open_channel,
    reason_of,
    running,
    site_request,
    stored_request,
    stub_of,
    until,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "evflex.charging.v1.ChargingService"


def health_stub(channel: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def health_of(channel: Any, service: str = "") -> int:
    return int(health_stub(channel).Check(health_pb2.HealthCheckRequest(service=service)).status)


def test_health_reports_serving_only_after_the_warm_up(tmp_path: Path) -> None:
    engine = FakeEngine(warm_up_gate=threading.Event())
    assert engine.warm_up_gate is not None
    with running(tmp_path, engine) as here:
        assert [health_of(here.channel, name) for name in ("", SERVICE)] == [NOT_SERVING] * 2
        watch = health_stub(here.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watch).status == NOT_SERVING
        engine.warm_up_gate.set()
        assert next(watch).status == SERVING
        assert here.server.wait_until_serving(5.0)
        assert [health_of(here.channel, name) for name in ("", SERVICE)] == [SERVING] * 2
        watch.cancel()


def test_failed_warm_up_never_serves(tmp_path: Path) -> None:
    with running(tmp_path, FakeEngine(warm_up_error=RuntimeError("no compiler"))) as here:
        assert not here.server.wait_until_serving(10.0)
        assert here.server.failed
        assert health_of(here.channel) == NOT_SERVING


def test_reflection_describes_the_service(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        database = ProtoReflectionDescriptorDatabase(here.channel)
        assert SERVICE in database.get_services()
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        assert "OptimizeSchedule" in service.methods_by_name


def test_metrics_tell_calls_and_solves(tmp_path: Path) -> None:
    with running(tmp_path, metrics_listen="127.0.0.1:0") as here:
        here.stub.OptimizeSchedule(site_request())
        with pytest.raises(grpc.RpcError):
            here.stub.OptimizeSchedule(site_request(site_id=""))
        url = f"http://127.0.0.1:{here.server.metrics_port}/metrics"
        text = urllib.request.urlopen(url, timeout=5.0).read().decode()
    method = "/evflex.charging.v1.ChargingService/OptimizeSchedule"
    assert f'evflex_rpcs_total{{code="OK",method="{method}"}} 1.0' in text
    assert f'evflex_rpcs_total{{code="INVALID_ARGUMENT",method="{method}"}} 1.0' in text
    assert 'evflex_solves_total{reason="OPTIMAL"} 1.0' in text
    for name in ("solve_seconds_count 1", "solve_relative_gap_count 1", "solves_running 0", "solves_queued 0"):
        assert f"evflex_{name}" in text
    assert "site-1" not in text
    assert "session-0" not in text


def test_log_is_json_with_request_ids_and_without_personal_data(tmp_path: Path) -> None:
    stream = io.StringIO()
    engine = FakeEngine()
    log = make_log("info", stream)
    with running(tmp_path, engine, server_arguments={"log": log}) as here:
        here.stub.OptimizeSchedule(stored_request(), metadata=(("x-request-id", "id-1"),))
        engine.error = ValueError("session-0 at evse-0")
        with pytest.raises(grpc.RpcError):
            here.stub.OptimizeSchedule(site_request(), metadata=(("x-request-id", "id-2"),))
        request = site_request()
        request.sessions[0].node_id = "nowhere"
        with pytest.raises(grpc.RpcError):
            here.stub.OptimizeSchedule(request)
        list(here.stub.OptimizeSchedules(one_by_one(site_request())))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    calls = {line["request_id"]: line for line in lines if line["event"] == "rpc"}
    assert calls["id-1"]["code"] == "OK"
    assert calls["id-1"]["duration_ms"] > 0
    assert calls["id-2"]["code"] == "INTERNAL"
    (error, *_) = [line for line in lines if line["event"] == "unexpected error"]
    assert error["exception"] == "ValueError"
    assert any("optimize_schedule" in place for place in error["places"])
    for personal in ("session-0", "evse-0", "site-1", "nowhere"):
        assert personal not in stream.getvalue()


def test_traces_go_to_the_configured_endpoint(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.grpc", reason="needs the extra otel")
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    names: list[str] = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: object, context: grpc.ServicerContext) -> object:  # noqa: N802
            for resource in request.resource_spans:  # type: ignore[attr-defined]
                names.extend(span.name for scope in resource.scope_spans for span in scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), collector)  # type: ignore[no-untyped-call]
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    try:
        with running(tmp_path, otel_endpoint=f"http://127.0.0.1:{port}") as here:
            here.stub.OptimizeSchedule(site_request())
    finally:
        collector.stop(0).wait()
    assert "/evflex.charging.v1.ChargingService/OptimizeSchedule" in names


def test_drain_finishes_what_runs_and_takes_nothing_new(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine) as here:
        assert here.server.wait_until_serving(5.0)
        call = here.stub.OptimizeSchedule.future(stored_request(), timeout=30.0)
        watch = here.stub.WatchSchedules(api.WatchSchedulesRequest(), timeout=30.0)
        stream = here.stub.OptimizeSchedules(_one_and_silence(), timeout=30.0)
        assert next(watch).kind == api.SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE
        for _ in range(2):
            assert engine.started.acquire(timeout=10.0)
        stopper = threading.Thread(target=here.server.stop, args=(20.0,))
        stopper.start()
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(ended.value) == "SHUTTING_DOWN"
        with open_channel(here.server.port) as late, pytest.raises(grpc.RpcError) as refused:
            stub_of(late).ListSchedules(api.ListSchedulesRequest(), timeout=5.0)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        engine.release.set()
        schedule = call.result().schedule
        assert schedule.schedule_id
        assert next(stream).answers[0].HasField("summary")
        with pytest.raises(grpc.RpcError) as cut:
            next(stream)
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        stopper.join(timeout=15.0)
        assert not stopper.is_alive()
        assert here.server.wait(0.0)
    with running(tmp_path) as here:
        assert here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=schedule.schedule_id)).schedule == schedule


def test_drain_refuses_the_sites_of_a_stream_that_still_wait(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, solve_threads=1) as here:
        assert here.server.wait_until_serving(5.0)
        batch = api.OptimizeSchedulesRequest(site_requests=[site_request(site_id=f"site-{i}") for i in range(4)])
        stream = here.stub.OptimizeSchedules(iter([batch]), timeout=30.0)
        watch = here.stub.WatchSchedules(api.WatchSchedulesRequest(), timeout=30.0)
        assert next(watch).kind == api.SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE
        assert engine.started.acquire(timeout=10.0)
        stopper = threading.Thread(target=here.server.stop, args=(20.0,))
        stopper.start()
        with pytest.raises(grpc.RpcError):
            next(watch)  # which ends when draining begins
        engine.release.set()
        answers = list(answers_of(stream))
        stopper.join(timeout=15.0)
        assert not stopper.is_alive()
    assert len(answers) == 4
    assert sum(answer.HasField("summary") for answer in answers) == 1
    refused = [answer.fault for answer in answers if answer.HasField("fault")]
    assert {fault.code for fault in refused} == {code_pb2.UNAVAILABLE}


def _one_and_silence() -> Iterator[api.OptimizeSchedulesRequest]:
    yield api.OptimizeSchedulesRequest(site_requests=[site_request()])
    threading.Event().wait(20.0)


def test_drain_cuts_off_what_outlasts_its_grace(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine) as here:
        call = here.stub.OptimizeSchedule.future(site_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        here.server.stop(0.2)
        assert engine.cancelled.acquire(timeout=10.0)
        assert isinstance(call.exception(), grpc.RpcError)


PROGRAM = """
import sys
from pathlib import Path
import evflex.server.main as main
from evflex.server.app import Server
from tests.server.support import FakeEngine, settings_for
engine = FakeEngine(hold=sys.argv[2] == "hold")
main.Server = lambda settings: Server(settings, engine=engine)
settings = settings_for(Path(sys.argv[1]), listen="127.0.0.1:0", log_level="info", sqlite_synchronous="FULL")
sys.exit(main.serve(settings))
"""


@contextmanager
def process(data_dir: Path, mode: str = "quick") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server process and its port."""
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data_dir), mode],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert child.stderr is not None
    rest = threading.Thread(target=child.stderr.read, daemon=True)
    try:
        port = 0
        for line in child.stderr:
            said = json.loads(line)
            port = said.get("port", port)
            if said["event"] == "serving":
                break
        assert port
        rest.start()
        yield child, port
    finally:
        child.kill()
        child.wait()
        if rest.ident is not None:
            rest.join()
        child.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_the_process_and_exits_with_zero(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path) as (child, port), open_channel(port) as channel:
        stub = stub_of(channel)
        schedule = stub.OptimizeSchedule(stored_request()).schedule
        child.send_signal(number)
        assert child.wait(timeout=20.0) == 0
    assert not (tmp_path / "evflex.sqlite3-wal").exists()
    with running(tmp_path) as here:
        assert here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=schedule.schedule_id)).schedule == schedule


@pytest.mark.slow
def test_second_signal_ends_the_grace(tmp_path: Path) -> None:
    with process(tmp_path, "hold") as (child, port), open_channel(port) as channel:
        stub = stub_of(channel)
        call = stub.OptimizeSchedule.future(site_request(), timeout=60.0)
        watch = stub.WatchSchedules(api.WatchSchedulesRequest(), timeout=60.0)
        next(watch)
        child.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            next(watch)
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20.0) == 0
        assert isinstance(call.exception(), grpc.RpcError)


@pytest.mark.slow
def test_killed_process_leaves_what_it_acknowledged_and_nothing_half_written(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}

    def keep_storing(port: int) -> None:
        with open_channel(port) as channel:
            stub = stub_of(channel)
            try:
                while True:
                    request = stored_request(f"site-{uuid.uuid4()}", sessions=20, steps=96)
                    acknowledged[stub.OptimizeSchedule(request).schedule.schedule_id] = request.request_id
            except grpc.RpcError:
                return

    with process(tmp_path) as (child, port):
        writers = [threading.Thread(target=keep_storing, args=(port,)) for _ in range(3)]
        for writer in writers:
            writer.start()
        until(lambda: len(acknowledged) > 20)
        child.kill()
        for writer in writers:
            writer.join()
    with running(tmp_path) as here:
        listed = here.stub.ListSchedules(api.ListSchedulesRequest(page_size=1000)).schedules
        assert set(acknowledged) <= {s.schedule_id for s in listed}
        assert len(listed) <= len(acknowledged) + 3
        for schedule in listed:
            whole = here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=schedule.schedule_id)).schedule
            assert len(whole.power_kw) == 20 * 96
