"""Python client of the evflex API: pandas and NumPy in and out, synchronous and asynchronous."""

from evflex.client.aio_client import AsyncEvflexClient
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
    "InvalidRequestError",
    "LimitExceededError",
    "NotFoundError",
    "NotPermittedError",
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
