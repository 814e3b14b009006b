"""Where the rows of a batch count: one entry a row and place, as :func:`counting.counts_of` has it for a commitment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.columns import Columns
from evflex.engine.activation.model import PolicyKind, ResourceKind
from evflex.engine.activation.prepared import NO_LIMIT_W, PreparedRegistry, is_charging
from evflex.engine.kernels import inner_kernel, kernel

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
_EV = int(ResourceKind.EV)


@dataclass(frozen=True, slots=True)
class Counts:
    """Entries by bucket, a place and a direction: bucket 2 p upward and 2 p + 1 downward of place p.

    Places are things, and behind them the caps of aggregators in areas. Entries of bucket k are
    ``starts[k]:starts[k + 1]`` of all other arrays.

    Attributes:
        limit_w: Most that may count, (places, 2); ``NO_LIMIT_W`` for no limit.
        starts: Ranges, (buckets + 1,).
        row: Row of the batch.
        start_ms: Start.
        end_ms: End.
        is_direct: Whether the row counts directly.
    """

    limit_w: IntArray
    starts: IntArray
    row: IntArray
    start_ms: IntArray
    end_ms: IntArray
    is_direct: BoolArray


def count_rows(prepared: PreparedRegistry, columns: Columns, policy: IntArray) -> Counts:
    """Count every row of a batch.

    Args:
        prepared: The registry.
        columns: The batch.
        policy: Policy of each row, (n,).
    """
    things = len(prepared.thing_ids)
    session = prepared.session_of[columns.name]
    thing = prepared.thing_of[columns.name]
    is_bound = (session < 0) & is_charging(prepared.kind[thing]) & (policy == PolicyKind.SESSION)
    caps = prepared.cap_w()
    areas = prepared.area_of[columns.name]
    places = things + len(caps) * len(columns.aggregator_ids)
    has_cap = caps[areas] < NO_LIMIT_W
    cap_place = np.where(has_cap, things + columns.aggregator * len(caps) + areas, -1)
    limit_w = np.full((places, 2), NO_LIMIT_W, dtype=np.int64)
    limit_w[:things] = prepared.headroom_w.T
    if len(caps):
        limit_w[things:] = np.tile(caps, len(columns.aggregator_ids))[:, None]
    world = (
        prepared.kind, prepared.place_starts, prepared.places, prepared.session_sides, prepared.session_ms,
        prepared.own_starts, prepared.own_sessions,
    )  # fmt: skip
    batch = (thing, session, is_bound, columns.start_ms, columns.end_ms, columns.direction, cap_place)
    sizes = np.zeros(2 * places + 1, dtype=np.int64)
    nothing, no_flags = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_)
    expand(*world, *batch, sizes, nothing, nothing, nothing, no_flags, False)
    starts = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
    n = int(starts[-1])
    row, start_ms, end_ms = (np.empty(n, dtype=np.int64) for _ in range(3))
    is_direct = np.empty(n, dtype=np.bool_)
    expand(*world, *batch, starts.copy(), row, start_ms, end_ms, is_direct, True)
    return Counts(limit_w, starts, row, start_ms, end_ms, is_direct)


@kernel
def expand(
    kind: IntArray,
    place_starts: IntArray,
    places: IntArray,
    sides: IntArray,
    session_ms: IntArray,
    own_starts: IntArray,
    own_sessions: IntArray,
    thing: IntArray,
    session: IntArray,
    is_bound: BoolArray,
    start: IntArray,
    end: IntArray,
    direction: IntArray,
    cap_place: IntArray,
    at: IntArray,
    out_row: IntArray,
    out_start: IntArray,
    out_end: IntArray,
    out_direct: BoolArray,
    writes: bool,
) -> None:
    """Go through all entries of all rows: add to the sizes ``at`` of the buckets, or write where ``at`` says."""
    for k in range(len(thing)):
        shift = direction[k] - 1
        if session[k] >= 0:
            _in_session(
                session[k], start[k], end[k], k, shift, cap_place[k], place_starts, places, sides, session_ms,
                at, out_row, out_start, out_end, out_direct, writes,
            )  # fmt: skip
            continue
        own = thing[k]
        first = _first_session(own_starts, own_sessions, session_ms, own, start[k])
        if is_bound[k]:
            for j in range(first, own_starts[own + 1]):
                s = own_sessions[j]
                if session_ms[0, s] >= end[k]:
                    break
                _in_session(
                    s, start[k], end[k], k, shift, cap_place[k], place_starts, places, sides, session_ms,
                    at, out_row, out_start, out_end, out_direct, writes,
                )  # fmt: skip
            continue
        if start[k] >= end[k]:
            continue
        low, high = place_starts[own], place_starts[own + 1]
        for j in range(low, high):
            _put(
                2 * places[j] + shift, k, start[k], end[k], j == low, at, out_row, out_start, out_end, out_direct,
                writes,
            )  # fmt: skip
        if cap_place[k] >= 0:
            _put(
                2 * cap_place[k] + shift, k, start[k], end[k], False, at, out_row, out_start, out_end, out_direct,
                writes,
            )  # fmt: skip
        if kind[own] != _EV:
            continue
        for j in range(first, own_starts[own + 1]):
            s = own_sessions[j]
            begins, ends = max(start[k], session_ms[0, s]), min(end[k], session_ms[1, s])
            if session_ms[0, s] >= end[k]:
                break
            if begins >= ends:
                continue
            point = sides[1, s]
            for i in range(place_starts[point], place_starts[point + 1]):
                if not _holds(places, low + 1, high, places[i]):
                    _put(
                        2 * places[i] + shift, k, begins, ends, False, at, out_row, out_start, out_end, out_direct,
                        writes,
                    )  # fmt: skip


@inner_kernel
def _in_session(
    s: int,
    start: int,
    end: int,
    k: int,
    shift: int,
    cap_place: int,
    place_starts: IntArray,
    places: IntArray,
    sides: IntArray,
    session_ms: IntArray,
    at: IntArray,
    out_row: IntArray,
    out_start: IntArray,
    out_end: IntArray,
    out_direct: BoolArray,
    writes: bool,
) -> None:
    """Entries of a row that counts as a session."""
    begins, ends = max(start, session_ms[0, s]), min(end, session_ms[1, s])
    if begins >= ends:
        return
    vehicle, point = sides[0, s], sides[1, s]
    low, high = place_starts[vehicle] + 1, place_starts[vehicle + 1]
    _put(2 * vehicle + shift, k, begins, ends, True, at, out_row, out_start, out_end, out_direct, writes)
    _put(2 * point + shift, k, begins, ends, True, at, out_row, out_start, out_end, out_direct, writes)
    for i in range(low, high):
        if places[i] != point:
            _put(2 * places[i] + shift, k, begins, ends, False, at, out_row, out_start, out_end, out_direct, writes)
    for i in range(place_starts[point] + 1, place_starts[point + 1]):
        if places[i] != vehicle and not _holds(places, low, high, places[i]):
            _put(2 * places[i] + shift, k, begins, ends, False, at, out_row, out_start, out_end, out_direct, writes)
    if cap_place >= 0:
        _put(2 * cap_place + shift, k, begins, ends, False, at, out_row, out_start, out_end, out_direct, writes)


@inner_kernel
def _put(
    bucket: int,
    k: int,
    start: int,
    end: int,
    is_direct: bool,
    at: IntArray,
    out_row: IntArray,
    out_start: IntArray,
    out_end: IntArray,
    out_direct: BoolArray,
    writes: bool,
) -> None:
    j = at[bucket]
    at[bucket] = j + 1
    if writes:
        out_row[j], out_start[j], out_end[j], out_direct[j] = k, start, end, is_direct


@inner_kernel
def _holds(places: IntArray, low: int, high: int, place: int) -> bool:
    found = False
    for i in range(low, high):
        found |= places[i] == place
    return found


@inner_kernel
def _first_session(own_starts: IntArray, own_sessions: IntArray, session_ms: IntArray, thing: int, instant: int) -> int:
    """First session of a thing that may still run at an instant: they do not overlap, so ends rise with starts."""
    low, high = own_starts[thing], own_starts[thing + 1]
    while low < high:
        middle = (low + high) // 2
        if session_ms[1, own_sessions[middle]] <= instant:
            low = middle + 1
        else:
            high = middle
    return low
