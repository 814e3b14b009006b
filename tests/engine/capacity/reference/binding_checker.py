"""Checks that whoever gets less than wanted is told why, and that the reason holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.model import AllocationProblem, BindingReason
from evflex.engine.supply_tree import FloatArray
from tests.engine.capacity.reference.hub_checker import car_limit_kw, most_kw, shares_drawn
from tests.engine.capacity.reference.twin import excesses, stress

# Less than this is not a lack; a reason binds when the lack, drawn, brings its limit so near.
_LACK = 1e-4
_NEAR = {
    BindingReason.LOADING_RATIO: 2e-3, BindingReason.HOT_SPOT: 0.1, BindingReason.TOP_OIL: 0.1,
}  # fmt: skip
_BATCH = 500


def wanted_kw(problem: AllocationProblem, allocation: Allocation) -> FloatArray:
    """What each hub would use in each step after what it got before, agreement and connection aside, (H, T)."""
    wanted = np.zeros_like(allocation.power_kw)
    step_h = problem.grid.step_h
    for h, hub in enumerate(problem.hubs):
        power = allocation.power_kw[h]
        if len(hub.sessions):
            cars = allocation.session_power_kw[h]
            before = (np.cumsum(cars, axis=1) - cars) * step_h
            left = np.maximum(hub.sessions.energy_needed_kwh[:, None] - before, 0.0) / step_h
            wanted[h] = np.minimum(car_limit_kw(problem, hub), left).sum(axis=0)
        else:
            wanted[h] = np.cumsum(hub.demand_kw) - (np.cumsum(power) - power)
            wanted[h][hub.connected_evs == 0] = 0.0
    return np.maximum(wanted, 0.0)


def binding_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    """Rows that are missing, out of order, double, or do not hold."""
    rows = [(int(k), int(h), BindingReason(int(reason))) for k, h, reason in allocation.binding]
    places = [(k, h) for k, h, _ in rows]
    if places != sorted(set(places)):
        yield "binding: rows are not by step, then hub, each once"
    wanted = wanted_kw(problem, allocation)
    scale = np.maximum(1.0, np.array([hub.max_kw for hub in problem.hubs]))
    lack = wanted - allocation.power_kw
    lacking = lack > _LACK * scale[:, None]
    told = np.zeros_like(lacking)
    for k, h in places:
        told[h, k] = True
    for h, k in np.argwhere(lacking & ~told).tolist()[:20]:
        yield f"hub {h}, step {k}: gets {allocation.power_kw[h, k]:.6g} of {wanted[h, k]:.6g} kW, and no reason is told"
    by_limit: list[tuple[int, int, BindingReason]] = []
    for k, h, reason in rows:
        hub, has = problem.hubs[h], allocation.capacity_kw[h, k]
        if lack[h, k] <= 1e-9 * scale[h]:
            yield f"hub {h}, step {k}: {reason.name}, but it gets what it wants"
        elif reason in (BindingReason.AGREEMENT, BindingReason.HUB_LIMIT) and most_kw(hub)[k] < hub.min_kw_per_ev:
            continue  # what it may have is not enough for one car
        elif reason == BindingReason.AGREEMENT:
            if has < hub.firm_kw[k] + hub.conditional_kw[k] - _LACK * scale[h]:
                yield f"hub {h}, step {k}: AGREEMENT leaves it more"
        elif reason == BindingReason.HUB_LIMIT:
            if has < hub.max_kw - _LACK * scale[h]:
                yield f"hub {h}, step {k}: HUB_LIMIT leaves it more"
        elif reason == BindingReason.ROTATION:
            if hub.min_kw_per_ev <= 0.0:
                yield f"hub {h}, step {k}: ROTATION of a hub whose cars have no least power"
        elif reason in (*_NEAR, BindingReason.CONTINGENCY, BindingReason.LOSS_OF_LIFE):
            by_limit.append((k, h, reason))
        else:
            yield f"hub {h}, step {k}: {reason.name} does not happen in a plan"
    for first in range(0, len(by_limit), _BATCH):
        yield from _limit_faults(problem, allocation, wanted, by_limit[first : first + _BATCH])


def _limit_faults(
    problem: AllocationProblem, allocation: Allocation, wanted: FloatArray, rows: list[tuple[int, int, BindingReason]]
) -> Iterator[str]:
    """With what the hub lacks, or a car's least power, the limit is reached: now, or later if it is of heat."""
    drawn = np.repeat(allocation.capacity_kw[None], len(rows), axis=0)
    for i, (k, h, _) in enumerate(rows):
        hub = problem.hubs[h]
        drawn[i, h, k] = max(drawn[i, h, k], min(wanted[h, k], float(most_kw(hub)[k])), hub.min_kw_per_ev)
    over = excesses(problem, stress(problem, drawn, shares=shares_drawn(problem, allocation)))
    day_limit = stress(problem, allocation.capacity_kw).day_limit_h
    for i, (k, h, reason) in enumerate(rows):
        near = _NEAR.get(reason, 0.0)
        if reason == BindingReason.CONTINGENCY:
            near = 2e-3 * problem.n1_rated_kva
        elif reason == BindingReason.LOSS_OF_LIFE:
            near = 0.01 * float(day_limit[k])
        heat = reason in (BindingReason.HOT_SPOT, BindingReason.TOP_OIL, BindingReason.LOSS_OF_LIFE)
        most = float(over[reason][i, k:].max() if heat else over[reason][i, k])
        if most < -near:
            yield f"hub {h}, step {k}: {reason.name} does not bind, with all it wants {-most:.6g} are left"
