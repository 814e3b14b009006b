"""What every tracked hub may draw now, and who is told when that changes. Kept in memory, by this process only."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from evflex.capacity.v1 import capacity_service_pb2
from evflex.server.caller import Caller
from evflex.server.capacity.capacity_watcher import CapacityWatcher, HubKey, MaySee
from evflex.server.capacity.encode_tracking import event_head, event_hub
from evflex.server.capacity.watch_token import token_at
from evflex.server.errors import busy
from evflex.server.metrics import Metrics
from evflex.server.settings import Settings

_Kind = capacity_service_pb2.CapacityEventKind
# Transformers whose tracking has ended are remembered for those that begin to watch, the last so many of them.
_MOST_ENDED = 1_000
# Stored allocations that a watch can catch up with.
_MOST_PLANS = 1_000


@dataclass(slots=True)
class LiveHub:
    """The present capacity of a hub.

    Attributes:
        key: Owner, transformer and hub.
        area_id: Grid area.
        message: HubCapacity, as a field of an event.
        position: Of the last message.
    """

    key: HubKey
    area_id: str
    message: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A stored allocation that watchers were told of."""

    owner_tenant: str
    transformer_id: str
    area_id: str
    allocation_id: str
    hub_ids: frozenset[str]
    position: int
    event_unix_us: int


@dataclass(slots=True)
class Track:
    """One transformer that is tracked, or was.

    Attributes:
        owner_tenant: Who tracks it.
        transformer_id: Transformer.
        area_id: Grid area.
        wake: Ends the stream.
        hubs: By identifier.
    """

    owner_tenant: str
    transformer_id: str
    area_id: str
    wake: Callable[[], None]
    hubs: dict[str, LiveHub] = field(default_factory=dict)


class LiveCapacities:
    """Tracked transformers, watchers, and a count of changes that all of them share.

    The count begins at the time of the start in microseconds, and so rises beyond a restart.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Nothing is tracked yet."""
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.Lock()
        self._first_position = self._position = time.time_ns() // 1_000
        self._tracks: dict[tuple[str, str], Track] = {}
        self._ended: OrderedDict[tuple[str, str], Track] = OrderedDict()
        self._plans: deque[Plan] = deque(maxlen=_MOST_PLANS)
        self._watchers: dict[CapacityWatcher, None] = {}
        self._of_hub: dict[str, dict[CapacityWatcher, None]] = {}
        self._of_all: dict[CapacityWatcher, None] = {}
        self._closed = False

    @property
    def first_position(self) -> int:
        """Count when this process began."""
        return self._first_position

    @property
    def position(self) -> int:
        """Number of the last change that all watchers concerned have in their queues."""
        return self._position

    def open_track(self, owner_tenant: str, transformer_id: str, area_id: str, wake: Callable[[], None]) -> Track:
        """Take a transformer for one stream.

        Args:
            owner_tenant: Who tracks it.
            transformer_id: Transformer.
            area_id: Grid area.
            wake: Ends the stream when the server drains.

        Raises:
            ServiceError: UNAVAILABLE, it is tracked already, or the server drains.
        """
        key = (owner_tenant, transformer_id)
        with self._lock:
            self._check_open()
            if key in self._tracks:
                raise busy("ALREADY_TRACKED", "the transformer is tracked already", self._settings.retry_delay_s)
            self._ended.pop(key, None)
            track = self._tracks[key] = Track(owner_tenant, transformer_id, area_id, wake)
            return track

    def close_track(self, track: Track) -> None:
        """Leave a transformer to other streams; what was published last is remembered."""
        key = (track.owner_tenant, track.transformer_id)
        with self._lock:
            if self._tracks.get(key) is track:
                del self._tracks[key]
                self._ended[key] = track
                while len(self._ended) > _MOST_ENDED:
                    self._ended.popitem(last=False)

    def publish(
        self, track: Track, hub_ids: Sequence[str], write: Callable[[int], Sequence[bytes]], event_unix_us: int
    ) -> Sequence[bytes]:
        """Tell the watchers of hubs what these may draw now.

        Args:
            track: Their transformer.
            hub_ids: Hubs, at least one.
            write: Makes the HubCapacity message of each, given the number of the change.
            event_unix_us: When it happened.

        Returns:
            The messages.
        """
        with self._lock:
            position = self._position + 1
            messages = write(position)
            head = event_head(_Kind.CAPACITY_EVENT_KIND_CHANGED, token_at(position), event_unix_us)
            found: dict[CapacityWatcher, list[bytes]] = {}
            for hub_id, message in zip(hub_ids, messages, strict=True):
                part = event_hub(message)
                key = (track.owner_tenant, track.transformer_id, hub_id)
                track.hubs[hub_id] = LiveHub(key, track.area_id, part, position)
                for watcher in (*self._of_hub.get(hub_id, ()), *self._of_all):
                    if watcher.may_see(key, track.area_id):
                        found.setdefault(watcher, []).append(part)
            for watcher, parts in found.items():
                self._offer(watcher, position, b"".join((head, *parts)))
            self._position = position
        return messages

    def planned(
        self, owner_tenant: str, allocation_id: str, hub_ids: Sequence[str], transformer_id: str, area_id: str
    ) -> None:
        """Tell watchers that an allocation was stored that concerns their hubs."""
        event_unix_us = time.time_ns() // 1_000
        with self._lock:
            position = self._position + 1
            plan = Plan(
                owner_tenant, transformer_id, area_id, allocation_id, frozenset(hub_ids), position, event_unix_us
            )
            self._plans.append(plan)
            message = plan_event(plan)
            for watcher in self._watchers:
                if watcher.concerns(plan.owner_tenant, plan.transformer_id, plan.area_id, plan.hub_ids):
                    self._offer(watcher, position, message)
            self._position = position

    def open_watch(
        self, caller: Caller, hub_ids: frozenset[str], may_see: MaySee, cut_off: Callable[[], None]
    ) -> tuple[CapacityWatcher, list[LiveHub], list[Plan]]:
        """Register a watcher.

        Args:
            caller: Who watches.
            hub_ids: Hubs wanted; empty means all.
            may_see: Whether the caller may see a hub of another tenant.
            cut_off: Ends the RPC of a dropped watcher that still does not read.

        Returns:
            The watcher; all hubs and the last plans as they are before anything that its queue receives.

        Raises:
            ServiceError: UNAVAILABLE, there are too many watches already, or the server drains.
        """
        settings = self._settings
        watcher = CapacityWatcher(caller, hub_ids, may_see, settings.watch_queue_limit, settings.watch_stall_s, cut_off)
        with self._lock:
            self._check_open()
            if len(self._watchers) >= settings.max_capacity_watches:
                limit = f"max_capacity_watches is {settings.max_capacity_watches}"
                raise busy("TOO_MANY_WATCHES", limit, settings.retry_delay_s)
            watcher.start = self._position
            self._watchers[watcher] = None
            for group in self._groups(watcher):
                group[watcher] = None
            hubs = [hub for track in self._all_tracks() for hub in track.hubs.values()]
            plans = list(self._plans)
        self._metrics.watches.inc()
        return watcher, hubs, plans

    def leave(self, watcher: CapacityWatcher) -> None:
        """Forget a watcher."""
        with self._lock:
            known = watcher in self._watchers
            self._watchers.pop(watcher, None)
            for group in self._groups(watcher):
                group.pop(watcher, None)
            for hub_id in watcher.hub_ids:
                if not self._of_hub.get(hub_id, True):
                    del self._of_hub[hub_id]
        watcher.left()
        if known:
            self._metrics.watches.dec()

    def close(self) -> None:
        """End all streams and watches."""
        with self._lock:
            self._closed = True
            tracks, watchers = list(self._tracks.values()), list(self._watchers)
        for track in tracks:
            track.wake()
        for watcher in watchers:
            watcher.close()

    def _check_open(self) -> None:
        if self._closed:
            raise busy("SHUTTING_DOWN", "the server is shutting down", self._settings.retry_delay_s)

    def _offer(self, watcher: CapacityWatcher, position: int, message: bytes) -> None:
        if not watcher.offer(position, message):
            self._metrics.watches_dropped.inc()

    def _groups(self, watcher: CapacityWatcher) -> list[dict[CapacityWatcher, None]]:
        """Where a watcher is looked up."""
        if not watcher.hub_ids:
            return [self._of_all]
        return [self._of_hub.setdefault(hub_id, {}) for hub_id in watcher.hub_ids]

    def _all_tracks(self) -> Iterable[Track]:
        yield from self._tracks.values()
        yield from self._ended.values()


def plan_event(plan: Plan) -> bytes:
    """A PLANNED message."""
    return event_head(
        _Kind.CAPACITY_EVENT_KIND_PLANNED, token_at(plan.position), plan.event_unix_us, plan.allocation_id
    )
