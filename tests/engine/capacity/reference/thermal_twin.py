"""The difference equations of IEC 60076-7 as the standard writes them, one inner step after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from evflex.engine.capacity import model
from evflex.engine.capacity.transformer import ThermalParameters, ThermalState


@dataclass
class Twin:
    """What a load does: largest and last temperatures of each step, and hours lost in it."""

    top_oil_c: list[float] = field(default_factory=list)
    max_top_oil_c: list[float] = field(default_factory=list)
    hot_spot_c: list[float] = field(default_factory=list)
    loss_of_life_h: list[float] = field(default_factory=list)
    state: ThermalState = field(default_factory=lambda: ThermalState(0.0, 0.0, 0.0))


def steady(p: ThermalParameters, load: float, ambient_c: float) -> ThermalState:
    rise = p.top_oil_rise_k * ((1 + load**2 * p.loss_ratio) / (1 + p.loss_ratio)) ** p.oil_exponent
    gradient = p.hot_spot_gradient_k * load**p.winding_exponent
    return ThermalState(ambient_c + rise, p.k21 * gradient, (p.k21 - 1) * gradient)


def ageing(hot_spot_c: float, upgraded: bool) -> float:
    if upgraded:
        return math.exp(15000 / (110 + 273) - 15000 / (hot_spot_c + 273))
    return 2 ** ((hot_spot_c - 98) / 6)


def simulate(
    p: ThermalParameters,
    step_min: float,
    loads: Sequence[float],
    ambients_c: Sequence[float],
    start: ThermalState,
    upgraded: bool = False,
) -> Twin:
    shortest = min(
        p.k11 * p.oil_time_constant_min, p.k22 * p.winding_time_constant_min, p.oil_time_constant_min / p.k22
    )
    inner = math.ceil(step_min / min(1.0, shortest / 2) - 1e-9)
    dt = step_min / inner
    twin = Twin()
    oil, h1, h2 = start.top_oil_c, start.winding_gradient_c, start.oil_gradient_c
    for load, ambient in zip(loads, ambients_c, strict=True):
        most_oil = most_hot = -math.inf
        lost = 0.0
        for _ in range(inner):
            rise = ((1 + load**2 * p.loss_ratio) / (1 + p.loss_ratio)) ** p.oil_exponent * p.top_oil_rise_k
            oil += dt / (p.k11 * p.oil_time_constant_min) * (rise - (oil - ambient))
            h1 += (
                dt
                / (p.k22 * p.winding_time_constant_min)
                * (p.k21 * p.hot_spot_gradient_k * load**p.winding_exponent - h1)
            )
            h2 += (
                dt
                / (p.oil_time_constant_min / p.k22)
                * ((p.k21 - 1) * p.hot_spot_gradient_k * load**p.winding_exponent - h2)
            )
            hot = oil + h1 - h2
            most_oil, most_hot = max(most_oil, oil), max(most_hot, hot)
            lost += ageing(hot, upgraded) * dt / 60
        twin.top_oil_c.append(oil)
        twin.max_top_oil_c.append(most_oil)
        twin.hot_spot_c.append(most_hot)
        twin.loss_of_life_h.append(lost)
    twin.state = ThermalState(oil, h1, h2)
    return twin


def broken(
    problem: model.RatingProblem, extra_kva: Sequence[float], in_n1: bool = False
) -> list[tuple[int, str, float]]:
    """Limits that the load breaks with balanced extra load at unity power factor: step, name and excess."""
    transformer, base = problem.transformer, problem.base
    rated, steps = transformer.rated_kva, problem.grid.step_count
    found: list[tuple[int, str, float]] = []
    loads = []
    for k in range(steps):
        phases = [
            3 * math.hypot(float(base.phase_kw[k, f]) + extra_kva[k] / 3, float(base.phase_kvar[k, f]))
            for f in range(3)
        ]
        loads.append(max(phases) / rated)
        n1 = in_n1 or bool(problem.contingency[k])
        normal = transformer.max_loading_ratio * rated
        limit = min(problem.n1_rated_kva, normal) if n1 else normal
        if max(phases) > limit * (1 + 1e-9):
            found.append((k, "loading", max(phases) - limit))
    first = max(3 * math.hypot(float(base.phase_kw[0, f]), float(base.phase_kvar[0, f])) for f in range(3)) / rated
    start = transformer.initial_state or steady(transformer.thermal, first, float(transformer.ambient_c[0]))
    step_min = problem.grid.step_s / 60
    upgraded = transformer.paper == 2
    twin = simulate(transformer.thermal, step_min, loads, transformer.ambient_c.tolist(), start, upgraded)
    days: dict[int, list[float]] = {}
    for k in range(steps):
        if twin.hot_spot_c[k] > transformer.max_hot_spot_c + 1e-9:
            found.append((k, "hot_spot", twin.hot_spot_c[k] - transformer.max_hot_spot_c))
        if twin.max_top_oil_c[k] > transformer.max_top_oil_c + 1e-9:
            found.append((k, "top_oil", twin.max_top_oil_c[k] - transformer.max_top_oil_c))
        day = math.floor(k * step_min / 1440 + 1e-9)
        lost, hours = days.get(day, [0.0, 0.0])
        days[day] = [lost + twin.loss_of_life_h[k], hours + step_min / 60]
    for day, (lost, hours) in days.items():
        limit = transformer.max_loss_of_life_h_per_day * hours / 24
        if lost > limit * (1 + 1e-9):
            last = min(steps, math.ceil(24 * (day + 1) / (step_min / 60) - 1e-9)) - 1
            found.append((last, "loss_of_life", lost - limit))
    return found
