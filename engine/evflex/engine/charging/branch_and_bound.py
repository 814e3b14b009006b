"""The exact program of a small site, by HiGHS' branch and bound, started from the best plan so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.evaluation import Evaluation, fixed_load_objective
from evflex.engine.charging.feasibility import tidy
from evflex.engine.charging.program import Level, SiteProgram, build_program
from evflex.engine.charging.relaxation import RankedBound, net_power_kw, solve_ranked
from evflex.engine.charging.site import Site
from evflex.engine.charging.uncontrolled import NOTHING_KW
from evflex.engine.highs import INFINITY, ProgramSolution, Solver
from evflex.engine.supply_tree import FloatArray

# Beyond this many session-steps branch and bound improves nothing in useful time (measured: about 40 sessions a day).
_LARGEST = 4_000
# Below this share of the time limit the exact program is not even written.
_LEAST_SHARE = 0.05
# Share of the time left that the solver may take.
_SOLVER_SHARE = 0.93
# Between two looks at the clock the solver works for up to so many times what it takes to write the program and to
# solve it with the integers given (measured: the work at the root of large programs).
_LONGEST_PAUSE = 4.0
# A wish before cost is proven when found and bound differ by less (kWh).
_LEVEL_GAP_KWH = 2e-7


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """Plan for the controlled steps, None where none was found, what was proven, and whether time ended the search."""

    power_kw: FloatArray | None
    bound: RankedBound
    ran_out: bool


def is_small(site: Site) -> bool:
    """Whether branch and bound is worth trying."""
    return int((site.presence > 0.0).sum()) <= _LARGEST


def branch_and_bound(site: Site, plan: Evaluation, least: dict[str, float], budget: Budget) -> ExactPlan | None:
    """Solve the exact program, wishes before cost included; None when there is no time for it.

    Args:
        site: The site.
        plan: Plan to start from.
        least: What the relaxation proved of the wishes before cost, by name.
        budget: Time and cancellation.
    """
    if budget.remaining_s < _LEAST_SHARE * budget.time_limit_s:
        return None
    began_s = budget.elapsed_s
    model = build_program(site, exact=True)
    if budget.spent:
        return None
    search = _Search(site, model, plan.power_kw - site.given_kw, budget, began_s)
    proven = search.settle_levels(least)
    bound = -np.inf
    if proven and not budget.spent:
        options = site.options
        # The asked gap is relative to the plan's scale, HiGHS' to its objective.
        solution = search.minimise(
            model.program.cost, max(options.absolute_gap, 0.5 * options.relative_gap * plan.scale, 1e-9)
        )
        bound = solution.bound + model.constant - fixed_load_objective(site)
    found = None if search.x is None else search.power_kw()
    return ExactPlan(found, RankedBound(bound, search.levels, {}), search.part.spent)


class _Search:
    """The exact program in the solver, its best point so far, and the levels that are settled."""

    def __init__(self, site: Site, model: SiteProgram, power_kw: FloatArray, budget: Budget, began_s: float) -> None:
        """Begin at the best point that has the pattern of a plan.

        Args:
            site: The site.
            model: Its exact program.
            power_kw: The plan, (n, T).
            budget: Time and cancellation.
            began_s: When the writing of the program began, by the budget.
        """
        self.site, self.model, self.budget = site, model, budget
        self.levels: dict[str, float] = {}
        self.x = self._complete(self._whole(power_kw))
        # The plan is made of the solver's point afterwards, and the solver may answer late.
        left_s, pause_s = budget.remaining_s, _LONGEST_PAUSE * (budget.elapsed_s - began_s)
        self.part = Budget(min(_SOLVER_SHARE * left_s, left_s - pause_s), budget.cancel)
        self.solver = Solver(model.program, self.part, precise=True)

    def settle_levels(self, least: dict[str, float]) -> bool:
        """Minimise the levels one after another; whether all were proven."""
        reached = True
        for level in self.model.levels:
            value = np.inf if self.x is None else _value(level, self.x)
            known = least.get(level.name, 0.0) if reached else 0.0
            if value > known + _LEVEL_GAP_KWH:
                cost = np.zeros_like(self.model.program.cost)
                cost[level.columns] = level.weights
                solution = self.minimise(cost, _LEVEL_GAP_KWH)
                if self.x is None:
                    return False
                value = _value(level, self.x)
                if value > max(known, solution.bound) + 1.5 * _LEVEL_GAP_KWH:
                    return False
            reached &= value <= known + _LEVEL_GAP_KWH
            self.levels[level.name] = value
            self.solver.add_row(level.columns, level.weights, -INFINITY, value + 1e-8 * max(1.0, value))
        return True

    def minimise(self, cost: FloatArray, gap: float) -> ProgramSolution:
        """Solve with other costs, started from the best point."""
        self.solver.set_cost(cost)
        if self.x is not None:
            self.solver.start_from(dict(enumerate(self.x)))
        solution = self.solver.solve(absolute_gap=gap)
        if solution.has_point:
            self.x = solution.x
        return solution

    def power_kw(self) -> FloatArray:
        """Powers of the best point, set anew with its integers fixed: the solver's tolerances are gone then."""
        assert self.x is not None
        whole = np.flatnonzero(self.model.program.integer)
        exact = self._complete(dict(zip(whole.tolist(), np.round(self.x[whole]).tolist(), strict=True)))
        return tidy(self.site, net_power_kw(self.site, self.model, self.x if exact is None else exact))

    def _complete(self, integers: dict[int, float]) -> FloatArray | None:
        """The best point with these values of the integer columns; None where there is none."""
        program = self.model.program
        lower, upper = program.column_lower.copy(), program.column_upper.copy()
        columns, values = np.array(list(integers), dtype=np.int64), np.array(list(integers.values()))
        lower[columns] = upper[columns] = np.clip(values, lower[columns], upper[columns])
        fixed = replace(program, column_lower=lower, column_upper=upper, integer=np.zeros(len(lower), dtype=np.bool_))
        ranked = solve_ranked(replace(self.model, program=fixed), self.budget, precise=True)
        return None if ranked is None else ranked.solution.x

    def _whole(self, power_kw: FloatArray) -> dict[int, float]:
        """Values of the integer columns in a plan."""
        site, model = self.site, self.model
        values: dict[int, float] = {}
        for columns, power in ((model.on, power_kw), (model.discharge_on, -power_kw)):
            i, t = np.nonzero(columns >= 0)
            values |= dict(zip(columns[i, t].tolist(), (power[i, t] > NOTHING_KW).astype(float).tolist(), strict=True))
        for columns, power in ((model.count, power_kw), (model.discharge_count, -power_kw)):
            i, t = np.nonzero(columns >= 0)
            count = np.round(np.maximum(power[i, t], 0.0) / (site.presence[i, t] * site.quantum_kw[i]))
            values |= dict(zip(columns[i, t].tolist(), count.tolist(), strict=True))
        t = np.flatnonzero(model.import_choice >= 0)
        root = site.fixed_kw + (power_kw + site.given_kw).sum(axis=0)
        values |= dict(zip(model.import_choice[t].tolist(), (root[t] > 0.0).astype(float).tolist(), strict=True))
        who = np.flatnonzero(model.short_choice >= 0)
        short = _delivered_kwh(site, power_kw) < site.need_kwh
        values |= dict(zip(model.short_choice[who].tolist(), short[who].astype(float).tolist(), strict=True))
        return values


def _delivered_kwh(site: Site, power_kw: FloatArray) -> FloatArray:
    sessions, net = site.problem.sessions, power_kw + site.given_kw
    charged = np.maximum(net, 0.0).sum(axis=1) * sessions.charge_efficiency
    return np.asarray((charged - np.maximum(-net, 0.0).sum(axis=1) / sessions.discharge_efficiency) * site.step_h)


def _value(level: Level, x: FloatArray) -> float:
    return max(0.0, float(level.weights @ x[level.columns]))
