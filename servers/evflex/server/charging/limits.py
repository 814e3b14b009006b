"""How large a site may be, checked on the message before anything is built from it."""

from __future__ import annotations

from evflex.charging.v1 import charging_service_pb2
from evflex.server.charging.encode import answer_bytes_at_least
from evflex.server.errors import limit_exceeded
from evflex.server.settings import Settings
from evflex.server.wire import check_unary_size


def check_limits(request: charging_service_pb2.OptimizeScheduleRequest, settings: Settings) -> None:
    """Raise RESOURCE_EXHAUSTED, naming the limit, for a site that is larger than the settings allow."""
    sessions, nodes, steps = len(request.sessions), len(request.nodes), request.time_grid.step_count
    if sessions > settings.max_sessions:
        raise limit_exceeded("max_sessions", sessions, settings.max_sessions)
    if nodes > settings.max_nodes:
        raise limit_exceeded("max_nodes", nodes, settings.max_nodes)
    if steps > settings.max_steps:
        raise limit_exceeded("max_steps", steps, settings.max_steps)
    if sessions * steps > settings.max_session_steps:
        raise limit_exceeded("max_session_steps", sessions * steps, settings.max_session_steps)
    if nodes * steps > settings.max_node_steps:
        raise limit_exceeded("max_node_steps", nodes * steps, settings.max_node_steps)


def check_unary_answer(method: str, request: charging_service_pb2.OptimizeScheduleRequest, settings: Settings) -> None:
    """Raise RESOURCE_EXHAUSTED before a solve whose answer cannot fit into one message."""
    size_bytes = answer_bytes_at_least(
        len(request.sessions), request.time_grid.step_count, with_currents=request.options.return_currents
    )
    if not request.validate_only:
        check_unary_size(method, size_bytes, settings.max_unary_answer_bytes)
