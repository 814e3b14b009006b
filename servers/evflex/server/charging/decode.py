"""Turns a request into the engine's model, column by column, and reports what only the wire can get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
from google.protobuf.message import Message
from numba import njit

from evflex.charging.v1 import charging_service_pb2, charging_session_pb2, schedule_options_pb2, tariff_pb2
from evflex.common.v1 import supply_node_pb2
from evflex.engine.charging.model import (
    DepartureBeyondHorizon,
    ScheduleObjective,
    ScheduleOptions,
    ScheduleProblem,
    Sessions,
    Tariff,
)
from evflex.engine.supply_tree import DEFAULT_VOLTAGE_V, BoolArray, FloatArray, SupplyNodes
from evflex.engine.validation import Rules, Violation
from evflex.server.columns import Layout
from evflex.server.fields import (
    MAX_DURATION_S,
    MAX_TIMESTAMP_S,
    MIN_TIMESTAMP_S,
    NANOS,
    check_id,
    check_ids,
    check_request_id,
    duration_s,
    known_member,
    merged,
    read_grid,
)

# Stands for "not set" until the columns are arrays; no field allows this value.
_ABSENT = -1.7e308
# The same for a time, which is a whole number of seconds on the wire; within the valid range, so that it needs no care.
_NO_TIME_S = MAX_TIMESTAMP_S + 0.5
_TIME_FIELDS = ("arrival_time", "departure_time", "minimum_energy_time", "state.run_duration")
# Limits of seconds, then of nanos, of these times.
_TIME_COUNT = len(_TIME_FIELDS)
_TIME_LOW = np.array([MIN_TIMESTAMP_S] * 3 + [-MAX_DURATION_S, 0, 0, 0, 1 - NANOS], dtype=np.float64)
_TIME_HIGH = np.array([_NO_TIME_S] * 3 + [MAX_DURATION_S] + [NANOS - 1] * 4, dtype=np.float64)
_LIMIT_FIELDS = ("shortfall_price_per_kwh", "max_ramp_kw_per_step", "max_cycles")

_SESSIONS_FIELD = charging_service_pb2.OptimizeScheduleRequest.SESSIONS_FIELD_NUMBER
_Session = charging_session_pb2.ChargingSession
_RUN = (_Session.STATE_FIELD_NUMBER, charging_session_pb2.SessionState.RUN_DURATION_FIELD_NUMBER)
_SESSION_LAYOUT = Layout.of(
    {
        "arrival_time.seconds": ((_Session.ARRIVAL_TIME_FIELD_NUMBER, 1), nan),
        "departure_time.seconds": ((_Session.DEPARTURE_TIME_FIELD_NUMBER, 1), nan),
        "minimum_energy_time.seconds": ((_Session.MINIMUM_ENERGY_TIME_FIELD_NUMBER, 1), _NO_TIME_S),
        "state.run_duration.seconds": ((*_RUN, 1), 0.0),
        "arrival_time.nanos": ((_Session.ARRIVAL_TIME_FIELD_NUMBER, 2), 0.0),
        "departure_time.nanos": ((_Session.DEPARTURE_TIME_FIELD_NUMBER, 2), 0.0),
        "minimum_energy_time.nanos": ((_Session.MINIMUM_ENERGY_TIME_FIELD_NUMBER, 2), 0.0),
        "state.run_duration.nanos": ((*_RUN, 2), 0.0),
        "energy_needed_kwh": ((_Session.ENERGY_NEEDED_KWH_FIELD_NUMBER,), 0.0),
        "minimum_energy_kwh": ((_Session.MINIMUM_ENERGY_KWH_FIELD_NUMBER,), 0.0),
        "energy_headroom_kwh": ((_Session.ENERGY_HEADROOM_KWH_FIELD_NUMBER,), _ABSENT),
        "energy_available_kwh": ((_Session.ENERGY_AVAILABLE_KWH_FIELD_NUMBER,), 0.0),
        "max_charge_kw": ((_Session.MAX_CHARGE_KW_FIELD_NUMBER,), 0.0),
        "min_charge_kw": ((_Session.MIN_CHARGE_KW_FIELD_NUMBER,), 0.0),
        "max_discharge_kw": ((_Session.MAX_DISCHARGE_KW_FIELD_NUMBER,), 0.0),
        "min_discharge_kw": ((_Session.MIN_DISCHARGE_KW_FIELD_NUMBER,), 0.0),
        "charge_efficiency": ((_Session.CHARGE_EFFICIENCY_FIELD_NUMBER,), 1.0),
        "discharge_efficiency": ((_Session.DISCHARGE_EFFICIENCY_FIELD_NUMBER,), 1.0),
        "discharge_cost_per_kwh": ((_Session.DISCHARGE_COST_PER_KWH_FIELD_NUMBER,), 0.0),
        "energy_value_per_kwh": ((_Session.ENERGY_VALUE_PER_KWH_FIELD_NUMBER,), 0.0),
        "shortfall_weight": ((_Session.SHORTFALL_WEIGHT_FIELD_NUMBER,), 1.0),
        "phases": ((_Session.PHASES_FIELD_NUMBER,), 0.0),
        "state.delivered_kwh": ((_Session.STATE_FIELD_NUMBER, 1), 0.0),
        "state.charging_now": ((_Session.STATE_FIELD_NUMBER, 2), 0.0),
        "shortfall_price_per_kwh": ((_Session.SHORTFALL_PRICE_PER_KWH_FIELD_NUMBER,), _ABSENT),
        "max_ramp_kw_per_step": ((_Session.MAX_RAMP_KW_PER_STEP_FIELD_NUMBER,), _ABSENT),
        "max_cycles": ((_Session.MAX_CYCLES_FIELD_NUMBER,), _ABSENT),
    }
)
_MINIMUM_TIME = _TIME_FIELDS.index("minimum_energy_time")
_NEEDED = _SESSION_LAYOUT.names.index("energy_needed_kwh")
_HEADROOM = _SESSION_LAYOUT.names.index("energy_headroom_kwh")
_FIRST_LIMIT = _SESSION_LAYOUT.names.index(_LIMIT_FIELDS[0])
_DEFAULTS = ScheduleOptions()
_NONE = np.empty(0)
_NONE.flags.writeable = False
_ALL_STEPS = np.empty(0, dtype=np.bool_)
_ALL_STEPS.flags.writeable = False


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
    rules.check(bool(request.nodes), "nodes", "must hold at least the root")
    if not request.HasField("tariff"):
        rules.check(False, "tariff", "must be set")
    problem = ScheduleProblem(
        read_grid(rules, "time_grid", request),
        _nodes(rules, request.nodes),
        _sessions(rules, request),
        _tariff(rules, request.tariff),
    )
    return DecodedRequest(problem, _options(rules, request.options, default_time_limit_s), rules)


def warm_up_decoding() -> None:
    """Compile what reads sessions."""
    request = charging_service_pb2.OptimizeScheduleRequest(sessions=[charging_session_pb2.ChargingSession()])
    decode_request(request, 1.0)


def _nodes(rules: Rules, messages: Sequence[supply_node_pb2.SupplyNode]) -> SupplyNodes:
    nodes = list(messages)
    node_ids = tuple([node.node_id for node in nodes])
    parent_node_ids = tuple([node.parent_node_id for node in nodes])
    check_ids(rules, "nodes", {"node_id": node_ids, "parent_node_id": parent_node_ids})
    max_current_a = [node.max_current_a if node.HasField("max_current_a") else None for node in nodes]
    for i, limit_a in enumerate(max_current_a):
        if limit_a == inf:  # the engine's word for "no limit", which a caller says by leaving it out
            rules.check(False, f"nodes[{i}].max_current_a", "must be finite and >= 0, is inf")
    return SupplyNodes(
        node_ids,
        parent_node_ids,
        tuple([_floats(node.max_import_kw) for node in nodes]),
        tuple([_floats(node.max_export_kw) for node in nodes]),
        tuple([_floats(node.agreement_import_kw) for node in nodes]),
        np.array([inf if limit_a is None else limit_a for limit_a in max_current_a], dtype=np.float64),
        np.array(
            [node.nominal_voltage_v if node.HasField("nominal_voltage_v") else DEFAULT_VOLTAGE_V for node in nodes],
            dtype=np.float64,
        ),
        tuple([_floats(node.fixed_load_kw) for node in nodes]),
        np.array([node.fixed_load_phases for node in nodes], dtype=np.int64),
    )


def _sessions(rules: Rules, request: charging_service_pb2.OptimizeScheduleRequest) -> Sessions:
    messages = list(request.sessions)  # keeps the wrappers, which each pass would make anew
    session_ids = tuple([s.session_id for s in messages])
    evse_ids = tuple([s.evse_id for s in messages])
    node_ids = tuple([s.node_id for s in messages])
    check_ids(rules, "sessions", {"session_id": session_ids, "evse_id": evse_ids, "node_id": node_ids})
    serialized = request.SerializeToString()
    table = _SESSION_LAYOUT.read(serialized, _SESSIONS_FIELD, len(messages))
    if not _resolve(table):
        _name_wire_faults(rules, _SESSION_LAYOUT.read(serialized, _SESSIONS_FIELD, len(messages)))
    (
        arrival_unix_s, departure_unix_s, minimum_energy_unix_s, run_duration_s, _, _, _, _,
        needed_kwh, minimum_kwh, headroom_kwh, available_kwh, max_charge_kw, min_charge_kw, max_discharge_kw,
        min_discharge_kw, charge_efficiency, discharge_efficiency, discharge_cost, energy_value, shortfall_weight,
        phases, delivered_kwh, charging_now, shortfall_price, max_ramp_kw, max_cycles,
    ) = table  # fmt: skip
    return Sessions(
        session_ids=session_ids,
        evse_ids=evse_ids,
        node_ids=node_ids,
        arrival_unix_s=arrival_unix_s,
        departure_unix_s=departure_unix_s,
        energy_needed_kwh=needed_kwh,
        minimum_energy_kwh=minimum_kwh,
        minimum_energy_unix_s=minimum_energy_unix_s,
        energy_headroom_kwh=headroom_kwh,
        energy_available_kwh=available_kwh,
        max_charge_kw=max_charge_kw,
        min_charge_kw=min_charge_kw,
        max_discharge_kw=max_discharge_kw,
        min_discharge_kw=min_discharge_kw,
        charge_efficiency=charge_efficiency,
        discharge_efficiency=discharge_efficiency,
        discharge_cost_per_kwh=discharge_cost,
        phases=phases.astype(np.int64),
        shortfall_price_per_kwh=shortfall_price,
        energy_value_per_kwh=energy_value,
        shortfall_weight=shortfall_weight,
        max_ramp_kw_per_step=max_ramp_kw,
        max_cycles=max_cycles,
        delivered_kwh=delivered_kwh,
        charging_now=charging_now.astype(np.bool_),
        run_duration_s=run_duration_s,
    )


@njit(cache=True)
def _resolve(table: FloatArray) -> bool:
    """Make seconds of seconds and nanos, and give what is absent its meaning; False where a value is not allowed."""
    sound = True
    for i in range(table.shape[1]):
        for row in range(_TIME_COUNT):
            seconds, nanos = table[row, i], table[row + _TIME_COUNT, i]
            sound &= not (seconds < _TIME_LOW[row] or seconds > _TIME_HIGH[row])
            sound &= not (nanos < _TIME_LOW[row + _TIME_COUNT] or nanos > _TIME_HIGH[row + _TIME_COUNT])
            table[row, i] = seconds + 1e-9 * nanos
        if table[_MINIMUM_TIME, i] == _NO_TIME_S:
            table[_MINIMUM_TIME, i] = inf
        if table[_HEADROOM, i] == _ABSENT:
            table[_HEADROOM, i] = table[_NEEDED, i]
        for row in range(_FIRST_LIMIT, table.shape[0]):
            if table[row, i] == _ABSENT:
                table[row, i] = nan if row == _FIRST_LIMIT else inf
            else:
                sound &= np.isfinite(table[row, i])
    return sound


def _name_wire_faults(rules: Rules, table: FloatArray) -> None:
    """Report times that protobuf does not allow, and absent limits that a caller wrote as NaN or infinity."""
    times = table[: 2 * _TIME_COUNT]
    for row, i in zip(*np.nonzero((times < _TIME_LOW[:, None]) | (times > _TIME_HIGH[:, None])), strict=True):
        rules.check(False, f"sessions[{i}].{_TIME_FIELDS[row % _TIME_COUNT]}", "must be a valid protobuf time")
    limits = table[_FIRST_LIMIT:]
    for row, i in zip(*np.nonzero(~np.isfinite(limits)), strict=True):
        rules.check(False, f"sessions[{i}].{_LIMIT_FIELDS[row]}", f"must be finite, is {limits[row, i]}")


def _tariff(rules: Rules, tariff: tariff_pb2.Tariff) -> Tariff:
    return Tariff(
        import_price_per_kwh=_floats(tariff.import_price_per_kwh),
        export_price_per_kwh=_floats(tariff.export_price_per_kwh),
        currency_code=tariff.currency_code,
        peak_price_per_kw=tariff.peak_price_per_kw,
        observed_peak_kw=tariff.observed_peak_kw,
        peak_window=_bools(tariff.peak_window),
        peak_averaging_s=_duration_s(rules, "tariff", tariff, "peak_averaging_duration"),
        emission_intensity_g_per_kwh=_floats(tariff.emission_intensity_g_per_kwh),
        emission_price_per_kg=tariff.emission_price_per_kg,
    )


def _options(
    rules: Rules, options: schedule_options_pb2.ScheduleOptions, default_time_limit_s: float
) -> ScheduleOptions:
    time_limit_s = default_time_limit_s
    if not options.ByteSize():
        return ScheduleOptions(time_limit_s)
    if options.HasField("time_limit_duration"):
        time_limit_s = duration_s(rules, "options.time_limit_duration", options.time_limit_duration)
    check_id(rules, "options.previous_schedule_id", options.previous_schedule_id)
    return ScheduleOptions(
        time_limit_s=min(time_limit_s, default_time_limit_s),
        relative_gap=options.relative_gap if options.HasField("relative_gap") else _DEFAULTS.relative_gap,
        absolute_gap=options.absolute_gap,
        objective=known_member(rules, "options.objective", options.objective, ScheduleObjective.COST),
        shortfall_price_per_kwh=(
            options.shortfall_price_per_kwh if options.HasField("shortfall_price_per_kwh") else None
        ),
        start_cost=options.start_cost,
        max_starts_per_session=(options.max_starts_per_session if options.HasField("max_starts_per_session") else None),
        min_run_s=_duration_s(rules, "options", options, "min_run_duration"),
        departure_margin_s=_duration_s(rules, "options", options, "departure_margin_duration"),
        control_enabled=_bools(options.control_enabled),
        departure_beyond_horizon=known_member(
            rules,
            "options.departure_beyond_horizon",
            options.departure_beyond_horizon,
            DepartureBeyondHorizon.FULL,
        ),
        terminal_value_per_kwh=options.terminal_value_per_kwh,
        change_cost_per_kwh=options.change_cost_per_kwh,
        current_quantum_a=options.current_quantum_a,
    )


def _duration_s(rules: Rules, path: str, message: Message, name: str) -> float:
    """Seconds of a duration; 0 where it is absent."""
    return duration_s(rules, f"{path}.{name}", getattr(message, name)) if message.HasField(name) else 0.0


def _floats(values: Sequence[float]) -> FloatArray:
    return np.asarray(values) if len(values) else _NONE


def _bools(values: Sequence[bool]) -> BoolArray:
    return np.array(values, dtype=np.bool_) if len(values) else _ALL_STEPS
