"""Turns the engine's rating into a message."""

from __future__ import annotations

from evflex.capacity.v1 import capacity_service_pb2
from evflex.engine.capacity.allocation import Rating
from evflex.server.capacity.encode_outcome import set_state, violation_layout, violation_rows
from evflex.server.wire import packed_doubles

TransformerRating = capacity_service_pb2.TransformerRating
_ARRAYS = (
    "loading_ratio", "top_oil_c", "hot_spot_c", "loss_of_life_h", "headroom_n_kva", "headroom_n1_kva",
)  # fmt: skip
_VIOLATIONS = violation_layout(TransformerRating.LIMIT_VIOLATIONS_FIELD_NUMBER)


def encode_rating(request: capacity_service_pb2.RateTransformerRequest, rating: Rating) -> TransformerRating:
    """The rating without what only a stored one has."""
    message = TransformerRating(
        transformer_id=request.transformer.transformer_id, time_grid=request.time_grid, area_id=request.area_id
    )
    numbers = TransformerRating.DESCRIPTOR.fields_by_name
    parts = [packed_doubles(numbers[name].number, getattr(rating, name)) for name in _ARRAYS]
    parts.append(violation_rows(_VIOLATIONS, rating.violations, ()))
    message.MergeFromString(b"".join(parts))
    set_state(message.final_state, rating.final_state)
    return message
