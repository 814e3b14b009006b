"""Python client of the evflex API: pandas and NumPy in and out, synchronous and asynchronous."""

from evflex.client.activation.audit import AuditRecord, LedgerChange, verify_audit
from evflex.client.activation.check import CommitmentCheck
from evflex.client.activation.commitment import Commitment
from evflex.client.activation.conflict import Conflict, ResolvedConflict
from evflex.client.activation.enums import ActivationPolicyKind, ResourceKind
from evflex.client.activation.policy import ActivationPolicy
from evflex.client.activation.requests import CommitmentChange, Hold
from evflex.client.activation.resource import Resource
from evflex.client.activation.session import Session
from evflex.client.activation.watch import ConflictEvent
from evflex.client.aio_client import AsyncEvflexClient
from evflex.client.capacity.agreement import Agreement, AgreementEvent, AgreementTerms
from evflex.client.capacity.aio_tracking import AsyncCapacityTracking
from evflex.client.capacity.allocation import Allocation
from evflex.client.capacity.booking import Booking
from evflex.client.capacity.enums import AllocationPolicy
from evflex.client.capacity.hub import Hub
from evflex.client.capacity.loading import ForecastLoading, MeasuredLoading
from evflex.client.capacity.rating import TransformerRating
from evflex.client.capacity.sync_tracking import CapacityTracking
from evflex.client.capacity.tracking import (
    CapacityMeasurement,
    HubCapacity,
    TrackedChanges,
    TrackedHub,
    TrackedTransformer,
    TrackingAnswer,
)
from evflex.client.capacity.transformer import ThermalParameters, ThermalState, Transformer
from evflex.client.capacity.watch import CapacityEvent
from evflex.client.congestion.congestion import Congestion
from evflex.client.congestion.congestion_forecast import CongestionForecast, ForecastProgress
from evflex.client.congestion.enums import NetworkFormat
from evflex.client.congestion.injections import Injections, ProfiledInjections
from evflex.client.congestion.limits import CongestionLimits, InjectionUncertainty
from evflex.client.congestion.load_forecast import LoadForecast
from evflex.client.congestion.network import Network
from evflex.client.congestion.pandapower_net import PandapowerTables, pandapower_columns
from evflex.client.congestion.power_flow import PowerFlow, PowerFlowProgress, PowerFlowSteps, PowerFlowSummary
from evflex.client.congestion.requests import PowerFlowOutputs
from evflex.client.dispatch.plan import FleetPlan, PlanFigures, PlanProgress
from evflex.client.dispatch.plan_request import PortfolioLimit, PortfolioReserve
from evflex.client.dispatch.portfolio import Portfolio, PortfolioUpdate
from evflex.client.dispatch.product import Product
from evflex.client.errors import (
    AlreadyExistsError,
    AuditError,
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
    "ActivationPolicy",
    "ActivationPolicyKind",
    "Agreement",
    "AgreementEvent",
    "AgreementTerms",
    "Allocation",
    "AllocationPolicy",
    "AlreadyExistsError",
    "AsyncCapacityTracking",
    "AsyncEvflexClient",
    "AuditError",
    "AuditRecord",
    "Booking",
    "CallCancelledError",
    "CapacityEvent",
    "CapacityMeasurement",
    "CapacityTracking",
    "Commitment",
    "CommitmentChange",
    "CommitmentCheck",
    "Conflict",
    "ConflictError",
    "ConflictEvent",
    "Congestion",
    "CongestionForecast",
    "CongestionLimits",
    "DeadlineExceededError",
    "EvflexClient",
    "EvflexError",
    "FleetPlan",
    "ForecastLoading",
    "ForecastProgress",
    "Hold",
    "Hub",
    "HubCapacity",
    "InjectionUncertainty",
    "Injections",
    "InvalidRequestError",
    "LedgerChange",
    "LimitExceededError",
    "LoadForecast",
    "MeasuredLoading",
    "Network",
    "NetworkFormat",
    "NotFoundError",
    "NotPermittedError",
    "PandapowerTables",
    "PlanFigures",
    "PlanProgress",
    "Portfolio",
    "PortfolioLimit",
    "PortfolioReserve",
    "PortfolioUpdate",
    "PowerFlow",
    "PowerFlowOutputs",
    "PowerFlowProgress",
    "PowerFlowSteps",
    "PowerFlowSummary",
    "Product",
    "ProfiledInjections",
    "ResolvedConflict",
    "Resource",
    "ResourceKind",
    "RetryPolicy",
    "Schedule",
    "ScheduleEvent",
    "ScheduleFigures",
    "ScheduleOptions",
    "ScheduleRequest",
    "ServerError",
    "Session",
    "SiteFault",
    "SupplyNode",
    "Tariff",
    "Termination",
    "ThermalParameters",
    "ThermalState",
    "TimeGrid",
    "TrackedChanges",
    "TrackedHub",
    "TrackedTransformer",
    "TrackingAnswer",
    "Transformer",
    "TransformerRating",
    "UnavailableError",
    "UnsupportedError",
    "Violation",
    "pandapower_columns",
    "verify_audit",
]
