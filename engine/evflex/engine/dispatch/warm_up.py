"""Compiles the kernels, so that no request waits for the compiler."""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.model import (
    AssetKind,
    DispatchProblem,
    Fleet,
    LimitScope,
    PlanOptions,
    PortfolioLimit,
    Profiles,
    Reserve,
)
from evflex.engine.dispatch.optimize import plan_portfolio
from evflex.engine.dispatch.setpoints import setpoints_from_arrays
from evflex.engine.timegrid import TimeGrid

_STEPS = 4


def warm_up() -> None:
    """Plan a small fleet of every kind, with and without what makes kernels differ."""
    fleet = Fleet.of(
        7,
        {
            "kind": np.array(
                [AssetKind.EV, AssetKind.EV, AssetKind.EV, AssetKind.BATTERY, AssetKind.PV, AssetKind.FLEXIBLE_LOAD,
                 AssetKind.HEAT_PUMP]
            ),
            "group_index": np.array([0, 1, -1, 0, 1, -1, 0]),
            "available_from_unix_s": np.array([0, 450, 0, 0, 0, 0, 0]),
            "max_charge_kw": np.array([7.0, 7.0, 11.0, 5.0, 0.0, 3.0, 4.0]),
            "min_charge_kw": np.array([0.0, 1.4, 0.0, 0.0, 0.0, 0.0, 0.0]),
            "max_discharge_kw": np.array([0.0, 0.0, 11.0, 5.0, 5.0, 0.0, 0.0]),
            "energy_needed_kwh": np.array([3.0, 4.0, 5.0, 0.0, 0.0, 2.0, 0.0]),
            "energy_headroom_kwh": np.array([5.0, 6.0, 20.0, 5.0, 0.0, 2.0, 1.0]),
            "energy_available_kwh": np.array([0.0, 0.0, 20.0, 5.0, 0.0, 0.0, 1.0]),
            "charge_efficiency": 0.95,
            "discharge_efficiency": 0.95,
        },
    )  # fmt: skip
    free = np.full(_STEPS, np.inf)
    problem = DispatchProblem(
        grid=TimeGrid(0.0, 900.0, _STEPS),
        fleet=fleet,
        profiles=Profiles(np.array([4, 6]), np.array([[-1.0, -2.0, -3.0, -1.0], [1.0, 1.0, 1.0, 1.0]])),
        import_price_per_kwh=np.array([0.3, 0.2, 0.1, 0.3]),
        export_price_per_kwh=np.array([0.2, 0.1, 0.05, 0.2]),
        limits=(PortfolioLimit(LimitScope.FLEET, 0, -free, np.full(_STEPS, 9.0), 2.0),),
        reserves=(Reserve(np.full(_STEPS, 0.1), np.full(_STEPS, 0.1), 900.0),),
        group_count=2,
    )
    plan = plan_portfolio(problem, PlanOptions(relative_gap=1e-4))
    setpoints_from_arrays(plan.setpoints.to_arrays()).power_kw(np.arange(len(fleet)))
