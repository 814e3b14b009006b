"""What may be activated at the same time."""

from __future__ import annotations

from collections.abc import Iterator

from evflex.engine.activation.capacity_rule import capacity_conflicts
from evflex.engine.activation.counting import Cap, by_place, counts_of, is_forecast
from evflex.engine.activation.model import Commitment, Conflict, ConflictKind
from evflex.engine.activation.pair_rules import Sold, in_order
from evflex.engine.activation.place_book import PlaceBook
from evflex.engine.activation.registry import Registry

EXCLUSIVE_RULE = "of an exclusive group only one may be active at a time"
FORECAST_RULE = "a forecast can be activated once its vehicle is plugged in"


class ActiveBook:
    """Commitments that are activated."""

    def __init__(self, registry: Registry) -> None:
        """Begin without any."""
        self._registry = registry
        self._active: dict[str, Commitment] = {}

    def put(self, commitment: Commitment) -> None:
        """Let a commitment be active."""
        self._active[commitment.commitment_id] = commitment

    def remove(self, commitment_id: str) -> None:
        """Let a commitment be active no more, if it is."""
        self._active.pop(commitment_id, None)

    def conflicts_of(self, commitment: Commitment, now_ms: int) -> Iterator[Conflict]:
        """What stands against activating a commitment: its group, its sessions, and the cap of its aggregator as it is.

        Args:
            commitment: Counts, and is not active.
            now_ms: Present time, milliseconds since 1970-01-01 UTC.
        """
        own = [other for other in self._active.values() if other.aggregator_id == commitment.aggregator_id]
        if commitment.exclusive_group:
            for other in own:
                start, end = max(commitment.start_ms, other.start_ms), min(commitment.end_ms, other.end_ms)
                if other.exclusive_group == commitment.exclusive_group and start < end:
                    yield Conflict(
                        ConflictKind.POLICY, commitment.rows[0].resource_id, start, end, in_order(other, commitment),
                        rule=EXCLUSIVE_RULE,
                    )  # fmt: skip
        yield from self._unplugged(commitment, now_ms)
        yield from self._above_cap(commitment, own)

    def _unplugged(self, commitment: Commitment, now_ms: int) -> Iterator[Conflict]:
        """Forecasts of vehicles and charge points that are in no session now, or when the commitment begins."""
        instant = max(now_ms, commitment.start_ms)
        for row in commitment.rows:
            if not is_forecast(self._registry, commitment, row):
                continue
            if not self._registry.sessions_of(self._registry.thing(row.resource_id), instant, instant + 1):
                yield Conflict(
                    ConflictKind.POLICY, row.resource_id, instant, row.end_ms, (commitment.commitment_id,),
                    rule=FORECAST_RULE,
                )  # fmt: skip

    def _above_cap(self, commitment: Commitment, own: list[Commitment]) -> Iterator[Conflict]:
        sold = Sold(commitment, counts_of(self._registry, commitment))
        caps = {place: counts for place, counts in by_place(sold.counts).items() if isinstance(place, Cap)}
        if not caps:
            return
        others = {other.commitment_id: Sold(other, counts_of(self._registry, other)) for other in own}
        for place, counts in caps.items():
            book = PlaceBook()
            for other in others.values():
                there = by_place(other.counts).get(place)
                if there:
                    book.put(other.commitment, there)
            yield from capacity_conflicts(self._registry, book, others, sold, place, counts)
