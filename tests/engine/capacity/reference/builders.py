"""Allocations built by hand from capacities and powers, everything else worked out by the twin."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from tests.engine.capacity.reference.hub_checker import car_limit_kw, most_usable_kwh
from tests.engine.capacity.reference.twin import phase_shares, stress


def allocation_of(
    problem: AllocationProblem,
    power_kw: FloatArray,
    *,
    capacity_kw: FloatArray | None = None,
    session_power_kw: tuple[FloatArray, ...] | None = None,
    binding: list[tuple[int, int, int]] | None = None,
) -> Allocation:
    """The allocation of given powers, (H, T), sound where they are; cars of a hub share its power as they come.

    Args:
        problem: What was asked.
        power_kw: Use of each hub.
        capacity_kw: The larger of use and firm right, unless given.
        session_power_kw: Power of each car; none where hubs have no cars.
        binding: Rows of step, hub, reason.
    """
    firm = np.array([np.minimum(hub.firm_kw, hub.max_kw) for hub in problem.hubs])
    capacity = np.maximum(firm, power_kw) if capacity_kw is None else capacity_kw
    found = stress(problem, capacity)
    amps = capacity[:, :, None] * phase_shares(problem.hubs)[:, None, :] * 1000.0 / problem.base.voltage_v
    wanted = np.array([most_usable_kwh(problem, hub) for hub in problem.hubs])
    served = power_kw.sum(axis=1) * problem.grid.step_h
    price = np.array([hub.curtailment_price_per_kwh for hub in problem.hubs])
    compensation = (wanted - served) * price
    ratio = served[wanted > 0.0] / wanted[wanted > 0.0]
    cost = problem.policy == AllocationPolicy.LEAST_COST
    objective = float(compensation.sum() if cost else (wanted - served).sum())
    nothing = np.zeros(problem.grid.step_count)
    cars = tuple(np.zeros((len(hub.sessions), problem.grid.step_count)) for hub in problem.hubs)
    rows: IntArray = np.array(binding or [], dtype=np.int64).reshape(-1, 3)
    return Allocation(
        capacity, power_kw, amps, _evs_served(problem, capacity), wanted, served, compensation,
        cars if session_power_kw is None else session_power_kw,
        3.0 * found.phase_kva.max(axis=-1) / problem.transformer.rated_kva, found.heat.top_oil_c[:, -1],
        found.hot_spot_c, found.heat.loss_of_life_h, nothing, nothing,
        ThermalState(*found.heat.final_state.tolist()),
        float(ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum())) if ratio.any() else 1.0, rows, (),
        Termination(TerminationReason.FEASIBLE, StoppedBy.NOTHING, objective, 0.0, objective, 1.0, 0.0, "by hand", ""),
    )  # fmt: skip


def _evs_served(problem: AllocationProblem, capacity_kw: FloatArray) -> IntArray:
    served = np.zeros(capacity_kw.shape, dtype=np.int64)
    for h, hub in enumerate(problem.hubs):
        there = (car_limit_kw(problem, hub) > 0.0).sum(axis=0) if len(hub.sessions) else hub.connected_evs
        held = np.floor(capacity_kw[h] / max(hub.min_kw_per_ev, 1e-3) + 1e-9).astype(np.int64)
        served[h] = np.where(there >= 0, np.minimum(there, held), held)
    return served
