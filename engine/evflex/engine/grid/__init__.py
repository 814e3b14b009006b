"""Networks: power flow, congestion and the relief it needs."""

from evflex.engine.grid.branch_flows import BranchFlows
from evflex.engine.grid.collapse import Collapse, nearest_solvable
from evflex.engine.grid.congestion_model import (
    CongestionKind,
    CongestionOptions,
    CongestionProblem,
    all_contingencies,
)
from evflex.engine.grid.congestion_report import (
    Congestion,
    CongestionForecast,
    ContingencyFindings,
    Island,
    NotConverged,
    ReliefObstacle,
    WorstValues,
)
from evflex.engine.grid.forecast_congestion import forecast_congestion, stream_congestion
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

__all__ = [
    "BranchFlows",
    "BranchKind",
    "Branches",
    "Buses",
    "Collapse",
    "Congestion",
    "CongestionForecast",
    "CongestionKind",
    "CongestionOptions",
    "CongestionProblem",
    "ContingencyFindings",
    "FlowOptions",
    "Generators",
    "Island",
    "Network",
    "NotConverged",
    "PowerFlow",
    "PreparedGrid",
    "ReliefObstacle",
    "Sources",
    "WorstValues",
    "ZeroSequence",
    "all_contingencies",
    "forecast_congestion",
    "nearest_solvable",
    "prepare_grid",
    "run_power_flow",
    "stream_congestion",
    "validate_network",
]
