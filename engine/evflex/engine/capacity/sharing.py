"""One step's power shared between hubs by a policy; the same kernel plans and tracks.

Floors are shared first, as if they were all that is wanted, then the rest on top of what that gave. All policies but
one fill progressively (Bertsekas & Gallager, Data Networks, 6.5.2): a level rises, each hub has level x ratio between
its bounds, and the first phase that is full stops the hubs on it. WEIGHTED_PROPORTIONAL_FAIR does the same with the
weights as ratios where all hubs load the phases alike, and else finds the three prices of the phases.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_PROPORTIONAL = int(AllocationPolicy.PROPORTIONAL)
_FAIR = int(AllocationPolicy.WEIGHTED_PROPORTIONAL_FAIR)
_PRIORITY, _LEAST_COST = int(AllocationPolicy.PRIORITY), int(AllocationPolicy.LEAST_COST)
_MAX_PRICE_ROUNDS = 200
# Of a phase's power: what rounding may leave, and from where a phase counts as full.
_TOLERANCE = 1e-12
# Kept free of a phase that rounding would overfill.
_SAFE_SIDE = 1e-15


@kernel
def share(
    policy: int,
    free_kw: FloatArray,
    phase_share: FloatArray,
    floor_kw: FloatArray,
    most_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    shared_kw: FloatArray,
) -> None:
    """Share the free power of three phases between hubs.

    Args:
        policy: An :class:`AllocationPolicy`.
        free_kw: Power free on L1, L2, L3, (3,); a negative one is no power.
        phase_share: Share of a hub's power on each phase, rows sum to 1, (H, 3).
        floor_kw: What a hub gets before others get more than theirs, 0 <= floor <= most, (H,).
        most_kw: What a hub can use, >= 0, (H,).
        weight: > 0, for WEIGHTED_PROPORTIONAL_FAIR, (H,).
        rank: Class of each hub for PRIORITY and LEAST_COST, 0 is served first, (H,).
        shared_kw: Filled with what each hub gets, (H,).
    """
    hubs = most_kw.shape[0]
    shared_kw[:] = 0.0
    first_phase, end_phase = _phases_that_matter(free_kw, phase_share)
    uniform = end_phase - first_phase == 1
    ranked = policy in (_PRIORITY, _LEAST_COST)
    order = argsort(rank.astype(np.float64)) if ranked else np.arange(hubs)
    room, equal = np.empty(3), np.ones(hubs)
    lower_kw, members, scratch = np.empty(hubs), np.empty(hubs, dtype=np.int64), np.empty(hubs, dtype=np.int64)
    for stage in range(2):
        upper_kw = floor_kw if stage == 0 else most_kw
        if not upper_kw.any():
            continue
        lower_kw[:] = shared_kw
        for f in range(3):
            room[f] = max(free_kw[f], 0.0)
            for h in range(hubs):
                room[f] -= phase_share[h, f] * lower_kw[h]
        if policy == _FAIR and not uniform:
            _fill_at_prices(free_kw, room, phase_share, weight, lower_kw, upper_kw, members, scratch, shared_kw)
            continue
        ratio = equal
        if policy == _PROPORTIONAL:
            ratio = upper_kw
        elif policy == _FAIR:
            ratio = weight
        begin = 0
        while begin < hubs:
            count = 0
            while begin < hubs and (not ranked or count == 0 or rank[order[begin]] == rank[members[0]]):
                members[count] = order[begin]
                begin, count = begin + 1, count + 1
            _fill(
                first_phase, end_phase, room, phase_share, ratio, lower_kw, upper_kw, members, count, scratch,
                shared_kw,
            )  # fmt: skip
    _round_to_safe_side(free_kw, phase_share, shared_kw)


@inner_kernel
def _phases_that_matter(free_kw: FloatArray, phase_share: FloatArray) -> tuple[int, int]:
    """First and end of the phases to look at: the tightest alone where all hubs load the phases alike, else all."""
    for h in range(1, phase_share.shape[0]):
        for f in range(3):
            if phase_share[h, f] != phase_share[0, f]:
                return 0, 3
    tightest, least = 0, np.inf
    if phase_share.shape[0]:
        for f in range(3):
            if phase_share[0, f] > 0.0 and max(free_kw[f], 0.0) / phase_share[0, f] < least:
                tightest, least = f, max(free_kw[f], 0.0) / phase_share[0, f]
    return tightest, tightest + 1


@inner_kernel
def _fill(
    first_phase: int,
    end_phase: int,
    room: FloatArray,
    phase_share: FloatArray,
    ratio: FloatArray,
    lower_kw: FloatArray,
    upper_kw: FloatArray,
    members: IntArray,
    count: int,
    scratch: IntArray,
    shared_kw: FloatArray,
) -> None:
    """Raise the level of ``members`` until each has its most or a full phase; ``room`` is left with what remains."""
    while count > 0:
        level, full = np.inf, -1
        for f in range(first_phase, end_phase):
            at = _level_that_fills(f, room[f], phase_share, ratio, lower_kw, upper_kw, members, count, scratch)
            if at < level:
                level, full = at, f
        kept = 0
        for i in range(count):
            h = members[i]
            if full >= 0 and phase_share[h, full] == 0.0:
                members[kept] = h
                kept += 1
                continue
            shared_kw[h] = upper_kw[h] if full < 0 else min(max(level * ratio[h], lower_kw[h]), upper_kw[h])
            for f in range(3):
                room[f] -= phase_share[h, f] * (shared_kw[h] - lower_kw[h])
        count = kept


@inner_kernel
def _level_that_fills(
    f: int,
    room: float,
    phase_share: FloatArray,
    ratio: FloatArray,
    lower_kw: FloatArray,
    upper_kw: FloatArray,
    members: IntArray,
    count: int,
    rising: IntArray,
) -> float:
    """Level at which phase ``f`` is full, infinite where ``members`` cannot fill it.

    Guesses the level with nobody at a bound, and takes those out that are at one for certain, on the side that weighs
    more (Bitran & Hax 1981): exact, without sorting, after a few rounds.
    """
    n, can_take, least_level = 0, 0.0, np.inf
    for i in range(count):
        h = members[i]
        if phase_share[h, f] > 0.0 and upper_kw[h] > lower_kw[h]:
            rising[n] = h
            n += 1
            can_take += phase_share[h, f] * (upper_kw[h] - lower_kw[h])
            least_level = min(least_level, lower_kw[h] / ratio[h])
    if n == 0 or room >= can_take:
        return np.inf
    if room <= 0.0:
        return least_level
    level = 0.0
    while n > 0:
        slope, base = 0.0, room
        for i in range(n):
            h = rising[i]
            slope += phase_share[h, f] * ratio[h]
            base += phase_share[h, f] * lower_kw[h]
        level = base / slope
        excess, clipped = 0.0, False
        for i in range(n):
            h = rising[i]
            kw = level * ratio[h]
            beyond = kw - min(max(kw, lower_kw[h]), upper_kw[h])
            excess -= phase_share[h, f] * beyond
            clipped = clipped or beyond != 0.0
        if not clipped:
            break
        kept = 0
        for i in range(n):
            h = rising[i]
            kw = level * ratio[h]
            if excess >= 0.0 and kw <= lower_kw[h]:
                continue
            if excess <= 0.0 and kw >= upper_kw[h]:
                room -= phase_share[h, f] * (upper_kw[h] - lower_kw[h])
                continue
            rising[kept] = h
            kept += 1
        n = kept
    return level


@inner_kernel
def _fill_at_prices(
    free_kw: FloatArray,
    room: FloatArray,
    phase_share: FloatArray,
    weight: FloatArray,
    lower_kw: FloatArray,
    upper_kw: FloatArray,
    members: IntArray,
    free_phase: IntArray,
    shared_kw: FloatArray,
) -> None:
    """Maximise the sum of weight x log of power: y = clip(w / price, l, m), the price that of the phases a hub loads.

    The prices minimise the convex dual by Newton's method; a step is halved or doubled until the slope along it has
    flattened, and ends where a price is zero. Hubs on a phase without room keep their lower bound.
    """
    hubs = phase_share.shape[0]
    count, target, can_take, weights = 0, np.zeros(3), np.zeros(3), 0.0
    for h in range(hubs):
        open_ = upper_kw[h] > lower_kw[h]
        for f in range(3):
            open_ = open_ and (phase_share[h, f] == 0.0 or room[f] > _TOLERANCE * max(free_kw[f], 0.0))
        if not open_:
            continue
        members[count] = h
        count += 1
        weights += weight[h]
        shared_kw[h] = upper_kw[h]
        for f in range(3):
            target[f] += phase_share[h, f] * lower_kw[h]
            can_take[f] += phase_share[h, f] * upper_kw[h]
    price, trial, step, slope, gradient = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    curvature, matrix, held = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros(3, dtype=np.bool_)
    for f in range(3):
        target[f] += room[f]
        if can_take[f] > max(target[f], 0.0):
            price[f] = weights / (3.0 * target[f])
    if not price.any():
        return
    _power_at(price, target, phase_share, weight, lower_kw, upper_kw, members, count, shared_kw, slope, curvature)
    for _ in range(_MAX_PRICE_ROUNDS):
        done = True
        for f in range(3):
            held[f] = can_take[f] <= max(target[f], 0.0) or (price[f] == 0.0 and slope[f] >= 0.0)
            done = done and (held[f] or abs(slope[f]) <= _TOLERANCE * target[f])
        if done:
            break
        _newton_step(price, slope, curvature, held, matrix, step)
        steepness, longest = 0.0, np.inf
        for f in range(3):
            steepness += slope[f] * step[f]
            if step[f] < 0.0:
                longest = min(longest, -price[f] / step[f])
        low, high, length = 0.0, np.inf, min(1.0, longest)
        for _ in range(60):
            for f in range(3):
                trial[f] = max(price[f] + length * step[f], 0.0)
                if step[f] < 0.0 and length >= -price[f] / step[f]:
                    trial[f] = 0.0
            _power_at(
                trial, target, phase_share, weight, lower_kw, upper_kw, members, count, shared_kw, gradient, curvature
            )
            along = gradient[0] * step[0] + gradient[1] * step[1] + gradient[2] * step[2]
            if along > -0.5 * steepness:
                high = length
                length = 0.5 * (low + high)
            elif along < 0.5 * steepness and length < longest:
                low = length
                length = min(2.0 * length, longest) if high == np.inf else 0.5 * (low + high)
            else:
                break
        price[:], slope[:] = trial, gradient
    _pull_back(target, phase_share, lower_kw, upper_kw, members, count, shared_kw)


@inner_kernel
def _power_at(
    price: FloatArray,
    target: FloatArray,
    phase_share: FloatArray,
    weight: FloatArray,
    lower_kw: FloatArray,
    upper_kw: FloatArray,
    members: IntArray,
    count: int,
    shared_kw: FloatArray,
    slope: FloatArray,
    curvature: FloatArray,
) -> None:
    """Power of hubs at prices, with slope (3,) and curvature (3, 3) of the dual there.

    The curvature has a small share of the hubs at a bound on its diagonal: without it, it may be singular.
    """
    for f in range(3):
        slope[f] = target[f]
        for g in range(3):
            curvature[f, g] = 0.0
    for i in range(count):
        h = members[i]
        asked = price[0] * phase_share[h, 0] + price[1] * phase_share[h, 1] + price[2] * phase_share[h, 2]
        wanted = weight[h] / asked
        kw = min(max(wanted, lower_kw[h]), upper_kw[h])
        bend = kw * kw / weight[h]
        shared_kw[h] = kw
        for f in range(3):
            slope[f] -= phase_share[h, f] * kw
            curvature[f, f] += 1e-9 * phase_share[h, f] * bend
            if kw == wanted:
                for g in range(3):
                    curvature[f, g] += phase_share[h, f] * phase_share[h, g] * bend


@inner_kernel
def _newton_step(
    price: FloatArray, slope: FloatArray, curvature: FloatArray, held: BoolArray, matrix: FloatArray, step: FloatArray
) -> None:
    """Step of the prices that are not held; a price of zero that it would lower is held as well."""
    again = True
    while again:
        for f in range(3):
            step[f] = 0.0 if held[f] else -slope[f]
            for g in range(3):
                matrix[f, g] = 0.0 if held[f] or held[g] else curvature[f, g]
            if held[f]:
                matrix[f, f] = 1.0
        for p in range(3):
            for f in range(p + 1, 3):
                factor = matrix[f, p] / matrix[p, p]
                step[f] -= factor * step[p]
                for g in range(p, 3):
                    matrix[f, g] -= factor * matrix[p, g]
        for p in range(2, -1, -1):
            for g in range(p + 1, 3):
                step[p] -= matrix[p, g] * step[g]
            step[p] /= matrix[p, p]
        again = False
        for f in range(3):
            if price[f] == 0.0 and step[f] < 0.0:
                held[f] = again = True


@inner_kernel
def _pull_back(
    target: FloatArray,
    phase_share: FloatArray,
    lower_kw: FloatArray,
    upper_kw: FloatArray,
    members: IntArray,
    count: int,
    shared_kw: FloatArray,
) -> None:
    """Shorten what hubs have above their lower bound where it overfills a phase."""
    for f in range(3):
        above, room = 0.0, target[f]
        for i in range(count):
            h = members[i]
            above += phase_share[h, f] * (shared_kw[h] - lower_kw[h])
            room -= phase_share[h, f] * lower_kw[h]
        if above > max(room, 0.0):
            for i in range(count):
                h = members[i]
                if phase_share[h, f] > 0.0:
                    shorter = (shared_kw[h] - lower_kw[h]) * room / above
                    shared_kw[h] = min(lower_kw[h] + shorter, upper_kw[h])


@inner_kernel
def _round_to_safe_side(free_kw: FloatArray, phase_share: FloatArray, shared_kw: FloatArray) -> None:
    """Take back what rounding has given too much of a phase."""
    for f in range(3):
        used, free = 0.0, max(free_kw[f], 0.0)
        for h in range(shared_kw.shape[0]):
            used += phase_share[h, f] * shared_kw[h]
        if used > free:
            for h in range(shared_kw.shape[0]):
                if phase_share[h, f] > 0.0:
                    shared_kw[h] *= free / used * (1.0 - _SAFE_SIDE)
