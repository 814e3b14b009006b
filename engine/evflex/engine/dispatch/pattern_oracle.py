"""Vehicles that charge at 0 or at least at a minimum: steps to charge in are chosen first, powers in them are free.

With the steps of a vehicle chosen, its power lies in [f·min, f·max] in these and is 0 in others: a convex set again,
for which the decomposition finds the best powers. The exact answer to prices fills the chosen steps from their
minimum in ascending price. Steps are chosen as the cheapest of the window at one of the price vectors that the plan
without minimums mixes: as many as its filling takes, or one less, whichever is cheaper once the minimum holds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.bits import lowest_bit
from evflex.engine.dispatch.window_assets import WindowTable
from evflex.engine.dispatch.window_oracle import SHORT_COST, SHORTFALL, VALUE, cheaper, held, rank
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# What a filling may exceed the room by, in kW·steps.
_TOLERANCE = 1e-12
# A power below this is none.
_NONE_KW = 1e-9
# How much an asset's own energy counts beside the sum of all, where a step is rounded (measured).
_OWN = 0.5
_ONE = np.uint64(1)


class Patterns(NamedTuple):
    """Chosen steps of each asset.

    Attributes:
        begin: First entry of each asset, and the end of the last, (m + 1,).
        step: Steps, (entries,).
    """

    begin: IntArray
    step: IntArray


@kernel
def choose_patterns(
    table: WindowTable, least: FloatArray, assets: IntArray, price: FloatArray, chosen: NDArray[np.bool_]
) -> None:
    """Choose the steps of some assets at one price vector.

    Args:
        table: All assets.
        least: Smallest power of each when charging, in kW, (m,).
        assets: Assets to choose for, (k,).
        price: Prices, (T,).
        chosen: Where each charges is set here, (k, T).
    """
    steps = price.shape[0]
    sorted_price, step_of, order = np.empty(steps), np.empty(steps, dtype=np.int64), argsort(price)
    first, last, ranks, first_rank, last_rank = -1, -1, 0, 0, 0
    for k in range(assets.shape[0]):
        i = assets[k]
        if table.first[i] != first or table.last[i] != last:
            first, last = table.first[i], table.last[i]
            ranks, first_rank, last_rank = rank(order, price, first, last, step_of, sorted_price)
        wanted = cheaper(sorted_price, ranks, table.short_price[i])
        welcome = cheaper(sorted_price, ranks, table.value[i])
        p, first_ratio, last_ratio = table.power[i], table.first_ratio[i], table.last_ratio[i]
        need, room, value, short_price = table.need[i], table.room[i], table.value[i], table.short_price[i]
        energy = max(
            min(need, p * held(wanted, first_rank, last_rank, first_ratio, last_ratio)),
            min(room, p * held(welcome, first_rank, last_rank, first_ratio, last_ratio)),
        )
        filled = 0
        while filled < ranks and p * held(filled, first_rank, last_rank, first_ratio, last_ratio) < energy - _TOLERANCE:
            filled += 1
        best, best_cost = 0, short_price * need
        for tried in range(max(filled - 1, 1), filled + 1):
            # filled from the minimum, which holds in every step that is chosen
            drawn, cost = 0.0, 0.0
            for r in range(tried):
                low = least[i] * _share(r, first_rank, last_rank, first_ratio, last_ratio)
                drawn += low
                cost += low * sorted_price[r]
            if drawn > room + _TOLERANCE:
                continue
            for r in range(tried):
                most = (p - least[i]) * _share(r, first_rank, last_rank, first_ratio, last_ratio)
                more = max(min(_wanted(drawn, sorted_price[r], need, room, value, short_price), most), 0.0)
                drawn += more
                cost += more * sorted_price[r]
            cost += max(need - drawn, 0.0) * short_price - max(drawn - need, 0.0) * value
            if cost < best_cost:
                best, best_cost = tried, cost
        for r in range(best):
            chosen[k, step_of[r]] = True


@kernel
def round_patterns(
    table: WindowTable, least: FloatArray, assets: IntArray, power: FloatArray, beyond: FloatArray,
    chosen: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Choose the steps of some assets as those in which they charge in a mixture, partial ones such that sums stay.

    Steps at or above the minimum are kept. One below it is charged at the minimum or not at all, whichever brings the
    sum of all assets so far, and half of the asset's own, closer to the mixture. Steps are added until they hold what
    the asset draws of its need, and dropped until their minimum fits into its room.

    Args:
        table: All assets.
        least: Smallest power of each when charging, in kW, (m,).
        assets: Assets to choose for, (k,).
        power: Their powers in the mixture, (k, T).
        beyond: What is drawn beyond the mixture in each step, so far and in the end, (T,).
        chosen: Where each charges is set here, (k, T).
    """
    for k in range(assets.shape[0]):
        i = assets[k]
        first, last = table.first[i], table.last[i] - 1
        first_ratio, last_ratio = table.first_ratio[i], table.last_ratio[i]
        own, drawn, floor, most = 0.0, 0.0, 0.0, 0.0
        for t in range(first, last + 1):
            share = _share(t, first, last, first_ratio, last_ratio)
            low, x = least[i] * share, power[k, t]
            drawn += x
            if x <= _NONE_KW:
                continue
            keep = x >= low - _NONE_KW
            if not keep:
                up, down = low - x, -x
                keep = abs(beyond[t] + _OWN * own + up) <= abs(beyond[t] + _OWN * own + down)
                change = up if keep else down
                beyond[t] += change
                own += change
            if keep:
                chosen[k, t] = True
                floor += low
                most += table.power[i] * share
        wanted = min(table.need[i], drawn)
        while most < wanted - _NONE_KW:
            at = _largest(power[k], chosen[k], first, last, False)
            if at < 0:
                break
            share = _share(at, first, last, first_ratio, last_ratio)
            chosen[k, at] = True
            beyond[at] += least[i] * share
            floor += least[i] * share
            most += table.power[i] * share
        while floor > table.room[i] + _TOLERANCE:
            at = _largest(-power[k], chosen[k], first, last, True)
            chosen[k, at] = False
            beyond[at] -= power[k, at]
            floor -= least[i] * _share(at, first, last, first_ratio, last_ratio)


@inner_kernel
def _largest(values: FloatArray, chosen: NDArray[np.bool_], first: int, last: int, which: bool) -> int:
    """Step of the largest value, other than 0, among those that are chosen or are not; -1 where there is none."""
    best, at = -np.inf, -1
    for t in range(first, last + 1):
        if chosen[t] == which and abs(values[t]) > _NONE_KW and values[t] > best:
            best, at = values[t], t
    return at


@inner_kernel
def _share(at: int, first: int, last: int, first_ratio: float, last_ratio: float) -> float:
    """Share of a step, or of the step of a rank, in which an asset is available."""
    if at == first:
        return first_ratio
    return last_ratio if at == last else 1.0


@inner_kernel
def _wanted(energy: float, price: float, need: float, room: float, value: float, short_price: float) -> float:
    """What an asset that has some energy takes at a price; scalars, because passing arrays counts their references."""
    if price < value:
        return room - energy
    return need - energy if price < short_price else 0.0


@kernel
def respond_in_patterns(
    table: WindowTable, least: FloatArray, patterns: Patterns, assets: IntArray, price: FloatArray, power: FloatArray,
    terms: FloatArray,
) -> None:  # fmt: skip
    """Add up what the assets of a block draw in their chosen steps.

    Args:
        table: Assets.
        least: Smallest power of each when charging, in kW, (m,).
        patterns: Chosen steps.
        assets: The block's first asset, and the end of its last, (2,).
        price: Price of each step, (T,).
        power: Power is added here, (T,).
        terms: Cost of shortfall, value and shortfall in kWh are added here, (3,).
    """
    ranks = _new_ranks(price.shape[0])
    _rank_steps(price, ranks)
    for i in range(assets[0], assets[1]):
        energy = _fill_pattern(table, least, patterns, i, price, ranks)
        for k in range(patterns.begin[i], patterns.begin[i + 1]):
            power[patterns.step[k]] += ranks.filling[k - patterns.begin[i]]
        missing, extra = table.need[i] - energy, energy - table.need[i]
        if missing > 0.0:
            terms[SHORT_COST] += table.short_price[i] * missing
            terms[SHORTFALL] += table.kwh[i] * missing
        elif extra > 0.0:
            terms[VALUE] += table.value[i] * extra


@kernel
def add_pattern_powers(
    table: WindowTable, least: FloatArray, patterns: Patterns, chosen: IntArray, price: FloatArray, weight: FloatArray,
    power: FloatArray,
) -> None:  # fmt: skip
    """Add the weighted powers of single assets at several prices.

    Args:
        table: Assets.
        least: Smallest power of each when charging, in kW, (m,).
        patterns: Chosen steps.
        chosen: Assets, (k,).
        price: Price vectors, (J, T).
        weight: Weight of each, (J,).
        power: Powers are added here, (k, T).
    """
    ranks = _new_ranks(price.shape[1])
    for j in range(price.shape[0]):
        _rank_steps(price[j], ranks)
        for n in range(chosen.shape[0]):
            i = chosen[n]
            _fill_pattern(table, least, patterns, i, price[j], ranks)
            for k in range(patterns.begin[i], patterns.begin[i + 1]):
                power[n, patterns.step[k]] += weight[j] * ranks.filling[k - patterns.begin[i]]


class _Ranks(NamedTuple):
    """Scratch: places of steps in ascending price, and the chosen steps of an asset as bits of these places."""

    place: IntArray
    words: NDArray[np.uint64]
    entry: IntArray
    filling: FloatArray


@inner_kernel
def _new_ranks(steps: int) -> _Ranks:
    return _Ranks(
        np.empty(steps, dtype=np.int64), np.zeros((steps >> 6) + 1, dtype=np.uint64), np.empty(steps, dtype=np.int64),
        np.empty(steps),
    )  # fmt: skip


@inner_kernel
def _rank_steps(price: FloatArray, ranks: _Ranks) -> None:
    order = argsort(price)
    for r in range(order.shape[0]):
        ranks.place[order[r]] = r


@inner_kernel
def _fill_pattern(
    table: WindowTable, least: FloatArray, patterns: Patterns, i: int, price: FloatArray, ranks: _Ranks
) -> float:
    """Cheapest powers of asset i in its chosen steps, in their order; returns the energy."""
    begin, end = patterns.begin[i], patterns.begin[i + 1]
    first, last = table.first[i], table.last[i] - 1
    first_ratio, last_ratio = table.first_ratio[i], table.last_ratio[i]
    low, spread = least[i], table.power[i] - least[i]
    need, room, value, short_price = table.need[i], table.room[i], table.value[i], table.short_price[i]
    energy = 0.0
    for k in range(begin, end):
        step = patterns.step[k]
        filled = low * _share(step, first, last, first_ratio, last_ratio)
        ranks.filling[k - begin] = filled
        energy += filled
        r = ranks.place[step]
        ranks.words[r >> 6] |= _ONE << np.uint64(r & 63)
        ranks.entry[r] = k
    wants = True
    for w in range(ranks.words.shape[0]):
        word = ranks.words[w]
        ranks.words[w] = 0
        while word and wants:
            k = ranks.entry[(w << 6) + int(lowest_bit(word))]
            word &= word - _ONE
            step = patterns.step[k]
            more = _wanted(energy, price[step], need, room, value, short_price)
            wants = more > 0.0
            if wants:
                more = min(more, spread * _share(step, first, last, first_ratio, last_ratio))
                ranks.filling[k - begin] += more
                energy += more
    return energy
