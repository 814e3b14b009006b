"""Follows the change log and hands each change to the watchers it concerns."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from evflex.server.caller import Caller
from evflex.server.errors import ServiceError, busy
from evflex.server.log import places
from evflex.server.metrics import Metrics
from evflex.server.settings import Settings
from evflex.server.store.schedules import Change, ScheduleStore

_PAGE = 500


class Watcher:
    """A bounded queue of the changes that one watch is to send.

    Attributes:
        start: Number of the last change before those that the queue receives.
        dropped: Whether the queue was full, and changes were lost.
        closed: Whether the hub has closed.
    """

    def __init__(self, caller: Caller, site_ids: frozenset[str], start: int, limit: int) -> None:
        """Receive what `caller` may see of `site_ids` (empty: all) after `start`."""
        self._caller = caller
        self._site_ids = site_ids
        self._limit = limit
        self._queue: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self.start = start
        self.dropped = False
        self.closed = False

    def next(self, timeout_s: float) -> Change | None:
        """The next change; None after `timeout_s` without one, or at once when dropped or closed."""
        if self.dropped or self.closed:
            return None
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def idle(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    def wants(self, change: Change) -> bool:
        """Whether a change concerns this watcher."""
        return (
            change.tenant_id == self._caller.tenant_id
            and self._caller.may_use_area(change.area_id)
            and (not self._site_ids or change.site_id in self._site_ids)
        )

    def offer(self, change: Change) -> bool:
        """Queue a change that concerns this watcher; False when that drops it, because the queue is full."""
        if self.dropped or not self.wants(change):
            return True
        if self._queue.qsize() >= self._limit:
            self.dropped = True
            self._queue.put(None)
            return False
        self._queue.put(change)
        return True

    def close(self) -> None:
        """Wake the watch, so that it ends."""
        self.closed = True
        self._queue.put(None)


class WatchHub:
    """All watchers, and one thread that polls the change log while there are any.

    Changes by this process wake the thread at once; those of other processes on the same database are found by polling.
    """

    def __init__(self, store: ScheduleStore, settings: Settings, metrics: Metrics, log: FilteringBoundLogger) -> None:
        """Follow the change log of `store`."""
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._lock = threading.Lock()
        self._watchers: dict[Watcher, Callable[[], None]] = {}
        self._stalled_since_s: dict[Watcher, float] = {}
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._follow, name="watch-hub", daemon=True)
        self._position = 0

    @property
    def position(self) -> int:
        """Number of the last change that all watchers concerned have in their queues."""
        return self._position

    def open(self, caller: Caller, site_ids: frozenset[str], cut_off: Callable[[], None]) -> Watcher:
        """Register a watcher.

        Args:
            caller: Who watches.
            site_ids: Sites wanted; empty means all.
            cut_off: Ends the RPC of a dropped watcher that still does not read.

        Raises:
            ServiceError: UNAVAILABLE, there are too many watches already, or the server drains.
        """
        settings = self._settings
        with self._lock:
            if self._closed:
                raise busy("SHUTTING_DOWN", "the server is shutting down", settings.retry_delay_s)
            if len(self._watchers) >= settings.max_watches:
                raise busy("TOO_MANY_WATCHES", f"max_watches is {settings.max_watches}", settings.retry_delay_s)
            if not self._watchers:
                self._position = self._store.last_sequence()
            watcher = Watcher(caller, site_ids, self._position, settings.watch_queue_limit)
            self._watchers[watcher] = cut_off
            if not self._thread.is_alive():
                self._thread.start()
        self._metrics.watches.inc()
        self._wake.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        with self._lock:
            known = self._watchers.pop(watcher, None)
            self._stalled_since_s.pop(watcher, None)
        if known is not None:
            self._metrics.watches.dec()

    def wake(self) -> None:
        """Look for changes now."""
        self._wake.set()

    def close(self) -> None:
        """End all watches."""
        with self._lock:
            self._closed = True
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher.close()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _follow(self) -> None:
        while not self._closed:
            self._wake.wait(self._settings.watch_poll_s if self._watchers else None)
            self._wake.clear()
            try:
                while self._deliver_page():
                    pass
                self._cut_off_stalled()
            except ServiceError as error:
                self._log.warning("change log cannot be read", reason=error.reason)
            except Exception as error:
                self._log.error("watch hub failed", exception=type(error).__name__, places=places(error))

    def _deliver_page(self) -> bool:
        """Hand out some changes; True when there may be more."""
        with self._lock:
            if self._closed or not self._watchers:
                return False
            # under the lock, so that no watcher registers between the query and the new position
            page = self._store.changes_after(self._position, _PAGE)
            for change in page:
                for watcher in self._watchers:
                    if not watcher.offer(change):
                        self._stalled_since_s[watcher] = time.monotonic()
                        self._metrics.watches_dropped.inc()
            if page:
                self._position = page[-1].sequence
            return len(page) == _PAGE

    def _cut_off_stalled(self) -> None:
        latest_s = time.monotonic() - self._settings.watch_stall_s
        with self._lock:
            stalled = [watcher for watcher, since_s in self._stalled_since_s.items() if since_s < latest_s]
            cuts = [self._watchers[watcher] for watcher in stalled]
            for watcher in stalled:
                del self._stalled_since_s[watcher]
        for cut_off in cuts:
            cut_off()
