"""Ties are broken towards earlier energy and fewer starts, at no cost and within every limit."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from evflex.engine.charging import ScheduleOptions
from evflex.engine.charging.evaluation import evaluate, keeps_limits
from evflex.engine.charging.site import Site, build_site
from evflex.engine.charging.tie_break import _starts_beside, break_ties
from tests.engine.charging.reference.builders import cars, site


def two_cars(limit_kw: float | None = None, **options: object) -> Site:
    fleet = cars([0, 0], [6, 6], [20, 20], max_kw=10.0, min_charge_kw=4.0)
    problem = site(fleet, [0.2] * 6, limit_kw=limit_kw)
    return build_site(problem, ScheduleOptions(**options), np.zeros(2))  # type: ignore[arg-type]


def broken(place: Site, power: list[list[float]]) -> np.ndarray:
    price = np.broadcast_to(place.import_rate * place.step_h, (2, 6))
    return break_ties(place, price, np.array(power, dtype=float))


def test_energy_moves_to_the_first_of_equal_steps() -> None:
    plan = broken(two_cars(), [[0, 0, 10, 0, 10, 0], [0, 0, 0, 0, 10, 10]])
    assert plan.tolist() == [[10, 10, 0, 0, 0, 0], [10, 10, 0, 0, 0, 0]]


def test_a_full_limit_keeps_what_does_not_fit() -> None:
    place = two_cars(limit_kw=10.0)
    plan = broken(place, [[10, 0, 10, 0, 0, 0], [0, 10, 0, 10, 0, 0]])
    assert keeps_limits(place, plan)
    assert plan.sum(axis=1).tolist() == [20, 20]


def test_two_sessions_exchange_steps_to_save_starts() -> None:
    place = two_cars(limit_kw=10.0)
    before = np.array([[10, 0, 10, 0, 0, 0], [0, 10, 0, 10, 0, 0]], dtype=float)
    plan = broken(place, before.tolist())
    assert evaluate(place, plan).starts.sum() < evaluate(place, before).starts.sum()
    assert plan.sum(axis=0).tolist() == before.sum(axis=0).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_no_tie_costs_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fleet = cars([0] * 8, [12] * 8, rng.uniform(5, 40, 8).tolist(), max_kw=10.0, min_charge_kw=4.0)
    problem = site(fleet, rng.choice([0.1, 0.2], 12).tolist(), limit_kw=25.0)
    place = build_site(problem, ScheduleOptions(shortfall_price_per_kwh=1.0), np.zeros(8))
    power = np.zeros((8, 12))
    for t in range(12):
        power[rng.choice(8, 2, replace=False), t] = rng.choice([0.0, 4.0, 10.0], 2)
    price = np.broadcast_to(place.import_rate * place.step_h, power.shape)
    plan = break_ties(place, price, power)
    before, after = evaluate(place, power), evaluate(place, plan)
    assert after.objective == pytest.approx(before.objective, abs=1e-9)
    assert after.starts.sum() <= before.starts.sum()
    assert (plan @ np.arange(12.0)).sum() <= (power @ np.arange(12.0)).sum() + 1e-9
    assert keeps_limits(place, plan)
    assert ((plan == 0.0) | ((plan >= 4.0 - 1e-9) & (plan <= 10.0 + 1e-9))).all()


def test_starts_are_counted_where_two_steps_decide_them() -> None:
    # Between two patterns that differ in two steps, starts differ by as much as those counted beside the steps.
    starts_beside = _starts_beside.py_func  # type: ignore[attr-defined]
    for before, patterns in itertools.product((False, True), itertools.product((0.0, 5.0), repeat=4)):
        movable = SimpleNamespace(before=np.array([[before, False, False, False]]))
        pattern = np.array([patterns])
        for t, u in itertools.permutations(range(4), 2):
            other = pattern.copy()
            other[0, [t, u]] = other[0, [u, t]]
            beside = starts_beside(movable, 0, t, u, other) - starts_beside(movable, 0, t, u, pattern)
            assert beside == all_starts(other[0], before) - all_starts(pattern[0], before)


def all_starts(power: np.ndarray, before: bool) -> int:
    on = power > 0.0
    return int((on & ~np.append(False, on[:-1])).sum()) - int(on[0] and before)
