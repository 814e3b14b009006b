"""Plans that can be worked out by hand: who gets what, when, and why not more."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evflex.engine.capacity import (
    Allocation,
    AllocationOptions,
    AllocationPolicy,
    AllocationProblem,
    BindingReason,
    allocate_capacity,
)
from evflex.engine.supply_tree import PhaseConnection
from evflex.engine.termination import StoppedBy, TerminationReason
from tests.engine.capacity.reference.checker import violations
from tests.engine.capacity.reference.generators import day_problem
from tests.engine.capacity.reference.hand import QUARTER_S, car_hub, hub, problem_of

POLICIES = list(AllocationPolicy)
PRIORITY, LEAST_COST = AllocationPolicy.PRIORITY, AllocationPolicy.LEAST_COST


def planned(problem: AllocationProblem, options: AllocationOptions | None = None) -> Allocation:
    """A plan that the checker finds nothing wrong with."""
    plan = allocate_capacity(problem, options or AllocationOptions())
    assert violations(problem, plan) == []
    return plan


def reasons(plan: Allocation, h: int) -> set[int]:
    return {int(reason) for _, hub_index, reason in plan.binding if hub_index == h}


@pytest.mark.parametrize("policy", POLICIES)
def test_all_is_served_where_all_fits(policy: AllocationPolicy) -> None:
    plan = planned(problem_of([40.0, 50.0], [hub("a", [30.0, 20.0]), hub("b", [10.0, 30.0])], policy=policy))
    assert plan.served_kwh == pytest.approx([50.0, 40.0])
    assert not len(plan.binding)
    assert plan.termination.objective == pytest.approx(0.0, abs=1e-9)
    assert plan.termination.reason == TerminationReason.OPTIMAL


def test_what_is_curtailed_now_is_served_later() -> None:
    plan = planned(problem_of([80.0, 80.0, 0.0], [hub("a", [50.0, 50.0, 0.0])]))
    assert plan.power_kw[0] == pytest.approx([20.0, 20.0, 60.0])
    assert reasons(plan, 0) == {BindingReason.LOADING_RATIO}


def test_what_cannot_wait_comes_first() -> None:
    leaves = car_hub("leaves", 2, [(0.0, 1.0, 20.0, 20.0)])
    stays = car_hub("stays", 2, [(0.0, 2.0, 20.0, 20.0)])
    plan = planned(problem_of([80.0, 80.0], [stays, leaves]))
    assert plan.power_kw == pytest.approx(np.array([[0.0, 20.0], [20.0, 0.0]]), abs=1e-9)


def test_a_higher_priority_is_served_first() -> None:
    hubs = [hub("low", [50.0], priority=1), hub("high", [50.0], priority=2)]
    assert planned(problem_of([40.0], hubs, policy=PRIORITY)).served_kwh == pytest.approx([10.0, 50.0])


def test_a_dearer_hub_is_curtailed_last() -> None:
    hubs = [hub("dear", [50.0], curtailment_price_per_kwh=0.3), hub("cheap", [50.0], curtailment_price_per_kwh=0.1)]
    plan = planned(problem_of([40.0], hubs, policy=LEAST_COST))
    assert plan.served_kwh == pytest.approx([50.0, 10.0])
    assert plan.termination.objective == pytest.approx(40.0 * 0.1)


def test_max_min_lets_the_small_have_all_and_proportional_everyone_the_same_part() -> None:
    hubs = [hub("small", [10.0]), hub("large", [90.0])]
    equal = planned(problem_of([50.0], hubs, policy=AllocationPolicy.MAX_MIN))
    in_proportion = planned(problem_of([50.0], hubs, policy=AllocationPolicy.PROPORTIONAL))
    assert equal.served_kwh == pytest.approx([10.0, 40.0])
    assert in_proportion.served_kwh == pytest.approx([5.0, 45.0])
    assert in_proportion.fairness_index == pytest.approx(1.0)


def test_weights_weigh() -> None:
    hubs = [hub("a", [90.0], weight=1.0), hub("b", [90.0], weight=3.0)]
    plan = planned(problem_of([40.0], hubs, policy=AllocationPolicy.WEIGHTED_PROPORTIONAL_FAIR))
    assert plan.served_kwh == pytest.approx([15.0, 45.0])


@pytest.mark.parametrize("policy", POLICIES)
def test_firm_capacity_is_there_wanted_or_not(policy: AllocationPolicy) -> None:
    hubs = [hub("idle", [0.0, 0.0], firm_kw=30.0), hub("eager", [90.0, 90.0])]
    plan = planned(problem_of([40.0, 40.0], hubs, policy=policy))
    assert plan.capacity_kw[0] == pytest.approx([30.0, 30.0])
    assert plan.power_kw[1] == pytest.approx([30.0, 30.0])


def test_conditional_use_never_heats_the_transformer_so_that_firm_fails() -> None:
    """All is wanted early, while firm capacity of the evening needs a cool transformer."""
    base = [30.0] * 24 + [75.0] * 24
    hubs = [hub("firm", [0.0] * 48, firm_kw=30.0), hub("conditional", [100.0] * 24 + [0.0] * 24)]
    limits: dict[str, Any] = {"max_loading_ratio": 2.0, "max_hot_spot_c": 106.0}
    problem = problem_of(base, hubs, step_s=QUARTER_S, ambient_c=20.0, **limits)
    plan = planned(problem)
    alone = planned(replace(problem, hubs=problem.hubs[:1]))
    assert not plan.violations
    assert not alone.violations
    assert (plan.capacity_kw[0] == 30.0).all()
    assert plan.hot_spot_c.max() <= 106.0 + 1e-6
    assert plan.served_kwh[1] > 0.0


def test_a_short_overload_after_a_cold_night_is_used_and_a_long_one_is_not() -> None:
    limits: dict[str, Any] = {"max_loading_ratio": 2.0, "max_hot_spot_c": 98.0}
    cold = [0.0] * 16
    short = problem_of(
        [*cold, 80.0, 80.0], [hub("a", [*cold, 60.0, 60.0])], step_s=QUARTER_S, ambient_c=-10.0, **limits
    )
    plan = planned(short)
    assert plan.loading_ratio[16:].min() > 1.35
    long = problem_of(
        [*cold, *[80.0] * 40], [hub("a", [*cold, *[60.0] * 40])], step_s=QUARTER_S, ambient_c=20.0, **limits
    )
    plan = planned(long)
    assert plan.loading_ratio[-8:].max() < 1.05
    assert BindingReason.HOT_SPOT in reasons(plan, 0)


def test_loss_of_life_of_a_day_limits() -> None:
    limits: dict[str, Any] = {"max_loading_ratio": 2.0, "max_loss_of_life_h_per_day": 2.0}
    plan = planned(problem_of([60.0] * 24, [hub("a", [80.0] * 24)], ambient_c=20.0, **limits))
    assert plan.loss_of_life_h.sum() <= 2.0 + 1e-6
    assert plan.loss_of_life_h.sum() > 1.8
    assert BindingReason.LOSS_OF_LIFE in reasons(plan, 0)


def test_photovoltaics_at_noon_give_headroom() -> None:
    plan = planned(problem_of([70.0, -40.0, 70.0], [hub("a", [150.0, 0.0, 0.0], max_kw=200.0)]))
    assert plan.power_kw[0] == pytest.approx([30.0, 120.0, 0.0])


def test_hours_in_contingency_limit() -> None:
    plan = planned(problem_of([20.0] * 3, [hub("a", [60.0, 60.0, 40.0])], contingency=[1], n1_rated_kva=50.0))
    assert plan.power_kw[0] == pytest.approx([60.0, 30.0, 70.0])
    assert plan.binding.tolist() == [[1, 0, BindingReason.CONTINGENCY]]


def test_what_notice_protects_is_kept_where_safety_allows() -> None:
    noticed = replace(hub("noticed", [40.0, 40.0]), noticed_kw=np.array([40.0, 0.0]))
    plan = planned(problem_of([50.0, 50.0], [noticed, hub("other", [40.0, 40.0])]))
    assert plan.power_kw[0, 0] == pytest.approx(40.0)
    assert plan.power_kw[1, 0] == pytest.approx(10.0)
    plan = planned(problem_of([80.0, 50.0], [noticed, hub("other", [40.0, 40.0])]))
    assert plan.power_kw[0, 0] == pytest.approx(20.0)


def test_nothing_is_given_between_zero_and_the_minimum_and_everyone_has_a_turn_within_the_hour() -> None:
    hubs = [hub(name, [4.2] * 4, min_kw_per_ev=4.14, max_kw=22.0) for name in ("a", "b", "c", "d")]
    plan = planned(problem_of([91.0] * 4, hubs, step_s=QUARTER_S))
    given = plan.capacity_kw
    assert ((given == 0.0) | (given >= 4.14 - 1e-9)).all()
    assert (given > 0.0).any(axis=1).all()
    assert {int(reason) for reason in plan.binding[:, 2]} >= {BindingReason.ROTATION}


def test_an_agreement_below_the_minimum_of_a_car_is_named() -> None:
    plan = planned(problem_of([0.0], [hub("a", [10.0], min_kw_per_ev=4.14, conditional_kw=3.0)]))
    assert plan.capacity_kw[0, 0] == 0.0
    assert reasons(plan, 0) == {BindingReason.AGREEMENT}


def test_single_phase_cars_are_put_where_there_is_room() -> None:
    base_kw = np.array([[30.0, 30.0, 10.0]])
    cars = hub("a", [3.7], min_kw_per_ev=1.38, phases_per_ev=1, connected_evs=3, max_kw=3.7)
    problem = problem_of([70.0], [cars])
    problem = replace(problem, base=replace(problem.base, phase_kw=base_kw))
    plan = planned(problem)
    assert plan.evs_served[0, 0] == 2
    assert plan.current_a[0, 0, 2] > 0.0
    assert plan.served_kwh[0] == pytest.approx(3.7)


def test_cars_are_served_by_laxity_between_arrival_and_departure() -> None:
    cars = [(0.0, 4.0, 10.0, 11.0), (1.0, 2.0, 10.0, 11.0)]
    plan = planned(problem_of([90.0] * 4, [car_hub("a", 4, cars)]))
    first, second = plan.session_power_kw[0]
    assert second == pytest.approx([0.0, 10.0, 0.0, 0.0])
    assert first.sum() == pytest.approx(10.0)
    assert first[1] == pytest.approx(0.0, abs=1e-9)


def test_a_hub_on_one_phase_is_limited_by_that_phase() -> None:
    plan = planned(problem_of([70.0], [hub("a", [60.0], phases=PhaseConnection.L2)]))
    assert plan.served_kwh[0] == pytest.approx(10.0)
    assert plan.current_a[0, 0].tolist() == pytest.approx([0.0, 10_000.0 / 230.0, 0.0])


def test_firm_capacity_beyond_the_transformer_is_cut_alike_and_reported() -> None:
    hubs = [hub("a", [60.0], firm_kw=60.0), hub("b", [30.0], firm_kw=30.0)]
    plan = planned(problem_of([55.0], hubs))
    assert plan.capacity_kw[:, 0] == pytest.approx([30.0, 15.0])
    assert [(row.hub, row.step, row.reason) for row in plan.violations] == [
        (0, 0, BindingReason.LOADING_RATIO), (1, 0, BindingReason.LOADING_RATIO),
    ]  # fmt: skip
    assert [row.excess for row in plan.violations] == pytest.approx([30.0, 15.0])


def test_firm_capacity_that_heat_cuts_is_reported_with_that_reason() -> None:
    hubs = [hub("firm", [0.0] * 48, firm_kw=30.0), hub("conditional", [100.0] * 24 + [0.0] * 24)]
    limits: dict[str, Any] = {"max_loading_ratio": 2.0, "max_hot_spot_c": 112.0}
    plan = planned(problem_of([30.0] * 24 + [90.0] * 24, hubs, step_s=QUARTER_S, ambient_c=20.0, **limits))
    assert {(row.hub, row.reason) for row in plan.violations} == {(0, BindingReason.HOT_SPOT)}


def test_a_base_load_beyond_the_limit_is_reported_and_hubs_get_nothing() -> None:
    plan = planned(problem_of([120.0, 50.0], [hub("a", [20.0, 0.0])]))
    assert plan.power_kw[0] == pytest.approx([0.0, 20.0])
    assert {(row.hub, row.step, row.reason) for row in plan.violations} == {(-1, 0, BindingReason.LOADING_RATIO)}
    assert [row.phase for row in plan.violations] == [1, 2, 3]


@pytest.mark.parametrize("seed", [0, 17])
def test_the_same_input_gives_the_same_answer(seed: int) -> None:
    first = allocate_capacity(day_problem(seed), AllocationOptions())
    again = allocate_capacity(day_problem(seed), AllocationOptions())
    for name in ("capacity_kw", "power_kw", "current_a", "evs_served", "binding", "hot_spot_c", "headroom_n_kva"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    assert dataclasses.replace(first.termination, solve_duration_s=0.0) == dataclasses.replace(
        again.termination, solve_duration_s=0.0
    )


def curtailed_problem(steps: int = 24, **changes: Any) -> AllocationProblem:
    limits: dict[str, Any] = {"max_loading_ratio": 1.5, "max_hot_spot_c": 98.0} | changes
    return problem_of([60.0] * steps, [hub("a", [40.0] * steps), hub("b", [40.0] * steps)], ambient_c=20.0, **limits)


def test_a_plan_that_is_cancelled_is_a_plan_without_a_proof() -> None:
    cancel = threading.Event()
    cancel.set()
    problem = curtailed_problem()
    plan = allocate_capacity(problem, AllocationOptions(), cancel)
    assert violations(problem, plan) == []
    assert plan.termination.objective_bound == 0.0
    assert plan.termination.stopped_by == StoppedBy.CANCELLED


def test_a_plan_that_is_out_of_time_is_a_plan_without_a_proof() -> None:
    plan = planned(curtailed_problem(), AllocationOptions(time_limit_s=1e-9))
    assert plan.termination.objective > 0.0
    assert plan.termination.objective_bound == 0.0
    assert plan.termination.stopped_by == StoppedBy.TIME


@pytest.mark.parametrize("steps", [1, 672])
def test_a_horizon_may_be_a_step_or_a_week(steps: int) -> None:
    plan = planned(curtailed_problem(steps, step_s=QUARTER_S))
    assert plan.served_kwh.sum() > 0.0
    assert plan.termination.objective_bound <= plan.termination.objective
