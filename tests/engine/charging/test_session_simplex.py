"""The simplex of sessions against HiGHS on the same relaxation, and its bound against plain weak duality."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evflex.engine.budget import Budget
from evflex.engine.charging import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.evaluation import keeps_limits
from evflex.engine.charging.relaxation import (
    _relax_program,
    _solve_from_sample,
    another_vertex,
    relax_sessions,
    shared_problem,
)
from evflex.engine.charging.site import Site, build_site
from tests.engine.charging.reference.builders import cars, site, tree

PRICES = (0.1, 0.1, 0.2, 0.3)


def crowded(seed: int, sessions: int, steps: int) -> tuple[ScheduleProblem, ScheduleOptions]:
    """Sessions with partial steps behind a root, two circuits and one phase-wise breaker, too little for all."""
    rng = np.random.default_rng(seed)
    arrive = rng.integers(0, steps - 1, sessions) + rng.choice([0.0, 0.5, 0.25], sessions)
    leave = np.minimum(arrive + rng.integers(1, steps, sessions) + rng.choice([0.0, 0.5], sessions), steps + 1.0)
    need = rng.uniform(1.0, 25.0, sessions).round(2)
    nodes = tree(
        {"root": "", "left": "root", "right": "root"},
        imports={"root": rng.uniform(2.0, 4.0) * sessions, "left": 1.5 * sessions},
        current={"right": float(rng.integers(6, 14) * sessions)},
    )
    fleet = cars(
        arrive.tolist(),
        leave.tolist(),
        need.tolist(),
        max_kw=rng.choice([3.68, 7.36, 11.04, 22.08], sessions).tolist(),
        node_ids=tuple(rng.choice(["root", "left", "right"], sessions).tolist()),
        phases=rng.integers(1, 8, sessions),
        charge_efficiency=0.92,
        energy_headroom_kwh=need + rng.choice([0.0, 5.0], sessions),
        energy_value_per_kwh=rng.choice([0.0, 0.15], sessions),
    )
    price = rng.choice(PRICES, steps).tolist()
    return site(fleet, price, nodes=nodes), ScheduleOptions(shortfall_price_per_kwh=2.0)


def built(seed: int, sessions: int, steps: int) -> Site:
    problem, options = crowded(seed, sessions, steps)
    return build_site(problem, options, np.zeros(sessions))


@pytest.mark.parametrize("seed", range(60))
def test_its_optimum_is_that_of_highs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = built(seed, int(rng.integers(1, 25)), int(rng.integers(2, 30)))
    ours, theirs = relax_sessions(place), _relax_program(place, Budget(30.0))
    assert ours is not None
    assert theirs is not None
    assert ours.bound.objective == pytest.approx(theirs.bound.objective, rel=1e-9, abs=1e-8)
    assert keeps_limits(place, ours.power_kw)


def test_its_optimum_is_that_of_highs_where_a_sample_guides_the_start() -> None:
    place = built(7, 400, 48)
    ours, theirs = relax_sessions(place), _relax_program(place, Budget(60.0))
    assert ours is not None
    assert theirs is not None
    assert ours.bound.objective == pytest.approx(theirs.bound.objective, rel=1e-9)
    assert keeps_limits(place, ours.power_kw)


def test_steps_that_cost_the_same_are_filled_with_few_pivots() -> None:
    # Everyone would take the first cheap steps; the start has to leave them to those who have no others.
    place = built(3, 600, 48)
    place = dataclasses.replace(place, import_rate=np.where(np.arange(place.step_count) % 3 == 0, 0.3, 0.1))
    shared = shared_problem(place)
    power, dual = np.zeros(place.presence.shape), np.zeros(place.limits.upper_kw.shape)
    assert 0 <= _solve_from_sample(shared, power, dual) < 2 * place.session_count
    theirs = _relax_program(place, Budget(60.0))
    assert theirs is not None
    ours = relax_sessions(place)
    assert ours is not None
    assert ours.bound.objective == pytest.approx(theirs.bound.objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_another_vertex_costs_the_same(seed: int) -> None:
    place = built(seed, 12, 24)
    relaxation = relax_sessions(place)
    assert relaxation is not None
    vertex = another_vertex(place, relaxation, seed + 1)
    assert vertex is not None
    sessions = place.problem.sessions
    delivered = (vertex * sessions.charge_efficiency[:, None]).sum(axis=1) * place.step_h
    short = np.maximum(place.need_kwh - delivered, 0.0) @ place.shortfall_price_per_kwh
    worth = np.maximum(delivered - place.need_kwh, 0.0) @ place.value_per_kwh
    cost = place.import_rate @ vertex.sum(axis=0) * place.step_h + short - worth
    scale = np.abs(place.import_rate).max() * vertex.sum() * place.step_h
    assert cost == pytest.approx(relaxation.bound.objective, abs=1e-5 * max(scale, 1.0))
    assert keeps_limits(place, vertex)
