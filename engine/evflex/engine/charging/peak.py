"""The peak tariff: which steps are averaged together, and what the highest average costs."""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.model import ScheduleProblem
from evflex.engine.supply_tree import FloatArray, IntArray


def peak_blocks(problem: ScheduleProblem) -> IntArray:
    """Block of each step over which import is averaged, numbered from 0; -1 for steps that do not count. (T,).

    Blocks are aligned to the clock (UTC). A block counts when any of its steps lies in the peak window.
    """
    grid, tariff = problem.grid, problem.tariff
    span_s = tariff.peak_averaging_s or grid.step_s
    if span_s == grid.step_s:
        raw = np.arange(grid.step_count)
    else:
        raw = np.floor((grid.start_unix_s + grid.step_s * np.arange(grid.step_count)) / span_s + 1e-9).astype(np.int64)
        raw -= raw[0]
    if not len(tariff.peak_window):
        return raw
    counts = np.unique(raw[tariff.peak_window])
    number = np.full(int(raw[-1]) + 1, -1)
    number[counts] = np.arange(len(counts))
    return number[raw]


def highest_average_kw(import_kw: FloatArray, blocks: IntArray) -> FloatArray:
    """Highest block average of each row of import, (rows, T) to (rows,); 0 without blocks."""
    counted = np.flatnonzero(blocks >= 0)
    if not len(counted):
        return np.zeros(len(import_kw))
    first = np.flatnonzero(np.diff(blocks[counted], prepend=-1))
    if len(first) == len(blocks):
        return np.asarray(import_kw.max(axis=1))
    total = np.add.reduceat(import_kw[:, counted], first, axis=1)
    return np.asarray((total / np.diff(first, append=len(counted))).max(axis=1))
