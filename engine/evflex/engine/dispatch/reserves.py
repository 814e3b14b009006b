"""Reserves sold before: which assets keep them deliverable, what it takes of their freedom, and the rows that follow.

Whoever takes part is planned so that one call at any step costs no driver energy (docs/dispatch.md gives the rules):
upward it is ready early enough to charge again what the call takes, downward it leaves room for what the call brings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evflex.engine.dispatch.assets import RESERVE_FACTOR, Windows, dearest_price, windows_of
from evflex.engine.dispatch.model import AssetKind, DispatchProblem, Fleet
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.timegrid import TimeGrid

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class ReserveRows:
    """What reserves ask of the sum of the assets that take part.

    Attributes:
        up: Assets that take part upward, (n,); None where nothing is sold upward.
        down: Assets that take part downward, (n,); None where nothing is sold downward.
        least_kw: Least sum of the powers of ``up``, -inf where nothing is asked, (T,).
        most_kw: Largest sum of the powers of ``down``, inf where nothing is asked, (T,).
        price_per_kwh: Price of what is missing.
    """

    up: BoolArray | None
    down: BoolArray | None
    least_kw: FloatArray
    most_kw: FloatArray
    price_per_kwh: float


@dataclass(frozen=True, slots=True)
class Held:
    """The fleet with what taking part in reserves leaves of its freedom.

    Attributes:
        rows: What reserves ask of the sum.
        fleet: The fleet, with less headroom where it takes part downward.
        windows: Its windows, shorter where it takes part upward.
        low_kwh: Lowest state relative to the first level, <= 0, (n,).
    """

    rows: ReserveRows
    fleet: Fleet
    windows: Windows
    low_kwh: FloatArray


def hold_reserves(problem: DispatchProblem, fleet: Fleet) -> Held:
    """Who keeps the reserves deliverable, and what that takes.

    Args:
        problem: Grid and reserves.
        fleet: The fleet as it is planned.
    """
    grid = problem.grid
    windows, low_kwh = windows_of(fleet, grid), -fleet.energy_available_kwh
    none = np.full(grid.step_count, np.inf)
    call = call_steps(problem)
    wanted_up = _over_calls(sum((r.up_kw for r in problem.reserves), np.zeros(grid.step_count)), call)
    wanted_down = _over_calls(sum((r.down_kw for r in problem.reserves), np.zeros(grid.step_count)), call)
    if not wanted_up.any() and not wanted_down.any():
        return Held(ReserveRows(None, None, -none, none, 0.0), fleet, windows, low_kwh)
    able = np.isin(fleet.kind, [AssetKind.EV, AssetKind.BATTERY, AssetKind.FLEXIBLE_LOAD])
    asked_up, asked_down = (able & _touches(windows, wanted > 0.0) for wanted in (wanted_up, wanted_down))
    up = down = None
    least, most = -none, none
    headroom_kwh = fleet.energy_headroom_kwh.copy()
    if wanted_up.any():
        up, windows, low_kwh = _ready_early(fleet, grid, windows, asked_up, call)
    if wanted_down.any():
        room = call * grid.step_h * fleet.charge_efficiency * fleet.max_charge_kw
        down = asked_down & (headroom_kwh - room >= fleet.energy_needed_kwh - _TOLERANCE)
        headroom_kwh[down] = np.maximum(headroom_kwh - room, fleet.energy_needed_kwh)[down]
        most = _present_kw(windows, down, fleet.max_charge_kw, grid.step_count) - wanted_down
        most = np.where(wanted_down > 0.0, most, np.inf)
    if up is not None:
        least = wanted_up - _present_kw(windows, up, fleet.max_discharge_kw, grid.step_count)
        least = np.where(wanted_up > 0.0, least, -np.inf)
    rows = ReserveRows(up, down, least, most, RESERVE_FACTOR * dearest_price(problem))
    return Held(rows, replace(fleet, energy_headroom_kwh=headroom_kwh), windows, low_kwh)


def call_steps(problem: DispatchProblem) -> int:
    """Steps that a call lasts: the longest endurance."""
    endurance_s = max((reserve.endurance_s for reserve in problem.reserves), default=0.0)
    return max(int(np.ceil(endurance_s / problem.grid.step_s - _TOLERANCE)), 1)


def missing_by_reserve(sold_kw: FloatArray, missing_kw: FloatArray, call: int) -> FloatArray:
    """Which reserves the missing power breaks: of the largest call that may run in a step, the later ones first.

    Args:
        sold_kw: What each reserve sold, (reserves, T).
        missing_kw: What is missing in each step, (T,).
        call: Steps that a call lasts.

    Returns:
        Missing power of each reserve and step, (reserves, T).
    """
    missing, total = np.zeros_like(sold_kw), sold_kw.sum(axis=0)
    for k in np.flatnonzero(missing_kw > 0.0).tolist():
        first = max(k - call + 1, 0)
        start = first + int(np.argmax(total[first : k + 1]))
        left = missing_kw[k]
        for r in range(len(sold_kw) - 1, -1, -1):
            missing[r, k] = min(left, sold_kw[r, start])
            left -= missing[r, k]
    return missing


def _over_calls(sold_kw: FloatArray, call: int) -> FloatArray:
    """What calls can ask for in each step: the most of the steps in which one may have begun."""
    asked = sold_kw.copy()
    for k in range(1, min(call, len(sold_kw))):
        asked[k:] = np.maximum(asked[k:], sold_kw[:-k])
    return asked


def _touches(windows: Windows, steps: BoolArray) -> BoolArray:
    """Assets that are available in any of some steps, (n,)."""
    before = np.concatenate([[0], np.cumsum(steps)])
    return np.asarray(before[windows.last] > before[windows.first])


def _ready_early(
    fleet: Fleet, grid: TimeGrid, windows: Windows, asked: BoolArray, call: int
) -> tuple[BoolArray, Windows, FloatArray]:
    """Who takes part upward; windows and lowest states of all."""
    eta = fleet.charge_efficiency * fleet.discharge_efficiency
    charges = fleet.max_charge_kw > 0.0
    ratio = np.divide(fleet.max_discharge_kw, eta * fleet.max_charge_kw, out=np.zeros(len(fleet)), where=charges)
    margin_s = np.ceil(call * (1.0 + ratio) - _TOLERANCE) * grid.step_s
    until_s = fleet.available_until_unix_s.astype(np.float64)
    shorter = windows_of(fleet, grid, until_s - margin_s)
    reach_kwh = fleet.charge_efficiency * fleet.max_charge_kw * _steps_present(shorter) * grid.step_h
    taken_kwh = call * grid.step_h * fleet.max_discharge_kw / fleet.discharge_efficiency
    up = asked & (charges | (fleet.max_discharge_kw == 0.0))
    up &= fleet.energy_needed_kwh <= reach_kwh + _TOLERANCE
    up &= taken_kwh <= fleet.energy_available_kwh + _TOLERANCE
    held = windows_of(fleet, grid, np.where(up, until_s - margin_s, until_s))
    low_kwh = np.minimum(np.where(up, taken_kwh, 0.0) - fleet.energy_available_kwh, 0.0)
    return up, held, low_kwh


def _steps_present(windows: Windows) -> FloatArray:
    """Steps that each asset is available, (n,)."""
    length = (windows.last - windows.first).astype(np.float64)
    some = length > 0.0
    steps: FloatArray = np.where(some, length - (1.0 - windows.first_ratio) - (1.0 - windows.last_ratio), 0.0)
    return steps


def _present_kw(windows: Windows, takes_part: BoolArray, power_kw: FloatArray, steps: int) -> FloatArray:
    """Power of the assets that take part and are available in each step, (T,)."""
    rows = np.flatnonzero(takes_part & (windows.last > windows.first))
    first, last, p = windows.first[rows], windows.last[rows], power_kw[rows]
    change = np.zeros(steps + 1)
    np.add.at(change, first, p)
    np.add.at(change, last, -p)
    present: FloatArray = np.cumsum(change)[:steps]
    np.subtract.at(present, first, p * (1.0 - windows.first_ratio[rows]))
    np.subtract.at(present, last - 1, p * (1.0 - windows.last_ratio[rows]))
    return present
