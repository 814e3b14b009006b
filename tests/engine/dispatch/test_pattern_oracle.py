"""Charging at 0 or at least at a minimum: chosen steps against brute force, powers in them against linear programs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.dispatch.pattern_oracle import (
    Patterns,
    add_pattern_powers,
    choose_patterns,
    respond_in_patterns,
)
from evflex.engine.dispatch.window_assets import WindowTable
from evflex.engine.dispatch.window_oracle import TERMS
from tests.engine.dispatch.reference.case import BoolArray, FloatArray
from tests.engine.dispatch.reference.window_twin import answer, least_cost, random_prices, random_table, shares

seeds = st.integers(0, 2**32 - 1)


def choose(table: WindowTable, least: FloatArray, price: FloatArray) -> BoolArray:
    """Chosen steps of all assets, (n, T)."""
    chosen = np.zeros((len(least), len(price)), dtype=bool)
    choose_patterns(table, least, np.arange(len(least)), price, chosen)
    return chosen


def as_patterns(chosen: BoolArray) -> Patterns:
    """Chosen steps as the oracle reads them."""
    begin = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))]).astype(np.int64)
    return Patterns(begin, np.nonzero(chosen)[1])


def random_patterns(rng: np.random.Generator, table: WindowTable, least: FloatArray, steps: int) -> BoolArray:
    """Steps of each window, at random, whose least powers fit into the room."""
    chosen = np.zeros((len(least), steps), dtype=bool)
    for i in range(len(least)):
        share = shares(table, i, steps)
        left = table.room[i]
        for step in rng.permutation(np.flatnonzero(share))[: rng.integers(0, steps + 1)]:
            if least[i] * share[step] <= left:
                chosen[i, step] = True
                left -= least[i] * share[step]
    return chosen


def with_minimums(rng: np.random.Generator, count: int, steps: int) -> tuple[WindowTable, FloatArray]:
    """Assets, and their smallest powers when charging; some have none, and some one power only."""
    table = random_table(rng, count, steps, 3)
    return table, table.power * rng.choice([0.0, 0.1, 0.4, 1.0], count)


def mixed(
    table: WindowTable, least: FloatArray, chosen: BoolArray, price: FloatArray, weight: FloatArray
) -> FloatArray:
    """Powers of all assets, mixed of their answers to several price vectors."""
    power = np.zeros(chosen.shape)
    add_pattern_powers(table, least, as_patterns(chosen), np.arange(len(least)), price, weight, power)
    return power


@given(seed=seeds, steps=st.integers(1, 8))
def test_powers_in_chosen_steps_cost_what_a_linear_program_finds(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table, least = with_minimums(rng, 4, steps)
    price, chosen = random_prices(rng, steps), random_patterns(rng, table, least, steps)
    for i in range(4):
        power, terms = np.zeros(steps), np.zeros(TERMS)
        respond_in_patterns(table, least, as_patterns(chosen), np.array([i, i + 1]), price, power, terms)
        cost = float(price @ power) + terms[0] - terms[1]
        assert cost == pytest.approx(least_cost(table, i, price, float(least[i]), chosen[i]), abs=1e-7)


@given(seed=seeds, steps=st.integers(1, 150))
def test_chosen_steps_are_filled_from_the_minimum_in_ascending_price(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table, least = with_minimums(rng, 12, steps)
    price, chosen = random_prices(rng, steps), random_patterns(rng, table, least, steps)
    expected = [answer(table, i, price, float(least[i]), chosen[i]) for i in range(12)]
    power, terms = np.zeros(steps), np.zeros(TERMS)
    respond_in_patterns(table, least, as_patterns(chosen), np.array([0, 12]), price, power, terms)
    np.testing.assert_allclose(power, np.sum([one.power_kw for one in expected], axis=0), atol=1e-9)
    sums = [sum(getattr(one, name) for one in expected) for name in ("short_cost", "value", "shortfall_kwh")]
    np.testing.assert_allclose(terms, sums, atol=1e-9)
    each = mixed(table, least, chosen, price[None], np.ones(1))
    np.testing.assert_allclose(each, [one.power_kw for one in expected], atol=1e-9)


@given(seed=seeds, steps=st.integers(1, 80), vectors=st.integers(1, 6))
def test_mixtures_keep_minimum_and_room(seed: int, steps: int, vectors: int) -> None:
    rng = np.random.default_rng(seed)
    table, least = with_minimums(rng, 15, steps)
    chosen = random_patterns(rng, table, least, steps)
    power = mixed(table, least, chosen, random_prices(rng, vectors, steps), rng.dirichlet(np.ones(vectors)))
    share = np.array([shares(table, i, steps) for i in range(15)])
    assert (power[~chosen] == 0.0).all()
    assert (power >= np.where(chosen, least[:, None] * share, 0.0) - 1e-9).all()
    assert (power <= table.power[:, None] * share + 1e-9).all()
    assert (power.sum(axis=1) <= table.room + 1e-9).all()


@given(seed=seeds, steps=st.integers(1, 60))
def test_steps_are_the_cheapest_of_the_window_and_fit_into_the_room(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table, least = with_minimums(rng, 15, steps)
    price = random_prices(rng, steps)
    chosen = choose(table, least, price)
    for i in range(15):
        share, order = shares(table, i, steps), np.argsort(price, kind="stable")
        window = [step for step in order if table.first[i] <= step < table.last[i]]
        count = int(chosen[i].sum())
        assert set(np.flatnonzero(chosen[i])) == set(window[:count])
        assert float(least[i] * share[chosen[i]].sum()) <= table.room[i] + 1e-9


@given(seed=seeds, steps=st.integers(1, 7))
def test_without_a_minimum_the_chosen_steps_cost_no_more_than_all(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table, price, none = random_table(rng, 5, steps, 3), random_prices(rng, steps), np.zeros(5)
    chosen = choose(table, none, price)
    for i in range(5):
        within = answer(table, i, price, 0.0, chosen[i]).cost
        assert within == pytest.approx(least_cost(table, i, price), abs=1e-7)


@given(seed=seeds, steps=st.integers(1, 6))
def test_chosen_steps_cost_what_the_filling_or_one_less_costs_and_never_more_than_none(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table, least = with_minimums(rng, 3, steps)
    price = random_prices(rng, steps)
    chosen = choose(table, least, price)
    for i in range(3):
        own, low = least_cost(table, i, price, float(least[i]), chosen[i]), float(least[i])
        best = min(
            least_cost(table, i, price, low, np.array(some)) for some in product([False, True], repeat=steps)
        )  # fmt: skip
        none = float(table.short_price[i] * table.need[i])
        assert best - 1e-7 <= own <= none + 1e-7
        free = answer(table, i, price).power_kw
        filled = int((free > 1e-9).sum())
        window = [s for s in np.argsort(price, kind="stable") if table.first[i] <= s < table.last[i]]
        for count in range(max(filled - 1, 0), filled + 1):
            tried = np.isin(np.arange(steps), window[:count])
            assert own <= least_cost(table, i, price, low, tried) + 1e-7


def test_a_minimum_above_the_need_is_left_out_where_it_does_not_pay() -> None:
    table = random_table(np.random.default_rng(0), 1, 2, 1)._replace(
        first=np.array([0], dtype=np.int32), last=np.array([2], dtype=np.int32), first_ratio=np.ones(1),
        last_ratio=np.ones(1), power=np.array([4.0]), need=np.array([0.5]), room=np.array([3.0]),
        value=np.zeros(1), short_price=np.ones(1),
    )  # fmt: skip
    least = np.array([2.0])
    # 2 kW at 0.3 cost more than the half that is missing
    assert not choose(table, least, np.array([0.3, 0.4])).any()
    np.testing.assert_array_equal(choose(table, least, np.array([0.2, 0.4])), [[True, False]])
    # there is no room for the minimum
    assert not choose(table._replace(room=np.array([1.0])), least, np.array([0.2, 0.4])).any()


def test_an_asset_without_chosen_steps_lacks_all_its_need() -> None:
    table = random_table(np.random.default_rng(3), 1, 5, 1)._replace(need=np.array([2.0]), room=np.array([2.0]))
    power, terms = np.zeros(5), np.zeros(TERMS)
    nothing = as_patterns(np.zeros((1, 5), dtype=bool))
    respond_in_patterns(table, np.ones(1), nothing, np.array([0, 1]), np.full(5, -1.0), power, terms)
    assert not power.any()
    np.testing.assert_allclose(terms, [2.0 * table.short_price[0], 0.0, 2.0 * table.kwh[0]])
