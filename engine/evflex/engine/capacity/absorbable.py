"""How much conditional capacity hubs can put to use within a set of steps: the constraints of the bound."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


def served_by_firm_kwh(hubs: PreparedHubs, step_h: float, firm_kw: FloatArray) -> FloatArray:
    """Most that firm capacity alone can serve, for hubs of cars an upper bound of it, (H,)."""
    served = np.empty(firm_kw.shape[1])
    _served_by_firm(
        step_h, np.where(hubs.cars == 0, 0.0, firm_kw), hubs.demand_kw, hubs.first_car, hubs.car_needed_kwh,
        hubs.car_most_kw, served,
    )  # fmt: skip
    return served


def absorbable_kwh(hubs: PreparedHubs, step_h: float, firm_kw: FloatArray, steps: BoolArray, rank: int) -> FloatArray:
    """Energy beyond what firm capacity serves that conditional capacity of a class in some steps alone can serve.

    This is the rank function of a polymatroid (hubs, their waiting demand and their cars are a network of flows), so
    each plan's use of conditional capacity stays within it for every set of steps; for hubs of cars it is an upper
    bound.

    Args:
        hubs: The hubs.
        step_h: Length of a step in hours.
        firm_kw: Firm capacity, (T, H).
        steps: Sets of steps, (n, T).
        rank: Class of hubs.

    Returns:
        For each set, (n,).
    """
    usable = hubs.cars != 0
    out = np.zeros(steps.shape[0])
    _absorbable(
        step_h, np.where(usable, firm_kw, 0.0), np.where(usable, hubs.most_kw, 0.0), hubs.demand_kw, hubs.rank, rank,
        hubs.first_car, hubs.car_needed_kwh, hubs.car_most_kw, served_by_firm_kwh(hubs, step_h, firm_kw), steps, out,
    )  # fmt: skip
    return out


@kernel
def _served_by_firm(
    step_h: float,
    firm_kw: FloatArray,
    demand_kw: FloatArray,
    first_car: IntArray,
    car_needed_kwh: FloatArray,
    car_most_kw: FloatArray,
    served_kwh: FloatArray,
) -> None:
    steps, count = firm_kw.shape
    for h in range(count):
        begin, end = first_car[h], first_car[h + 1]
        backlog, served = 0.0, 0.0
        for t in range(steps):
            possible = backlog + demand_kw[t, h] * step_h
            for j in range(begin, end):
                possible += car_most_kw[t, j] * step_h
            used = min(possible, firm_kw[t, h] * step_h)
            served += used
            if begin == end:
                backlog = possible - used
        if begin < end:
            wanted = 0.0
            for j in range(begin, end):
                wanted += min(car_needed_kwh[j], car_most_kw[:, j].sum() * step_h)
            served = min(served, wanted)
        served_kwh[h] = served


@kernel
def _absorbable(
    step_h: float,
    firm_kw: FloatArray,
    most_kw: FloatArray,
    demand_kw: FloatArray,
    ranks: IntArray,
    rank: int,
    first_car: IntArray,
    car_needed_kwh: FloatArray,
    car_most_kw: FloatArray,
    served_by_firm_kwh: FloatArray,
    sets: BoolArray,
    out: FloatArray,
) -> None:
    steps, count = firm_kw.shape
    more_by_firm, more_by_both = (demand_kw - firm_kw) * step_h, (demand_kw - most_kw) * step_h
    by_firm, by_both = np.zeros(count), np.zeros(count)
    for t in range(steps):
        _wait(by_firm, more_by_firm[t])
    for i in range(sets.shape[0]):
        by_both[:] = 0.0
        for t in range(steps):
            _wait(by_both, more_by_both[t] if sets[i, t] else more_by_firm[t])
        for h in range(count):
            if ranks[h] == rank and first_car[h] == first_car[h + 1]:
                out[i] += by_firm[h] - by_both[h]
    for h in range(count):
        if ranks[h] == rank and first_car[h] < first_car[h + 1]:
            _add_cars(
                h, first_car[h], first_car[h + 1], step_h, firm_kw, most_kw, car_needed_kwh, car_most_kw,
                served_by_firm_kwh[h], sets, out,
            )  # fmt: skip


@inner_kernel
def _wait(backlog_kwh: FloatArray, more_kwh: FloatArray) -> None:
    """Backlogs after a step; all hubs in one loop, which the compiler vectorises."""
    for h in range(backlog_kwh.shape[0]):
        backlog_kwh[h] = max(0.0, backlog_kwh[h] + more_kwh[h])


@kernel
def _add_cars(
    h: int,
    begin: int,
    end: int,
    step_h: float,
    firm_kw: FloatArray,
    most_kw: FloatArray,
    car_needed_kwh: FloatArray,
    car_most_kw: FloatArray,
    served_by_firm_kwh: float,
    sets: BoolArray,
    out: FloatArray,
) -> None:
    """Of a set of steps each car takes what it needs or can; all what the hub may, and what firm does not serve."""
    steps = firm_kw.shape[0]
    wanted = 0.0
    for j in range(begin, end):
        wanted += min(car_needed_kwh[j], car_most_kw[:, j].sum() * step_h)
    for i in range(sets.shape[0]):
        allowed, taken = 0.0, 0.0
        for t in range(steps):
            if sets[i, t]:
                allowed += (most_kw[t, h] - firm_kw[t, h]) * step_h
        for j in range(begin, end):
            inside = 0.0
            for t in range(steps):
                inside += car_most_kw[t, j] * step_h if sets[i, t] else 0.0
            taken += min(car_needed_kwh[j], inside)
        out[i] += min(allowed, taken, wanted - served_by_firm_kwh)
