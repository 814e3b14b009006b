"""Minimum powers of vehicles that discharge: the oracle against linear programs, choices, and whole plans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from evflex.engine.dispatch.build import build_oracle
from evflex.engine.dispatch.minimum_power import has_minimums, in_patterns
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.optimize import plan_portfolio
from evflex.engine.dispatch.parts import Mixing
from evflex.engine.dispatch.prepared import prepare
from evflex.engine.dispatch.setpoints import MixedSetpoints, setpoints_from_arrays
from evflex.engine.dispatch.slope_trick import (
    CHARGE_EFFICIENCY,
    CHARGE_KW,
    DISCHARGE_EFFICIENCY,
    DISCHARGE_KW,
    HIGH,
    LOW,
    NEED,
    SHORT_PRICE,
    VALUE,
    WEAR,
    StoragePatterns,
    StoredAssets,
)
from evflex.engine.dispatch.storage_oracle import class_order, combine_storage, solve_storage
from evflex.engine.dispatch.storage_part import StoragePart
from evflex.engine.dispatch.storage_patterns import choose_storage_patterns, patterns_of, price_patterns
from evflex.engine.termination import TerminationReason
from evflex.engine.workers import Workers
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.fleets import FEATURES, random_problem
from tests.engine.dispatch.reference.reference_fleet import reference_problem
from tests.engine.dispatch.reference.reference_lp import solve
from tests.engine.dispatch.test_storage_oracle import STEP_H, Array, available, random_assets, random_prices

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def random_vehicles(rng: np.random.Generator, n: int, steps: int) -> tuple[StoredAssets, Array]:
    """Vehicles of few classes, those of a class together, and their minimum powers."""
    a = random_assets(rng, n, steps, 3)._replace(profile=np.full(n, -1, dtype=np.int32))
    a.table[:, HIGH] = np.maximum(a.table[:, HIGH], 0.0)
    order = class_order(a)
    a = a._replace(**{name: getattr(a, name)[order] for name in StoredAssets._fields if name != "base_kw"})
    return a, a.table[:, CHARGE_KW] * rng.choice([0.2, 0.5, 1.0], n)


def random_charging(rng: np.random.Generator, a: StoredAssets, steps: int) -> Mask:
    """Steps of each window to charge in."""
    inside = np.array([available(a, i, steps) > 0.0 for i in range(len(a.first))])
    return inside & (rng.random(inside.shape) < rng.choice([0.1, 0.5, 0.9]))


def least_cost(
    a: StoredAssets, least_kw: Array, charges: Mask, i: int, charge_price: Array, discharge_price: Array
) -> float:
    """Cost of the cheapest plan of vehicle i within its pattern by linear programming; infinite where there is none."""
    p, n, share = a.table[i], len(charge_price), available(a, i, len(charge_price))
    gain = STEP_H * (discharge_price - p[WEAR])
    # columns: charging, discharging, shortfall, surplus
    own = [*(STEP_H * charge_price), *-gain, p[SHORT_PRICE], -p[VALUE]]
    so_far = np.tril(np.ones((n, n))) * STEP_H
    state = np.hstack([so_far * p[CHARGE_EFFICIENCY], -so_far / p[DISCHARGE_EFFICIENCY], np.zeros((n, 2))])
    end = state[-1] + np.eye(2 * n + 2)[-2] - np.eye(2 * n + 2)[-1]
    on = charges[i].astype(float)
    bounds = [*zip(on * share * least_kw[i], on * share * p[CHARGE_KW], strict=True)]
    bounds += [(0.0, most) for most in (1.0 - on) * share * p[DISCHARGE_KW]]
    answer = linprog(
        own, A_ub=np.vstack([state, -state]), b_ub=np.repeat([p[HIGH], -p[LOW]], n), A_eq=[end], b_eq=[p[NEED]],
        bounds=[*bounds, (0.0, np.inf), (0.0, np.inf)],
    )  # fmt: skip
    assert answer.status in (0, 2)
    return float(answer.fun) if answer.fun is not None else np.inf


def costs(a: StoredAssets, patterns: StoragePatterns, charge_price: Array, discharge_price: Array) -> Array:
    """Cost of each vehicle within its pattern."""
    cost = np.full(len(a.first), np.nan)
    price_patterns(a, patterns, np.arange(len(cost)), charge_price, discharge_price, STEP_H, cost)
    return cost


def powers(
    a: StoredAssets, patterns: StoragePatterns, charge_price: Array, discharge_price: Array, weight: Array
) -> Array:
    """Powers of all vehicles, mixed of their answers to several vectors."""
    count = len(a.first)
    power, end = np.full((count, charge_price.shape[1]), np.nan), np.full(count, np.nan)
    combine_storage(
        a, patterns, np.arange(count), charge_price, discharge_price, weight[None], np.zeros(count, dtype=np.int64),
        STEP_H, power, end,
    )  # fmt: skip
    return power


def check_powers(a: StoredAssets, least_kw: Array, charges: Mask, power_kw: Array) -> None:
    """Powers keep the pattern, the minimum, and the bounds of power and state."""
    for i, power in enumerate(power_kw):
        p, share, on = a.table[i], available(a, i, power_kw.shape[1]), charges[i]
        assert (power[on] >= share[on] * least_kw[i] - 1e-9).all()
        assert (power <= on * share * p[CHARGE_KW] + 1e-9).all()
        assert (power >= ~on * share * -p[DISCHARGE_KW] - 1e-9).all()
        gained, lost = np.maximum(power, 0.0) * p[CHARGE_EFFICIENCY], np.maximum(-power, 0.0) / p[DISCHARGE_EFFICIENCY]
        state = np.cumsum(gained - lost) * STEP_H
        assert (state >= p[LOW] - 1e-7).all()
        assert (state <= p[HIGH] + 1e-7).all()


seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, steps=st.integers(1, 12))
def test_cheapest_plan_within_a_pattern_costs_what_a_linear_program_finds(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    a, least_kw = random_vehicles(rng, 6, steps)
    charge_price, discharge_price = random_prices(rng, steps)
    charges = random_charging(rng, a, steps)
    cost = costs(a, patterns_of(least_kw, charges), charge_price, discharge_price)
    for i in range(len(cost)):
        assert cost[i] == pytest.approx(least_cost(a, least_kw, charges, i, charge_price, discharge_price), abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_long_horizons_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(60, 200))
    a, least_kw = random_vehicles(rng, 4, steps)
    a.first[:], a.last[:] = 0, steps
    charge_price, discharge_price = random_prices(rng, steps)
    charges = choose_storage_patterns(a, least_kw, *random_prices(rng, steps), STEP_H)
    cost = costs(a, patterns_of(least_kw, charges), charge_price, discharge_price)
    least = [least_cost(a, least_kw, charges, i, charge_price, discharge_price) for i in range(4)]
    np.testing.assert_allclose(cost, least, atol=1e-6)


@given(seed=seeds, steps=st.integers(1, 20))
def test_chosen_steps_leave_room_for_the_minimum(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    a, least_kw = random_vehicles(rng, 12, steps)
    charge_price, discharge_price = random_prices(rng, steps)
    charges = choose_storage_patterns(a, least_kw, charge_price, discharge_price, STEP_H)
    patterns = patterns_of(least_kw, charges)
    assert np.isfinite(costs(a, patterns, charge_price, discharge_price)).all()
    for charge, discharge in ((charge_price, discharge_price), random_prices(rng, steps)):
        check_powers(a, least_kw, charges, powers(a, patterns, charge[None], discharge[None], np.ones(1)))


@given(seed=seeds, steps=st.integers(1, 12))
def test_a_step_is_charged_in_part_only_where_that_pays(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    a, least_kw = random_vehicles(rng, 8, steps)
    charge_price, discharge_price = random_prices(rng, steps)
    charges = choose_storage_patterns(a, least_kw, charge_price, discharge_price, STEP_H)
    cost = costs(a, patterns_of(least_kw, charges), charge_price, discharge_price)
    unheeded = choose_storage_patterns(a, np.zeros(len(cost)), charge_price, discharge_price, STEP_H)
    relaxed = costs(a, patterns_of(np.zeros(len(cost)), unheeded), charge_price, discharge_price)
    whole = powers(a, patterns_of(np.zeros(len(cost)), unheeded), charge_price[None], discharge_price[None], np.ones(1))
    share = np.array([available(a, i, steps) for i in range(len(cost))])
    without = unheeded & (whole >= share * least_kw[:, None] - 1e-9)
    dropped = costs(a, patterns_of(least_kw, without), charge_price, discharge_price)
    assert (cost >= relaxed - 1e-9).all()
    assert (cost <= dropped + 1e-9).all()


@given(seed=seeds, steps=st.integers(1, 16), plans=st.integers(1, 4))
def test_answers_within_a_pattern_mix_as_they_are(seed: int, steps: int, plans: int) -> None:
    rng = np.random.default_rng(seed)
    a, least_kw = random_vehicles(rng, 10, steps)
    charges = choose_storage_patterns(a, least_kw, *random_prices(rng, steps), STEP_H)
    patterns = patterns_of(least_kw, charges)
    prices = [random_prices(rng, steps) for _ in range(plans)]
    charge_price, discharge_price = (np.array(side) for side in zip(*prices, strict=True))
    weight = rng.dirichlet(np.ones(plans))
    each = [powers(a, patterns, charge[None], discharge[None], np.ones(1)) for charge, discharge in prices]
    mixed = powers(a, patterns, charge_price, discharge_price, weight)
    np.testing.assert_allclose(mixed, np.tensordot(weight, each, axes=1), atol=1e-9)
    check_powers(a, least_kw, charges, mixed)
    for j in range(plans):
        drawn, injected = np.zeros(steps), np.zeros(steps)
        totals = solve_storage(a, patterns, np.arange(10), charge_price[j], discharge_price[j], STEP_H, drawn, injected)
        np.testing.assert_allclose(drawn, np.maximum(each[j], 0.0).sum(axis=0), atol=1e-9)
        np.testing.assert_allclose(injected, np.maximum(-each[j], 0.0).sum(axis=0), atol=1e-9)
        assert totals.relaxed_cost == pytest.approx(totals.netted_cost, abs=1e-9)
        assert totals.relaxed_cost == pytest.approx(
            costs(a, patterns, charge_price[j], discharge_price[j]).sum(), abs=1e-8
        )


def test_vehicles_with_a_minimum_are_a_part_of_their_own_that_is_kept_as_arrays() -> None:
    problem = reference_problem(60, 3, v2g=True, minimum=True)
    problem.fleet.min_charge_kw[::3] = 0.0
    rng = np.random.default_rng(0)
    with Workers(1) as workers:
        oracle = build_oracle(prepare(problem), workers)
    free, bound = oracle.parts
    assert isinstance(bound, StoragePart)
    assert (has_minimums(free), has_minimums(bound)) == (False, True)
    blocks = len(bound.block_signature)
    mixing = Mixing(
        rng.normal(0.0, 0.01, (2, 96)), 2 * np.arange(blocks + 1), np.tile([0, 1], blocks), np.tile([0.3, 0.7], blocks)
    )
    part = in_patterns(bound, mixing, oracle.prices, 0.0)
    assert not has_minimums(part)
    setpoints = MixedSetpoints([part], [mixing], oracle.prices, 60)
    rows = np.arange(60)
    np.testing.assert_array_equal(setpoints_from_arrays(setpoints.to_arrays()).power_kw(rows), setpoints.power_kw(rows))


def check_plan(problem: DispatchProblem, options: PlanOptions) -> None:
    """A plan breaks no rule, and its bound holds."""
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert plan.termination.objective_bound <= plan.termination.objective


@given(
    seed=st.integers(0, 2**20),
    features=st.lists(st.sampled_from(FEATURES), max_size=5, unique=True),
    count=st.integers(1, 8),
    steps=st.integers(1, 10),
)
def test_plans_of_small_fleets_keep_minimums(seed: int, features: list[str], count: int, steps: int) -> None:
    check_plan(random_problem(seed, [*features, "v2g", "minimum"], count=count, steps=steps), PlanOptions())


@pytest.mark.parametrize("feeders", [0, 3])
def test_plans_of_a_large_fleet_keep_minimums_at_the_asked_gap(feeders: int) -> None:
    problem, options = reference_problem(1200, 1, v2g=True, minimum=True, feeders=feeders), PlanOptions()
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert plan.termination.reason is TerminationReason.OPTIMAL


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_lies_below_the_optimum_and_the_plan_not(seed: int) -> None:
    problem = random_problem(seed, ["v2g", "minimum", "losses", "fleet_limit", "value"], count=4, steps=6)
    ended = plan_portfolio(problem).termination
    optimum = solve(problem, integer=True).objective
    assert ended.objective_bound <= optimum + 1e-6
    assert optimum <= ended.objective + 1e-6
