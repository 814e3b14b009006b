"""Runs above a limit in every bucket of a batch: a sweep line over starts and ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.batch_counts import END, POWER, ROW, START, WHO, Counts
from evflex.engine.activation.columns import Columns
from evflex.engine.activation.counting import Piece, largest, summed
from evflex.engine.activation.model import ConflictKind
from evflex.engine.activation.prepared import NO_LIMIT_W, PreparedRegistry
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.workers import Workers

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
# So many values are sorted faster by insertion.
FEW = 32
_CAPACITY, _ALIAS = int(ConflictKind.CAPACITY_EXCEEDED), int(ConflictKind.ALIAS_SALE)
_CASCADE, _CAP = int(ConflictKind.CASCADE), int(ConflictKind.AGGREGATOR_CAP)


@dataclass(frozen=True, slots=True)
class Runs:
    """Maximal runs of instants above a limit, in the order of buckets and time.

    Attributes:
        bucket: Bucket of :class:`Counts`.
        start_ms: First instant.
        end_ms: After the last.
        excess_w: Largest excess.
        kind: Value of :class:`ConflictKind`.
    """

    bucket: IntArray
    start_ms: IntArray
    end_ms: IntArray
    excess_w: IntArray
    kind: IntArray


def capacity_runs(counts: Counts, columns: Columns, prepared: PreparedRegistry, takes_part: BoolArray) -> Runs:
    """Find all runs, and which commitments take part.

    Args:
        counts: Where rows count.
        columns: The batch.
        prepared: The registry.
        takes_part: Set for commitments that count in a run, (commitments,).
    """
    starts, load = _without_groups(counts, columns)
    limit = counts.limit_w.ravel()
    order = np.empty((2, len(load)), dtype=np.int64)
    arrays = (starts, load, limit, order[0], order[1])
    sizes = np.zeros(len(limit), dtype=np.int64)
    empty = np.empty((0, 4), dtype=np.int64)
    with Workers() as workers:
        shares = shares_of(starts, workers.count)
        workers.each(lambda share: sweep(*share, *arrays, sizes, empty, False), shares)
        at = np.concatenate([[0], np.cumsum(sizes)])
        found = np.empty((int(at[-1]), 4), dtype=np.int64)
        workers.each(lambda share: sweep(*share, *arrays, at[:-1].copy(), found, True), shares)
    kind = np.empty(len(found), dtype=np.int64)
    if len(found):
        name_runs(
            found, counts.starts, counts.entries, columns.name, prepared.thing_of, columns.commitment,
            len(prepared.thing_ids), takes_part, kind,
        )  # fmt: skip
    bucket, start_ms, end_ms, excess_w = np.ascontiguousarray(found.T)
    return Runs(bucket, start_ms, end_ms, excess_w, kind)


def shares_of(starts: IntArray, parts: int) -> list[tuple[int, int]]:
    """Ranges of buckets with about as many entries each."""
    buckets = len(starts) - 1
    cuts = np.searchsorted(starts, np.linspace(0, starts[-1], parts + 1)[1:-1])
    edges = [0, *np.clip(cuts, 0, buckets).tolist(), buckets]
    return list(pairwise(edges))


def _without_groups(counts: Counts, columns: Columns) -> tuple[IntArray, IntArray]:
    """Ranges and entries as they are, each group of a bucket replaced by its largest over time."""
    if not (columns.group >= 0).any():
        return counts.starts, counts.entries
    row = counts.entries[:, ROW]
    group = columns.group[row]
    is_grouped = group >= 0
    bucket = np.repeat(np.arange(len(counts.starts) - 1), np.diff(counts.starts))
    keys = np.stack([bucket[is_grouped], columns.aggregator[row[is_grouped]], group[is_grouped]])
    by_key = np.lexsort(keys[::-1])
    members, keys = np.flatnonzero(is_grouped)[by_key], keys[:, by_key]
    cuts = [0, *(np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1).tolist(), len(members)]
    found: list[tuple[int, int, int, int]] = []
    for first, last in pairwise(cuts):
        entries = counts.entries[members[first:last]]
        by_commitment: dict[int, list[Piece]] = {}
        for own, entry in zip(columns.commitment[entries[:, ROW]].tolist(), entries[:, :3].tolist(), strict=True):
            by_commitment.setdefault(own, []).append(Piece(*entry))
        together = largest(piece for pieces in by_commitment.values() for piece in summed(pieces))
        found += [(int(keys[0, first]), *piece) for piece in together]
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    load = np.concatenate([counts.entries[~is_grouped], np.pad(table[:, 1:], ((0, 0), (0, 2)))])
    all_buckets = np.concatenate([bucket[~is_grouped], table[:, 0]])
    by_bucket = np.argsort(all_buckets, kind="stable")
    starts = np.searchsorted(all_buckets[by_bucket], np.arange(len(counts.starts))).astype(np.int64)
    return starts, load[by_bucket]


@kernel
def sweep(
    low: int,
    high: int,
    starts: IntArray,
    entries: IntArray,
    limit: IntArray,
    order_start: IntArray,
    order_end: IntArray,
    at: IntArray,
    found: IntArray,
    writes: bool,
) -> None:
    """Go through the runs of buckets low to high: count them into ``at``, or write them where ``at`` says.

    The first pass keeps the order of starts and ends in ``order_start`` and ``order_end`` for the second.
    """
    start, end, power = entries[:, START], entries[:, END], entries[:, POWER]
    for bucket in range(low, high):
        first, last = starts[bucket], starts[bucket + 1]
        most = limit[bucket]
        if most == NO_LIMIT_W:
            continue
        total = 0
        for j in range(first, last):
            total += power[j]
        # what is not too much all together is never too much
        if total <= most:
            continue
        if not writes:
            sort_range(start, first, last, order_start)
            sort_range(end, first, last, order_end)
        level, i, j = 0, first, first
        above, peak, begun = False, 0, 0
        while j < last:
            now = end[order_end[j]]
            if i < last:
                now = min(now, start[order_start[i]])
            while j < last and end[order_end[j]] == now:
                level -= power[order_end[j]]
                j += 1
            while i < last and start[order_start[i]] == now:
                level += power[order_start[i]]
                i += 1
            if level > most:
                if not above:
                    above, begun, peak = True, now, level
                peak = max(peak, level)
            elif above:
                above = False
                if writes:
                    k = at[bucket]
                    found[k, 0], found[k, 1], found[k, 2], found[k, 3] = bucket, begun, now, peak - most
                at[bucket] += 1


@kernel
def name_runs(
    found: IntArray,
    starts: IntArray,
    entries: IntArray,
    name: IntArray,
    thing: IntArray,
    commitment: IntArray,
    things: int,
    takes_part: BoolArray,
    kind: IntArray,
) -> None:
    """Tell of each run what it is, and mark the commitments that count in it."""
    start, end = entries[:, START], entries[:, END]
    order = np.empty(len(entries), dtype=np.int64)
    bucket, longest = -1, 0
    for r in range(len(found)):
        first, last = starts[found[r, 0]], starts[found[r, 0] + 1]
        if found[r, 0] != bucket:
            bucket = found[r, 0]
            sort_range(start, first, last, order)
            longest = 0
            for j in range(first, last):
                longest = max(longest, end[j] - start[j])
        begins, ends = found[r, 1], found[r, 2]
        # sorted by start: none that began earlier than the longest reaches into the run
        i = first_after(start, order, first, last, begins - longest)
        only_name, several, has_lower = -1, False, False
        while i < last and start[order[i]] < ends:
            j = order[i]
            i += 1
            if end[j] <= begins:
                continue
            row = entries[j, ROW]
            takes_part[commitment[row]] = True
            if not entries[j, WHO] & 1:
                has_lower = True
            elif thing[name[row]] == bucket // 2:
                several |= only_name >= 0 and only_name != name[row]
                only_name = name[row]
        if bucket >= 2 * things:
            kind[r] = _CAP
        elif has_lower:
            kind[r] = _CASCADE
        else:
            kind[r] = _ALIAS if several else _CAPACITY


@kernel
def members_of_runs(
    found: IntArray, starts: IntArray, entries: IntArray, commitment: IntArray, members: IntArray
) -> None:
    """Write the first commitments that count in each run, (runs, most); -1 where there are no more."""
    members[:] = -1
    for r in range(len(members)):
        n = 0
        # entries of a bucket stand in the order of rows, and so of commitments
        for j in range(starts[found[r, 0]], starts[found[r, 0] + 1]):
            if entries[j, START] >= found[r, 2] or entries[j, END] <= found[r, 1]:
                continue
            own = commitment[entries[j, ROW]]
            if n and members[r, n - 1] == own:
                continue
            members[r, n] = own
            n += 1
            if n == members.shape[1]:
                break


@inner_kernel
def sort_range(values: IntArray, first: int, last: int, order: IntArray) -> None:
    """Write the indices first to last in the order of their values."""
    if last - first > FEW:
        # instants in ms are whole numbers that a double holds exactly
        order[first:last] = argsort(values[first:last].astype(np.float64)) + first
        return
    for i in range(first, last):
        j, value = i, values[i]
        while j > first and values[order[j - 1]] > value:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i


@inner_kernel
def first_after(values: IntArray, order: IntArray, low: int, high: int, instant: int) -> int:
    """First place in a range of indices, sorted by their values, whose value is after an instant."""
    while low < high:
        middle = (low + high) // 2
        if values[order[middle]] <= instant:
            low = middle + 1
        else:
            high = middle
    return low
