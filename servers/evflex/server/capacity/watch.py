"""WatchCapacity: what hubs may draw now, then every change, with tokens to resume and heartbeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.rpc import code_pb2

from evflex.capacity.v1 import capacity_service_pb2
from evflex.server.capacity.capacity_watcher import CapacityWatcher, MaySee
from evflex.server.capacity.encode_tracking import event_head
from evflex.server.capacity.live import LiveCapacities, LiveHub, Plan, plan_event
from evflex.server.capacity.watch_token import position_of, token_at
from evflex.server.errors import ServiceError, busy, invalid_field
from evflex.server.settings import Settings

_Kind = capacity_service_pb2.CapacityEventKind
_HUBS_PER_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class CapacityWatch:
    """One WatchCapacity call.

    Attributes:
        settings: Heartbeat.
        live: What is tracked.
        look_up: Reads anew which hubs of other tenants the caller may see.
    """

    settings: Settings
    live: LiveCapacities
    look_up: Callable[[], MaySee]

    def events(
        self, watcher: CapacityWatcher, hubs: list[LiveHub], plans: list[Plan], resume_token: str
    ) -> Iterator[bytes]:
        """Messages until the caller leaves.

        Args:
            watcher: Registered.
            hubs: All hubs as they were then.
            plans: The last plans then.
            resume_token: Of an earlier watch, or empty.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED for a caller that reads too slowly, UNAVAILABLE when the server drains,
                INVALID_ARGUMENT or OUT_OF_RANGE for a token that cannot be used.
        """
        position = watcher.start
        mine = [hub for hub in hubs if watcher.wants(hub.key, hub.area_id)]
        if resume_token:
            yield from self._missed(watcher, mine, plans, self._resumed(resume_token))
        else:
            yield from _snapshot(mine, position)
        looked_s = time.monotonic()
        while True:
            message = watcher.next(self.settings.watch_heartbeat_s)
            if watcher.dropped:
                raise self._too_slow()
            if watcher.closed:
                raise busy("SHUTTING_DOWN", "the server is shutting down", self.settings.retry_delay_s)
            if message is not None:
                position, event = message
                yield event
            else:
                reached = self.live.position
                if watcher.idle():  # asked after the position, so all up to it has been sent
                    position = max(position, reached)
                    yield _beat(_Kind.CAPACITY_EVENT_KIND_HEARTBEAT, position)
            if time.monotonic() - looked_s >= self.settings.watch_heartbeat_s:
                watcher.look_again(self.look_up())
                looked_s = time.monotonic()

    def _resumed(self, resume_token: str) -> int:
        position = position_of(resume_token)
        if position > self.live.position:
            raise invalid_field("resume_token", "must come from this server")
        if position < self.live.first_position:
            raise ServiceError(
                code_pb2.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED",
                "the server has restarted since; watch without a resume_token to begin with a snapshot",
            )  # fmt: skip
        return position

    def _missed(
        self, watcher: CapacityWatcher, hubs: list[LiveHub], plans: list[Plan], position: int
    ) -> Iterator[bytes]:
        """The last change of each hub, and each plan, after a position; oldest first."""
        events = [
            (plan.position, plan_event(plan))
            for plan in plans
            if plan.position > position
            and watcher.concerns(plan.owner_tenant, plan.transformer_id, plan.area_id, plan.hub_ids)
        ]
        together: dict[int, list[bytes]] = {}
        for hub in hubs:
            if hub.position > position:
                together.setdefault(hub.position, []).append(hub.message)
        now_unix_us = time.time_ns() // 1_000
        for number, parts in together.items():
            head = event_head(_Kind.CAPACITY_EVENT_KIND_CHANGED, token_at(number), now_unix_us)
            events.append((number, b"".join((head, *parts))))
        for _, event in sorted(events):
            yield event

    def _too_slow(self) -> ServiceError:
        settings = self.settings
        return ServiceError(
            code_pb2.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW",
            f"more than watch_queue_limit ({settings.watch_queue_limit}) changes waited to be read; "
            "resume with the last resume_token",
            metadata={"limit": "watch_queue_limit"}, retry_delay_s=settings.retry_delay_s,
        )  # fmt: skip


def _snapshot(hubs: list[LiveHub], position: int) -> Iterator[bytes]:
    """The hubs; messages before SNAPSHOT_COMPLETE carry no token: who breaks off in between starts anew."""
    head = event_head(_Kind.CAPACITY_EVENT_KIND_SNAPSHOT, "", time.time_ns() // 1_000)
    for first in range(0, len(hubs), _HUBS_PER_MESSAGE):
        yield b"".join((head, *(hub.message for hub in hubs[first : first + _HUBS_PER_MESSAGE])))
    yield _beat(_Kind.CAPACITY_EVENT_KIND_SNAPSHOT_COMPLETE, position)


def _beat(kind: int, position: int) -> bytes:
    return event_head(kind, token_at(position), time.time_ns() // 1_000)
