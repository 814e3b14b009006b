"""What the end of a session cuts off."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from evflex.engine.activation.model import Commitment, Session


def truncated(commitment: Commitment, session: Session, vehicles: Container[str]) -> Commitment:
    """A commitment as the end of a session leaves it.

    Args:
        commitment: The commitment.
        session: Closed.
        vehicles: Resources that are its vehicle.
    """
    end = session.end_ms
    rows = []
    for row in commitment.rows:
        is_running = commitment.start_ms < end < row.end_ms and row.end_ms > session.start_ms
        if row.resource_id == session.session_id or (row.resource_id in vehicles and is_running):
            row = replace(row, end_ms=min(row.end_ms, end))
        if row.end_ms > commitment.start_ms:
            rows.append(row)
    if tuple(rows) == commitment.rows:
        return commitment
    last = max((row.end_ms for row in rows), default=commitment.start_ms)
    return replace(commitment, rows=tuple(rows), end_ms=max(last, commitment.start_ms))
