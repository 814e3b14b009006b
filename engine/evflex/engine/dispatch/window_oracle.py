"""The exact answer of assets that only charge to prices: each fills the cheapest steps of its window.

An asset of power p that wants the energy `need`, and takes `room` where a step is cheaper than its value, fills the
steps of its window in ascending price λ up to the energy

    E = max(min(need, C(K_short)), min(room, C(K_value)))

where C(k) is what the k cheapest steps hold, K_short and K_value count the steps cheaper than a shortfall and than the
value. (Any other filling costs more by exchange; the sets are polymatroids.) A filling of the cheapest steps is a step
function over ranks: assets that share a window, merged, add two or three entries each to its differences, some 10 ns an
asset. So no asset is too many, and those of one window need not be alike.

Energies are in kW·steps on the grid side, prices in money per kW and step.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.window_assets import WindowTable
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Columns of the answer of a block, beside its powers.
SHORT_COST, VALUE, SHORTFALL = range(3)
TERMS = 3


@kernel
def respond(
    table: WindowTable, run_begin: IntArray, runs: IntArray, price: FloatArray, power: FloatArray, terms: FloatArray
) -> None:
    """Add up what the assets of a block draw.

    Args:
        table: Assets, sorted by run.
        run_begin: First asset of each run, and the end of the last, (runs + 1,).
        runs: The block's first run, and the end of its last, (2,).
        price: Price of each step, (T,).
        power: Power is added here, (T,).
        terms: Cost of shortfall, value and shortfall in kWh are added here, (3,).
    """
    steps = price.shape[0]
    order = argsort(price)
    sorted_price, step_of, drawn = np.empty(steps), np.empty(steps, dtype=np.int64), np.empty(steps + 2)
    for run in range(runs[0], runs[1]):
        begin, end = run_begin[run], run_begin[run + 1]
        first, last = table.first[begin], table.last[begin]
        count, first_rank, last_rank = rank(order, price, first, last, step_of, sorted_price)
        drawn[: count + 2] = 0.0
        short_cost, value, shortfall = 0.0, 0.0, 0.0
        known_value, welcome = np.nan, 0
        dearest = sorted_price[count - 1]
        for i in range(begin, end):
            if table.value[i] != known_value:
                # assets of a window are sorted by value: few values, few searches
                known_value = table.value[i]
                welcome = cheaper(sorted_price, count, known_value)
            wanted = count if table.short_price[i] > dearest else cheaper(sorted_price, count, table.short_price[i])
            if table.first_ratio[i] == 1.0 and table.last_ratio[i] == 1.0:
                p = table.power[i]
                energy = max(min(table.need[i], wanted * p), min(table.room[i], welcome * p))
                if energy > 0.0:
                    full = min(int(energy / p), count)
                    drawn[0] += p
                    drawn[full] += energy - full * p - p
                    drawn[full + 1] -= energy - full * p
            else:
                p, first_ratio, last_ratio = table.power[i], table.first_ratio[i], table.last_ratio[i]
                energy = max(
                    min(table.need[i], p * held(wanted, first_rank, last_rank, first_ratio, last_ratio)),
                    min(table.room[i], p * held(welcome, first_rank, last_rank, first_ratio, last_ratio)),
                )
                _fill(p, energy, count, first_rank, last_rank, first_ratio, last_ratio, drawn)
            missing, more = table.need[i] - energy, energy - table.need[i]
            if missing > 0.0:
                short_cost += table.short_price[i] * missing
                shortfall += table.kwh[i] * missing
            elif more > 0.0:
                value += table.value[i] * more
        level = 0.0
        for r in range(count):
            level += drawn[r]
            power[step_of[r]] += level
        terms[SHORT_COST] += short_cost
        terms[VALUE] += value
        terms[SHORTFALL] += shortfall


@kernel
def add_powers(table: WindowTable, chosen: IntArray, price: FloatArray, weight: FloatArray, power: FloatArray) -> None:
    """Add the weighted powers of single assets at several prices: x_i = Σ_j w_j x_i(λ_j).

    Args:
        table: Assets.
        chosen: Assets of the table; it is fast where those of one window stand beside each other, (m,).
        price: Price vectors, (J, T).
        weight: Weight of each price vector, (J,).
        power: Powers are added here, (m, T).
    """
    steps = price.shape[1]
    sorted_price, step_of = np.empty(steps), np.empty(steps, dtype=np.int64)
    for j in range(price.shape[0]):
        order = argsort(price[j])
        first, last, count, first_rank, last_rank = -1, -1, 0, 0, 0
        share = weight[j]
        for k in range(chosen.shape[0]):
            i = chosen[k]
            if table.first[i] != first or table.last[i] != last:
                first, last = table.first[i], table.last[i]
                count, first_rank, last_rank = rank(order, price[j], first, last, step_of, sorted_price)
            wanted = cheaper(sorted_price, count, table.short_price[i])
            welcome = cheaper(sorted_price, count, table.value[i])
            p, first_ratio, last_ratio = table.power[i], table.first_ratio[i], table.last_ratio[i]
            left = max(
                min(table.need[i], p * held(wanted, first_rank, last_rank, first_ratio, last_ratio)),
                min(table.room[i], p * held(welcome, first_rank, last_rank, first_ratio, last_ratio)),
            )
            # the filled ranks are few: walk them
            for r in range(count):
                most = p
                if r == first_rank:
                    most *= first_ratio
                elif r == last_rank:
                    most *= last_ratio
                power[k, step_of[r]] += share * min(left, most)
                left -= most
                if left <= 0.0:
                    break


@inner_kernel
def rank(
    order: IntArray, price: FloatArray, first: int, last: int, step_of: IntArray, sorted_price: FloatArray
) -> tuple[int, int, int]:
    """Steps of a window in ascending price; their number, and the ranks of the window's first and last step."""
    count, first_rank, last_rank = 0, 0, 0
    for step in order:
        if first <= step < last:
            step_of[count] = step
            sorted_price[count] = price[step]
            if step == last - 1:
                last_rank = count
            if step == first:
                first_rank = count
            count += 1
    return count, first_rank, last_rank


@inner_kernel
def cheaper(sorted_price: FloatArray, count: int, price: float) -> int:
    """How many of the sorted prices lie below a price."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if sorted_price[middle] < price:
            low = middle + 1
        else:
            high = middle
    return low


@inner_kernel
def held(ranks: int, first_rank: int, last_rank: int, first_ratio: float, last_ratio: float) -> float:
    """C(k) / p: how many whole steps the k cheapest are worth. Scalars, as passing arrays counts their references."""
    sum_of_shares = float(ranks)
    if first_rank < ranks:
        sum_of_shares += first_ratio - 1.0
    if last_rank < ranks and last_rank != first_rank:
        sum_of_shares += last_ratio - 1.0
    return sum_of_shares


@inner_kernel
def _fill(
    p: float, energy: float, count: int, first_rank: int, last_rank: int, first_ratio: float, last_ratio: float,
    drawn: FloatArray,
) -> None:  # fmt: skip
    """Add the filling of the cheapest ranks with a power p to the differences over ranks."""
    if energy <= 0.0 or p <= 0.0:
        return
    # Edges of the window hold less than a step; take them in the order of their ranks.
    near, far = first_rank, last_rank
    near_ratio, far_ratio = first_ratio, last_ratio
    if near == far:
        far, far_ratio = count, 1.0
    elif near > far:
        near, far, near_ratio, far_ratio = far, near, far_ratio, near_ratio
    units = energy / p
    if units <= near:
        full = int(units)
    elif units <= near + near_ratio:
        full = near
    elif units <= far + near_ratio - 1.0:
        full = int(units - near_ratio) + 1
    elif units <= far + near_ratio - 1.0 + far_ratio or far >= count:
        full = far
    else:
        full = int(units - near_ratio - far_ratio) + 2
    full = min(full, count)
    held = float(full)
    drawn[0] += p
    if near < full:
        cut = p * (1.0 - near_ratio)
        drawn[near] -= cut
        drawn[near + 1] += cut
        held += near_ratio - 1.0
    if far < full:
        cut = p * (1.0 - far_ratio)
        drawn[far] -= cut
        drawn[far + 1] += cut
        held += far_ratio - 1.0
    rest = energy - held * p
    drawn[full] += rest - p
    drawn[full + 1] -= rest
