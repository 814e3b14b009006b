"""WatchSchedules: a snapshot, then changes, with tokens to resume and heartbeats."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from google.rpc import code_pb2

from evflex.charging.v1 import charging_service_pb2
from evflex.server.caller import Caller
from evflex.server.charging import stored
from evflex.server.charging.encode import chunked
from evflex.server.charging.watch_hub import Watcher, WatchHub
from evflex.server.errors import ServiceError, busy, invalid_field
from evflex.server.messages import timestamp
from evflex.server.settings import Settings
from evflex.server.store.schedules import Change, ChangeKind, ScheduleStore
from evflex.server.tokens import make_token, read_token

Kind = charging_service_pb2.ScheduleEventKind
Event = charging_service_pb2.WatchSchedulesResponse
Parts = tuple[charging_service_pb2.ScheduleSummary | charging_service_pb2.ScheduleChunk, ...]

_PURPOSE = "WatchSchedules"
_CATCH_UP_PAGE = 200


@dataclass(slots=True)
class PartsCache:
    """The last stored schedules in parts, so that many watchers of one change cost one decoding."""

    store: ScheduleStore
    capacity: int = 16
    _parts: OrderedDict[tuple[str, str], tuple[str, int, Parts]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, tenant_id: str, schedule_id: str) -> tuple[str, int, Parts] | None:
        """Area, time of storing and parts of a schedule; None when it has been deleted."""
        key = (tenant_id, schedule_id)
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
                return self._parts[key]
            try:
                row = self.store.get(tenant_id, schedule_id)
            except ServiceError as error:
                if error.code == code_pb2.NOT_FOUND:
                    return None
                raise
            self._parts[key] = (row.area_id, row.create_time_unix_us, tuple(chunked(stored.whole(row))))
            if len(self._parts) > self.capacity:
                self._parts.popitem(last=False)
            return self._parts[key]


@dataclass(frozen=True, slots=True)
class Watch:
    """One WatchSchedules call.

    Attributes:
        settings: Heartbeat.
        store: Where schedules are read.
        hub: Tells what changed.
        cache: Schedules in parts.
        caller: Who watches.
        site_ids: Sites wanted; empty means all.
    """

    settings: Settings
    store: ScheduleStore
    hub: WatchHub
    cache: PartsCache
    caller: Caller
    site_ids: frozenset[str]

    def events(self, watcher: Watcher, resume_token: str) -> Iterator[Event]:
        """Messages until the caller leaves.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED for a caller that reads too slowly, UNAVAILABLE when the server drains.
        """
        if resume_token:
            position = yield from self._caught_up(watcher, self._resumed(resume_token))
        else:
            position = yield from self._snapshot()
        while True:
            change = watcher.next(self.settings.watch_heartbeat_s)
            if watcher.dropped:
                raise ServiceError(
                    code_pb2.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW",
                    f"more than watch_queue_limit ({self.settings.watch_queue_limit}) changes waited to be read; "
                    "resume with the last resume_token",
                    metadata={"limit": "watch_queue_limit"}, retry_delay_s=self.settings.retry_delay_s,
                )  # fmt: skip
            if watcher.closed:
                raise busy("SHUTTING_DOWN", "the server is shutting down", self.settings.retry_delay_s)
            if change is None:
                reached = self.hub.position
                if watcher.idle():  # asked after the position, so all up to it has been sent
                    position = max(position, reached)
                    yield _heartbeat(position)
            elif change.sequence > position:
                position = change.sequence
                yield from self._changed(change)

    def _resumed(self, resume_token: str) -> int:
        position = read_token("resume_token", _PURPOSE, resume_token)
        if position > self.store.last_sequence():
            raise invalid_field("resume_token", "must come from this server's database")
        if position + 1 < self.store.first_sequence():
            raise ServiceError(
                code_pb2.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED",
                "changes after this resume_token are no longer kept; watch without one to begin with a snapshot",
            )  # fmt: skip
        return position

    def _caught_up(self, watcher: Watcher, position: int) -> Generator[Event, None, int]:
        """Send the changes after `position` that came before the watcher's queue; returns the position reached."""
        while position < watcher.start:
            page = self.store.changes_after(position, _CATCH_UP_PAGE)
            for change in page:
                if change.sequence > watcher.start:
                    return position
                if watcher.wants(change):
                    yield from self._changed(change)
                position = change.sequence
            if not page:
                break
        return position

    def _snapshot(self) -> Generator[Event, None, int]:
        """Send the latest schedule of each site; returns the position that this is true for.

        Messages before SNAPSHOT_COMPLETE carry no resume token: who breaks off in between starts anew.
        """
        latest, position = self.store.latest_of_sites(self.caller.tenant_id, self.site_ids)
        for site_id, schedule_id in latest:
            found = self.cache.get(self.caller.tenant_id, schedule_id)
            if found is not None and self.caller.may_use_area(found[0]):
                _, stored_unix_us, parts = found
                yield from _events(Kind.SCHEDULE_EVENT_KIND_SNAPSHOT, site_id, schedule_id, "", stored_unix_us, parts)
        yield Event(
            kind=Kind.SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE,
            resume_token=make_token(_PURPOSE, position),
            event_time=timestamp(_now_unix_us()),
        )
        return position

    def _changed(self, change: Change) -> Iterator[Event]:
        token = make_token(_PURPOSE, change.sequence)
        common = (change.site_id, change.schedule_id, token, change.create_time_unix_us)
        if change.kind is ChangeKind.DELETED:
            yield from _events(Kind.SCHEDULE_EVENT_KIND_DELETED, *common, ())
            return
        found = self.cache.get(change.tenant_id, change.schedule_id)
        # deleted since: that event follows, and the schedule is gone
        yield from _events(Kind.SCHEDULE_EVENT_KIND_STORED, *common, found[2] if found else ())


def _events(
    kind: charging_service_pb2.ScheduleEventKind,
    site_id: str,
    schedule_id: str,
    token: str,
    event_unix_us: int,
    parts: Parts,
) -> Iterator[Event]:
    """One message a part, at least one; only the last carries the token, so that no part can be skipped."""
    for i, part in enumerate(parts or (None,)):
        event = Event(
            kind=kind,
            site_id=site_id,
            schedule_id=schedule_id,
            resume_token=token if i + 1 >= len(parts) else "",
            event_time=timestamp(event_unix_us),
        )
        if isinstance(part, charging_service_pb2.ScheduleSummary):
            event.summary.CopyFrom(part)
        elif part is not None:
            event.chunk.CopyFrom(part)
        yield event


def _heartbeat(position: int) -> Event:
    return Event(
        kind=Kind.SCHEDULE_EVENT_KIND_HEARTBEAT,
        resume_token=make_token(_PURPOSE, position),
        event_time=timestamp(_now_unix_us()),
    )


def _now_unix_us() -> int:
    return time.time_ns() // 1_000
