"""Memory for portfolios: what all of them may take, those that stay and those that are coming in."""

from __future__ import annotations

import threading
from collections.abc import Callable

from evflex.server.errors import ServiceError, limit_exceeded


class PortfolioMemory:
    """A budget in bytes.

    Attributes:
        make_free: Gives up portfolios that nobody uses, to free so many bytes where it can; called without a lock.
    """

    def __init__(self, most_bytes: int) -> None:
        """Allow claims of `most_bytes` in all."""
        self.most_bytes = most_bytes
        self.make_free: Callable[[int], None] = lambda _missing_bytes: None
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """What is claimed."""
        return self._used_bytes

    def change(self, added_bytes: int) -> None:
        """Claim bytes, or give them back where the number is negative.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED, the budget does not allow it.
        """
        if self._take(added_bytes):
            return
        self.make_free(self._used_bytes + added_bytes - self.most_bytes)
        if not self._take(added_bytes):
            raise self._exceeded(added_bytes)

    def _take(self, added_bytes: int) -> bool:
        with self._lock:
            if added_bytes > 0 and self._used_bytes + added_bytes > self.most_bytes:
                return False
            self._used_bytes += added_bytes
            return True

    def _exceeded(self, added_bytes: int) -> ServiceError:
        return limit_exceeded(
            "max_portfolio_memory_bytes",
            self._used_bytes + added_bytes,
            self.most_bytes,
            "all portfolios in memory and in coming share it; delete some, or give the server more",
        )


class Claim:
    """A part of the budget that one portfolio, or one upload, holds."""

    def __init__(self, memory: PortfolioMemory) -> None:
        """Hold nothing yet."""
        self._memory = memory
        self.held_bytes = 0

    def hold(self, size_bytes: int) -> None:
        """Hold so much from now on.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED, and what was held before is held on.
        """
        self._memory.change(size_bytes - self.held_bytes)
        self.held_bytes = size_bytes

    def release(self) -> None:
        """Hold nothing."""
        self.hold(0)
