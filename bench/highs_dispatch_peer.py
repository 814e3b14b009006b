"""The peer of portfolio dispatch: the whole fleet as one linear program in HiGHS, built as arrays."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bench.dispatch_cells import Cells, Participation, dearest_price
from bench.highs_peer import INFINITY, Options, solver
from bench.instances import FloatArray, IntArray
from evflex.engine.dispatch.model import AssetKind, DispatchProblem, Fleet, LimitScope

# Every way to run HiGHS on such a program that this benchmark tries, to HiGHS' own tolerances. HiPO is in some builds
# only.
DISPATCH_MODES: dict[str, dict[str, str | int | float]] = {
    "interior point": {"solver": "ipx", "run_crossover": "off"},
    "interior point, no presolve": {"solver": "ipx", "run_crossover": "off", "presolve": "off"},
    "HiPO": {"solver": "hipo", "run_crossover": "off"},
    "interior point + crossover": {"solver": "ipx"},
    "dual simplex": {"solver": "simplex", "simplex_strategy": 1},
    "primal simplex": {"solver": "simplex", "simplex_strategy": 4},
    "first order (PDLP)": {"solver": "pdlp"},
}
# The same to a wider tolerance, of rows as well as of the gap.
_LOOSE: dict[str, str | int | float] = {"kkt_tolerance": 1e-4, "ipm_optimality_tolerance": 1e-4}
LOOSE_MODES: dict[str, Options] = {
    f"{mode}, to 1e-4": DISPATCH_MODES[mode] | _LOOSE
    for mode in ("interior point", "interior point, no presolve", "HiPO", "first order (PDLP)")
}
EXACT_MODE = "interior point"
_SHORTFALL_FACTOR, _RESERVE_FACTOR = 10.0, 5.0


@dataclass(frozen=True, slots=True)
class DispatchProgram:
    """A portfolio as a HiGHS model.

    Attributes:
        lp: The model; its objective is the plan's total cost.
        construction_s: Time of building the arrays.
    """

    lp: highspy.HighsLp
    construction_s: float


@dataclass(frozen=True, slots=True)
class DispatchAnswer:
    """What HiGHS says.

    Attributes:
        objective: Total cost, infinite where it did not finish.
        optimal: Whether it finished.
        construction_s: Time of building the arrays and passing them.
        solve_s: Time of the solve alone.
    """

    objective: float
    optimal: bool
    construction_s: float
    solve_s: float


@dataclass(slots=True)
class _Columns:
    """Blocks of columns and the rows' entries in them, put together at the end."""

    cost: list[FloatArray]
    lower: list[FloatArray]
    upper: list[FloatArray]
    row: list[IntArray]
    column: list[IntArray]
    value: list[FloatArray]
    count: int = 0

    @classmethod
    def none(cls) -> _Columns:
        return cls([], [], [], [], [], [])

    def add(self, cost: FloatArray, lower: FloatArray, upper: FloatArray) -> IntArray:
        """Append columns; returns their numbers."""
        first = self.count
        self.count += len(cost)
        for kept, values in ((self.cost, cost), (self.lower, lower), (self.upper, upper)):
            kept.append(values)
        return np.arange(first, self.count)

    def enter(self, row: IntArray, column: IntArray, value: FloatArray | float) -> None:
        """Entries of the matrix."""
        self.row.append(row)
        self.column.append(column)
        self.value.append(np.broadcast_to(np.asarray(value, dtype=np.float64), row.shape))


def dispatch_program(problem: DispatchProblem) -> DispatchProgram:
    """The linear program of a fleet of vehicles and batteries, without minima.

    Columns are charging in each step of a stay, discharging and the state after it where an asset can discharge,
    shortfall, and what exceeds limits. Worth of energy is moved onto the charging, or the last state, so that one row
    an asset holds need and headroom. Charging and discharging at once is not excluded: where it pays the optimum is a
    lower bound.

    Raises:
        ValueError: The problem has assets that this peer cannot write.
    """
    started = time.perf_counter()
    if not np.isin(problem.fleet.kind, [AssetKind.EV, AssetKind.BATTERY]).all() or len(problem.profiles.asset):
        raise ValueError("the peer writes vehicles and batteries only")
    part = Participation.of(problem)
    fleet = part.fleet
    cells = Cells.of(problem, part.until_unix_s)
    columns = _Columns.none()
    n, step_h = len(fleet), problem.grid.step_h
    discharges = fleet.max_discharge_kw > 0.0
    moves = discharges[cells.asset]
    # rows: need and headroom of each asset, states, limits, reserves
    worth = np.where(moves, 0.0, (fleet.energy_value_per_kwh * fleet.charge_efficiency)[cells.asset])
    charge = columns.add(
        step_h * (problem.import_price_per_kwh[cells.step] - worth),
        np.zeros(len(worth)), cells.ratio * fleet.max_charge_kw[cells.asset],
    )  # fmt: skip
    gain = step_h * fleet.charge_efficiency[cells.asset]
    columns.enter(cells.asset[~moves], charge[~moves], gain[~moves])
    back = np.flatnonzero(moves)
    discharge = _discharging(problem, fleet, cells, columns, charge, back, gain)
    shortfall_price = np.where(np.isnan(fleet.shortfall_price_per_kwh), _SHORTFALL_FACTOR * dearest_price(problem),
                               fleet.shortfall_price_per_kwh)  # fmt: skip
    short = columns.add(shortfall_price - fleet.energy_value_per_kwh, np.zeros(n), fleet.energy_needed_kwh)
    columns.enter(np.arange(n), short, 1.0)
    lower, upper = [fleet.energy_needed_kwh, np.zeros(len(back))], [fleet.energy_headroom_kwh, np.zeros(len(back))]
    power = _Power(cells, charge, back, discharge, n + len(back))
    for limit_lower, limit_upper in (*power.limits(problem, columns), *power.reserves(problem, part, columns)):
        lower.append(limit_lower)
        upper.append(limit_upper)
    lp = _model(columns, np.concatenate(lower), np.concatenate(upper))
    lp.offset_ = float(fleet.energy_value_per_kwh @ fleet.energy_needed_kwh)
    return DispatchProgram(lp, time.perf_counter() - started)


def solve_dispatch(program: DispatchProgram, mode: str = EXACT_MODE, time_limit_s: float = 300.0) -> DispatchAnswer:
    """Pass a model, then run it; the clock of the solve starts after the passing."""
    highs = solver((DISPATCH_MODES | LOOSE_MODES)[mode])
    highs.setOptionValue("time_limit", time_limit_s)
    started = time.perf_counter()
    highs.passModel(program.lp)
    passed = time.perf_counter()
    highs.run()
    solve_s = time.perf_counter() - passed
    optimal = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    objective = highs.getInfo().objective_function_value if optimal else math.inf
    return DispatchAnswer(float(objective), optimal, program.construction_s + passed - started, solve_s)


def available(modes: Mapping[str, Options]) -> tuple[str, ...]:
    """Those of the modes that this build of HiGHS has."""
    highs = solver()
    known = {mode: highs.setOptionValue("solver", options["solver"]) for mode, options in modes.items()}
    return tuple(mode for mode, status in known.items() if status == highspy.HighsStatus.kOk)


def try_modes(
    program: DispatchProgram, modes: Sequence[str], time_limit_s: float, *, patience: float
) -> dict[str, DispatchAnswer]:
    """Answers of the modes that ended within `patience` times the best so far; the first may take the whole limit."""
    answers: dict[str, DispatchAnswer] = {}
    for mode in modes:
        limit_s = min([time_limit_s, *(patience * answer.solve_s + 0.1 for answer in answers.values())])
        answer = solve_dispatch(program, mode, limit_s)
        if answer.optimal:
            answers[mode] = answer
    return answers


def solve_one_by_one(problems: Sequence[DispatchProblem], mode: str) -> list[DispatchAnswer]:
    """Problems that share nothing, one after the other."""
    return [solve_dispatch(dispatch_program(problem), mode) for problem in problems]


def _discharging(
    problem: DispatchProblem, fleet: Fleet, cells: Cells, columns: _Columns, charge: IntArray, back: IntArray,
    gain: FloatArray,
) -> IntArray:  # fmt: skip
    """Discharging and state of the assets that can discharge; returns the columns of discharging."""
    asset, step, n = cells.asset[back], cells.step[back], len(fleet)
    step_h = problem.grid.step_h
    cost = step_h * (fleet.discharge_cost_per_kwh[asset] - problem.export_price_per_kwh[step])
    discharge = columns.add(cost, np.zeros(len(back)), cells.ratio[back] * fleet.max_discharge_kw[asset])
    last = back == (cells.first + cells.count - 1)[asset]
    first = back == cells.first[asset]
    value = np.where(last, -fleet.energy_value_per_kwh[asset], 0.0)
    state = columns.add(value, -fleet.energy_available_kwh[asset], fleet.energy_headroom_kwh[asset])
    row = n + np.arange(len(back))
    columns.enter(row, state, -1.0)
    columns.enter(row[~first], state[np.flatnonzero(~first) - 1], 1.0)
    columns.enter(row, charge[back], gain[back])
    columns.enter(row, discharge, -step_h / fleet.discharge_efficiency[asset])
    columns.enter(asset[last], state[last], 1.0)
    return discharge


@dataclass(frozen=True, slots=True)
class _Power:
    """The powers of all cells as entries of rows that add them up."""

    cells: Cells
    charge: IntArray
    back: IntArray
    discharge: IntArray
    first_row: int

    def limits(self, problem: DispatchProblem, columns: _Columns) -> list[tuple[FloatArray, FloatArray]]:
        """Rows lower <= sum - above + below <= upper of each limit."""
        made = []
        fleet = problem.fleet
        steps, step_h = problem.grid.step_count, problem.grid.step_h
        index = {LimitScope.GROUP: fleet.group_index, LimitScope.OPERATOR: fleet.operator_index}
        for k, limit in enumerate(problem.limits):
            first_row = self.first_row + k * steps
            of = index[limit.scope] == limit.index if limit.scope in index else np.ones(len(fleet), dtype=np.bool_)
            self._add_up(columns, first_row, of)
            price = np.full(steps, step_h * limit.violation_price_per_kwh)
            for bound, sign in ((limit.upper_kw, -1.0), (limit.lower_kw, 1.0)):
                if np.isfinite(bound).any():
                    outside = columns.add(price, np.zeros(steps), np.full(steps, INFINITY))
                    columns.enter(first_row + np.arange(steps), outside, sign)
            made.append((_bounded(limit.lower_kw), _bounded(limit.upper_kw)))
        return made

    def reserves(
        self, problem: DispatchProblem, part: Participation, columns: _Columns
    ) -> list[tuple[FloatArray, FloatArray]]:
        """Rows sum of x + missing >= U - able to discharge, and sum of x - missing <= able to charge - D."""
        made = []
        steps = problem.grid.step_count
        price = np.full(steps, problem.grid.step_h * _RESERVE_FACTOR * dearest_price(problem))
        first_row = self.first_row + len(problem.limits) * steps
        fleet, cells = part.fleet, self.cells
        for asked_kw, of, power_kw, sign in (
            (part.up_kw, part.up, fleet.max_discharge_kw, 1.0),
            (part.down_kw, part.down, fleet.max_charge_kw, -1.0),
        ):
            if not (asked_kw > 0.0).any():
                continue
            self._add_up(columns, first_row, of)
            missing = columns.add(price, np.zeros(steps), np.full(steps, INFINITY))
            columns.enter(first_row + np.arange(steps), missing, sign)
            able = np.where(of, power_kw, 0.0)[cells.asset] * cells.ratio
            room_kw = np.bincount(cells.step, weights=able, minlength=steps)
            bound = np.where(asked_kw > 0.0, sign * (asked_kw - room_kw), -sign * INFINITY)
            free = np.full(steps, INFINITY)
            made.append((bound, free) if sign > 0.0 else (-free, bound))
            first_row += steps
        return made

    def _add_up(self, columns: _Columns, first_row: int, of: NDArray[np.bool_]) -> None:
        cells = self.cells
        picked = of[cells.asset]
        columns.enter(first_row + cells.step[picked], self.charge[picked], 1.0)
        picked = picked[self.back]
        columns.enter(first_row + cells.step[self.back[picked]], self.discharge[picked], -1.0)


def _bounded(values: FloatArray) -> FloatArray:
    return np.clip(values, -INFINITY, INFINITY)


def _model(columns: _Columns, lower: FloatArray, upper: FloatArray) -> highspy.HighsLp:
    shape = (len(lower), columns.count)
    entries = (np.concatenate(columns.value), (np.concatenate(columns.row), np.concatenate(columns.column)))
    matrix = sparse.csc_array(sparse.coo_array(entries, shape=shape))
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = shape
    lp.col_cost_ = np.concatenate(columns.cost)
    lp.col_lower_ = np.concatenate(columns.lower)
    lp.col_upper_ = np.concatenate(columns.upper)
    lp.row_lower_, lp.row_upper_ = lower, upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = matrix.indptr
    lp.a_matrix_.index_ = matrix.indices
    lp.a_matrix_.value_ = matrix.data
    return lp
