"""The hub's side in real time: its capacity, then every change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.capacity.tracking import HubCapacity
from evflex.client.enums import short_name
from evflex.client.moments import timestamp


@dataclass(frozen=True, slots=True)
class CapacityEvent:
    """A message of a watch.

    Attributes:
        kind: ``SNAPSHOT``, ``SNAPSHOT_COMPLETE``, ``CHANGED``, ``PLANNED`` or ``HEARTBEAT``.
        hubs: Capacities, of SNAPSHOT and CHANGED.
        allocation_id: Allocation that was stored, of PLANNED.
        resume_token: Token with which a later watch goes on after this event; empty while the snapshot is incomplete.
        event_time: When it happened (UTC).
    """

    kind: str
    hubs: tuple[HubCapacity, ...]
    allocation_id: str
    resume_token: str
    event_time: pd.Timestamp | None


class CapacityWatch:
    """Progress of one ``WatchCapacity`` across lost connections."""

    def __init__(self, hub_ids: Sequence[str], resume_token: str) -> None:
        self._hub_ids = list(hub_ids)
        self._resume_token = resume_token
        self._snapshot_complete = bool(resume_token)

    def request(self) -> pb.WatchCapacityRequest:
        """Request that goes on after the last message; a broken snapshot starts anew."""
        return pb.WatchCapacityRequest(hub_ids=self._hub_ids, resume_token=self._resume_token)

    def accept(self, message: pb.WatchCapacityResponse) -> CapacityEvent:
        """Take a message."""
        if message.kind == pb.CAPACITY_EVENT_KIND_SNAPSHOT_COMPLETE:
            self._snapshot_complete = True
        if self._snapshot_complete and message.resume_token:
            self._resume_token = message.resume_token
        return CapacityEvent(
            kind=short_name(pb.CapacityEventKind, "CAPACITY_EVENT_KIND_", message.kind),
            hubs=tuple(map(HubCapacity.from_message, message.hubs)),
            allocation_id=message.allocation_id,
            resume_token=self._resume_token,
            event_time=timestamp(message, "event_time"),
        )
