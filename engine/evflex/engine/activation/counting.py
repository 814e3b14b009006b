"""Where and when a commitment counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from evflex.engine.activation.model import Commitment, PolicyKind, ResourceKind, Row, Session
from evflex.engine.activation.registry import Registry

_CHARGING = (ResourceKind.EV, ResourceKind.CHARGE_POINT)


class Cap(NamedTuple):
    """Where an aggregator's watts in an area count."""

    aggregator_id: str
    area_id: str


# A thing by its identifier, or the cap of an aggregator.
Place = str | Cap


class Count(NamedTuple):
    """A row counts at a place over [start_ms, end_ms)."""

    place: Place
    start_ms: int
    end_ms: int
    power_w: int
    row: int
    is_direct: bool


class Piece(NamedTuple):
    """A power over [start_ms, end_ms)."""

    start_ms: int
    end_ms: int
    power_w: int


def counts_of(registry: Registry, commitment: Commitment) -> list[Count]:
    """All places where a commitment counts; those of one row and place do not overlap."""
    return [count for k, row in enumerate(commitment.rows) for count in _counts_of_row(registry, commitment, k, row)]


def policy_of(registry: Registry, commitment: Commitment, row: Row) -> PolicyKind:
    """Policy that a row is sold under."""
    if row.policy is not None:
        return row.policy
    return registry.policy(area_of(registry, row), commitment.product_id).kind


def area_of(registry: Registry, row: Row) -> str:
    """Area of what a row names; that of the charge point where it names a session."""
    session = registry.sessions.get(row.resource_id)
    return registry.resources[session.charge_point_id if session else row.resource_id].area_id


def is_forecast(registry: Registry, commitment: Commitment, row: Row) -> bool:
    """Whether a row counts in sessions only: a vehicle or charge point sold under SESSION."""
    if row.resource_id in registry.sessions or registry.resources[row.resource_id].kind not in _CHARGING:
        return False
    return policy_of(registry, commitment, row) == PolicyKind.SESSION


def by_place(counts: Iterable[Count]) -> dict[Place, list[Count]]:
    """The same, place by place."""
    found: dict[Place, list[Count]] = {}
    for count in counts:
        found.setdefault(count.place, []).append(count)
    return found


def summed(counts: Sequence[Count | Piece]) -> list[Piece]:
    """Power of all counts together, as of one commitment at one place: disjoint pieces in the order of time."""
    if len(counts) == 1:
        only = counts[0]
        return [Piece(only.start_ms, only.end_ms, only.power_w)]
    edges = sorted({edge for count in counts for edge in (count.start_ms, count.end_ms)})
    pieces = []
    for start, end in pairwise(edges):
        power = sum(count.power_w for count in counts if count.start_ms <= start < count.end_ms)
        if power:
            pieces.append(Piece(start, end, power))
    return pieces


def largest(pieces: Iterable[Piece]) -> list[Piece]:
    """Largest power of any piece, as of a group whose members count by the largest: disjoint, in the order of time."""
    waiting = sorted(pieces)
    edges = sorted({edge for piece in waiting for edge in piece[:2]})
    running: list[tuple[int, int]] = []
    found: list[Piece] = []
    at = 0
    for start, end in pairwise(edges):
        while at < len(waiting) and waiting[at].start_ms <= start:
            heappush(running, (-waiting[at].power_w, waiting[at].end_ms))
            at += 1
        while running and running[0][1] <= start:
            heappop(running)
        if running:
            found.append(Piece(start, end, -running[0][0]))
    return found


def _counts_of_row(registry: Registry, commitment: Commitment, k: int, row: Row) -> Iterator[Count]:
    start, end = commitment.start_ms, row.end_ms
    cap = _cap(registry, commitment, row)
    sold = registry.sessions.get(row.resource_id)
    if sold is not None:
        yield from _in_session(registry, sold, start, end, row.power_w, k, cap)
        return
    thing = registry.thing(row.resource_id)
    if thing.kind in _CHARGING and policy_of(registry, commitment, row) == PolicyKind.SESSION:
        for session in registry.sessions_of(thing, start, end):
            yield from _in_session(registry, session, start, end, row.power_w, k, cap)
        return
    if start >= end:
        return
    yield Count(thing.thing_id, start, end, row.power_w, k, True)
    above = registry.ancestors(thing.thing_id)
    further: tuple[Place, ...] = (*above, *cap)
    for place in further:
        yield Count(place, start, end, row.power_w, k, False)
    if thing.kind != ResourceKind.EV:
        return
    for session in registry.sessions_of(thing, start, end):
        point = registry.thing(session.charge_point_id).thing_id
        first, last = max(start, session.start_ms), min(end, session.end_ms)
        for above_point in (point, *registry.ancestors(point)):
            if above_point not in above:  # there it counts already
                yield Count(above_point, first, last, row.power_w, k, False)


def _in_session(
    registry: Registry, session: Session, start_ms: int, end_ms: int, power_w: int, k: int, cap: tuple[Cap, ...]
) -> Iterator[Count]:
    """A row on a session, or one that counts as such."""
    first, last = max(start_ms, session.start_ms), min(end_ms, session.end_ms)
    if first >= last:
        return
    sides = [side.thing_id for side in registry.sides_of(session)]
    above = dict.fromkeys(place for side in sides for place in registry.ancestors(side) if place not in sides)
    for side in sides:
        yield Count(side, first, last, power_w, k, True)
    further: tuple[Place, ...] = (*above, *cap)
    for place in further:
        yield Count(place, first, last, power_w, k, False)


def _cap(registry: Registry, commitment: Commitment, row: Row) -> tuple[Cap, ...]:
    """The cap that a row counts against, where there is one."""
    area_id = area_of(registry, row)
    return () if registry.cap_w(area_id) is None else (Cap(commitment.aggregator_id, area_id),)
