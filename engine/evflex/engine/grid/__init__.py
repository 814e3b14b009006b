"""Networks: power flow, congestion and the relief it needs."""

from evflex.engine.grid.network import (
    Branches,
    BranchKind,
    Buses,
    Generators,
    Network,
    Sources,
    ZeroSequence,
)
from evflex.engine.grid.network_rules import validate_network

__all__ = [
    "BranchKind",
    "Branches",
    "Buses",
    "Generators",
    "Network",
    "Sources",
    "ZeroSequence",
    "validate_network",
]
