"""What a commitment exceeds: the headroom of a thing, or the cap of its aggregator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from evflex.engine.activation.counting import Cap, Count, Piece, Place, summed
from evflex.engine.activation.model import MOST_NAMED, Conflict, ConflictKind, Direction
from evflex.engine.activation.pair_rules import Sold, in_order
from evflex.engine.activation.place_book import PlaceBook
from evflex.engine.activation.registry import Registry
from evflex.engine.activation.timeline import Timeline

RULES = {
    ConflictKind.CAPACITY_EXCEEDED: "more would be sold than the resource has",
    ConflictKind.ALIAS_SALE: "one thing would be sold under several names, more than it has",
    ConflictKind.CASCADE: "more would be sold behind the resource than it has",
    ConflictKind.AGGREGATOR_CAP: "the aggregator could activate more at once in the area than it may",
}


def capacity_conflicts(
    registry: Registry,
    book: PlaceBook | None,
    ledger: Mapping[str, Sold],
    candidate: Sold,
    place: Place,
    counts: list[Count],
) -> Iterator[Conflict]:
    """Runs of instants at which a candidate, with what counts at a place already, is above the limit there.

    Args:
        registry: Knows the limits.
        book: What counts at the place, None for nothing.
        ledger: Those whose counts the book holds, by identifier.
        candidate: Not in the book.
        place: The place.
        counts: Of the candidate there.
    """
    direction = candidate.commitment.direction
    limit_w = limit_of(registry, place, direction)
    if limit_w is None:
        return
    load = None if book is None else book.load(direction)
    pieces = summed(counts) if book is None else book.added(candidate.commitment, counts)
    for start_ms, end_ms, excess_w in _runs(load, pieces, limit_w):
        others = () if book is None else _in_run(book, ledger, place, direction, start_ms, end_ms)
        involved = [candidate, *islice(others, MOST_NAMED)]
        kind = _kind(registry, place, involved, start_ms, end_ms)
        yield Conflict(
            kind, "" if isinstance(place, Cap) else place, start_ms, end_ms,
            in_order(*(sold.commitment for sold in involved))[:MOST_NAMED], direction, excess_w=excess_w,
            area_id=place.area_id if isinstance(place, Cap) else "", rule=RULES[kind],
        )  # fmt: skip


def limit_of(registry: Registry, place: Place, direction: Direction) -> int | None:
    """Most that may count at a place in W, None for no limit."""
    if isinstance(place, Cap):
        return registry.cap_w(place.area_id)
    return registry.thing(place).headroom_w(direction)


def _runs(load: Timeline | None, pieces: Iterable[Piece], limit_w: int) -> list[tuple[int, int, int]]:
    """Start, end and largest excess of each maximal run above the limit."""
    runs: list[tuple[int, int, int]] = []
    for start, end, power_w in pieces:
        above: list[tuple[int, int, int]] = []
        if load is None:
            above = [(start, end, 0)] if power_w > limit_w else []
        elif load.peak_w(start, end) + power_w > limit_w:
            above = load.runs_above(start, end, limit_w - power_w)
        for first, last, level_w in above:
            excess_w = level_w + power_w - limit_w
            if runs and runs[-1][1] == first:
                runs[-1] = (runs[-1][0], last, max(runs[-1][2], excess_w))
            else:
                runs.append((first, last, excess_w))
    return runs


def _in_run(
    book: PlaceBook, ledger: Mapping[str, Sold], place: Place, direction: Direction, start_ms: int, end_ms: int
) -> Iterator[Sold]:
    """Those that count at a place in a run."""
    for name, commitment in book.members.items():
        if commitment.direction != direction or commitment.start_ms >= end_ms or commitment.end_ms <= start_ms:
            continue
        sold = ledger[name]
        if next(_there(sold, place, start_ms, end_ms), None) is not None:
            yield sold


def _there(sold: Sold, place: Place, start_ms: int, end_ms: int) -> Iterator[Count]:
    return (c for c in sold.counts if c.place == place and c.start_ms < end_ms and c.end_ms > start_ms)


def _kind(registry: Registry, place: Place, involved: Iterable[Sold], start_ms: int, end_ms: int) -> ConflictKind:
    if isinstance(place, Cap):
        return ConflictKind.AGGREGATOR_CAP
    names = set()
    for sold in involved:
        for count in _there(sold, place, start_ms, end_ms):
            if not count.is_direct:
                return ConflictKind.CASCADE
            names.add(sold.commitment.rows[count.row].resource_id)
    return (
        ConflictKind.ALIAS_SALE
        if len(names.intersection(registry.thing(place).members)) > 1
        else ConflictKind.CAPACITY_EXCEEDED
    )
