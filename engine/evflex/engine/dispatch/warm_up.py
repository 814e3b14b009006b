"""Compiles the kernels, so that no request waits for the compiler."""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.model import (
    AssetKind,
    DispatchProblem,
    Fleet,
    LimitScope,
    PlanMethod,
    PlanOptions,
    PortfolioLimit,
    Profiles,
    Reserve,
)
from evflex.engine.dispatch.optimize import plan_portfolio
from evflex.engine.dispatch.setpoints import setpoints_from_arrays
from evflex.engine.timegrid import TimeGrid

_STEPS = 4
# So many of each kind that the limit binds and answers are mixed.
_COPIES = 6


def warm_up() -> None:
    """Plan a small fleet of every kind by decomposition, until nothing more can be tried."""
    kinds = [
        AssetKind.EV, AssetKind.EV, AssetKind.EV, AssetKind.EV, AssetKind.BATTERY, AssetKind.PV,
        AssetKind.FLEXIBLE_LOAD, AssetKind.HEAT_PUMP,
    ]  # fmt: skip
    count = _COPIES * len(kinds)
    columns = {
        "kind": [int(kind) for kind in kinds],
        "group_index": [0, 1, -1, 0, 0, 1, -1, 0],
        "available_from_unix_s": [0, 450, 0, 0, 0, 0, 0, 0],
        "max_charge_kw": [7.0, 7.0, 11.0, 11.0, 5.0, 0.0, 3.0, 4.0],
        "min_charge_kw": [0.0, 6.5, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0],
        "max_discharge_kw": [0.0, 0.0, 11.0, 11.0, 5.0, 5.0, 0.0, 0.0],
        "energy_needed_kwh": [3.0, 2.0, 5.0, 3.3, 0.0, 0.0, 2.0, 0.0],
        "energy_headroom_kwh": [5.0, 6.0, 20.0, 20.0, 5.0, 0.0, 2.0, 1.0],
        "energy_available_kwh": [0.0, 0.0, 20.0, 20.0, 5.0, 0.0, 0.0, 1.0],
    }
    fleet = Fleet.of(
        count,
        {name: np.tile(np.array(values), _COPIES) for name, values in columns.items()}
        | {"charge_efficiency": 0.95, "discharge_efficiency": 0.95},
    )
    # no two needs are alike, so that minimum powers stay in the way
    fleet.energy_needed_kwh[:] *= 1.0 - 0.01 * np.arange(count)
    profiled = np.flatnonzero((fleet.kind == AssetKind.PV) | (fleet.kind == AssetKind.HEAT_PUMP))
    profile_kw = np.array([[-1.0, -2.0, -3.0, -1.0], [1.0, 1.0, 1.0, 1.0]])
    free = np.full(_STEPS, np.inf)
    problem = DispatchProblem(
        grid=TimeGrid(0.0, 900.0, _STEPS),
        fleet=fleet,
        profiles=Profiles(profiled, np.tile(profile_kw, (_COPIES, 1))),
        import_price_per_kwh=np.array([0.3, 0.2, 0.1, 0.3]),
        export_price_per_kwh=np.array([0.2, 0.1, 0.05, 0.2]),
        limits=(PortfolioLimit(LimitScope.FLEET, 0, -free, np.full(_STEPS, 9.0 * _COPIES), 2.0),),
        reserves=(Reserve(np.full(_STEPS, 0.1), np.full(_STEPS, 0.1), 900.0),),
        group_count=2,
    )
    # a small fleet would be one program, which no kernel takes part in
    plan = plan_portfolio(problem, PlanOptions(relative_gap=0.0, method=PlanMethod.DECOMPOSITION))
    setpoints_from_arrays(plan.setpoints.to_arrays()).power_kw(np.arange(count))
