"""Conflicts that appear when vehicles are plugged in, as they are decided."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.activation.conflict import ResolvedConflict
from evflex.client.activation.enums import conflict_event_text
from evflex.client.moments import timestamp


@dataclass(frozen=True, slots=True)
class ConflictEvent:
    """A message of a watch.

    Attributes:
        kind: ``SNAPSHOT`` (its commitment is still suspended), ``SNAPSHOT_COMPLETE``, ``DECIDED`` or ``HEARTBEAT``.
        conflict: The conflict, of SNAPSHOT and DECIDED.
        resume_token: Token with which a later watch goes on after this event; empty while the snapshot is incomplete.
        event_time: When it happened (UTC).
    """

    kind: str
    conflict: ResolvedConflict | None
    resume_token: str
    event_time: pd.Timestamp | None


class ConflictWatch:
    """Progress of one ``WatchConflicts`` across lost connections."""

    def __init__(self, resume_token: str) -> None:
        self._resume_token = resume_token
        self._snapshot_complete = bool(resume_token)

    def request(self) -> pb.WatchConflictsRequest:
        """Request that goes on after the last message; a broken snapshot starts anew."""
        return pb.WatchConflictsRequest(resume_token=self._resume_token)

    def accept(self, message: pb.WatchConflictsResponse) -> ConflictEvent:
        """Take a message."""
        if message.kind == pb.CONFLICT_EVENT_KIND_SNAPSHOT_COMPLETE:
            self._snapshot_complete = True
        if self._snapshot_complete and message.resume_token:
            self._resume_token = message.resume_token
        return ConflictEvent(
            kind=conflict_event_text(message.kind),
            conflict=ResolvedConflict.from_message(message.conflict) if message.HasField("conflict") else None,
            resume_token=self._resume_token,
            event_time=timestamp(message, "event_time"),
        )
