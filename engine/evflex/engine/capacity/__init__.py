"""Capacity of transformers: temperatures and headroom, shared between charging hubs, in planning and in real time."""

from evflex.engine.capacity.allocation import Rating
from evflex.engine.capacity.batch import BatchRating, BatchTemperatures, TransformerBatch
from evflex.engine.capacity.batch_rating import rate_transformers, simulate_transformers
from evflex.engine.capacity.model import RatingProblem
from evflex.engine.capacity.rating import rate_transformer

__all__ = [
    "BatchRating",
    "BatchTemperatures",
    "Rating",
    "RatingProblem",
    "TransformerBatch",
    "rate_transformer",
    "rate_transformers",
    "simulate_transformers",
]
