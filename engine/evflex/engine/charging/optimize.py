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
from evflex.engine.charging.branch_and_bound import ExactPlan, branch_and_bound, is_small
from evflex.engine.charging.column_generation import plan_switching
from evflex.engine.charging.evaluation import Evaluation, evaluate, keeps_limits
from evflex.engine.charging.feasibility import at_rest, keeps_rules, mended, tidy
from evflex.engine.charging.minimum_search import is_searchable, search_minimums
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.polish import polished_plans
from evflex.engine.charging.relaxation import RankedBound, Relaxation, relax
from evflex.engine.charging.repair import repair
from evflex.engine.charging.report import build_schedule
from evflex.engine.charging.restarts import repaired_plans
from evflex.engine.charging.schedule import Schedule
from evflex.engine.charging.site import Site, build_site, controlled_first_kw, uncontrolled_kw
from evflex.engine.charging.switching import counts_starts
from evflex.engine.charging.tie_break import TIE_TOLERANCE, break_ties
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason, relative_gap
from evflex.engine.validation import Rules

# Share of the time left that a solve with departure margins takes, so that one without can follow.
_MARGIN_SHARE = 0.5
# Where no more than this share of the time is left, time has ended the solve.
_LEFT_SHARE = 0.1
# A shortfall below this is none (kWh).
_SHORT_KWH = 1e-6


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
    solved = _solve(site, _part_of(budget, _MARGIN_SHARE) if margin_s.any() else budget)
    late = solved.plan.shortfall_kwh > _SHORT_KWH
    if margin_s.any() and late.any():
        # A margin is a comfort: it never costs a session energy. First those that are short go without, then all.
        site, solved = _without_margin(site, solved, np.where(late, 0.0, margin_s), _part_of(budget, _MARGIN_SHARE))
        if (solved.plan.shortfall_kwh > _SHORT_KWH).any() and not late.all():
            site, solved = _without_margin(site, solved, np.zeros_like(margin_s), budget)
    solved.settle_ties(site)
    return build_schedule(site, solved.plan, solved.uncontrolled, solved.relaxation, _termination(site, solved, budget))


def _part_of(budget: Budget, share: float) -> Budget:
    """A budget that ends when a share of what is left has gone."""
    return Budget(share * budget.remaining_s, budget.cancel)


def _without_margin(site: Site, solved: _Solved, margin_s: FloatArray, budget: Budget) -> tuple[Site, _Solved]:
    """Solve with other margins; the site and answer of before where that gains no wish before cost."""
    other = build_site(site.problem, site.options, margin_s)
    again = _solve(other, budget, solved.plan.power_kw - site.given_kw)
    served = again.plan.shortfall_kwh.sum() < solved.plan.shortfall_kwh.sum() - _SHORT_KWH
    gains = again.plan.ranks_before(solved.plan) or (served and not solved.plan.ranks_before(again.plan))
    return (other, again) if gains else (site, solved)


@dataclass(slots=True)
class _Solved:
    """Best plan so far and what is proven about it."""

    uncontrolled: Evaluation
    plan: Evaluation
    method: str
    bounds: list[RankedBound] = field(default_factory=list)
    relaxation: Relaxation | None = None
    ran_out: bool = False
    tried: list[str] = field(default_factory=list)

    def offer(self, site: Site, power_kw: FloatArray, method: str) -> None:
        """Take a plan for the controlled steps if it keeps every rule and ranks before the best so far.

        Sessions whose powers break a rule of their own charge in one run, or rest.
        """
        self.tried.append(method)
        power_kw = tidy(site, power_kw)
        power_kw = mended(site, power_kw)
        if not keeps_limits(site, power_kw):
            return
        candidate = evaluate(site, power_kw + site.given_kw)
        if candidate.better_than(self.plan):
            self.plan, self.method = candidate, method

    def take(self, site: Site, exact: ExactPlan, method: str) -> None:
        """Take a bound, and the plan that came with it."""
        self.bounds.append(exact.bound)
        self.ran_out |= exact.ran_out
        if exact.power_kw is not None:
            self.offer(site, exact.power_kw, method)
        else:
            self.tried.append(method)

    def settle_ties(self, site: Site) -> None:
        """Of plans that cost the same take one that charges earlier and starts less often."""
        if self.relaxation is None:
            return
        power_kw = break_ties(site, self.relaxation.free_price, self.plan.power_kw - site.given_kw)
        if np.array_equal(power_kw + site.given_kw, self.plan.power_kw) or not keeps_rules(site, power_kw):
            return
        candidate = evaluate(site, power_kw + site.given_kw)
        dearer = candidate.objective - self.plan.objective
        if dearer <= TIE_TOLERANCE * self.plan.scale and not self.plan.ranks_before(candidate):
            self.plan = candidate

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


def _solve(site: Site, budget: Budget, known_kw: FloatArray | None = None) -> _Solved:
    """Best plan within the budget; each method is tried only while the asked gap is open.

    Args:
        site: The site.
        budget: Time and cancellation.
        known_kw: A plan to begin with, (n, T).
    """
    solved = _first(site)
    if known_kw is not None:
        solved.offer(site, known_kw, "the plan with margins")
    _improve(site, solved, budget)
    # The last methods leave a little, and do not begin where only that is left.
    solved.ran_out |= budget.remaining_s <= _LEFT_SHARE * budget.time_limit_s
    return solved


def _improve(site: Site, solved: _Solved, budget: Budget) -> None:
    """Try method after method, while the asked gap is open and time is left."""
    relaxation = None if budget.spent else relax(site, budget)
    if relaxation is None or not relaxation.proven:
        solved.bounds.append(RankedBound(trivial_bound(site), {}, {}))
    if relaxation is None:
        return
    solved.relaxation = relaxation
    solved.bounds.append(relaxation.bound)
    options = site.options
    if counts_starts(options) or options.current_quantum_a > 0.0:
        switched = plan_switching(site, relaxation, budget)
        solved.bounds.append(switched.bound)
        for method, power_kw in switched.plans:
            solved.offer(site, power_kw, method)
    elif is_small(site) and is_searchable(site, relaxation):
        solved.offer(site, repair(site, relaxation), "relaxation and repair")
        if not solved.gap_met(options) and not budget.spent:
            solved.take(site, search_minimums(site, relaxation, solved.plan, budget), "search of minimums")
    else:
        _repair_and_polish(site, solved, relaxation, budget)
    if not solved.gap_met(options) and is_small(site) and not budget.spent:
        exact = branch_and_bound(site, solved.plan, relaxation.bound.levels, budget)
        if exact is not None:
            solved.take(site, exact, "branch and bound")


def _repair_and_polish(site: Site, solved: _Solved, relaxation: Relaxation, budget: Budget) -> None:
    """Repair vertex after vertex of the relaxation, then set the powers anew for the best pattern."""
    repaired: FloatArray | None = None
    for method, power_kw in repaired_plans(site, relaxation):
        repaired = power_kw if repaired is None else repaired
        solved.offer(site, power_kw, method)
        if solved.gap_met(site.options) or budget.spent:
            break
    if repaired is not None and not solved.gap_met(site.options) and not budget.spent:
        # Where the best plan does not come from the relaxation, its pattern says less than the repaired one.
        own = solved.plan.power_kw - site.given_kw if solved.method.startswith("relaxation") else repaired
        for polished in polished_plans(site, relaxation, own, budget):
            solved.offer(site, polished, "relaxation, repair and pattern program")


def _first(site: Site) -> _Solved:
    """Uncontrolled charging, as far as it keeps the rules, which is the first incumbent."""
    plain_kw = controlled_first_kw(site)
    power_kw = mended(site, plain_kw)
    if not keeps_limits(site, power_kw):
        power_kw = at_rest(site)
    first, whole = evaluate(site, power_kw + site.given_kw), power_kw is plain_kw
    method = "uncontrolled charging" if whole else "uncontrolled charging as far as it keeps the rules"
    same = whole and not site.given_kw.any()
    plain = first if same else evaluate(site, uncontrolled_kw(site))
    return _Solved(plain, first, method)


def _termination(site: Site, solved: _Solved, budget: Budget) -> Termination:
    plan, bound = solved.plan, solved.bound
    met = solved.gap_met(site.options)
    stopped = StoppedBy.NOTHING
    if not met:
        stopped = StoppedBy.TIME if solved.ran_out or budget.spent else StoppedBy.ITERATIONS
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
