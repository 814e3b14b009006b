"""A solution of the reference model, or any matrix of powers, as the plan that a solver would hand over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from tests.engine.dispatch.reference.case import Case, FloatArray, IntArray
from tests.engine.dispatch.reference.figures import Tally, attributed
from tests.engine.dispatch.reference.reference_lp import Solution


@dataclass(frozen=True)
class MatrixSetpoints:
    """Powers of all assets in memory."""

    matrix_kw: FloatArray

    def power_kw(self, rows: IntArray) -> FloatArray:
        return self.matrix_kw[rows]

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"power_kw": self.matrix_kw}


def plan_of(problem: DispatchProblem, solution: Solution, options: PlanOptions | None = None) -> FleetPlan:
    """The plan of a solution that does not burn energy."""
    plan = plan_of_powers(problem, solution.power_kw, bound=solution.bound, options=options)
    return replace(plan, limit_price_per_kw_step=solution.limit_price_per_kw_step)


def plan_of_powers(
    problem: DispatchProblem,
    power_kw: FloatArray,
    *,
    bound: float | None = None,
    options: PlanOptions | None = None,
) -> FleetPlan:
    """A truthful plan of given powers, (n, T); without a bound it claims to be optimal. Limit prices are 0."""
    case = Case(problem)
    tally = Tally(case)
    tally.add(case.all_assets(), power_kw)
    shape = (len(problem.limits), case.steps)
    return FleetPlan(
        fleet_power_kw=tally.fleet_power_kw,
        group_power_kw=tally.group_power_kw,
        limit_power_kw=tally.limit_power_kw,
        limit_price_per_kw_step=np.zeros(shape),
        limit_above_kw=tally.above_kw,
        limit_below_kw=tally.below_kw,
        reserve_missing_up_kw=_by_commitment(case, case.sold_up_kw, tally.missing_up_kw),
        reserve_missing_down_kw=_by_commitment(case, case.sold_down_kw, tally.missing_down_kw),
        figures=tally.figures,
        shortfall_kwh=tally.shortfall_kwh,
        assets_short=tally.least_short,
        violation_kwh=tally.violation_kwh,
        termination=_termination(tally.figures, bound, options or PlanOptions()),
        setpoints=MatrixSetpoints(power_kw),
    )


def _by_commitment(case: Case, sold_kw: FloatArray, missing_kw: FloatArray) -> FloatArray:
    """What each commitment misses in each step, of the largest call that may run then; (reserves, T)."""
    total = sold_kw.sum(axis=0)
    missing = np.zeros_like(sold_kw)
    for k in range(case.steps):
        start = max(case.starts(k), key=lambda j: total[j])
        missing[:, k] = attributed(sold_kw[:, start], float(missing_kw[k]))
    return missing


def _termination(figures: PlanFigures, bound: float | None, options: PlanOptions) -> Termination:
    objective = figures.total_cost
    bound = objective if bound is None else min(bound, objective)
    gap = objective - bound
    share = gap / max(figures.scale, 1e-6)
    met = share <= options.relative_gap or gap <= options.absolute_gap
    return Termination(
        reason=TerminationReason.OPTIMAL if met else TerminationReason.FEASIBLE,
        stopped_by=StoppedBy.NOTHING if met else StoppedBy.TIME,
        objective=objective,
        objective_bound=bound,
        absolute_gap=gap,
        relative_gap=share,
        solve_duration_s=0.0,
        method="reference",
        detail="",
    )
