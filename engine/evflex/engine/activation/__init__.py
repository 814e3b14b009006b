"""Nobody sells the same flexibility twice: the ledger of commitments, and the check of a batch."""

from evflex.engine.activation.batch import BatchConflicts, check_batch
from evflex.engine.activation.columns import Columns, columns_of, joined
from evflex.engine.activation.ledger import Ledger, Suspension
from evflex.engine.activation.model import (
    Commitment,
    Conflict,
    ConflictKind,
    Direction,
    Policy,
    PolicyKind,
    Resource,
    ResourceKind,
    Row,
    Session,
)
from evflex.engine.activation.prepared import PreparedRegistry, prepare_registry
from evflex.engine.activation.registry import Registry
from evflex.engine.activation.warm_up import warm_up

__all__ = [
    "BatchConflicts",
    "Columns",
    "Commitment",
    "Conflict",
    "ConflictKind",
    "Direction",
    "Ledger",
    "Policy",
    "PolicyKind",
    "PreparedRegistry",
    "Registry",
    "Resource",
    "ResourceKind",
    "Row",
    "Session",
    "Suspension",
    "check_batch",
    "columns_of",
    "joined",
    "prepare_registry",
    "warm_up",
]
