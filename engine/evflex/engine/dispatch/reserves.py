"""Reserves sold before: which assets keep them deliverable, what it takes of their freedom, and the rows that follow.

Whoever takes part is planned so that one call at any step costs no driver energy (docs/dispatch.md gives the rules):
upward it is ready early enough to charge again what the call takes, downward it leaves room for what the call brings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evflex.engine.dispatch.assets import RESERVE_FACTOR, Windows, dearest_price
from evflex.engine.dispatch.model import AssetKind, DispatchProblem, Fleet
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

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
        call_steps: Steps that a call lasts.
    """

    up: BoolArray | None
    down: BoolArray | None
    least_kw: FloatArray
    most_kw: FloatArray
    price_per_kwh: float
    call_steps: int


def hold_reserves(problem: DispatchProblem, windows: Windows) -> tuple[ReserveRows, Fleet, Windows, FloatArray]:
    """Rows of the reserves; the fleet and its windows with what taking part costs; the lowest state of each asset in kWh.

    Returns:
        Rows, fleet, windows, and the lowest state relative to the first level, <= 0, (n,).
    """
    fleet, grid = problem.fleet, problem.grid
    steps = grid.step_count
    low_kwh = -fleet.energy_available_kwh
    none = ReserveRows(None, None, np.full(steps, -np.inf), np.full(steps, np.inf), 0.0, 0)
    endurance_s = max((reserve.endurance_s for reserve in problem.reserves), default=0.0)
    call = max(int(np.ceil(endurance_s / grid.step_s - 1e-9)), 1)
    wanted_up = _over_calls(sum((r.up_kw for r in problem.reserves), np.zeros(steps)), call)
    wanted_down = _over_calls(sum((r.down_kw for r in problem.reserves), np.zeros(steps)), call)
    if not wanted_up.any() and not wanted_down.any():
        return none, fleet, windows, low_kwh
    able = np.isin(fleet.kind, [AssetKind.EV, AssetKind.BATTERY, AssetKind.FLEXIBLE_LOAD]) & (fleet.max_charge_kw > 0.0)
    up = down = None
    headroom_kwh = fleet.energy_headroom_kwh.copy()
    if wanted_down.any():
        asked = able & _touches(windows, wanted_down > 0.0)
        room = call * grid.step_h * fleet.charge_efficiency * fleet.max_charge_kw
        down = asked & (headroom_kwh - room >= fleet.energy_needed_kwh - _TOLERANCE)
        headroom_kwh[down] = np.maximum(headroom_kwh - room, fleet.energy_needed_kwh)[down]
    if wanted_up.any():
        asked = able & _touches(windows, wanted_up > 0.0)
        up, windows, low_kwh = _ready_early(problem, windows, asked, call, low_kwh)
    held = replace(fleet, energy_headroom_kwh=headroom_kwh)
    least, most = np.full(steps, -np.inf), np.full(steps, np.inf)
    if up is not None:
        at = wanted_up > 0.0
        least[at] = wanted_up[at] - _present_kw(windows, up, fleet.max_discharge_kw, steps)[at]
    if down is not None:
        at = wanted_down > 0.0
        most[at] = _present_kw(windows, down, fleet.max_charge_kw, steps)[at] - wanted_down[at]
    rows = ReserveRows(up, down, least, most, RESERVE_FACTOR * dearest_price(problem), call)
    return rows, held, windows, low_kwh


def missing_by_reserve(
    sold_kw: FloatArray, missing_kw: FloatArray, call_steps: int
) -> FloatArray:
    """Which reserves the missing power breaks: in each step that a call may begin in, the later ones first.

    Args:
        sold_kw: What each reserve sold, (reserves, T).
        missing_kw: What a call lacks in each step, (T,).
        call_steps: Steps that a call lasts.

    Returns:
        Missing power of each reserve and step, (reserves, T).
    """
    steps = len(missing_kw)
    worst = np.array([missing_kw[k : k + call_steps].max(initial=0.0) for k in range(steps)])
    missing = np.zeros_like(sold_kw)
    for r in range(len(sold_kw) - 1, -1, -1):
        missing[r] = np.minimum(sold_kw[r], worst)
        worst = worst - missing[r]
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
    problem: DispatchProblem, windows: Windows, asked: BoolArray, call: int, low_kwh: FloatArray
) -> tuple[BoolArray, Windows, FloatArray]:
    """Who takes part upward; windows and lowest states of those who do."""
    fleet, grid = problem.fleet, problem.grid
    eta = fleet.charge_efficiency * fleet.discharge_efficiency
    with np.errstate(divide="ignore", invalid="ignore"):
        margin = np.ceil(call * (1.0 + fleet.max_discharge_kw / (eta * fleet.max_charge_kw)) - 1e-9)
    until = (fleet.available_until_unix_s - grid.start_unix_s) / grid.step_s - np.where(asked, margin, 0.0)
    early = np.clip(np.floor(until + 1e-9), 0, grid.step_count).astype(np.int64)
    last: IntArray = np.minimum(windows.last, np.where(asked, early, windows.last)).astype(np.int64)
    cut = last < windows.last
    # a window that ends earlier ends with a whole step
    length = last - windows.first
    last_ratio = np.where(cut, 1.0, windows.last_ratio)
    hours = (length - (1.0 - windows.first_ratio) - np.where(length > 1, 1.0 - last_ratio, 0.0)) * grid.step_h
    reach_kwh = fleet.charge_efficiency * fleet.max_charge_kw * np.maximum(hours, 0.0)
    full_kwh = call * grid.step_h * fleet.max_discharge_kw / fleet.discharge_efficiency
    fits = (length > 0) & (fleet.energy_needed_kwh <= reach_kwh + _TOLERANCE)
    up: BoolArray = asked & fits & (fleet.energy_available_kwh >= full_kwh - _TOLERANCE)
    held = Windows(
        windows.first,
        np.where(up, last, windows.last).astype(np.int32),
        windows.first_ratio,
        np.where(up, last_ratio, windows.last_ratio),
    )
    low = np.where(up, np.minimum(low_kwh + full_kwh, 0.0), low_kwh)
    return up, held, low


def _present_kw(windows: Windows, takes_part: BoolArray, power_kw: FloatArray, steps: int) -> FloatArray:
    """Power of the assets that take part and are available in each step, (T,)."""
    rows = np.flatnonzero(takes_part)
    first, last, p = windows.first[rows], windows.last[rows], power_kw[rows]
    change = np.zeros(steps + 1)
    np.add.at(change, first, p)
    np.add.at(change, last, -p)
    present: FloatArray = np.cumsum(change)[:steps]
    np.subtract.at(present, first, p * (1.0 - windows.first_ratio[rows]))
    several = last - first > 1
    np.subtract.at(present, last[several] - 1, (p * (1.0 - windows.last_ratio[rows]))[several])
    return present
