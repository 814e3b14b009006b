"""Vehicles that discharge, and charge at 0 or at least at a minimum: which steps to charge in.

A vehicle charges in the steps of its cheapest plan at some prices. That plan does not heed the minimum: where the store
is cut, or the need met, a step is charged in part. Such a step is charged at least at the minimum or not at all,
whichever leaves the cheaper plan, one step after the other.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.slope_trick import (
    CHARGE_EFFICIENCY,
    DISCHARGE_EFFICIENCY,
    HIGH,
    LOW,
    NEED,
    SHORT_PRICE,
    TILE,
    VALUE,
    WEAR,
    StoragePatterns,
    StoredAssets,
    end_of_class,
    fill,
    lay_out_patterns,
    new_work,
    rank_class,
)
from evflex.engine.dispatch.storage_oracle import combine_storage
from evflex.engine.kernels import argsort, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Power that counts as none, and as the minimum, in kW; state that counts as within its bounds, in kWh.
_TOLERANCE = 1e-9


def choose_storage_patterns(
    assets: StoredAssets, least_kw: FloatArray, charge_price: FloatArray, discharge_price: FloatArray, step_h: float
) -> BoolArray:
    """Where assets charge, chosen at one vector of prices, such that the minimum fits into the bounds of the state.

    Args:
        assets: Assets without heat pumps, those of a class together, (m,).
        least_kw: Smallest power of each when charging, (m,).
        charge_price: For each grid-side kWh, (T,).
        discharge_price: The same of discharging, (T,).
        step_h: Length of a step in hours.

    Returns:
        Shape (m, T).
    """
    count, steps = len(least_kw), len(charge_price)
    power, end = np.empty((count, steps)), np.empty(count)
    combine_storage(
        assets, None, np.arange(count), charge_price[None], discharge_price[None], np.ones((1, 1)),
        np.zeros(count, dtype=np.int64), step_h, power, end,
    )  # fmt: skip
    charges = power > _TOLERANCE
    kept: BoolArray = charges & (power >= _least_by_step(assets, least_kw, steps) - _TOLERANCE)
    cost = _costs(assets, least_kw, kept, np.arange(count), charge_price, discharge_price, step_h)
    asset, step = np.nonzero(charges & ~kept)
    place = np.arange(len(asset)) - np.searchsorted(asset, asset)
    for k in range(int(place.max(initial=-1)) + 1):
        rows, at = asset[place == k], step[place == k]
        kept[rows, at] = True
        tried = _costs(assets, least_kw, kept, rows, charge_price, discharge_price, step_h)
        dearer = tried >= cost[rows]
        kept[rows[dearer], at[dearer]] = False
        cost[rows] = np.minimum(tried, cost[rows])
    return kept


def patterns_of(least_kw: FloatArray, charges: BoolArray) -> StoragePatterns:
    """Patterns from where assets charge, (m, T)."""
    begin = np.concatenate([[0], np.cumsum(charges.sum(axis=1))]).astype(np.int64)
    return StoragePatterns(least_kw, begin, np.nonzero(charges)[1])


@kernel
def price_patterns(
    assets: StoredAssets, patterns: StoragePatterns, rows: IntArray, charge_price: FloatArray,
    discharge_price: FloatArray, step_h: float, cost: FloatArray,
) -> None:  # fmt: skip
    """Costs of the cheapest plans within patterns.

    Args:
        assets: Assets without heat pumps.
        patterns: Where they charge.
        rows: Which of them, those of a class together, (n,).
        charge_price: For each grid-side kWh, (T,).
        discharge_price: The same of discharging, (T,).
        step_h: Length of a step in hours.
        cost: Costs are written here, infinite where the minimum does not fit into the bounds of the state, (n,).
    """
    table, starts, ends = assets.table, assets.first, assets.last
    steps = charge_price.shape[0]
    charge_order, discharge_order = argsort(charge_price), argsort(discharge_price)
    work = new_work(steps)
    length, stored, reached = work.length, work.stored, work.reached
    begin = 0
    while begin < rows.shape[0]:
        end = end_of_class(assets, rows, begin)
        rank_class(assets, rows[begin], charge_price, discharge_price, charge_order, discharge_order, work)
        per_stored, kept = 1.0 / table[rows[begin], CHARGE_EFFICIENCY], table[rows[begin], DISCHARGE_EFFICIENCY]
        for tile in range(begin, end, TILE):
            some = rows[tile : min(tile + TILE, end)]
            lay_out_patterns(assets, patterns, some, step_h, work)
            for n in range(some.shape[0]):
                # the lowest state that can be reached
                i, lowest, cost[tile + n] = some[n], 0.0, 0.0
                for t in range(starts[i], ends[i]):
                    lowest = max(lowest - length[n, t], table[i, LOW]) + stored[n, steps + t]
                    if lowest > table[i, HIGH] + _TOLERANCE:
                        cost[tile + n] = np.inf
            fill(assets, patterns, some, work)
            for n in range(some.shape[0]):
                i = some[n]
                for t in range(starts[i], ends[i]):
                    cost[tile + n] += charge_price[t] * per_stored * stored[n, steps + t]
                    cost[tile + n] += (discharge_price[t] - table[i, WEAR]) * kept * stored[n, t]
                above = reached[n] - table[i, NEED]
                cost[tile + n] += max(-above, 0.0) * table[i, SHORT_PRICE] - max(above, 0.0) * table[i, VALUE]
        begin = end


def _costs(
    assets: StoredAssets, least_kw: FloatArray, charges: BoolArray, rows: IntArray, charge_price: FloatArray,
    discharge_price: FloatArray, step_h: float,
) -> FloatArray:  # fmt: skip
    """Costs of some rows that charge in given steps, (len(rows),)."""
    cost = np.empty(len(rows))
    patterns = patterns_of(least_kw, charges)
    price_patterns(assets, patterns, rows, charge_price, discharge_price, step_h, cost)
    return cost


def _least_by_step(assets: StoredAssets, least_kw: FloatArray, steps: int) -> FloatArray:
    """Smallest power of each when charging, by its share of each step, (m, T)."""
    least = np.repeat(least_kw[:, None], steps, axis=1)
    some = np.flatnonzero(assets.last > assets.first)
    least[some, assets.last[some] - 1] = least_kw[some] * assets.last_ratio[some]
    least[some, assets.first[some]] = least_kw[some] * assets.first_ratio[some]
    return least
