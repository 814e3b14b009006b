"""What the policy of product and area forbids of a row by itself."""

from __future__ import annotations

from collections.abc import Iterator

from evflex.engine.activation.counting import area_of, policy_of
from evflex.engine.activation.model import (
    OPEN_END_MS,
    Commitment,
    Conflict,
    ConflictKind,
    PolicyKind,
    ResourceKind,
    Row,
)
from evflex.engine.activation.registry import Registry

_NAMES = {ResourceKind.EV: "vehicles", ResourceKind.CHARGE_POINT: "charge points"}


def policy_conflicts(registry: Registry, commitment: Commitment) -> Iterator[Conflict]:
    """POLICY of each row that may not be sold."""
    for row in commitment.rows:
        rule = _broken_rule(registry, commitment, row)
        if rule:
            yield Conflict(
                ConflictKind.POLICY, row.resource_id, commitment.start_ms, row.end_ms, (commitment.commitment_id,),
                rule=rule,
            )  # fmt: skip


def _broken_rule(registry: Registry, commitment: Commitment, row: Row) -> str:
    if row.end_ms <= commitment.start_ms:
        return ""  # cut to nothing
    session = registry.sessions.get(row.resource_id)
    if session is not None and not session.start_ms <= commitment.start_ms < row.end_ms <= session.end_ms:
        end = "any time" if session.end_ms == OPEN_END_MS else str(session.end_ms)
        return f"a session can be sold from {session.start_ms} to {end} (ms since 1970) only"
    if policy_of(registry, commitment, row) != PolicyKind.ONE_SIDE:
        return ""
    # a row keeps the policy that it was sold under, and with it was let pass
    side = registry.policy(area_of(registry, row), commitment.product_id).sold_side
    if session is not None:
        return f"only {_NAMES[side]} may be sold, not sessions" if side in _NAMES else ""
    kind = registry.resources[row.resource_id].kind
    if side in _NAMES and kind in _NAMES and kind != side:
        return f"only {_NAMES[side]} may be sold, not {_NAMES[kind]}"
    return ""
