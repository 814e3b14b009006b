"""The reference model agrees with cases solved by hand, with the checker and with itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from evflex.engine.dispatch.model import AssetKind, DispatchProblem, LimitScope
from evflex.engine.validation import Rules
from tests.conftest import SOAK
from tests.engine.dispatch.reference.builders import assets, limit, portfolio, reserve, target
from tests.engine.dispatch.reference.case import Case
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.deliverability import Direction, missing_kw
from tests.engine.dispatch.reference.fleets import FEATURES, problems, random_problem
from tests.engine.dispatch.reference.reference_fleet import elaad_problem, reference_problem
from tests.engine.dispatch.reference.reference_lp import Solution, solve
from tests.engine.dispatch.reference.wrap import plan_of, plan_of_powers

SEEDS = range(400 if SOAK else 60)


def close(solution: Solution, cost: float, power: list[list[float]]) -> None:
    assert solution.objective == pytest.approx(cost, abs=1e-9)
    np.testing.assert_allclose(solution.power_kw, power, atol=1e-7)


# --- solved by hand ----------------------------------------------------------------------------


def test_one_ev_charges_in_the_cheaper_step() -> None:
    fleet = assets([0], [2], max_charge_kw=10, energy_needed_kwh=6)
    close(solve(portfolio(fleet, [0.3, 0.1])), 0.6, [[0, 6]])


def test_losses_are_drawn_too() -> None:
    fleet = assets([0], [2], max_charge_kw=10, energy_needed_kwh=6, charge_efficiency=0.8)
    close(solve(portfolio(fleet, [0.3, 0.1])), 0.75, [[0, 7.5]])


def test_a_share_of_a_step_bounds_power() -> None:
    fleet = assets([-3.0, 0.25], [0.5, 9.0], max_charge_kw=8, energy_needed_kwh=[5, 20])
    # the first can charge 4 kWh and lacks 1 at ten times 0.3; the second 6 + 8 of its 20
    solution = solve(portfolio(fleet, [0.3, 0.1]))
    close(solution, 4 * 0.3 + 1 * 3.0 + 6 * 0.3 + 8 * 0.1 + 6 * 3.0, [[4, 0], [6, 8]])
    np.testing.assert_allclose(solution.shortfall_kwh, [1, 6])


def test_an_asset_that_never_comes_lacks_all_it_needs() -> None:
    fleet = assets([5], [9], max_charge_kw=8, energy_needed_kwh=5, shortfall_price_per_kwh=1.0)
    close(solve(portfolio(fleet, [0.3, 0.1])), 5.0, [[0, 0]])


def test_a_binding_limit_has_a_price() -> None:
    fleet = assets([0, 0], [2, 2], max_charge_kw=10, energy_needed_kwh=[4, 6])
    solution = solve(portfolio(fleet, [0.3, 0.1], limits=[limit(2, upper=7)]))
    assert solution.objective == pytest.approx(3 * 0.3 + 7 * 0.1)
    np.testing.assert_allclose(solution.power_kw.sum(axis=0), [3, 7])
    np.testing.assert_allclose(solution.limit_price_per_kw_step, [[0, 0.2]], atol=1e-9)


def test_a_violation_is_taken_where_it_costs_less_than_a_shortfall() -> None:
    fleet = assets([0], [1], max_charge_kw=10, energy_needed_kwh=8)
    solution = solve(portfolio(fleet, [0.3], limits=[limit(1, upper=5, price=2.0)]))
    close(solution, 8 * 0.3 + 3 * 2.0, [[8]])
    np.testing.assert_allclose(solution.limit_above_kw, [[3]])
    np.testing.assert_allclose(solution.limit_price_per_kw_step, [[2.0]])
    dear = portfolio(fleet, [0.3], limits=[limit(1, upper=5, price=4.0)])
    close(solve(dear), 5 * 0.3 + 3 * 3.0, [[5]])


def test_energy_above_the_need_is_bought_below_its_value() -> None:
    fleet = assets([0], [2], max_charge_kw=10, energy_needed_kwh=6, energy_headroom_kwh=30, energy_value_per_kwh=0.2)
    close(solve(portfolio(fleet, [0.3, 0.1])), 10 * 0.1 - 4 * 0.2, [[0, 10]])


def test_a_battery_trades_where_the_spread_pays_losses_and_wear() -> None:
    fleet = assets(
        [0], [3], kind=AssetKind.BATTERY, max_charge_kw=10, max_discharge_kw=4, energy_headroom_kwh=8,
        charge_efficiency=0.9, discharge_efficiency=0.8, discharge_cost_per_kwh=0.02,
    )  # fmt: skip
    # a kWh sold costs 0.1 / 0.72 + 0.02 = 0.159
    cost = 4 / 0.72 * 0.1 + 4 * 0.02 - 4 * 0.2
    close(solve(portfolio(fleet, [0.1, 0.2, 0.15])), cost, [[4 / 0.72, -4, 0]])
    close(solve(portfolio(fleet, [0.1, 0.15, 0.15])), 0.0, [[0, 0, 0]])


def test_an_ev_sells_what_it_brought_and_buys_it_back() -> None:
    fleet = assets(
        [0], [2], max_charge_kw=10, max_discharge_kw=10, energy_needed_kwh=1, energy_headroom_kwh=9,
        energy_available_kwh=3,
    )  # fmt: skip
    close(solve(portfolio(fleet, [0.3, 0.1])), -3 * 0.3 + 4 * 0.1, [[-3, 4]])
    cheap_export = portfolio(fleet, [0.3, 0.1], export_price=[0.05, 0.05])
    close(solve(cheap_export), 0.1, [[0, 1]])


def test_a_heat_pump_runs_ahead_and_behind_its_profile() -> None:
    fleet = assets(
        [0], [3], kind=AssetKind.HEAT_PUMP, max_charge_kw=5, energy_headroom_kwh=2, energy_available_kwh=1,
        discharge_cost_per_kwh=9.0,
    )  # fmt: skip
    problem = portfolio(fleet, [0.1, 0.3, 0.2], profiles={0: [2, 2, 2]})
    # 2 kWh ahead in the first step; and where the last is the cheapest, 1 behind before it
    close(solve(problem), 4 * 0.1 + 0 * 0.3 + 2 * 0.2, [[4, 0, 2]])
    close(solve(portfolio(fleet, [0.2, 0.3, 0.1], profiles={0: [2, 2, 2]})), 0.6 + 0.0 + 0.3, [[3, 0, 3]])
    deep = dataclasses.replace(fleet, energy_headroom_kwh=np.array([0.5]))
    close(solve(portfolio(deep, [0.1, 0.3, 0.2], profiles={0: [2, 2, 2]})), 0.25 + 0.15 + 0.6, [[2.5, 0.5, 3]])


def test_a_flexible_load_moves_the_energy_of_its_profile() -> None:
    fleet = assets([0], [3], kind=AssetKind.FLEXIBLE_LOAD, max_charge_kw=3, max_discharge_kw=5)
    close(solve(portfolio(fleet, [0.2, 0.1, 0.3], profiles={0: [1, 1, 2]})), 0.3 + 0.2, [[1, 3, 0]])


def test_pv_is_curtailed_under_an_export_limit() -> None:
    fleet = assets([0, 0], [3, 3], kind=[AssetKind.PV, AssetKind.EV], max_charge_kw=[0, 4], energy_needed_kwh=[0, 3])
    problem = portfolio(fleet, [0.2, 0.1, -0.1], profiles={0: [-5, -6, -7]}, limits=[limit(3, lower=-2)])
    # in the first two steps at most 2 kW leave; the EV takes what could not be sold; at a negative price nothing runs
    solution = solve(problem)
    np.testing.assert_allclose(solution.power_kw[0] + solution.power_kw[1], [-2, -2, 3], atol=1e-7)
    assert solution.objective == pytest.approx(-2 * 0.2 - 2 * 0.1 - 3 * 0.1)
    np.testing.assert_allclose(solution.limit_price_per_kw_step, [[-0.2, -0.1, 0.0]], atol=1e-9)


def test_the_rating_caps_a_profile_of_pv() -> None:
    fleet = assets([0, 0], [1, 0.5], kind=AssetKind.PV, max_discharge_kw=[4, 6], discharge_cost_per_kwh=0.1)
    close(solve(portfolio(fleet, [0.3], profiles={0: [-5]})), -7 * 0.2, [[-4], [-3]])


def test_a_target_is_tracked_from_both_sides() -> None:
    fleet = assets([0], [2], max_charge_kw=10, energy_needed_kwh=6)
    solution = solve(portfolio(fleet, [0.3, 0.1], limits=[target(2, [5, 2], price=1.0)]))
    close(solution, 4 * 0.3 + 2 * 0.1 + 1.0, [[4, 2]])
    np.testing.assert_allclose(solution.limit_below_kw, [[1, 0]], atol=1e-9)


def test_limits_add_up_their_own_assets_only() -> None:
    fleet = assets(
        [0, 0, 0], [1, 1, 1], max_charge_kw=10, energy_needed_kwh=5, shortfall_price_per_kwh=1.0,
        group_index=[0, 1, -1], operator_index=[-1, 0, 0],
    )  # fmt: skip
    limits = [
        limit(1, upper=2, scope=LimitScope.GROUP, index=1),
        limit(1, upper=4, scope=LimitScope.OPERATOR),
        limit(1, upper=10),
    ]
    solution = solve(portfolio(fleet, [0.1], limits=limits, group_count=2, operator_count=1))
    np.testing.assert_allclose(solution.power_kw.sum(axis=0), [9])
    np.testing.assert_allclose(solution.power_kw[0], [5])


def test_reserve_upward_keeps_energy_where_it_is_sold() -> None:
    fleet = assets([0], [4], max_charge_kw=4, energy_needed_kwh=4)
    free = portfolio(fleet, [0.2, 0.3, 0.1, 0.1])
    assert solve(free).objective == pytest.approx(0.4)
    # 3 kW less in step 1 is only there if it charges then, and it is ready a step before it leaves
    held = dataclasses.replace(free, reserves=(reserve(4, up=[0, 3, 0, 0]),))
    close(solve(held), 3 * 0.3 + 0.1, [[0, 3, 1, 0]])
    # a call of two steps may still run in step 2, and the EV is ready two steps before it leaves: what lacks is priced
    longer = dataclasses.replace(free, reserves=(reserve(4, up=[0, 3, 0, 0], endurance_steps=2),))
    solution = solve(longer)
    np.testing.assert_allclose(solution.power_kw, [[1, 3, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(solution.reserve_missing_up_kw, [0, 0, 3, 0], atol=1e-7)


def test_reserve_downward_forbids_charging_in_full() -> None:
    fleet = assets([0], [3], max_charge_kw=4, energy_needed_kwh=6, energy_headroom_kwh=12)
    held = portfolio(fleet, [0.3, 0.1, 0.3], reserves=[reserve(3, down=[0, 3, 0])])
    solution = solve(held)
    assert solution.objective == pytest.approx(5 * 0.3 + 0.1)
    # without room for a call beside its need, an EV takes no part
    tight = dataclasses.replace(held, fleet=dataclasses.replace(fleet, energy_headroom_kwh=np.array([9.0])))
    solution = solve(tight)
    np.testing.assert_allclose(solution.reserve_missing_down_kw, [0, 3, 0], atol=1e-9)
    assert solution.objective == pytest.approx(4 * 0.1 + 2 * 0.3 + 3 * 1.5)


def test_discharging_counts_as_reserve_while_energy_is_kept_for_a_call() -> None:
    fleet = assets(
        [0], [30], kind=AssetKind.BATTERY, max_charge_kw=5, max_discharge_kw=5, energy_headroom_kwh=10,
        energy_available_kwh=6,
    )  # fmt: skip
    held = portfolio(fleet, [0.3, 0.1], reserves=[reserve(2, up=5)])
    # of its 6 kWh a call takes 5: one may be sold, but discharging leaves less than 5 kW to give
    solution = solve(held)
    close(solution, 0.0, [[0, 0]])
    np.testing.assert_allclose(solution.reserve_missing_up_kw, [0, 0], atol=1e-9)


def test_assets_without_a_step_of_the_reserve_are_planned_as_if_there_were_none() -> None:
    fleet = assets([0, 2], [2, 4], max_charge_kw=4, energy_needed_kwh=4)
    held = portfolio(fleet, [0.3, 0.1, 0.3, 0.1], reserves=[reserve(4, up=[0, 0, 1, 0])])
    np.testing.assert_allclose(solve(held).power_kw, [[0, 4, 0, 0], [0, 0, 4, 0]], atol=1e-7)


def test_the_minimum_of_an_ev_is_all_or_nothing() -> None:
    fleet = assets([0], [3], max_charge_kw=10, min_charge_kw=4, energy_needed_kwh=6, energy_headroom_kwh=6)
    problem = portfolio(fleet, [0.3, 0.1, 0.2], limits=[limit(3, upper=5, price=50.0)])
    close(solve(problem), 0.5 + 0.2, [[0, 5, 1]])
    # two starts of at least 4 do not fit into 6: one of 5 and a shortfall
    close(solve(problem, integer=True), 0.5 + 3.0, [[0, 5, 0]])


def test_burning_energy_is_told_and_excluded_by_integers() -> None:
    fleet = assets(
        [0], [1], kind=AssetKind.BATTERY, max_charge_kw=10, max_discharge_kw=10, energy_headroom_kwh=1,
        charge_efficiency=0.8, discharge_efficiency=0.8,
    )  # fmt: skip
    problem = portfolio(fleet, [-0.5])
    assert solve(problem).burns
    exact = solve(problem, integer=True)
    assert not exact.burns
    close(exact, -0.625, [[1.25]])


# --- random problems ---------------------------------------------------------------------------


def assert_sound(problem: DispatchProblem) -> None:
    rules = Rules()
    problem.fleet.validate(rules, problem.group_count, problem.operator_count)
    problem.validate(rules)
    assert rules.violations == []


def assert_optimum_is_a_plan(problem: DispatchProblem) -> None:
    assert_sound(problem)
    relaxed, exact = solve(problem), solve(problem, integer=True)
    assert relaxed.objective <= exact.objective + 1e-7
    plan = plan_of(problem, exact)
    assert faults(problem, None, plan) == []
    assert plan.figures.total_cost == pytest.approx(exact.objective, abs=1e-6)
    assert plan.shortfall_kwh == pytest.approx(exact.shortfall_kwh.sum(), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_optimum_of_a_random_problem_passes_the_checker(seed: int) -> None:
    assert_optimum_is_a_plan(random_problem(seed))


@given(problems())
def test_the_optimum_of_any_problem_passes_the_checker(problem: DispatchProblem) -> None:
    assert_optimum_is_a_plan(problem)


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_alone_makes_a_sound_problem(feature: str) -> None:
    assert_optimum_is_a_plan(random_problem(3, [feature]))


@pytest.mark.parametrize("seed", SEEDS)
def test_reserve_that_a_plan_keeps_can_be_called_whenever_it_is_sold(seed: int) -> None:
    features = {"v2g", "battery", "flexible_load", "losses", "reserve_up", "reserve_down", "beyond", "value"}
    problem = random_problem(seed, features, count=8)
    plan, case = plan_of(problem, solve(problem, integer=True)), Case(problem)
    for direction, sold, missing in (
        (Direction.UP, case.sold_up_kw, plan.reserve_missing_up_kw),
        (Direction.DOWN, case.sold_down_kw, plan.reserve_missing_down_kw),
    ):
        for start in range(case.steps):
            lacking = missing[:, start : start + case.call_steps].sum(axis=0).max()
            amount = max(0.0, sold[:, start].sum() - lacking)
            assert missing_kw(problem, plan, direction, start, case.call_steps, amount) <= 1e-5


def test_a_call_that_would_cost_a_driver_energy_is_missing() -> None:
    fleet = assets([0], [2], max_charge_kw=4, energy_needed_kwh=6)
    problem = portfolio(fleet, [0.1, 0.3])
    plan = plan_of_powers(problem, np.array([[4.0, 2.0]]))
    assert missing_kw(problem, plan, Direction.UP, 0, 1, 2.0) == pytest.approx(0.0, abs=1e-7)
    assert missing_kw(problem, plan, Direction.UP, 0, 1, 3.0) == pytest.approx(1.0)
    assert missing_kw(problem, plan, Direction.UP, 0, 2, 1.0) == pytest.approx(1.0)
    assert missing_kw(problem, plan, Direction.UP, 1, 1, 0.5) == pytest.approx(0.5)
    assert missing_kw(problem, plan, Direction.DOWN, 0, 1, 1.0) == pytest.approx(1.0)
    staying = dataclasses.replace(problem, fleet=assets([0], [3], max_charge_kw=4, energy_needed_kwh=6))
    assert missing_kw(staying, plan, Direction.UP, 1, 1, 2.0) == pytest.approx(0.0, abs=1e-7)


# --- larger fleets -----------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "count"), [({}, 300), ({"v2g": True}, 60), ({"feeders": 4}, 200)])
def test_the_reference_fleet_is_planned(options: dict[str, Any], count: int) -> None:
    problem = reference_problem(count, 1, **options)
    assert_sound(problem)
    solution = solve(problem)
    assert faults(problem, None, plan_of(problem, solution)) == []
    assert (solution.limit_price_per_kw_step > 0.0).any()
    assert solution.objective == solve(reference_problem(count, 1, **options)).objective


def test_the_minimum_of_the_reference_fleet_is_that_of_its_chargers() -> None:
    problem = reference_problem(200, 1, minimum=True)
    assert_sound(problem)
    assert set(problem.fleet.min_charge_kw.tolist()) == {1.38, 4.14}
    # without integers some EV charges less
    assert any("minimum" in fault for fault in faults(problem, None, plan_of(problem, solve(problem))))


@pytest.mark.shared_data
def test_a_fleet_from_measured_distributions_is_planned() -> None:
    problem = elaad_problem(300, 1)
    assert problem is not None
    assert_sound(problem)
    assert faults(problem, None, plan_of(problem, solve(problem))) == []
