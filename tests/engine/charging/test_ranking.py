"""Where not every wish can be met, the right one loses: exact against the lexicographic reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evflex.engine.charging import optimize_schedule
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import LimitUnit
from tests.engine.charging.reference import figures, reference_milp
from tests.engine.charging.reference.builders import START_UNIX_S, cars, site, tree
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.compare import differences

PRICE = [0.30, 0.28, 0.25, 0.12, 0.10, 0.11, 0.13, 0.26, 0.31, 0.29]
STRICT = ScheduleOptions(relative_gap=1e-6)


def crowded(seed: int, *, minimum_kw: float = 1.38) -> ScheduleProblem:
    """Eight cars on two circuits that cannot all be served: each kind of wish loses somewhere."""
    rng = np.random.default_rng(seed)
    n = 8
    arrive = rng.integers(0, 5, n)
    leave = np.minimum(arrive + rng.integers(2, 6, n), 10)
    need = np.round(rng.uniform(6.0, 22.0, n), 2)
    sessions = cars(
        arrive.tolist(),
        leave.tolist(),
        need.tolist(),
        max_kw=7.4,
        min_charge_kw=minimum_kw,
        charge_efficiency=0.92,
        node_ids=tuple(("left", "right")[k % 2] for k in range(n)),
        minimum_energy_kwh=np.round(need * 0.6, 2),
        minimum_energy_unix_s=START_UNIX_S + 3600.0 * np.minimum(leave, arrive + 3),
        shortfall_weight=rng.choice([1.0, 2.0, 3.0], n),
    )
    nodes = tree(
        {"root": "", "left": "root", "right": "root"},
        imports={"root": 16.0, "left": 9.0, "right": 9.0},
        agreements={"root": 11.0, "left": 6.0},
        fixed={"root": np.round(rng.uniform(0.0, 3.0, 10), 2).tolist()},
    )
    return site(sessions, PRICE, nodes=nodes)


@pytest.mark.parametrize("seed", range(6))
def test_each_rank_is_that_of_the_reference(seed: int) -> None:
    problem = crowded(seed)
    schedule = optimize_schedule(problem, STRICT)
    assert differences(problem, STRICT, schedule) == []


def test_the_crowded_site_makes_each_kind_of_wish_lose() -> None:
    lost = np.array([reference_milp.solve(crowded(seed), STRICT).ranks[1:4] for seed in range(6)])
    assert (lost.max(axis=0) > 1e-3).all()


def test_minimum_energy_breaks_an_agreement_but_a_departure_target_does_not() -> None:
    nodes = tree({"root": ""}, imports={"root": 10.0}, agreements={"root": 3.0})
    sessions = cars([0], [2], [20.0], minimum_energy_kwh=8.0)
    problem = site(sessions, [0.1, 0.2], nodes=nodes)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    assert schedule.sessions.minimum_shortfall_kwh[0] == pytest.approx(0.0, abs=1e-6)
    assert schedule.sessions.delivered_kwh[0] == pytest.approx(8.0, abs=1e-6)
    assert schedule.limit_violations.unit.tolist() == [LimitUnit.AGREEMENT_IMPORT_KW] * len(
        schedule.limit_violations.unit
    )
    assert schedule.limit_violations.amount.sum() == pytest.approx(2.0, abs=1e-6)
    met = dataclasses.replace(problem, sessions=cars([0], [2], [20.0], minimum_energy_kwh=6.0))
    assert optimize_schedule(met, STRICT).limit_violations.amount.sum() == pytest.approx(0.0, abs=1e-6)


def test_a_safety_limit_is_kept_even_against_minimum_energy() -> None:
    problem = site(cars([0], [2], [20.0], minimum_energy_kwh=8.0), [0.1, 0.2], limit_kw=3.0)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    assert schedule.sessions.minimum_shortfall_kwh[0] == pytest.approx(2.0, abs=1e-6)
    assert schedule.limit_violations.amount.size == 0


def test_the_heavier_session_is_served_where_one_must_lose() -> None:
    sessions = cars([0, 0], [2, 2], [8.0, 8.0], shortfall_weight=np.array([1.0, 3.0]))
    problem = site(sessions, [0.1, 0.2], limit_kw=5.0)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    np.testing.assert_allclose(schedule.sessions.shortfall_kwh, [6.0, 0.0], atol=1e-6)


def test_minimum_energy_of_one_ranks_before_the_target_of_another() -> None:
    sessions = cars(
        [0, 0],
        [2, 2],
        [9.0, 9.0],
        minimum_energy_kwh=np.array([7.0, 0.0]),
        shortfall_weight=np.array([1.0, 50.0]),
    )
    problem = site(sessions, [0.1, 0.2], limit_kw=5.0)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    np.testing.assert_allclose(schedule.sessions.delivered_kwh, [7.0, 3.0], atol=1e-6)


def test_energy_that_costs_more_than_its_shortfall_is_not_bought() -> None:
    problem = site(cars([0], [2], [8.0], max_kw=5.0), [0.1, 0.9])
    priced = ScheduleOptions(shortfall_price_per_kwh=0.5)
    assert optimize_schedule(problem, priced).sessions.shortfall_kwh[0] == pytest.approx(3.0, abs=1e-6)
    assert optimize_schedule(problem, STRICT).sessions.shortfall_kwh[0] == pytest.approx(0.0, abs=1e-6)


def test_a_session_with_its_own_price_trades_off_beside_one_without() -> None:
    sessions = cars([0, 0], [1, 1], [5.0, 5.0], shortfall_price_per_kwh=np.array([99.0, np.nan]))
    problem = site(sessions, [0.1], limit_kw=5.0)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    np.testing.assert_allclose(schedule.sessions.shortfall_kwh, [5.0, 0.0], atol=1e-6)


def test_charging_relieves_an_export_that_fixed_load_alone_exceeds() -> None:
    nodes = tree({"root": ""}, exports={"root": 4.0}, fixed={"root": [-10.0, -2.0]})
    problem = site(cars([0], [2], [5.0]), [0.5, 0.1], nodes=nodes)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    assert schedule.power_kw[0, 0] == pytest.approx(5.0, abs=1e-6)
    assert schedule.limit_violations.amount.tolist() == pytest.approx([1.0], abs=1e-6)


def test_discharging_relieves_an_import_that_fixed_load_alone_exceeds() -> None:
    nodes = tree({"root": ""}, imports={"root": 8.0}, fixed={"root": [10.0, 1.0]})
    sessions = cars([0], [2], [0.0], max_discharge_kw=5.0, energy_available_kwh=9.0, discharge_cost_per_kwh=1.0)
    problem = site(sessions, [0.1, 0.1], nodes=nodes)
    schedule = optimize_schedule(problem, STRICT)
    assert check(problem, STRICT, schedule) == []
    assert schedule.power_kw[0, 0] == pytest.approx(-2.0, abs=1e-6)
    assert figures.ranks(Case(problem, STRICT), schedule.power_kw)[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_departure_margin_costs_nobody_energy(seed: int) -> None:
    problem, margin = crowded(seed), dataclasses.replace(STRICT, departure_margin_s=3600.0)
    schedule = optimize_schedule(problem, margin)
    assert check(problem, margin, schedule) == []
    mine = figures.ranks(Case(problem, margin), schedule.power_kw)
    best = reference_milp.solve(problem, STRICT).ranks
    np.testing.assert_allclose(mine[:4], best[:4], atol=1e-5)
