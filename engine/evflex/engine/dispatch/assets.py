"""The fleet on the plan's grid: which steps each asset has, what it shares, and which oracle answers for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import AssetKind, DispatchProblem, Fleet
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

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


def windows_of(problem: DispatchProblem) -> Windows:
    """Availability on the plan's grid."""
    fleet, grid = problem.fleet, problem.grid
    n = len(fleet)
    windows = Windows(np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n), np.empty(n))
    _place(
        fleet.available_from_unix_s, fleet.available_until_unix_s, grid.start_unix_s, grid.step_s, grid.step_count,
        windows.first, windows.last, windows.first_ratio, windows.last_ratio,
    )  # fmt: skip
    return windows


@kernel
def _place(
    begin_s: IntArray, end_s: IntArray, start_s: float, step_s: float, steps: int,
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


def only_charges(fleet: Fleet) -> BoolArray:
    """Assets whose state only rises, (n,)."""
    only: BoolArray = (fleet.max_discharge_kw == 0.0) & (fleet.kind != AssetKind.HEAT_PUMP) & (fleet.kind != AssetKind.PV)
    return only
