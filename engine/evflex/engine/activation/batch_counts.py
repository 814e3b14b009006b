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


# Columns of an entry; what is read together stands together, for most of the time goes into fetching it.
START, END, POWER, ROW, WHO = range(5)


@dataclass(frozen=True, slots=True)
class Counts:
    """Entries by bucket, a place and a direction: bucket 2 p upward and 2 p + 1 downward of place p.

    Places are things, and behind them the caps of aggregators in areas.

    Attributes:
        limit_w: Most that may count, (places, 2); ``NO_LIMIT_W`` for no limit.
        starts: Entries of bucket k are ``starts[k]:starts[k + 1]``, (buckets + 1,).
        entries: Start and end in ms, power in W, row of the batch, and four times the aggregator, two more where
            counter-activation is declared and one more where the row counts directly, (entries, 5).
    """

    limit_w: IntArray
    starts: IntArray
    entries: IntArray


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
    is_bound = (policy == PolicyKind.SESSION) & (session < 0) & is_charging(prepared.kind[thing])
    caps = prepared.cap_w()
    places = things + len(caps) * len(columns.aggregator_ids)
    cap_place = np.full(len(columns), -1, dtype=np.int64)
    if (caps < NO_LIMIT_W).any():
        areas = prepared.area_of[columns.name]
        cap_place = np.where(caps[areas] < NO_LIMIT_W, things + columns.aggregator * len(caps) + areas, -1)
    limit_w = np.full((places, 2), NO_LIMIT_W, dtype=np.int64)
    limit_w[:things] = prepared.headroom_w.T
    if len(caps):
        limit_w[things:] = np.tile(caps, len(columns.aggregator_ids))[:, None]
    arguments = (
        prepared.kind, prepared.place_starts, prepared.places, prepared.session_sides, prepared.session_ms,
        prepared.own_starts, prepared.own_sessions, thing, session, is_bound, columns.start_ms, columns.end_ms,
        columns.power_w, columns.direction, 4 * columns.aggregator + 2 * columns.is_declared, cap_place,
    )  # fmt: skip
    sizes = np.zeros(2 * places + 1, dtype=np.int64)
    expand(*arguments, sizes, np.empty((0, 5), dtype=np.int64), False)
    starts = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
    entries = np.empty((int(starts[-1]), 5), dtype=np.int64)
    expand(*arguments, starts.copy(), entries, True)
    return Counts(limit_w, starts, entries)


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
    power: IntArray,
    direction: IntArray,
    who: IntArray,
    cap_place: IntArray,
    at: IntArray,
    out: IntArray,
    writes: bool,
) -> None:
    """Go through all entries of all rows: add to the sizes ``at`` of the buckets, or write where ``at`` says."""
    for k in range(len(thing)):
        shift = direction[k] - 1
        if session[k] >= 0:
            _in_session(
                session[k], start[k], end[k], power[k], k, who[k], shift, cap_place[k], place_starts, places, sides,
                session_ms, at, out, writes,
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
                    s, start[k], end[k], power[k], k, who[k], shift, cap_place[k], place_starts, places, sides,
                    session_ms, at, out, writes,
                )  # fmt: skip
            continue
        if start[k] >= end[k]:
            continue
        low, high = place_starts[own], place_starts[own + 1]
        for j in range(low, high):
            _put(2 * places[j] + shift, start[k], end[k], power[k], k, who[k] + (j == low), at, out, writes)
        if cap_place[k] >= 0:
            _put(2 * cap_place[k] + shift, start[k], end[k], power[k], k, who[k], at, out, writes)
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
                    _put(2 * places[i] + shift, begins, ends, power[k], k, who[k], at, out, writes)


@inner_kernel
def _in_session(
    s: int,
    start: int,
    end: int,
    power: int,
    k: int,
    who: int,
    shift: int,
    cap_place: int,
    place_starts: IntArray,
    places: IntArray,
    sides: IntArray,
    session_ms: IntArray,
    at: IntArray,
    out: IntArray,
    writes: bool,
) -> None:
    """Entries of a row that counts as a session."""
    begins, ends = max(start, session_ms[0, s]), min(end, session_ms[1, s])
    if begins >= ends:
        return
    vehicle, point = sides[0, s], sides[1, s]
    low, high = place_starts[vehicle] + 1, place_starts[vehicle + 1]
    _put(2 * vehicle + shift, begins, ends, power, k, who + 1, at, out, writes)
    _put(2 * point + shift, begins, ends, power, k, who + 1, at, out, writes)
    for i in range(low, high):
        if places[i] != point:
            _put(2 * places[i] + shift, begins, ends, power, k, who, at, out, writes)
    for i in range(place_starts[point] + 1, place_starts[point + 1]):
        if places[i] != vehicle and not _holds(places, low, high, places[i]):
            _put(2 * places[i] + shift, begins, ends, power, k, who, at, out, writes)
    if cap_place >= 0:
        _put(2 * cap_place + shift, begins, ends, power, k, who, at, out, writes)


@inner_kernel
def _put(
    bucket: int, start: int, end: int, power: int, k: int, who: int, at: IntArray, out: IntArray, writes: bool
) -> None:
    j = at[bucket]
    at[bucket] = j + 1
    if writes:
        out[j, START], out[j, END], out[j, POWER], out[j, ROW], out[j, WHO] = start, end, power, k, who


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
