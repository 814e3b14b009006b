"""What counts at one place: its power over time in each direction, and whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from evflex.engine.activation.counting import Count, Piece, summed
from evflex.engine.activation.model import Commitment, Direction
from evflex.engine.activation.timeline import Timeline

Group = tuple[str, str, str]


class PlaceBook:
    """Commitments that count at a place.

    Attributes:
        members: All of them, by identifier.
        direct: Those that count directly.
    """

    __slots__ = ("_groups", "_loads", "direct", "members")

    def __init__(self) -> None:
        """Hold nothing."""
        self.members: dict[str, Commitment] = {}
        self.direct: dict[str, Commitment] = {}
        self._loads: dict[Direction, Timeline] = {}
        self._groups: dict[tuple[Group, Direction], dict[str, list[Piece]]] = {}

    def put(self, commitment: Commitment, counts: list[Count]) -> None:
        """Take a commitment in, with what it counts here."""
        self.members[commitment.commitment_id] = commitment
        if any(count.is_direct for count in counts):
            self.direct[commitment.commitment_id] = commitment
        load = self._loads.setdefault(commitment.direction, Timeline())
        pieces = summed(counts)
        group = commitment.group
        if group is not None:
            members = self._groups.setdefault((group, commitment.direction), {})
            added = on_top(members.values(), pieces)
            members[commitment.commitment_id] = pieces
            pieces = added
        for piece in pieces:
            if piece.power_w:
                load.add(*piece)

    def remove(self, commitment: Commitment, counts: list[Count]) -> None:
        """Let a commitment go; counts as when it was put."""
        del self.members[commitment.commitment_id]
        self.direct.pop(commitment.commitment_id, None)
        pieces = summed(counts)
        group = commitment.group
        if group is not None:
            members = self._groups[group, commitment.direction]
            del members[commitment.commitment_id]
            pieces = on_top(members.values(), pieces)
            if not members:
                del self._groups[group, commitment.direction]
        for start_ms, end_ms, power_w in pieces:
            if power_w:
                self._loads[commitment.direction].add(start_ms, end_ms, -power_w)

    def added(self, commitment: Commitment, counts: list[Count]) -> list[Piece]:
        """What a commitment would add here, 0 where its group counts as much already; pieces in the order of time."""
        pieces = summed(counts)
        group = commitment.group
        if group is None:
            return pieces
        return on_top(self._groups.get((group, commitment.direction), {}).values(), pieces)

    def load(self, direction: Direction) -> Timeline | None:
        """Power over time in a direction, None where there is none."""
        return self._loads.get(direction)


def on_top(others: Iterable[list[Piece]], own: list[Piece]) -> list[Piece]:
    """By how much a commitment exceeds the largest of others, over its own time; at least 0."""
    start, end = own[0].start_ms, own[-1].end_ms
    near = [piece for pieces in others for piece in pieces if piece.start_ms < end and piece.end_ms > start]
    if not near:
        return own
    found: list[Piece] = []
    for piece in own:
        inside = {edge for other in near for edge in other[:2] if piece.start_ms < edge < piece.end_ms}
        edges = sorted({piece.start_ms, piece.end_ms} | inside)
        for first, last in pairwise(edges):
            most = max((other.power_w for other in near if other.start_ms <= first < other.end_ms), default=0)
            found.append(Piece(first, last, max(piece.power_w - most, 0)))
    return found
