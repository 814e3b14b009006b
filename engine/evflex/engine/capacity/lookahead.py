"""Whether a transformer that carries a load now stays within its limits now and later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.day_limits import day_of
from evflex.engine.capacity.thermal import ageing_rate, targets
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray

# As BindingReason has them; 0 is within all limits.
WITHIN, HOT_SPOT, TOP_OIL, LOSS_OF_LIFE = 0, 3, 4, 5
# Halvings that find the largest load within the limits: to 1e-8 of the load that is not.
_HALVINGS = 27
# What a plan that is at a limit may be above it when it is worked out again.
_ROUNDING_K = 5e-10


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of temperatures and ageing.

    Attributes:
        hot_spot_c: In each step, (T,).
        top_oil_c: In each step, (T,).
        life_h: Loss of life in each day; infinite where there is no limit, (days,).
    """

    hot_spot_c: FloatArray
    top_oil_c: FloatArray
    life_h: FloatArray


@dataclass(frozen=True, slots=True)
class LaterLoad:
    """What comes after a step whatever is decided: temperatures that oil and winding tend to.

    Attributes:
        oil_target_c: Top-oil temperature that the load of each step would settle at, (T,).
        gradient_k: Hot-spot gradient that it would settle at, before k21, (T,).
    """

    oil_target_c: FloatArray
    gradient_k: FloatArray


@kernel
def largest_loading(
    constants: FloatArray,
    inner_count: int,
    inner_h: float,
    upgraded: bool,
    steps_per_day: float,
    t: int,
    loading_ratio: float,
    top_oil_c: float,
    winding_k: float,
    gradient_k: float,
    lost_today_h: float,
    ambient_c: FloatArray,
    hot_spot_limit_c: FloatArray,
    top_oil_limit_c: FloatArray,
    later_hot_spot_limit_c: FloatArray,
    later_top_oil_limit_c: FloatArray,
    life_limit_h: FloatArray,
    later_oil_target_c: FloatArray,
    later_gradient_k: FloatArray,
    horizon: int,
) -> tuple[float, int]:
    """The largest load of step t, at most ``loading_ratio``, that breaks no limit, and what limits it.

    The warmer the transformer is, the warmer it stays, so what a load breaks every larger one breaks. Arguments as of
    :func:`broken_limit`.
    """
    limited_by = broken_limit(
        constants, inner_count, inner_h, upgraded, steps_per_day, t, loading_ratio, top_oil_c, winding_k, gradient_k,
        lost_today_h, ambient_c, hot_spot_limit_c, top_oil_limit_c, later_hot_spot_limit_c, later_top_oil_limit_c,
        life_limit_h, later_oil_target_c, later_gradient_k, horizon,
    )  # fmt: skip
    if limited_by == WITHIN:
        return loading_ratio, WITHIN
    lower, upper = 0.0, loading_ratio
    for _ in range(_HALVINGS):
        middle = 0.5 * (lower + upper)
        broken = broken_limit(
            constants, inner_count, inner_h, upgraded, steps_per_day, t, middle, top_oil_c, winding_k, gradient_k,
            lost_today_h, ambient_c, hot_spot_limit_c, top_oil_limit_c, later_hot_spot_limit_c,
            later_top_oil_limit_c, life_limit_h, later_oil_target_c, later_gradient_k, horizon,
        )  # fmt: skip
        if broken == WITHIN:
            lower = middle
        else:
            upper, limited_by = middle, broken
    return lower, limited_by


@kernel
def broken_limit(
    constants: FloatArray,
    inner_count: int,
    inner_h: float,
    upgraded: bool,
    steps_per_day: float,
    t: int,
    loading_ratio: float,
    top_oil_c: float,
    winding_k: float,
    gradient_k: float,
    lost_today_h: float,
    ambient_c: FloatArray,
    hot_spot_limit_c: FloatArray,
    top_oil_limit_c: FloatArray,
    later_hot_spot_limit_c: FloatArray,
    later_top_oil_limit_c: FloatArray,
    life_limit_h: FloatArray,
    later_oil_target_c: FloatArray,
    later_gradient_k: FloatArray,
    horizon: int,
) -> int:
    """The limit that step t at a load, followed by the later load, would break first; ``WITHIN`` for none.

    Args:
        constants: Of the transformer, see :class:`ThermalConstants`.
        inner_count: Inner steps in a step.
        inner_h: Length of an inner step in hours.
        upgraded: Whether the paper is thermally upgraded.
        steps_per_day: Steps in 24 hours.
        t: Step.
        loading_ratio: Load of step t over rated power.
        top_oil_c: State before step t.
        winding_k: As above.
        gradient_k: As above.
        lost_today_h: Loss of life in this day before step t.
        ambient_c: (T,).
        hot_spot_limit_c: For step t, (T,).
        top_oil_limit_c: As above.
        later_hot_spot_limit_c: For the steps after t, (T,).
        later_top_oil_limit_c: As above.
        life_limit_h: In each day, (days,).
        later_oil_target_c: See :class:`LaterLoad`.
        later_gradient_k: See :class:`LaterLoad`.
        horizon: Steps to look ahead; what is decided now has no weight after them.
    """
    k21, oil_keep, winding_keep, gradient_keep = constants[5], constants[6], constants[7], constants[8]
    counts_life = life_limit_h[0] < np.inf
    lost_h, today = lost_today_h, day_of(t, steps_per_day)
    last = min(ambient_c.shape[0], t + 1 + horizon)
    for s in range(t, last):
        if s == t:
            rise, hot_spot_gradient = targets(
                constants[0], constants[1], constants[2], constants[3], constants[4], loading_ratio
            )
            oil_target = ambient_c[t] + rise
            most_hot_spot, most_oil = hot_spot_limit_c[t], top_oil_limit_c[t]
        else:
            oil_target, hot_spot_gradient = later_oil_target_c[s], later_gradient_k[s]
            most_hot_spot, most_oil = later_hot_spot_limit_c[s], later_top_oil_limit_c[s]
        winding_target, gradient_target = k21 * hot_spot_gradient, (k21 - 1.0) * hot_spot_gradient
        if counts_life and day_of(s, steps_per_day) != today:
            lost_h, today = 0.0, day_of(s, steps_per_day)
        for _ in range(inner_count):
            top_oil_c = oil_target + oil_keep * (top_oil_c - oil_target)
            winding_k = winding_target + winding_keep * (winding_k - winding_target)
            gradient_k = gradient_target + gradient_keep * (gradient_k - gradient_target)
            hot_spot = top_oil_c + winding_k - gradient_k
            if hot_spot > most_hot_spot + _ROUNDING_K:
                return HOT_SPOT
            if top_oil_c > most_oil + _ROUNDING_K:
                return TOP_OIL
            if counts_life:
                lost_h += ageing_rate(hot_spot, upgraded) * inner_h
        if counts_life and lost_h > life_limit_h[today] * (1.0 + _ROUNDING_K):
            return LOSS_OF_LIFE
    return WITHIN
