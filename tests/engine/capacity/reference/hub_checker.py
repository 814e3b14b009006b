"""Checks what an allocation says of each hub: capacity, use, cars, currents and energy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linprog

from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationProblem
from evflex.engine.supply_tree import FloatArray, IntArray
from tests.engine.capacity.reference.twin import car_shares, cars_connected

_KW = 1e-6


def hub_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    """Everything wrong with the figures of hubs."""
    phase_kw, shares = drawn_phase_kw(problem, allocation), car_shares(problem)
    for h, hub in enumerate(problem.hubs):
        for told in (
            *_current_faults(problem, hub, allocation.capacity_kw[h], phase_kw[h], shares[h], allocation.evs_served[h]),
            *_capacity_faults(hub, allocation.capacity_kw[h], allocation.power_kw[h]),
            *_use_faults(problem, hub, allocation, h),
            *_car_faults(problem, hub, allocation, h),
            *_energy_faults(problem, hub, allocation, h),
        ):
            yield f"hub {h}, {told}"


def drawn_phase_kw(problem: AllocationProblem, allocation: Allocation) -> FloatArray:
    """Power of each hub on each phase as its currents say, (H, T, 3)."""
    drawn: FloatArray = allocation.current_a * problem.base.voltage_v / 1000.0
    return drawn


def shares_drawn(problem: AllocationProblem, allocation: Allocation) -> FloatArray:
    """Share of each hub on each phase as its currents say; without capacity that of all its cars, (H, T, 3)."""
    capacity = allocation.capacity_kw[:, :, None]
    drawn = drawn_phase_kw(problem, allocation)
    shares: FloatArray = np.where(capacity > 1e-9, drawn / np.maximum(capacity, 1e-9), car_shares(problem))
    return shares


def _current_faults(
    problem: AllocationProblem,
    hub: Hub,
    capacity: FloatArray,
    phase_kw: FloatArray,
    shares: FloatArray,
    served: IntArray,
) -> Iterator[str]:
    """Currents add up to the capacity, and are those of its cars: all alike, or whole cars that are fewer than all."""
    cars = cars_connected(problem, hub)
    scale = _KW * max(1.0, hub.max_kw)
    for k in np.flatnonzero(np.abs(phase_kw.sum(axis=1) - capacity) > scale).tolist()[:3]:
        yield f"step {k}: currents are not those of its capacity"
    for k in np.flatnonzero((np.abs(phase_kw - shares * capacity[:, None]) > scale).any(axis=1)).tolist():
        charging = phase_kw[k] * served[k] / max(capacity[k], 1e-9)
        whole = hub.phases_per_ev == 1 and served[k] < cars[k] and np.abs(charging - charging.round()).max() < 1e-6
        if not whole or (charging.round() > np.round(shares[k] * cars[k])).any():
            yield f"step {k}: currents are not those of its cars"


def most_kw(hub: Hub) -> FloatArray:
    """What agreement and connection can carry, (T,)."""
    return np.minimum(hub.firm_kw + hub.conditional_kw, hub.max_kw)


def car_limit_kw(problem: AllocationProblem, hub: Hub) -> FloatArray:
    """Most power of each car in each step, for the share of the step in which it is there, (n, T)."""
    begin = problem.grid.start_unix_s + problem.grid.step_s * np.arange(problem.grid.step_count)
    cars = hub.sessions
    arrive = np.maximum(cars.arrival_unix_s[:, None], begin)
    leave = np.minimum(cars.departure_unix_s[:, None], begin + problem.grid.step_s)
    present: FloatArray = np.clip((leave - arrive) / problem.grid.step_s, 0.0, 1.0)
    return cars.max_charge_kw[:, None] * present


def _capacity_faults(hub: Hub, capacity: FloatArray, power: FloatArray) -> Iterator[str]:
    scale = _KW * max(1.0, hub.max_kw)
    right = np.minimum(hub.firm_kw, hub.max_kw)
    least = hub.min_kw_per_ev
    for words, bad in (
        ("negative capacity", capacity < 0.0),
        ("negative power", power < -scale),
        ("more than agreement and connection", capacity > most_kw(hub) + scale),
        ("below the least power of a car", (capacity > scale) & (capacity < least - scale)),
        ("power above capacity", power > capacity + scale),
        ("capacity beyond right and use",
         capacity > np.maximum(np.maximum(right, hub.noticed_kw), np.where(power > scale, np.maximum(power, least), 0))
         + scale),
    ):  # fmt: skip
        for k in np.flatnonzero(bad).tolist()[:3]:
            yield f"step {k}: {words} (capacity {capacity[k]:.6g}, power {power[k]:.6g} kW)"


def _use_faults(problem: AllocationProblem, hub: Hub, allocation: Allocation, h: int) -> Iterator[str]:
    power, step_h = allocation.power_kw[h], problem.grid.step_h
    if not len(hub.sessions):
        early = np.cumsum(power - hub.demand_kw) * step_h > _KW * max(1.0, float(hub.demand_kw.sum()))
        for k in np.flatnonzero(early).tolist()[:3]:
            yield f"step {k}: uses more than was wanted by then"
        for k in np.flatnonzero((hub.connected_evs == 0) & (power > _KW)).tolist()[:3]:
            yield f"step {k}: uses {power[k]:.6g} kW with no car connected"
        return
    cars = allocation.session_power_kw[h]
    for words, bad in (
        ("negative power", cars < -_KW),
        ("power beyond its own or while absent", cars > car_limit_kw(problem, hub) + _KW),
    ):
        for i, k in np.argwhere(bad).tolist()[:3]:
            yield f"step {k}, car {i}: {words} ({cars[i, k]:.6g} kW)"
    energy = cars.sum(axis=1) * step_h
    for i in np.flatnonzero(energy > hub.sessions.energy_needed_kwh + 1e-6).tolist()[:3]:
        yield f"car {i}: gets {energy[i]:.6g} of {hub.sessions.energy_needed_kwh[i]:.6g} kWh"
    for k in np.flatnonzero(np.abs(cars.sum(axis=0) - power) > _KW * max(1.0, hub.max_kw)).tolist()[:3]:
        yield f"step {k}: cars draw {cars[:, k].sum():.6g}, the hub {power[k]:.6g} kW"


def _car_faults(problem: AllocationProblem, hub: Hub, allocation: Allocation, h: int) -> Iterator[str]:
    """Cars that can charge at once: as many as are there, as far as the capacity holds the least power of each."""
    served, capacity = allocation.evs_served[h], allocation.capacity_kw[h]
    there = (car_limit_kw(problem, hub) > 0.0).sum(axis=0) if len(hub.sessions) else hub.connected_evs
    for words, bad in (
        ("negative", served < 0),
        ("more than are there", (there >= 0) & (served > there)),
        ("more than the capacity holds", served * hub.min_kw_per_ev > capacity + _KW * max(1.0, hub.max_kw)),
        ("some without capacity", (capacity <= 0.0) & (served > 0)),
        ("none with capacity and cars", (capacity > _KW) & (there > 0) & (served == 0)),
    ):
        for k in np.flatnonzero(bad).tolist()[:3]:
            yield f"step {k}: evs_served {words} ({served[k]} of {there[k]} at {capacity[k]:.6g} kW)"


def _energy_faults(problem: AllocationProblem, hub: Hub, allocation: Allocation, h: int) -> Iterator[str]:
    wanted, served = float(allocation.wanted_kwh[h]), float(allocation.served_kwh[h])
    scale = 1e-6 * max(1.0, wanted)
    used = float(allocation.power_kw[h].sum()) * problem.grid.step_h
    if abs(served - used) > scale:
        yield f"served {served:.9g}, its power {used:.9g} kWh"
    if served > wanted + scale:
        yield f"served {served:.9g} of wanted {wanted:.9g} kWh"
    price = (wanted - served) * hub.curtailment_price_per_kwh
    if abs(price - float(allocation.compensation[h])) > 1e-6 * max(1.0, abs(price)):
        yield f"compensation {allocation.compensation[h]:.9g}, not {price:.9g}"
    most = most_usable_kwh(problem, hub)
    # Cars by laxity may miss a little of what a planner who knows all arrivals reaches.
    least = most if not len(hub.sessions) else 0.0
    if not least - scale <= wanted <= most + scale:
        yield f"wanted {wanted:.9g}, usable without limits {most:.9g} kWh"


def most_usable_kwh(problem: AllocationProblem, hub: Hub) -> float:
    """Energy that the hub can use if the transformer has no limits."""
    cap, step_h = most_kw(hub), problem.grid.step_h
    if not len(hub.sessions):
        backlog = total = 0.0
        for k in range(problem.grid.step_count):
            backlog += float(hub.demand_kw[k]) * step_h
            used = 0.0 if hub.connected_evs[k] == 0 else min(float(cap[k]) * step_h, backlog)
            backlog, total = backlog - used, total + used
        return total
    limit = car_limit_kw(problem, hub)
    cars, steps = np.nonzero(limit > 0.0)
    if not len(cars):
        return 0.0
    at = np.arange(len(cars))
    rows = np.zeros((len(hub.sessions) + problem.grid.step_count, len(cars)))
    rows[cars, at] = rows[len(hub.sessions) + steps, at] = step_h
    right = np.append(hub.sessions.energy_needed_kwh, cap * step_h)
    bounds = [(0.0, float(limit[i, k])) for i, k in zip(cars, steps, strict=True)]
    result = linprog(np.full(len(cars), -step_h), A_ub=rows, b_ub=right, bounds=bounds, method="highs")
    assert result.status == 0, result.message
    return float(np.asarray(result.x).sum()) * step_h
