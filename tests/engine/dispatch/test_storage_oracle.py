"""The oracle of assets with a store against linear programs, and its powers against the rules."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from evflex.engine.dispatch.slope_trick import (
    CHARGE_EFFICIENCY,
    CHARGE_KW,
    COLUMN_COUNT,
    DISCHARGE_EFFICIENCY,
    DISCHARGE_KW,
    HIGH,
    LOW,
    NEED,
    SHORT_PRICE,
    VALUE,
    WEAR,
    StoredAssets,
)
from evflex.engine.dispatch.storage_oracle import StorageTotals, class_order, combine_storage, solve_storage

STEP_H = 0.25
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def random_assets(rng: np.random.Generator, n: int, steps: int, classes: int) -> StoredAssets:
    """EVs, batteries and heat pumps of few classes, with round numbers, so that ties and exact fits are common."""
    first = rng.integers(0, steps + 1, n)
    last = np.minimum(first + rng.integers(0, steps + 1, n), steps)
    table = np.zeros((n, COLUMN_COUNT))
    table[:, CHARGE_KW] = rng.choice([0.0, 4.0, 8.0, 11.0], n)
    table[:, DISCHARGE_KW] = rng.choice([0.0, 0.0, 4.0, 11.0], n)
    kind = rng.integers(0, classes, n)
    table[:, CHARGE_EFFICIENCY] = rng.choice([1.0, 0.95, 0.9, 0.8], classes)[kind]
    table[:, DISCHARGE_EFFICIENCY] = rng.choice([1.0, 0.95, 0.9, 0.7], classes)[kind]
    table[:, WEAR] = rng.choice([0.0, 0.0, 0.02, 0.1], classes)[kind]
    table[:, NEED] = rng.choice([0.0, 1.0, 4.0, 30.0], n)
    table[:, HIGH] = table[:, NEED] * rng.choice([0.5, 1.0, 1.0], n) + rng.choice([0.0, 0.5, 3.0, 20.0], n)
    table[:, LOW] = -rng.choice([0.0, 0.0, 0.5, 3.0, 20.0], n)
    table[:, VALUE] = rng.choice([0.0, 0.05, 0.1], n)
    table[:, SHORT_PRICE] = table[:, VALUE] + rng.choice([0.0, 0.1, 2.0], n)
    base = rng.choice([0.0, 1.0, 2.5, 9.0], (2, steps))
    return StoredAssets(
        first=first.astype(np.int32),
        last=last.astype(np.int32),
        first_ratio=rng.choice([1.0, 0.4, 0.75, 0.0], n),
        last_ratio=rng.choice([1.0, 0.5, 0.9], n),
        table=table,
        profile=rng.choice([-1, -1, 0, 1], n).astype(np.int32),
        base_kw=base,
    )


def random_prices(rng: np.random.Generator, steps: int) -> tuple[Array, Array]:
    """Prices of charging and discharging, the latter not above; now and then strongly negative."""
    charge = rng.uniform(-0.1, 0.5, steps).round(2) - rng.choice([0.0, 0.0, 0.5]) * (rng.random(steps) < 0.3)
    return charge, charge - rng.choice([0.0, 0.0, 0.07])


def available(a: StoredAssets, i: int, steps: int) -> Array:
    """Share of each step in which asset i is available."""
    share = np.zeros(steps)
    share[a.first[i] : a.last[i]] = 1.0
    if a.last[i] > a.first[i]:
        share[a.last[i] - 1] = a.last_ratio[i]
        share[a.first[i]] = a.first_ratio[i]
    return share


class Model(NamedTuple):
    """One asset's bounds and prices, by step."""

    base: Array
    charge_kw: Array
    discharge_kw: Array
    charge_price: Array
    discharge_price: Array


def model(a: StoredAssets, i: int, charge_price: Array, discharge_price: Array) -> Model:
    """What asset i may do, and what it pays; wear is taken off the discharge price."""
    p, share = a.table[i], available(a, i, len(charge_price))
    if a.profile[i] < 0:
        none = np.zeros(len(share))
        return Model(none, share * p[CHARGE_KW], share * p[DISCHARGE_KW], charge_price, discharge_price - p[WEAR])
    base = share * a.base_kw[a.profile[i]]
    return Model(base, np.maximum(share * p[CHARGE_KW], base) - base, base, charge_price, charge_price)


def least_cost(a: StoredAssets, i: int, charge_price: Array, discharge_price: Array) -> float:
    """Cost of the cheapest plan of asset i by linear programming."""
    m, p, n = model(a, i, charge_price, discharge_price), a.table[i], len(charge_price)
    # Columns: charging, discharging, state, shortfall, surplus.
    own = [*(STEP_H * m.charge_price), *(-STEP_H * m.discharge_price), *np.zeros(n), p[SHORT_PRICE], -p[VALUE]]
    rows = np.zeros((n + 1, 3 * n + 2))
    for t in range(n):
        rows[t, t] = -p[CHARGE_EFFICIENCY] * STEP_H
        rows[t, n + t] = STEP_H / p[DISCHARGE_EFFICIENCY]
        rows[t, 2 * n + t] = 1.0
        if t > 0:
            rows[t, 2 * n + t - 1] = -1.0
    rows[n, -3:] = [1.0, 1.0, -1.0]
    bounds = [(0.0, float(most)) for most in (*m.charge_kw, *m.discharge_kw)]
    bounds += [(float(p[LOW]), float(p[HIGH]))] * n + [(0.0, np.inf)] * 2
    answer = linprog(own, A_eq=rows, b_eq=[*np.zeros(n), p[NEED]], bounds=bounds)
    assert answer.success
    return float(answer.fun or 0.0) + STEP_H * float(charge_price @ m.base)


def solve(
    a: StoredAssets, rows: np.ndarray, charge_price: Array, discharge_price: Array
) -> tuple[StorageTotals, Array, Array]:
    """Totals, and sums of power drawn and injected."""
    drawn, injected = np.zeros(len(charge_price)), np.zeros(len(charge_price))
    totals = solve_storage(a, None, rows, charge_price, discharge_price, STEP_H, drawn, injected)
    return totals, drawn, injected


def combine(
    a: StoredAssets, charge_price: Array, discharge_price: Array, weight: Array, block: np.ndarray
) -> tuple[Array, Array]:
    """Powers and states at the end of all assets."""
    power, end = np.full((len(a.first), charge_price.shape[1]), np.nan), np.full(len(a.first), np.nan)
    rows = np.arange(len(a.first))
    combine_storage(a, None, rows, charge_price, discharge_price, weight, block, STEP_H, power, end)
    return power, end


def stored_kwh(a: StoredAssets, i: int, net_kw: Array) -> Array:
    """Change of state in each step by powers on top of the base."""
    p = a.table[i]
    kwh = np.where(net_kw >= 0.0, net_kw * p[CHARGE_EFFICIENCY], net_kw / p[DISCHARGE_EFFICIENCY]) * STEP_H
    return np.asarray(kwh, dtype=np.float64)


def check_plan(a: StoredAssets, i: int, power_kw: Array, end_kwh: float) -> None:
    """A plan keeps every bound of power and state, and ends where it says."""
    p, free = a.table[i], np.zeros(len(power_kw))
    m = model(a, i, free, free)
    assert (power_kw >= m.base - m.discharge_kw - 1e-9).all()
    assert (power_kw <= m.base + m.charge_kw + 1e-9).all()
    state = np.cumsum(stored_kwh(a, i, power_kw - m.base))
    assert (state >= p[LOW] - 1e-9).all()
    assert (state <= p[HIGH] + 1e-9).all()
    assert end_kwh == pytest.approx(state[-1], abs=1e-9)


seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, steps=st.integers(1, 10), count=st.integers(1, 5))
def test_cheapest_plan_costs_what_a_linear_program_finds(seed: int, steps: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    a, (charge_price, discharge_price) = random_assets(rng, count, steps, 3), random_prices(rng, steps)
    least = [least_cost(a, i, charge_price, discharge_price) for i in range(count)]
    for i in range(count):
        alone, _, _ = solve(a, np.array([i]), charge_price, discharge_price)
        assert alone.relaxed_cost == pytest.approx(least[i], abs=1e-7)
    together, _, _ = solve(a, class_order(a), charge_price, discharge_price)
    assert together.relaxed_cost == pytest.approx(sum(least), abs=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_long_horizons_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(60, 200))
    a, (charge_price, discharge_price) = random_assets(rng, 4, steps, 2), random_prices(rng, steps)
    a.first[:2], a.last[:2] = 0, steps
    totals, _, _ = solve(a, np.arange(4), charge_price, discharge_price)
    least = sum(least_cost(a, i, charge_price, discharge_price) for i in range(4))
    assert totals.relaxed_cost == pytest.approx(least, abs=1e-6)


@given(seed=seeds, steps=st.integers(1, 20))
def test_powers_keep_the_rules_and_add_up_to_the_totals(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    count = 20
    a, (charge_price, discharge_price) = random_assets(rng, count, steps, 2), random_prices(rng, steps)
    totals, drawn, injected = solve(a, class_order(a), charge_price, discharge_price)
    power, end = combine(
        a, charge_price[None, :], discharge_price[None, :], np.ones((1, 1)), np.zeros(count, dtype=np.int64)
    )
    energy = wear = short = short_cost = value = 0.0
    for i in range(count):
        check_plan(a, i, power[i], end[i])
        p, out = a.table[i], np.maximum(-power[i], 0.0)
        energy += STEP_H * float(charge_price @ np.maximum(power[i], 0.0) - discharge_price @ out)
        wear += STEP_H * p[WEAR] * float(out.sum())
        short += max(p[NEED] - end[i], 0.0)
        short_cost += p[SHORT_PRICE] * max(p[NEED] - end[i], 0.0)
        value += p[VALUE] * max(end[i] - p[NEED], 0.0)
    np.testing.assert_allclose(drawn, np.maximum(power, 0.0).sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(injected, np.maximum(-power, 0.0).sum(axis=0), atol=1e-9)
    assert totals.wear_cost == pytest.approx(wear, abs=1e-9)
    assert totals.shortfall_kwh == pytest.approx(short, abs=1e-9)
    assert totals.shortfall_cost == pytest.approx(short_cost, abs=1e-9)
    assert totals.energy_value == pytest.approx(value, abs=1e-9)
    assert totals.netted_cost == pytest.approx(energy + wear + short_cost - value, abs=1e-8)
    assert totals.relaxed_cost <= totals.netted_cost + 1e-9
    if charge_price.min() >= 0.0 and discharge_price.min() >= 0.0:
        assert totals.relaxed_cost == pytest.approx(totals.netted_cost, abs=1e-8)


@given(seed=seeds, steps=st.integers(1, 12), plans=st.integers(1, 4))
def test_combinations_combine_states_and_consume_no_more(seed: int, steps: int, plans: int) -> None:
    rng = np.random.default_rng(seed)
    count = 12
    a, prices = random_assets(rng, count, steps, 2), [random_prices(rng, steps) for _ in range(plans)]
    charge_price = np.array([charge for charge, _ in prices])
    discharge_price = np.array([discharge for _, discharge in prices])
    weight = rng.dirichlet(np.ones(plans), 3)
    weight[0] = np.eye(plans)[0]
    block = rng.integers(0, 3, count)
    power, end = combine(a, charge_price, discharge_price, weight, block)
    each = [combine(a, charge_price, discharge_price, np.eye(plans), np.full(count, j)) for j in range(plans)]
    for i in range(count):
        check_plan(a, i, power[i], end[i])
        share, base = weight[block[i]], model(a, i, charge_price[0], discharge_price[0]).base
        combined = sum(share[j] * stored_kwh(a, i, each[j][0][i] - base) for j in range(plans))
        np.testing.assert_allclose(stored_kwh(a, i, power[i] - base), combined, atol=1e-9)
        assert (power[i] <= sum(share[j] * each[j][0][i] for j in range(plans)) + 1e-9).all()


@given(seed=seeds)
def test_classes_lie_together_and_their_order_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, steps = 30, 8
    a, (charge_price, discharge_price) = random_assets(rng, count, steps, 4), random_prices(rng, steps)
    order = class_order(a)
    assert sorted(order) == list(range(count))
    wear = np.where(a.profile >= 0, 0.0, a.table[:, WEAR])
    columns = (a.table[:, CHARGE_EFFICIENCY], a.table[:, DISCHARGE_EFFICIENCY], wear, a.profile >= 0)
    keys = [tuple(float(column[i]) for column in columns) for i in order]
    runs = [key for k, key in enumerate(keys) if k == 0 or key != keys[k - 1]]
    assert len(runs) == len(set(runs))
    here, drawn, injected = solve(a, np.arange(count), charge_price, discharge_price)
    there, drawn_there, injected_there = solve(a, order, charge_price, discharge_price)
    np.testing.assert_allclose(np.array(here), np.array(there), atol=1e-9)
    np.testing.assert_allclose(drawn, drawn_there, atol=1e-9)
    np.testing.assert_allclose(injected, injected_there, atol=1e-9)


def one_asset(steps: int, last: int, **columns: float) -> StoredAssets:
    """A battery of 4 kW either way without losses, available from the first step, with other numbers where given."""
    numbers = {"charge_kw": 4.0, "discharge_kw": 4.0, "need": 0.0, "high": 10.0, "low": -10.0} | columns
    table = np.zeros((1, COLUMN_COUNT))
    table[0, [CHARGE_EFFICIENCY, DISCHARGE_EFFICIENCY, SHORT_PRICE]] = 1.0
    places = {
        "charge_kw": CHARGE_KW,
        "discharge_kw": DISCHARGE_KW,
        "value": VALUE,
        "need": NEED,
        "high": HIGH,
        "low": LOW,
    }
    for name, value in numbers.items():
        table[0, places[name]] = value
    none = np.full(1, -1, dtype=np.int32)
    window = (np.zeros(1, dtype=np.int32), np.full(1, last, dtype=np.int32), np.full(1, 0.5), np.full(1, 0.25))
    return StoredAssets(*window, table, none, np.zeros((0, steps)))


def plan(a: StoredAssets, price: Array) -> Array:
    """Powers of the only asset."""
    prices = price[None, :]
    return combine(a, prices, prices, np.ones((1, 1)), np.zeros(1, dtype=np.int64))[0][0]


def test_equal_prices_leave_an_asset_idle_and_charge_early() -> None:
    price = np.full(4, 0.2)
    assert (plan(one_asset(4, 4), price) == 0.0).all()
    np.testing.assert_allclose(plan(one_asset(4, 4, need=1.0), price), [2.0, 2.0, 0.0, 0.0])
    totals, drawn, injected = solve(one_asset(4, 4, need=1.0), np.zeros(1, dtype=np.int64), price, price)
    assert totals.relaxed_cost == totals.netted_cost == pytest.approx(0.2)
    assert drawn.sum() == pytest.approx(4.0)
    assert injected.sum() == 0.0


def test_need_is_met_at_its_price_but_no_more_is_taken_at_its_value() -> None:
    shortfall_price, value = np.full(3, 1.0), np.full(3, 0.2)
    np.testing.assert_allclose(plan(one_asset(3, 3, need=1.0), shortfall_price), [2.0, 2.0, 0.0])
    np.testing.assert_allclose(plan(one_asset(3, 3, need=1.0, value=0.2), value), [2.0, 2.0, 0.0])


def test_need_out_of_reach_is_delivered_in_part() -> None:
    a = one_asset(3, 3, need=5.0)
    totals, _, _ = solve(a, np.zeros(1, dtype=np.int64), np.full(3, 0.2), np.full(3, 0.2))
    np.testing.assert_allclose(plan(a, np.full(3, 0.2)), [2.0, 4.0, 1.0])
    assert totals.shortfall_kwh == totals.shortfall_cost == pytest.approx(5.0 - 1.75)


def test_one_step_is_available_for_the_first_ratio() -> None:
    np.testing.assert_allclose(plan(one_asset(3, 1, need=5.0), np.full(3, 0.2)), [2.0, 0.0, 0.0])


@pytest.mark.parametrize("last", [0, 50])
def test_asset_without_time_or_room_stays_idle(last: int) -> None:
    a = one_asset(50, last, need=1.0, high=0.0, low=0.0)
    price = np.sin(np.arange(50.0))
    totals, _, _ = solve(a, np.zeros(1, dtype=np.int64), price, price)
    np.testing.assert_allclose(plan(a, price), 0.0, atol=1e-12)
    assert totals.shortfall_kwh == pytest.approx(1.0)
    assert totals.relaxed_cost == pytest.approx(1.0)


def test_strongly_negative_price_bounds_from_below_and_is_netted() -> None:
    a = one_asset(2, 2, high=0.0, low=0.0)
    a.table[0, CHARGE_EFFICIENCY] = a.table[0, DISCHARGE_EFFICIENCY] = 0.9
    totals, drawn, injected = solve(a, np.zeros(1, dtype=np.int64), np.full(2, -1.0), np.full(2, -1.0))
    assert totals.relaxed_cost < -0.1
    assert totals.netted_cost == pytest.approx(0.0)
    np.testing.assert_allclose([drawn, injected], 0.0, atol=1e-12)
