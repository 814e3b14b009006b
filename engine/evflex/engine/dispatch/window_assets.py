"""Assets that only charge, sorted as the window oracle reads them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.assets import Windows
from evflex.engine.dispatch.model import Fleet
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Values that are told apart when assets are sorted; more distinct ones are left as they come.
_MOST_VALUES = 16
_MOST_KEYS = 4_000_000


class WindowTable(NamedTuple):
    """Assets sorted by signature, then by the end, the start and the value of their window; columns of length n.

    Attributes:
        first: First step of the window.
        last: End of the window, exclusive; > first.
        first_ratio: Share of the first step in which the asset is available.
        last_ratio: Share of the last step; 1 where the window has one step only.
        power: Largest power in kW.
        need: Energy wanted, in kW·steps on the grid side.
        room: Most energy that is taken, in kW·steps on the grid side.
        value: Worth of energy above the need, per kW and step.
        short_price: Price of a shortfall, per kW and step; >= value.
        kwh: Battery-side energy of a kW and step, in kWh.
        least: Smallest power when charging, in kW.
    """

    first: NDArray[np.int32]
    last: NDArray[np.int32]
    first_ratio: FloatArray
    last_ratio: FloatArray
    power: FloatArray
    need: FloatArray
    room: FloatArray
    value: FloatArray
    short_price: FloatArray
    kwh: FloatArray
    least: FloatArray


def sorted_windows(
    fleet: Fleet, windows: Windows, rows: IntArray, signature: NDArray[np.int32], step_count: int
) -> IntArray:
    """Rows of the fleet in the order of a table: by signature, end, start and value."""
    value = fleet.energy_value_per_kwh[rows]
    label, values = np.empty(len(rows), dtype=np.int64), np.empty(_MOST_VALUES)
    count = _label(value, values, label)
    signatures = int(signature.max(initial=0)) + 1
    sizes = (signatures, step_count + 1, step_count, max(count, 1))
    first, last, signed = windows.first[rows], windows.last[rows], signature[rows]
    if np.prod([float(size) for size in sizes]) <= _MOST_KEYS:
        key = ((signed.astype(np.int64) * sizes[1] + last) * sizes[2] + first) * sizes[3] + label
        order = np.empty(len(rows), dtype=np.int64)
        _counting_sort(key, int(np.prod(sizes)), order)
    else:
        order = np.lexsort((label, first, last, signed))
    return rows[order]


@kernel
def _label(value: FloatArray, values: FloatArray, label: IntArray) -> int:
    """Number the distinct values in the order in which they come; 0 for all where they are too many."""
    known = 0
    for i in range(value.shape[0]):
        k = 0
        while k < known and values[k] != value[i]:
            k += 1
        if k == known:
            if known == values.shape[0]:
                label[:] = 0
                return 1
            values[known] = value[i]
            known += 1
        label[i] = k
    return known


@kernel
def _counting_sort(key: IntArray, keys: int, order: IntArray) -> None:
    """Indices that sort small keys, equal ones in their order."""
    place = np.zeros(keys + 1, dtype=np.int64)
    for k in key:
        place[k + 1] += 1
    for k in range(keys):
        place[k + 1] += place[k]
    for i in range(key.shape[0]):
        order[place[key[i]]] = i
        place[key[i]] += 1
