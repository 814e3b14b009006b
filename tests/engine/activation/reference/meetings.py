"""Rules 2 to 4: two commitments that may not meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from evflex.engine.activation.model import Conflict, ConflictKind, PolicyKind
from tests.engine.activation.reference.counting import Count, Instant, ids, named
from tests.engine.activation.reference.world import World

# Two commitments, or one with itself, and where they meet: a thing, or a session.
Meeting = tuple[frozenset[str], str]
# What is sold twice at an instant, in W.
Twice = dict[Meeting, int]


def meetings(world: World, pieces: list[Instant], order: list[str], only: str | None) -> Iterator[Conflict]:
    """Conflicts between two commitments, of all or of one alone."""
    for kind, rule in (
        (ConflictKind.CROSS_SALE, _cross_sales),
        (ConflictKind.COUNTER_ACTIVATION, _counter_activations),
        (ConflictKind.CASCADE, _forbidden_cascades),
    ):
        yield from _between_two(world, pieces, order, only, kind, rule)


def _between_two(
    world: World,
    pieces: list[Instant],
    order: list[str],
    only: str | None,
    kind: ConflictKind,
    rule: Callable[[World, Instant], Twice],
) -> Iterator[Conflict]:
    """One conflict for each meeting, from the first instant at which a rule is broken to after the last."""
    twice = [rule(world, piece) for piece in pieces]
    for meeting in {meeting for found in twice for meeting in found}:
        two, where = meeting
        if only is not None and only not in two:
            continue
        when = [k for k, found in enumerate(twice) if meeting in found]
        session = world.session.get(where)
        yield Conflict(
            kind, where if session is None else world.thing[session.ev_id], pieces[when[0]].start_ms,
            pieces[when[-1]].end_ms, named(two, order), None, twice[when[0]][meeting],
            session_id="" if session is None else where,
        )  # fmt: skip


def _cross_sales(world: World, piece: Instant) -> Twice:
    twice: Twice = {}
    for session in world.sessions:
        if not session.start_ms <= piece.start_ms < session.end_ms:
            continue
        on_ev = [count for count in piece.counts if _names(world, count, session.ev_id)]
        on_charge_point = [count for count in piece.counts if _names(world, count, session.charge_point_id)]
        for a in ids(on_ev):
            for b in ids(on_charge_point):
                rows = [
                    (ev, charge_point)
                    for ev in on_ev
                    for charge_point in on_charge_point
                    if ev.commitment.commitment_id == a
                    and charge_point.commitment.commitment_id == b
                    and not _one_aggregator_may(ev, charge_point)
                ]
                if rows:
                    ev_w = {ev.row.resource_id: ev.row.power_w for ev, _ in rows}
                    charge_point_w = {point.row.resource_id: point.row.power_w for _, point in rows}
                    excess_w = min(sum(ev_w.values()), sum(charge_point_w.values()))
                    _note(twice, (frozenset((a, b)), session.session_id), excess_w)
    return twice


def _names(world: World, count: Count, resource_id: str) -> bool:
    """Whether a row that is not sold under SESSION is on a resource, by whatever name."""
    if count.row.resource_id in world.session or count.sold_under == PolicyKind.SESSION:
        return False
    return world.thing[count.row.resource_id] == world.thing[resource_id]


def _one_aggregator_may(a: Count, b: Count) -> bool:
    same = a.commitment.aggregator_id == b.commitment.aggregator_id
    return same and a.sold_under == b.sold_under == PolicyKind.SAME_AGGREGATOR


def _counter_activations(world: World, piece: Instant) -> Twice:
    twice: Twice = {}
    for thing in world.members:
        there = [count for count in piece.counts if thing in count.directly]
        for a in there:
            for b in there:
                if not a.directly[thing] or a.commitment.direction == b.commitment.direction or _both_declare(a, b):
                    continue
                own_w = _sum_w(c for c in there if c.commitment is a.commitment)
                others_w = _sum_w(c for c in there if c.commitment is b.commitment)
                _note(twice, (frozenset(ids((a, b))), thing), min(own_w, others_w))
    return twice


def _both_declare(a: Count, b: Count) -> bool:
    declared = a.commitment.counter_activation_declared and b.commitment.counter_activation_declared
    return declared and a.commitment.aggregator_id == b.commitment.aggregator_id


def _forbidden_cascades(world: World, piece: Instant) -> Twice:
    twice: Twice = {}
    for thing in world.members:
        there = [count for count in piece.counts if thing in count.directly]
        for a in there:
            for b in there:
                forbidden = PolicyKind.NO_CASCADE in (a.sold_under, b.sold_under)
                if not a.directly[thing] or b.directly[thing] or not forbidden:
                    continue
                directly_w = _sum_w(c for c in there if c.commitment is a.commitment and c.directly[thing])
                behind_w = _sum_w(c for c in there if c.commitment is b.commitment and not c.directly[thing])
                _note(twice, (frozenset(ids((a, b))), thing), min(directly_w, behind_w))
    return twice


def _sum_w(counts: Iterable[Count]) -> int:
    return sum(count.row.power_w for count in counts)


def _note(twice: Twice, meeting: Meeting, excess_w: int) -> None:
    """Keep the larger where two commitments meet both ways round."""
    twice[meeting] = max(twice.get(meeting, 0), excess_w)
