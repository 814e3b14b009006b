"""Compile every kernel that a ledger or a batch needs, or load what was compiled before."""

from __future__ import annotations

from evflex.engine.activation.batch import check_batch
from evflex.engine.activation.columns import columns_of
from evflex.engine.activation.ledger import Ledger
from evflex.engine.activation.model import (
    OPEN_END_MS,
    Commitment,
    Direction,
    Policy,
    PolicyKind,
    Resource,
    ResourceKind,
    Row,
    Session,
)
from evflex.engine.activation.prepared import prepare_registry


def warm_up() -> None:
    """Judge a few commitments that break every rule, one by one and as a batch."""
    ledger = Ledger()
    registry = ledger.registry
    registry.put_policy(Policy("", "", PolicyKind.NONE, None, 1))
    registry.put_policy(Policy("", "guarded", PolicyKind.NO_CASCADE))
    registry.put_resource(Resource("site", ResourceKind.SITE, up_headroom_w=1, down_headroom_w=1))
    registry.put_resource(Resource("point", ResourceKind.CHARGE_POINT, "site"))
    registry.put_resource(Resource("car", ResourceKind.EV))
    registry.put_session(Session("session", "car", "point", 0, OPEN_END_MS, 1, 3_600_000, 1))
    sold = [
        _sold(name, direction, product)
        for product in ("plain", "guarded")
        for direction in Direction
        for name in ("site", "point", "car", "session")
    ]
    for commitment in sold:
        ledger.conflicts_of(commitment)
        ledger.put(commitment)
    check_batch(prepare_registry(registry), columns_of(prepare_registry(registry), sold))


def _sold(name: str, direction: Direction, product: str) -> Commitment:
    commitment_id = f"{name} {direction} {product}"
    return Commitment(commitment_id, "aggregator", product, direction, (Row(name, 2, 3_600_000),), 0, 3_600_000, 2)
