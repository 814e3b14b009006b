"""Networks: power flow, congestion and the relief it needs."""

from evflex.engine.grid.branch_flows import BranchFlows
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
from evflex.engine.grid.congestion_search import CongestionSearch
from evflex.engine.grid.forecast_congestion import forecast_congestion, prepare_congestion
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
    "Congestion",
    "CongestionForecast",
    "CongestionKind",
    "CongestionOptions",
    "CongestionProblem",
    "CongestionSearch",
    "ContingencyFindings",
    "FlowOptions",
    "Generators",
    "Island",
    "NearestSolvable",
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
    "prepare_congestion",
    "prepare_grid",
    "run_power_flow",
    "validate_network",
    "warm_up",
]
