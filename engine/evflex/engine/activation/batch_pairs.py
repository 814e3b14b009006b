"""Pairs of commitments of a batch that may not stand together, found row by row: who they are, not what to tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.batch_capacity import sort_range
from evflex.engine.activation.batch_counts import Counts
from evflex.engine.activation.columns import Columns
from evflex.engine.activation.model import PolicyKind, ResourceKind
from evflex.engine.activation.prepared import PreparedRegistry
from evflex.engine.kernels import inner_kernel, kernel

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
_SAME = int(PolicyKind.SAME_AGGREGATOR)
_NO_CASCADE = int(PolicyKind.NO_CASCADE)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two commitments and where they meet, each once; one may stand twice.

    Attributes:
        first: Commitment.
        second: Commitment, not before the first.
        where: Session, or thing.
    """

    first: IntArray
    second: IntArray
    where: IntArray

    def __len__(self) -> int:
        return len(self.first)


def cross_sale_pairs(prepared: PreparedRegistry, columns: Columns, policy: IntArray) -> Pairs:
    """Commitments on the vehicle and on the charge point of a session, at an instant of it."""
    thing = prepared.thing_of[columns.name]
    is_sold = (thing >= 0) & (policy != PolicyKind.SESSION) & (columns.start_ms < columns.end_ms)
    kind = prepared.kind[thing]
    vehicles = _by_thing(columns, thing, is_sold & (kind == ResourceKind.EV), len(prepared.thing_ids))
    points = _by_thing(columns, thing, is_sold & (kind == ResourceKind.CHARGE_POINT), len(prepared.thing_ids))
    arrays = (
        prepared.session_sides, prepared.session_ms, *vehicles, *points, columns.start_ms, columns.end_ms,
        columns.aggregator, policy, columns.commitment,
    )  # fmt: skip
    # room for as many pairs as there are rows, which is mostly enough, saves a pass that only counts
    found = np.empty((len(columns), 3), dtype=np.int64)
    n = cross_pairs(*arrays, found)
    if n > len(found):
        found = np.empty((n, 3), dtype=np.int64)
        cross_pairs(*arrays, found)
    return _distinct(found[:n])


def counter_pairs(counts: Counts, columns: Columns, things: int) -> Pairs:
    """Commitments of both directions at a thing, at least one of which counts there directly."""
    return _line_pairs(counts, columns, things, columns.is_declared, np.zeros(len(columns), dtype=np.int64), True)


def cascade_pairs(counts: Counts, columns: Columns, things: int, policy: IntArray) -> Pairs:
    """Commitments of which one counts directly at a thing and the other from below, under NO_CASCADE."""
    if not (policy == PolicyKind.NO_CASCADE).any():
        return _distinct(np.empty((0, 3), dtype=np.int64))
    return _line_pairs(counts, columns, things, columns.is_declared, policy, False)


def _line_pairs(
    counts: Counts, columns: Columns, things: int, is_declared: BoolArray, policy: IntArray, opposite: bool
) -> Pairs:
    order = np.empty(len(counts.row), dtype=np.int64)
    arrays = (
        things, counts.starts, counts.row, counts.start_ms, counts.end_ms, counts.is_direct, columns.aggregator,
        is_declared, policy, columns.commitment, opposite, order,
    )  # fmt: skip
    found = np.empty((line_pairs(*arrays, np.empty((0, 3), dtype=np.int64)), 3), dtype=np.int64)
    if len(found):
        line_pairs(*arrays, found)
    return _distinct(found)


def _by_thing(columns: Columns, thing: IntArray, wanted: BoolArray, things: int) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of each thing in the order of their starts: ranges, rows, and the longest row of each thing."""
    rows = np.flatnonzero(wanted)
    counts = np.bincount(thing[rows], minlength=things)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    ordered, longest = np.empty(len(rows), dtype=np.int64), np.zeros(things, dtype=np.int64)
    order_rows(rows, thing, columns.start_ms, columns.end_ms, starts, ordered, longest)
    return starts, ordered, longest


def _distinct(found: IntArray) -> Pairs:
    """Each pair once, whichever way round it meets, in the order of where, first and second."""
    if len(found):
        found[:, :2].sort(axis=1)
        found = found[np.lexsort((found[:, 1], found[:, 0], found[:, 2]))]
        is_new = np.ones(len(found), dtype=np.bool_)
        is_new[1:] = (found[1:] != found[:-1]).any(axis=1)
        found = found[is_new]
    return Pairs(*(np.ascontiguousarray(found[:, k]) for k in range(3)))


@kernel
def order_rows(
    rows: IntArray,
    thing: IntArray,
    start: IntArray,
    end: IntArray,
    starts: IntArray,
    ordered: IntArray,
    longest: IntArray,
) -> None:
    """Put rows into the range of their thing, sorted by start."""
    at = starts.copy()
    for row in rows:
        t = thing[row]
        ordered[at[t]] = row
        at[t] += 1
        longest[t] = max(longest[t], end[row] - start[row])
    keys = np.empty(len(ordered), dtype=np.int64)
    for k in range(len(ordered)):
        keys[k] = start[ordered[k]]
    order = np.empty(len(ordered), dtype=np.int64)
    before = ordered.copy()
    for t in range(len(starts) - 1):
        sort_range(keys, starts[t], starts[t + 1], order)
        for k in range(starts[t], starts[t + 1]):
            ordered[k] = before[order[k]]


@kernel
def cross_pairs(
    sides: IntArray,
    session_ms: IntArray,
    ev_starts: IntArray,
    ev_rows: IntArray,
    ev_longest: IntArray,
    cp_starts: IntArray,
    cp_rows: IntArray,
    cp_longest: IntArray,
    start: IntArray,
    end: IntArray,
    aggregator: IntArray,
    policy: IntArray,
    commitment: IntArray,
    found: IntArray,
) -> int:
    """Rows on both sides of each session that meet in it; the number of them, written as far as ``found`` has room."""
    n = 0
    room = len(found)
    for s in range(sides.shape[1]):
        vehicle, point = sides[0, s], sides[1, s]
        if ev_starts[vehicle] == ev_starts[vehicle + 1] or cp_starts[point] == cp_starts[point + 1]:
            continue
        begins, ends = session_ms[0, s], session_ms[1, s]
        for i in range(
            _first_after(ev_rows, start, ev_starts[vehicle], ev_starts[vehicle + 1], begins - ev_longest[vehicle]),
            ev_starts[vehicle + 1],
        ):
            a = ev_rows[i]
            if start[a] >= ends:
                break
            first, last = max(start[a], begins), min(end[a], ends)
            if first >= last:
                continue
            for j in range(
                _first_after(cp_rows, start, cp_starts[point], cp_starts[point + 1], first - cp_longest[point]),
                cp_starts[point + 1],
            ):
                b = cp_rows[j]
                if start[b] >= last:
                    break
                if end[b] <= first:
                    continue
                if aggregator[a] == aggregator[b] and policy[a] == _SAME and policy[b] == _SAME:
                    continue
                if n < room:
                    found[n, 0], found[n, 1], found[n, 2] = commitment[a], commitment[b], s
                n += 1
    return n


@kernel
def line_pairs(
    things: int,
    starts: IntArray,
    row: IntArray,
    start: IntArray,
    end: IntArray,
    is_direct: BoolArray,
    aggregator: IntArray,
    is_declared: BoolArray,
    policy: IntArray,
    commitment: IntArray,
    opposite: bool,
    order: IntArray,
    found: IntArray,
) -> int:
    """Direct entries of each thing with others there at the same instant; their number, written where there is room.

    ``opposite``: with all of the other direction, unless declared. Else: with those from below, under NO_CASCADE.
    """
    n = 0
    writes = len(found) > 0
    for bucket in range(2 * things):
        first, last = starts[bucket], starts[bucket + 1]
        others = bucket ^ 1
        if first == last or (opposite and starts[others] == starts[others + 1]):
            continue
        for other in range(2 * (bucket // 2), 2 * (bucket // 2) + 2):
            if opposite and other == bucket:
                continue
            low, high = starts[other], starts[other + 1]
            sort_range(start, low, high, order)
            longest = 0
            for j in range(low, high):
                longest = max(longest, end[j] - start[j])
            for i in range(first, last):
                if not is_direct[i]:
                    continue
                a = row[i]
                for k in range(_first_after(order, start, low, high, start[i] - longest), high):
                    j = order[k]
                    if start[j] >= end[i]:
                        break
                    if end[j] <= start[i]:
                        continue
                    b = row[j]
                    if opposite:
                        if aggregator[a] == aggregator[b] and is_declared[a] and is_declared[b]:
                            continue
                    elif is_direct[j] or (policy[a] != _NO_CASCADE and policy[b] != _NO_CASCADE):
                        continue
                    if writes:
                        found[n, 0], found[n, 1], found[n, 2] = commitment[a], commitment[b], bucket // 2
                    n += 1
    return n


@inner_kernel
def _first_after(order: IntArray, start: IntArray, low: int, high: int, instant: int) -> int:
    """First place in a range sorted by start that begins after an instant."""
    while low < high:
        middle = (low + high) // 2
        if start[order[middle]] <= instant:
            low = middle + 1
        else:
            high = middle
    return low
