"""Portfolios at the edges: nothing, hardly anything, far too much, and no time."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.dispatch import AssetKind, PlanOptions, plan_portfolio
from evflex.engine.dispatch.model import PlanMethod
from evflex.engine.termination import StoppedBy, TerminationReason
from tests.engine.dispatch.reference.builders import assets, limit, portfolio, target
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.reference_fleet import reference_problem
from tests.engine.dispatch.reference.reference_lp import solve

METHODS = [PlanMethod.DECOMPOSITION, PlanMethod.DIRECT]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("price", [0.0, -0.2], ids=["free", "paid"])
def test_energy_that_costs_nothing_is_shared_under_the_limit(method: PlanMethod, price: float) -> None:
    fleet = assets([0, 0], [4, 4], max_charge_kw=[6, 6], energy_needed_kwh=[9, 9], energy_headroom_kwh=[9, 9])
    problem = portfolio(fleet, [price] * 4, limits=[limit(4, upper=5.0)])
    options = PlanOptions(method=method, relative_gap=1e-6)
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert plan.termination.reason is TerminationReason.OPTIMAL
    assert plan.termination.objective == pytest.approx(18.0 * price, abs=1e-6)
    assert plan.fleet_power_kw.max() <= 5.0 + 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e5], ids=["tiny", "usual", "huge"])
def test_the_size_of_powers_does_not_matter(method: PlanMethod, size: float) -> None:
    fleet = assets([0, 1], [4, 4], max_charge_kw=[6 * size, 6 * size], energy_needed_kwh=[9 * size, 9 * size])
    problem = portfolio(fleet, [0.1, 0.4, 0.2, 0.3], limits=[limit(4, upper=5 * size)])
    options = PlanOptions(method=method, relative_gap=1e-6)
    plan, best = plan_portfolio(problem, options), solve(problem)
    assert faults(problem, options, plan) == []
    assert plan.termination.objective == pytest.approx(best.objective, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_one_step_is_a_plan(method: PlanMethod) -> None:
    problem = portfolio(assets([0], [1], max_charge_kw=5, energy_needed_kwh=9), [0.2], limits=[limit(1, upper=3.0)])
    plan = plan_portfolio(problem, PlanOptions(method=method))
    assert faults(problem, PlanOptions(method=method), plan) == []
    assert plan.assets_short == 1
    assert plan.shortfall_kwh == pytest.approx(6.0)


def test_five_hundred_steps_with_long_stays() -> None:
    generator = np.random.default_rng(7)
    begin = np.floor(generator.uniform(0, 300, 200))
    fleet = assets(
        begin.tolist(), (begin + generator.uniform(50, 200, 200)).tolist(), max_charge_kw=11.0,
        energy_needed_kwh=generator.uniform(10, 90, 200).tolist(),
    )  # fmt: skip
    price = (0.2 + 0.1 * np.sin(np.arange(500) / 7)).tolist()
    problem = portfolio(fleet, price, limits=[limit(500, upper=60.0)])
    options = PlanOptions(method=PlanMethod.DECOMPOSITION)
    plan, best = plan_portfolio(problem, options), solve(problem)
    assert faults(problem, options, plan) == []
    near = 1e-6 * plan.figures.scale
    assert plan.termination.objective_bound - near <= best.objective <= plan.termination.objective + near
    assert plan.termination.relative_gap <= 1e-3 + 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_a_target_that_nobody_can_meet_costs_its_violation(method: PlanMethod) -> None:
    fleet = assets([0], [2], kind=float(AssetKind.PV), max_discharge_kw=3.0)
    problem = portfolio(fleet, [0.1, 0.1], limits=[target(2, [-1.0, 4.0], price=2.0)])
    options = PlanOptions(method=method, relative_gap=1e-6)
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    np.testing.assert_allclose(plan.fleet_power_kw, [-1.0, 0.0], atol=1e-6)
    assert plan.violation_kwh == pytest.approx(4.0)


@pytest.mark.parametrize(
    "problem",
    [reference_problem(3000, 1), reference_problem(300, 1, v2g=True), reference_problem(500, 1, minimum=True)],
    ids=["charging", "discharging", "minimum"],
)
def test_without_time_there_is_a_plan_with_a_true_gap(problem: object) -> None:
    options = PlanOptions(time_limit_s=1e-3, relative_gap=1e-9, method=PlanMethod.DECOMPOSITION)
    plan = plan_portfolio(problem, options)  # type: ignore[arg-type]
    assert faults(problem, options, plan) == []  # type: ignore[arg-type]
    assert plan.termination.stopped_by is StoppedBy.TIME
    assert plan.termination.relative_gap > 1e-9
