"""The worst values over contingencies, gathered from threads in any order."""

from __future__ import annotations

from threading import Lock

import numpy as np

from evflex.engine.grid.congestion_report import WorstValues
from evflex.engine.grid.limits import highest, lowest
from evflex.engine.grid.power_flow import PowerFlow
from evflex.engine.supply_tree import FloatArray, IntArray


class WorstCase:
    """Keeps the worst, of equal ones that of the earliest contingency: the order of arrival does not matter."""

    def __init__(self, steps: int, branches: int, buses: int, contingencies: IntArray) -> None:
        """Know nothing yet of contingencies in their order."""
        self._contingencies = contingencies
        self._lock = Lock()
        self._loading = _Extreme(steps, branches, len(contingencies))
        self._high = _Extreme(steps, buses, len(contingencies))
        self._low = _Extreme(steps, buses, len(contingencies))

    def take(self, position: int, first_step: int, flow: PowerFlow) -> None:
        """Take the flow of some steps in the contingency at a position."""
        low, high = lowest(flow.voltage_pu), highest(flow.voltage_pu)
        with self._lock:
            self._loading.take(position, first_step, flow.branch_loading_ratio)
            self._low.take(position, first_step, -low)
            self._high.take(position, first_step, high)

    def values(self) -> WorstValues:
        """The worst so far."""
        ids = np.append(self._contingencies, -1)
        loading, low, high = self._loading, self._low, self._high
        return WorstValues(
            loading.value, ids[loading.position], -low.value, ids[low.position], high.value, ids[high.position]
        )


class _Extreme:
    def __init__(self, steps: int, width: int, nowhere: int) -> None:
        self.value = np.full((steps, width), np.nan)
        self.position = np.full((steps, width), nowhere)

    def take(self, position: int, first_step: int, value: FloatArray) -> None:
        rows = slice(first_step, first_step + len(value))
        best, where = self.value[rows], self.position[rows]
        # written so that what is no number is replaced and replaces nothing
        take = (~(best >= value) & ~np.isnan(value)) | ((value == best) & (position < where))
        best[take] = value[take]
        where[take] = position
