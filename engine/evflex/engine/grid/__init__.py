"""Networks: power flow, congestion and the relief it needs."""

from evflex.engine.grid.branch_flows import BranchFlows
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
from evflex.engine.grid.power_flow import FlowOptions, PowerFlow, run_power_flow
from evflex.engine.grid.prepared import PreparedGrid, prepare_grid
from evflex.engine.grid.solvable import NearestSolvable, nearest_solvable
from evflex.engine.grid.warm_up import warm_up

__all__ = [
    "BranchFlows",
    "BranchKind",
    "Branches",
    "Buses",
    "FlowOptions",
    "Generators",
    "NearestSolvable",
    "Network",
    "PowerFlow",
    "PreparedGrid",
    "Sources",
    "ZeroSequence",
    "nearest_solvable",
    "prepare_grid",
    "run_power_flow",
    "validate_network",
    "warm_up",
]
