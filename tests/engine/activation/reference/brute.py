"""Every conflict of a small world, found instant by instant from the rules alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from evflex.engine.activation.model import Commitment, Conflict, ConflictKind, Direction, PolicyKind
from tests.engine.activation.reference.counting import (
    SOLD_BY_SESSION,
    Count,
    Instant,
    cap_w,
    ids,
    instants,
    named,
    power_w,
    sold_side,
    sold_under,
)
from tests.engine.activation.reference.energy import too_little_energy
from tests.engine.activation.reference.meetings import meetings
from tests.engine.activation.reference.world import Change, World

TWO_PARTY = (ConflictKind.CROSS_SALE, ConflictKind.COUNTER_ACTIVATION, ConflictKind.CASCADE)

# A thing; or no thing, but the aggregator and the area of a cap.
Place = tuple[str, str, str]


def all_conflicts(world: World, extra: Sequence[Commitment] = ()) -> list[Conflict]:
    """Every conflict among the commitments of a world and more that come after them."""
    return _conflicts(world, extra, None)


def candidate_conflicts(world: World, candidate: Commitment) -> list[Conflict]:
    """The conflicts of a world and one more commitment in which that one takes part, where it counts."""
    return _conflicts(world, [candidate], candidate.commitment_id)


def decided(before: World, change: Change) -> list[str]:
    """Commitments that are suspended by a plug-in, or by aliases that join things, in the order of their sequence."""
    after = before.after(change)
    stays: list[Commitment] = []
    suspended = []
    for commitment in sorted(before.commitments, key=lambda each: each.sequence):
        kept = tuple(stays)
        stood = candidate_conflicts(replace(before, commitments=kept), commitment)
        stands = candidate_conflicts(replace(after, commitments=kept), commitment)
        # Things may have another name after the change.
        old = _largest((_renamed(after, found) for found in stood), commitment)
        new = _largest(stands, commitment)
        if any(key not in old or excess > old[key] for key, excess in new.items()):
            suspended.append(commitment.commitment_id)
        else:
            stays.append(commitment)
    return suspended


def _renamed(after: World, found: Conflict) -> Conflict:
    if found.kind == ConflictKind.POLICY or not found.resource_id:
        return found
    return replace(found, resource_id=after.thing[found.resource_id])


def _largest(conflicts: Iterable[Conflict], candidate: Commitment) -> dict[tuple[object, ...], int]:
    """The largest excess of each conflict that is the same before and after a change, in W or Wh."""
    largest: dict[tuple[object, ...], int] = {}
    for found in conflicts:
        # A cascade without a direction is a forbidden one, of two commitments; with one, it is a lack of capacity.
        two_party = found.kind in TWO_PARTY and found.direction is None
        others = [each for each in found.commitment_ids if each != candidate.commitment_id] if two_party else []
        key = (found.kind, found.direction, found.resource_id, found.area_id, found.session_id, *others)
        largest[key] = max(largest.get(key, 0), found.excess_w, found.excess_wh)
    return largest


def _conflicts(world: World, extra: Sequence[Commitment], only: str | None) -> list[Conflict]:
    """Conflicts of all, or only those in which one commitment takes part."""
    commitments = [*sorted(world.commitments, key=lambda each: each.sequence), *extra]
    order = [commitment.commitment_id for commitment in commitments]
    pieces = instants(world, commitments)
    found = [
        *_capacity(world, pieces, order, only),
        *meetings(world, pieces, order, only),
        *too_little_energy(world, pieces, order, only),
        *_policy(world, commitments, only),
    ]
    return sorted(found, key=_place_in_list)


def _place_in_list(found: Conflict) -> tuple[object, ...]:
    return (
        int(found.kind), found.resource_id, found.area_id, int(found.direction or 0), found.start_ms, found.end_ms,
        found.commitment_ids,
    )  # fmt: skip


def _capacity(world: World, pieces: list[Instant], order: list[str], only: str | None) -> Iterator[Conflict]:
    """Rule 1."""
    for place in _places(world, pieces):
        thing, _, area_id = place
        for direction in Direction:
            limit_w = world.headroom_w(thing, direction) if thing else cap_w(world, area_id)
            if limit_w is None:
                continue
            there = [_counts_at(piece, place, direction) for piece in pieces]
            excess_w = [power_w(counts) - limit_w for counts in there]
            broken = [
                excess > 0 and (only is None or only in ids(counts))
                for excess, counts in zip(excess_w, there, strict=True)
            ]
            for first, last in _runs(broken):
                run = [count for counts in there[first : last + 1] for count in counts]
                kind = _capacity_kind(world, thing, run) if thing else ConflictKind.AGGREGATOR_CAP
                yield Conflict(
                    kind, thing, pieces[first].start_ms, pieces[last].end_ms, named(ids(run), order), direction,
                    max(excess_w[first : last + 1]), area_id=area_id,
                )  # fmt: skip


def _places(world: World, pieces: list[Instant]) -> list[Place]:
    caps = {("", count.commitment.aggregator_id, count.area_id) for piece in pieces for count in piece.counts}
    return [(thing, "", "") for thing in sorted(world.members)] + sorted(caps)


def _counts_at(piece: Instant, place: Place, direction: Direction) -> list[Count]:
    """Rows of one direction that count at a thing, or against a cap."""
    thing, aggregator_id, area_id = place
    found = []
    for count in piece.counts:
        if count.commitment.direction != direction:
            continue
        if thing and thing in count.directly:
            found.append(count)
        if not thing and (count.commitment.aggregator_id, count.area_id) == (aggregator_id, area_id):
            found.append(count)
    return found


def _capacity_kind(world: World, thing: str, run: list[Count]) -> ConflictKind:
    if not all(count.directly[thing] for count in run):
        return ConflictKind.CASCADE
    names = {count.row.resource_id for count in run} & world.members[thing]
    return ConflictKind.ALIAS_SALE if len(names) > 1 else ConflictKind.CAPACITY_EXCEEDED


def _runs(broken: list[bool]) -> list[tuple[int, int]]:
    """First and last of each unbroken row of instants at which a rule is broken."""
    runs: list[tuple[int, int]] = []
    for k, is_broken in enumerate(broken):
        if is_broken and runs and runs[-1][1] == k - 1:
            runs[-1] = (runs[-1][0], k)
        elif is_broken:
            runs.append((k, k))
    return runs


def _policy(world: World, commitments: Sequence[Commitment], only: str | None) -> Iterator[Conflict]:
    """Rule 6."""
    for commitment in commitments:
        if only is not None and commitment.commitment_id != only:
            continue
        for row in commitment.rows:
            one_side = sold_under(world, commitment, row) == PolicyKind.ONE_SIDE
            session = world.session.get(row.resource_id)
            if session is None:
                kind = world.kind(world.thing[row.resource_id])
                forbidden = one_side and kind in SOLD_BY_SESSION and kind != sold_side(world, commitment, row)
            else:
                within = session.start_ms <= commitment.start_ms and row.end_ms <= session.end_ms
                forbidden = one_side or not within
            # A row that was cut to nothing sells nothing.
            if forbidden and commitment.start_ms < row.end_ms:
                yield Conflict(
                    ConflictKind.POLICY, row.resource_id, commitment.start_ms, row.end_ms, (commitment.commitment_id,)
                )
