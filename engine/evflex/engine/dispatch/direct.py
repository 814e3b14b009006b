"""Small portfolios in one program: exact, and with integers where it is not convex.

The linear program comes first. Its powers are a plan unless a vehicle charges below its minimum, or an asset charges
and discharges at once because burning energy in its losses pays. Only then binaries are added, for minimum powers in
all steps and against burning where it happens, and the program is solved again, from the rounded point of the one
before. Powers are always netted: a step's change of state as the one power, of either sign, that leaves the same state.
Each program proves a bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.columns import COST_SIGN
from evflex.engine.dispatch.decomposition import Stop
from evflex.engine.dispatch.direct_program import DirectProgram, power_bounds, write_program
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.model import AssetKind
from evflex.engine.dispatch.prepared import Prepared
from evflex.engine.dispatch.report import emit_powers, figures_of
from evflex.engine.highs import LinearProgram, ProgramSolution, Solver
from evflex.engine.supply_tree import BoolArray, FloatArray

# Programs solved one after the other, each with more binaries against burning.
_MOST_PROGRAMS = 6
# Powers below this are none.
_NOTHING_KW = 1e-7
# A power is rounded up to the minimum from these shares of it; the last cannot want more room than there is.
_ROUNDED_UP = (0.5, 1.0)
# Share of the gap that branch and bound may leave, the rest is for the scale it does not know yet; and share of the
# time left that it may take, the rest is for the powers at its integers.
_GAP_SHARE, _TIME_SHARE = 0.8, 0.9


@dataclass(frozen=True, slots=True)
class Direct:
    """A plan of one program.

    Attributes:
        power_kw: Powers of all assets, (n, T).
        bound: Proven lower bound of the cost of any plan.
        price: Prices of the shared rows, (L, T); with integers, those at which the plan's choices are given.
        columns: Columns of the last program.
        integers: How many of them are whole.
        ran_out: Whether time ended the search.
    """

    power_kw: FloatArray
    bound: float
    price: FloatArray
    columns: int
    integers: int
    ran_out: bool


def solve_direct(
    prepared: Prepared, oracle: FleetOracle, stop: Stop, budget: Budget, most_integers: float = np.inf
) -> Direct | None:
    """Plan a portfolio in one program.

    Args:
        prepared: The portfolio.
        oracle: The same fleet, which says what powers cost.
        stop: When the plan is good enough.
        budget: Time and cancellation.
        most_integers: With more of them points are rounded only.

    Returns:
        The best plan found; None where time ended before there was one.
    """
    search = _Search(prepared, oracle, stop, budget, most_integers)
    for attempt in range(_MOST_PROGRAMS):
        if not search.solve() or search.met or not search.switch_more(everywhere=attempt > 0):
            break
    return search.best


class _Search:
    """Programs with more and more binaries, the best plan and the best bound so far."""

    def __init__(
        self, prepared: Prepared, oracle: FleetOracle, stop: Stop, budget: Budget, most_integers: float
    ) -> None:
        self._prepared, self._oracle, self._stop, self._budget = prepared, oracle, stop, budget
        self._most_integers = most_integers
        fleet = prepared.fleet
        self._bounds = bounds = power_bounds(prepared)
        self._least = bounds.charge_least_kw > 0.0
        lossy = (fleet.charge_efficiency * fleet.discharge_efficiency < 1.0) & (fleet.kind != AssetKind.PV)
        self._may_burn = (bounds.charge_kw > 0.0) & (bounds.discharge_kw > 0.0) & lossy[:, None]
        self._switched = np.zeros_like(self._least)
        self._constant = float((bounds.base_kw @ prepared.prices.draw).sum() + oracle.fixed @ COST_SIGN)
        self._scale, self._bound, self._objective = np.inf, -np.inf, np.inf
        self._charge_kw = self._discharge_kw = np.empty(0)
        self._price = np.zeros_like(prepared.coupling.lower_kw)
        self._plan: Direct | None = None
        self._ran_out = self.met = False

    @property
    def best(self) -> Direct | None:
        """The best plan with the best bound."""
        return None if self._plan is None else replace(self._plan, bound=self._bound, ran_out=self._ran_out)

    def solve(self) -> bool:
        """Solve the program with the binaries so far; whether it has a point."""
        model = write_program(self._prepared, self._bounds, self._switched)
        program = model.program
        self._ran_out = self._budget.spent
        if not program.cost.size or self._ran_out:
            return False
        whole = bool(program.integer.any())
        solution = self._branch(model) if whole else Solver(program, self._budget, precise=True).solve()
        if solution is None:
            return True
        self._bound = max(self._bound, solution.bound + self._constant)
        self._ran_out = not solution.optimal
        if not (solution.has_point if whole else solution.optimal):
            return False
        exact = self._at_integers(program, np.round(solution.x[program.integer])) if whole else solution
        self._take(model, exact or solution, priced=exact is not None)
        return not self._ran_out

    def _branch(self, model: DirectProgram) -> ProgramSolution | None:
        """Branch and bound from a rounded point, None where that is good enough or there are too many integers."""
        budget, program = self._budget, model.program
        self._round(model)
        if self.met or program.integer.sum() > self._most_integers:
            return None
        part = Budget(_TIME_SHARE * budget.remaining_s, budget.cancel)
        solver = Solver(program, part, precise=True)
        if self._plan is not None:
            charges = self._plan.power_kw > self._bounds.base_kw
            at = self._switched
            solver.start_from(dict(zip(model.switch[at].tolist(), charges[at].astype(float).tolist(), strict=True)))
        gap = max(self._stop.absolute_gap, _GAP_SHARE * self._stop.relative_gap * self._scale)
        return solver.solve(absolute_gap=gap)

    def _round(self, model: DirectProgram) -> None:
        """Make plans of the last point by rounding powers below the minimum up or down."""
        charge, at, fleet = self._charge_kw, self._switched, self._prepared.fleet
        left = self._discharge_kw / (fleet.charge_efficiency * fleet.discharge_efficiency)[:, None]
        for share in _ROUNDED_UP:
            least = np.maximum(share * self._bounds.charge_least_kw - _NOTHING_KW, _NOTHING_KW)
            charges = (charge >= least) & (charge > left)
            solution = self._at_integers(model.program, charges[at].astype(np.float64))
            if solution is not None:
                self._take(model, solution, priced=True)

    def _at_integers(self, program: LinearProgram, values: FloatArray) -> ProgramSolution | None:
        """The best point with these integers, free of the tolerances of branch and bound, with its duals."""
        lower, upper = program.column_lower.copy(), program.column_upper.copy()
        lower[program.integer] = upper[program.integer] = values
        fixed = replace(program, column_lower=lower, column_upper=upper, integer=np.zeros_like(program.integer))
        solution = Solver(fixed, self._budget, precise=True).solve()
        return solution if solution.optimal else None

    def _take(self, model: DirectProgram, solution: ProgramSolution, *, priced: bool) -> None:
        """Make a plan of a point; keep it where it is the best and breaks no minimum.

        Args:
            model: The program.
            solution: Its point.
            priced: Whether it has duals; else the last prices hold.
        """
        bounds, fleet = self._bounds, self._prepared.fleet
        x = np.append(solution.x, 0.0)  # -1 finds nothing
        charge = self._charge_kw = np.clip(x[model.charge], 0.0, bounds.charge_kw)
        discharge = self._discharge_kw = np.clip(x[model.discharge], 0.0, bounds.discharge_kw)
        charge_efficiency, discharge_efficiency = fleet.charge_efficiency[:, None], fleet.discharge_efficiency[:, None]
        gained = charge - discharge / (charge_efficiency * discharge_efficiency)
        moved = np.where(gained >= 0.0, gained, discharge - charge * charge_efficiency * discharge_efficiency)
        moved = np.where(np.abs(moved) < _NOTHING_KW, 0.0, np.where(gained >= 0.0, moved, -moved))
        power = bounds.base_kw + moved
        figures = figures_of(self._oracle.coupling, emit_powers(self._prepared.problem, self._oracle, power))
        # of a rounded plan it is too large: shortfall and violation are dear
        self._scale = min(self._scale, figures.scale)
        if priced:
            # + 0.0: a price of nothing has no sign
            price = -np.append(solution.row_dual, 0.0)[model.shared_row]
            self._price = self._oracle.coupling.admissible(price) + 0.0
        low = (moved > 0.0) & (moved < bounds.charge_least_kw - _NOTHING_KW)
        if low.any() or figures.total_cost >= self._objective:
            return
        self._objective = figures.total_cost
        self.met = self._stop.met(self._objective, self._bound, figures.scale)
        integers = int(model.program.integer.sum())
        self._plan = Direct(power, self._bound, self._price, len(model.program.cost), integers, False)

    def switch_more(self, *, everywhere: bool) -> bool:
        """Add binaries where the last point is no plan; whether there are any to add.

        Args:
            everywhere: Against burning in all steps of assets that burn, else where they do.
        """
        charge, discharge = self._charge_kw, self._discharge_kw
        wrong: BoolArray = self._may_burn & (np.minimum(charge, discharge) > _NOTHING_KW)
        if everywhere:
            wrong = self._may_burn & wrong.any(axis=1, keepdims=True)
        wrong = (wrong | self._least) & ~self._switched
        self._switched = self._switched | wrong
        return bool(wrong.any())
