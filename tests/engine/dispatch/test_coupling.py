"""Shared rows: who counts where, what prices of rows are worth, and what lies outside."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.dispatch.assets import wished
from evflex.engine.dispatch.coupling import Coupling, couple, limits_worth
from evflex.engine.dispatch.model import DispatchProblem, LimitScope
from evflex.engine.dispatch.reserves import hold_reserves
from tests.conftest import SOAK
from tests.engine.dispatch.reference.builders import assets, limit, portfolio
from tests.engine.dispatch.reference.case import BoolArray, Case
from tests.engine.dispatch.reference.fleets import random_problem

SEEDS = range(200 if SOAK else 25)
FEATURES = (
    "battery", "pv", "flexible_load", "heat_pump", "v2g", "losses", "fractions", "beyond", "fleet_limit", "groups",
    "operators", "export_limit", "reserve_up", "reserve_down", "two_reserves",
)  # fmt: skip


def coupled(problem: DispatchProblem) -> Coupling:
    return couple(problem, hold_reserves(problem, wished(problem)).rows)


def some_problem(seed: int, count: int = 12) -> DispatchProblem:
    """A problem with some of all that couples."""
    rng = np.random.default_rng(seed)
    return random_problem(seed, [name for name in FEATURES if rng.random() < 0.7], count=count)


def counted(problem: DispatchProblem) -> BoolArray:
    """Which assets count in which row, (n, L): limits, then reserves where something is sold."""
    case = Case(problem)
    every = case.all_assets()
    rows = [case.members(one, every.rows) for one in problem.limits]
    rows += [every.takes_up] * bool(case.up_kw.any()) + [every.takes_down] * bool(case.down_kw.any())
    return np.array(rows, dtype=bool).reshape(len(rows), case.count).T


@pytest.mark.parametrize("seed", SEEDS)
def test_assets_count_where_they_belong(seed: int) -> None:
    problem = some_problem(seed)
    coupling = coupled(problem)
    np.testing.assert_array_equal(coupling.member[coupling.signature], counted(problem))


@pytest.mark.parametrize("seed", SEEDS)
def test_assets_that_count_alike_share_a_signature(seed: int) -> None:
    coupling = coupled(some_problem(seed))
    assert len(np.unique(coupling.member, axis=0)) == len(coupling.member)
    assert sorted(set(coupling.signature.tolist())) == list(range(len(coupling.member)))


@pytest.mark.parametrize("seed", SEEDS)
def test_assets_pay_the_prices_of_the_rows_in_which_they_count(seed: int) -> None:
    problem = some_problem(seed)
    coupling, steps = coupled(problem), problem.grid.step_count
    price = np.random.default_rng(seed).normal(size=(len(coupling.lower_kw), steps))
    paid = coupling.price(price)
    for asset, counts in enumerate(counted(problem)):
        np.testing.assert_allclose(paid[coupling.signature[asset]], price[counts].sum(axis=0), atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_come_in_the_order_of_the_problem(seed: int) -> None:
    problem = some_problem(seed)
    coupling, step_h = coupled(problem), problem.grid.step_h
    for row, one in enumerate(problem.limits):
        np.testing.assert_array_equal(coupling.lower_kw[row], one.lower_kw)
        np.testing.assert_array_equal(coupling.upper_kw[row], one.upper_kw)
        assert coupling.violation_price[row] == pytest.approx(one.violation_price_per_kwh * step_h)
    case = Case(problem)
    every, row = case.all_assets(), len(problem.limits)
    if case.up_kw.any():
        held = case.up_kw - every.discharge_most_kw[every.takes_up].sum(axis=0)
        np.testing.assert_allclose(coupling.lower_kw[row], np.where(case.up_kw > 0.0, held, -np.inf), atol=1e-9)
        assert np.isposinf(coupling.upper_kw[row]).all()
        row += 1
    if case.down_kw.any():
        held = every.charge_most_kw[every.takes_down].sum(axis=0) - case.down_kw
        np.testing.assert_allclose(coupling.upper_kw[row], np.where(case.down_kw > 0.0, held, np.inf), atol=1e-9)
        assert np.isneginf(coupling.lower_kw[row]).all()
        row += 1
    assert len(coupling.lower_kw) == row
    np.testing.assert_allclose(coupling.violation_price[len(problem.limits) :], case.reserve_price * step_h)


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_pay_no_more_than_a_violation_and_only_where_there_is_a_limit(seed: int) -> None:
    coupling = coupled(some_problem(seed))
    least, most = coupling.price_range()
    for row, worst in enumerate(coupling.violation_price.tolist()):
        for step in range(least.shape[1]):
            assert least[row, step] == (-worst if np.isfinite(coupling.lower_kw[row, step]) else 0.0)
            assert most[row, step] == (worst if np.isfinite(coupling.upper_kw[row, step]) else 0.0)
    wild = np.random.default_rng(seed).normal(scale=3.0, size=least.shape)
    tame = coupling.admissible(wild)
    assert ((tame >= least) & (tame <= most)).all()
    inside = (wild >= least) & (wild <= most)
    np.testing.assert_array_equal(tame[inside], wild[inside])
    assert np.isfinite(limits_worth(tame, coupling.lower_kw, coupling.upper_kw))


@pytest.mark.parametrize("seed", SEEDS)
def test_violation_costs_the_most_that_prices_can_ask_for_it(seed: int) -> None:
    coupling = coupled(some_problem(seed))
    rng = np.random.default_rng(seed)
    rows = rng.normal(scale=20.0, size=coupling.lower_kw.shape)
    above, below = coupling.outside(rows)
    # the dearest admissible price of each row and step: at the least, at the most, or none
    asked = 0.0
    for row, step in np.ndindex(rows.shape):
        lower, upper = float(coupling.lower_kw[row, step]), float(coupling.upper_kw[row, step])
        worst, power = float(coupling.violation_price[row]), float(rows[row, step])
        asked += max(worst * (power - upper), worst * (lower - power), 0.0)
    assert coupling.violation_cost(above, below) == pytest.approx(asked)


def test_worth_of_limits_is_that_of_the_side_that_binds() -> None:
    price = np.array([[0.5, -0.25, 0.0, 0.0]])
    lower, upper = np.array([[-np.inf, 2.0, -np.inf, 1.0]]), np.array([[10.0, np.inf, np.inf, 4.0]])
    assert limits_worth(price, lower, upper) == 0.5 * 10.0 - 0.25 * 2.0
    assert limits_worth(np.empty((0, 4)), np.empty((0, 4)), np.empty((0, 4))) == 0.0


def test_groups_without_a_limit_are_like_no_group() -> None:
    fleet = assets([0] * 4, [2] * 4, max_charge_kw=1, group_index=[-1, 0, 1, 2], operator_index=[0, 1, 0, 1])
    rows = [limit(2, upper=1.0, scope=LimitScope.GROUP, index=1)]
    coupling = coupled(portfolio(fleet, [0.1, 0.2], limits=rows, group_count=3, operator_count=2))
    assert coupling.signature[0] == coupling.signature[1] == coupling.signature[3] != coupling.signature[2]


def test_a_fleet_without_assets_has_rows_all_the_same() -> None:
    problem = portfolio(
        assets([], []), [0.1], limits=[limit(1, upper=1.0), limit(1, upper=1.0, scope=LimitScope.GROUP)],
        group_count=1,
    )  # fmt: skip
    coupling = coupled(problem)
    assert coupling.signature.shape == (0,)
    assert coupling.member.shape == (1, 2)
    assert coupling.price(np.ones((2, 1))).shape == (1, 1)


def test_nothing_shared_is_one_signature_without_rows() -> None:
    coupling = coupled(portfolio(assets([0, 0], [1, 1], max_charge_kw=1), [0.1]))
    assert coupling.member.shape == (1, 0)
    np.testing.assert_array_equal(coupling.price(np.empty((0, 1))), [[0.0]])
