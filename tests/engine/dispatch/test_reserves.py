"""Reserves sold before: every call that a plan calls deliverable succeeds on the same fleet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.dispatch import DispatchProblem, PlanOptions, Reserve, plan_portfolio
from evflex.engine.dispatch.model import PlanMethod
from evflex.engine.dispatch.plan import FleetPlan
from evflex.engine.dispatch.reserves import call_steps
from tests.conftest import SOAK
from tests.engine.dispatch.reference.builders import assets, portfolio, reserve
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.deliverability import Direction, missing_kw
from tests.engine.dispatch.reference.fleets import random_problem
from tests.engine.dispatch.reference.reference_fleet import reference_problem

METHODS = [PlanMethod.DECOMPOSITION, PlanMethod.DIRECT]
FEATURES = ("ev", "battery", "v2g", "losses", "fractions", "beyond", "value", "reserve_up", "reserve_down")
TOLERANCE_KW = 1e-5


def sold_kw(problem: DispatchProblem, plan: FleetPlan, direction: Direction, step: int, call: int) -> float:
    """What a call in a step may ask for: what was sold, less what the plan reports missing during the call."""
    up = direction is Direction.UP
    sold = sum(float((r.up_kw if up else r.down_kw)[step]) for r in problem.reserves)
    missing = plan.reserve_missing_up_kw if up else plan.reserve_missing_down_kw
    return sold - float(missing[:, step : step + call].sum(axis=0).max(initial=0.0))


def assert_deliverable(problem: DispatchProblem, plan: FleetPlan, steps: range) -> None:
    call = call_steps(problem)
    for direction in Direction:
        for step in steps:
            asked = sold_kw(problem, plan, direction, step, call)
            if asked > 0.0:
                lacking = missing_kw(problem, plan, direction, step, call, asked)
                assert lacking <= TOLERANCE_KW, (direction, step, asked, lacking)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(60 if SOAK else 10))
def test_every_call_is_deliverable(method: PlanMethod, seed: int) -> None:
    problem, options = random_problem(seed, FEATURES, count=6), PlanOptions(relative_gap=1e-5, method=method)
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert_deliverable(problem, plan, range(problem.grid.step_count))


@pytest.mark.parametrize("seed", range(60 if SOAK else 10))
def test_a_call_of_one_reserve_is_deliverable_for_its_own_endurance(seed: int) -> None:
    problem, options = random_problem(seed, (*FEATURES, "two_reserves"), count=6), PlanOptions(relative_gap=1e-5)
    own_steps = (1, 2) if seed % 2 else (3, 1)
    reserves = tuple(
        replace(reserve, endurance_s=steps * problem.grid.step_s)
        for reserve, steps in zip(problem.reserves, own_steps, strict=True)
    )
    problem = replace(problem, reserves=reserves)
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert_deliverable(problem, plan, range(problem.grid.step_count))
    for number, steps in enumerate(own_steps):
        for direction in Direction:
            for step in range(problem.grid.step_count):
                assert_deliverable_alone(problem, plan, number, direction, step, steps)


def assert_deliverable_alone(
    problem: DispatchProblem, plan: FleetPlan, number: int, direction: Direction, step: int, steps: int
) -> None:
    reserve, up = problem.reserves[number], direction is Direction.UP
    missing = plan.reserve_missing_up_kw if up else plan.reserve_missing_down_kw
    # what any reserve lacks during the call is not counted on
    asked = float((reserve.up_kw if up else reserve.down_kw)[step])
    asked -= float(missing[:, step : step + steps].sum(axis=0).max(initial=0.0))
    if asked > 0.0:
        assert missing_kw(problem, plan, direction, step, steps, asked) <= TOLERANCE_KW, (number, direction, step)


def test_calls_on_the_reference_fleet_are_deliverable() -> None:
    problem = reference_problem(60, 5, v2g=True)
    steps = problem.grid.step_count
    sold = np.where((np.arange(steps) >= 40) & (np.arange(steps) < 56), 6.0, 0.0)
    problem = replace(problem, reserves=(Reserve(sold, 0.5 * sold, 1800.0),))
    plan = plan_portfolio(problem, PlanOptions(method=PlanMethod.DECOMPOSITION))
    assert faults(problem, PlanOptions(method=PlanMethod.DECOMPOSITION), plan) == []
    assert_deliverable(problem, plan, range(40, 56, 5))


@pytest.mark.parametrize("method", METHODS)
def test_a_reserve_that_nobody_can_give_is_told_by_its_commitment(method: PlanMethod) -> None:
    fleet = assets([0], [6], max_charge_kw=10.0, energy_needed_kwh=20.0, shortfall_price_per_kwh=50.0)
    problem = portfolio(
        fleet, [0.3] * 6, reserves=[reserve(6, up=[0, 4, 0, 0, 0, 0]), reserve(6, up=[0, 9, 0, 0, 0, 0])]
    )
    plan = plan_portfolio(problem, PlanOptions(method=method))
    assert faults(problem, PlanOptions(method=method), plan) == []
    # ten kilowatts at most can be taken back from one car that charges: the later of the two lacks three
    np.testing.assert_allclose(plan.reserve_missing_up_kw[:, 1], [0.0, 3.0], atol=1e-6)
    assert plan.shortfall_kwh == pytest.approx(0.0, abs=1e-6)
