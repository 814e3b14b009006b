"""The switching state of each contingency: what an outage cuts off, and which tie switches feed it back.

Each state is solved in AC; no DC screening (LODF) stands before. On a meshed network of 118 buses it would save half of
0.8 s for 17 984 flows, and miss 27 of 5 121 overloaded outages and steps and 198 with a voltage out of band, with a
margin of 10 %; on one of 57 buses 121 of 2 769 and 4 294.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from evflex.engine.grid.counted_flows import CountedFlows
from evflex.engine.grid.limits import Limits
from evflex.engine.grid.network import BranchKind
from evflex.engine.grid.prepared import PreparedGrid, prepare_grid
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.validation import InvalidProblemError

# Pairs are made of so many ties at most: 66 of them.
_MOST_PAIRED = 12
# A pair of ties leaves less than this share of a single one's violations.
_WORTH_A_RING = 0.9
# Sums of violations or losses that differ by less are the same, and the earlier tie is taken.
_SAME = 1e-7


@dataclass(frozen=True, slots=True)
class ContingencyState:
    """A network without a branch.

    Attributes:
        contingency: The branch; −1 for the sound network.
        grid: The network in this state.
        closed_ties: Branches closed to feed back what the outage cuts off.
        island: Buses that the outage cuts off and nothing feeds back; in the sound network all that no source reaches.
        flows_solved: Power flows computed to choose the ties.
    """

    contingency: int
    grid: PreparedGrid
    closed_ties: tuple[int, ...]
    island: IntArray
    flows_solved: int


def sound_state(grid: PreparedGrid) -> ContingencyState:
    """The network as it is."""
    return ContingencyState(-1, grid, (), np.flatnonzero(~grid.energised), 0)


def outage_state(
    grid: PreparedGrid, limits: Limits, branch: int, tie_branches: IntArray, p_kw: FloatArray, q_kvar: FloatArray
) -> ContingencyState | None:
    """The network without a branch, and with the ties closed that make the best of it.

    One set of ties serves all steps. The best set leaves the least energy unserved, then the fewest steps without a
    solution, then the least sum of violations of limits (each relative to its limit, voltages to their band), then the
    least losses, all by power flows. A pair is closed where no single tie feeds back everything within limits, and
    the pair feeds more, or leaves less than 90 % of the violations.

    Args:
        grid: The sound network.
        limits: What must hold.
        branch: The branch that is lost.
        tie_branches: Branches that may be closed.
        p_kw: Active power drawn, (T, n) or (T, n, 3).
        q_kvar: Reactive power drawn.

    Returns:
        The state; None where the branch is open already.
    """
    branches = grid.network.branches
    if not (branches.from_closed[branch] and branches.to_closed[branch]):
        return None
    without = in_state(grid, [branch], [])
    lost = grid.energised & ~without.energised
    if not lost.any() or not len(tie_branches):
        return ContingencyState(branch, without, (), np.flatnonzero(lost), 0)
    search = _TieSearch(grid, limits, branch, lost, p_kw, q_kvar)
    return search.best(without, tie_branches)


def in_state(grid: PreparedGrid, opened: Sequence[int], closed: Sequence[int]) -> PreparedGrid:
    """The network with some branches opened and others closed.

    Raises:
        InvalidProblemError: Switches closed join sources of different voltage.
    """
    branches = grid.network.branches
    from_closed, to_closed = branches.from_closed.copy(), branches.to_closed.copy()
    opening, closing = list(opened), list(closed)
    from_closed[opening] = to_closed[opening] = False
    from_closed[closing] = to_closed[closing] = True
    if (branches.kinds[opening + closing] == BranchKind.SWITCH).any():
        return prepare_grid(grid.network, from_closed, to_closed)
    return grid.switched(from_closed, to_closed)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A set of ties, and what is left: energy unserved, steps unsolved, violations, losses."""

    ties: tuple[int, ...]
    grid: PreparedGrid
    score: tuple[float, ...]

    @property
    def is_sound(self) -> bool:
        return max(self.score[:3]) <= _SAME

    def is_better(self, other: _Trial) -> bool:
        """Whether the first of the scores that differs is less."""
        for mine, theirs in zip(self.score, other.score, strict=True):
            if abs(mine - theirs) > _SAME * max(1.0, abs(theirs)):
                return mine < theirs
        return False

    def is_worth_a_ring(self, single: _Trial) -> bool:
        """Whether two ties gain so much over a single one that they may close a ring."""
        if self.score[:2] != single.score[:2]:
            return self.score[:2] < single.score[:2]
        return self.score[2] < _WORTH_A_RING * single.score[2]


class _TieSearch:
    """Tries sets of ties for one outage."""

    def __init__(
        self, grid: PreparedGrid, limits: Limits, branch: int, lost: BoolArray, p_kw: FloatArray, q_kvar: FloatArray
    ) -> None:
        self.grid = grid
        self.limits = limits
        self.branch = branch
        self.lost = lost
        self.p_kw = p_kw
        self.q_kvar = q_kvar
        self.solved = 0

    def best(self, without: PreparedGrid, tie_branches: IntArray) -> ContingencyState:
        branches = self.grid.network.branches
        a, b = branches.from_bus[tie_branches], branches.to_bus[tie_branches]
        live = without.energised
        feeds = (self.lost[a] & live[b]) | (self.lost[b] & live[a])
        trials = self._trials([(tie,) for tie in tie_branches[feeds].tolist()])
        best = _best(trials)
        if best is None or not best.is_sound:
            # first those that feed something, then those that may lead there through dead buses
            ranked = [trial.ties[0] for trial in sorted(trials, key=lambda trial: trial.score)]
            pairs = combinations([*ranked, *tie_branches[~feeds].tolist()][:_MOST_PAIRED], 2)
            pair = _best(self._trials(list(pairs)))
            if best is None or (pair is not None and pair.is_worth_a_ring(best)):
                best = pair
        if best is None:
            return ContingencyState(self.branch, without, (), np.flatnonzero(self.lost), self.solved)
        left = np.flatnonzero(self.lost & ~best.grid.energised)
        return ContingencyState(self.branch, best.grid, tuple(sorted(best.ties)), left, self.solved)

    def _trials(self, sets: Sequence[tuple[int, ...]]) -> list[_Trial]:
        trials = (self._trial(ties) for ties in sets)
        return [trial for trial in trials if trial is not None]

    def _trial(self, ties: tuple[int, ...]) -> _Trial | None:
        """Close some ties; None where they feed nothing back, or join sources of different voltage."""
        try:
            grid = in_state(self.grid, [self.branch], ties)
        except InvalidProblemError:
            return None
        left = self.lost & ~grid.energised
        if left.sum() == self.lost.sum():
            return None
        flows = CountedFlows(grid, self.limits)
        # of sets that leave no load unserved, that with fewer buses left
        unserved = float(unserved_kw(self.p_kw, np.flatnonzero(left)).sum()) + 1e-3 * float(left.sum())
        unsolved = violations = losses = 0.0
        for first in range(0, len(self.p_kw), flows.block_steps):
            part = slice(first, first + flows.block_steps)
            flow = flows.run(self.p_kw[part], self.q_kvar[part])
            excess = self.limits.excess(flow)
            excess[~self.limits.broken(excess)] = 0.0
            unsolved += float((~flow.converged).sum())
            violations += float((excess / self.limits.scale).sum())
            losses += float(np.nansum(flow.losses_kw))
        self.solved += flows.solved
        return _Trial(ties, grid, (unserved, unsolved, violations, losses))


def _best(trials: Sequence[_Trial]) -> _Trial | None:
    best = None
    for trial in trials:
        if best is None or trial.is_better(best):
            best = trial
    return best


def unserved_kw(p_kw: FloatArray, buses: IntArray) -> FloatArray:
    """What consumers at some buses would draw in each step, (T,)."""
    drawn: FloatArray = np.maximum(p_kw[:, buses], 0.0).reshape(len(p_kw), -1).sum(axis=1)
    return drawn
