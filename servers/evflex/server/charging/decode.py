"""Turns a request into the engine's model, column by column, and reports what only the wire can get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import TypeVar

import numpy as np

from evflex.charging.v1 import charging_service_pb2, charging_session_pb2, schedule_options_pb2, tariff_pb2
from evflex.common.v1 import supply_node_pb2, time_grid_pb2
from evflex.engine.charging.model import (
    DepartureBeyondHorizon,
    ScheduleObjective,
    ScheduleOptions,
    ScheduleProblem,
    Sessions,
    Tariff,
)
from evflex.engine.supply_tree import DEFAULT_VOLTAGE_V, FloatArray, SupplyNodes
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules, Violation
from evflex.server.charging.fields import (
    MAX_DURATION_S,
    MAX_TIMESTAMP_S,
    MIN_TIMESTAMP_S,
    NANOS,
    check_id,
    check_ids,
    check_request_id,
    duration_s,
    merged,
    timestamp_s,
)

_Choice = TypeVar("_Choice", ScheduleObjective, DepartureBeyondHorizon)

# Seconds and nanos of arrival, departure, minimum energy time and run duration.
_TIME_LOW = np.array([MIN_TIMESTAMP_S, 0] * 3 + [-MAX_DURATION_S, 1 - NANOS], dtype=np.float64)
_TIME_HIGH = np.array([MAX_TIMESTAMP_S, NANOS - 1] * 3 + [MAX_DURATION_S, NANOS - 1], dtype=np.float64)
# Stands for "not set" until the columns are arrays; no field allows this value.
_ABSENT = -1.7e308
_LIMIT_FIELDS = ("shortfall_price_per_kwh", "max_ramp_kw_per_step", "max_cycles")
_TIME_FIELDS = ("arrival_time", "departure_time", "minimum_energy_time", "state.run_duration")


@dataclass(frozen=True, slots=True)
class DecodedRequest:
    """A request in the engine's terms.

    Attributes:
        problem: The site.
        options: Options; the time limit is the caller's, or the default that was handed in.
        wire: Faults that the engine cannot see.
    """

    problem: ScheduleProblem
    options: ScheduleOptions
    wire: Rules

    def violations(self) -> list[Violation]:
        """Every fault of the request, the wire's and the engine's."""
        rules = Rules()
        self.problem.validate(rules)
        self.options.validate(rules, self.problem)
        return merged(self.wire, rules)


def decode_request(
    request: charging_service_pb2.OptimizeScheduleRequest, default_time_limit_s: float
) -> DecodedRequest:
    """Turn a request into the engine's model.

    Args:
        request: The request; within the server's limits.
        default_time_limit_s: Longest solve, which the request may shorten.
    """
    rules = Rules()
    check_request_id(rules, request.request_id, required=request.store)
    check_id(rules, "site_id", request.site_id, required=True)
    check_id(rules, "area_id", request.area_id)
    if not request.HasField("tariff"):
        rules.check(False, "tariff", "must be set")
    problem = ScheduleProblem(
        _grid(rules, request),
        _nodes(rules, request.nodes),
        _sessions(rules, request.sessions),
        _tariff(rules, request.tariff),
    )
    return DecodedRequest(problem, _options(rules, request.options, default_time_limit_s), rules)


def _grid(rules: Rules, request: charging_service_pb2.OptimizeScheduleRequest) -> TimeGrid:
    if not request.HasField("time_grid"):
        rules.check(False, "time_grid", "must be set")
        return TimeGrid(nan, nan, 0)
    return decode_grid(rules, request.time_grid)


def decode_grid(rules: Rules, grid: time_grid_pb2.TimeGrid) -> TimeGrid:
    """The time axis; NaN stands for what is not set."""
    start_unix_s = (
        timestamp_s(rules, "time_grid.start_time", grid.start_time) if grid.HasField("start_time") else nan
    )
    step_s = duration_s(rules, "time_grid.step_duration", grid.step_duration)
    if start_unix_s + step_s * grid.step_count > MAX_TIMESTAMP_S:
        rules.check(False, "time_grid", "must end before the year 10000")
    return TimeGrid(start_unix_s, step_s, grid.step_count)


def _nodes(rules: Rules, nodes: Sequence[supply_node_pb2.SupplyNode]) -> SupplyNodes:
    node_ids = tuple([node.node_id for node in nodes])
    parent_node_ids = tuple([node.parent_node_id for node in nodes])
    check_ids(rules, "nodes", "node_id", node_ids)
    check_ids(rules, "nodes", "parent_node_id", parent_node_ids)
    # a value of zero is either said or absent, so only then presence has to be asked for
    current_a = [node.max_current_a or (0.0 if node.HasField("max_current_a") else inf) for node in nodes]
    voltage_v = [
        node.nominal_voltage_v or (0.0 if node.HasField("nominal_voltage_v") else DEFAULT_VOLTAGE_V) for node in nodes
    ]  # fmt: skip
    for i, value in enumerate(current_a):
        if value == inf and nodes[i].HasField("max_current_a"):
            rules.check(False, f"nodes[{i}].max_current_a", "must be finite and >= 0, is inf")
    return SupplyNodes(
        node_ids,
        parent_node_ids,
        tuple([np.asarray(node.max_import_kw) for node in nodes]),
        tuple([np.asarray(node.max_export_kw) for node in nodes]),
        tuple([np.asarray(node.agreement_import_kw) for node in nodes]),
        np.array(current_a, dtype=np.float64),
        np.array(voltage_v, dtype=np.float64),
        tuple([np.asarray(node.fixed_load_kw) for node in nodes]),
        np.array([node.fixed_load_phases for node in nodes], dtype=np.int64),
    )


def _sessions(rules: Rules, sessions: Sequence[charging_session_pb2.ChargingSession]) -> Sessions:
    session_ids = tuple([s.session_id for s in sessions])
    evse_ids = tuple([s.evse_id for s in sessions])
    node_ids = tuple([s.node_id for s in sessions])
    check_ids(rules, "sessions", "session_id", session_ids)
    check_ids(rules, "sessions", "evse_id", evse_ids)
    check_ids(rules, "sessions", "node_id", node_ids)
    times = _times(rules, sessions)
    # One pass and one array: a column is a row of it. Where a value of zero may mean absent, presence is asked for.
    rows = [
        (
            s.energy_needed_kwh,
            s.minimum_energy_kwh,
            s.energy_headroom_kwh or (0.0 if s.HasField("energy_headroom_kwh") else s.energy_needed_kwh),
            s.energy_available_kwh,
            s.max_charge_kw,
            s.min_charge_kw,
            s.max_discharge_kw,
            s.min_discharge_kw,
            s.charge_efficiency or (0.0 if s.HasField("charge_efficiency") else 1.0),
            s.discharge_efficiency or (0.0 if s.HasField("discharge_efficiency") else 1.0),
            s.discharge_cost_per_kwh,
            s.energy_value_per_kwh,
            s.shortfall_weight or (0.0 if s.HasField("shortfall_weight") else 1.0),
            s.shortfall_price_per_kwh or (0.0 if s.HasField("shortfall_price_per_kwh") else _ABSENT),
            s.max_ramp_kw_per_step or (0.0 if s.HasField("max_ramp_kw_per_step") else _ABSENT),
            s.max_cycles or (0.0 if s.HasField("max_cycles") else _ABSENT),
        )
        for s in sessions
    ]
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 16).T.copy()
    _resolve_absent(rules, numbers[13:])
    states = [
        (s.state.delivered_kwh, s.state.charging_now) if s.HasField("state") else (0.0, False)
        for s in sessions
    ]
    return Sessions(
        session_ids=session_ids,
        evse_ids=evse_ids,
        node_ids=node_ids,
        arrival_unix_s=times[0],
        departure_unix_s=times[1],
        energy_needed_kwh=numbers[0],
        minimum_energy_kwh=numbers[1],
        minimum_energy_unix_s=times[2],
        energy_headroom_kwh=numbers[2],
        energy_available_kwh=numbers[3],
        max_charge_kw=numbers[4],
        min_charge_kw=numbers[5],
        max_discharge_kw=numbers[6],
        min_discharge_kw=numbers[7],
        charge_efficiency=numbers[8],
        discharge_efficiency=numbers[9],
        discharge_cost_per_kwh=numbers[10],
        phases=np.array([s.phases for s in sessions], dtype=np.int64),
        shortfall_price_per_kwh=numbers[13],
        energy_value_per_kwh=numbers[11],
        shortfall_weight=numbers[12],
        max_ramp_kw_per_step=numbers[14],
        max_cycles=numbers[15],
        delivered_kwh=np.array([delivered_kwh for delivered_kwh, _ in states], dtype=np.float64),
        charging_now=np.array([charging_now for _, charging_now in states], dtype=np.bool_),
        run_duration_s=times[3],
    )


def _resolve_absent(rules: Rules, limits: FloatArray) -> None:
    """Replace absent prices by NaN and absent limits by infinity, and report those that a caller wrote so."""
    absent = limits == _ABSENT
    if not absent.all():
        for row, i in zip(*np.nonzero(~np.isfinite(limits)), strict=True):
            rules.check(False, f"sessions[{i}].{_LIMIT_FIELDS[row]}", f"must be finite, is {limits[row, i]}")
    limits[0][absent[0]] = nan
    limits[1:][absent[1:]] = inf


def _times(rules: Rules, sessions: Sequence[charging_session_pb2.ChargingSession]) -> FloatArray:
    """Arrival, departure, minimum energy time and run duration in seconds: shape (4, sessions)."""
    rows = []
    for s in sessions:
        arrival, departure = s.arrival_time, s.departure_time
        minimum = s.minimum_energy_time if s.HasField("minimum_energy_time") else None
        run = s.state.run_duration if s.HasField("state") else None
        rows.append(
            (
                arrival.seconds or (0.0 if s.HasField("arrival_time") else nan),
                arrival.nanos,
                departure.seconds or (0.0 if s.HasField("departure_time") else nan),
                departure.nanos,
                inf if minimum is None else minimum.seconds,
                0 if minimum is None else minimum.nanos,
                0 if run is None else run.seconds,
                0 if run is None else run.nanos,
            )
        )
    times = np.array(rows, dtype=np.float64).reshape(-1, 8)
    bad = (times < _TIME_LOW) | (times > _TIME_HIGH)
    bad[:, 4] &= times[:, 4] != inf
    if bad.any():
        for i, column in zip(*np.nonzero(bad), strict=True):
            rules.check(False, f"sessions[{i}].{_TIME_FIELDS[column // 2]}", "must be a valid protobuf time")
    return np.ascontiguousarray((times[:, 0::2] + 1e-9 * times[:, 1::2]).T)


def _tariff(rules: Rules, tariff: tariff_pb2.Tariff) -> Tariff:
    return Tariff(
        import_price_per_kwh=np.asarray(tariff.import_price_per_kwh),
        export_price_per_kwh=np.asarray(tariff.export_price_per_kwh),
        currency_code=tariff.currency_code,
        peak_price_per_kw=tariff.peak_price_per_kw,
        observed_peak_kw=tariff.observed_peak_kw,
        peak_window=np.array(tariff.peak_window, dtype=np.bool_),
        peak_averaging_s=duration_s(rules, "tariff.peak_averaging_duration", tariff.peak_averaging_duration),
        emission_intensity_g_per_kwh=np.asarray(tariff.emission_intensity_g_per_kwh),
        emission_price_per_kg=tariff.emission_price_per_kg,
    )


def _options(
    rules: Rules, options: schedule_options_pb2.ScheduleOptions, default_time_limit_s: float
) -> ScheduleOptions:
    time_limit_s = default_time_limit_s
    if options.HasField("time_limit_duration"):
        time_limit_s = duration_s(rules, "options.time_limit_duration", options.time_limit_duration)
    check_id(rules, "options.previous_schedule_id", options.previous_schedule_id)
    return ScheduleOptions(
        time_limit_s=min(time_limit_s, default_time_limit_s),
        relative_gap=options.relative_gap
        if options.HasField("relative_gap")
        else ScheduleOptions().relative_gap,
        absolute_gap=options.absolute_gap,
        objective=_known(rules, "options.objective", ScheduleObjective, options.objective),
        shortfall_price_per_kwh=(
            options.shortfall_price_per_kwh if options.HasField("shortfall_price_per_kwh") else None
        ),
        start_cost=options.start_cost,
        max_starts_per_session=(
            options.max_starts_per_session if options.HasField("max_starts_per_session") else None
        ),
        min_run_s=duration_s(rules, "options.min_run_duration", options.min_run_duration),
        departure_margin_s=duration_s(
            rules, "options.departure_margin_duration", options.departure_margin_duration
        ),
        control_enabled=np.array(options.control_enabled, dtype=np.bool_),
        departure_beyond_horizon=_known(
            rules,
            "options.departure_beyond_horizon",
            DepartureBeyondHorizon,
            options.departure_beyond_horizon,
        ),
        terminal_value_per_kwh=options.terminal_value_per_kwh,
        change_cost_per_kwh=options.change_cost_per_kwh,
        current_quantum_a=options.current_quantum_a,
    )


def _known(rules: Rules, path: str, kind: type[_Choice], value: int) -> _Choice:
    """The enum's member; unspecified means the first one, and so does, once reported, an unknown value."""
    try:
        return kind(value or 1)
    except ValueError:
        rules.check(False, path, f"must be a known {kind.__name__}, is {value}")
        return kind(1)
