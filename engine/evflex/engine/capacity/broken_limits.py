"""What a load breaks by itself."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.allocation import CapacityViolation
from evflex.engine.capacity.day_limits import Days
from evflex.engine.capacity.model import BindingReason
from evflex.engine.capacity.thermal import Temperatures
from evflex.engine.capacity.transformer import BaseLoad, Transformer
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.timegrid import TimeGrid

# A limit that is met to this share of it, or in K, is not broken: rounding of what was meant to meet it.
TOLERANCE = 1e-9


def broken_limits(
    grid: TimeGrid,
    transformer: Transformer,
    base: BaseLoad,
    contingency: BoolArray,
    n1_rated_kva: float,
    temperatures: Temperatures,
) -> tuple[CapacityViolation, ...]:
    """Every limit that is broken, by step; in a step loading first, then hot-spot, top oil and loss of life.

    A loss of life stands at the step in which the day's limit is passed, with the excess of the whole day.
    """
    found = [
        *_loading(transformer, base, contingency, n1_rated_kva),
        *_temperature(BindingReason.HOT_SPOT, temperatures.hot_spot_c, transformer.max_hot_spot_c),
        *_temperature(BindingReason.TOP_OIL, temperatures.max_top_oil_c, transformer.max_top_oil_c),
        *_loss_of_life(Days.of(grid), transformer.max_loss_of_life_h_per_day, temperatures.loss_of_life_h),
    ]
    # the sort is stable, so reasons and phases keep their order
    return tuple(sorted(found, key=lambda violation: violation.step))


def loading_caps(transformer: Transformer, contingency: BoolArray, n1_rated_kva: float) -> FloatArray:
    """Largest load over rated power in each step, (T,); in N-1 the smaller of both limits."""
    most = transformer.max_loading_ratio
    return np.where(contingency, min(most, n1_rated_kva / transformer.rated_kva), most)


def _loading(
    transformer: Transformer, base: BaseLoad, contingency: BoolArray, n1_rated_kva: float
) -> list[CapacityViolation]:
    ratio = 3.0 * np.hypot(base.phase_kw, base.phase_kvar) / transformer.rated_kva
    cap = loading_caps(transformer, contingency, n1_rated_kva)
    found = []
    for k, phase in np.argwhere(ratio > cap[:, None] * (1.0 + TOLERANCE)).tolist():
        excess = float(ratio[k, phase] - cap[k])
        if contingency[k]:
            limit = min(n1_rated_kva, transformer.max_loading_ratio * transformer.rated_kva)
            reason, excess = BindingReason.CONTINGENCY, excess * transformer.rated_kva
        else:
            reason, limit = BindingReason.LOADING_RATIO, transformer.max_loading_ratio
        found.append(CapacityViolation(k, reason, limit, excess, phase=phase + 1))
    return found


def _temperature(reason: BindingReason, values_c: FloatArray, limit_c: float) -> list[CapacityViolation]:
    steps = np.flatnonzero(values_c > limit_c + TOLERANCE).tolist()
    return [CapacityViolation(k, reason, limit_c, float(values_c[k] - limit_c)) for k in steps]


def _loss_of_life(days: Days, limit_h: float, lost_h: FloatArray) -> list[CapacityViolation]:
    if limit_h == np.inf:
        return []
    total, limits = days.sums(lost_h), days.limits_h(limit_h)
    found = []
    for day in np.flatnonzero(total > limits * (1.0 + TOLERANCE)).tolist():
        steps = np.flatnonzero(days.of_step == day)
        passed = np.cumsum(lost_h[steps]) > limits[day]
        step = int(steps[np.argmax(passed) if passed.any() else -1])
        limit = float(limits[day])
        found.append(CapacityViolation(step, BindingReason.LOSS_OF_LIFE, limit, float(total[day]) - limit))
    return found
