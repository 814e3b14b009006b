"""Charging schedules: from a problem to the least-cost plan with a proven gap.

``optimize_schedule`` reads like the method: uncontrolled charging is the first incumbent, the relaxation gives the
bound and the prices, the plan is made of it by repair, polishing and, for small sites, branch and bound.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.bounds import trivial_bound
from evflex.engine.charging.branch_and_bound import branch_and_bound, is_small
from evflex.engine.charging.column_generation import plan_switching
from evflex.engine.charging.evaluation import Evaluation, evaluate, keeps_limits
from evflex.engine.charging.feasibility import at_rest, broken_sessions, tidy
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.polish import polish
from evflex.engine.charging.relaxation import RankedBound, Relaxation, relax
from evflex.engine.charging.report import build_schedule
from evflex.engine.charging.restarts import repaired_plans
from evflex.engine.charging.schedule import Schedule
from evflex.engine.charging.site import Site, build_site, controlled_first_kw, uncontrolled_kw
from evflex.engine.charging.switching import counts_starts
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason, relative_gap
from evflex.engine.validation import Rules


def optimize_schedule(
    problem: ScheduleProblem, options: ScheduleOptions | None = None, cancel: threading.Event | None = None
) -> Schedule:
    """Plan one site at least cost.

    Args:
        problem: The site.
        options: What is optimised, and how long it may take.
        cancel: Set it to stop the solve; the best plan so far is returned.

    Returns:
        The plan with its figures, the prices of the limits and the proven gap.

    Raises:
        InvalidProblemError: The input breaks a rule; every fault is named.
    """
    options = options or ScheduleOptions()
    rules = Rules()
    problem.validate(rules)
    options.validate(rules, problem)
    rules.raise_if_any()
    budget = Budget(options.time_limit_s, cancel or threading.Event())

    margin_s = np.full(len(problem.sessions), options.departure_margin_s)
    site = build_site(problem, options, margin_s)
    solved = _solve(site, budget)
    late = (solved.plan.shortfall_kwh > 0.0) & (margin_s > 0.0)
    if late.any():
        # A margin is a comfort: it never costs a session energy.
        site = build_site(problem, options, np.where(late, 0.0, margin_s))
        solved = _solve(site, budget)
    return build_schedule(site, solved.plan, solved.uncontrolled, solved.relaxation, _termination(site, solved, budget))


@dataclass(slots=True)
class _Solved:
    """Best plan so far and what is proven about it."""

    uncontrolled: Evaluation
    plan: Evaluation
    method: str
    bounds: list[RankedBound]
    relaxation: Relaxation | None = None
    tried: list[str] = field(default_factory=list)

    def offer(self, site: Site, power_kw: FloatArray, method: str) -> None:
        """Take a plan for the controlled steps if it keeps every rule and ranks before the best so far.

        Sessions whose powers break a rule of their own rest.
        """
        self.tried.append(method)
        power_kw = tidy(site, power_kw)
        broken = broken_sessions(site, power_kw)
        if broken.any():
            power_kw[broken] = at_rest(site)[broken]
            if broken_sessions(site, power_kw).any():
                return
        if not keeps_limits(site, power_kw):
            return
        candidate = evaluate(site, power_kw + site.given_kw)
        if candidate.better_than(self.plan):
            self.plan, self.method = candidate, method

    @property
    def bound(self) -> float:
        """Proven lower bound on the objective of every plan that ranks as high as the best so far."""
        return max(bound.at(self.plan.ranks) for bound in self.bounds)

    @property
    def ranks_proven(self) -> bool:
        """Whether no plan ranks before the best so far in a wish before cost."""
        return any(bound.reached_by(self.plan.ranks) for bound in self.bounds)

    def gap_met(self, options: ScheduleOptions) -> bool:
        """Whether the wishes before cost and either asked gap are proven."""
        if not self.ranks_proven:
            return False
        gap = self.plan.objective - self.bound
        return (
            gap <= options.absolute_gap
            or relative_gap(self.plan.objective, self.bound, self.plan.scale) <= options.relative_gap
        )


def _solve(site: Site, budget: Budget) -> _Solved:
    """Best plan within the budget; each method is tried only while the asked gap is open."""
    solved = _first(site)
    if budget.spent:
        return solved
    relaxation = relax(site, budget)
    if relaxation is None:
        return solved
    solved.relaxation = relaxation
    solved.bounds.append(relaxation.bound)
    options = site.options
    if counts_starts(options) or options.current_quantum_a > 0.0:
        switched = plan_switching(site, relaxation, budget)
        solved.bounds.append(switched.bound)
        for method, power_kw in switched.plans:
            solved.offer(site, power_kw, method)
    else:
        repaired: FloatArray | None = None
        for method, power_kw in repaired_plans(site, relaxation):
            repaired = power_kw if repaired is None else repaired
            solved.offer(site, power_kw, method)
            if solved.gap_met(options) or budget.spent:
                break
        if repaired is not None and not solved.gap_met(options) and not budget.spent:
            # Where the best plan does not come from the relaxation, its pattern says less than the repaired one.
            own = solved.plan.power_kw - site.given_kw if solved.method.startswith("relaxation") else repaired
            polished = polish(site, relaxation, own, budget)
            if polished is not None:
                solved.offer(site, polished, "relaxation, repair and pattern program")
    if not solved.gap_met(options) and is_small(site) and not budget.spent:
        exact = branch_and_bound(site, solved.plan, relaxation.bound.levels, budget)
        if exact is not None:
            solved.bounds.append(exact.bound)
            if exact.power_kw is not None:
                solved.offer(site, exact.power_kw, "branch and bound")
    return solved


def _first(site: Site) -> _Solved:
    """Uncontrolled charging, of which sessions that break a rule by it rest, and a bound that costs nothing."""
    power_kw, rest = controlled_first_kw(site), at_rest(site)
    broken = broken_sessions(site, power_kw)
    power_kw[broken] = rest[broken]
    whole = not broken.any()
    if not keeps_limits(site, power_kw):
        power_kw, whole = rest, False
    first = evaluate(site, power_kw + site.given_kw)
    method = "uncontrolled charging" if whole else "uncontrolled charging as far as it keeps the rules"
    plain = evaluate(site, uncontrolled_kw(site))
    return _Solved(plain, first, method, [RankedBound(trivial_bound(site), {}, {})])


def _termination(site: Site, solved: _Solved, budget: Budget) -> Termination:
    plan, bound = solved.plan, solved.bound
    met = solved.gap_met(site.options)
    stopped = StoppedBy.NOTHING
    if not met:
        stopped = StoppedBy.TIME if budget.spent else StoppedBy.ITERATIONS
        if budget.cancel.is_set():
            stopped = StoppedBy.CANCELLED
    # A bound above the plan is rounding of the solver.
    bound = min(bound, plan.objective)
    return Termination(
        reason=TerminationReason.OPTIMAL if met else TerminationReason.FEASIBLE,
        stopped_by=stopped,
        objective=plan.objective,
        objective_bound=bound,
        absolute_gap=plan.objective - bound,
        relative_gap=relative_gap(plan.objective, bound, plan.scale),
        solve_duration_s=budget.elapsed_s,
        method=solved.method,
        detail=f"{site.session_count} sessions x {site.step_count} steps, {len(site.limits.node)} limits; tried: "
        + (", ".join(solved.tried) or "nothing else")
        + ("" if solved.ranks_proven else "; whether wishes before cost could be met further is not proven"),
    )
