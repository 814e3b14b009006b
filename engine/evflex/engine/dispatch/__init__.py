"""Plans of portfolios: a fleet under shared limits, least cost, proven gap."""

from evflex.engine.dispatch.model import (
    AssetKind,
    DispatchProblem,
    Fleet,
    LimitScope,
    PlanMethod,
    PlanOptions,
    PortfolioLimit,
    Profiles,
    Reserve,
)
from evflex.engine.dispatch.optimize import plan_portfolio
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures, PlanProgress, Setpoints
from evflex.engine.dispatch.setpoints import setpoints_from_arrays
from evflex.engine.dispatch.warm_up import warm_up

__all__ = [
    "AssetKind",
    "DispatchProblem",
    "Fleet",
    "FleetPlan",
    "LimitScope",
    "PlanFigures",
    "PlanMethod",
    "PlanOptions",
    "PlanProgress",
    "PortfolioLimit",
    "Profiles",
    "Reserve",
    "Setpoints",
    "plan_portfolio",
    "setpoints_from_arrays",
    "warm_up",
]
