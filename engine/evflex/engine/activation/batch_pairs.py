"""Pairs of commitments of a batch that may not stand together, found row by row: who they are, not what to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.batch_capacity import FEW, first_after, shares_of, sort_range
from evflex.engine.activation.batch_counts import END, ROW, START, WHO, Counts
from evflex.engine.activation.columns import Columns
from evflex.engine.activation.model import PolicyKind, ResourceKind
from evflex.engine.activation.prepared import PreparedRegistry, is_charging
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.workers import Workers

IntArray = NDArray[np.int64]
_SAME = int(PolicyKind.SAME_AGGREGATOR)
_EV = int(ResourceKind.EV)
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
    if not len(prepared.session_ids):
        return _no_pairs()
    things = len(prepared.thing_ids)
    thing = prepared.thing_of[columns.name]
    is_side = (thing >= 0) & is_charging(prepared.kind[thing])
    is_sold = is_side & (policy != PolicyKind.SESSION) & (columns.start_ms < columns.end_ms)
    starts = np.concatenate([[0], np.cumsum(np.bincount(thing[is_sold], minlength=things))]).astype(np.int64)
    sold, longest = np.empty((int(starts[-1]), 4), dtype=np.int64), np.zeros(things, dtype=np.int64)
    batch = (
        np.flatnonzero(is_sold), thing, columns.start_ms, columns.end_ms, columns.commitment, columns.aggregator,
        policy, starts, sold, longest,
    )  # fmt: skip
    arrays = (prepared.kind, prepared.own_starts, prepared.own_rows, starts, sold, longest)
    with Workers() as workers:
        workers.each(lambda share: sort_sold(*share, *batch), shares_of(starts, workers.count))
        shares = shares_of(prepared.own_starts, workers.count)
        found = workers.each(lambda share: _grown(lambda room: cross_pairs(*share, *arrays, room), len(sold)), shares)
    # a row is sold once on each side of a session, so only those of pools meet again
    return _pairs(np.concatenate(found), is_once=len(columns) == columns.commitment[-1] + 1)


def counter_pairs(counts: Counts, columns: Columns, things: int) -> Pairs:
    """Commitments of both directions at a thing, at least one of which counts there directly."""
    return _line_pairs(counts, columns, things, np.zeros(0, dtype=np.int64), True)


def cascade_pairs(counts: Counts, columns: Columns, things: int, policy: IntArray) -> Pairs:
    """Commitments of which one counts directly at a thing and the other from below, under NO_CASCADE."""
    if not (policy == PolicyKind.NO_CASCADE).any():
        return _no_pairs()
    return _line_pairs(counts, columns, things, policy, False)


def _line_pairs(counts: Counts, columns: Columns, things: int, policy: IntArray, opposite: bool) -> Pairs:
    order = np.empty(len(counts.entries), dtype=np.int64)

    def find(share: tuple[int, int]) -> IntArray:
        low, high = share
        return _grown(
            lambda room: line_pairs(
                low, high, counts.starts, counts.entries, policy, columns.commitment, opposite, order, room
            ),
            0,
        )

    with Workers() as workers:
        # both directions of a thing are looked at together
        shares = shares_of(counts.starts[: 2 * things + 1 : 2], workers.count)
        found = workers.each(find, shares)
    # a row counts once for each session that it is in
    return _pairs(np.concatenate(found), is_once=False)


def _grown(find: Callable[[IntArray], int], guess: int) -> IntArray:
    """What a kernel finds that tells how much that is, and writes it as far as there is room; mostly in one pass."""
    found = np.empty((guess, 3), dtype=np.int64)
    n = find(found)
    if n > guess:
        found = np.empty((n, 3), dtype=np.int64)
        find(found)
    return found[:n]


def _no_pairs() -> Pairs:
    return Pairs(*np.empty((3, 0), dtype=np.int64))


def _pairs(found: IntArray, is_once: bool) -> Pairs:
    """Each pair once, whichever way round and however often it meets; ``is_once`` where that is known."""
    found[:, :2].sort(axis=1)
    if len(found) and not is_once:
        found = found[np.lexsort((found[:, 1], found[:, 0], found[:, 2]))]
        is_new = np.ones(len(found), dtype=np.bool_)
        is_new[1:] = (found[1:] != found[:-1]).any(axis=1)
        found = found[is_new]
    return Pairs(*np.ascontiguousarray(found.T))


@kernel
def sort_sold(
    low: int,
    high: int,
    rows: IntArray,
    thing: IntArray,
    start: IntArray,
    end: IntArray,
    commitment: IntArray,
    aggregator: IntArray,
    policy: IntArray,
    starts: IntArray,
    sold: IntArray,
    longest: IntArray,
) -> None:
    """Put what is sold of the things low to high into their ranges, sorted by start.

    Start, end, commitment, and twice the aggregator, one more where the row is sold under SAME_AGGREGATOR.
    """
    at = starts[low:high].copy()
    for row in rows:
        t = thing[row]
        if not low <= t < high:
            continue
        first, j = starts[t], at[t - low]
        at[t - low] = j + 1
        longest[t] = max(longest[t], end[row] - start[row])
        if j - first < FEW:
            while j > first and sold[j - 1, 0] > start[row]:
                for c in range(4):  # a row at once would make an array of each
                    sold[j, c] = sold[j - 1, c]
                j -= 1
        sold[j, 0], sold[j, 1], sold[j, 2] = start[row], end[row], commitment[row]
        sold[j, 3] = 2 * aggregator[row] + (policy[row] == _SAME)
    order = np.empty(0, dtype=np.int64)
    for t in range(low, high):
        first, last = starts[t], starts[t + 1]
        if last - first > FEW:  # the first of them are in order, the others as they came
            if not len(order):
                order = np.empty(len(sold), dtype=np.int64)
            sort_range(sold[:, 0], first, last, order)
            sold[first:last] = sold[order[first:last]]


@kernel
def cross_pairs(
    low: int,
    high: int,
    kind: IntArray,
    own_starts: IntArray,
    own_rows: IntArray,
    starts: IntArray,
    sold: IntArray,
    longest: IntArray,
    found: IntArray,
) -> int:
    """What meets in the sessions of the vehicles low to high; the number, written as far as ``found`` has room."""
    n, room = 0, len(found)
    for vehicle in range(low, high):
        if kind[vehicle] != _EV or starts[vehicle] == starts[vehicle + 1]:
            continue
        for k in range(own_starts[vehicle], own_starts[vehicle + 1]):
            begins, ends, point, s = own_rows[k, 0], own_rows[k, 1], own_rows[k, 2], own_rows[k, 3]
            if starts[point] == starts[point + 1]:
                continue
            for a in range(starts[vehicle], starts[vehicle + 1]):
                if sold[a, 0] >= ends:
                    break
                first, last = max(sold[a, 0], begins), min(sold[a, 1], ends)
                if first >= last:
                    continue
                for b in range(
                    _first_sold_after(sold, starts[point], starts[point + 1], first - longest[point]), starts[point + 1]
                ):
                    if sold[b, 0] >= last:
                        break
                    # one aggregator, and both under SAME_AGGREGATOR
                    if sold[b, 1] <= first or (sold[a, 3] == sold[b, 3] and sold[a, 3] & 1):
                        continue
                    if n < room:
                        found[n, 0], found[n, 1], found[n, 2] = sold[a, 2], sold[b, 2], s
                    n += 1
    return n


@kernel
def line_pairs(
    low: int,
    high: int,
    starts: IntArray,
    entries: IntArray,
    policy: IntArray,
    commitment: IntArray,
    opposite: bool,
    order: IntArray,
    found: IntArray,
) -> int:
    """Direct entries of the things low to high with others at the same instant; the number, written as far as room is.

    ``opposite``: with all of the other direction, unless declared. Else: with those from below, under NO_CASCADE.
    """
    n, room = 0, len(found)
    start = entries[:, START]
    for bucket in range(2 * low, 2 * high):
        first, last = starts[bucket], starts[bucket + 1]
        if first == last:
            continue
        for other in range(2 * (bucket // 2), 2 * (bucket // 2) + 2):
            begin, end = starts[other], starts[other + 1]
            if begin == end or (opposite and (other == bucket or _all_declared(entries, first, last, begin, end))):
                continue
            sort_range(start, begin, end, order)
            longest = 0
            for j in range(begin, end):
                longest = max(longest, entries[j, END] - entries[j, START])
            for i in range(first, last):
                if not entries[i, WHO] & 1:
                    continue
                k = first_after(start, order, begin, end, entries[i, START] - longest)
                while k < end and start[order[k]] < entries[i, END]:
                    j = order[k]
                    k += 1
                    if entries[j, END] <= entries[i, START]:
                        continue
                    a, b = entries[i, ROW], entries[j, ROW]
                    if opposite:
                        # one aggregator, and both declared; or both direct, and met the other way round
                        same = entries[i, WHO] >> 1 == entries[j, WHO] >> 1 and entries[i, WHO] & 2
                        if same or (entries[j, WHO] & 1 and bucket & 1):
                            continue
                    elif entries[j, WHO] & 1 or (policy[a] != _NO_CASCADE and policy[b] != _NO_CASCADE):
                        continue
                    if n < room:
                        found[n, 0], found[n, 1], found[n, 2] = commitment[a], commitment[b], bucket // 2
                    n += 1
    return n


@inner_kernel
def _all_declared(entries: IntArray, first: int, last: int, begin: int, end: int) -> bool:
    """Whether all entries of two buckets are one aggregator's, and declared."""
    who = entries[first, WHO] >> 1
    same = who & 1 == 1
    for j in range(first, last):
        same = same and entries[j, WHO] >> 1 == who
    for j in range(begin, end):
        same = same and entries[j, WHO] >> 1 == who
    return same


@inner_kernel
def _first_sold_after(sold: IntArray, low: int, high: int, instant: int) -> int:
    """First place in a range that is sorted by start itself, not by indices, which begins after an instant."""
    while low < high:
        middle = (low + high) // 2
        if sold[middle, 0] <= instant:
            low = middle + 1
        else:
            high = middle
    return low
