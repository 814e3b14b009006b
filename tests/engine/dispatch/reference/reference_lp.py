"""Portfolio dispatch as one linear program, or with integers as a mixed-integer one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.dispatch.model import DispatchProblem
from tests.engine.dispatch.reference.case import BoolArray, Case, FloatArray, IntArray
from tests.engine.dispatch.reference.program import Program

_BURN_TOLERANCE_KW = 1e-6


@dataclass(frozen=True)
class Solution:
    """Optimum of the reference model.

    Attributes:
        objective: Total cost.
        bound: Proven lower bound: the objective itself, but for the gap of a mixed-integer solve.
        power_kw: Net powers, (n, T).
        limit_above_kw: Power above upper limits, (limits, T).
        limit_below_kw: Power below lower limits, (limits, T).
        limit_price_per_kw_step: What one kW more of a limit saves in a step: > 0 at the upper, < 0 at the lower limit;
            of a mixed-integer program with its integers fixed. (limits, T).
        reserve_missing_up_kw: Upward reserve that is not deliverable, of all commitments, (T,).
        reserve_missing_down_kw: The same downward, (T,).
        shortfall_kwh: Missing at the end, (n,).
        burned_kw: Largest power charged and discharged at once by an asset with losses. Where it is > 0, objective is
            only a bound, and the powers are no plan; a mixed-integer solution has none.
    """

    objective: float
    bound: float
    power_kw: FloatArray
    limit_above_kw: FloatArray
    limit_below_kw: FloatArray
    limit_price_per_kw_step: FloatArray
    reserve_missing_up_kw: FloatArray
    reserve_missing_down_kw: FloatArray
    shortfall_kwh: FloatArray
    burned_kw: float

    @property
    def burns(self) -> bool:
        """Whether an asset charges and discharges at once, which no plan may."""
        return self.burned_kw > _BURN_TOLERANCE_KW


def solve(problem: DispatchProblem, *, integer: bool = False, time_limit_s: float = 240.0) -> Solution:
    """The least total cost there is.

    Args:
        problem: A valid problem.
        integer: Whether an EV charges with 0 or at least its minimum, and no asset with losses charges and discharges
            at once. Without, both rules are left out: the objective is a lower bound, exact where neither matters.
        time_limit_s: For the solve.

    Raises:
        NoOptimumError: No optimum was proven in time.
    """
    return _Model(Case(problem), integer).solve(time_limit_s)


class _Model:
    """Columns and rows; one method a rule of docs/dispatch.md."""

    def __init__(self, case: Case, integer: bool) -> None:
        self.case, self.assets = case, case.all_assets()
        self.program = Program()
        self._powers()
        self._energies()
        self._limits()
        self._reserves()
        if integer:
            self._integers()

    def solve(self, time_limit_s: float) -> Solution:
        case, assets = self.case, self.assets
        solved = self.program.solve(time_limit_s)
        base_cost = float((assets.base_kw @ case.problem.import_price_per_kwh).sum()) * case.dt
        charge, discharge = (self._scattered(solved.x, grid) for grid in (self.charge, self.discharge))
        lossy = self._lossy()
        both = np.minimum(charge, discharge)[lossy]
        limits = len(case.problem.limits)
        return Solution(
            objective=solved.objective + base_cost,
            bound=solved.bound + base_cost,
            power_kw=assets.base_kw + charge - discharge,
            limit_above_kw=solved.x[self.above].reshape(limits, case.steps),
            limit_below_kw=solved.x[self.below].reshape(limits, case.steps),
            # + 0.0: a price of nothing has no sign
            limit_price_per_kw_step=-solved.row_dual[self.limit_rows].reshape(limits, case.steps) + 0.0,
            reserve_missing_up_kw=solved.x[self.missing_up],
            reserve_missing_down_kw=solved.x[self.missing_down],
            shortfall_kwh=np.where(assets.has_state, solved.x[self.shortfall], 0.0),
            burned_kw=float(both.max(initial=0.0)),
        )

    @staticmethod
    def _scattered(x: FloatArray, columns: IntArray) -> FloatArray:
        return np.where(columns >= 0, x[columns], 0.0)

    # --- rules ---------------------------------------------------------------------------------

    def _powers(self) -> None:
        """0 <= c, d <= their most, where there is any; import price, export price and wear."""
        case, assets = self.case, self.assets
        shape = (case.count, case.steps)
        charging = np.broadcast_to(case.problem.import_price_per_kwh, shape)
        injecting = assets.wear_per_kwh[:, None] - case.problem.export_price_per_kwh
        # what a heat pump does not draw, it need not import
        discharging = np.where(assets.base_kw > 0.0, -charging, injecting)
        self.charge = self._power_columns(charging, assets.charge_most_kw)
        self.discharge = self._power_columns(discharging, assets.discharge_most_kw)

    def _power_columns(self, price_per_kwh: FloatArray, most_kw: FloatArray) -> IntArray:
        columns = np.full(most_kw.shape, -1)
        some = most_kw > 0.0
        cost = price_per_kwh[some] * self.case.dt
        columns[some] = self.program.columns(int(some.sum()), cost=cost, upper=most_kw[some])
        return columns

    def _energies(self) -> None:
        """State within its bounds, and at the end needed - shortfall + excess."""
        case, assets, program = self.case, self.assets, self.program
        self.shortfall = program.columns(case.count, cost=assets.shortfall_price_per_kwh * assets.has_state)
        room = np.maximum(assets.state_high_kwh - assets.needed_kwh, 0.0)
        excess = program.columns(case.count, cost=-assets.value_per_kwh, upper=room * assets.has_state)
        end = program.rows(case.count, lower=assets.needed_kwh, upper=assets.needed_kwh)
        program.put(end, self.shortfall, 1.0)
        program.put(end, excess, -1.0)
        falls = assets.has_state & (self.discharge >= 0).any(axis=1)
        self._rising(np.flatnonzero(assets.has_state & ~falls), end)
        self._moving(np.flatnonzero(falls), end)

    def _rising(self, rows: IntArray, end: IntArray) -> None:
        """A state that never falls keeps its bounds where it keeps them at the end."""
        at, _ = np.nonzero(self.charge[rows] >= 0)
        at = rows[at]
        columns = self.charge[rows][self.charge[rows] >= 0]
        self.program.put(end[at], columns, self.assets.charge_efficiency[at] * self.case.dt)

    def _moving(self, rows: IntArray, end: IntArray) -> None:
        """One state for each step in which an asset may do something."""
        assets, program, dt = self.assets, self.program, self.case.dt
        at, step = np.nonzero((self.charge[rows] >= 0) | (self.discharge[rows] >= 0))
        at = rows[at]
        state = program.columns(len(at), lower=assets.state_low_kwh[at], upper=assets.state_high_kwh[at])
        balance = program.rows(len(at), lower=0.0, upper=0.0)
        program.put(balance, state, 1.0)
        follows = np.flatnonzero(at[1:] == at[:-1]) + 1
        program.put(balance[follows], state[follows - 1], -1.0)
        for columns, gain in (
            (self.charge[at, step], assets.charge_efficiency[at] * dt),
            (self.discharge[at, step], -dt / assets.discharge_efficiency[at]),
        ):
            some = columns >= 0
            program.put(balance[some], columns[some], -gain[some])
        last = np.flatnonzero(np.append(at[1:] != at[:-1], True)) if len(at) else np.empty(0, dtype=np.int64)
        program.put(end[at[last]], state[last], 1.0)

    def _sum(self, row_of_step: IntArray, members: BoolArray, sign: float) -> None:
        """Add the net power of some assets to one row a step; -1 for a step without."""
        for columns, direction in ((self.charge, sign), (self.discharge, -sign)):
            some = (columns >= 0) & members[:, None] & (row_of_step >= 0)
            rows = np.broadcast_to(row_of_step, columns.shape)[some]
            self.program.put(rows, columns[some], direction)

    def _limits(self) -> None:
        """Lower <= sum - above + below <= upper."""
        case, program = self.case, self.program
        above, below, rows = [], [], []
        for limit in case.problem.limits:
            members = case.members(limit, self.assets.rows)
            base = self.assets.base_kw[members].sum(axis=0)
            row = program.rows(case.steps, lower=limit.lower_kw - base, upper=limit.upper_kw - base)
            self._sum(row, members, 1.0)
            price = limit.violation_price_per_kwh * case.dt
            above.append(program.columns(case.steps, cost=price))
            below.append(program.columns(case.steps, cost=price))
            program.put(row, above[-1], -1.0)
            program.put(row, below[-1], 1.0)
            rows.append(row)
        none = np.empty(0, dtype=np.int64)
        self.above, self.below = np.concatenate([none, *above]), np.concatenate([none, *below])
        self.limit_rows = np.concatenate([none, *rows])

    def _reserves(self) -> None:
        """What those that take part could do beyond the plan, and what is missing, is what was sold."""
        case, assets, program = self.case, self.assets, self.program
        price = case.reserve_price * case.dt
        self.missing_up = program.columns(case.steps, cost=price)
        self.missing_down = program.columns(case.steps, cost=price)
        for asked, takes, most, missing, sign in (
            (case.up_kw, assets.takes_up, assets.discharge_most_kw, self.missing_up, 1.0),
            (case.down_kw, assets.takes_down, assets.charge_most_kw, self.missing_down, -1.0),
        ):
            steps = np.flatnonzero(asked > 0.0)
            rows = np.full(case.steps, -1)
            rows[steps] = program.rows(len(steps), lower=(asked - most[takes].sum(axis=0))[steps])
            self._sum(rows, takes, sign)
            program.put(rows[steps], missing[steps], 1.0)

    def _lossy(self) -> BoolArray:
        assets = self.assets
        return assets.has_state & (assets.charge_efficiency * assets.discharge_efficiency < 1.0)

    def _integers(self) -> None:
        """One switch b: least * b <= c <= most * b, d <= most * (1 - b)."""
        assets, program = self.assets, self.program
        could = self.charge >= 0
        both = could & (self.discharge >= 0) & self._lossy()[:, None]
        minimum = could & (assets.charge_least_kw > 0.0)
        at = np.nonzero(both | minimum)
        charge, discharge = self.charge[at], self.discharge[at]
        switch = program.columns(len(charge), upper=1.0, integer=True)
        for bound, lower, upper in ((assets.charge_most_kw, -np.inf, 0.0), (assets.charge_least_kw, 0.0, np.inf)):
            rows = program.rows(len(charge), lower=lower, upper=upper)
            program.put(rows, charge, 1.0)
            program.put(rows, switch, -bound[at])
        some = discharge >= 0
        most = assets.discharge_most_kw[at][some]
        rows = program.rows(int(some.sum()), upper=most)
        program.put(rows, discharge[some], 1.0)
        program.put(rows, switch[some], most)
