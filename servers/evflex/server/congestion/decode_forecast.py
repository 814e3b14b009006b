"""Turns a request for a forecast of congestion into the engine's problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evflex.congestion.v1 import congestion_pb2, congestion_service_pb2
from evflex.engine.grid import CongestionOptions, CongestionProblem, all_contingencies
from evflex.engine.grid.injections import Injections, LoadRows, deviations_of_rows
from evflex.engine.grid.limits import DEFAULT_MAX_LOADING_RATIO, voltage_band
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.validation import Rules
from evflex.server.congestion.decode_injections import bounded_numbers, decode_load, load_rows
from evflex.server.congestion.prepared_networks import PreparedNetwork
from evflex.server.errors import invalid
from evflex.server.fields import merged, refuse, sound_grid

_Request = congestion_service_pb2.ForecastCongestionRequest
_MOST_SAMPLES = 10_000
_NONE = np.empty(0, dtype=np.int64)
_LISTED = (congestion_pb2.CONTINGENCY_SELECTION_LISTED,)
_SELECTIONS = congestion_pb2.ContingencySelection.values()


def decode_forecast(request: _Request, of: PreparedNetwork) -> tuple[CongestionProblem, CongestionOptions]:
    """The problem and what is wanted of it.

    Args:
        request: The request; within the server's limits.
        of: The network.

    Raises:
        ServiceError: INVALID_ARGUMENT, with every rule broken.
    """
    wire = Rules()
    grid = sound_grid(wire, "time_grid", request)
    injections = decode_load(wire, request, of)
    branch_index = {branch_id: k for k, branch_id in enumerate(of.network.branches.branch_ids)}
    lost, ties = _contingencies(wire, request.contingencies, of, branch_index)
    low, high, loading = _limits(wire, request.limits, of, branch_index)
    allowed = _relief_buses(wire, request.relief_bus_ids, of)
    if grid is None or injections is None:
        refuse(wire)
    assert grid is not None
    assert injections is not None
    p_kw, q_kvar = injections.block(0, injections.step_count)
    uncertain = _Uncertainty(wire, request, of, injections.step_count, q_kvar)
    refuse(wire)
    problem = CongestionProblem(
        grid, of.network, p_kw, q_kvar, uncertain.p_std_kw, uncertain.q_std_kvar, uncertain.p_samples_kw,
        uncertain.q_samples_kvar, low, high, loading, lost, ties, allowed,
    )  # fmt: skip
    options = _options(request)
    rules = Rules()
    options.validate(rules)
    problem.validate(rules)
    if violations := merged(Rules(), rules):
        raise invalid(violations)
    return problem, options


def _options(request: _Request) -> CongestionOptions:
    uncertainty, default = request.uncertainty, CongestionOptions()
    return CongestionOptions(
        min_probability=request.min_probability if request.HasField("min_probability") else default.min_probability,
        sample_count=uncertainty.scenario_count if uncertainty.HasField("scenario_count") else default.sample_count,
        seed=uncertainty.seed,
        want_relief=request.return_relief or not request.HasField("return_relief"),
        want_worst=request.return_worst,
    )


def _contingencies(
    rules: Rules, message: congestion_pb2.Contingencies, of: PreparedNetwork, branch_index: Mapping[str, int]
) -> tuple[IntArray, IntArray]:
    """Branches that are lost, and those that may be closed."""
    selection, listed = message.selection, message.branch_ids
    rules.check(
        selection in _SELECTIONS, "contingencies.selection", f"must be a known ContingencySelection, is {selection}"
    )
    if selection in _LISTED:
        rules.check(len(listed) > 0, "contingencies.branch_ids", "must name at least one branch with LISTED")
    else:
        rules.check(not listed, "contingencies.branch_ids", "must be empty without LISTED")
    lost = _indices(rules, "contingencies.branch_ids", listed, branch_index, "branch")
    if selection == congestion_pb2.CONTINGENCY_SELECTION_ALL_BRANCHES:
        lost = all_contingencies(of.network)
    path = "contingencies.closable_branch_ids"
    ties = _indices(rules, path, message.closable_branch_ids, branch_index, "branch")
    branches = of.network.branches
    for i, k in enumerate(ties.tolist()):
        closed = bool(branches.from_closed[k] and branches.to_closed[k])
        rules.check(not closed, f"{path}[{i}]", "must be open in the network")
    return lost, ties


def _limits(
    rules: Rules, message: congestion_pb2.CongestionLimits, of: PreparedNetwork, branch_index: Mapping[str, int]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Lowest and highest voltage of buses, and largest loading of branches."""
    low, high = voltage_band(of.network)
    loading = np.full(of.network.branch_count, DEFAULT_MAX_LOADING_RATIO)
    for name, values in (("voltage_min_pu", low), ("voltage_max_pu", high), ("max_loading_ratio", loading)):
        if message.HasField(name):
            value = getattr(message, name)
            rules.check(0.0 < value < np.inf, f"limits.{name}", f"must be finite and > 0, is {value:g}")
            values[:] = value
    buses = _indices(rules, "limits.bus_ids", message.bus_ids, of.bus_index, "bus")
    branches = _indices(rules, "limits.branch_ids", message.branch_ids, branch_index, "branch")
    for name, values, at, count in (
        ("bus_voltage_min_pu", low, buses, len(message.bus_ids)),
        ("bus_voltage_max_pu", high, buses, len(message.bus_ids)),
        ("branch_max_loading_ratio", loading, branches, len(message.branch_ids)),
    ):
        own = np.array(getattr(message, name), dtype=np.float64)
        if rules.length(f"limits.{name}", len(own), (count,)) and len(at) == count:
            bad = ~(np.isfinite(own) & (own > 0.0))
            for i in np.flatnonzero(bad).tolist():
                rules.check(False, f"limits.{name}[{i}]", f"must be finite and > 0, is {own[i]:g}")
            values[at] = own
    crossed = np.flatnonzero(low >= high)
    if len(crossed):
        bus_id = of.network.buses.bus_ids[crossed[0]]
        rules.check(False, "limits", f"must leave each bus a band of voltages; bus {bus_id!r} has none")
    return low, high, loading


def _relief_buses(rules: Rules, bus_ids: Sequence[str], of: PreparedNetwork) -> BoolArray | None:
    if not bus_ids:
        return None
    allowed = np.zeros(of.network.bus_count, dtype=bool)
    allowed[_indices(rules, "relief_bus_ids", bus_ids, of.bus_index, "bus")] = True
    return allowed


def _indices(rules: Rules, path: str, ids: Sequence[str], index: Mapping[str, int], what: str) -> IntArray:
    """Indices of the named elements; reports those that are unknown or repeated, and leaves them out."""
    seen: dict[int, int] = {}
    for i, name in enumerate(ids):
        at = index.get(name, -1)
        rules.check(at >= 0, f"{path}[{i}]", f"must be a {what} of the network, is {name[:100]!r}")
        if at >= 0:
            first = seen.setdefault(at, i)
            rules.check(first == i, f"{path}[{i}]", f"must be unique, repeats {path}[{first}]: {name[:100]!r}")
    return np.array(list(seen), dtype=np.int64) if seen else _NONE


class _Uncertainty:
    """Deviations or samples of what buses draw; None where the request has none."""

    p_std_kw: FloatArray | None = None
    q_std_kvar: FloatArray | None = None
    p_samples_kw: FloatArray | None = None
    q_samples_kvar: FloatArray | None = None

    def __init__(self, rules: Rules, request: _Request, of: PreparedNetwork, steps: int, q_kvar: FloatArray) -> None:
        message = request.uncertainty
        deviates = bool(message.p_std_kw or message.q_std_kvar)
        samples = bool(message.sample_p_kw or message.sample_q_kvar or message.sample_count)
        if not deviates and not samples:
            return
        rows = load_rows(request, of)
        if rows is None:
            rules.check(False, "uncertainty", "must not be set without injections, whose rows it describes")
        elif deviates and samples:
            rules.check(False, "uncertainty", "must hold standard deviations or samples, not both")
        elif deviates:
            self._deviations(rules, message, of, rows, steps)
        else:
            self._samples(rules, request, of, rows, q_kvar)

    def _deviations(
        self, rules: Rules, message: congestion_pb2.InjectionUncertainty, of: PreparedNetwork, rows: LoadRows,
        steps: int,
    ) -> None:  # fmt: skip
        shape = (len(rows.bus), steps)
        for name in ("p_std_kw", "q_std_kvar"):
            path, values = f"uncertainty.{name}", np.array(getattr(message, name), dtype=np.float64)
            if not len(values) or not bounded_numbers(rules, path, values, (len(rows.bus) * steps,)):
                continue
            negative = np.flatnonzero(values < 0.0)
            for i in negative.tolist():
                rules.check(False, f"{path}[{i}]", f"must be >= 0, is {values[i]:g}")
            if not len(negative):
                setattr(self, name, deviations_of_rows(of.network, rows, values.reshape(shape)))

    def _samples(
        self, rules: Rules, request: _Request, of: PreparedNetwork, rows: LoadRows, q_kvar: FloatArray
    ) -> None:
        message, steps = request.uncertainty, len(q_kvar)
        count = message.sample_count
        path = "uncertainty.sample_count"
        if not 0 < count <= _MOST_SAMPLES:
            rules.check(False, path, f"must lie between 1 and {_MOST_SAMPLES}, is {count}")
            return
        cells = count * len(rows.bus) * steps
        p, q = (np.array(values, dtype=np.float64) for values in (message.sample_p_kw, message.sample_q_kvar))
        sound = bounded_numbers(rules, "uncertainty.sample_p_kw", p, (cells,))
        sound &= bounded_numbers(rules, "uncertainty.sample_q_kvar", q, (0, cells))
        if not sound:
            return
        kind = request.WhichOneof("load")
        adds = bool(kind and getattr(request, kind).add_network_loads)
        shape = (count, len(rows.bus), steps)
        nothing = np.zeros(shape[1:])
        courses = [
            Injections.of_rows(of.network, rows, p_row, q_row, add_network_loads=adds).block(0, steps)
            for p_row, q_row in zip(p.reshape(shape), q.reshape(shape) if len(q) else [nothing] * count, strict=True)
        ]
        self.p_samples_kw = np.stack([course[0] for course in courses])
        if len(q):
            self.q_samples_kvar = np.stack([course[1] for course in courses])
