"""Turns the load of a request into the engine's injections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import congestion_service_pb2, power_flow_pb2
from evflex.engine.grid import Network
from evflex.engine.grid.injections import MOST_KW, Injections, LoadRows
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.validation import MAX_REPORTED, Rules
from evflex.server.congestion.prepared_networks import PreparedNetwork
from evflex.server.fields import sound_grid

LoadRequest = congestion_service_pb2.RunPowerFlowRequest | congestion_service_pb2.ForecastCongestionRequest
_BALANCED = (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)
# Share of each phase by the contract's PhaseConnection; unspecified is balanced.
_PHASE_SHARES: Mapping[int, tuple[float, float, float]] = {
    supply_node_pb2.PHASE_CONNECTION_UNSPECIFIED: _BALANCED,
    supply_node_pb2.PHASE_CONNECTION_L1: (1.0, 0.0, 0.0),
    supply_node_pb2.PHASE_CONNECTION_L2: (0.0, 1.0, 0.0),
    supply_node_pb2.PHASE_CONNECTION_L3: (0.0, 0.0, 1.0),
    supply_node_pb2.PHASE_CONNECTION_L1_L2: (0.5, 0.5, 0.0),
    supply_node_pb2.PHASE_CONNECTION_L2_L3: (0.0, 0.5, 0.5),
    supply_node_pb2.PHASE_CONNECTION_L3_L1: (0.5, 0.0, 0.5),
    supply_node_pb2.PHASE_CONNECTION_L1_L2_L3: _BALANCED,
}


def asked_steps(request: LoadRequest) -> int:
    """Steps that a request asks for, known before anything is built from it; 1 where nothing says."""
    if request.HasField("time_grid"):
        return request.time_grid.step_count
    kind = request.WhichOneof("load")
    if kind == "injections":
        return len(request.injections.p_kw) // max(1, len(request.injections.bus_ids))
    if kind == "profiled_injections":
        profiled = request.profiled_injections
        return len(profiled.profile_values) // profiled.profile_count if profiled.profile_count > 0 else 1
    return 1


def decode_load(rules: Rules, request: LoadRequest, of: PreparedNetwork) -> Injections | None:
    """What is drawn, None where it breaks a rule, which is reported.

    Args:
        rules: Receives the faults.
        request: The request; within the server's limits.
        of: The network.
    """
    before = len(rules.violations)
    steps = asked_steps(request)
    if request.HasField("time_grid") and sound_grid(rules, "time_grid", request) is None:
        return None
    kind = request.WhichOneof("load")
    if kind == "injections":
        injections = _dense(rules, request.injections, of, steps)
    elif kind == "profiled_injections":
        injections = _profiled(rules, request.profiled_injections, of, steps)
    else:
        injections = Injections.of_network(of.network, steps)
    return injections if len(rules.violations) == before else None


def load_rows(request: LoadRequest, of: PreparedNetwork) -> LoadRows | None:
    """Rows of the injections that :func:`decode_load` found sound; None where the request has none of its own."""
    kind = request.WhichOneof("load")
    if kind is None:
        return None
    return _rows(Rules(), kind, getattr(request, kind), of)


def _dense(rules: Rules, message: power_flow_pb2.Injections, of: PreparedNetwork, steps: int) -> Injections | None:
    rows = _rows(rules, "injections", message, of)
    cells = len(message.bus_ids) * steps
    p_kw = np.array(message.p_kw, dtype=np.float64)
    q_kvar = np.array(message.q_kvar, dtype=np.float64)
    # without a time axis the first length that is told is that of one step
    sound = bounded_numbers(rules, "injections.p_kw", p_kw, (cells or len(message.bus_ids),))
    sound &= bounded_numbers(rules, "injections.q_kvar", q_kvar, (0, cells))
    if rows is None or not sound:
        return None
    shape = (len(message.bus_ids), steps)
    q_kvar = q_kvar.reshape(shape) if len(q_kvar) else np.zeros(shape)
    return Injections.of_rows(
        of.network, rows, p_kw.reshape(shape), q_kvar, add_network_loads=message.add_network_loads
    )


def _profiled(
    rules: Rules, message: power_flow_pb2.ProfiledInjections, of: PreparedNetwork, steps: int
) -> Injections | None:
    path = "profiled_injections"
    rows = _rows(rules, path, message, of)
    count = len(message.bus_ids)
    profiles = message.profile_count
    rules.check(profiles >= 0, f"{path}.profile_count", f"must be >= 0, is {profiles}")
    values = np.array(message.profile_values, dtype=np.float64)
    p_scale = np.array(message.p_scale_kw, dtype=np.float64)
    q_scale = np.array(message.q_scale_kvar, dtype=np.float64)
    sound = bounded_numbers(rules, f"{path}.profile_values", values, (max(0, profiles) * max(1, steps),))
    sound &= bounded_numbers(rules, f"{path}.p_scale_kw", p_scale, (count,))
    sound &= bounded_numbers(rules, f"{path}.q_scale_kvar", q_scale, (0, count))
    p_profile = _profile_indices(rules, f"{path}.p_profile_indices", message.p_profile_indices, (count,), profiles)
    q_profile = _profile_indices(rules, f"{path}.q_profile_indices", message.q_profile_indices, (0, count), profiles)
    if rows is None or not sound or p_profile is None or q_profile is None:
        return None
    return Injections.of_profiles(
        of.network,
        rows,
        values.reshape(profiles, steps),
        p_profile,
        p_scale,
        q_profile if len(q_profile) else p_profile,
        q_scale if len(q_scale) else np.zeros(count),
        add_network_loads=message.add_network_loads,
    )


def bounded_numbers(rules: Rules, path: str, values: FloatArray, lengths: tuple[int, ...]) -> bool:
    """Report a wrong length, and what is not finite or too large. True when all is well."""
    if not rules.length(path, len(values), lengths):
        return False
    bad = np.flatnonzero(~(np.abs(values) <= MOST_KW))
    for i in bad[:MAX_REPORTED].tolist():
        rules.check(False, f"{path}[{i}]", f"must lie between -{MOST_KW:g} and {MOST_KW:g}, is {values[i]}")
    return not len(bad)


def _profile_indices(
    rules: Rules, path: str, indices: Sequence[int], lengths: tuple[int, ...], profiles: int
) -> IntArray | None:
    values = np.array(indices, dtype=np.int64)
    if not rules.length(path, len(values), lengths):
        return None
    bad = np.flatnonzero(values >= max(0, profiles))
    for i in bad.tolist():
        rules.check(False, f"{path}[{i}]", f"must be below profile_count, is {values[i]}")
    return None if len(bad) else values


def _rows(
    rules: Rules,
    path: str,
    message: power_flow_pb2.Injections | power_flow_pb2.ProfiledInjections,
    of: PreparedNetwork,
) -> LoadRows | None:
    bus_ids = message.bus_ids
    rules.check(len(bus_ids) > 0, f"{path}.bus_ids", "must name at least one bus")
    bus = np.array([of.bus_index.get(bus_id, -1) for bus_id in bus_ids], dtype=np.int64)
    unknown = np.flatnonzero(bus < 0)
    for i in unknown.tolist():
        rules.check(False, f"{path}.bus_ids[{i}]", f"must be a bus of the network, is {bus_ids[i][:100]!r}")
    share = _phase_share(rules, f"{path}.phases", message.phases, len(bus_ids), of.network)
    return None if len(unknown) or share is None else LoadRows(bus, share)


def _phase_share(rules: Rules, path: str, phases: Sequence[int], rows: int, network: Network) -> FloatArray | None:
    if not rules.length(path, len(phases), (0, rows)):
        return None
    before = len(rules.violations)
    for i, connection in enumerate(phases):
        if connection not in _PHASE_SHARES:
            rules.check(False, f"{path}[{i}]", f"must be a known PhaseConnection, is {connection}")
        elif network.phase_count == 1 and _PHASE_SHARES[connection] is not _BALANCED:
            rules.check(False, f"{path}[{i}]", "must be balanced: the network has one phase that stands for all")
    if len(rules.violations) > before:
        return None
    if network.phase_count == 1:
        return np.ones((rows, 1))
    return np.array([_PHASE_SHARES[k] for k in phases] if phases else [_BALANCED] * rows).reshape(rows, 3)
