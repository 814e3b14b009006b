"""Shared rows that no other rows touch: columns, the master that mixes them, and the best bound.

Prices to ask at come from the master, whose duals are held in a box around the prices of the best bound, and lie a
little towards these (Wentges 1997): duals of a master with few columns are far off. A step that kept what the master
promised and met the edge of the box widens it.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.coupling import limits_worth
from evflex.engine.dispatch.master import Master, Mixture
from evflex.engine.supply_tree import FloatArray

# How far the next prices lie from the master's towards those of the best bound (measured: fewest rounds).
_SMOOTHING = 0.3
# A step keeps its promise with this share of it; a box that held it back is then so much wider.
_KEPT_SHARE, _EDGE, _WIDER = 0.3, 0.9, 2.0
# Weights below this are none.
_LEAST_WEIGHT = 1e-12
# A promise of this share of the cost is none.
_SETTLED = 1e-10
# After so many rounds without progress what is left of the gap is not convex.
_MOST_STALLED = 5


class Mixer:
    """Mixes the columns of some blocks under some rows.

    Attributes:
        bound: Best proven bound on the cost of the blocks and rows.
        objective: Cost of the mixture, violation included; infinite before there is one.
    """

    def __init__(
        self, lower_kw: FloatArray, upper_kw: FloatArray, least_price: FloatArray, most_price: FloatArray, blocks: int,
        radius: float, budget: Budget,
    ) -> None:  # fmt: skip
        """Begin without columns.

        Args:
            lower_kw: Least sum of each row, (L, T).
            upper_kw: Largest sum of each row, (L, T).
            least_price: Least price of each row, minus what a kW below costs, (L, T).
            most_price: Largest price of each row, what a kW above costs, (L, T).
            blocks: Number of blocks.
            radius: How far prices may first move.
            budget: Time and cancellation.
        """
        self._lower, self._upper, self._least, self._most = lower_kw, upper_kw, least_price, most_price
        self._blocks, self._radius, self._budget = blocks, radius, budget
        self._master: Master | None = None
        self._mixture: Mixture | None = None
        # answers one after the other, each with its blocks
        self._entries, self._costs = np.empty((0, lower_kw.size)), np.empty(0)
        self._count = 0
        self._center = np.zeros_like(lower_kw)
        self._promised, self._stalled = -np.inf, 0
        self.bound, self.objective = -np.inf, np.inf
        self._mixed_bound = -np.inf
        if not blocks:
            self.bound = self.objective = self._violation(np.zeros_like(lower_kw))

    def take(self, price: FloatArray, least: float, power_kw: FloatArray, cost: FloatArray) -> None:
        """Take the answers of all blocks at some prices.

        Args:
            price: Prices of the rows at which the blocks were asked, (L, T).
            least: Proven least cost of the blocks at these prices.
            power_kw: What each block adds to the rows, (blocks, L, T).
            cost: Cost of each block's answer without the prices of these rows, (blocks,).
        """
        self._follow(price, least - limits_worth(price, self._lower, self._upper))
        if self._master is None and self._lower.size:
            scale_kw = max(float(np.abs(power_kw).sum(axis=0).max()), 1e-3)
            self._master = Master(
                self._lower, self._upper, self._blocks, scale_kw, max(float(np.abs(cost).sum()), 1e-3), self._budget
            )
        if self._master is not None:
            self._master.add(np.arange(self._blocks), power_kw, cost)
        begin, self._count = self._count, self._count + self._blocks
        if self._count > len(self._costs):
            room = max(2 * self._count, 16)
            self._entries = np.concatenate([self._entries[:begin], np.empty((room - begin, self._lower.size))])
            self._costs = np.concatenate([self._costs[:begin], np.empty(room - begin)])
        self._entries[begin : self._count] = power_kw.reshape(self._blocks, -1)
        self._costs[begin : self._count] = cost

    def recost(self, cost: FloatArray) -> None:
        """Give all answers so far other costs, (answers x blocks,); the bound is then unknown."""
        self._costs[: self._count] = cost
        self.bound, self._promised, self._mixed_bound, self._stalled = -np.inf, -np.inf, -np.inf, 0
        if self._master is not None:
            self._master.recost(cost)
        self.mix()

    def mix(self) -> bool:
        """Mix what was taken; False where time has run out."""
        if self._master is None:
            if self._count:
                self.objective = float(self._costs[self._count - self._blocks : self._count].sum())
            return True
        self._master.hold(
            np.maximum(self._least, self._center - self._radius), np.minimum(self._most, self._center + self._radius)
        )
        mixture = self._master.solve()
        if mixture is None:
            if self._mixture is None:
                # what the last answer costs, which is the plan then
                last = slice(self._count - self._blocks, self._count)
                rows = self._entries[last].sum(axis=0).reshape(self._lower.shape)
                self.objective = float(self._costs[last].sum()) + self._violation(rows)
            return False
        least = _SETTLED * max(abs(self.bound), abs(mixture.objective))
        moved = self.bound - self._mixed_bound > least or abs(self._promised - mixture.objective) > least
        self._stalled = 0 if moved else self._stalled + 1
        self._mixture, self._promised, self._mixed_bound = mixture, mixture.objective, self.bound
        rows = (mixture.weight @ self._entries[: self._count]).reshape(self._lower.shape)
        self.objective = float(mixture.weight @ self._costs[: self._count]) + self._violation(rows)
        return True

    def _violation(self, rows_kw: FloatArray) -> float:
        """Cost of what lies outside."""
        above, below = np.maximum(rows_kw - self._upper, 0.0), np.maximum(self._lower - rows_kw, 0.0)
        return float((above * self._most).sum() - (below * self._least).sum())

    def _follow(self, price: FloatArray, bound: float) -> None:
        """Move the box to prices that prove more, and widen it where it held back a step that kept its promise."""
        if bound <= self.bound:
            return
        if np.isfinite(self.bound) and self._lower.size:
            kept = bound - self.bound >= _KEPT_SHARE * (self._promised - self.bound)
            moved = float(np.abs(price - self._center).max())
            if kept and moved > _EDGE * (1.0 - _SMOOTHING) * self._radius:
                self._radius *= _WIDER
        self.bound, self._center = bound, price

    def next_price(self) -> FloatArray:
        """Prices to ask at next, (L, T)."""
        if self._mixture is None:
            return self._center
        # where smoothed prices change nothing, the master's own may
        smoothing = 0.0 if self._stalled else _SMOOTHING
        return np.clip(smoothing * self._center + (1.0 - smoothing) * self._mixture.price, self._least, self._most)

    @property
    def price(self) -> FloatArray:
        """Prices of the rows, (L, T)."""
        return self._center if self._mixture is None else self._mixture.price

    @property
    def settled(self) -> bool:
        """Whether no price promises more: what is left of the gap is not convex, or rounding."""
        if self._mixture is None:
            return bool(np.isfinite(self.bound)) and (not self._lower.size or not self._blocks)
        promises = self._promised - self.bound > _SETTLED * max(abs(self.bound), abs(self._promised))
        return not promises or self._stalled >= _MOST_STALLED

    def weights(self, answers: int) -> FloatArray:
        """Weight of each answer taken, (answers, blocks); the last one where nothing was mixed."""
        weight = np.zeros((answers, self._blocks))
        if self._mixture is None:
            weight[-1:] = 1.0
            return weight
        mixed = self._mixture.weight.reshape(-1, self._blocks)
        mixed = np.where(mixed < _LEAST_WEIGHT, 0.0, mixed)
        weight[: len(mixed)] = mixed / mixed.sum(axis=0)
        return weight
