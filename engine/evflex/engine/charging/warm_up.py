"""Compile the kernels before the first request needs them."""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.forest import optimize_together
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem, Sessions, Tariff
from evflex.engine.charging.optimize import optimize_schedule
from evflex.engine.supply_tree import SupplyNodes
from evflex.engine.timegrid import TimeGrid


def warm_up() -> None:
    """Solve small sites that take every compiled path."""
    grid = TimeGrid(0.0, 900.0, 8)
    stay = np.array([0.0, 900.0, 0.0]), np.array([7200.0, 7200.0, 5400.0])
    sessions = Sessions.simple(
        arrival_unix_s=stay[0],
        departure_unix_s=stay[1],
        energy_needed_kwh=np.array([4.0, 5.0, 3.0]),
        max_charge_kw=np.full(3, 11.0),
        min_charge_kw=np.full(3, 4.14),
    )
    prices = np.linspace(0.3, 0.1, 8)
    nodes = SupplyNodes.single(max_import_kw=12.0)
    problem = ScheduleProblem(grid, nodes, sessions, Tariff(prices))
    with_peak = ScheduleProblem(grid, nodes, sessions, Tariff(prices, peak_price_per_kw=1.0))
    for options in (
        ScheduleOptions(shortfall_price_per_kwh=2.0),
        ScheduleOptions(shortfall_price_per_kwh=2.0, start_cost=0.05),
        ScheduleOptions(shortfall_price_per_kwh=2.0, current_quantum_a=1.0),
    ):
        optimize_schedule(problem, options)
        optimize_schedule(with_peak, options)
    # With room for all and a wide gap, so that the plans are taken and their ties settled.
    roomy = ScheduleProblem(grid, SupplyNodes.single(max_import_kw=25.0), sessions, Tariff(prices))
    optimize_together([roomy, roomy], [ScheduleOptions(shortfall_price_per_kwh=2.0, relative_gap=0.1)] * 2)
