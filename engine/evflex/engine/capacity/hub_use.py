"""What a hub uses of what it gets in a step, and which of its cars."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Less power or energy than this is rounding.
LEAST_KW = 1e-9


def use_of_capacity(hubs: PreparedHubs, step_h: float, capacity_kw: FloatArray) -> FloatArray:
    """Power that hubs use when each may have a given capacity, (T, H)."""
    used_kw = np.zeros_like(capacity_kw)
    _use(
        step_h, capacity_kw, hubs.demand_kw, hubs.cars, hubs.min_kw, hubs.first_car, hubs.car_needed_kwh,
        hubs.car_most_kw, hubs.car_reach_kwh, used_kw,
    )  # fmt: skip
    return used_kw


@inner_kernel
def use(
    h: int,
    t: int,
    step_h: float,
    given_kw: float,
    min_kw: float,
    backlog_kwh: FloatArray,
    demand_kw: FloatArray,
    cars: IntArray,
    first_car: IntArray,
    car_left_kwh: FloatArray,
    car_most_kw: FloatArray,
    car_reach_kwh: FloatArray,
    car_kw: FloatArray,
) -> float:
    """Use of what hub h is given in step t; fills the cars' row of ``car_kw`` and moves nothing.

    Cars begin in order of laxity (time left less time needed): the minimum of each first, as far as it goes, then more.
    A car that needs less than the minimum to be full charges for a part of the step.
    """
    begin, end = first_car[h], first_car[h + 1]
    if begin == end:
        return min(given_kw, backlog_kwh[h] / step_h + demand_kw[t, h]) if cars[t, h] != 0 else 0.0
    laxity_h = np.empty(end - begin)
    for j in range(begin, end):
        slack = car_reach_kwh[t, j] - car_left_kwh[j]
        laxity_h[j - begin] = slack / car_most_kw[t, j] if car_most_kw[t, j] > 0.0 else np.inf
        car_kw[t, j] = 0.0
    order = argsort(laxity_h)
    left = given_kw
    for i in range(end - begin):
        j = begin + order[i]
        most = min(car_most_kw[t, j], car_left_kwh[j] / step_h)
        start = min(min_kw, most)
        if most > LEAST_KW and start <= left + LEAST_KW:
            car_kw[t, j] = min(start, left)
            left -= car_kw[t, j]
        elif most > LEAST_KW:
            break
    for i in range(end - begin):
        j = begin + order[i]
        if min_kw == 0.0 or car_kw[t, j] > 0.0:
            more = min(left, min(car_most_kw[t, j], car_left_kwh[j] / step_h) - car_kw[t, j])
            car_kw[t, j] += more
            left -= more
    return given_kw - left


@inner_kernel
def settle(
    h: int,
    t: int,
    step_h: float,
    used_kw: float,
    backlog_kwh: FloatArray,
    demand_kw: FloatArray,
    first_car: IntArray,
    car_left_kwh: FloatArray,
    car_kw: FloatArray,
) -> None:
    """Take what hub h used in step t from what it still wants."""
    if first_car[h] == first_car[h + 1]:
        backlog_kwh[h] = max(0.0, backlog_kwh[h] + (demand_kw[t, h] - used_kw) * step_h)
    for j in range(first_car[h], first_car[h + 1]):
        car_left_kwh[j] = max(0.0, car_left_kwh[j] - car_kw[t, j] * step_h)


@kernel
def _use(
    step_h: float,
    capacity_kw: FloatArray,
    demand_kw: FloatArray,
    cars: IntArray,
    min_kw: FloatArray,
    first_car: IntArray,
    car_needed_kwh: FloatArray,
    car_most_kw: FloatArray,
    car_reach_kwh: FloatArray,
    used_kw: FloatArray,
) -> None:
    steps, count = capacity_kw.shape
    backlog_kwh, car_left_kwh = np.zeros(count), car_needed_kwh.copy()
    car_kw = np.zeros(car_most_kw.shape)
    for t in range(steps):
        for h in range(count):
            used_kw[t, h] = use(
                h, t, step_h, capacity_kw[t, h], min_kw[h], backlog_kwh, demand_kw, cars, first_car, car_left_kwh,
                car_most_kw, car_reach_kwh, car_kw,
            )  # fmt: skip
            settle(h, t, step_h, used_kw[t, h], backlog_kwh, demand_kw, first_car, car_left_kwh, car_kw)
