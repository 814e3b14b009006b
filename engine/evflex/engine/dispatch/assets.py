"""The fleet on the plan's grid: which steps each asset has, what it shares, and which oracle answers for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import AssetKind, DispatchProblem, Fleet
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

Steps = NDArray[np.int32]

# A shortfall without a price costs this many times the plan's dearest price, a missing reserve that many.
SHORTFALL_FACTOR = 10.0
RESERVE_FACTOR = 5.0
_DEAREST_FLOOR = 0.01
# A presence shorter than this is no presence.
_TOLERANCE_S = 1e-6


def dearest_price(problem: DispatchProblem) -> float:
    """Largest of |import price|, |export price| and energy value, at least 0.01."""
    prices = np.concatenate([np.abs(problem.import_price_per_kwh), np.abs(problem.export_price_per_kwh)])
    value = problem.fleet.energy_value_per_kwh
    return max(float(prices.max(initial=0.0)), float(value.max(initial=0.0)), _DEAREST_FLOOR)


@dataclass(frozen=True, slots=True)
class Windows:
    """Steps of each asset, [first, last), with the share of the first and the last in which it is available; (n,).

    A window of one step has its share in ``first_ratio``; one without steps has last = first.
    """

    first: Steps
    last: Steps
    first_ratio: FloatArray
    last_ratio: FloatArray


def present_shares(windows: Windows, rows: IntArray, step_count: int) -> FloatArray:
    """Share of each step in which some assets are available, (len(rows), T)."""
    first, last = windows.first[rows, None], windows.last[rows, None]
    step = np.arange(step_count)
    share = ((step >= first) & (step < last)).astype(np.float64)
    some = np.flatnonzero(last[:, 0] > first[:, 0])
    share[some, last[some, 0] - 1] = windows.last_ratio[rows[some]]
    share[some, first[some, 0]] = windows.first_ratio[rows[some]]
    return share


def windows_of(fleet: Fleet, grid: TimeGrid, until_unix_s: FloatArray | None = None) -> Windows:
    """Availability on a grid.

    Args:
        fleet: The fleet.
        grid: The grid.
        until_unix_s: Another end of each availability, (n,).
    """
    n = len(fleet)
    windows = Windows(np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n), np.empty(n))
    until = fleet.available_until_unix_s.astype(np.float64) if until_unix_s is None else until_unix_s
    _place(
        fleet.available_from_unix_s.astype(np.float64), until, grid.start_unix_s, grid.step_s, grid.step_count,
        windows.first, windows.last, windows.first_ratio, windows.last_ratio,
    )  # fmt: skip
    return windows


@kernel
def _place(
    begin_s: FloatArray, end_s: FloatArray, start_s: float, step_s: float, steps: int,
    first: Steps, last: Steps, first_ratio: FloatArray, last_ratio: FloatArray,
) -> None:  # fmt: skip
    """Cut each availability into steps."""
    for i in range(begin_s.shape[0]):
        a = min(max((begin_s[i] - start_s) / step_s, 0.0), float(steps))
        b = min(max((end_s[i] - start_s) / step_s, 0.0), float(steps))
        if (b - a) * step_s <= _TOLERANCE_S:
            first[i], last[i], first_ratio[i], last_ratio[i] = 0, 0, 0.0, 1.0
            continue
        begin, end = int(np.floor(a)), int(np.ceil(b))
        first[i], last[i] = begin, end
        if end - begin == 1:
            first_ratio[i], last_ratio[i] = b - a, 1.0
        else:
            first_ratio[i], last_ratio[i] = begin + 1 - a, b - (end - 1)


def wished(problem: DispatchProblem) -> Fleet:
    """The fleet with what its kinds and defaults mean: profiles as needs, no discharging loads, shortfall prices."""
    fleet = problem.fleet
    price = fleet.shortfall_price_per_kwh
    price = np.where(np.isnan(price), SHORTFALL_FACTOR * dearest_price(problem), price)
    fleet = replace(fleet, shortfall_price_per_kwh=price)
    loads = fleet.kind == AssetKind.FLEXIBLE_LOAD
    if not loads.any():
        return fleet
    need, headroom = fleet.energy_needed_kwh.copy(), fleet.energy_headroom_kwh.copy()
    rows, profile_kw = problem.profiles.asset, problem.profiles.power_kw
    by_profile = loads[rows] & (need[rows] == 0.0)
    at = rows[by_profile]
    need[at] = profile_kw[by_profile].sum(axis=1) * problem.grid.step_h
    headroom[at] = np.maximum(headroom[at], need[at])
    return replace(
        fleet, energy_needed_kwh=need, energy_headroom_kwh=headroom,
        max_discharge_kw=np.where(loads, 0.0, fleet.max_discharge_kw),
    )  # fmt: skip


def only_charges(fleet: Fleet) -> BoolArray:
    """Assets whose state only rises, (n,)."""
    other = (fleet.kind == AssetKind.HEAT_PUMP) | (fleet.kind == AssetKind.PV)
    only: BoolArray = (fleet.max_discharge_kw == 0.0) & ~other
    return only
