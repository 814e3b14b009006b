"""The exact answer of assets that only charge to prices: each fills the cheapest steps of its window.

An asset of power p that wants the energy `need`, and takes `room` where a step is cheaper than its value, fills the steps
of its window in ascending price λ up to the energy

    E = max(min(need, C(K_short)), min(room, C(K_value)))

where C(k) is what the k cheapest steps hold, K_short and K_value count the steps cheaper than a shortfall and than the
value. (Any filling costs more by exchange; the sets are polymatroids.) A filling of the cheapest steps is one step function
over ranks: assets that share a window add two entries each to its differences, which takes some 10 ns an asset.

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
    table: WindowTable, run_begin: IntArray, run_block: IntArray, runs: IntArray, price: FloatArray,
    signature: IntArray, power: FloatArray, terms: FloatArray,
) -> None:  # fmt: skip
    """Add up what the assets of some runs draw.

    Args:
        table: Assets, sorted by run.
        run_begin: First asset of each run, and the end of the last, (runs + 1,).
        run_block: Block of each run, (runs,), ascending.
        runs: The first run, and the end of the last, to be answered, (2,).
        price: Price of each signature and step, (S, T).
        signature: Signature of each block, (B,).
        power: Power of each block is added here, (B, T).
        terms: Cost of shortfall, value and shortfall in kWh of each block are added here, (B, 3).
    """
    steps = price.shape[1]
    order, seen = np.empty(steps, dtype=np.int64), -1
    sorted_price, step_of, drawn = np.empty(steps), np.empty(steps, dtype=np.int64), np.empty(steps + 2)
    for run in range(runs[0], runs[1]):
        block = run_block[run]
        if signature[block] != seen:
            seen = signature[block]
            order = argsort(price[seen])
        begin, end = run_begin[run], run_begin[run + 1]
        first, last = table.first[begin], table.last[begin]
        count, first_rank, last_rank = _rank(order, price[seen], first, last, step_of, sorted_price)
        drawn[: count + 2] = 0.0
        short_cost, value, shortfall = 0.0, 0.0, 0.0
        known_value, welcome = np.nan, 0
        dearest = sorted_price[count - 1]
        for i in range(begin, end):
            if table.value[i] != known_value:
                # assets of a window are sorted by value: few values, few searches
                known_value = table.value[i]
                welcome = _cheaper(sorted_price, count, known_value)
            wanted = count if table.short_price[i] > dearest else _cheaper(sorted_price, count, table.short_price[i])
            if table.first_ratio[i] == 1.0 and table.last_ratio[i] == 1.0:
                p = table.power[i]
                energy = max(min(table.need[i], wanted * p), min(table.room[i], welcome * p))
                if energy > 0.0:
                    full = min(int(energy / p), count)
                    drawn[0] += p
                    drawn[full] += energy - full * p - p
                    drawn[full + 1] -= energy - full * p
            else:
                energy = max(
                    min(table.need[i], _held(table, i, wanted, first_rank, last_rank)),
                    min(table.room[i], _held(table, i, welcome, first_rank, last_rank)),
                )
                _fill(table, i, energy, count, first_rank, last_rank, drawn)
            missing, more = table.need[i] - energy, energy - table.need[i]
            if missing > 0.0:
                short_cost += table.short_price[i] * missing
                shortfall += table.kwh[i] * missing
            elif more > 0.0:
                value += table.value[i] * more
        level = 0.0
        for rank in range(count):
            level += drawn[rank]
            power[block, step_of[rank]] += level
        terms[block, SHORT_COST] += short_cost
        terms[block, VALUE] += value
        terms[block, SHORTFALL] += shortfall


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
                count, first_rank, last_rank = _rank(order, price[j], first, last, step_of, sorted_price)
            wanted = _cheaper(sorted_price, count, table.short_price[i])
            welcome = _cheaper(sorted_price, count, table.value[i])
            left = max(
                min(table.need[i], _held(table, i, wanted, first_rank, last_rank)),
                min(table.room[i], _held(table, i, welcome, first_rank, last_rank)),
            )
            # the filled ranks are few: walk them
            for rank in range(count):
                most = table.power[i]
                if rank == first_rank:
                    most *= table.first_ratio[i]
                elif rank == last_rank:
                    most *= table.last_ratio[i]
                power[k, step_of[rank]] += share * min(left, most)
                left -= most
                if left <= 0.0:
                    break


@inner_kernel
def _rank(
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
def _cheaper(sorted_price: FloatArray, count: int, price: float) -> int:
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
def _held(table: WindowTable, i: int, ranks: int, first_rank: int, last_rank: int) -> float:
    """What the cheapest steps hold: C(k)."""
    held = float(ranks)
    if first_rank < ranks:
        held += table.first_ratio[i] - 1.0
    if last_rank < ranks and last_rank != first_rank:
        held += table.last_ratio[i] - 1.0
    return held * table.power[i]


@inner_kernel
def _fill(
    table: WindowTable, i: int, energy: float, count: int, first_rank: int, last_rank: int, drawn: FloatArray
) -> None:
    """Add asset i's filling of the cheapest ranks to the differences over ranks."""
    p = table.power[i]
    if energy <= 0.0 or p <= 0.0:
        return
    # Edges of the window hold less than a step; take them in the order of their ranks.
    near, far = first_rank, last_rank
    near_ratio, far_ratio = table.first_ratio[i], table.last_ratio[i]
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
