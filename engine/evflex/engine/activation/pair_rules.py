"""What two commitments may not do together: sell both sides of a session, both directions, or a node and its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from evflex.engine.activation.counting import Count, is_forecast, policy_of
from evflex.engine.activation.model import Commitment, Conflict, ConflictKind, PolicyKind, ResourceKind, Row, Session
from evflex.engine.activation.registry import Registry

CROSS_RULE = "a vehicle and the charge point that it is at may not both be sold"
ONE_AGGREGATOR_RULE = "a vehicle and the charge point that it is at may be sold by one aggregator only"
COUNTER_RULE = "up and down may not be sold at once, unless both are by one aggregator and declare it"
CASCADE_RULE = "a node and what is behind it may not both be sold"


@dataclass(frozen=True, slots=True)
class Sold:
    """A commitment, and where it counts.

    Attributes:
        commitment: The commitment.
        counts: All its counts.
    """

    commitment: Commitment
    counts: list[Count]


def cross_sale(registry: Registry, one: Sold, other: Sold, session: Session) -> Conflict | None:
    """CROSS_SALE of two commitments in a session: one on the vehicle, one on the charge point; they may be one."""
    return _either_way(
        _cross_sale(registry, one.commitment, other.commitment, session),
        _cross_sale(registry, other.commitment, one.commitment, session),
    )


def _cross_sale(registry: Registry, a: Commitment, b: Commitment, session: Session) -> Conflict | None:
    """The same with ``a`` on the vehicle and ``b`` on the charge point."""
    pairs = [
        (own, other)
        for own in _sold_rows(registry, a, session.ev_id)
        for other in _sold_rows(registry, b, session.charge_point_id)
        if not _is_exempt(registry, a, own, b, other)
    ]
    start = max(a.start_ms, b.start_ms, session.start_ms)
    ends = [min(own.end_ms, other.end_ms, session.end_ms) for own, other in pairs]
    if not ends or max(ends) <= start:
        return None
    at_start = [pair for pair, end in zip(pairs, ends, strict=True) if end > start]
    excess_w = min(sum({id(row): row.power_w for row in side}.values()) for side in zip(*at_start, strict=True))
    same_only = PolicyKind.SAME_AGGREGATOR in {policy_of(registry, a, own) for own, _ in pairs}
    return Conflict(
        ConflictKind.CROSS_SALE, registry.thing(session.ev_id).thing_id, start, max(ends), in_order(a, b),
        excess_w=excess_w, session_id=session.session_id, rule=ONE_AGGREGATOR_RULE if same_only else CROSS_RULE,
    )  # fmt: skip


def counter_activation(one: Sold, other: Sold, thing_id: str) -> Conflict | None:
    """COUNTER_ACTIVATION of two commitments at a thing, at which one of them counts directly."""
    a, b = one.commitment, other.commitment
    if a.direction == b.direction:
        return None
    declared = a.counter_activation_declared and b.counter_activation_declared
    if declared and a.aggregator_id == b.aggregator_id:
        return None
    own = [count for count in one.counts if count.place == thing_id]
    theirs = [count for count in other.counts if count.place == thing_id]
    return _together(
        ConflictKind.COUNTER_ACTIVATION, thing_id, a, own, b, theirs, COUNTER_RULE,
        lambda x, y: x.is_direct or y.is_direct,
    )  # fmt: skip


def forbidden_cascade(registry: Registry, one: Sold, other: Sold, thing_id: str) -> Conflict | None:
    """CASCADE of a commitment that counts directly at a thing, and one that counts there from below, or is the same."""
    return _either_way(_cascade(registry, one, other, thing_id), _cascade(registry, other, one, thing_id))


def _cascade(registry: Registry, above: Sold, below: Sold, thing_id: str) -> Conflict | None:
    a, b = above.commitment, below.commitment
    direct = [count for count in above.counts if count.place == thing_id and count.is_direct]
    lower = [count for count in below.counts if count.place == thing_id and not count.is_direct]
    forbids_a = {count.row for count in direct if forbids_cascade(registry, a, count.row)}
    forbids_b = {count.row for count in lower if forbids_cascade(registry, b, count.row)}
    return _together(
        ConflictKind.CASCADE, thing_id, a, direct, b, lower, CASCADE_RULE,
        lambda x, y: x.row in forbids_a or y.row in forbids_b,
    )  # fmt: skip


def forbids_cascade(registry: Registry, commitment: Commitment, row: int) -> bool:
    """Whether a row is sold under NO_CASCADE."""
    return policy_of(registry, commitment, commitment.rows[row]) == PolicyKind.NO_CASCADE


def in_order(*commitments: Commitment) -> tuple[str, ...]:
    """Identifiers in the order of the ledger, those that are not in it last; each once."""
    ordered = sorted(commitments, key=order_key)
    return tuple(dict.fromkeys(commitment.commitment_id for commitment in ordered))


def order_key(commitment: Commitment) -> tuple[bool, int]:
    """Sorts by place in the ledger; those that are not in it come last, in the order in which they stand."""
    return (commitment.sequence == 0, commitment.sequence)


def _either_way(*found: Conflict | None) -> Conflict | None:
    """One conflict of two commitments that may meet both ways round: the first, the larger, to the end of the last."""
    both = sorted((c for c in found if c is not None), key=lambda c: (c.start_ms, -c.excess_w))
    return replace(both[0], end_ms=max(c.end_ms for c in both)) if both else None


def _together(
    kind: ConflictKind, thing_id: str, a: Commitment, own: list[Count], b: Commitment, theirs: list[Count], rule: str,
    breaks: Callable[[Count, Count], bool],
) -> Conflict | None:  # fmt: skip
    """The conflict of counts that overlap, None where none do."""
    spans = [(max(x.start_ms, y.start_ms), min(x.end_ms, y.end_ms)) for x in own for y in theirs if breaks(x, y)]
    spans = [(start, end) for start, end in spans if start < end]
    if not spans:
        return None
    first = min(start for start, _ in spans)
    excess_w = min(sum(x.power_w for x in side if x.start_ms <= first < x.end_ms) for side in (own, theirs))
    return Conflict(kind, thing_id, first, max(end for _, end in spans), in_order(a, b), excess_w=excess_w, rule=rule)


def _sold_rows(registry: Registry, commitment: Commitment, resource_id: str) -> list[Row]:
    """Rows on a vehicle or charge point that is sold as such, by any of its names."""
    members = registry.thing(resource_id).members
    rows = [row for row in commitment.rows if row.resource_id in members]
    return [row for row in rows if not is_forecast(registry, commitment, row)]


def _is_exempt(registry: Registry, a: Commitment, own: Row, b: Commitment, other: Row) -> bool:
    """Whether both sides may be sold, as far as their capacity reaches."""
    same = PolicyKind.SAME_AGGREGATOR
    return (
        a.aggregator_id == b.aggregator_id
        and policy_of(registry, a, own) == same
        and policy_of(registry, b, other) == same
    )


def sold_sides(registry: Registry, commitment: Commitment) -> set[str]:
    """Vehicles and charge points that a commitment sells as such, by their things."""
    rows = (row for row in commitment.rows if row.resource_id not in registry.sessions)
    things = {registry.thing(row.resource_id).thing_id for row in rows if not is_forecast(registry, commitment, row)}
    sides = (ResourceKind.EV, ResourceKind.CHARGE_POINT)
    return {thing for thing in things if registry.thing(thing).kind in sides}
