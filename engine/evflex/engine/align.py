"""Powers laid from one time axis onto another: profiles by their mean, reserves by the largest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

# Shorter overlaps are rounding: double precision resolves unix seconds to 2.4e-7 s.
_TIME_TOLERANCE_S = 1e-6


def mean_power(grid: TimeGrid, source: TimeGrid, power_kw: FloatArray) -> FloatArray:
    """Mean of powers in each step of ``grid``; they are 0 outside ``source``.

    A power of one sign keeps it: only products with positive shares of steps are added.

    Args:
        grid: Time axis of the result.
        source: Time axis of the powers.
        power_kw: Shape (k, source steps).

    Returns:
        Shape (k, grid steps).
    """
    if source == grid:
        return np.array(power_kw, dtype=np.float64)
    step, source_step, overlap_s = _overlaps(grid, source)
    shape = (grid.step_count, source.step_count)
    share = csr_array((overlap_s / grid.step_s, (step, source_step)), shape=shape)
    mean: FloatArray = np.ascontiguousarray((share @ power_kw.T).T)
    return mean


def largest_overlapping(grid: TimeGrid, source: TimeGrid, values: FloatArray) -> FloatArray:
    """Largest of the values >= 0 whose steps overlap each step of ``grid``, 0 where none does.

    Args:
        grid: Time axis of the result.
        source: Time axis of the values.
        values: Shape (source steps,).

    Returns:
        Shape (grid steps,).
    """
    step, source_step, _ = _overlaps(grid, source)
    largest = np.zeros(grid.step_count)
    np.maximum.at(largest, step, values[source_step])
    return largest


def largest_of_rows(grid: TimeGrid, start_unix_s: float, end_unix_s: FloatArray, values: FloatArray) -> FloatArray:
    """Largest sum, in each step of ``grid``, of rows that begin together and end one by one; 0 where none is left.

    A step that a row touches counts it in full.

    Args:
        grid: Time axis of the result.
        start_unix_s: When all rows begin, seconds since 1970-01-01 UTC.
        end_unix_s: When each row ends, shape (rows,).
        values: Value >= 0 of each row, shape (rows,).

    Returns:
        Shape (grid steps,).
    """
    edges = grid.step_s * np.arange(grid.step_count + 1)
    begin_s = start_unix_s - grid.start_unix_s
    order = np.argsort(end_unix_s)
    left = np.append(np.cumsum(values[order][::-1])[::-1], 0.0)
    # rows only end, so the sum of a step is largest at its first instant
    first_s = np.maximum(edges[:-1], begin_s)
    over = np.searchsorted((end_unix_s - grid.start_unix_s)[order], first_s + _TIME_TOLERANCE_S, side="right")
    return np.where(edges[1:] > begin_s + _TIME_TOLERANCE_S, left[over], 0.0)


def _overlaps(grid: TimeGrid, source: TimeGrid) -> tuple[IntArray, IntArray, FloatArray]:
    """Every step of ``grid`` and of ``source`` that overlap, and for how many seconds."""
    offset_s = source.start_unix_s - grid.start_unix_s
    edges = grid.step_s * np.arange(grid.step_count + 1)
    source_edges = offset_s + source.step_s * np.arange(source.step_count + 1)
    first, last = max(edges[0], source_edges[0]), min(edges[-1], source_edges[-1])
    cuts = np.unique(np.clip(np.concatenate([edges, source_edges]), first, max(first, last)))
    length_s = np.diff(cuts)
    kept = length_s > _TIME_TOLERANCE_S
    middle = (0.5 * (cuts[:-1] + cuts[1:]))[kept]
    return (
        _step_of(middle / grid.step_s, grid.step_count),
        _step_of((middle - offset_s) / source.step_s, source.step_count),
        length_s[kept],
    )


def _step_of(place: NDArray[np.float64], step_count: int) -> IntArray:
    return np.clip(np.floor(place).astype(np.int64), 0, step_count - 1)
