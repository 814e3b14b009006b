"""Rule 5: a vehicle must still reach what it needs at departure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from evflex.engine.activation.model import OPEN_END_MS, Conflict, ConflictKind, Direction, Session
from tests.engine.activation.reference.counting import Count, Instant, ids, named, power_w
from tests.engine.activation.reference.world import World

MS_PER_HOUR = 3_600_000


def too_little_energy(world: World, pieces: list[Instant], order: list[str], only: str | None) -> Iterator[Conflict]:
    """Conflicts of sessions that could not get what they need, of all or of one commitment alone."""
    for session in world.sessions:
        if session.end_ms != OPEN_END_MS:
            continue
        if session.energy_wh is None or session.departure_ms is None or session.max_charge_w is None:
            continue
        until_departure = [p for p in pieces if session.start_ms <= p.start_ms and p.end_ms <= session.departure_ms]
        taking = [(piece, _taking(world, session, piece)) for piece in until_departure]
        takers = ids(count for _, counts in taking for count in counts)
        most_wh = _wh(session.max_charge_w, session.departure_ms - session.start_ms)
        missing_wh = session.energy_wh - (most_wh - _taken_wh(taking))
        if takers and missing_wh > 0 and (only is None or only in takers):
            yield Conflict(
                ConflictKind.ENERGY_EXCEEDED, world.thing[session.ev_id], session.start_ms, session.departure_ms,
                named(takers, order), Direction.UP, excess_wh=ceil(missing_wh), session_id=session.session_id,
            )  # fmt: skip


def _taking(world: World, session: Session, piece: Instant) -> list[Count]:
    """Upward rows that count directly at the vehicle or at the charge point."""
    ev, charge_point = world.thing[session.ev_id], world.thing[session.charge_point_id]
    found = []
    for count in piece.counts:
        directly = count.directly.get(ev, False) or count.directly.get(charge_point, False)
        if directly and count.commitment.direction == Direction.UP:
            found.append(count)
    return found


def _taken_wh(taking: list[tuple[Instant, list[Count]]]) -> Fraction:
    """All that is taken."""
    time_ms: dict[tuple[str, str], int] = defaultdict(int)
    part = {}
    for piece, counts in taking:
        for count in counts:
            key = (count.commitment.commitment_id, count.row.resource_id)
            time_ms[key] += piece.end_ms - piece.start_ms
            part[key] = count
    alone_wh = Fraction(0)
    members_wh: dict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    for key, count in part.items():
        commitment, row = count.commitment, count.row
        taken_wh = _wh(row.power_w, time_ms[key])
        if commitment.energy_wh is not None:
            share_wh = ceil(Fraction(commitment.energy_wh * row.power_w, commitment.power_w))
            taken_wh = min(taken_wh, Fraction(share_wh))
        if commitment.group is None:
            alone_wh += taken_wh
        else:
            members_wh[commitment.group] += taken_wh
    return alone_wh + sum(min(wh, _largest_wh(taking, group)) for group, wh in members_wh.items())


def _largest_wh(taking: list[tuple[Instant, list[Count]]], group: tuple[str, str, str]) -> Fraction:
    """The largest power of a group at each instant, over all of them."""
    largest_wh = Fraction(0)
    for piece, counts in taking:
        largest_w = power_w([count for count in counts if count.commitment.group == group])
        largest_wh += _wh(largest_w, piece.end_ms - piece.start_ms)
    return largest_wh


def _wh(power_w: int, time_ms: int) -> Fraction:
    return Fraction(power_w * time_ms, MS_PER_HOUR)
