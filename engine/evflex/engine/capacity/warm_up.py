"""Compiles the kernels, so that no request waits for the compiler."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.allocate import allocate_capacity
from evflex.engine.capacity.hub import Hub, HubSessions
from evflex.engine.capacity.model import AllocationOptions, AllocationPolicy, AllocationProblem
from evflex.engine.capacity.tracking_warm_up import warm_up_tracking
from evflex.engine.capacity.transformer import BaseLoad, Cooling, ThermalParameters, Transformer
from evflex.engine.timegrid import TimeGrid

_STEPS = 4


def warm_up() -> None:
    """Share a transformer that is too small between a hub of demand and one of cars, and track one."""
    grid = TimeGrid(0.0, 900.0, _STEPS)
    transformer = Transformer(
        100.0, ThermalParameters.of(Cooling.ONAN), np.full(_STEPS, 20.0), max_hot_spot_c=90.0,
        max_loss_of_life_h_per_day=24.0,
    )  # fmt: skip
    none = np.empty(0)
    of_demand = Hub.of_demand(
        "demand", np.full(_STEPS, 90.0), max_kw=100.0, firm_kw=5.0, min_kw_per_ev=1.4, phases_per_ev=1
    )
    cars = HubSessions(("car",), np.zeros(1), np.array([1800.0]), np.array([40.0]), np.array([60.0]))
    of_cars = Hub(
        "cars", none, np.empty(0, dtype=np.int64), cars, 100.0, 4.1, of_demand.phases, 0, 1.0, np.zeros(_STEPS),
        np.full(_STEPS, 100.0), 1, 0.1, np.zeros(_STEPS),
    )  # fmt: skip
    for policy in AllocationPolicy:
        allocate_capacity(
            AllocationProblem(
                grid, transformer, BaseLoad.balanced(np.full(_STEPS, 60.0)), np.arange(_STEPS) == 1, 80.0,
                (of_demand, of_cars), policy,
            ),
            AllocationOptions(),
        )  # fmt: skip
    warm_up_tracking()
