"""When to call again: exponential back-off with jitter, never past the deadline."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from evflex.client.errors import EvflexError, LimitExceededError, UnavailableError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after which pause a retryable call is repeated.

    Attributes:
        max_attempts: Calls in all, the first included; 1 never repeats.
        initial_pause_s: Upper end of the first pause.
        max_pause_s: Upper end of any pause.
        multiplier: Growth of the upper end from one pause to the next.
    """

    max_attempts: int = 5
    initial_pause_s: float = 0.2
    max_pause_s: float = 10.0
    multiplier: float = 2.0

    def pause_s(self, failures: int, error: EvflexError, draw: float) -> float:
        """Pause after the ``failures``-th failure in a row.

        Half of the pause is fixed and half is drawn, so that many clients do not come back together. A delay
        that the server asks for is the least.

        Args:
            failures: Failures so far, from 1.
            error: The last failure.
            draw: Uniform number in [0, 1).
        """
        highest = min(self.initial_pause_s * self.multiplier ** (failures - 1), self.max_pause_s)
        pause = highest * (0.5 + 0.5 * draw)
        asked = error.retry_after_s if isinstance(error, UnavailableError) else None
        return pause if asked is None else asked + pause * 0.5


@dataclass(slots=True)
class Attempts:
    """Counts the attempts of one operation against its policy and deadline.

    Attributes:
        policy: Policy.
        timeout_s: Time for the whole operation, pauses included; None is no limit.
    """

    policy: RetryPolicy
    timeout_s: float | None
    _failures: int = 0
    _deadline: float | None = field(init=False)

    def __post_init__(self) -> None:
        """Fix the deadline."""
        self._deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s

    def remaining_s(self) -> float | None:
        """Time left for the next call (>= 0); None is no limit."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def succeeded(self) -> None:
        """Start counting anew: a stream made progress."""
        self._failures = 0

    def pause_or_raise(self, error: EvflexError) -> float:
        """Seconds to wait before the next call.

        Raises:
            EvflexError: ``error`` itself, when it is not retryable, the attempts are used up, or the pause
            would reach
                past the deadline.
        """
        self._failures += 1
        if not error.retryable or self._failures >= self.policy.max_attempts:
            raise error
        pause = self.policy.pause_s(self._failures, error, random.random())
        remaining = self.remaining_s()
        if remaining is not None and pause >= remaining:
            raise error
        return pause


def resumable(error: EvflexError) -> EvflexError:
    """The error of a watch; one that read too slowly may be resumed (``WatchCapacity``, ``WatchConflicts``)."""
    if isinstance(error, LimitExceededError):
        error.retryable = True
    return error
