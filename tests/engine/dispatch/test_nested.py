"""Limits above limits: the price of the fleet around the problems of its feeders, and limits that cross."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.dispatch import DispatchProblem, LimitScope, PlanOptions, PortfolioLimit, plan_portfolio
from evflex.engine.dispatch.build import build_oracle
from evflex.engine.dispatch.model import PlanMethod
from evflex.engine.dispatch.nested import rows_that_hold_together
from evflex.engine.dispatch.prepared import prepare
from evflex.engine.workers import Workers
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.reference_fleet import reference_problem
from tests.engine.dispatch.reference.reference_lp import solve

DECOMPOSED = PlanOptions(method=PlanMethod.DECOMPOSITION)


def over_all(problem: DispatchProblem, share: float, *, operators: int = 0) -> DispatchProblem:
    """Feeders under a limit of the fleet, and under one of each of some operators that own cars of all feeders."""
    upper = share * np.sum([limit.upper_kw for limit in problem.limits], axis=0)
    free = np.full_like(upper, -np.inf)
    limits = [PortfolioLimit(LimitScope.FLEET, 0, free, upper, 2.0), *problem.limits]
    limits += [PortfolioLimit(LimitScope.OPERATOR, k, free, upper / operators, 2.0) for k in range(operators)]
    of = np.arange(len(problem.fleet)) % operators if operators else np.full(len(problem.fleet), -1)
    fleet = replace(problem.fleet, operator_index=of.astype(np.int32))
    return replace(problem, fleet=fleet, limits=tuple(limits), operator_count=operators)


@pytest.mark.slow
@pytest.mark.parametrize(("operators", "gap"), [(0, 1e-3), (2, 0.05)], ids=["feeders", "feeders and operators"])
def test_the_plan_lies_within_the_gap_of_an_independent_model(operators: int, gap: float) -> None:
    problem = over_all(reference_problem(160, 2, feeders=7), 0.9, operators=operators)
    options = PlanOptions(relative_gap=gap, method=PlanMethod.DECOMPOSITION)
    plan, best = plan_portfolio(problem, options), solve(problem)
    assert faults(problem, options, plan) == []
    near = 1e-6 * plan.figures.scale
    assert plan.termination.objective_bound - near <= best.objective <= plan.termination.objective + near
    assert plan.termination.relative_gap <= gap + 1e-9


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_bounds_are_bounds_from_the_first_price_on(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evflex.engine.dispatch.nested._MOST_PRICES", rounds)
    problem = over_all(reference_problem(160, 1, feeders=7), 0.9)
    plan, best = plan_portfolio(problem, DECOMPOSED), solve(problem)
    assert faults(problem, DECOMPOSED, plan) == []
    assert plan.termination.objective_bound <= best.objective + 1e-6 * plan.figures.scale
    assert plan.termination.objective >= best.objective - 1e-6 * plan.figures.scale


@pytest.mark.parametrize(
    ("feeders", "fleet", "expected"), [(8, True, [0]), (8, False, []), (3, True, [])], ids=["nested", "apart", "few"]
)
def test_only_many_feeders_under_a_limit_of_all_are_nested(feeders: int, fleet: bool, expected: list[int]) -> None:
    problem = reference_problem(60, 0, feeders=feeders)
    problem = over_all(problem, 0.9) if fleet else problem
    with Workers(1) as workers:
        oracle = build_oracle(prepare(problem), workers)
        assert rows_that_hold_together(problem, oracle).tolist() == expected


def test_a_nested_solve_stops_in_time_with_a_true_gap() -> None:
    problem = over_all(reference_problem(400, 3, feeders=8), 0.9)
    options = PlanOptions(relative_gap=1e-9, time_limit_s=0.2, method=PlanMethod.DECOMPOSITION)
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert plan.termination.objective_bound <= solve(problem).objective + 1e-6 * plan.figures.scale
