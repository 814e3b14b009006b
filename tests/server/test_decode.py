"""Columns read from the wire agree with a slow twin that asks each message for each field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.charging.v1 import charging_session_pb2, schedule_options_pb2
from evflex.engine.charging.model import Sessions
from evflex.server.charging.decode import decode_request
from tests.server.support import site_request

numbers = st.floats(allow_nan=False, allow_infinity=False)
ids = st.text(alphabet="ab é", max_size=4)
times = st.builds(Timestamp, seconds=st.integers(-62_135_596_800, 253_402_300_799), nanos=st.integers(0, 999_999_999))
runs = st.builds(Duration, seconds=st.integers(0, 10**9), nanos=st.integers(0, 999_999_999))
states = st.builds(
    charging_session_pb2.SessionState,
    delivered_kwh=numbers,
    charging_now=st.booleans(),
    run_duration=st.none() | runs,
)
PLAIN = (
    "energy_needed_kwh", "max_charge_kw", "min_charge_kw", "max_discharge_kw", "min_discharge_kw",
    "discharge_cost_per_kwh", "energy_value_per_kwh",
)  # fmt: skip
OPTIONAL = {
    "minimum_energy_kwh": 0.0,
    "energy_available_kwh": 0.0,
    "charge_efficiency": 1.0,
    "discharge_efficiency": 1.0,
    "shortfall_price_per_kwh": math.nan,
    "shortfall_weight": 1.0,
    "max_ramp_kw_per_step": math.inf,
    "max_cycles": math.inf,
}
sessions = st.builds(
    charging_session_pb2.ChargingSession,
    session_id=ids,
    evse_id=ids,
    node_id=ids,
    arrival_time=st.none() | times,
    departure_time=st.none() | times,
    minimum_energy_time=st.none() | times,
    state=st.none() | states,
    phases=st.integers(0, 7),
    energy_headroom_kwh=st.none() | numbers,
    **dict.fromkeys(PLAIN, numbers),
    **{name: st.none() | numbers | st.just(0.0) for name in OPTIONAL},
)


def seconds(message: Any, name: str, absent: float) -> float:
    """A time or duration in seconds."""
    if not message.HasField(name):
        return absent
    value = getattr(message, name)
    total: float = value.seconds + 1e-9 * value.nanos
    return total


@given(st.lists(sessions, max_size=6))
def test_columns_are_what_each_message_says(messages: list[charging_session_pb2.ChargingSession]) -> None:
    request = site_request(sessions=0)
    request.sessions.extend(messages)
    # a field that the reader does not know, before and after the sessions
    request.MergeFromString(b"\xf8\x07\x05\xfd\x07\x01\x02\x03\x04\xf9\x07\x01\x02\x03\x04\x05\x06\x07\x08")
    columns = decode_request(request, 10.0).problem.sessions

    def expect(name: str, wanted: list[float]) -> None:
        np.testing.assert_array_equal(getattr(columns, name), np.array(wanted), err_msg=name)

    assert columns.session_ids == tuple(m.session_id for m in messages)
    assert columns.evse_ids == tuple(m.evse_id for m in messages)
    assert columns.node_ids == tuple(m.node_id for m in messages)
    for name in PLAIN:
        expect(name, [getattr(m, name) for m in messages])
    for name, default in OPTIONAL.items():
        expect(name, [getattr(m, name) if m.HasField(name) else default for m in messages])
    expect(
        "energy_headroom_kwh",
        [m.energy_headroom_kwh if m.HasField("energy_headroom_kwh") else m.energy_needed_kwh for m in messages],
    )
    expect("arrival_unix_s", [seconds(m, "arrival_time", math.nan) for m in messages])
    expect("departure_unix_s", [seconds(m, "departure_time", math.nan) for m in messages])
    expect("minimum_energy_unix_s", [seconds(m, "minimum_energy_time", math.inf) for m in messages])
    expect("run_duration_s", [seconds(m.state, "run_duration", 0.0) for m in messages])
    expect("delivered_kwh", [m.state.delivered_kwh for m in messages])
    expect("charging_now", [m.state.charging_now for m in messages])
    expect("phases", [m.phases for m in messages])
    assert columns.phases.dtype == np.int64
    assert columns.charging_now.dtype == np.bool_


def test_columns_are_contiguous_for_kernels() -> None:
    columns: Sessions = decode_request(site_request(sessions=5), 10.0).problem.sessions
    for name in ("arrival_unix_s", "energy_needed_kwh", "max_cycles", "phases", "charging_now"):
        assert getattr(columns, name).flags.c_contiguous


def test_options_and_tariff_are_those_of_the_request() -> None:
    request = site_request(steps=2)
    request.tariff.export_price_per_kwh.extend([0.1, -0.1])
    request.tariff.peak_window.extend([True, False])
    request.tariff.peak_averaging_duration.seconds = 1800
    request.tariff.emission_intensity_g_per_kwh.extend([1.0, 2.0])
    options = request.options
    options.time_limit_duration.nanos = 500_000_000
    options.relative_gap = 0.0
    options.absolute_gap = 0.5
    options.objective = schedule_options_pb2.SCHEDULE_OBJECTIVE_EMISSIONS
    options.shortfall_price_per_kwh = 0.0
    options.max_starts_per_session = 3
    options.min_run_duration.seconds = 600
    options.departure_margin_duration.seconds = 60
    options.control_enabled.extend([False, True])
    options.departure_beyond_horizon = schedule_options_pb2.DEPARTURE_BEYOND_HORIZON_PRO_RATA
    options.current_quantum_a = 1.0
    decoded = decode_request(request, 10.0)
    tariff, got = decoded.problem.tariff, decoded.options
    assert tariff.export_price_per_kwh.tolist() == [0.1, -0.1]
    assert tariff.peak_window.tolist() == [True, False]
    assert tariff.peak_averaging_s == 1800.0
    assert got.time_limit_s == 0.5
    assert (got.relative_gap, got.absolute_gap, got.shortfall_price_per_kwh) == (0.0, 0.5, 0.0)
    assert (got.objective, got.departure_beyond_horizon, got.max_starts_per_session) == (2, 2, 3)
    assert (got.min_run_s, got.departure_margin_s, got.current_quantum_a) == (600.0, 60.0, 1.0)
    assert got.control_enabled.tolist() == [False, True]
    assert decoded.violations() == []


def test_nodes_without_limits_have_none() -> None:
    request = site_request(steps=2)
    node = request.nodes.add(node_id="leaf", parent_node_id="root")
    node.max_export_kw.append(3.0)
    nodes = decode_request(request, 10.0).problem.nodes
    assert nodes.node_ids == ("root", "leaf")
    assert nodes.max_current_a.tolist() == [math.inf, math.inf]
    assert nodes.nominal_voltage_v.tolist() == [230.0, 230.0]
    assert [len(row) for row in nodes.max_import_kw] == [1, 0]
    assert nodes.max_export_kw[1].tolist() == [3.0]


def test_request_survives_a_round_trip_of_unknown_enums() -> None:
    request = api.OptimizeScheduleRequest()
    request.options.MergeFromString(b"\x20\x7f")
    assert "options.objective" in [v.field for v in decode_request(request, 1.0).violations()]
