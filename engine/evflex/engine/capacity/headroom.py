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

from evflex.engine.capacity.level_walk import (
    AMBIENT,
    BASE,
    CAP,
    CHOSEN,
    COLUMNS,
    FIXED,
    GRADIENT_KEPT,
    INNER_COUNT,
    INNER_H,
    IS_UPGRADED,
    K21,
    LIMIT,
    LOAD,
    LOSS_RATIO,
    MAX_HOT,
    MAX_OIL,
    NO_LOAD_SHARE,
    OIL_KEPT,
    OIL_WHOLE,
    PER_LOG2,
    TWO_TERMS,
    WINDING_KEPT,
    steady,
    walk,
)
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
# Newton's method may lead nowhere where limits of steps lie between; after so many tries each other one halves.
_NEWTON_TRIES = 6
# Newton's step that ends within a tenth of the tolerance, as curvature over slope is below 10 or so.
_LAST_STEP = 1e-4
# How far above a level the next one is looked for first: what the second one gains as a rule, and how many gains of the
# last one a look ahead reaches.
_USUAL_GAIN, _LOOK_AHEAD = 0.01, 4.0


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
    fixed = np.empty(FIXED)
    fixed[:9] = constants
    for row in range(3):
        fixed[OIL_WHOLE + row] = constants[OIL_KEPT + row] ** inner_count
    fixed[MAX_HOT], fixed[MAX_OIL], fixed[INNER_COUNT], fixed[INNER_H] = (
        max_hot_spot_c, max_top_oil_c, inner_count, inner_h,
    )  # fmt: skip
    fixed[IS_UPGRADED] = 1.0 if upgraded else 0.0
    two_terms = constants[OIL_KEPT] == constants[GRADIENT_KEPT] or (constants[K21] == 1.0 and start[2] == 0.0)
    fixed[TWO_TERMS] = 1.0 if two_terms else 0.0
    fixed[NO_LOAD_SHARE] = 1.0 / (1.0 + constants[LOSS_RATIO])
    # how many inner steps it takes until oil's part is twice what it was beside the winding's
    fixed[PER_LOG2] = 1.0 / np.log2(constants[OIL_KEPT] / constants[WINDING_KEPT])
    powers = np.ones((2, inner_count + 1))
    for j in range(inner_count):
        powers[0, j + 1] = powers[0, j] * constants[OIL_KEPT]
        powers[1, j + 1] = powers[1, j] * constants[WINDING_KEPT]
    table, highest_cap, path = np.empty((steps, COLUMNS)), np.empty(steps), np.zeros((steps + 1, 4))
    _fill_loads(fixed, loading_ratio, ambient_c, table)
    path[0, :3] = start
    # what the load breaks by itself
    begin = _last_broken(fixed, powers, table, day, day_limit_h, LOAD, 0, path) + 1
    for row in range(conditions):
        if row > 0 and (cap[row] == cap[row - 1]).all():
            level[row] = level[row - 1]
            continue
        _fill_caps(fixed, loading_ratio, cap[row], wanted, begin, table, highest_cap, level[row])
        cut = _raise_levels(fixed, powers, table, day, day_limit_h, highest_cap, begin, False, path, level[row])
        if cut and _last_broken(fixed, powers, table, day, day_limit_h, CHOSEN, begin, path) >= 0:
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
        fixed: As in :func:`walk`.
        powers: As there.
        table: As there; what is found is noted as chosen.
        day: As there.
        day_limit_h: As there.
        highest_cap: Highest limit of the steps from each one on that may be loaded more, (T,).
        begin: First step.
        to_the_end: Whether to look at every level to the end.
        path: As in :func:`walk`.
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
            last, binding, newton = walk(
                fixed, powers, table, day, day_limit_h, LOAD, tried, begin, looked_to, path
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
            if high < np.inf and attempt >= _NEWTON_TRIES and attempt % 2 == 1:
                moved, tried = np.inf, 0.5 * (low + high)
            elif last < 0 and (goal < high or high == np.inf):
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
    rise, gradient = steady(fixed, common)
    for k in range(begin, end):
        if common > table[k, BASE]:
            if common > table[k, CAP]:
                level[k], table[k, CHOSEN], table[k, CHOSEN + 1] = (
                    table[k, CAP],
                    table[k, LIMIT],
                    table[k, LIMIT + 1],
                )
            else:
                level[k], table[k, CHOSEN], table[k, CHOSEN + 1] = common, rise, gradient


@vector_inner_kernel
def _fill_loads(fixed: FloatArray, loading_ratio: FloatArray, ambient_c: FloatArray, table: FloatArray) -> None:
    """What walks need of the load, with powers taken once."""
    for k in range(loading_ratio.shape[0]):
        table[k, LOAD], table[k, LOAD + 1] = steady(fixed, loading_ratio[k])
        # nothing may come on top yet
        table[k, BASE], table[k, AMBIENT] = np.inf, ambient_c[k]


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
            rise, gradient = steady(fixed, last)
        free = wanted[k] and last > loading_ratio[k]
        highest = max(highest, last) if free else highest
        highest_cap[k] = highest
        table[k, LIMIT], table[k, LIMIT + 1], table[k, CAP] = rise, gradient, last
        table[k, CHOSEN], table[k, CHOSEN + 1] = table[k, LOAD], table[k, LOAD + 1]
        table[k, BASE] = loading_ratio[k] if free else np.inf
        none = wanted[k] and (k < begin or loading_ratio[k] > last)
        level[k] = NO_HEADROOM if none else loading_ratio[k]


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
    return walk(fixed, powers, table, day, day_limit_h, column, 0.0, begin, table.shape[0], path)[0]
