"""Fleets too large for one program: rules kept, and the objective within the stated gap of an independent model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.dispatch import DispatchProblem, LimitScope, PlanOptions, PortfolioLimit, Reserve, plan_portfolio
from evflex.engine.dispatch.model import PlanMethod
from tests.conftest import SOAK
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.reference_fleet import reference_problem
from tests.engine.dispatch.reference.reference_lp import solve

DECOMPOSED = PlanOptions(method=PlanMethod.DECOMPOSITION)
COUNT = 10_000 if SOAK else 500


def with_fleet_limit(problem: DispatchProblem, share: float) -> DispatchProblem:
    """Feeders under a limit of the whole fleet, a share of the sum of theirs."""
    upper = share * np.sum([limit.upper_kw for limit in problem.limits], axis=0)
    over_all = PortfolioLimit(LimitScope.FLEET, 0, np.full_like(upper, -np.inf), upper, 2.0)
    return replace(problem, limits=(over_all, *problem.limits))


def tracking(problem: DispatchProblem) -> DispatchProblem:
    """The fleet limit as a target for half of it."""
    upper = 0.5 * problem.limits[0].upper_kw
    return replace(problem, limits=(replace(problem.limits[0], lower_kw=upper, upper_kw=upper),))


def with_reserves(problem: DispatchProblem) -> DispatchProblem:
    """Reserve sold for the night hours, both ways."""
    steps = problem.grid.step_count
    night = (np.arange(steps) >= 44) & (np.arange(steps) < 60)
    sold = np.where(night, 0.02 * len(problem.fleet), 0.0)
    return replace(problem, reserves=(Reserve(sold, 0.2 * sold, 3600.0),))


PROBLEMS = {
    "charging": lambda: reference_problem(COUNT, 1),
    "discharging": lambda: reference_problem(COUNT // 10, 1, v2g=True),
    "feeders": lambda: reference_problem(COUNT, 1, feeders=5),
    "feeders and fleet": lambda: with_fleet_limit(reference_problem(COUNT, 1, feeders=8), 0.93),
    "target": lambda: tracking(reference_problem(COUNT, 2)),
    "reserves": lambda: with_reserves(reference_problem(COUNT, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_objective_lies_within_the_stated_gap_of_an_independent_model(name: str) -> None:
    problem = PROBLEMS[name]()
    plan, best = plan_portfolio(problem, DECOMPOSED), solve(problem)
    assert faults(problem, DECOMPOSED, plan) == []
    ended, near = plan.termination, 1e-6 * plan.figures.scale
    assert ended.relative_gap <= DECOMPOSED.relative_gap + 1e-9
    assert ended.objective_bound - near <= best.objective <= ended.objective + near


@pytest.mark.slow
@pytest.mark.parametrize("count", [60, 300, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_minimum_powers_are_kept_within_a_thousandth(count: int, seed: int) -> None:
    problem = reference_problem(count, seed, minimum=True)
    plan = plan_portfolio(problem, DECOMPOSED)
    assert faults(problem, DECOMPOSED, plan) == []
    # what the choice of steps leaves of the gap shrinks with the fleet
    assert plan.termination.relative_gap <= (1e-3 if count >= 300 else 5e-3) + 1e-9


@pytest.mark.slow
def test_a_hundred_thousand_vehicles_keep_every_rule() -> None:
    problem = reference_problem(100_000, 0)
    plan = plan_portfolio(problem)
    assert faults(problem, None, plan) == []
    assert plan.termination.relative_gap <= 1e-3 + 1e-9


def test_gaps_are_the_same_whatever_prices_a_solve_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = reference_problem(800, 2, feeders=6)
    warm = plan_portfolio(problem, DECOMPOSED)
    monkeypatch.setattr("evflex.engine.dispatch.start._MANY_LIMITS", 100)
    cold = plan_portfolio(problem, DECOMPOSED)
    scale = warm.figures.scale
    assert max(warm.termination.objective_bound, cold.termination.objective_bound) <= (
        min(warm.termination.objective, cold.termination.objective) + 1e-9 * scale
    )
    assert abs(warm.termination.objective - cold.termination.objective) <= 1e-3 * scale


def test_a_sample_of_stores_tells_prices_that_serve_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evflex.engine.dispatch.start._MANY_STORES", 100)
    monkeypatch.setattr("evflex.engine.dispatch.start._SAMPLE", 60)
    problem = reference_problem(400, 4, v2g=True)
    plan = plan_portfolio(problem, DECOMPOSED)
    assert faults(problem, DECOMPOSED, plan) == []
    assert plan.termination.relative_gap <= 1e-3 + 1e-9
