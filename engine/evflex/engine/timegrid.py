"""The time axis that every array per step refers to."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from evflex.engine.validation import Rules

MAX_STEP_COUNT = 35_136
MAX_STEP_S = 86_400.0
# A presence shorter than this is no presence: double precision resolves unix seconds to 2.4e-7 s.
_TIME_TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Equal steps from a UTC instant; step k covers [start + k·step, start + (k+1)·step).

    Attributes:
        start_unix_s: Start of step 0 in seconds since 1970-01-01 UTC.
        step_s: Length of a step in seconds, 1 to 86 400.
        step_count: Number of steps, 1 to 35 136.
    """

    start_unix_s: float
    step_s: float
    step_count: int

    @property
    def step_h(self) -> float:
        """Length of a step in hours."""
        return self.step_s / 3600.0

    @property
    def end_unix_s(self) -> float:
        """End of the last step in seconds since 1970-01-01 UTC."""
        return self.start_unix_s + self.step_s * self.step_count

    @property
    def known_step_count(self) -> int | None:
        """Number of steps, None where it breaks its own rule, so that no length can be held against it."""
        return self.step_count if 1 <= self.step_count <= MAX_STEP_COUNT else None

    def validate(self, rules: Rules, path: str = "time_grid") -> bool:
        """Report every broken rule; True when the grid can be used."""
        if isfinite(self.start_unix_s) and 1.0 <= self.step_s <= MAX_STEP_S and self.known_step_count is not None:
            return True
        rules.check(isfinite(self.start_unix_s), f"{path}.start_time", "must be set")
        rules.check(
            bool(1.0 <= self.step_s <= MAX_STEP_S),
            f"{path}.step_duration",
            f"must lie between 1 s and 1 day, is {self.step_s:g} s",
        )
        rules.check(
            self.known_step_count is not None,
            f"{path}.step_count",
            f"must lie between 1 and {MAX_STEP_COUNT}, is {self.step_count}",
        )
        return False

    def presence_ratio(self, start_unix_s: NDArray[np.float64], end_unix_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each step that lies within [start, end): shape (len(start), step_count), 0..1."""
        edges = self.start_unix_s + self.step_s * np.arange(self.step_count + 1)
        begin = np.maximum(edges[None, :-1], start_unix_s[:, None])
        finish = np.minimum(edges[None, 1:], end_unix_s[:, None])
        ratio: NDArray[np.float64] = (finish - begin) / self.step_s
        ratio[ratio * self.step_s < _TIME_TOLERANCE_S] = 0.0
        ratio[ratio > 1.0 - _TIME_TOLERANCE_S / self.step_s] = 1.0
        return ratio
