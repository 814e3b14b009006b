"""What upward sales take from the energy that a vehicle needs by its departure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evflex.engine.activation.counting import Count, Piece, largest, summed
from evflex.engine.activation.model import Commitment, Conflict, ConflictKind, Direction, Session
from evflex.engine.activation.pair_rules import Sold, in_order
from evflex.engine.activation.place_book import Group
from evflex.engine.activation.registry import Registry

RULE = "what is taken from charging must be caught up before departure"
_W_MS_PER_WH = 3_600_000


def energy_exceeded(registry: Registry, session: Session, sold: Iterable[Sold]) -> Conflict | None:
    """ENERGY_EXCEEDED of a session, None where its need is not known or can still be met.

    Args:
        registry: Knows the session.
        session: Open.
        sold: Commitments that count directly at its vehicle or its charge point.
    """
    if session.energy_wh is None or session.departure_ms is None or session.max_charge_w is None:
        return None
    sides = [side.thing_id for side in registry.sides_of(session)]
    alone, takers = 0, []
    groups: dict[Group, list[tuple[list[Piece], int]]] = {}
    for one in sold:
        if one.commitment.direction != Direction.UP:
            continue
        pieces, taken = _taken(one, sides, session.start_ms, session.departure_ms)
        if not taken:
            continue
        takers.append(one.commitment)
        group = one.commitment.group
        if group is None:
            alone += taken
        else:
            groups.setdefault(group, []).append((pieces, taken))
    taken_w_ms = alone + sum(_taken_by_group(members) for members in groups.values())
    able_w_ms = session.max_charge_w * (session.departure_ms - session.start_ms) - taken_w_ms
    missing_w_ms = session.energy_wh * _W_MS_PER_WH - able_w_ms
    if not takers or missing_w_ms <= 0:
        return None
    return Conflict(
        ConflictKind.ENERGY_EXCEEDED, sides[0], session.start_ms, session.departure_ms, in_order(*takers),
        Direction.UP, excess_wh=-(-missing_w_ms // _W_MS_PER_WH), session_id=session.session_id, rule=RULE,
    )  # fmt: skip


def _taken(sold: Sold, sides: Sequence[str], start_ms: int, departure_ms: int) -> tuple[list[Piece], int]:
    """Power over time that a commitment takes from a session, and energy in W ms."""
    own = _within(sold.counts, sides, start_ms, departure_ms)
    if not own:
        return [], 0
    by_row: dict[int, int] = {}
    for count in own:
        by_row[count.row] = by_row.get(count.row, 0) + count.power_w * (count.end_ms - count.start_ms)
    commitment = sold.commitment
    return summed(own), sum(min(taken, _most(commitment, row, taken)) for row, taken in by_row.items())


def _within(counts: Iterable[Count], sides: Sequence[str], start_ms: int, departure_ms: int) -> list[Count]:
    """Direct counts at either side within the time until departure; what counts at both, once."""
    found: dict[tuple[int, int], Count] = {}
    for count in counts:
        first, last = max(count.start_ms, start_ms), min(count.end_ms, departure_ms)
        if count.is_direct and count.place in sides and first < last:
            found.setdefault((count.row, first), count._replace(start_ms=first, end_ms=last))
    return list(found.values())


def _most(commitment: Commitment, row: int, taken_w_ms: int) -> int:
    """Most energy in W ms that a row may deliver."""
    if commitment.energy_wh is None:
        return taken_w_ms
    share_wh = -(-commitment.energy_wh * commitment.rows[row].power_w // commitment.power_w)
    return share_wh * _W_MS_PER_WH


def _taken_by_group(members: Sequence[tuple[list[Piece], int]]) -> int:
    together = largest(piece for pieces, _ in members for piece in pieces)
    most = sum(piece.power_w * (piece.end_ms - piece.start_ms) for piece in together)
    return min(most, sum(taken for _, taken in members))
