"""How far a transformer may be loaded in the steps in which extra load is wanted.

One common loading level rises in all wanted steps, where it is above the load and below the step's own limit, until
hot-spot, top oil or a day's loss of life binds. What was before that cannot rise any more; the steps after it go on
rising, until the next limit binds, and so on (progressive filling; Bertsekas and Gallager, Data Networks, 1992, 6.5.2).
The levels are max-min fair: none can be raised without lowering one that is not higher.

Temperatures rise with the level, and are convex in it between the limits of steps. From a level that is too high, the
lowest of the Newton steps of all broken instants comes down to the largest level that breaks none, and a bracket guards
it.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.powers import exp2
from evflex.engine.capacity.thermal import ageing_exponent, ageing_slope, targets
from evflex.engine.capacity.transformer import BaseLoad
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Levels, as a share of rated power, are right to this, and never too high.
LEVEL_TOLERANCE = 1e-6
# Steps that add to what the load breaks by itself have no headroom at all.
NO_HEADROOM = -1.0
# Levels that a horizon may have; the rest of it keeps the last, which is safe.
_MOST_LEVELS = 128
_MOST_TRIES = 80
# Newton's step that ends within a tenth of the tolerance, as curvature over slope is below 10 or so.
_LAST_STEP = 1e-4
# Columns of a transformer's table: steady rises and gradients of the load and of the limit, then what they belong to.
_BASE_RISE, _BASE_GRADIENT, _CAP_RISE, _CAP_GRADIENT, _BASE, _CAP, _AMBIENT, _FREE = range(8)
_COLUMNS = 8
# Entries of what a walk is told of the transformer, constants first, and of what it finds.
_TOP_OIL_RISE, _GRADIENT, _LOSS_RATIO, _OIL_EXPONENT, _WINDING_EXPONENT, _K21 = range(6)
_OIL_KEPT, _WINDING_KEPT, _GRADIENT_KEPT, _OIL_WHOLE, _WINDING_WHOLE, _GRADIENT_WHOLE = range(6, 12)
_MAX_HOT, _MAX_OIL, _INNER_H, _IS_UPGRADED, _TWO_TERMS = range(12, 17)
_FIXED = 17
_STEP, _NEWTON, _LAST = 0, 1, 2
_LN2 = float(np.log(2.0))


def headroom_kva(base: BaseLoad, rated_kva: float, level: FloatArray) -> FloatArray:
    """Balanced load at unity power factor that brings the most loaded phase to a level.

    Args:
        base: Load.
        rated_kva: Rated power.
        level: Loading ratio of the most loaded phase with the extra load, or ``NO_HEADROOM``, (T,).

    Returns:
        The largest E with |(P_f + E / 3, Q_f)| <= level x rated / 3 on every phase f, (T,).
    """
    most_kva = np.maximum(level, 0.0)[:, None] * rated_kva / 3.0
    active_kw = np.sqrt(np.maximum(most_kva**2 - base.phase_kvar**2, 0.0))
    extra_kw: FloatArray = 3.0 * (active_kw - base.phase_kw).min(axis=1)
    return np.where(level == NO_HEADROOM, 0.0, np.maximum(extra_kw, 0.0))


@kernel
def highest_levels(
    constants: FloatArray,
    inner_count: int,
    inner_h: float,
    upgraded: bool,
    max_hot_spot_c: float,
    max_top_oil_c: float,
    day: IntArray,
    day_limit_h: FloatArray,
    start: FloatArray,
    loading_ratio: FloatArray,
    ambient_c: FloatArray,
    cap: FloatArray,
    wanted: BoolArray,
    level: FloatArray,
) -> None:
    """Fill ``level`` with the highest loading of each step.

    Args:
        constants: As ``values`` in :class:`ThermalConstants`, (9,).
        inner_count: As there.
        inner_h: As there.
        upgraded: As there.
        max_hot_spot_c: Largest hot-spot temperature.
        max_top_oil_c: Largest top-oil temperature.
        day: Of each step, as in :class:`Days`, (T,).
        day_limit_h: Largest loss of life in each day; infinite in the first where there is no limit, (D,).
        start: Top oil, winding gradient and oil gradient at the start, (3,).
        loading_ratio: Of the most loaded phase, >= 0, (T,).
        ambient_c: Ambient temperature, (T,).
        cap: Largest loading ratio, (T,).
        wanted: Steps that may be loaded more, (T,).
        level: Filled: the load where nothing is wanted or nothing can be had, ``NO_HEADROOM`` in wanted steps up to the
            last instant at which the load breaks a limit by itself, and where it breaks the limit of loading, (T,).
    """
    steps = loading_ratio.shape[0]
    table = np.empty((steps, _COLUMNS))
    _fill_table(constants, loading_ratio, ambient_c, cap, wanted, table)
    fixed = np.empty(_FIXED)
    fixed[:9] = constants
    for row in range(3):
        fixed[_OIL_WHOLE + row] = constants[_OIL_KEPT + row] ** inner_count
    fixed[_MAX_HOT], fixed[_MAX_OIL], fixed[_INNER_H] = max_hot_spot_c, max_top_oil_c, inner_h
    fixed[_IS_UPGRADED] = 1.0 if upgraded else 0.0
    two_terms = constants[_OIL_KEPT] == constants[_GRADIENT_KEPT] or (constants[_K21] == 1.0 and start[2] == 0.0)
    fixed[_TWO_TERMS] = 1.0 if two_terms else 0.0
    state = np.zeros(4)
    state[:3] = start
    found = np.empty(3)
    begin = 0
    _walk(fixed, inner_count, table, day, day_limit_h, 0.0, 0, steps, True, state, found)
    if found[_STEP] >= 0.0:
        # what the load breaks by itself
        begin = int(found[_LAST]) + 1
        _walk(fixed, inner_count, table, day, day_limit_h, 0.0, 0, begin, False, state, found)
    for k in range(steps):
        none = wanted[k] and (k < begin or loading_ratio[k] > cap[k])
        level[k] = NO_HEADROOM if none else loading_ratio[k]
    low, gained = 0.0, np.inf
    for count in range(_MOST_LEVELS):
        top = 0.0
        for k in range(begin, steps):
            if table[k, _FREE] != 0.0:
                top = max(top, table[k, _CAP])
        if top <= low:
            # all the rest was found to bear this level when it was found
            _raise_to(table, low, begin, steps, level)
            break
        # the next level is often about as much higher as the last one was
        before, high, end, step, probed = low, np.inf, steps, np.inf, False
        tried = min(top, low + 1.5 * gained)
        for _ in range(_MOST_TRIES):
            _walk(fixed, inner_count, table, day, day_limit_h, tried, begin, steps, True, state, found)
            if found[_STEP] < 0.0:
                low = tried
                if low == top or high - low <= LEVEL_TOLERANCE or step < _LAST_STEP:
                    break
                if high == np.inf:
                    gained *= 8.0
                    tried = min(top, low + gained)
                else:
                    # nothing is known of what lies between, except where Newton has come from far
                    tried = 0.5 * (low + high) if probed else low + 0.9 * LEVEL_TOLERANCE
                    probed = True
            else:
                high, end = tried, int(found[_STEP]) + 1
                if high - low <= LEVEL_TOLERANCE:
                    break
                newton = found[_NEWTON] - 0.4 * LEVEL_TOLERANCE
                if newton > low + 0.9 * LEVEL_TOLERANCE:
                    step, tried, probed = tried - newton, newton, False
                elif not probed:
                    step, tried, probed = np.inf, low + 0.9 * LEVEL_TOLERANCE, True
                else:
                    step, tried = np.inf, 0.5 * (low + high)
        gained = max(low - before, 1e-5)
        end = steps if count == _MOST_LEVELS - 1 else end
        _walk(fixed, inner_count, table, day, day_limit_h, low, begin, end, False, state, found)
        _raise_to(table, low, begin, end, level)
        begin = end


@inner_kernel
def _raise_to(table: FloatArray, common: float, begin: int, end: int, level: FloatArray) -> None:
    """Raise steps to a common level, as far as they can be raised."""
    for k in range(begin, end):
        if table[k, _FREE] != 0.0:
            level[k] = max(table[k, _BASE], min(table[k, _CAP], common))


@inner_kernel
def _fill_table(
    constants: FloatArray,
    loading_ratio: FloatArray,
    ambient_c: FloatArray,
    cap: FloatArray,
    wanted: BoolArray,
    table: FloatArray,
) -> None:
    """What walks need of each step, with powers taken once."""
    last_cap, cap_rise, cap_gradient = -1.0, 0.0, 0.0
    for k in range(loading_ratio.shape[0]):
        rise, gradient = _steady(constants, loading_ratio[k])
        if cap[k] != last_cap:
            last_cap = cap[k]
            cap_rise, cap_gradient = _steady(constants, last_cap)
        table[k, _BASE_RISE], table[k, _BASE_GRADIENT] = rise, gradient
        table[k, _CAP_RISE], table[k, _CAP_GRADIENT] = cap_rise, cap_gradient
        table[k, _BASE], table[k, _CAP], table[k, _AMBIENT] = loading_ratio[k], cap[k], ambient_c[k]
        table[k, _FREE] = 1.0 if wanted[k] and cap[k] > loading_ratio[k] else 0.0


@inner_kernel
def _steady(constants: FloatArray, ratio: float) -> tuple[float, float]:
    """Steady top-oil rise and hot-spot gradient."""
    return targets(
        constants[_TOP_OIL_RISE], constants[_GRADIENT], constants[_LOSS_RATIO], constants[_OIL_EXPONENT],
        constants[_WINDING_EXPONENT], ratio,
    )  # fmt: skip


@kernel
def _walk(
    fixed: FloatArray,
    inner_count: int,
    table: FloatArray,
    day: IntArray,
    day_limit_h: FloatArray,
    level: float,
    begin: int,
    end: int,
    checking: bool,
    state: FloatArray,
    found: FloatArray,
) -> None:
    """Load steps to a level: look for broken limits, or go there.

    Args:
        fixed: Constants, largest hot-spot and top oil, length of an inner step in hours, whether the paper is upgraded.
        inner_count: Inner steps in a step.
        table: What belongs to each step, (T, columns).
        day: Of each step.
        day_limit_h: Largest loss of life in each day.
        level: Loading level of the steps that are free.
        begin: First step.
        end: The step after the last.
        checking: Whether to fill ``found`` and leave ``state``, or to move ``state`` whatever is broken.
        state: Top oil, winding gradient, oil gradient, and hours lost in the present day, (4,).
        found: Step of the broken limit that asks for the lowest level (-1: none is broken), the level to which Newton's
            method takes it (for a loss of life, of its logarithm), and the last step in which one is broken, (3,).
    """
    k21, max_hot, max_oil = fixed[_K21], fixed[_MAX_HOT], fixed[_MAX_OIL]
    oil_whole, winding_whole, gradient_whole = fixed[_OIL_WHOLE], fixed[_WINDING_WHOLE], fixed[_GRADIENT_WHOLE]
    two_terms = fixed[_TWO_TERMS] != 0.0
    level_rise, level_gradient = _steady(fixed, level)
    rise_slope, gradient_slope = 0.0, 0.0
    if level > 0.0:
        square = level * level * fixed[_LOSS_RATIO]
        rise_slope = level_rise * fixed[_OIL_EXPONENT] * 2.0 * square / level / (1.0 + square)
        gradient_slope = fixed[_WINDING_EXPONENT] * level_gradient / level
    limited = day_limit_h[0] != np.inf
    top, winding, oil, lost_today = state[0], state[1], state[2], state[3]
    top_by, winding_by, oil_by, lost_by = 0.0, 0.0, 0.0, 0.0
    found[_STEP], found[_NEWTON], found[_LAST] = -1.0, np.inf, -1.0
    for k in range(begin, end):
        rise, gradient, rise_by, rated_by = table[k, _BASE_RISE], table[k, _BASE_GRADIENT], 0.0, 0.0
        if table[k, _FREE] != 0.0 and level > table[k, _BASE]:
            if level > table[k, _CAP]:
                rise, gradient = table[k, _CAP_RISE], table[k, _CAP_GRADIENT]
            else:
                rise, gradient, rise_by, rated_by = level_rise, level_gradient, rise_slope, gradient_slope
        top_target, winding_target, oil_target = table[k, _AMBIENT] + rise, k21 * gradient, (k21 - 1.0) * gradient
        a, b, c = top - top_target, winding - winding_target, oil - oil_target
        a_by, b_by, c_by = top_by - rise_by, winding_by - k21 * rated_by, oil_by - (k21 - 1.0) * rated_by
        late_a, late_b, late_c = a * oil_whole, b * winding_whole, c * gradient_whole
        late_top, late_winding, late_oil = top_target + late_a, winding_target + late_b, oil_target + late_c
        late_top_by, late_winding_by = rise_by + a_by * oil_whole, k21 * rated_by + b_by * winding_whole
        late_oil_by = (k21 - 1.0) * rated_by + c_by * gradient_whole
        late_hot = late_top + late_winding - late_oil
        excess, slope = 0.0, 0.0
        if checking and late_hot > max_hot:
            excess, slope = late_hot - max_hot, late_top_by + late_winding_by - late_oil_by
        elif checking and late_top > max_oil:
            excess, slope = late_top - max_oil, late_top_by
        closer = limited
        if checking and not limited:
            closer = _may_be_hotter_within(fixed, two_terms, late_a, late_b, late_c)
            # no instant within the step is hotter than this
            warmest = max(top, top_target)
            bound = warmest + max(winding, winding_target) - min(oil, oil_target)
            closer = (closer and bound > max_hot) or top + winding - oil > max_hot or top > max_oil
        if closer:
            lost, more, within, within_slope = _step_through(
                fixed, inner_count, limited, a, b, c, a_by, b_by, c_by, top_target, winding_target - oil_target,
                rise_by, rise_by + rated_by,
            )  # fmt: skip
            if checking and within > excess:
                excess, slope = within, within_slope
            lost_today += lost
            lost_by += more
        if excess > 0.0:
            _note(found, k, level, excess, slope)
        if limited and (k + 1 == table.shape[0] or day[k + 1] > day[k]):
            if checking and lost_today > day_limit_h[day[k]]:
                _note(found, k, level, np.log(lost_today / day_limit_h[day[k]]), lost_by / lost_today)
            lost_today, lost_by = 0.0, 0.0
        top, winding, oil = late_top, late_winding, late_oil
        top_by, winding_by, oil_by = late_top_by, late_winding_by, late_oil_by
    if not checking:
        state[0], state[1], state[2], state[3] = top, winding, oil, lost_today


@inner_kernel
def _may_be_hotter_within(fixed: FloatArray, two_terms: bool, late_a: float, late_b: float, late_c: float) -> bool:
    """Whether an instant before a step's last may be hotter than the last; ``late_…`` are the distances there.

    With two terms, differences of neighbours change their sign once at most (see ``batch_simulation``): values that
    rise at the end have risen all the way, or fallen from a start that was hotter, which the step before answers for.
    """
    if not two_terms:
        return True
    p, q = fixed[_OIL_KEPT], fixed[_WINDING_KEPT]
    return (late_a - late_c) * (1.0 - p) + late_b * (1.0 - q) > 0.0


@inner_kernel
def _note(found: FloatArray, step: int, level: float, excess: float, slope: float) -> None:
    """Note a broken limit: the one whose Newton step leads lowest is the one that binds."""
    newton = level - excess / slope if slope > 0.0 else -np.inf
    if newton < found[_NEWTON] or found[_STEP] < 0.0:
        found[_STEP], found[_NEWTON] = step, newton
    found[_LAST] = step


@inner_kernel
def _step_through(
    fixed: FloatArray,
    inner_count: int,
    limited: bool,
    a: float,
    b: float,
    c: float,
    a_by: float,
    b_by: float,
    c_by: float,
    top_target: float,
    gradient_target: float,
    top_by: float,
    hot_by: float,
) -> tuple[float, float, float, float]:
    """Look at every inner step: hours lost and their derivative, largest excess (0: none) and its derivative.

    ``a``, ``b`` and ``c`` are the distances of top oil and the gradients from their targets at the start,
    ``top_target`` the target of top oil, ``gradient_target`` that of the hot-spot less it, ``…_by`` derivatives by the
    level.
    """
    p, q, r = fixed[_OIL_KEPT], fixed[_WINDING_KEPT], fixed[_GRADIENT_KEPT]
    upgraded = fixed[_IS_UPGRADED] != 0.0
    lost, more, excess, slope = 0.0, 0.0, 0.0, 0.0
    for _ in range(inner_count):
        a *= p
        b *= q
        c *= r
        a_by *= p
        b_by *= q
        c_by *= r
        top = top_target + a
        hot, by = top + gradient_target + b - c, hot_by + a_by + b_by - c_by
        if hot - fixed[_MAX_HOT] > excess:
            excess, slope = hot - fixed[_MAX_HOT], by
        if top - fixed[_MAX_OIL] > excess:
            excess, slope = top - fixed[_MAX_OIL], top_by + a_by
        if limited:
            rate = exp2(ageing_exponent(hot, upgraded)) * fixed[_INNER_H]
            lost += rate
            more += rate * ageing_slope(hot, upgraded) * by
    return lost, more, excess, slope
