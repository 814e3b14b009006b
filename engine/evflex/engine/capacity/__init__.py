"""Capacity of transformers: temperatures and headroom, shared between charging hubs, in planning and in real time."""

from evflex.engine.capacity.allocate import allocate_capacity
from evflex.engine.capacity.allocation import Allocation, CapacityViolation, Rating
from evflex.engine.capacity.batch import BatchRating, BatchTemperatures, TransformerBatch
from evflex.engine.capacity.batch_rating import rate_transformers, simulate_transformers
from evflex.engine.capacity.hub import ANY_COUNT, Hub, HubSessions, default_min_kw_per_ev
from evflex.engine.capacity.model import (
    AllocationOptions,
    AllocationPolicy,
    AllocationProblem,
    BindingReason,
    RatingProblem,
)
from evflex.engine.capacity.rating import rate_transformer
from evflex.engine.capacity.transformer import (
    BaseLoad,
    Cooling,
    InsulationPaper,
    ThermalParameters,
    ThermalState,
    Transformer,
)
from evflex.engine.capacity.warm_up import warm_up

__all__ = [
    "ANY_COUNT",
    "Allocation",
    "AllocationOptions",
    "AllocationPolicy",
    "AllocationProblem",
    "BaseLoad",
    "BatchRating",
    "BatchTemperatures",
    "BindingReason",
    "CapacityViolation",
    "Cooling",
    "Hub",
    "HubSessions",
    "InsulationPaper",
    "Rating",
    "RatingProblem",
    "ThermalParameters",
    "ThermalState",
    "Transformer",
    "TransformerBatch",
    "allocate_capacity",
    "default_min_kw_per_ev",
    "rate_transformer",
    "rate_transformers",
    "simulate_transformers",
    "warm_up",
]
