"""How large a request may be, checked on the message before anything is built from it."""

from __future__ import annotations

from evflex.server.capacity.decode_request import AllocateRequest, RateRequest
from evflex.server.capacity.encode_allocation import allocation_bytes_at_least
from evflex.server.errors import limit_exceeded
from evflex.server.settings import Settings
from evflex.server.wire import check_unary_size


def check_rating_limits(request: RateRequest, settings: Settings) -> None:
    """Raise RESOURCE_EXHAUSTED, naming the limit, for more steps than the settings allow."""
    steps = request.time_grid.step_count
    if steps > settings.max_steps:
        raise limit_exceeded("max_steps", steps, settings.max_steps)


def check_allocation_limits(method: str, request: AllocateRequest, settings: Settings) -> None:
    """Raise RESOURCE_EXHAUSTED, naming the limit, for more than the settings allow, or an answer of too many bytes."""
    hubs, steps = len(request.hubs), request.time_grid.step_count
    sessions = sum(len(hub.sessions) for hub in request.hubs)
    for limit, value in (
        ("max_steps", steps),
        ("max_hubs", hubs),
        ("max_hub_steps", hubs * steps),
        ("max_hub_sessions", sessions),
    ):
        most = getattr(settings, limit)
        if value > most:
            raise limit_exceeded(limit, value, most)
    size_bytes = allocation_bytes_at_least(hubs, sessions, steps)
    if not request.validate_only:
        check_unary_size(method, size_bytes, settings.max_unary_answer_bytes)
