"""The transformer once more, written from the standard and the contract; shares no code with the engine.

Loads are apparent power phase by phase, temperatures the difference equations of IEC 60076-7 (8.2.3) in their original
form, one inner step after the other. All functions take any number of trajectories at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationProblem, BindingReason
from evflex.engine.capacity.transformer import InsulationPaper, ThermalParameters
from evflex.engine.supply_tree import BoolArray, FloatArray, PhaseConnection

_PHASES_OF = {
    PhaseConnection.L1: (0,), PhaseConnection.L2: (1,), PhaseConnection.L3: (2,), PhaseConnection.L1_L2: (0, 1),
    PhaseConnection.L2_L3: (1, 2), PhaseConnection.L3_L1: (0, 2), PhaseConnection.L1_L2_L3: (0, 1, 2),
}  # fmt: skip


def phase_shares(hubs: tuple[Hub, ...]) -> FloatArray:
    """Share of each hub's power on L1, L2, L3, (H, 3): evenly over the phases it is connected to."""
    shares = np.zeros((len(hubs), 3))
    for h, hub in enumerate(hubs):
        for f in _PHASES_OF[PhaseConnection(hub.phases)]:
            shares[h, f] = 1.0 / len(_PHASES_OF[PhaseConnection(hub.phases)])
    return shares


def car_shares(problem: AllocationProblem) -> FloatArray:
    """Share of each hub's power on L1, L2, L3 when all its cars charge alike, (H, T, 3).

    Cars on one phase each are spread over the hub's phases in turn, so the first phases have one more.
    """
    steps = problem.grid.step_count
    shares = np.repeat(phase_shares(problem.hubs)[:, None, :], steps, axis=1)
    for h, hub in enumerate(problem.hubs):
        phases = _PHASES_OF[PhaseConnection(hub.phases)]
        if hub.phases_per_ev != 1:
            continue
        for k, cars in enumerate(cars_connected(problem, hub)):
            if cars > 0:
                shares[h, k] = [sum(1 for i in range(cars) if phases[i % len(phases)] == f) / cars for f in range(3)]
    return shares


def cars_connected(problem: AllocationProblem, hub: Hub) -> list[int]:
    """Cars of a hub in each step, -1 where that is not known."""
    if not len(hub.sessions):
        return [int(count) for count in hub.connected_evs]
    begin = problem.grid.start_unix_s + problem.grid.step_s * np.arange(problem.grid.step_count)
    return [
        int(((hub.sessions.arrival_unix_s < b + problem.grid.step_s) & (hub.sessions.departure_unix_s > b)).sum())
        for b in begin
    ]


def phase_kva(problem: AllocationProblem, hub_kw: FloatArray, shares: FloatArray | None = None) -> FloatArray:
    """Apparent power of each phase, (..., T, 3), under powers of hubs, (..., H, T), with shares of phases, (H, T, 3).

    Without shares, powers are spread evenly over the phases of each hub.
    """
    if shares is None:
        shares = np.repeat(phase_shares(problem.hubs)[:, None, :], problem.grid.step_count, axis=1)
    extra = np.einsum("...ht,htf->...tf", hub_kw, shares)
    kva: FloatArray = np.sqrt((problem.base.phase_kw + extra) ** 2 + problem.base.phase_kvar**2)
    return kva


def phase_limit_kva(problem: AllocationProblem, contingency: BoolArray | None = None) -> FloatArray:
    """Largest apparent power of a phase in each step, (T,)."""
    condition = problem.contingency if contingency is None else contingency
    normal = problem.transformer.max_loading_ratio * problem.transformer.rated_kva
    return np.where(condition, min(problem.n1_rated_kva, normal), normal) / 3.0


@dataclass(frozen=True, slots=True)
class Heat:
    """Temperatures at the end of each inner step, (..., T, n), loss of life in each step, (..., T), and the end."""

    top_oil_c: FloatArray
    hot_spot_c: FloatArray
    loss_of_life_h: FloatArray
    winding_gradient_c: FloatArray
    oil_gradient_c: FloatArray

    @property
    def final_state(self) -> FloatArray:
        """Top oil, winding gradient, oil gradient at the end, (..., 3)."""
        rows = (self.top_oil_c, self.winding_gradient_c, self.oil_gradient_c)
        return np.stack([row[..., -1, -1] for row in rows], axis=-1)


def inner_steps(thermal: ThermalParameters, step_s: float) -> int:
    """Inner steps: a minute at most, and half of each time constant."""
    constants = (
        thermal.k11 * thermal.oil_time_constant_min, thermal.k22 * thermal.winding_time_constant_min,
        thermal.oil_time_constant_min / thermal.k22,
    )  # fmt: skip
    longest_min = min(1.0, *(0.5 * constant for constant in constants))
    return max(1, math.ceil(step_s / 60.0 / longest_min - 1e-9))


def heat(problem: AllocationProblem, loading_ratio: FloatArray) -> Heat:
    """Temperatures under loading ratios, (..., T); from the given state, or settled at the first step's base load."""
    transformer, thermal, step_s = problem.transformer, problem.transformer.thermal, problem.grid.step_s
    count = inner_steps(thermal, step_s)
    inner_min = step_s / 60.0 / count
    shape = (*loading_ratio.shape[:-1], problem.grid.step_count)
    oil, first, second = (np.broadcast_to(value, shape[:-1]).copy() for value in start(problem))
    top_oil, winding, gradient = np.empty((*shape, count)), np.empty((*shape, count)), np.empty((*shape, count))
    for k in range(problem.grid.step_count):
        rise, steady = steady_rises(thermal, loading_ratio[..., k])
        for i in range(count):
            oil += inner_min / (thermal.k11 * thermal.oil_time_constant_min) * (rise + transformer.ambient_c[k] - oil)
            first += inner_min / (thermal.k22 * thermal.winding_time_constant_min) * (thermal.k21 * steady - first)
            second += inner_min / (thermal.oil_time_constant_min / thermal.k22) * ((thermal.k21 - 1) * steady - second)
            top_oil[..., k, i], winding[..., k, i], gradient[..., k, i] = oil, first, second
    hot_spot = top_oil + winding - gradient
    lost = ageing(hot_spot, transformer.paper).sum(axis=-1) * inner_min / 60.0
    return Heat(top_oil, hot_spot, lost, winding, gradient)


def start(problem: AllocationProblem) -> tuple[float, float, float]:
    """Top oil, winding gradient and oil gradient at the beginning."""
    given, thermal = problem.transformer.initial_state, problem.transformer.thermal
    if given is not None:
        return given.top_oil_c, given.winding_gradient_c, given.oil_gradient_c
    nothing = np.zeros((len(problem.hubs), problem.grid.step_count))
    rise, steady = steady_rises(thermal, loading_ratio(problem, nothing)[0])
    ambient = float(problem.transformer.ambient_c[0])
    return ambient + float(rise), thermal.k21 * float(steady), (thermal.k21 - 1.0) * float(steady)


def steady_rises(thermal: ThermalParameters, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Top-oil rise and hot-spot gradient that a loading ratio settles at."""
    losses = (1.0 + ratio**2 * thermal.loss_ratio) / (1.0 + thermal.loss_ratio)
    return thermal.top_oil_rise_k * losses**thermal.oil_exponent, (
        thermal.hot_spot_gradient_k * ratio**thermal.winding_exponent
    )


def ageing(hot_spot_c: FloatArray, paper: InsulationPaper) -> FloatArray:
    """Relative ageing rate (6.3): Montsinger for normal paper, Arrhenius for upgraded paper."""
    if paper == InsulationPaper.THERMALLY_UPGRADED:
        return np.exp(15000.0 / (110.0 + 273.0) - 15000.0 / (hot_spot_c + 273.0))
    return np.power(2.0, (hot_spot_c - 98.0) / 6.0)


def loading_ratio(problem: AllocationProblem, hub_kw: FloatArray) -> FloatArray:
    """Three times the most loaded phase over rated power, (..., T)."""
    ratio: FloatArray = 3.0 * phase_kva(problem, hub_kw).max(axis=-1) / problem.transformer.rated_kva
    return ratio


def day_of_step(problem: AllocationProblem) -> FloatArray:
    """Day of each step, counted in 24 hours from the start of the grid, (T,)."""
    return np.floor(np.arange(problem.grid.step_count) * problem.grid.step_s / 86_400.0 + 1e-9)


@dataclass(frozen=True, slots=True)
class Stress:
    """What is limited, with its limits: one column a step, loss of life added up within each day.

    Attributes:
        phase_kva: (..., T, 3), beside ``phase_limit_kva``, (T,).
        phase_limit_kva: Largest apparent power of a phase.
        hot_spot_c: Largest within each step, (..., T).
        top_oil_c: Largest within each step, (..., T).
        day_loss_h: Loss of life of the day that a step belongs to, (..., T).
        day_limit_h: Largest loss of life of that day, (T,).
        heat: Temperatures in detail.
    """

    phase_kva: FloatArray
    phase_limit_kva: FloatArray
    hot_spot_c: FloatArray
    top_oil_c: FloatArray
    day_loss_h: FloatArray
    day_limit_h: FloatArray
    heat: Heat


def stress(
    problem: AllocationProblem,
    hub_kw: FloatArray,
    contingency: BoolArray | None = None,
    shares: FloatArray | None = None,
) -> Stress:
    """What powers of hubs, (..., H, T), do to the transformer; shares of phases as in :func:`phase_kva`."""
    kva = phase_kva(problem, hub_kw, shares)
    warm = heat(problem, 3.0 * kva.max(axis=-1) / problem.transformer.rated_kva)
    day = day_of_step(problem)
    same_day = (day[:, None] == day[None, :]).astype(float)
    day_hours = same_day.sum(axis=1) * problem.grid.step_s / 3600.0
    limit = problem.transformer.max_loss_of_life_h_per_day * day_hours / 24.0
    return Stress(
        kva, phase_limit_kva(problem, contingency), warm.hot_spot_c.max(axis=-1), warm.top_oil_c.max(axis=-1),
        warm.loss_of_life_h @ same_day, limit, warm,
    )  # fmt: skip


def excesses(problem: AllocationProblem, found: Stress) -> dict[BindingReason, FloatArray]:
    """How far each limit is broken (negative: kept), (..., T): ratio, kVA, °C or hours as violations state them."""
    transformer = problem.transformer
    over = 3.0 * (found.phase_kva.max(axis=-1) - found.phase_limit_kva)
    return {
        BindingReason.LOADING_RATIO: np.where(problem.contingency, -np.inf, over / transformer.rated_kva),
        BindingReason.CONTINGENCY: np.where(problem.contingency, over, -np.inf),
        BindingReason.HOT_SPOT: found.hot_spot_c - transformer.max_hot_spot_c,
        BindingReason.TOP_OIL: found.top_oil_c - transformer.max_top_oil_c,
        BindingReason.LOSS_OF_LIFE: found.day_loss_h - found.day_limit_h,
    }
