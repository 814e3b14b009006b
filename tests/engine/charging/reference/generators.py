"""Small random problems that exercise chosen features, reproducible from a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Set

import numpy as np
from hypothesis import strategies as st

from evflex.engine.charging.model import (
    DepartureBeyondHorizon,
    ScheduleObjective,
    ScheduleOptions,
    ScheduleProblem,
    Sessions,
    Tariff,
)
from evflex.engine.supply_tree import SupplyNodes
from evflex.engine.timegrid import TimeGrid
from tests.engine.charging.reference.case import FloatArray

# 2024-11-05 11:00 UTC, noon in Copenhagen; divisible by every step below.
START_UNIX_S = 1_730_804_400.0

FEATURES = (
    "agreement", "beyond", "change", "co2", "control", "cycles", "emissions", "export", "export_above", "min",
    "max_starts", "min_run", "minimum_energy", "negative_prices", "partial", "peak", "peak_blocks", "phases",
    "priced", "pro_rata", "pv", "quantum", "ramp", "shut", "starts", "state", "terminal", "tree", "v2g",
    "value", "weights",
)  # fmt: skip

# Features that make no sense, or are not defined, beside another.
_APART = (
    {"control", "min_run"}, {"control", "max_starts"}, {"control", "ramp"}, {"control", "quantum"},
    {"control", "v2g"}, {"control", "min"}, {"control", "agreement"}, {"ramp", "v2g"}, {"ramp", "quantum"},
    {"emissions", "export_above"},
)  # fmt: skip
# Features that need another to mean anything.
_NEEDS = {"starts": "min", "min_run": "min", "max_starts": "min", "cycles": "v2g", "pro_rata": "beyond",
          "terminal": "beyond", "export_above": "export"}  # fmt: skip


def compatible(features: Iterable[str]) -> frozenset[str]:
    """The features, those they need, and without those that cannot stand beside an earlier one.

    A set has no order of its own that lasts from run to run: it is sorted.
    """
    chosen: list[str] = []
    for feature in sorted(features) if isinstance(features, Set) else features:
        group = [feature, _NEEDS[feature]] if feature in _NEEDS else [feature]
        if not any({a, b} in _APART for a in group for b in chosen):
            chosen += group
    return frozenset(chosen)


def random_problem(
    seed: int, features: Iterable[str] = (), *, count: int = 3, steps: int = 6, step_s: float = 1800.0
) -> tuple[ScheduleProblem, ScheduleOptions]:
    """A valid small problem under limits that bind.

    Args:
        seed: Same seed and arguments, same problem.
        features: Names out of :data:`FEATURES`.
        count: Number of sessions.
        steps: Number of steps.
        step_s: Length of a step.
    """
    rng = np.random.default_rng(seed)
    on = compatible(features)
    grid = TimeGrid(START_UNIX_S, step_s, steps)
    nodes = _nodes(rng, on, grid, count)
    problem = ScheduleProblem(grid, nodes, _sessions(rng, on, grid, nodes, count), _tariff(rng, on, grid))
    return problem, _options(rng, on, problem)


def some_features(seed: int, count: int = 6) -> frozenset[str]:
    """A random choice of features that can stand together."""
    rng = np.random.default_rng([seed, 7])
    return compatible(rng.permutation(FEATURES)[: rng.integers(0, count + 1)].tolist())


@st.composite
def problems(draw: st.DrawFn, most_sessions: int = 3, most_steps: int = 6) -> tuple[ScheduleProblem, ScheduleOptions]:
    """Hypothesis strategy: small problems that shrink to fewer features, sessions and steps."""
    features = draw(st.lists(st.sampled_from(FEATURES), max_size=6, unique=True))
    count, steps = draw(st.integers(0, most_sessions)), draw(st.integers(1, most_steps))
    step_s = draw(st.sampled_from([900.0, 300.0, 1800.0, 3600.0]))
    seed = draw(st.integers(0, 2**20))
    return random_problem(seed, features, count=count, steps=steps, step_s=step_s)


def with_options(options: ScheduleOptions, **changes: object) -> ScheduleOptions:
    """The options with other values."""
    return dataclasses.replace(options, **changes)  # type: ignore[arg-type]


def with_sessions(problem: ScheduleProblem, **columns: FloatArray) -> ScheduleProblem:
    """The problem with other columns of its sessions."""
    return dataclasses.replace(problem, sessions=dataclasses.replace(problem.sessions, **columns))  # type: ignore[arg-type]


def _pick(rng: np.random.Generator, count: int, low: float, high: float, digits: int = 3) -> FloatArray:
    return np.round(rng.uniform(low, high, count), digits)


def _sessions(rng: np.random.Generator, on: frozenset[str], grid: TimeGrid, nodes: SupplyNodes, n: int) -> Sessions:
    steps, step_s = grid.step_count, grid.step_s
    begin = rng.integers(-1, max(1, steps - 1), n).astype(float)
    finish = np.minimum(begin + rng.integers(2, steps + 2, n), steps)
    if "partial" in on:
        begin += _pick(rng, n, 0.0, 0.9, 2)
        finish = np.maximum(begin + 0.1, finish - _pick(rng, n, 0.0, 0.9, 2))
    if "beyond" in on:
        finish[rng.random(n) < 0.6] += steps * 0.6
    phases = rng.integers(0, 8, n) if "phases" in on else np.full(n, 7)
    active = np.array([3, 1, 1, 1, 2, 2, 2, 3])[phases]
    max_charge = active * 0.23 * rng.choice([16.0, 32.0], n)
    stay_h = (finish - np.maximum(begin, 0.0)) * grid.step_h
    needed = np.round(max_charge * stay_h * rng.uniform(0.2, 1.1, n), 3)
    roomy = bool(on & {"v2g", "value", "terminal", "min_run", "state"})
    columns: dict[str, object] = {
        "phases": phases,
        "energy_headroom_kwh": needed + (_pick(rng, n, 0.0, 8.0) if roomy else 0.0),
        "charge_efficiency": 0.92,
        "node_ids": tuple(rng.choice(nodes.node_ids, n).tolist()),
    }
    if "min" in on:
        columns["min_charge_kw"] = active * 0.23 * 6.0
    if "v2g" in on:
        can = rng.random(n) < 0.7
        columns |= {
            "max_discharge_kw": np.where(can, max_charge, 0.0),
            "min_discharge_kw": np.where(can & ("min" in on), active * 0.23 * 6.0, 0.0),
            "energy_available_kwh": np.where(can, _pick(rng, n, 0.0, 10.0), 0.0),
            "discharge_efficiency": 0.9,
            "discharge_cost_per_kwh": _pick(rng, n, 0.0, 0.05),
        }
    if "cycles" in on:
        columns["max_cycles"] = _pick(rng, n, 0.0, 0.5)
    if "minimum_energy" in on:
        columns["minimum_energy_kwh"] = np.round(needed * rng.uniform(0.3, 1.0, n), 3)
        at = grid.start_unix_s + step_s * rng.integers(1, steps + 1, n)
        columns["minimum_energy_unix_s"] = np.where(rng.random(n) < 0.5, np.inf, at)
    if "priced" in on and rng.random() < 0.5:
        columns["shortfall_price_per_kwh"] = np.where(rng.random(n) < 0.5, np.nan, _pick(rng, n, 0.4, 1.0))
    if "value" in on:
        columns["energy_value_per_kwh"] = _pick(rng, n, 0.0, 0.35)
    if "weights" in on:
        columns["shortfall_weight"] = rng.choice([0.5, 1.0, 2.0, 5.0], n)
    if "ramp" in on:
        columns["max_ramp_kw_per_step"] = _pick(rng, n, 1.5, 8.0)
    if "state" in on:
        columns["charging_now"] = begin <= 0
        columns["delivered_kwh"] = np.where(begin <= 0, _pick(rng, n, 0.0, 5.0), 0.0)
        # long enough that no run must go on: whether it can is for tests of their own
        columns["run_duration_s"] = step_s * rng.integers(3, 6, n)
    return Sessions.simple(
        arrival_unix_s=grid.start_unix_s + step_s * begin,
        departure_unix_s=grid.start_unix_s + step_s * finish,
        energy_needed_kwh=needed,
        max_charge_kw=max_charge,
        **columns,
    )


def _nodes(rng: np.random.Generator, on: frozenset[str], grid: TimeGrid, count: int) -> SupplyNodes:
    steps, none = grid.step_count, np.empty(0)
    parents = ("", "root", "root", "panel-1") if "tree" in on else ("",)
    n = len(parents)
    imports = [np.array([max(6.0, 6.0 * count)]) * rng.uniform(0.5, 1.0), *[none] * (n - 1)]
    exports, agreements, fixed = [none] * n, [none] * n, [none] * n
    current = np.full(n, np.inf)
    for k in range(1, n):
        imports[k] = _pick(rng, steps, 2.0, 14.0) if rng.random() < 0.7 else none
    if "phases" in on:
        current[rng.integers(0, n)] = rng.choice([16.0, 25.0, 32.0])
    if on & {"v2g", "pv"}:
        exports[0] = np.array([rng.uniform(4.0, 12.0)])
    if on & {"pv", "peak"}:
        low = -8.0 if "pv" in on else 0.0
        fixed[rng.integers(0, n)] = _pick(rng, steps, low, 4.0)
    if "agreement" in on:
        agreements[0] = imports[0] * rng.uniform(0.2, 0.9)
    if "shut" in on:  # nothing may be drawn for a while
        imports[0] = np.where(rng.random(steps) < 0.4, 0.0, imports[0])
    return SupplyNodes(
        node_ids=("root", "panel-1", "panel-2", "circuit-1")[:n],
        parent_node_ids=parents,
        max_import_kw=tuple(imports),
        max_export_kw=tuple(exports),
        agreement_import_kw=tuple(agreements),
        max_current_a=current,
        nominal_voltage_v=np.full(n, 230.0),
        fixed_load_kw=tuple(fixed),
        fixed_load_phases=rng.integers(0, 8, n) if "phases" in on else np.full(n, 7),
    )


def _tariff(rng: np.random.Generator, on: frozenset[str], grid: TimeGrid) -> Tariff:
    steps, empty = grid.step_count, np.empty(0)
    price = _pick(rng, steps, -0.3 if "negative_prices" in on else 0.05, 0.5, 4)
    export = np.round(price - rng.uniform(0.02, 0.1, steps), 4) if "export" in on else empty
    if "export_above" in on:
        export = np.round(price + rng.uniform(-0.1, 0.1, steps), 4)
    emits = bool(on & {"co2", "emissions"})
    return Tariff(
        import_price_per_kwh=price,
        export_price_per_kwh=export,
        peak_price_per_kw=float(rng.uniform(0.1, 1.0)) if on & {"peak", "peak_blocks"} else 0.0,
        observed_peak_kw=float(rng.uniform(0.0, 6.0)) if on & {"peak", "peak_blocks"} else 0.0,
        peak_window=rng.random(steps) < 0.7 if "peak" in on else np.empty(0, dtype=np.bool_),
        peak_averaging_s=2 * grid.step_s if "peak_blocks" in on else 0.0,
        emission_intensity_g_per_kwh=_pick(rng, steps, 50.0, 400.0) if emits else empty,
        emission_price_per_kg=0.1 if "co2" in on else 0.0,
    )


def _options(rng: np.random.Generator, on: frozenset[str], problem: ScheduleProblem) -> ScheduleOptions:
    steps, step_s, n = problem.grid.step_count, problem.grid.step_s, len(problem.sessions.session_ids)
    previous = np.empty((0, 0))
    if "change" in on:
        previous = np.round(rng.uniform(0.0, 7.0, (n, steps)), 3)
        previous[rng.random((n, steps)) < 0.3] = np.nan
    return ScheduleOptions(
        relative_gap=1e-6,
        objective=ScheduleObjective.EMISSIONS if "emissions" in on else ScheduleObjective.COST,
        shortfall_price_per_kwh=2.0 if "priced" in on else None,
        start_cost=float(rng.uniform(0.02, 0.2)) if "starts" in on else 0.0,
        max_starts_per_session=int(rng.integers(1, 3)) if "max_starts" in on else None,
        min_run_s=step_s * float(rng.choice([1.5, 2.0, 3.0])) if "min_run" in on else 0.0,
        control_enabled=rng.random(steps) < 0.6 if "control" in on else np.empty(0, dtype=np.bool_),
        departure_beyond_horizon=(DepartureBeyondHorizon.PRO_RATA if "pro_rata" in on else DepartureBeyondHorizon.FULL),
        terminal_value_per_kwh=float(rng.uniform(0.1, 0.4)) if "terminal" in on else 0.0,
        previous_power_kw=previous,
        change_cost_per_kwh=0.03 if "change" in on else 0.0,
        current_quantum_a=float(rng.choice([1.0, 2.0])) if "quantum" in on else 0.0,
    )
