"""How far a transformer may be loaded in the steps in which extra load is wanted.

One common loading level rises in all wanted steps, where it is above the load and below the step's own limit, until
hot-spot, top oil or a day's loss of life binds. What was before that cannot rise any more; the steps after it go on
rising, until the next limit binds, and so on (progressive filling; Bertsekas and Gallager, Data Networks, 1992, 6.5.2).
The levels are max-min fair: none can be raised without lowering one that is not higher.

Temperatures rise with the level, and are convex in it between the limits of steps. So the lowest of the Newton steps of
all instants leads to the largest level that breaks none, from both sides, and a bracket guards it. What a level breaks
last, no lower one breaks later: a level that is too high on purpose tells how far the next ones have to be looked at.
Only where a load is so small that the oil's overshoot outweighs top oil, temperatures may fall with it; so the levels
are looked at together once they stand, and where they break a limit, all is done again with every level looked at to
the end.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.powers import exp2, log2
from evflex.engine.capacity.thermal import ageing_exponent, ageing_slope
from evflex.engine.capacity.transformer import BaseLoad
from evflex.engine.kernels import kernel, vector_inner_kernel, vector_kernel
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
# What is so near its limit may break it at a level that is higher by the last step.
_NEAR_K = 0.1
# How far above a level the next one is looked for first: what the second one gains as a rule, and how many gains of the
# last one a look ahead reaches.
_USUAL_GAIN, _LOOK_AHEAD = 0.01, 4.0
# Columns of a transformer's table: steady rises and gradients of the load, of the limit and of what was found so far,
# the load (infinite where nothing may come on top), the limit, and the ambient temperature.
_LOAD, _LIMIT, _CHOSEN = 0, 2, 4
_BASE, _CAP, _AMBIENT = 6, 7, 8
_COLUMNS = 9
# Entries of what a walk is told of the transformer, constants first.
_TOP_OIL_RISE, _GRADIENT, _LOSS_RATIO, _OIL_EXPONENT, _WINDING_EXPONENT, _K21 = range(6)
_OIL_KEPT, _WINDING_KEPT, _GRADIENT_KEPT, _OIL_WHOLE, _WINDING_WHOLE, _GRADIENT_WHOLE = range(6, 12)
_MAX_HOT, _MAX_OIL, _INNER_COUNT, _INNER_H, _IS_UPGRADED, _TWO_TERMS, _PER_LOG2, _NO_LOAD_SHARE = range(12, 20)
_FIXED = 20


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
    """Fill ``level`` with the highest loading of each step, under each of some conditions by itself.

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
        cap: Largest loading ratio, a row a condition, (C, T).
        wanted: Steps that may be loaded more, (T,).
        level: Filled: the load where nothing is wanted or nothing can be had, ``NO_HEADROOM`` in wanted steps up to the
            last instant at which the load breaks a limit by itself, and where it breaks the limit of loading, (C, T).
    """
    conditions, steps = cap.shape
    fixed = np.empty(_FIXED)
    fixed[:9] = constants
    for row in range(3):
        fixed[_OIL_WHOLE + row] = constants[_OIL_KEPT + row] ** inner_count
    fixed[_MAX_HOT], fixed[_MAX_OIL], fixed[_INNER_COUNT], fixed[_INNER_H] = (
        max_hot_spot_c, max_top_oil_c, inner_count, inner_h,
    )  # fmt: skip
    fixed[_IS_UPGRADED] = 1.0 if upgraded else 0.0
    two_terms = constants[_OIL_KEPT] == constants[_GRADIENT_KEPT] or (constants[_K21] == 1.0 and start[2] == 0.0)
    fixed[_TWO_TERMS] = 1.0 if two_terms else 0.0
    fixed[_NO_LOAD_SHARE] = 1.0 / (1.0 + constants[_LOSS_RATIO])
    # how many inner steps it takes until oil's part is twice what it was beside the winding's
    fixed[_PER_LOG2] = 1.0 / np.log2(constants[_OIL_KEPT] / constants[_WINDING_KEPT])
    powers = np.ones((2, inner_count + 1))
    for j in range(inner_count):
        powers[0, j + 1] = powers[0, j] * constants[_OIL_KEPT]
        powers[1, j + 1] = powers[1, j] * constants[_WINDING_KEPT]
    table, highest_cap, path = np.empty((steps, _COLUMNS)), np.empty(steps), np.zeros((steps + 1, 4))
    _fill_loads(fixed, loading_ratio, ambient_c, table)
    path[0, :3] = start
    # what the load breaks by itself
    begin = _last_broken(fixed, powers, table, day, day_limit_h, _LOAD, 0, path) + 1
    for row in range(conditions):
        if row > 0 and (cap[row] == cap[row - 1]).all():
            level[row] = level[row - 1]
            continue
        _fill_caps(fixed, loading_ratio, cap[row], wanted, begin, table, highest_cap, level[row])
        cut = _raise_levels(fixed, powers, table, day, day_limit_h, highest_cap, begin, False, path, level[row])
        if cut and _last_broken(fixed, powers, table, day, day_limit_h, _CHOSEN, begin, path) >= 0:
            _fill_caps(fixed, loading_ratio, cap[row], wanted, begin, table, highest_cap, level[row])
            _raise_levels(fixed, powers, table, day, day_limit_h, highest_cap, begin, True, path, level[row])


@vector_kernel
def _raise_levels(
    fixed: FloatArray,
    powers: FloatArray,
    table: FloatArray,
    day: IntArray,
    day_limit_h: FloatArray,
    highest_cap: FloatArray,
    begin: int,
    to_the_end: bool,
    path: FloatArray,
    level: FloatArray,
) -> bool:
    """Find one level after the other; whether some still have to be looked at together.

    Args:
        fixed: As in :func:`_walk`.
        powers: As there.
        table: As there; what is found is noted as chosen.
        day: As there.
        day_limit_h: As there.
        highest_cap: Highest limit of the steps from each one on that may be loaded more, (T,).
        begin: First step.
        to_the_end: Whether to look at every level to the end.
        path: As in :func:`_walk`.
        level: Raised to what was found.
    """
    steps = table.shape[0]
    low, gained, more, cut = 0.0, np.inf, 0.0, False
    # loads up to this level break nothing from this step on
    known, known_end = -1.0, steps
    for count in range(_MOST_LEVELS):
        top = highest_cap[begin] if begin < steps else 0.0
        if top <= low:
            # all the rest was found to bear this level when it was found
            _raise_to(fixed, table, low, begin, steps, level)
            break
        before, high, end, moved, probed, settling = low, np.inf, steps, np.inf, False, False
        tried, looked_to = min(top, low + gained + more), known_end
        if tried > known or known_end <= begin:
            tried, looked_to = min(top, low + _LOOK_AHEAD * gained), steps
        for attempt in range(_MOST_TRIES + 1):
            if to_the_end or (tried > known and high == np.inf):
                looked_to = steps
            last, binding, newton = _walk(
                fixed, powers, table, day, day_limit_h, _LOAD, tried, begin, looked_to, path
            )  # fmt: skip
            if settling:
                break
            goal = newton - 0.4 * LEVEL_TOLERANCE
            if last < 0:
                low = tried
                if low == top:
                    end = steps
                    break
                if newton - low <= LEVEL_TOLERANCE or high - low <= LEVEL_TOLERANCE or moved < _LAST_STEP:
                    end = binding + 1 if high == np.inf or newton - low <= LEVEL_TOLERANCE else end
                    break
            else:
                high, end = tried, binding + 1
                if looked_to == steps:
                    known, known_end = tried, last + 1
                looked_to = last + 1
            if last < 0 and (goal < high or high == np.inf):
                moved, tried, probed = goal - low, min(goal, top), False
            elif last >= 0 and goal > low + 0.9 * LEVEL_TOLERANCE:
                moved, tried, probed = tried - goal, goal, False
            else:
                # nothing is known of what lies between, except where Newton has come from far
                moved, tried, probed = np.inf, 0.5 * (low + high) if probed else low + 0.9 * LEVEL_TOLERANCE, True
            if high - low <= LEVEL_TOLERANCE or attempt == _MOST_TRIES - 1:
                settling, tried = True, low
        found = max(low - before, 1e-5)
        # gains change slowly
        more = min(max(found - gained, -0.5 * found), found) if count > 1 else 0.0
        gained = found if count > 0 else _USUAL_GAIN
        cut |= looked_to < steps
        end = steps if count == _MOST_LEVELS - 1 else end
        _raise_to(fixed, table, low, begin, end, level)
        begin = end
    return cut


@vector_inner_kernel
def _raise_to(fixed: FloatArray, table: FloatArray, common: float, begin: int, end: int, level: FloatArray) -> None:
    """Raise steps to a common level, as far as they can be raised."""
    rise, gradient = _steady(fixed, common)
    for k in range(begin, end):
        if common > table[k, _BASE]:
            if common > table[k, _CAP]:
                level[k], table[k, _CHOSEN], table[k, _CHOSEN + 1] = (
                    table[k, _CAP],
                    table[k, _LIMIT],
                    table[k, _LIMIT + 1],
                )
            else:
                level[k], table[k, _CHOSEN], table[k, _CHOSEN + 1] = common, rise, gradient


@vector_inner_kernel
def _fill_loads(fixed: FloatArray, loading_ratio: FloatArray, ambient_c: FloatArray, table: FloatArray) -> None:
    """What walks need of the load, with powers taken once."""
    for k in range(loading_ratio.shape[0]):
        table[k, _LOAD], table[k, _LOAD + 1] = _steady(fixed, loading_ratio[k])
        # nothing may come on top yet
        table[k, _BASE], table[k, _AMBIENT] = np.inf, ambient_c[k]


@vector_inner_kernel
def _fill_caps(
    fixed: FloatArray,
    loading_ratio: FloatArray,
    cap: FloatArray,
    wanted: BoolArray,
    begin: int,
    table: FloatArray,
    highest_cap: FloatArray,
    level: FloatArray,
) -> None:
    """What walks need of the limits of loading, and the levels before anything is raised."""
    last, rise, gradient, highest = -1.0, 0.0, 0.0, 0.0
    for k in range(loading_ratio.shape[0] - 1, -1, -1):
        if cap[k] != last:
            last = cap[k]
            rise, gradient = _steady(fixed, last)
        free = wanted[k] and last > loading_ratio[k]
        highest = max(highest, last) if free else highest
        highest_cap[k] = highest
        table[k, _LIMIT], table[k, _LIMIT + 1], table[k, _CAP] = rise, gradient, last
        table[k, _CHOSEN], table[k, _CHOSEN + 1] = table[k, _LOAD], table[k, _LOAD + 1]
        table[k, _BASE] = loading_ratio[k] if free else np.inf
        none = wanted[k] and (k < begin or loading_ratio[k] > last)
        level[k] = NO_HEADROOM if none else loading_ratio[k]


@vector_inner_kernel
def _steady(fixed: FloatArray, ratio: float) -> tuple[float, float]:
    """Steady top-oil rise and hot-spot gradient."""
    losses = (1.0 + ratio * ratio * fixed[_LOSS_RATIO]) * fixed[_NO_LOAD_SHARE]
    rise = fixed[_TOP_OIL_RISE] * exp2(fixed[_OIL_EXPONENT] * log2(losses))
    return rise, fixed[_GRADIENT] * exp2(fixed[_WINDING_EXPONENT] * log2(ratio))


@vector_kernel
def _last_broken(
    fixed: FloatArray,
    powers: FloatArray,
    table: FloatArray,
    day: IntArray,
    day_limit_h: FloatArray,
    column: int,
    begin: int,
    path: FloatArray,
) -> int:
    """Last step in which what a column holds breaks a limit; -1 if none."""
    return _walk(fixed, powers, table, day, day_limit_h, column, 0.0, begin, table.shape[0], path)[0]


@vector_inner_kernel
def _walk(
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
    k21, max_hot, max_oil = fixed[_K21], fixed[_MAX_HOT], fixed[_MAX_OIL]
    oil_whole, winding_whole, gradient_whole = fixed[_OIL_WHOLE], fixed[_WINDING_WHOLE], fixed[_GRADIENT_WHOLE]
    p, q, r = fixed[_OIL_KEPT], fixed[_WINDING_KEPT], fixed[_GRADIENT_KEPT]
    two_terms, inner_count = fixed[_TWO_TERMS] != 0.0, int(fixed[_INNER_COUNT])
    level_rise, level_gradient = _steady(fixed, level)
    rise_slope, gradient_slope = 0.0, 0.0
    if level > 0.0:
        square = level * level * fixed[_LOSS_RATIO]
        rise_slope = level_rise * fixed[_OIL_EXPONENT] * 2.0 * square / (level * (1.0 + square))
        gradient_slope = fixed[_WINDING_EXPONENT] * level_gradient / level
    limited = day_limit_h[0] != np.inf
    top, winding, oil, lost_today = path[begin, 0], path[begin, 1], path[begin, 2], path[begin, 3]
    top_by, winding_by, oil_by, lost_by = 0.0, 0.0, 0.0, 0.0
    last_broken, binding, lowest = -1, begin, np.inf
    for k in range(begin, end):
        rise, gradient, rise_by, rated_by = table[k, column], table[k, column + 1], 0.0, 0.0
        if level > table[k, _BASE]:
            if level > table[k, _CAP]:
                rise, gradient = table[k, _LIMIT], table[k, _LIMIT + 1]
            else:
                rise, gradient, rise_by, rated_by = level_rise, level_gradient, rise_slope, gradient_slope
        top_target, winding_target, oil_target = table[k, _AMBIENT] + rise, k21 * gradient, (k21 - 1.0) * gradient
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
                at = log2(b * (1.0 - q) / (slow * (p - 1.0))) * fixed[_PER_LOG2]
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
    p, q, r = fixed[_OIL_KEPT], fixed[_WINDING_KEPT], fixed[_GRADIENT_KEPT]
    upgraded = fixed[_IS_UPGRADED] != 0.0
    lost, more, hottest, hottest_by = 0.0, 0.0, -np.inf, 0.0
    for _ in range(int(fixed[_INNER_COUNT])):
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
            rate = exp2(ageing_exponent(hot, upgraded)) * fixed[_INNER_H]
            lost += rate
            more += rate * ageing_slope(hot, upgraded) * by
    return lost, more, hottest, hottest_by
