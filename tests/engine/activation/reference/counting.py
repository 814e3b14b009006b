"""Where each row counts, instant by instant: the first half of the rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evflex.engine.activation.model import MOST_NAMED, Commitment, PolicyKind, ResourceKind, Row, Session
from tests.engine.activation.reference.world import World

SOLD_BY_SESSION = (ResourceKind.EV, ResourceKind.CHARGE_POINT)


@dataclass(frozen=True, slots=True)
class Count:
    """A row at an instant at which it counts somewhere.

    Attributes:
        commitment: What it is part of.
        row: The row.
        sold_under: Policy of the row.
        directly: Things that it counts at, and whether directly.
        area_id: Area in which it counts against the cap of its aggregator.
    """

    commitment: Commitment
    row: Row
    sold_under: PolicyKind
    directly: Mapping[str, bool]
    area_id: str


@dataclass(frozen=True, slots=True)
class Instant:
    """A time in which nothing changes, judged as one instant, with all that counts then."""

    start_ms: int
    end_ms: int
    counts: tuple[Count, ...]


def instants(world: World, commitments: Sequence[Commitment]) -> list[Instant]:
    """The whole time, cut wherever anything begins or ends; the pieces touch."""
    cuts = {time for session in world.sessions for time in (session.start_ms, session.end_ms)}
    cuts |= {session.departure_ms for session in world.sessions if session.departure_ms is not None}
    cuts |= {commitment.start_ms for commitment in commitments}
    cuts |= {row.end_ms for commitment in commitments for row in commitment.rows}
    times = sorted(cuts)
    pieces = []
    for start_ms, end_ms in pairwise(times):
        counts = []
        for commitment in commitments:
            for row in commitment.rows:
                directly = where(world, commitment, row, start_ms)
                if directly:
                    under, area_id = sold_under(world, commitment, row), area_of(world, row)
                    counts.append(Count(commitment, row, under, directly, area_id))
        pieces.append(Instant(start_ms, end_ms, tuple(counts)))
    return pieces


def where(world: World, commitment: Commitment, row: Row, time_ms: int) -> dict[str, bool]:
    """Things that a row counts at, and whether directly; the table of the rules, line by line."""
    if not commitment.start_ms <= time_ms < row.end_ms:
        return {}
    if row.resource_id in world.session:
        session = world.session[row.resource_id]
        return _at_session(world, session) if session.start_ms <= time_ms < session.end_ms else {}
    thing = world.thing[row.resource_id]
    kind = world.kind(thing)
    now = [session for session in world.sessions_of(thing) if session.start_ms <= time_ms < session.end_ms]
    if kind in SOLD_BY_SESSION and sold_under(world, commitment, row) == PolicyKind.SESSION:
        return _at_session(world, now[0]) if now else {}
    behind = set(world.ancestors[thing])
    if kind == ResourceKind.EV and now:
        charge_point = world.thing[now[0].charge_point_id]
        behind |= {charge_point} | world.ancestors[charge_point]
    return {other: other == thing for other in behind | {thing}}


def sold_under(world: World, commitment: Commitment, row: Row) -> PolicyKind:
    """Kind of the most specific policy: area and product, then area, then product, then neither."""
    kinds = {(policy.area_id, policy.product_id): policy.kind for policy in world.policies}
    return kinds.get(_policy_key(world, commitment, row, kinds), PolicyKind.NONE)


def sold_side(world: World, commitment: Commitment, row: Row) -> ResourceKind | None:
    """What that policy lets be sold, with ONE_SIDE."""
    sides = {(policy.area_id, policy.product_id): policy.sold_side for policy in world.policies}
    return sides.get(_policy_key(world, commitment, row, sides))


def cap_w(world: World, area_id: str) -> int | None:
    """Most that one aggregator may have committed in an area: its own cap, else that of all areas."""
    caps = {policy.area_id: policy.aggregator_cap_w for policy in world.policies if not policy.product_id}
    own = caps.get(area_id)
    return caps.get("") if own is None else own


def area_of(world: World, row: Row) -> str:
    """Area of the resource that a row names; of the charge point where it names a session."""
    session = world.session.get(row.resource_id)
    return world.resource[row.resource_id if session is None else session.charge_point_id].area_id


def power_w(counts: list[Count]) -> int:
    """What rows come to at an instant: commitments in no group, plus the largest of each group."""
    by_commitment: dict[str, int] = defaultdict(int)
    commitment = {}
    for count in counts:
        by_commitment[count.commitment.commitment_id] += count.row.power_w
        commitment[count.commitment.commitment_id] = count.commitment
    alone_w = 0
    largest_w: dict[tuple[str, str, str], int] = {}
    for commitment_id, power_w in by_commitment.items():
        group = commitment[commitment_id].group
        if group is None:
            alone_w += power_w
        else:
            largest_w[group] = max(largest_w.get(group, 0), power_w)
    return alone_w + sum(largest_w.values())


def ids(counts: Iterable[Count]) -> set[str]:
    return {count.commitment.commitment_id for count in counts}


def named(ids: Iterable[str], order: list[str]) -> tuple[str, ...]:
    """Commitments that take part, in the order of the ledger and then of the request."""
    return tuple(sorted(set(ids), key=order.index)[:MOST_NAMED])


def _policy_key(
    world: World, commitment: Commitment, row: Row, known: Mapping[tuple[str, str], object]
) -> tuple[str, str]:
    area_id, product_id = area_of(world, row), commitment.product_id
    for key in ((area_id, product_id), (area_id, ""), ("", product_id)):
        if key in known:
            return key
    return ("", "")


def _at_session(world: World, session: Session) -> dict[str, bool]:
    two = {world.thing[session.ev_id], world.thing[session.charge_point_id]}
    behind = {above for thing in two for above in world.ancestors[thing]}
    return {thing: thing in two for thing in two | behind}
