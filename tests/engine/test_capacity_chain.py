"""The chain: capacity of hubs becomes the limit of their charging schedules, and the transformer carries the sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.capacity import AllocationOptions, allocate_capacity
from evflex.engine.charging import DepartureBeyondHorizon, ScheduleOptions, ScheduleProblem, Sessions, Tariff
from evflex.engine.charging.optimize import optimize_schedule
from evflex.engine.supply_tree import SupplyNodes
from tests.conftest import SOAK
from tests.engine.capacity.reference.generators import Knobs, day_problem
from tests.engine.capacity.reference.twin import excesses, stress


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100 if SOAK else 4))
def test_schedules_within_the_capacities_break_no_limit_of_the_transformer(seed: int) -> None:
    problem = day_problem(seed, Knobs(hubs=3, sessions=1.0, single_phase=0.0, minimum_power=False, tightness=2.0))
    plan = allocate_capacity(problem, AllocationOptions())
    rng = np.random.default_rng(seed)
    price = rng.uniform(0.05, 0.4, problem.grid.step_count)
    scheduled = np.zeros_like(plan.capacity_kw)
    for h, hub in enumerate(problem.hubs):
        cars = hub.sessions
        sessions = Sessions.simple(
            arrival_unix_s=cars.arrival_unix_s, departure_unix_s=cars.departure_unix_s,
            energy_needed_kwh=cars.energy_needed_kwh, max_charge_kw=cars.max_charge_kw,
        )  # fmt: skip
        site = ScheduleProblem(
            grid=problem.grid, sessions=sessions, tariff=Tariff(price),
            nodes=SupplyNodes.single(max_import_kw=plan.capacity_kw[h]),
        )  # fmt: skip
        options = ScheduleOptions(departure_beyond_horizon=DepartureBeyondHorizon.PRO_RATA)
        scheduled[h] = optimize_schedule(site, options).power_kw.sum(axis=0)
    assert (scheduled <= plan.capacity_kw + 1e-6).all()
    assert scheduled.sum() > 0.0
    for over in excesses(problem, stress(problem, scheduled)).values():
        assert over.max() <= 1e-6


def test_without_capacity_nothing_is_scheduled() -> None:
    problem = day_problem(0, Knobs(hubs=2, sessions=1.0))
    nothing = np.zeros(problem.grid.step_count)
    problem = replace(
        problem, hubs=tuple(replace(hub, firm_kw=nothing, conditional_kw=nothing) for hub in problem.hubs)
    )
    assert not allocate_capacity(problem, AllocationOptions()).capacity_kw.any()
