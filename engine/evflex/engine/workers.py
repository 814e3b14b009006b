"""Threads that share work in blocks; kernels release the GIL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import TypeVar

import numpy as np

from evflex.engine.supply_tree import IntArray

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Fewer assets than this are not worth a second thread.
_WORTH_A_THREAD = 20_000


class Workers:
    """A few threads for one solve; what they compute does not depend on their number."""

    def __init__(self, count: int | None = None) -> None:
        """Open as many threads as there are processors, or ``count``."""
        self.count = count or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.count) if self.count > 1 else None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def each(self, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """``work`` on each item, which must not touch what others do."""
        if self._pool is None or len(items) < 2:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def share(self, work: Callable[[int, int], None], begin: IntArray) -> None:
        """Call ``work(first, end)`` for ranges of blocks of about equally many assets.

        Args:
            work: Works on some blocks, and writes nothing that belongs to others.
            begin: First asset of each block, and the end of the last, (B + 1,).
        """
        blocks, assets = len(begin) - 1, int(begin[-1])
        if self._pool is None or blocks < 2 or assets < _WORTH_A_THREAD:
            if blocks:
                work(0, blocks)
            return
        # several ranges a thread, so that one slow range does not hold up the rest
        cuts = np.searchsorted(begin, np.linspace(0, assets, 4 * self.count + 1))
        cuts = np.unique(np.clip(cuts, 0, blocks))
        cuts[-1] = blocks
        for done in [self._pool.submit(work, a, b) for a, b in pairwise(cuts.tolist())]:
            done.result()
