"""Repair keeps minimums, limits and loads, and swaps cost nothing."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.charging import ScheduleOptions
from evflex.engine.charging.evaluation import evaluate, group_power_kw, keeps_limits
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.relaxation import Relaxation, relax_sessions
from evflex.engine.charging.repair import repair, repair_minimums
from evflex.engine.charging.repairable import repairable
from evflex.engine.charging.site import Site, build_site
from tests.engine.charging.reference.builders import cars, site


def crowded(seed: int, sessions: int, steps: int) -> Site:
    """Sessions with a minimum under one limit that fills up in the cheap steps."""
    rng = np.random.default_rng(seed)
    arrive = rng.integers(0, steps // 2, sessions)
    leave = np.minimum(arrive + rng.integers(steps // 4, steps, sessions), steps)
    largest = rng.choice([3.68, 11.04], sessions)
    need = (largest * (leave - arrive) * rng.uniform(0.2, 0.6, sessions)).round(2)
    fleet = cars(
        arrive.tolist(),
        leave.tolist(),
        need.tolist(),
        max_kw=largest.tolist(),
        min_charge_kw=(0.375 * largest).tolist(),
    )
    price = rng.choice([0.1, 0.1, 0.2, 0.3], steps).tolist()
    problem = site(fleet, price, limit_kw=float(3.0 * sessions))
    return build_site(problem, ScheduleOptions(shortfall_price_per_kwh=2.0), np.zeros(sessions))


def relaxed(place: Site) -> Relaxation:
    relaxation = relax_sessions(place)
    assert relaxation is not None
    return relaxation


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("sessions", [3, 30, 300])
def test_minimums_and_limits_are_kept(seed: int, sessions: int) -> None:
    place = crowded(seed, sessions, 24)
    relaxation = relaxed(place)
    power = repair(place, relaxation)
    on = power > 0.0
    assert (power[on] >= (place.presence * place.min_charge_kw[:, None])[on] - 1e-9).all()
    assert (power <= place.presence * place.max_charge_kw[:, None] + 1e-9).all()
    assert keeps_limits(place, power)
    plan = evaluate(place, power + place.given_kw)
    assert plan.objective >= relaxation.bound.objective - 1e-9
    if sessions == 300:
        assert plan.objective <= relaxation.bound.objective + 1.2e-2 * plan.scale


@pytest.mark.parametrize("seed", range(6))
def test_the_load_that_limits_see_follows(seed: int) -> None:
    place = crowded(seed, 80, 24)
    relaxation = relaxed(place)
    power = relaxation.power_kw.copy()
    load = group_power_kw(place, power)
    below, mended, alone, _, _ = repair_minimums(repairable(place, Parts.whole(place), relaxation), power, load)
    assert below == mended + alone
    assert load == pytest.approx(group_power_kw(place, power), abs=1e-9)
