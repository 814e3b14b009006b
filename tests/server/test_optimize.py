"""OptimizeSchedule: what is answered, what is refused, and that every fault is named at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.common.v1 import supply_node_pb2, time_grid_pb2
from tests.server.support import (
    START_S,
    FakeEngine,
    Running,
    info_of,
    open_channel,
    reason_of,
    running,
    site_request,
    stored_request,
    violations_of,
)

Request = api.OptimizeScheduleRequest


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def refused(here: Running, request: Request) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        here.stub.OptimizeSchedule(request)
    return caught.value


def test_plan_comes_back_with_the_rows_of_the_request(here: Running) -> None:
    schedule = here.stub.OptimizeSchedule(site_request(sessions=2, steps=3)).schedule
    assert schedule.site_id == "site-1"
    assert list(schedule.session_ids) == ["session-0", "session-1"]
    assert list(schedule.evse_ids) == ["evse-0", "evse-1"]
    assert list(schedule.power_kw) == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert list(schedule.current_a) == []
    assert list(schedule.root_power_kw) == [0.0, 1.0, 2.0]
    assert [r.session_id for r in schedule.session_results] == ["session-0", "session-1"]
    assert schedule.binding_limits[0].node_id == "root"
    assert schedule.valid_until_time.seconds == START_S + 3 * 900
    assert schedule.currency_code == "EUR"
    assert schedule.schedule_id == ""
    assert schedule.termination.method == "fake"
    assert (schedule.energy_cost, schedule.shortfall_kwh) == (0.0, 12.0)
    assert schedule.uncontrolled.total_cost == 8.0


def test_currents_come_on_request(here: Running) -> None:
    request = site_request(sessions=1, steps=2)
    request.options.return_currents = True
    assert list(here.stub.OptimizeSchedule(request).schedule.current_a) == [6.0, 6.0]


def test_site_without_sessions_is_planned(here: Running) -> None:
    assert len(here.stub.OptimizeSchedule(site_request(sessions=0)).schedule.root_power_kw) == 8


def test_validate_only_neither_solves_nor_stores(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        answer = here.stub.OptimizeSchedule(stored_request(validate_only=True))
        assert answer.HasField("schedule")
        assert answer.schedule.ByteSize() == 0
        assert here.engine.started_count == 0
        assert not here.stub.ListSchedules(api.ListSchedulesRequest()).schedules


def test_empty_request_names_everything_that_is_missing(here: Running) -> None:
    faults = violations_of(refused(here, Request()))
    assert {"site_id", "time_grid", "nodes", "tariff"} <= faults.keys()


FAULTS: list[tuple[str, Callable[[Request], Any]]] = [
    ("site_id", lambda r: r.ClearField("site_id")),
    ("site_id", lambda r: setattr(r, "site_id", "x" * 257)),
    ("site_id", lambda r: setattr(r, "site_id", "a\x00b")),
    ("area_id", lambda r: setattr(r, "area_id", "a\nb")),
    ("request_id", lambda r: setattr(r, "request_id", "17")),
    ("request_id", lambda r: setattr(r, "store", True)),
    ("time_grid.start_time", lambda r: r.time_grid.ClearField("start_time")),
    ("time_grid.start_time", lambda r: setattr(r.time_grid.start_time, "nanos", -1)),
    ("time_grid.start_time", lambda r: setattr(r.time_grid.start_time, "seconds", 1 << 60)),
    ("time_grid.step_duration", lambda r: r.time_grid.ClearField("step_duration")),
    ("time_grid.step_duration", lambda r: setattr(r.time_grid.step_duration, "nanos", -5)),
    ("time_grid.step_count", lambda r: r.time_grid.ClearField("step_count")),
    ("time_grid.step_count", lambda r: setattr(r.time_grid, "step_count", -4)),
    ("time_grid", lambda r: setattr(r.time_grid.start_time, "seconds", 253_402_300_000)),
    ("nodes", lambda r: r.ClearField("nodes")),
    ("nodes[0].node_id", lambda r: r.nodes[0].ClearField("node_id")),
    ("nodes[0].max_import_kw", lambda r: r.nodes[0].max_import_kw.append(3.0)),
    ("nodes[0].max_current_a", lambda r: setattr(r.nodes[0], "max_current_a", math.inf)),
    ("nodes[0].max_current_a", lambda r: setattr(r.nodes[0], "max_current_a", math.nan)),
    ("nodes[0].max_current_a", lambda r: setattr(r.nodes[0], "max_current_a", -1.0)),
    ("nodes[0].nominal_voltage_v", lambda r: setattr(r.nodes[0], "nominal_voltage_v", 0.0)),
    ("nodes[0].fixed_load_phases", lambda r: r.nodes[0].MergeFromString(b"\x48\x63")),
    ("sessions[1].session_id", lambda r: setattr(r.sessions[1], "session_id", "session-0")),
    ("sessions[1].session_id", lambda r: r.sessions[1].ClearField("session_id")),
    ("sessions[1].evse_id", lambda r: setattr(r.sessions[1], "evse_id", "e" * 300)),
    ("sessions[1].node_id", lambda r: setattr(r.sessions[1], "node_id", "nowhere")),
    ("sessions[1].arrival_time", lambda r: r.sessions[1].ClearField("arrival_time")),
    ("sessions[1].departure_time", lambda r: r.sessions[1].ClearField("departure_time")),
    ("sessions[1].departure_time", lambda r: setattr(r.sessions[1].departure_time, "seconds", 5)),
    ("sessions[1].departure_time", lambda r: setattr(r.sessions[1].departure_time, "seconds", 1 << 62)),
    ("sessions[1].arrival_time", lambda r: setattr(r.sessions[1].arrival_time, "nanos", 1_000_000_000)),
    ("sessions[1].minimum_energy_time", lambda r: setattr(r.sessions[1].minimum_energy_time, "nanos", -1)),
    ("sessions[1].state.run_duration", lambda r: setattr(r.sessions[1].state.run_duration, "seconds", -1)),
    ("sessions[1].state.delivered_kwh", lambda r: setattr(r.sessions[1].state, "delivered_kwh", math.nan)),
    ("sessions[1].energy_needed_kwh", lambda r: setattr(r.sessions[1], "energy_needed_kwh", math.nan)),
    ("sessions[1].energy_headroom_kwh", lambda r: setattr(r.sessions[1], "energy_headroom_kwh", 1.0)),
    ("sessions[1].energy_headroom_kwh", lambda r: setattr(r.sessions[1], "energy_headroom_kwh", math.nan)),
    ("sessions[1].max_charge_kw", lambda r: setattr(r.sessions[1], "max_charge_kw", math.inf)),
    ("sessions[1].charge_efficiency", lambda r: setattr(r.sessions[1], "charge_efficiency", 0.0)),
    ("sessions[1].discharge_efficiency", lambda r: setattr(r.sessions[1], "discharge_efficiency", 1.1)),
    ("sessions[1].shortfall_weight", lambda r: setattr(r.sessions[1], "shortfall_weight", 0.0)),
    ("sessions[1].shortfall_price_per_kwh", lambda r: setattr(r.sessions[1], "shortfall_price_per_kwh", math.nan)),
    ("sessions[1].max_ramp_kw_per_step", lambda r: setattr(r.sessions[1], "max_ramp_kw_per_step", math.inf)),
    ("sessions[1].max_ramp_kw_per_step", lambda r: setattr(r.sessions[1], "max_ramp_kw_per_step", 0.0)),
    ("sessions[1].max_cycles", lambda r: setattr(r.sessions[1], "max_cycles", math.inf)),
    ("sessions[1].phases", lambda r: r.sessions[1].MergeFromString(b"\x90\x01\x09")),
    ("tariff.currency_code", lambda r: setattr(r.tariff, "currency_code", "euro")),
    ("tariff.import_price_per_kwh", lambda r: r.tariff.import_price_per_kwh.append(0.1)),
    ("tariff.import_price_per_kwh[2]", lambda r: r.tariff.import_price_per_kwh.__setitem__(2, math.nan)),
    ("tariff.peak_window", lambda r: r.tariff.peak_window.append(True)),
    ("tariff.peak_averaging_duration", lambda r: setattr(r.tariff.peak_averaging_duration, "seconds", 1000)),
    ("options.relative_gap", lambda r: setattr(r.options, "relative_gap", -0.1)),
    ("options.objective", lambda r: r.options.MergeFromString(b"\x20\x09")),
    ("options.departure_beyond_horizon", lambda r: r.options.MergeFromString(b"\x58\x09")),
    ("options.time_limit_duration", lambda r: setattr(r.options.time_limit_duration, "seconds", -1)),
    ("options.max_starts_per_session", lambda r: setattr(r.options, "max_starts_per_session", 0)),
    ("options.min_run_duration", lambda r: setattr(r.options.min_run_duration, "seconds", -1)),
    ("options.control_enabled", lambda r: r.options.control_enabled.append(True)),
    ("options.previous_schedule_id", lambda r: setattr(r.options, "previous_schedule_id", "unknown")),
]  # fmt: skip


@pytest.mark.parametrize(("field", "break_it"), FAULTS)
def test_fault_is_named_by_its_field(here: Running, field: str, break_it: Callable[[Request], Any]) -> None:
    request = site_request()
    break_it(request)
    error = refused(here, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "INVALID_REQUEST"
    assert field in violations_of(error)


def test_faults_of_wire_and_engine_come_together(here: Running) -> None:
    request = site_request(request_id="no uuid")
    request.sessions[0].max_charge_kw = -1.0
    request.options.MergeFromString(b"\x20\x09")
    faults = violations_of(refused(here, request))
    assert {"request_id", "options.objective", "sessions[0].max_charge_kw"} <= faults.keys()


def test_field_is_reported_once(here: Running) -> None:
    request = site_request()
    request.ClearField("time_grid")
    request.sessions[0].max_ramp_kw_per_step = math.nan
    faults = violations_of(refused(here, request))
    assert faults["time_grid"] == "must be set"
    assert not any(field.startswith("time_grid.") for field in faults)


def test_two_thousand_faults_list_the_first_hundred(here: Running) -> None:
    request = site_request(sessions=1000)
    for session in request.sessions:
        session.charge_efficiency = 3.0
        session.energy_needed_kwh = -1.0
    error = refused(here, request)
    assert len(violations_of(error)) == 100
    assert int(info_of(error)["violation_count"]) >= 2000
    assert "more)" in error.details()


def test_faults_with_long_values_still_reach_a_plain_client(here: Running) -> None:
    request = site_request(sessions=300)
    for i, session in enumerate(request.sessions):
        session.node_id = f"{i} " + "n" * 200
    error = refused(here, request)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(violations_of(error)) == 100


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_sessions", 1), ("max_steps", 7), ("max_nodes", 1), ("max_session_steps", 15), ("max_node_steps", 7)],
)
def test_limit_is_named_when_exceeded(tmp_path: Path, limit: str, value: int) -> None:
    request = site_request()
    request.nodes.append(supply_node_pb2.SupplyNode(node_id="leaf", parent_node_id="root"))
    values: dict[str, Any] = {limit: value}
    with running(tmp_path, **values) as small:
        error = refused(small, request)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info_of(error)["limit"] == limit
    assert limit in error.details()


def test_answer_that_cannot_fit_is_refused_before_the_solve(tmp_path: Path) -> None:
    request = site_request(sessions=200, steps=1000)
    with running(tmp_path, max_unary_answer_bytes=1_500_000) as here:
        error = refused(here, request)
        assert here.engine.started_count == 0
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "OptimizeSchedules" in error.details()


def test_answer_that_turns_out_too_large_names_the_stream(tmp_path: Path) -> None:
    with running(tmp_path, max_unary_answer_bytes=400) as here:
        error = refused(here, site_request())
        assert here.engine.started_count == 1
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "OptimizeSchedules" in error.details()


def test_request_of_two_hundred_megabytes_is_refused(here: Running) -> None:
    with open_channel(here.server.port, max_send_message_length=-1) as channel:
        send = channel.unary_unary("/evflex.charging.v1.ChargingService/OptimizeSchedule")
        with pytest.raises(grpc.RpcError) as caught:
            send(bytes(200 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(caught.value.details())
    assert here.stub.OptimizeSchedule(site_request()).schedule.site_id == "site-1"


def test_small_request_that_decompresses_to_a_large_one_is_refused(here: Running) -> None:
    with open_channel(here.server.port, max_send_message_length=-1) as channel:
        send = channel.unary_unary("/evflex.charging.v1.ChargingService/OptimizeSchedule")
        with pytest.raises(grpc.RpcError) as caught:
            send(bytes(100 << 20), compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(caught.value.details())


def test_time_limit_is_the_deadline_less_a_margin(tmp_path: Path) -> None:
    with running(tmp_path, FakeEngine(), deadline_margin_s=0.5, default_deadline_s=20.0) as here:
        here.stub.OptimizeSchedule(site_request(), timeout=10.0)
        here.stub.OptimizeSchedule(site_request())
        request = site_request()
        request.options.time_limit_duration.CopyFrom(Duration(seconds=2))
        here.stub.OptimizeSchedule(request, timeout=10.0)
        request.options.time_limit_duration.CopyFrom(Duration(seconds=100))
        here.stub.OptimizeSchedule(request, timeout=10.0)
        by_deadline, by_default, by_option, capped = here.engine.time_limits_s
    assert 8.5 < by_deadline <= 9.5
    assert 19.0 < by_default <= 19.5
    assert 1.9 < by_option <= 2.0
    assert 8.5 < capped <= 9.5


def test_solve_returns_its_plan_before_a_short_deadline(tmp_path: Path) -> None:
    with running(tmp_path, FakeEngine(hold=True)) as here:
        schedule = here.stub.OptimizeSchedule(site_request(), timeout=1.0).schedule
    assert schedule.termination.stopped_by == 1


def test_defaults_of_optional_fields_reach_the_engine(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        here.stub.OptimizeSchedule(site_request())
        (options,) = here.engine.options
    assert options.relative_gap == 1e-3
    assert options.shortfall_price_per_kwh is None
    assert options.max_starts_per_session is None


def test_instants_before_1970_and_at_it_are_times(here: Running) -> None:
    request = site_request(sessions=1)
    request.time_grid.CopyFrom(
        time_grid_pb2.TimeGrid(start_time=Timestamp(), step_duration=Duration(seconds=900), step_count=8)
    )
    request.sessions[0].arrival_time.CopyFrom(Timestamp())
    request.sessions[0].departure_time.CopyFrom(Timestamp(seconds=900))
    assert here.stub.OptimizeSchedule(request).schedule.site_id == "site-1"
    request.sessions[0].arrival_time.seconds = -86_400
    assert here.stub.OptimizeSchedule(request).schedule.site_id == "site-1"
