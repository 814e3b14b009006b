"""Assets that only charge: the oracle against a filling of the cheapest steps one by one, and linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.dispatch.window_assets import WindowTable, cut
from evflex.engine.dispatch.window_oracle import TERMS, add_powers, respond
from tests.engine.dispatch.reference.case import FloatArray, IntArray
from tests.engine.dispatch.reference.window_twin import (
    answer,
    least_cost,
    random_prices,
    random_table,
    rows_of,
    shares,
)

seeds = st.integers(0, 2**32 - 1)


def ask(table: WindowTable, price: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Power and terms of all assets together."""
    _, _, runs = cut(table, np.zeros(len(table.power), dtype=np.int64), 1)
    power, terms = np.zeros(len(price)), np.zeros(TERMS)
    respond(table, runs.begin, np.array([0, len(runs.begin) - 1]), price, power, terms)
    return power, terms


def powers(table: WindowTable, price: FloatArray, weight: FloatArray, chosen: IntArray | None = None) -> FloatArray:
    """Powers of single assets, mixed."""
    rows = np.arange(len(table.power)) if chosen is None else chosen
    power = np.zeros((len(rows), price.shape[1]))
    add_powers(table, rows, price, weight, power)
    return power


def of_one(table: WindowTable, price: FloatArray) -> FloatArray:
    """Powers of all assets at one price vector."""
    return powers(table, price[None], np.ones(1))


def one(steps: int, **columns: float) -> WindowTable:
    """One asset that is there all the time and wants 4 kW·steps at 2 kW, with other columns where given."""
    numbers = {"first_ratio": 1.0, "last_ratio": 1.0, "power": 2.0, "need": 4.0, "value": 0.0, "short_price": 1.0}
    numbers |= {"kwh": 1.0} | columns
    numbers.setdefault("room", numbers["need"])
    first, last = np.zeros(1, dtype=np.int32), np.full(1, steps, dtype=np.int32)
    return WindowTable(first=first, last=last, **{name: np.array([value]) for name, value in numbers.items()})


@given(seed=seeds, steps=st.integers(1, 9))
def test_an_answer_costs_what_a_linear_program_finds(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table, price = random_table(rng, 4, steps, 3), random_prices(rng, steps)
    for i in range(4):
        power, (short_cost, value, _) = ask(rows_of(table, np.array([i])), price)
        cost = float(power @ price) + short_cost - value
        assert cost == pytest.approx(least_cost(table, i, price), abs=1e-7)


@given(seed=seeds, steps=st.integers(1, 40), count=st.integers(1, 60), windows=st.integers(1, 5))
def test_answers_fill_the_cheapest_steps_first(seed: int, steps: int, count: int, windows: int) -> None:
    rng = np.random.default_rng(seed)
    table, price = random_table(rng, count, steps, windows), random_prices(rng, steps)
    expected = [answer(table, i, price) for i in range(count)]
    power, terms = ask(table, price)
    np.testing.assert_allclose(power, np.sum([one.power_kw for one in expected], axis=0), atol=1e-9)
    sums = [sum(getattr(one, name) for one in expected) for name in ("short_cost", "value", "shortfall_kwh")]
    np.testing.assert_allclose(terms, sums, atol=1e-9)
    np.testing.assert_allclose(of_one(table, price), [one.power_kw for one in expected], atol=1e-9)


@given(seed=seeds, steps=st.integers(1, 20), mixed=st.integers(1, 5))
def test_mixed_powers_are_the_weighted_powers(seed: int, steps: int, mixed: int) -> None:
    rng = np.random.default_rng(seed)
    table, price = random_table(rng, 20, steps, 3), random_prices(rng, mixed, steps)
    weight, chosen = rng.dirichlet(np.ones(mixed)), rng.permutation(20)[:7]
    expected = sum(share * of_one(table, vector) for share, vector in zip(weight, price, strict=True))
    np.testing.assert_allclose(powers(table, price, weight, chosen), np.asarray(expected)[chosen], atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_powers_of_many_assets_add_up_to_the_answer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, price = random_table(rng, 20_000, 48, 12), random_prices(rng, 48)
    power, terms = ask(table, price)
    each = of_one(table, price)
    np.testing.assert_allclose(power, each.sum(axis=0), rtol=1e-9, atol=1e-7)
    missing = np.maximum(table.need - each.sum(axis=1), 0.0)
    assert terms[0] == pytest.approx(float(missing @ table.short_price), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_blocks_add_up_to_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, price = random_table(rng, 300, 24, 40), random_prices(rng, 24)
    begin, _, runs = cut(table, np.zeros(300, dtype=np.int64), 7)
    assert len(begin) > 4
    power, terms = np.zeros((len(begin) - 1, 24)), np.zeros((len(begin) - 1, TERMS))
    for block in range(len(begin) - 1):
        respond(table, runs.begin, runs.of_block[block : block + 2], price, power[block], terms[block])
        own, own_terms = ask(rows_of(table, np.arange(begin[block], begin[block + 1])), price)
        np.testing.assert_allclose(power[block], own, atol=1e-9)
        np.testing.assert_allclose(terms[block], own_terms, atol=1e-9)
    whole, whole_terms = ask(table, price)
    np.testing.assert_allclose(power.sum(axis=0), whole, atol=1e-8)
    np.testing.assert_allclose(terms.sum(axis=0), whole_terms, atol=1e-8)


@given(seed=seeds, steps=st.integers(1, 30))
def test_extreme_prices_break_no_bound(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    table = random_table(rng, 15, steps, 3)
    price = rng.choice([-1e15, -1e-15, 0.0, 1e-300, 1e15], steps)
    each, (power, terms) = of_one(table, price), ask(table, price)
    most = np.array([table.power[i] * shares(table, i, steps) for i in range(15)])
    assert (each >= 0.0).all()
    assert (each <= most + 1e-12).all()
    assert (each.sum(axis=1) <= table.room + 1e-9).all()
    np.testing.assert_allclose(power, each.sum(axis=0), atol=1e-9)
    assert np.isfinite(terms).all()


@given(seed=seeds, scale=st.sampled_from([1e-6, 1e-3, 1e5]))
def test_tiny_and_huge_powers_are_like_others(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    table, price = random_table(rng, 10, 12, 2), random_prices(rng, 12)
    scaled = table._replace(power=table.power * scale, need=table.need * scale, room=table.room * scale)
    np.testing.assert_allclose(ask(scaled, price)[0], ask(table, price)[0] * scale, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("power", [0.1, 0.3, 0.7, 1.1, 3.7, 1e-3, 1e5])
@pytest.mark.parametrize("ratio", [1.0, 0.1, 0.7])
def test_a_need_of_whole_steps_is_met_whatever_its_rounding(power: float, ratio: float) -> None:
    for whole in range(12):
        for need in (sum([power] * whole), power * whole, np.nextafter(power * whole, np.inf)):
            table = one(12, power=power, need=need, first_ratio=ratio)
            price = np.linspace(0.2, 0.1, 12)
            for filled in (ask(table, price)[0], of_one(table, price)[0]):
                assert (filled >= -1e-12 * power).all()
                assert (filled <= power * (1.0 + 1e-12)).all()
                # the first step is the dearest, so that a fractional edge counts only where all are used
                assert filled.sum() == pytest.approx(min(need, power * (11 + ratio)), rel=1e-12)


def test_a_step_at_the_price_of_a_shortfall_is_left_out() -> None:
    price = np.array([1.0, 0.5, 1.0])
    np.testing.assert_array_equal(ask(one(3), price)[0], [0.0, 2.0, 0.0])
    np.testing.assert_array_equal(ask(one(3, short_price=1.5), price)[0], [2.0, 2.0, 0.0])


def test_a_step_at_the_value_takes_no_more_than_the_need() -> None:
    price = np.array([0.2, 0.2, 0.2])
    np.testing.assert_array_equal(ask(one(3, value=0.2, room=6.0), price)[0], [2.0, 2.0, 0.0])
    np.testing.assert_array_equal(ask(one(3, value=0.3, room=6.0), price)[0], [2.0, 2.0, 2.0])


def test_room_is_filled_at_prices_below_the_value_only() -> None:
    table = one(3, value=0.3, room=5.0)
    power, terms = ask(table, np.array([0.2, 0.1, 0.4]))
    np.testing.assert_array_equal(power, [2.0, 2.0, 0.0])
    power, terms = ask(table, np.array([0.2, 0.1, 0.25]))
    np.testing.assert_array_equal(power, [2.0, 2.0, 1.0])
    np.testing.assert_allclose(terms, [0.0, 0.3, 0.0])


def test_one_step_is_available_for_the_first_ratio() -> None:
    power, terms = ask(one(1, first_ratio=0.25, need=3.0, kwh=0.5), np.array([0.1]))
    np.testing.assert_allclose(power, [0.5])
    np.testing.assert_allclose(terms, [2.5, 0.0, 1.25])


def test_an_asset_without_power_lacks_all_its_need() -> None:
    power, terms = ask(one(4, power=0.0, need=3.0), np.full(4, 0.1))
    np.testing.assert_array_equal(power, np.zeros(4))
    np.testing.assert_array_equal(terms, [3.0, 0.0, 3.0])
    np.testing.assert_array_equal(of_one(one(4, power=0.0, need=3.0), np.full(4, 0.1)), np.zeros((1, 4)))


def test_answers_are_added_to_what_is_there() -> None:
    power, terms = np.ones(2), np.ones(TERMS)
    respond(one(2, need=9.0), np.array([0, 1]), np.array([0, 1]), np.array([0.1, 0.2]), power, terms)
    np.testing.assert_array_equal(power, [3.0, 3.0])
    np.testing.assert_array_equal(terms, [6.0, 1.0, 6.0])
