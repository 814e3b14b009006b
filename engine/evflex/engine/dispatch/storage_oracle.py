"""The cheapest plan of each asset with a store at given prices, exactly, and combinations of such plans.

An asset (EV, battery, heat pump) solves, with battery-side state s in kWh and grid-side powers c and d in kW,

  min Σ Δ(λc·c − (λd − wear)·d) + short_price·max(0, need − s_end) − value·max(0, s_end − need)
  0 <= c <= C,  0 <= d <= D,  s₀ = 0,  s = s before + (η_c·c − d/η_d)·Δ,  low <= s <= high.

A strongly negative price may make charging and discharging at once pay. Such a plan is a lower bound; powers are always
netted: the stored energy of a step as the one power, of either sign, that leaves the same state.

With patterns, an asset charges in chosen steps, at least at a minimum, and discharges in others only. No plan does both
at once, and plans mix without netting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.dispatch.slope_trick import (
    CHARGE_EFFICIENCY,
    DISCHARGE_EFFICIENCY,
    NEED,
    SHORT_PRICE,
    TILE,
    VALUE,
    WEAR,
    StoragePatterns,
    StoredAssets,
    Work,
    end_of_class,
    fill,
    lay_out,
    lay_out_patterns,
    new_work,
    rank_class,
)
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray


class StorageTotals(NamedTuple):
    """Sums over assets, in money and battery-side kWh.

    Attributes:
        relaxed_cost: Least cost when charging and discharging at once is allowed: a lower bound.
        netted_cost: Cost of the netted powers at the same prices; equal unless both at once would pay.
        wear_cost: Part of the netted cost.
        shortfall_kwh: Missing at the end.
        shortfall_cost: Part of the netted cost.
        energy_value: Earned above the need, taken off the netted cost.
    """

    relaxed_cost: float
    netted_cost: float
    wear_cost: float
    shortfall_kwh: float
    shortfall_cost: float
    energy_value: float


def class_order(assets: StoredAssets) -> IntArray:
    """Rows such that assets of a class lie together, otherwise in their order, (m,)."""
    heat_pump = assets.profile >= 0
    keys = [assets.table[:, column] for column in (DISCHARGE_EFFICIENCY, CHARGE_EFFICIENCY)]
    return np.lexsort((*keys, np.where(heat_pump, 0.0, assets.table[:, WEAR]), heat_pump))


@kernel
def solve_storage(
    assets: StoredAssets, patterns: StoragePatterns | None, rows: IntArray, charge_price: FloatArray,
    discharge_price: FloatArray, step_h: float, drawn_kw: FloatArray, injected_kw: FloatArray,
) -> StorageTotals:  # fmt: skip
    """Cheapest plans of some assets at one vector of prices, as sums.

    Args:
        assets: Assets.
        patterns: Steps in which they charge, where these are chosen; then there are no heat pumps.
        rows: Which of them, those of a class together, (n,).
        charge_price: λc for each grid-side kWh, (T,).
        discharge_price: λd, (T,).
        step_h: Δ in hours.
        drawn_kw: The netted powers of those that consume, base included, are added here, (T,).
        injected_kw: The netted powers of those that inject are added here, as positive numbers, (T,).
    """
    steps = charge_price.shape[0]
    charge_order, discharge_order = argsort(charge_price), argsort(discharge_price)
    work = new_work(steps)
    sums = _ClassSums(np.zeros(steps), np.zeros(steps), np.zeros(steps), np.zeros(steps))
    relaxed = netted = wear_cost = missing = missing_cost = energy_value = 0.0
    begin = 0
    while begin < rows.shape[0]:
        end = end_of_class(assets, rows, begin)
        rank_class(assets, rows[begin], charge_price, discharge_price, charge_order, discharge_order, work)
        for tile in range(begin, end, TILE):
            some = rows[tile : min(tile + TILE, end)]
            if patterns is None:
                lay_out(assets, some, step_h, work)
            else:
                lay_out_patterns(assets, patterns, some, step_h, work)
            fill(assets, patterns, some, work)
            tile_missing, tile_missing_cost, tile_value = _add_tile(assets, some, work, sums)
            missing += tile_missing
            missing_cost += tile_missing_cost
            energy_value += tile_value
        class_relaxed, class_netted, class_wear = _add_class(
            assets, rows[begin], charge_price, discharge_price, step_h, sums, drawn_kw, injected_kw
        )
        relaxed += class_relaxed
        netted += class_netted
        wear_cost += class_wear
        begin = end
    end_cost = missing_cost - energy_value
    return StorageTotals(relaxed + end_cost, netted + end_cost, wear_cost, missing, missing_cost, energy_value)


@kernel
def combine_storage(
    assets: StoredAssets, patterns: StoragePatterns | None, rows: IntArray, charge_price: FloatArray,
    discharge_price: FloatArray, weight: FloatArray, block: IntArray, step_h: float, power_kw: FloatArray,
    end_kwh: FloatArray,
) -> None:  # fmt: skip
    """Powers of some assets: the convex combination of their cheapest plans at several vectors of prices.

    States are combined, and a step's combined change of state is netted into one power. It keeps every bound, and
    never consumes more than the combined powers, which may charge in one plan and discharge in another.

    Args:
        assets: Assets.
        patterns: Steps in which they charge, where these are chosen; then there are no heat pumps.
        rows: Which of them, those of a class together, (n,).
        charge_price: λc of each plan, (J, T).
        discharge_price: λd of each plan, (J, T).
        weight: Weights of the plans, each row of sum 1, (B, J).
        block: Row of ``weight`` of each asset, (n,).
        step_h: Δ in hours.
        power_kw: Netted powers, base included, are written here, (n, T).
        end_kwh: State at the end is written here, (n,).
    """
    work = new_work(charge_price.shape[1])
    power_kw[:] = 0.0
    end_kwh[:] = 0.0
    wanted, place = np.empty_like(rows), np.empty_like(rows)
    for j in range(charge_price.shape[0]):
        charge_order, discharge_order = argsort(charge_price[j]), argsort(discharge_price[j])
        count = 0
        for n in range(rows.shape[0]):
            if weight[block[n], j] != 0.0:
                wanted[count], place[count] = rows[n], n
                count += 1
        begin = 0
        while begin < count:
            end = end_of_class(assets, wanted[:count], begin)
            rank_class(assets, wanted[begin], charge_price[j], discharge_price[j], charge_order, discharge_order, work)
            for tile in range(begin, end, TILE):
                some = wanted[tile : min(tile + TILE, end)]
                if patterns is None:
                    lay_out(assets, some, step_h, work)
                else:
                    lay_out_patterns(assets, patterns, some, step_h, work)
                fill(assets, patterns, some, work)
                _add_weighted(assets, some, place[tile:], weight[:, j], block, work, power_kw, end_kwh)
            begin = end
    _net(assets, rows, step_h, power_kw)


class _ClassSums(NamedTuple):
    """Sums over assets of a class, (T,) each.

    Attributes:
        charged: Battery-side kWh.
        discharged: Battery-side kWh, >= 0.
        both: Part of the two that nets out.
        base: Base powers in kW.
    """

    charged: FloatArray
    discharged: FloatArray
    both: FloatArray
    base: FloatArray


@inner_kernel
def _add_tile(assets: StoredAssets, rows: IntArray, work: Work, sums: _ClassSums) -> tuple[float, float, float]:
    """Add the energies of some plans to ``sums``; returns shortfall in kWh, its cost, and value of energy."""
    table, profile, base_kw = assets.table, assets.profile, assets.base_kw
    starts, ends, first_ratio, last_ratio = assets.first, assets.last, assets.first_ratio, assets.last_ratio
    charged, discharged, both, base = sums.charged, sums.discharged, sums.both, sums.base
    stored, reached = work.stored, work.reached
    steps = np.uint64(charged.shape[0])
    missing = missing_cost = energy_value = 0.0
    for n in range(rows.shape[0]):
        i = rows[n]
        short = max(table[i, NEED] - reached[n], 0.0)
        missing += short
        missing_cost += table[i, SHORT_PRICE] * short
        energy_value += table[i, VALUE] * max(reached[n] - table[i, NEED], 0.0)
        for t in range(np.uint64(starts[i]), np.uint64(ends[i])):
            up, down = stored[n, steps + t], -stored[n, t]
            charged[t] += up
            discharged[t] += down
            both[t] += min(up, down)
        if profile[i] >= 0:
            for t in range(starts[i], ends[i]):
                base[t] += base_kw[profile[i], t] * _ratio(t, starts[i], ends[i], first_ratio[i], last_ratio[i])
    return missing, missing_cost, energy_value


@inner_kernel
def _add_class(
    assets: StoredAssets, i: int, charge_price: FloatArray, discharge_price: FloatArray, step_h: float,
    sums: _ClassSums, drawn_kw: FloatArray, injected_kw: FloatArray,
) -> tuple[float, float, float]:  # fmt: skip
    """Turn the energies of asset i's class into powers, and empty ``sums``; returns relaxed, netted and wear cost."""
    heat_pump = assets.profile[i] >= 0
    wear = 0.0 if heat_pump else assets.table[i, WEAR]
    per_charged = 1.0 / (assets.table[i, CHARGE_EFFICIENCY] * step_h)
    per_discharged = assets.table[i, DISCHARGE_EFFICIENCY] / step_h
    charged, discharged, both, base = sums.charged, sums.discharged, sums.both, sums.base
    relaxed = netted = wear_cost = 0.0
    for t in range(charged.shape[0]):
        price, gain = charge_price[t], (charge_price[t] if heat_pump else discharge_price[t]) - wear
        relaxed += step_h * (price * (base[t] + charged[t] * per_charged) - gain * discharged[t] * per_discharged)
        charge_kw = (charged[t] - both[t]) * per_charged
        discharge_kw = (discharged[t] - both[t]) * per_discharged
        netted += step_h * (price * (base[t] + charge_kw) - gain * discharge_kw)
        wear_cost += step_h * wear * discharge_kw
        if heat_pump:
            drawn_kw[t] += base[t] + charge_kw - discharge_kw
        else:
            drawn_kw[t] += charge_kw
            injected_kw[t] += discharge_kw
        charged[t] = discharged[t] = both[t] = base[t] = 0.0
    return relaxed, netted, wear_cost


@inner_kernel
def _add_weighted(
    assets: StoredAssets, rows: IntArray, place: IntArray, weight: FloatArray, block: IntArray, work: Work,
    stored_kwh: FloatArray, end_kwh: FloatArray,
) -> None:  # fmt: skip
    """Add the changes of state of some plans, and their states at the end, at their weights."""
    starts, ends = assets.first, assets.last
    stored, reached = work.stored, work.reached
    steps = np.uint64(stored_kwh.shape[1])
    for n in range(rows.shape[0]):
        at, share = place[n], weight[block[place[n]]]
        end_kwh[at] += share * reached[n]
        for t in range(np.uint64(starts[rows[n]]), np.uint64(ends[rows[n]])):
            stored_kwh[at, t] += share * (stored[n, t] + stored[n, steps + t])


@inner_kernel
def _net(assets: StoredAssets, rows: IntArray, step_h: float, power_kw: FloatArray) -> None:
    """Turn changes of state in kWh into powers, in place, and add base powers."""
    table, profile, base_kw = assets.table, assets.profile, assets.base_kw
    starts, ends, first_ratio, last_ratio = assets.first, assets.last, assets.first_ratio, assets.last_ratio
    for n in range(rows.shape[0]):
        i = rows[n]
        per_charged = 1.0 / (table[i, CHARGE_EFFICIENCY] * step_h)
        per_discharged = table[i, DISCHARGE_EFFICIENCY] / step_h
        for t in range(np.uint64(starts[i]), np.uint64(ends[i])):
            power_kw[n, t] *= per_charged if power_kw[n, t] >= 0.0 else per_discharged
        if profile[i] >= 0:
            for t in range(starts[i], ends[i]):
                ratio = _ratio(t, starts[i], ends[i], first_ratio[i], last_ratio[i])
                power_kw[n, t] += base_kw[profile[i], t] * ratio


@inner_kernel
def _ratio(t: int, first: int, last: int, first_ratio: float, last_ratio: float) -> float:
    """Share of step t of a window in which an asset is available."""
    if t == first:
        return first_ratio
    return last_ratio if t == last - 1 else 1.0
