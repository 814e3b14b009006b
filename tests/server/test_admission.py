"""Who may call what, and what every call gets: a request id, a code, and no INTERNAL for bad bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.server.caller import Caller, TrustingResolver
from evflex.server.contract import required_scope
from evflex.server.errors import ServiceError
from evflex.server.interceptor import CallInterceptor
from evflex.server.log import make_log
from evflex.server.metrics import Metrics
from tests.server.support import (
    info_of,
    open_channel,
    reason_of,
    running,
    site_request,
    status_of,
    stored_request,
)

SERVICE = "evflex.charging.v1.ChargingService"


def test_every_rpc_of_the_contract_declares_a_scope() -> None:
    for method in api.DESCRIPTOR.services_by_name["ChargingService"].methods:
        assert required_scope(f"/{SERVICE}/{method.name}").startswith("charging.")


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Check", "/no.Such/Method", f"/{SERVICE}/Nothing", "odd"])
def test_rpc_outside_the_contract_has_no_scope(method: str) -> None:
    assert required_scope(method) == ""


def test_rpc_without_a_declared_scope_is_refused() -> None:
    """A handler that somebody registers without a contract never runs."""
    from concurrent.futures import ThreadPoolExecutor

    ran = []

    def handler(request: bytes, _context: grpc.ServicerContext) -> bytes:
        ran.append(request)
        return b""

    log = make_log("error")
    interceptor = CallInterceptor(TrustingResolver("default"), log, Metrics(), 1000)
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[interceptor])
    methods = {
        "One": grpc.unary_unary_rpc_method_handler(handler),
        "Many": grpc.unary_stream_rpc_method_handler(lambda r, c: iter([handler(r, c)])),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("stray.Service", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with open_channel(port) as channel:
            with pytest.raises(grpc.RpcError) as one:
                channel.unary_unary("/stray.Service/One")(b"x")
            with pytest.raises(grpc.RpcError) as many:
                list(channel.unary_stream("/stray.Service/Many")(b"x"))
    finally:
        server.stop(0).wait()
    for caught in (one, many):
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert reason_of(caught.value) == "SCOPE_NOT_DECLARED"
    assert ran == []


def test_caller_without_the_scope_is_refused(tmp_path: Path) -> None:
    def reader(*_: object) -> Caller:
        return Caller("default", scopes=frozenset({"charging.read"}))

    with running(tmp_path, server_arguments={"resolve_caller": reader}) as here:
        here.stub.ListSchedules(api.ListSchedulesRequest())
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(site_request())
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert info_of(caught.value) == {"scope": "charging.write"}


def test_caller_is_kept_to_its_areas(tmp_path: Path) -> None:
    def local(*_: object) -> Caller:
        return Caller("default", areas=frozenset({"north"}))

    with running(tmp_path) as everywhere:
        south = everywhere.stub.OptimizeSchedule(stored_request(area_id="south", site_id="s")).schedule
        north = everywhere.stub.OptimizeSchedule(stored_request(area_id="north", site_id="n")).schedule
    with running(tmp_path, server_arguments={"resolve_caller": local}) as here:
        listed = here.stub.ListSchedules(api.ListSchedulesRequest()).schedules
        assert [s.schedule_id for s in listed] == [north.schedule_id]
        with pytest.raises(grpc.RpcError) as read:
            here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=south.schedule_id))
        with pytest.raises(grpc.RpcError) as planned:
            here.stub.OptimizeSchedule(stored_request(area_id="south"))
    assert read.value.code() is grpc.StatusCode.NOT_FOUND
    assert planned.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    other = (("evflex-tenant", "other"),)
    with running(tmp_path) as here:
        mine = here.stub.OptimizeSchedule(stored_request()).schedule
        assert mine.tenant_id == "default"
        assert not here.stub.ListSchedules(api.ListSchedulesRequest(), metadata=other).schedules
        for call, request in (
            (here.stub.GetSchedule, api.GetScheduleRequest(schedule_id=mine.schedule_id)),
            (here.stub.GetLatestSchedule, api.GetLatestScheduleRequest(site_id="site-1")),
            (here.stub.DeleteSchedule, api.DeleteScheduleRequest(schedule_id=mine.schedule_id, validate_only=True)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request, metadata=other)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        theirs = here.stub.OptimizeSchedule(stored_request(), metadata=other).schedule
        assert theirs.tenant_id == "other"
        assert theirs.supersedes_schedule_id == ""


def test_malformed_tenant_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as here, pytest.raises(grpc.RpcError) as caught:
        here.stub.ListSchedules(api.ListSchedulesRequest(), metadata=(("evflex-tenant", "no spaces"),))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("peer", "tenant"),
    [
        ("ipv4:127.0.0.1:5", "named"),
        ("ipv6:[::1]:5", "named"),
        ("ipv6:%5B::1%5D:5", "named"),
        ("unix:/tmp/s", "named"),
        ("ipv4:10.0.0.1:5", "default"),
        ("ipv6:[2001:db8::1]:5", "default"),
    ],
)
def test_only_local_callers_may_name_their_tenant(peer: str, tenant: str) -> None:
    assert TrustingResolver("default")([("evflex-tenant", "named")], peer).tenant_id == tenant


def test_scope_is_required_by_name() -> None:
    Caller("t").require_scope("x")
    with pytest.raises(ServiceError) as caught:
        Caller("t", scopes=frozenset()).require_scope("x")
    assert caught.value.code == code_pb2.PERMISSION_DENIED


def test_request_id_is_echoed_or_made(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        _, call = here.stub.OptimizeSchedule.with_call(site_request(), metadata=(("x-request-id", "mine-1"),))
        assert ("x-request-id", "mine-1") in call.trailing_metadata()
        _, call = here.stub.OptimizeSchedule.with_call(site_request(), metadata=(("x-request-id", "<bad>"),))
        made = dict(call.trailing_metadata())["x-request-id"]
        assert len(made) == 36
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.GetSchedule(api.GetScheduleRequest(), metadata=(("x-request-id", "mine-2"),))
    trailers: Any = caught.value.trailing_metadata()
    assert ("x-request-id", "mine-2") in trailers
    assert any(b"mine-2" in packed.value for packed in status_of(caught.value).details)


@pytest.mark.parametrize("method", [m.name for m in api.DESCRIPTOR.services_by_name["ChargingService"].methods])
def test_bytes_that_are_no_protobuf_are_an_invalid_argument(tmp_path: Path, method: str) -> None:
    garbage = b"\xff\xff\xff not protobuf"
    with running(tmp_path) as here:
        path = f"/{SERVICE}/{method}"
        if method == "OptimizeSchedules":
            (raw,) = list(here.channel.stream_stream(path)(iter([garbage])))
            (answer,) = api.OptimizeSchedulesResponse.FromString(raw).answers
            assert answer.fault.code == code_pb2.INVALID_ARGUMENT
            assert "REQUEST_UNDECODABLE" in answer.fault.message
            return
        call = here.channel.unary_stream if method == "WatchSchedules" else here.channel.unary_unary
        with pytest.raises(grpc.RpcError) as caught:
            list(call(path)(garbage))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "REQUEST_UNDECODABLE"


def test_unexpected_error_tells_the_request_id_and_nothing_else(tmp_path: Path) -> None:
    from tests.server.support import FakeEngine

    with (
        running(tmp_path, FakeEngine(error=RuntimeError("session-0 is secret")), log_level="error") as here,
        pytest.raises(grpc.RpcError) as caught,
    ):
        here.stub.OptimizeSchedule(site_request(), metadata=(("x-request-id", "find-me"),))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "find-me" in str(caught.value.details())
    assert "secret" not in str(caught.value.details())
