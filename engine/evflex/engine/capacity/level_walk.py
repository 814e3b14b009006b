"""A transformer loaded to one level: what that breaks, and to which level Newton's method takes what binds."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.powers import exp2, log2
from evflex.engine.capacity.thermal import ageing_exponent, ageing_slope
from evflex.engine.kernels import vector_inner_kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# What is so near its limit may break it at a level that is higher by the last step.
_NEAR_K = 0.1
# Columns of a transformer's table: steady rises and gradients of the load, of the limit and of what was found so far,
# the load (infinite where nothing may come on top), the limit, and the ambient temperature.
LOAD, LIMIT, CHOSEN = 0, 2, 4
BASE, CAP, AMBIENT = 6, 7, 8
COLUMNS = 9
# Entries of what a walk is told of the transformer, constants first.
TOP_OIL_RISE, GRADIENT, LOSS_RATIO, OIL_EXPONENT, WINDING_EXPONENT, K21 = range(6)
OIL_KEPT, WINDING_KEPT, GRADIENT_KEPT, OIL_WHOLE, WINDING_WHOLE, GRADIENT_WHOLE = range(6, 12)
MAX_HOT, MAX_OIL, INNER_COUNT, INNER_H, IS_UPGRADED, TWO_TERMS, PER_LOG2, NO_LOAD_SHARE = range(12, 20)
FIXED = 20


@vector_inner_kernel
def walk(
    fixed: FloatArray,
    powers: FloatArray,
    table: FloatArray,
    day: IntArray,
    day_limit_h: FloatArray,
    column: int,
    level: float,
    begin: int,
    end: int,
    path: FloatArray,
) -> tuple[int, int, float]:
    """Load steps to a level.

    Args:
        fixed: Constants, limits of temperatures, number and length of inner steps, and what else a transformer has.
        powers: What oil and winding keep of their distance from the target after 0, 1, … inner steps, (2, inner + 1).
        table: What belongs to each step, (T, columns).
        day: Of each step.
        day_limit_h: Largest loss of life in each day.
        column: Where the table has what the load or what was chosen settles at.
        level: Loading level of the steps that may be loaded more.
        begin: First step.
        end: The step after the last.
        path: Top oil, winding gradient, oil gradient and hours lost in the present day at the start of each step; read
            at the first step, filled after it, (T + 1, 4).

    Returns:
        The last step in which a limit is broken (-1: none is), the step of the limit that binds or asks for the lowest
        level, and the level to which Newton's method takes it (for a loss of life, of its logarithm).
    """
    k21, max_hot, max_oil = fixed[K21], fixed[MAX_HOT], fixed[MAX_OIL]
    oil_whole, winding_whole, gradient_whole = fixed[OIL_WHOLE], fixed[WINDING_WHOLE], fixed[GRADIENT_WHOLE]
    p, q, r = fixed[OIL_KEPT], fixed[WINDING_KEPT], fixed[GRADIENT_KEPT]
    two_terms, inner_count = fixed[TWO_TERMS] != 0.0, int(fixed[INNER_COUNT])
    level_rise, level_gradient = steady(fixed, level)
    rise_slope, gradient_slope = 0.0, 0.0
    if level > 0.0:
        square = level * level * fixed[LOSS_RATIO]
        rise_slope = level_rise * fixed[OIL_EXPONENT] * 2.0 * square / (level * (1.0 + square))
        gradient_slope = fixed[WINDING_EXPONENT] * level_gradient / level
    limited = day_limit_h[0] != np.inf
    top, winding, oil, lost_today = path[begin, 0], path[begin, 1], path[begin, 2], path[begin, 3]
    top_by, winding_by, oil_by, lost_by = 0.0, 0.0, 0.0, 0.0
    last_broken, binding, lowest = -1, begin, np.inf
    for k in range(begin, end):
        rise, gradient, rise_by, rated_by = table[k, column], table[k, column + 1], 0.0, 0.0
        if level > table[k, BASE]:
            if level > table[k, CAP]:
                rise, gradient = table[k, LIMIT], table[k, LIMIT + 1]
            else:
                rise, gradient, rise_by, rated_by = level_rise, level_gradient, rise_slope, gradient_slope
        top_target, winding_target, oil_target = table[k, AMBIENT] + rise, k21 * gradient, (k21 - 1.0) * gradient
        a, b, c = top - top_target, winding - winding_target, oil - oil_target
        a_by, b_by, c_by = top_by - rise_by, winding_by - k21 * rated_by, oil_by - (k21 - 1.0) * rated_by
        late_a, late_b, late_c = a * oil_whole, b * winding_whole, c * gradient_whole
        late_top, late_winding, late_oil = top_target + late_a, winding_target + late_b, oil_target + late_c
        late_top_by, late_winding_by = rise_by + a_by * oil_whole, k21 * rated_by + b_by * winding_whole
        late_oil_by = (k21 - 1.0) * rated_by + c_by * gradient_whole
        first_a, first_b, first_c = a * p, b * q, c * r
        settled = top_target + winding_target - oil_target
        hot, hot_by = settled + late_a + late_b - late_c, late_top_by + late_winding_by - late_oil_by
        warmest, warmest_by = late_top, late_top_by
        if first_a > late_a:
            warmest, warmest_by = top_target + first_a, rise_by + a_by * p
        if settled + first_a + first_b - first_c > hot:
            hot = settled + first_a + first_b - first_c
            hot_by = rise_by + rated_by + a_by * p + b_by * q - c_by * r
        if two_terms:
            slow = a - c
            # Differences of neighbours change their sign once at most (see batch_simulation): only values that rise at
            # first and fall at the end are largest within, where the one difference outgrows the other.
            falls = (late_a - late_c) * (1.0 - p) + late_b * (1.0 - q) > 0.0
            rises = (first_a - first_c) * (1.0 - p) + first_b * (1.0 - q) < 0.0
            if falls and rises and settled + slow * p + late_b > max_hot - _NEAR_K:
                at = log2(b * (1.0 - q) / (slow * (p - 1.0))) * fixed[PER_LOG2]
                j = min(max(int(np.ceil(at)), 1), inner_count)
                hot = settled + slow * powers[0, j] + b * powers[1, j]
                hot_by = rise_by + rated_by + (a_by - c_by) * powers[0, j] + b_by * powers[1, j]
        most = max(hot - max_hot, warmest - max_oil)
        newton = min(_newton(level, hot - max_hot, hot_by), _newton(level, warmest - max_oil, warmest_by))
        # no instant within the step is hotter than this
        bound = settled + max(first_a, late_a) + max(first_b, late_b) - min(first_c, late_c)
        if limited or (not two_terms and bound > max_hot - _NEAR_K):
            lost, more, hottest, hottest_by = _step_through(
                fixed, limited, a, b, c, a_by, b_by, c_by, settled, rise_by + rated_by
            )  # fmt: skip
            most = max(most, hottest - max_hot)
            newton = min(newton, _newton(level, hottest - max_hot, hottest_by))
            lost_today += lost
            lost_by += more
        if limited and (k + 1 == table.shape[0] or day[k + 1] > day[k]):
            excess = np.log(lost_today / day_limit_h[day[k]])
            most = max(most, excess)
            newton = min(newton, _newton(level, excess, lost_by / lost_today))
            lost_today, lost_by = 0.0, 0.0
        if most > 0.0:
            last_broken = k
        if newton < lowest:
            binding, lowest = k, newton
        top, winding, oil = late_top, late_winding, late_oil
        top_by, winding_by, oil_by = late_top_by, late_winding_by, late_oil_by
        path[k + 1, 0], path[k + 1, 1], path[k + 1, 2], path[k + 1, 3] = top, winding, oil, lost_today
    return last_broken, binding, lowest


@vector_inner_kernel
def steady(fixed: FloatArray, ratio: float) -> tuple[float, float]:
    """Steady top-oil rise and hot-spot gradient."""
    losses = (1.0 + ratio * ratio * fixed[LOSS_RATIO]) * fixed[NO_LOAD_SHARE]
    rise = fixed[TOP_OIL_RISE] * exp2(fixed[OIL_EXPONENT] * log2(losses))
    return rise, fixed[GRADIENT] * exp2(fixed[WINDING_EXPONENT] * log2(ratio))


@vector_inner_kernel
def _newton(level: float, excess: float, slope: float) -> float:
    """Level at which an excess is expected to be gone or reached."""
    if slope > 0.0:
        return level - excess / slope
    return -np.inf if excess > 0.0 else np.inf


@vector_inner_kernel
def _step_through(
    fixed: FloatArray,
    limited: bool,
    a: float,
    b: float,
    c: float,
    a_by: float,
    b_by: float,
    c_by: float,
    settled: float,
    settled_by: float,
) -> tuple[float, float, float, float]:
    """Look at every inner step: hours lost and their derivative, largest hot-spot and its derivative.

    ``a``, ``b`` and ``c`` are the distances of top oil and the gradients from their targets at the start, ``settled``
    is the target of the hot-spot, ``…_by`` are derivatives by the level.
    """
    p, q, r = fixed[OIL_KEPT], fixed[WINDING_KEPT], fixed[GRADIENT_KEPT]
    upgraded = fixed[IS_UPGRADED] != 0.0
    lost, more, hottest, hottest_by = 0.0, 0.0, -np.inf, 0.0
    for _ in range(int(fixed[INNER_COUNT])):
        a *= p
        b *= q
        c *= r
        a_by *= p
        b_by *= q
        c_by *= r
        hot, by = settled + a + b - c, settled_by + a_by + b_by - c_by
        if hot > hottest:
            hottest, hottest_by = hot, by
        if limited:
            rate = exp2(ageing_exponent(hot, upgraded)) * fixed[INNER_H]
            lost += rate
            more += rate * ageing_slope(hot, upgraded) * by
    return lost, more, hottest, hottest_by
