"""The slope trick: the cheapest plan of an asset with a store, without sorting the asset's own slopes.

The least cost F of reaching a state is convex and piecewise linear: segments, of which the cheapest are filled first.
A step adds two segments: one of slope (λd − wear)·η_d and length D·Δ/η_d, which extends F to the left and is filled
where the asset does not discharge, and one of slope λc/η_c and length C·η_c·Δ, which extends it to the right and is
filled where it charges. Then F is cut to [low, high]: what is cut at its left end, the cheapest, is filled in every
plan, and what is cut at its right end in none. In the end segments are filled while that costs no more than a
shortfall, and beyond the need while it costs less than energy is worth.

Energy that must be charged in a step moves F to the right before it is cut.

Segments are known by the rank of their slope among those of all steps, which assets of a class share: efficiencies and
wear are equal. Those of F are a set of bits, of which the lowest and the highest are F's ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.bits import highest_bit, lowest_bit
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import FloatArray, IntArray

_WordArray = NDArray[np.uint64]

# Columns of ``StoredAssets.table``.
CHARGE_KW = 0
DISCHARGE_KW = 1
CHARGE_EFFICIENCY = 2
DISCHARGE_EFFICIENCY = 3
WEAR = 4  # for each kWh discharged, grid-side
NEED = 5  # kWh, battery-side, as high and low
HIGH = 6
LOW = 7
SHORT_PRICE = 8  # for each battery-side kWh, not below the value
VALUE = 9
COLUMN_COUNT = 10

# Assets that are solved together: passing arrays counts references, which took as long as solving one asset.
TILE = 8

# Indices in hot loops are unsigned: one that might count from the end keeps a loop from being vectorised.
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_WORD_SHIFT, _BIT_MASK = np.uint64(6), np.uint64(63)


class StoredAssets(NamedTuple):
    """Assets with a store, a row each.

    Those of equal efficiencies and wear, heat pumps apart, are a class; it is ranked once for all rows that follow each
    other.

    Attributes:
        first: First step in which it is available, (m,).
        last: One past its last step, (m,).
        first_ratio: Share of the first step in which it is available, (m,).
        last_ratio: The same of the last step; not read where that is the first, (m,).
        table: Numbers in the columns above, low <= 0 <= high, (m, COLUMN_COUNT).
        profile: Row of ``base_kw``, which makes it a heat pump; -1: none, (m,).
        base_kw: Powers around which heat pumps charge and discharge, before shares of steps, >= 0, (k, T). Heat pumps
            save the charge price where they discharge and have no wear; their discharge_kw is not read.
    """

    first: NDArray[np.int32]
    last: NDArray[np.int32]
    first_ratio: FloatArray
    last_ratio: FloatArray
    table: FloatArray
    profile: NDArray[np.int32]
    base_kw: FloatArray


class StoragePatterns(NamedTuple):
    """Steps in which assets charge at least at a minimum; in all others they do not charge, but may discharge.

    Attributes:
        least_kw: Smallest power of each when charging, in a step in which it is available throughout, (m,).
        begin: First entry of each asset, and the end of the last, (m + 1,).
        step: Steps of its window, ascending, (entries,).
    """

    least_kw: FloatArray
    begin: IntArray
    step: IntArray


def take(assets: StoredAssets, rows: IntArray) -> StoredAssets:
    """Some of the assets, in the order of ``rows``."""
    columns = {name: getattr(assets, name)[rows] for name in StoredAssets._fields if name != "base_kw"}
    return assets._replace(**columns)


class Work(NamedTuple):
    """Scratch of one thread. A segment's slot is t for discharging in step t, T + t for charging.

    Attributes:
        slot: Segments of a class in the order of their slopes, (2T,).
        rank: Place of each slot in that order, (2T,).
        slope: Slopes in that order, (2T,).
        words: Ranks whose segments make up F, a bit each; all 0 between assets.
        length: Of an asset's segments between the cuts, by slot, in kWh, (tile, 2T).
        stored: What each slot adds to the state: <= 0 for discharging, >= 0 for charging, (tile, 2T). Before an asset
            is solved, what it adds in any case.
        reached: State at the end, (tile,).
    """

    slot: _WordArray
    rank: _WordArray
    slope: FloatArray
    words: _WordArray
    length: FloatArray
    stored: FloatArray
    reached: FloatArray


@inner_kernel
def new_work(steps: int) -> Work:
    """Scratch for one thread."""
    n = 2 * steps
    return Work(
        np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.uint64), np.empty(n),
        np.zeros((n + 63) // 64, dtype=np.uint64), np.empty((TILE, n)), np.empty((TILE, n)), np.empty(TILE),
    )  # fmt: skip


@inner_kernel
def end_of_class(assets: StoredAssets, rows: IntArray, begin: int) -> int:
    """One past the last of the rows that follow ``begin`` and share its order of slopes."""
    table, profile = assets.table, assets.profile
    i, end = rows[begin], begin + 1
    while end < rows.shape[0]:
        k = rows[end]
        same = table[i, CHARGE_EFFICIENCY] == table[k, CHARGE_EFFICIENCY]
        same &= table[i, DISCHARGE_EFFICIENCY] == table[k, DISCHARGE_EFFICIENCY]
        same &= (profile[i] >= 0) == (profile[k] >= 0)
        same &= profile[i] >= 0 or table[i, WEAR] == table[k, WEAR]
        if not same:
            break
        end += 1
    return end


@inner_kernel
def rank_class(
    assets: StoredAssets, i: int, charge_price: FloatArray, discharge_price: FloatArray, charge_order: IntArray,
    discharge_order: IntArray, work: Work,
) -> None:  # fmt: skip
    """Order the segments of asset i's class: efficiencies and wear keep the order of prices, so two lists are merged.

    Of equal slopes, discharging comes first (idle rather than both at once), then earlier steps.
    """
    p, steps = assets.table[i], charge_price.shape[0]
    heat_pump = assets.profile[i] >= 0
    wear = 0.0 if heat_pump else p[WEAR]
    per_stored, kept = 1.0 / p[CHARGE_EFFICIENCY], p[DISCHARGE_EFFICIENCY]
    slot, rank, slope = work.slot, work.rank, work.slope
    down_order = charge_order if heat_pump else discharge_order
    down_price = charge_price if heat_pump else discharge_price
    downs = ups = 0
    up = charge_price[charge_order[0]] * per_stored
    down = (down_price[down_order[0]] - wear) * kept
    for r in range(2 * steps):
        if down <= up and downs < steps:
            slot[r], slope[r] = down_order[downs], down
            downs += 1
            down = (down_price[down_order[downs]] - wear) * kept if downs < steps else np.inf
        else:
            slot[r], slope[r] = steps + charge_order[ups], up
            ups += 1
            up = charge_price[charge_order[ups]] * per_stored if ups < steps else np.inf
        rank[slot[r]] = r


@inner_kernel
def lay_out(assets: StoredAssets, rows: IntArray, step_h: float, work: Work) -> None:
    """Lengths of the segments of some assets, none of them filled."""
    table, profile, base_kw = assets.table, assets.profile, assets.base_kw
    starts, ends, first_ratio, last_ratio = assets.first, assets.last, assets.first_ratio, assets.last_ratio
    length, stored = work.length, work.stored
    steps = np.uint64(length.shape[1] // 2)
    for n in range(rows.shape[0]):
        i = rows[n]
        first, last = np.uint64(starts[i]), np.uint64(ends[i])
        up, down = table[i, CHARGE_EFFICIENCY] * step_h, step_h / table[i, DISCHARGE_EFFICIENCY]
        if profile[i] >= 0:
            for t in range(first, last):
                base = base_kw[profile[i], t]
                length[n, t], length[n, steps + t] = base * down, max(table[i, CHARGE_KW] - base, 0.0) * up
        else:
            up_kwh, down_kwh = table[i, CHARGE_KW] * up, table[i, DISCHARGE_KW] * down
            for t in range(first, last):
                length[n, t], length[n, steps + t] = down_kwh, up_kwh
        if last > first:
            length[n, first] *= first_ratio[i]
            length[n, steps + first] *= first_ratio[i]
        if last > first + _ONE:
            length[n, last - _ONE] *= last_ratio[i]
            length[n, steps + last - _ONE] *= last_ratio[i]
        for t in range(first, last):
            stored[n, t], stored[n, steps + t] = -length[n, t], 0.0


@inner_kernel
def lay_out_patterns(
    assets: StoredAssets, patterns: StoragePatterns, rows: IntArray, step_h: float, work: Work
) -> None:
    """The same in chosen steps, where the minimum is stored in any case; no heat pumps."""
    table, starts, ends, first_ratio, last_ratio = (
        assets.table, assets.first, assets.last, assets.first_ratio, assets.last_ratio,
    )  # fmt: skip
    least_kw, begin, step = patterns.least_kw, patterns.begin, patterns.step
    length, stored = work.length, work.stored
    steps = np.uint64(length.shape[1] // 2)
    for n in range(rows.shape[0]):
        i = rows[n]
        first, last = np.uint64(starts[i]), np.uint64(ends[i])
        up, down = table[i, CHARGE_EFFICIENCY] * step_h, step_h / table[i, DISCHARGE_EFFICIENCY]
        down_kwh, least_kwh = table[i, DISCHARGE_KW] * down, least_kw[i] * up
        up_kwh = max(table[i, CHARGE_KW] * up - least_kwh, 0.0)
        for t in range(first, last):
            length[n, t], length[n, steps + t], stored[n, steps + t] = down_kwh, 0.0, 0.0
        for k in range(begin[i], begin[i + 1]):
            at = np.uint64(step[k])
            length[n, at], length[n, steps + at], stored[n, steps + at] = 0.0, up_kwh, least_kwh
        if last > first:
            length[n, first] *= first_ratio[i]
            length[n, steps + first] *= first_ratio[i]
            stored[n, steps + first] *= first_ratio[i]
        if last > first + _ONE:
            length[n, last - _ONE] *= last_ratio[i]
            length[n, steps + last - _ONE] *= last_ratio[i]
            stored[n, steps + last - _ONE] *= last_ratio[i]
        for t in range(first, last):
            stored[n, t] = -length[n, t]


@inner_kernel
def fill(assets: StoredAssets, patterns: StoragePatterns | None, rows: IntArray, work: Work) -> None:
    """Cheapest plans of some assets of the class that is ranked, left in ``work.stored`` and ``work.reached``."""
    table, starts, ends = assets.table, assets.first, assets.last
    slot, rank, slope, words = work.slot, work.rank, work.slope, work.words
    length, stored, reached = work.length, work.stored, work.reached
    steps = np.uint64(length.shape[1] // 2)
    for n in range(rows.shape[0]):
        i = rows[n]
        # What F's domain leaves free of [low, high]; below 0, what must be cut. Rounding may make that more than F has,
        # so segments are counted.
        left, right = -table[i, LOW], table[i, HIGH]
        lowest, highest, count = np.uint64(words.shape[0] - 1), _ZERO, 0
        for t in range(np.uint64(starts[i]), np.uint64(ends[i])):
            if patterns is not None:
                left += stored[n, steps + t]
                right -= stored[n, steps + t]
            if length[n, t] > 0.0:
                r = rank[t]
                words[r >> _WORD_SHIFT] |= _ONE << (r & _BIT_MASK)
                lowest, highest = min(lowest, r >> _WORD_SHIFT), max(highest, r >> _WORD_SHIFT)
                count += 1
                left -= length[n, t]
            if length[n, steps + t] > 0.0:
                r = rank[steps + t]
                words[r >> _WORD_SHIFT] |= _ONE << (r & _BIT_MASK)
                lowest, highest = min(lowest, r >> _WORD_SHIFT), max(highest, r >> _WORD_SHIFT)
                count += 1
                right -= length[n, steps + t]
            while left < 0.0 and count > 0:
                while words[lowest] == _ZERO:
                    lowest += _ONE
                one = slot[(lowest << _WORD_SHIFT) + lowest_bit(words[lowest])]
                share = min(length[n, one], -left)
                stored[n, one] += share
                left += share
                if share < length[n, one]:
                    length[n, one] -= share
                else:
                    words[lowest] &= words[lowest] - _ONE
                    count -= 1
            while right < 0.0 and count > 0:
                while words[highest] == _ZERO:
                    highest -= _ONE
                bit = highest_bit(words[highest])
                one = slot[(highest << _WORD_SHIFT) + bit]
                share = min(length[n, one], -right)
                right += share
                if share < length[n, one]:
                    length[n, one] -= share
                else:
                    words[highest] ^= _ONE << bit
                    count -= 1
            left, right = max(left, 0.0), max(right, 0.0)
        state = table[i, LOW] + left
        need, short_price, value = table[i, NEED], table[i, SHORT_PRICE], table[i, VALUE]
        for word in range(lowest, highest + _ONE):
            bits, words[word] = words[word], _ZERO
            while bits != _ZERO:
                r = (word << _WORD_SHIFT) + lowest_bit(bits)
                bits &= bits - _ONE
                share = length[n, slot[r]]
                if state < need:
                    if slope[r] > short_price:
                        break
                    if slope[r] >= value:
                        share = min(share, need - state)
                elif slope[r] >= value:
                    break
                stored[n, slot[r]] += share
                state += share
        reached[n] = state
