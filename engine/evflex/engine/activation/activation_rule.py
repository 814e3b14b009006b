"""What may be activated at the same time."""

from __future__ import annotations

from collections.abc import Iterator

from evflex.engine.activation.capacity_rule import capacity_conflicts
from evflex.engine.activation.counting import Cap, by_place, counts_of, is_forecast
from evflex.engine.activation.ledger import Ledger
from evflex.engine.activation.model import Commitment, Conflict, ConflictKind
from evflex.engine.activation.pair_rules import Sold, in_order
from evflex.engine.activation.place_book import PlaceBook

EXCLUSIVE_RULE = "of an exclusive group only one may be active at a time"
FORECAST_RULE = "a forecast can be activated once its vehicle is plugged in"


class ActiveBook:
    """Commitments of a ledger that are activated."""

    def __init__(self, ledger: Ledger) -> None:
        """Begin without any."""
        self._ledger = ledger
        self._active: dict[str, dict[str, Commitment]] = {}

    def put(self, commitment: Commitment) -> None:
        """Let a commitment be active."""
        self._active.setdefault(commitment.aggregator_id, {})[commitment.commitment_id] = commitment

    def remove(self, aggregator_id: str, commitment_id: str) -> None:
        """Let a commitment be active no more, if it is."""
        own = self._active.get(aggregator_id, {})
        own.pop(commitment_id, None)
        if not own:
            self._active.pop(aggregator_id, None)

    def conflicts_of(self, commitment: Commitment, now_ms: int) -> Iterator[Conflict]:
        """What stands against activating a commitment: its group, its sessions, and the cap of its aggregator as it is.

        Args:
            commitment: Counts, and is not active.
            now_ms: Present time, milliseconds since 1970-01-01 UTC.
        """
        yield from self._exclusive(commitment)
        yield from self._unplugged(commitment, now_ms)
        yield from self._above_cap(commitment)

    def _exclusive(self, commitment: Commitment) -> Iterator[Conflict]:
        if not commitment.exclusive_group:
            return
        for other in self._active.get(commitment.aggregator_id, {}).values():
            start, end = max(commitment.start_ms, other.start_ms), min(commitment.end_ms, other.end_ms)
            if other.exclusive_group == commitment.exclusive_group and start < end:
                yield Conflict(
                    ConflictKind.POLICY, commitment.rows[0].resource_id, start, end, in_order(other, commitment),
                    rule=EXCLUSIVE_RULE,
                )  # fmt: skip

    def _unplugged(self, commitment: Commitment, now_ms: int) -> Iterator[Conflict]:
        """Forecasts of vehicles and charge points that are in no session now, or when the commitment begins."""
        registry, instant = self._ledger.registry, max(now_ms, commitment.start_ms)
        for row in commitment.rows:
            if not is_forecast(registry, commitment, row):
                continue
            if not registry.sessions_of(registry.thing(row.resource_id), instant, instant + 1):
                yield Conflict(
                    ConflictKind.POLICY, row.resource_id, instant, row.end_ms, (commitment.commitment_id,),
                    rule=FORECAST_RULE,
                )  # fmt: skip

    def _above_cap(self, commitment: Commitment) -> Iterator[Conflict]:
        """What is active already and a commitment, where the cap was lowered below what is sold."""
        caps = self._ledger.exceeded_caps(commitment)
        if not caps:
            return
        registry = self._ledger.registry
        sold = Sold(commitment, counts_of(registry, commitment))
        own = self._active.get(commitment.aggregator_id, {})
        others = {name: Sold(other, counts_of(registry, other)) for name, other in own.items()}
        for place, counts in by_place(sold.counts).items():
            if not isinstance(place, Cap) or place not in caps:
                continue
            book = PlaceBook()
            for other in others.values():
                there = by_place(other.counts).get(place)
                if there:
                    book.put(other.commitment, there)
            yield from capacity_conflicts(registry, book, others, sold, place, counts)
