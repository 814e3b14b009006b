"""How long a solve may go on, and whether its caller still wants the answer."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Budget:
    """Wall time and cancellation of one solve.

    Attributes:
        time_limit_s: Seconds from construction until the solve must return.
        cancel: Set by the caller when the answer is no longer wanted.
    """

    time_limit_s: float
    cancel: threading.Event = field(default_factory=threading.Event)
    _started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the budget was opened."""
        return time.perf_counter() - self._started

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 when cancelled or spent."""
        if self.cancel.is_set():
            return 0.0
        return max(0.0, self.time_limit_s - self.elapsed_s)

    @property
    def spent(self) -> bool:
        """Whether the solve must return now."""
        return self.remaining_s <= 0.0
