"""Calls of both clients: answers as pandas objects, errors as exceptions, retries where they help."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import grpc
import pandas as pd
import pytest
from google.rpc import error_details_pb2

from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.charging.v1 import schedule_pb2
from evflex.client import (
    AlreadyExistsError,
    CallCancelledError,
    ConflictError,
    DeadlineExceededError,
    EvflexClient,
    EvflexError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    NotPermittedError,
    RetryPolicy,
    ScheduleRequest,
    ServerError,
    UnavailableError,
    UnsupportedError,
)
from evflex.common.v1 import supply_node_pb2, termination_pb2
from tests.client.fake_server import FakeServer, answering, failing, retry_after

UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "the queue is full")


def schedule_message() -> schedule_pb2.Schedule:
    message = schedule_pb2.Schedule(
        schedule_id="s-1",
        site_id="depot",
        session_ids=["a", "b"],
        evse_ids=["bay-1", "bay-2"],
        power_kw=[1.0, 2.0, 3.0, 4.0],
        root_power_kw=[4.0, 6.0],
        uncontrolled_root_power_kw=[10.0, 0.0],
        total_cost=1.5,
        peak_import_kw=6.0,
        currency_code="DKK",
    )
    message.time_grid.start_time.FromJsonString("2024-11-05T11:00:00Z")
    message.time_grid.step_duration.FromJsonString("1800s")
    message.time_grid.step_count = 2
    message.create_time.FromJsonString("2024-11-05T10:59:00Z")
    message.uncontrolled.total_cost = 2.5
    message.session_results.add(session_id="a", delivered_kwh=3.0, limiting_node_id="grid")
    message.session_results.add(session_id="b", delivered_kwh=7.0, starts=1)
    message.binding_limits.add(
        node_id="grid", step=1, unit=schedule_pb2.LIMIT_UNIT_IMPORT_KW, limit=6.0, shadow_price=0.2
    )
    message.limit_violations.add(
        node_id="grid", step=0, unit=schedule_pb2.LIMIT_UNIT_CURRENT_A, phase=supply_node_pb2.PHASE_L2,
        limit=16.0, excess=1.0,
    )  # fmt: skip
    message.termination.reason = termination_pb2.TERMINATION_REASON_FEASIBLE
    message.termination.stopped_by = termination_pb2.STOPPED_BY_TIME
    message.termination.relative_gap = 0.01
    return message


def test_a_schedule_comes_as_pandas_objects(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedule", answering(pb.OptimizeScheduleResponse(schedule=schedule_message())))
    schedule = client.optimize_schedule(site)
    index = pd.date_range("2024-11-05 11:00", periods=2, freq="30min", tz="UTC")
    assert list(schedule.power_kw.index) == list(index)
    assert schedule.power_kw["b"].tolist() == [3.0, 4.0]
    assert schedule.current_a is None
    assert schedule.root_power_kw.tolist() == [4.0, 6.0]
    assert schedule.uncontrolled_root_power_kw.loc[index[0]] == 10.0
    assert schedule.sessions.loc["a", "limiting_node_id"] == "grid"
    assert schedule.sessions.loc["b", "evse_id"] == "bay-2"
    assert (schedule.figures.total_cost, schedule.uncontrolled.total_cost) == (1.5, 2.5)
    assert schedule.binding_limits.loc[0, "shadow_price"] == 0.2
    assert schedule.binding_limits.loc[0, "time"] == index[1]
    assert schedule.limit_violations.loc[0, ["phase", "unit"]].tolist() == ["L2", "CURRENT_A"]
    assert (schedule.termination.reason, schedule.termination.stopped_by) == ("FEASIBLE", "TIME")
    assert schedule.create_time == pd.Timestamp("2024-11-05T10:59:00Z")
    assert schedule.valid_until_time is None


def test_a_schedule_without_sessions_is_empty(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    message = schedule_message()
    for field in ("session_ids", "evse_ids", "power_kw", "session_results", "binding_limits"):
        message.ClearField(field)
    server.on("OptimizeSchedule", answering(pb.OptimizeScheduleResponse(schedule=message)))
    schedule = client.optimize_schedule(site)
    assert schedule.power_kw.shape == (2, 0)
    assert schedule.sessions.empty
    assert schedule.binding_limits.empty


def test_a_busy_server_is_asked_again_with_the_same_request(
    client: Any, server: FakeServer, site: ScheduleRequest
) -> None:
    answer = answering(pb.OptimizeScheduleResponse(schedule=schedule_message()))
    server.on("OptimizeSchedule", UNAVAILABLE, UNAVAILABLE, answer)
    assert client.optimize_schedule(site).schedule_id == "s-1"
    first, second, third = server.asked("OptimizeSchedule")
    assert first == second == third
    assert first.request_id


def test_a_server_that_stays_busy_is_given_up(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedule", UNAVAILABLE)
    with pytest.raises(UnavailableError) as caught:
        client.optimize_schedule(site)
    assert len(server.calls) == 3
    assert caught.value.retryable
    assert caught.value.server == server.address
    assert caught.value.operation == "OptimizeSchedule"
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_no_retry_waits_past_the_deadline(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedule", failing(grpc.StatusCode.UNAVAILABLE, "full", retry_after(0.9)))
    begun = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        client.optimize_schedule(site, timeout_s=0.5)
    assert time.monotonic() - begun < 0.5
    assert caught.value.retry_after_s == pytest.approx(0.9)
    assert len(server.calls) == 1


def test_a_deadline_ends_a_slow_call(client: Any, server: FakeServer) -> None:
    def waiting(_request: Any, context: Any) -> Any:
        while context.is_active():
            time.sleep(0.005)
        return pb.GetScheduleResponse()

    server.on("GetSchedule", waiting)
    with pytest.raises(DeadlineExceededError):
        client.get_schedule("s-1", timeout_s=0.05)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExistsError),
        (grpc.StatusCode.FAILED_PRECONDITION, ConflictError),
        (grpc.StatusCode.ABORTED, ConflictError),
        (grpc.StatusCode.PERMISSION_DENIED, NotPermittedError),
        (grpc.StatusCode.UNAUTHENTICATED, NotPermittedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitExceededError),
        (grpc.StatusCode.CANCELLED, CallCancelledError),
        (grpc.StatusCode.UNIMPLEMENTED, UnsupportedError),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.DATA_LOSS, ServerError),
    ],
)
def test_each_status_has_its_exception_and_is_not_repeated(
    client: Any, server: FakeServer, code: grpc.StatusCode, kind: type[EvflexError]
) -> None:
    server.on("GetSchedule", failing(code, "because", request_id="req-7"))
    with pytest.raises(kind, match="because") as caught:
        client.get_schedule("s-1")
    assert caught.value.code == code.name
    assert caught.value.request_id == "req-7"
    assert not caught.value.retryable
    assert len(server.calls) == 1
    assert f"GetSchedule at {server.address}, request req-7" in str(caught.value)


def test_violations_are_read_from_the_details(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    detail = error_details_pb2.BadRequest()
    detail.field_violations.add(field="sessions[1].max_charge_kw", description="must be >= 0, is -1")
    info = error_details_pb2.RequestInfo(request_id="req-8")
    server.on("OptimizeSchedule", failing(grpc.StatusCode.INVALID_ARGUMENT, "bad", detail, info))
    with pytest.raises(InvalidRequestError) as caught:
        client.optimize_schedule(site)
    (violation,) = caught.value.violations
    assert (violation.field, violation.description) == ("sessions[1].max_charge_kw", "must be >= 0, is -1")
    assert caught.value.request_id == "req-8"


def test_details_that_cannot_be_read_are_passed_over(client: Any, server: FakeServer) -> None:
    def garbled(_request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad")

    server.on("GetSchedule", garbled)
    with pytest.raises(InvalidRequestError) as caught:
        client.get_schedule("s-1")
    assert caught.value.violations == ()


def test_an_unreachable_server_is_unavailable(site: ScheduleRequest) -> None:
    policy = RetryPolicy(max_attempts=2, initial_pause_s=0.001)
    with EvflexClient("127.0.0.1:1", retry=policy) as client, pytest.raises(UnavailableError, match="connect"):
        client.optimize_schedule(site)


def test_a_faulty_table_is_not_sent(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    with pytest.raises(InvalidRequestError):
        client.optimize_schedule(replace(site, sessions=site.sessions.drop(columns="max_charge_kw")))
    assert server.calls == []


def test_stored_schedules_are_fetched(client: Any, server: FakeServer) -> None:
    server.on("GetSchedule", answering(pb.GetScheduleResponse(schedule=schedule_message())))
    server.on("GetLatestSchedule", answering(pb.GetLatestScheduleResponse(schedule=schedule_message())))
    assert client.get_schedule("s-1", session_ids=["a"]).site_id == "depot"
    assert client.get_latest_schedule("depot").schedule_id == "s-1"
    assert server.asked("GetSchedule")[0] == pb.GetScheduleRequest(schedule_id="s-1", session_ids=["a"])
    assert server.asked("GetLatestSchedule")[0].site_id == "depot"


def test_listing_follows_the_pages(client: Any, server: FakeServer) -> None:
    first, second = schedule_message(), schedule_message()
    second.schedule_id = "s-2"
    server.on(
        "ListSchedules",
        answering(pb.ListSchedulesResponse(schedules=[first], next_page_token="more")),
        UNAVAILABLE,
        answering(pb.ListSchedulesResponse(schedules=[second])),
    )
    assert [schedule.schedule_id for schedule in client.list_schedules("depot", page_size=1)] == ["s-1", "s-2"]
    tokens = [request.page_token for request in server.asked("ListSchedules")]
    assert tokens == ["", "more", "more"]


def test_deleting_repeats_its_request_id(client: Any, server: FakeServer) -> None:
    server.on("DeleteSchedule", UNAVAILABLE, answering(pb.DeleteScheduleResponse()))
    client.delete_schedule("s-1", etag="e")
    first, second = server.asked("DeleteSchedule")
    assert first == second
    assert first.etag == "e"
    assert first.request_id


def test_metadata_goes_with_every_call(server: FakeServer) -> None:
    server.on("GetSchedule", answering(pb.GetScheduleResponse(schedule=schedule_message())))
    with EvflexClient(server.address, metadata={"x-evflex-tenant": "north"}) as client:
        client.get_schedule("s-1")
    assert server.calls[0][2]["x-evflex-tenant"] == "north"
