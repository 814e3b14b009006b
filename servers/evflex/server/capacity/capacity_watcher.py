"""One watch of capacities: what it wants, what its caller may see, and a bounded queue of what it is to send."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable

from evflex.server.caller import Caller

# Owner, transformer and hub.
HubKey = tuple[str, str, str]
MaySee = Callable[[str, str, str], bool]


class CapacityWatcher:
    """A bounded queue of messages.

    Attributes:
        hub_ids: Hubs wanted; empty means all.
        start: Number of the last change before those that the queue receives.
        dropped: Whether the queue was full, and messages were lost.
        closed: Whether the server drains, or the call has ended.
    """

    def __init__(
        self,
        caller: Caller,
        hub_ids: frozenset[str],
        may_see: MaySee,
        limit: int,
        stall_s: float,
        cut_off: Callable[[], None],
    ) -> None:
        """Receive what `caller` may see of `hub_ids`; when dropped and still not reading after `stall_s`, `cut_off`."""
        self._caller = caller
        self._may_see = may_see
        self._limit = limit
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._stalled = threading.Timer(stall_s, cut_off)
        self._stalled.daemon = True
        # asking an agreement for each hub and change would take longer than telling it
        self._seen: dict[HubKey, bool] = {}
        self.hub_ids = hub_ids
        self.start = 0
        self.dropped = False
        self.closed = False

    def next(self, timeout_s: float) -> tuple[int, bytes] | None:
        """The next message and its number; None after `timeout_s` without one, or at once when dropped or closed."""
        if self.dropped or self.closed:
            return None
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def idle(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    def may_see(self, key: HubKey, area_id: str) -> bool:
        """Whether the caller may see a hub."""
        seen = self._seen.get(key)
        if seen is None:
            own = key[0] == self._caller.tenant_id
            seen = self._seen[key] = self._caller.may_use_area(area_id) and (own or self._may_see(*key))
        return seen

    def look_again(self, may_see: MaySee) -> None:
        """See hubs by agreements as they are now."""
        self._may_see, self._seen = may_see, {}

    def wants(self, key: HubKey, area_id: str) -> bool:
        """Whether a hub concerns this watcher."""
        return (not self.hub_ids or key[2] in self.hub_ids) and self.may_see(key, area_id)

    def concerns(self, owner_tenant: str, transformer_id: str, area_id: str, hub_ids: Iterable[str]) -> bool:
        """Whether any of some hubs concerns this watcher."""
        return any(self.wants((owner_tenant, transformer_id, hub_id), area_id) for hub_id in hub_ids)

    def offer(self, position: int, message: bytes) -> bool:
        """Queue a message; False when that drops the watcher, because the queue is full."""
        if self.dropped:
            return True
        if self._queue.qsize() >= self._limit:
            self.dropped = True
            self._stalled.start()
            self._queue.put(None)
            return False
        self._queue.put((position, message))
        return True

    def close(self) -> None:
        """Wake the watch, so that it ends."""
        self.closed = True
        self._queue.put(None)

    def left(self) -> None:
        """The watch has ended."""
        self._stalled.cancel()
