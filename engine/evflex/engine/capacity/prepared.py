"""Hubs as kernels read them: dense arrays, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem, BindingReason
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import ACTIVE, BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

# Of a hub's connection: what is wanted beyond it is rounding that plans leave behind.
_LEAST_RATIO = 2e-5


@dataclass(frozen=True, slots=True)
class PreparedHubs:
    """What hubs want and may have.

    Attributes:
        firm_kw: Power that is reserved first: the firm right, at most the connection, (T, H).
        right_kw: Capacity that a hub keeps though it does not use it: the same, (T, H).
        most_kw: Firm and conditional capacity, at most the connection, (T, H).
        limited_by: Whether that is AGREEMENT or HUB_LIMIT, a :class:`BindingReason`, (T, H).
        demand_kw: Power wanted anew in each step; 0 with cars one by one, (T, H).
        cars: Cars connected, ``ANY_COUNT`` where that is not known, (T, H).
        waitable_kwh: Backlog after a step that costs nothing, because the hub alone could still clear it, (T, H).
        may_insist: Whether a hub is given first what it would lose by waiting, (T, H).
        spares: Whether hubs get conditional capacity only for what cannot wait, (T,).
        noticed_kw: Capacity that notice protects, (T, H).
        min_kw: Least power of a car, (H,).
        least_kw: Less power than this is not wanted, and no lack, (H,).
        weight: For WEIGHTED_PROPORTIONAL_FAIR, (H,).
        rank: Class for PRIORITY and LEAST_COST, 0 first, (H,).
        phase_share: Share of a hub's power on each phase, its connected cars charging alike, (T, H, 3).
        on_phase: Phases that a hub is connected to, 1 or 0, (H, 3).
        spread: Hubs whose cars use one phase each, spread over several, (H,).
        first_car: Cars of hub h are first_car[h] to first_car[h + 1], (H + 1,).
        car_needed_kwh: Energy wanted by each car, (S,).
        car_most_kw: Largest mean power of a car in a step, 0 where it is not there, (T, S).
        car_reach_kwh: What a car could take from a step on, (T + 1, S).
        car_waitable_kwh: Energy still needed after a step that costs nothing, (T, S).
    """

    firm_kw: FloatArray
    right_kw: FloatArray
    most_kw: FloatArray
    limited_by: IntArray
    demand_kw: FloatArray
    cars: IntArray
    waitable_kwh: FloatArray
    may_insist: BoolArray
    spares: BoolArray
    noticed_kw: FloatArray
    min_kw: FloatArray
    least_kw: FloatArray
    weight: FloatArray
    rank: IntArray
    phase_share: FloatArray
    on_phase: FloatArray
    spread: BoolArray
    first_car: IntArray
    car_needed_kwh: FloatArray
    car_most_kw: FloatArray
    car_reach_kwh: FloatArray
    car_waitable_kwh: FloatArray


def prepare_hubs(problem: AllocationProblem) -> PreparedHubs:
    """Dense arrays of a valid problem's hubs."""
    grid, hubs = problem.grid, problem.hubs
    steps, count = grid.step_count, len(hubs)
    max_kw = np.array([hub.max_kw for hub in hubs], dtype=np.float64)
    firm_kw = np.minimum(np.stack([hub.firm_kw for hub in hubs], axis=1), max_kw)
    conditional_kw = np.stack([hub.conditional_kw for hub in hubs], axis=1)
    most_kw = np.minimum(firm_kw + conditional_kw, max_kw)
    by_agreement = firm_kw + conditional_kw < max_kw
    cars = np.empty((steps, count), dtype=np.int64)
    demand_kw = np.zeros((steps, count))
    first_car = np.zeros(count + 1, dtype=np.int64)
    car_rows = []
    for h, hub in enumerate(hubs):
        first_car[h + 1] = first_car[h] + len(hub.sessions)
        if len(hub.sessions):
            there = grid.presence_ratio(hub.sessions.arrival_unix_s, hub.sessions.departure_unix_s)
            cars[:, h] = (there > 0.0).sum(axis=0)
            car_rows.append(there * hub.sessions.max_charge_kw[:, None])
        else:
            demand_kw[:, h] = hub.demand_kw
            cars[:, h] = hub.connected_evs
    car_most_kw = np.ascontiguousarray(np.concatenate(car_rows).T) if car_rows else np.zeros((steps, 0))
    needed = [hub.sessions.energy_needed_kwh for hub in hubs]
    car_reach_kwh = _reach_kwh(car_most_kw, grid)
    on_phase = np.array([ACTIVE[hub.phases] for hub in hubs])
    spread = np.array([hub.phases_per_ev == 1 and ACTIVE[hub.phases].sum() > 1 for hub in hubs])
    return PreparedHubs(
        firm_kw=firm_kw,
        right_kw=firm_kw,
        most_kw=most_kw,
        limited_by=np.where(by_agreement, int(BindingReason.AGREEMENT), int(BindingReason.HUB_LIMIT)),
        demand_kw=demand_kw,
        cars=cars,
        waitable_kwh=_waitable_kwh(np.where(cars == 0, 0.0, most_kw) * grid.step_h, demand_kw * grid.step_h),
        may_insist=np.ones((steps, count), dtype=np.bool_),
        spares=np.zeros(steps, dtype=np.bool_),
        noticed_kw=np.ascontiguousarray(np.stack([hub.noticed_kw for hub in hubs], axis=1)),
        min_kw=np.array([hub.min_kw_per_ev for hub in hubs], dtype=np.float64),
        least_kw=_LEAST_RATIO * np.maximum(1.0, max_kw),
        weight=np.array([hub.weight for hub in hubs], dtype=np.float64),
        rank=class_rank(hubs, problem.policy),
        phase_share=_phase_share(cars, on_phase, spread),
        on_phase=on_phase,
        spread=spread,
        first_car=first_car,
        car_needed_kwh=np.concatenate(needed),
        car_most_kw=car_most_kw,
        car_reach_kwh=car_reach_kwh,
        car_waitable_kwh=car_reach_kwh[1:],
    )


def class_rank(hubs: tuple[Hub, ...], policy: AllocationPolicy) -> IntArray:
    """Class of each hub, 0 served first: by falling priority or curtailment price, one class with other policies."""
    if policy == AllocationPolicy.PRIORITY:
        keys = np.array([-float(hub.priority) for hub in hubs])
    elif policy == AllocationPolicy.LEAST_COST:
        keys = np.array([-hub.curtailment_price_per_kwh for hub in hubs])
    else:
        keys = np.zeros(len(hubs))
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


def _reach_kwh(car_most_kw: FloatArray, grid: TimeGrid) -> FloatArray:
    reach = np.zeros((car_most_kw.shape[0] + 1, car_most_kw.shape[1]))
    reach[:-1] = np.cumsum(car_most_kw[::-1], axis=0)[::-1] * grid.step_h
    return reach


def _phase_share(cars: IntArray, on_phase: FloatArray, spread: BoolArray) -> FloatArray:
    """Even over a hub's phases; where cars are spread over them in turn, by the cars on each."""
    steps, count = cars.shape
    even = on_phase / on_phase.sum(axis=1, keepdims=True)
    share = np.broadcast_to(even, (steps, count, 3)).copy()
    for h in np.flatnonzero(spread):
        phases = np.flatnonzero(on_phase[h])
        known = cars[:, h] > 0
        for place, phase in enumerate(phases):
            on_this = (cars[known, h] + len(phases) - 1 - place) // len(phases)
            share[known, h, phase] = on_this / cars[known, h]
    return share


@kernel
def _waitable_kwh(most_kwh: FloatArray, demand_kwh: FloatArray) -> FloatArray:
    """Backlog after each step that is gone by the end, negative where part of the next demand is lost too, (T, H)."""
    steps, count = most_kwh.shape
    waitable = np.zeros((steps, count))
    for t in range(steps - 2, -1, -1):
        for h in range(count):
            waitable[t, h] = max(0.0, waitable[t + 1, h]) + most_kwh[t + 1, h] - demand_kwh[t + 1, h]
    return waitable
