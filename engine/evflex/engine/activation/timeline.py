"""Power over time as a step function that grows and shrinks: sorted instants, and the level from each to the next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evflex.engine.kernels import inner_kernel, kernel

IntArray = NDArray[np.int64]
_FIRST_ROOM = 8


class Timeline:
    """Power in W from each instant to the next, 0 before the first and after the last."""

    __slots__ = ("_count", "_levels", "_times")

    def __init__(self) -> None:
        """Be 0 at all times."""
        self._times = np.empty(_FIRST_ROOM, dtype=np.int64)
        self._levels = np.empty(_FIRST_ROOM, dtype=np.int64)
        self._count = 0

    def add(self, start_ms: int, end_ms: int, power_w: int) -> None:
        """Add a power, which may be negative, over [start_ms, end_ms)."""
        if self._count + 2 > len(self._times):
            self._times, self._levels = (
                np.resize(self._times, 2 * len(self._times)),
                np.resize(self._levels, 2 * len(self._levels)),
            )
        self._count = add_power(self._times, self._levels, self._count, start_ms, end_ms, power_w)

    def peak_w(self, start_ms: int, end_ms: int) -> int:
        """Largest level in [start_ms, end_ms)."""
        if not self._count:
            return 0
        return int(peak_power(self._times, self._levels, self._count, start_ms, end_ms))

    def runs_above(self, start_ms: int, end_ms: int, limit_w: int) -> list[tuple[int, int, int]]:
        """Maximal runs in [start_ms, end_ms) with a level above a limit: start, end and largest level of each."""
        times, levels = self._times[: self._count], self._levels[: self._count]
        first = max(int(np.searchsorted(times, start_ms, side="right")) - 1, 0)
        last = int(np.searchsorted(times, end_ms, side="left"))
        # the stretch before the first instant, and after the last, has level 0
        edges = [start_ms, *(t for t in times[first:last].tolist() if t > start_ms), end_ms]
        runs: list[tuple[int, int, int]] = []
        for begin, end in pairwise(edges):
            at = int(np.searchsorted(times, begin, side="right")) - 1
            level = int(levels[at]) if at >= 0 else 0
            if level <= limit_w:
                continue
            if runs and runs[-1][1] == begin:
                runs[-1] = (runs[-1][0], end, max(runs[-1][2], level))
            else:
                runs.append((begin, end, level))
        return runs

    def steps(self) -> list[tuple[int, int]]:
        """Instants and the levels that begin there."""
        return list(zip(self._times[: self._count].tolist(), self._levels[: self._count].tolist(), strict=True))


@kernel
def add_power(times: IntArray, levels: IntArray, count: int, start: int, end: int, power: int) -> int:
    """Add a power over [start, end); the arrays have room for two more instants. Returns the number of instants."""
    first, count = _split(times, levels, count, start)
    last, count = _split(times, levels, count, end)
    for i in range(first, last):
        levels[i] += power
    # an instant at which nothing changes is none; the later one first, so that the index of the earlier one holds
    count = _join(times, levels, count, last)
    return _join(times, levels, count, first)


@kernel
def peak_power(times: IntArray, levels: IntArray, count: int, start: int, end: int) -> int:
    """Largest level in [start, end)."""
    at = _last_not_after(times, count, start)
    peak = levels[at] if at >= 0 else 0
    at += 1
    while at < count and times[at] < end:
        peak = max(peak, levels[at])
        at += 1
    return peak


@inner_kernel
def _last_not_after(times: IntArray, count: int, instant: int) -> int:
    """Index of the last instant that is not after one, -1 where all are."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if times[middle] <= instant:
            low = middle + 1
        else:
            high = middle
    return low - 1


@inner_kernel
def _split(times: IntArray, levels: IntArray, count: int, instant: int) -> tuple[int, int]:
    """Make sure that an instant is there; its index, and the number of instants."""
    at = _last_not_after(times, count, instant)
    if at >= 0 and times[at] == instant:
        return at, count
    at += 1
    for i in range(count, at, -1):
        times[i], levels[i] = times[i - 1], levels[i - 1]
    times[at] = instant
    levels[at] = levels[at - 1] if at > 0 else 0
    return at, count + 1


@inner_kernel
def _join(times: IntArray, levels: IntArray, count: int, at: int) -> int:
    """Drop an instant at which the level does not change; the number of instants."""
    before = levels[at - 1] if at > 0 else 0
    if levels[at] != before:
        return count
    for i in range(at, count - 1):
        times[i], levels[i] = times[i + 1], levels[i + 1]
    return count - 1
