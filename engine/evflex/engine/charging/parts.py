"""Independent parts of a site: each has a grid connection of its own, and shares nothing with the others but prices.

A site by itself is one part. Many small sites are planned as the parts of one, so that a call over arrays is paid once
for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.charging.site import Site
from evflex.engine.supply_tree import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts in the order of their sessions and limits, which are contiguous.

    Attributes:
        session_start: First session of each part, and the number of sessions. Each part has some where there are
            several. (parts + 1,).
        group_start: The same of the limits' groups. (parts + 1,).
        fixed_kw: Fixed load at each part's grid connection. (parts, T).
    """

    session_start: IntArray
    group_start: IntArray
    fixed_kw: FloatArray

    @classmethod
    def whole(cls, site: Site) -> Parts:
        """The site as one part."""
        groups = len(site.limits.node)
        return cls(np.array([0, site.session_count]), np.array([0, groups]), site.fixed_kw[None, :])

    def __len__(self) -> int:
        """Number of parts."""
        return len(self.fixed_kw)

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the sessions of each part, (n, ...) to (parts, ...)."""
        if len(self) == 1:
            return np.asarray(values.sum(axis=0, keepdims=True))
        return np.asarray(np.add.reduceat(values, self.session_start[:-1], axis=0), dtype=np.float64)

    def total_of_groups(self, values: FloatArray) -> FloatArray:
        """Sum over the groups of each part, which may have none, (groups,) to (parts,)."""
        if len(self) == 1:
            return np.array([values.sum()])
        part = np.repeat(np.arange(len(self)), np.diff(self.group_start))
        return np.asarray(np.bincount(part, weights=values, minlength=len(self)), dtype=np.float64)

    def highest(self, values: FloatArray) -> FloatArray:
        """Highest value among the sessions of each part, 0 without sessions, (n,) to (parts,)."""
        if len(self) == 1:
            return np.array([values.max(initial=0.0)])
        return np.asarray(np.maximum.reduceat(values, self.session_start[:-1]), dtype=np.float64)

    def to_sessions(self, values: FloatArray) -> FloatArray:
        """Value of each session's part, (parts,) to (n,)."""
        return np.repeat(values, np.diff(self.session_start))
