"""Python client of the evflex API: pandas and NumPy in and out, synchronous and asynchronous."""

from evflex.client.aio_client import AsyncEvflexClient
from evflex.client.dispatch.plan import FleetPlan, PlanFigures, PlanProgress
from evflex.client.dispatch.plan_request import PortfolioLimit, PortfolioReserve
from evflex.client.dispatch.portfolio import Portfolio, PortfolioUpdate
from evflex.client.dispatch.product import Product
from evflex.client.errors import (
    AlreadyExistsError,
    CallCancelledError,
    ConflictError,
    DeadlineExceededError,
    EvflexError,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    NotPermittedError,
    ServerError,
    UnavailableError,
    UnsupportedError,
    Violation,
)
from evflex.client.request import ScheduleOptions, ScheduleRequest, Tariff
from evflex.client.retry import RetryPolicy
from evflex.client.schedule import Schedule, ScheduleFigures, SiteFault
from evflex.client.streams import ScheduleEvent
from evflex.client.supply import SupplyNode
from evflex.client.sync_client import EvflexClient
from evflex.client.termination import Termination
from evflex.client.timegrid import TimeGrid

__all__ = [
    "AlreadyExistsError",
    "AsyncEvflexClient",
    "CallCancelledError",
    "ConflictError",
    "DeadlineExceededError",
    "EvflexClient",
    "EvflexError",
    "FleetPlan",
    "InvalidRequestError",
    "LimitExceededError",
    "NotFoundError",
    "NotPermittedError",
    "PlanFigures",
    "PlanProgress",
    "Portfolio",
    "PortfolioLimit",
    "PortfolioReserve",
    "PortfolioUpdate",
    "Product",
    "RetryPolicy",
    "Schedule",
    "ScheduleEvent",
    "ScheduleFigures",
    "ScheduleOptions",
    "ScheduleRequest",
    "ServerError",
    "SiteFault",
    "SupplyNode",
    "Tariff",
    "Termination",
    "TimeGrid",
    "UnavailableError",
    "UnsupportedError",
    "Violation",
]
