"""The smallest relief that brings a value below its limit, for many values at once.

Where a value falls as relief grows it is convex in it, nearly: secants from the side without relief stop short of the
root and close in on it. Around a root found, false position (of the Illinois kind: Dowell and Jarratt, BIT 11, 1971)
goes on; where the value turns upward, or there is no solution any more, the interval around its least is halved.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evflex.engine.grid.congestion_report import ReliefObstacle
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# A first answer aims at an excess a little below 0, so that it need not be searched for twice.
_AIM, _DEEPEST = 0.003, 0.006
# An answer's limit is known to be broken with this share of it.
_TIGHT, _CHECK = 0.985, 0.99
# Of an excess so small that power flows hardly tell it, more is left, in pu or as a ratio.
_ROUNDING = 1e-10
_ROUNDS = 60
# A range around a least value that is this narrow, relative to the relief, has no root in it.
_NARROW = 1e-3
_MOST_GROWTH = 4.0
# What has no solution with so many times the relief of the least value has it because of collapse.
_NEAR_COLLAPSE = 2.0

Evaluate = Callable[[IntArray, FloatArray], FloatArray]


def smallest_relief(evaluate: Evaluate, excess: FloatArray, slope: FloatArray) -> tuple[FloatArray, IntArray]:
    """Find the root of each of J values.

    Args:
        evaluate: Excess of some of the values, by index, at a relief > 0 of each; NaN where there is no solution.
        excess: Excess without relief, (J,), > 0.
        slope: By how much the excess falls per kW of relief, at first, (J,), > 0.

    Returns:
        Relief in kW, (J,), NaN where there is none, and :class:`ReliefObstacle`, (J,).
    """
    search = _Search(excess, slope)
    for _ in range(_ROUNDS):
        jobs = np.flatnonzero(search.open)
        if not len(jobs):
            break
        search.learn(jobs, evaluate(jobs, search.trial[jobs]))
    search.obstacle[search.open] = ReliefObstacle.REVERSED
    return search.answer, search.obstacle


class _Search:
    """Per value: two points short of the root, one beyond it, and one from which the value only rises."""

    def __init__(self, excess: FloatArray, slope: FloatArray) -> None:
        count = len(excess)
        self.aim = np.maximum(_AIM * excess, _ROUNDING)
        self.deepest = np.maximum(_DEEPEST * excess, 2.0 * _ROUNDING)
        self.before, self.height_before = np.zeros(count), excess + self.aim
        self.low, self.height_low = np.zeros(count), excess + self.aim
        self.high, self.height_high = np.full(count, np.nan), np.full(count, np.nan)
        self.end, self.failed = np.full(count, np.nan), np.full(count, np.inf)
        # whether the root found is about where it was aimed at, and whether a little less was tried in vain
        self.close, self.checked = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        self.trial = self.height_low / slope
        self.answer = np.full(count, np.nan)
        self.obstacle = np.zeros(count, dtype=np.int64)
        self.open: BoolArray = np.ones(count, dtype=bool)

    def learn(self, jobs: IntArray, value: FloatArray) -> None:
        """Take the excess at the relief tried, and choose what to try next."""
        height = value + self.aim[jobs]
        rooted = ~np.isnan(self.high[jobs])
        clears = value <= 0.0
        falls = ~clears & (rooted | (height < self.height_low[jobs]))
        rises = ~clears & ~falls
        self._set_high(jobs[clears], height[clears])
        self._set_low(jobs[falls], height[falls])
        self._set_end(jobs[rises], height[rises])
        tight = self.low[jobs] >= _TIGHT * self.high[jobs]
        self.answer[jobs[tight]] = self.high[jobs[tight]]
        self.open[jobs[tight]] = False
        self._next(jobs[~tight])

    def _set_high(self, at: IntArray, height: FloatArray) -> None:
        # on the far side of the least value its near side begins at the point before
        far = at[self.low[at] > self.trial[at]]
        self.low[far], self.height_low[far] = self.before[far], self.height_before[far]
        again = at[self.high[at] > self.trial[at]]
        # the other end counts less each time that it stays
        self.height_low[again] *= 0.5
        self.checked[again] = self.close[again]
        self.high[at], self.height_high[at] = self.trial[at], height
        self.close[at] = height >= self.aim[at] - self.deepest[at]

    def _set_low(self, at: IntArray, height: FloatArray) -> None:
        bracketed = at[~np.isnan(self.high[at])]
        self.height_high[bracketed] *= 0.5
        left = self.trial[at] < self.low[at]
        back, on = at[left], at[~left]
        self.end[back] = self.low[back]
        self.before[on], self.height_before[on] = self.low[on], self.height_low[on]
        self.low[at], self.height_low[at] = self.trial[at], height

    def _set_end(self, at: IntArray, height: FloatArray) -> None:
        # left of the lowest point it is the beginning that moves
        left = self.trial[at] < self.low[at]
        self.before[at[left]], self.height_before[at[left]] = self.trial[at[left]], height[left]
        self.end[at[~left]] = self.trial[at[~left]]
        failed = at[np.isnan(height)]
        self.failed[failed] = np.minimum(self.failed[failed], self.trial[failed])

    def _next(self, at: IntArray) -> None:
        rooted = ~np.isnan(self.high[at])
        ended = ~rooted & ~np.isnan(self.end[at])
        self._between(at[rooted])
        self._halve(at[ended])
        self._extend(at[~rooted & ~ended])

    def _between(self, at: IntArray) -> None:
        low, high = self.low[at], self.high[at]
        share = np.nan_to_num(self.height_low[at] / (self.height_low[at] - self.height_high[at]), nan=0.5)
        inside = low + np.clip(np.where(self.checked[at], 0.5, share), 0.05, 0.95) * (high - low)
        # what is close to the aim need only be shown to be the smallest
        check = self.close[at] & ~self.checked[at]
        self.trial[at] = np.where(check, _CHECK * high, inside)

    def _extend(self, at: IntArray) -> None:
        low = self.low[at]
        fallen = (self.height_before[at] - self.height_low[at]) / (low - self.before[at])
        self.trial[at] = np.clip(low + self.height_low[at] / fallen, 1.001 * low, _MOST_GROWTH * low)

    def _halve(self, at: IntArray) -> None:
        before, low, end = self.before[at], self.low[at], self.end[at]
        right = end - low >= low - before
        self.trial[at] = np.where(right, 0.5 * (low + end), 0.5 * (before + low))
        hopeless = at[end - before < _NARROW * end]
        self.open[hopeless] = False
        near = self.failed[hopeless] <= _NEAR_COLLAPSE * self.low[hopeless]
        self.obstacle[hopeless] = np.where(near, ReliefObstacle.COLLAPSE, ReliefObstacle.REVERSED)
