"""Dantzig–Wolfe decomposition: ask the assets at prices, mix their answers, and prove how good the mixture is.

Every round asks all blocks at the prices of limits μ. The answers become columns of the master, whose mixture is a plan
and whose duals are new prices; each answer proves the bound

    q(μ) = Σ_i min_{X_i} (price + μ)·x - Σ limits' worth at μ.

The next prices lie between those of the best bound and the master's: duals of a master with few columns are far off
(Wentges 1997). The gap is the best mixture less the best bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from evflex.engine.budget import Budget
from evflex.engine.dispatch.columns import COST_SIGN, FIGURES, SHORTFALL_COST, SHORTFALL_KWH, Columns
from evflex.engine.dispatch.coupling import Coupling, limits_worth
from evflex.engine.dispatch.master import Master, Mixture
from evflex.engine.dispatch.parts import Mixing, Part
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.workers import Workers
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import relative_gap

# How far the next prices lie from the master's towards those of the best bound (measured).
_SMOOTHING = 0.3
# A step keeps its promise with this share of it; a box that holds it back is then so much wider.
_KEPT_SHARE, _EDGE, _WIDER = 0.3, 0.9, 2.0
# Weights below this are none.
_LEAST_WEIGHT = 1e-12
_MOST_ROUNDS = 1_000
# After so many rounds without progress what is left of the gap is not convex.
_MOST_STALLED = 5
# A gap of this share of the cost is rounding.
_ROUNDING = 1e-9
# A promise of this share of the cost is none.
_SETTLED = 1e-10


@dataclass(frozen=True, slots=True)
class Stop:
    """When a plan is good enough: either gap ends the solve."""

    relative_gap: float
    absolute_gap: float

    def met(self, objective: float, bound: float, scale: float) -> bool:
        """Whether a cost and a bound are close enough, up to rounding."""
        close = objective - bound <= max(self.absolute_gap, _ROUNDING * scale)
        return close or relative_gap(objective, bound, scale) <= self.relative_gap


class FleetOracle:
    """All parts of a fleet behind one question: what would you do at these prices?

    Attributes:
        parts: The parts.
        coupling: What assets share.
        prices: Prices without limits.
        workers: Threads.
        absent_need_kwh: Energy that assets without a part need, and lack, (some,).
        fixed: Figures of assets without a part, (6,).
        signature: Signature of each block of all parts, one part after the other, (B,).
    """

    def __init__(
        self, parts: list[Part], coupling: Coupling, prices: Prices, workers: Workers, absent_need_kwh: FloatArray,
        absent_short_price: FloatArray,
    ) -> None:  # fmt: skip
        """Put parts together."""
        self.parts, self.coupling, self.prices, self.workers = parts, coupling, prices, workers
        self.absent_need_kwh, self.fixed = absent_need_kwh, np.zeros(FIGURES)
        self.fixed[SHORTFALL_KWH] = absent_need_kwh.sum()
        self.fixed[SHORTFALL_COST] = absent_need_kwh @ absent_short_price
        signatures = [part.block_signature for part in parts]
        self.signature: IntArray = np.concatenate([np.empty(0, dtype=np.int64), *signatures])

    def ask(self, limit_price: FloatArray) -> Columns:
        """Columns of all blocks at prices of limits (L, T)."""
        added = self.coupling.price(limit_price)
        answers = [part.respond(added, self.prices, self.workers) for part in self.parts]
        return Columns.joined(answers, len(self.prices.draw))

    def rows_kw(self, power_kw: FloatArray) -> FloatArray:
        """Sums of the shared rows, (L, T), from the power of each block, (B, T)."""
        rows: FloatArray = self.coupling.member[self.signature].astype(np.float64).T @ power_kw
        return rows


@dataclass(frozen=True, slots=True)
class Decomposed:
    """A mixture of answers with its bound.

    Attributes:
        asked: Prices of limits at which assets were asked, (K, L, T).
        weight: Weight of each block's answer, (K, B).
        power_kw: Power of each block, (B, T).
        figures: Figures of each block, and in the last row of assets without a part, (B + 1, 6).
        above_kw: Violation of each row from above, (L, T).
        below_kw: Violation of each row from below, (L, T).
        objective: Cost of the mixture.
        bound: Proven lower bound.
        price: Prices of the limits at the end, (L, T).
        met: Whether the asked gap is proven.
    """

    asked: FloatArray
    weight: FloatArray
    power_kw: FloatArray
    figures: FloatArray
    above_kw: FloatArray
    below_kw: FloatArray
    objective: float
    bound: float
    price: FloatArray
    met: bool

    @property
    def gap(self) -> float:
        """Relative gap."""
        return relative_gap(self.objective, self.bound, cost_scale(self.figures, self.objective))


def cost_scale(figures: FloatArray, objective: float) -> float:
    """Sum of the absolute terms of a plan from the figures of its blocks and its cost, which includes violations."""
    terms = np.abs(figures.sum(axis=0))
    violation = max(objective - float(figures.sum(axis=0) @ COST_SIGN), 0.0)
    return float(terms[COST_SIGN != 0.0].sum()) + violation


def decompose(
    oracle: FleetOracle, start: FloatArray, radius: float, stop: Stop, budget: Budget, report: Callable[[int, Decomposed], None]
) -> Decomposed:
    """Solve a fleet under its shared rows.

    Args:
        oracle: The fleet.
        start: Prices to begin with, (L, T).
        radius: How far prices may first move from there, per kW and step.
        stop: When the plan is good enough.
        budget: Time and cancellation; at least one round is done.
        report: Called after each round with its number and what is found.
    """
    coupling = oracle.coupling
    components = [
        _Component(oracle, rows, blocks, radius, budget) for rows, blocks in _independent(coupling, oracle.signature)
    ]
    asked: list[FloatArray] = []
    answers: list[Columns] = []
    price = coupling.admissible(start)
    for rounds in range(1, _MOST_ROUNDS + 1):
        columns = oracle.ask(price)
        asked.append(price)
        answers.append(columns)
        priced = price
        in_time = oracle.workers.each(lambda component, at=priced, new=columns: component.round(at, new), components)
        found = _gather(oracle, components, asked, answers, stop)
        report(rounds, found)
        if found.met or budget.spent or not all(in_time) or all(component.settled for component in components):
            break
        price = priced.copy()
        for component in components:
            price[component.rows] = component.next_price()
        price = coupling.admissible(price)
    return found


def _independent(coupling: Coupling, signature: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Rows and blocks that share nothing with others; the last has no rows, and the blocks without any."""
    member = coupling.member.astype(np.int64)
    links = sparse.csr_array(member.T @ member)
    count, label = sparse.csgraph.connected_components(links, directed=False)
    of_signature = np.where(member.any(axis=1), label[member.argmax(axis=1)] if len(label) else -1, -1)
    of_block = of_signature[signature]
    parts = [(np.flatnonzero(label == k), np.flatnonzero(of_block == k)) for k in range(count)]
    return [*parts, (np.empty(0, dtype=np.int64), np.flatnonzero(of_block == -1))]


class _Component:
    """Rows and blocks that share nothing with others: columns, master and bound."""

    def __init__(self, oracle: FleetOracle, rows: IntArray, blocks: IntArray, radius: float, budget: Budget) -> None:
        self.rows, self.blocks = rows, blocks
        self._budget, self._radius = budget, radius
        coupling = oracle.coupling
        self._lower, self._upper = coupling.lower_kw[rows], coupling.upper_kw[rows]
        self._least, self._most = (side[rows] for side in coupling.price_range())
        self._counted = coupling.member[oracle.signature[blocks]][:, rows].astype(np.float64)
        self._master: Master | None = None
        self._mixture: Mixture | None = None
        self._promised = -np.inf
        self._stalled = 0
        self.bound = -np.inf if len(blocks) else _unmet(coupling, rows)
        self._center = np.zeros_like(self._lower)

    def round(self, price: FloatArray, columns: Columns) -> bool:
        """Take answers and mix; False where time has run out."""
        if not len(self.blocks):
            return True
        own, power = price[self.rows], columns.power_kw[self.blocks]
        bound = float(columns.least[self.blocks].sum()) - limits_worth(own, self._lower, self._upper)
        if not len(self.rows):
            self.bound = max(self.bound, bound)
            return True
        if self._master is None:
            scale_kw = float(np.abs(power).sum(axis=0).max(initial=0.0))
            cost = float(np.abs(columns.figures[self.blocks].sum(axis=0)).sum())
            self._master = Master(
                self._lower, self._upper, len(self.blocks), max(scale_kw, 1e-3), max(cost, 1e-3), self._budget
            )
        known = self.bound
        self._follow(own, bound)
        added = self._counted[:, :, None] * power[:, None, :]
        self._master.add(np.arange(len(self.blocks)), added, columns.cost[self.blocks])
        self._master.hold(
            np.maximum(self._least, self._center - self._radius), np.minimum(self._most, self._center + self._radius)
        )
        mixture = self._master.solve()
        if mixture is not None:
            least = _SETTLED * max(abs(self.bound), abs(mixture.objective))
            moved = self.bound - known > least or abs(self._promised - mixture.objective) > least
            self._stalled = 0 if moved else self._stalled + 1
            self._mixture, self._promised = mixture, mixture.objective
        return mixture is not None

    def _follow(self, price: FloatArray, bound: float) -> None:
        """Move the box to prices that kept what the master promised, and widen it where it held them back."""
        if bound <= self.bound:
            return
        kept = bound - self.bound >= _KEPT_SHARE * (self._promised - self.bound)
        at_edge = np.abs(price - self._center).max() > _EDGE * (1.0 - _SMOOTHING) * self._radius
        if np.isfinite(self.bound) and kept and at_edge:
            self._radius *= _WIDER
        self.bound, self._center = bound, price

    def next_price(self) -> FloatArray:
        """Prices to ask at next, (rows, T)."""
        if self._mixture is None:
            return self._center
        # where smoothed prices change nothing, the master's own may
        smoothing = 0.0 if self._stalled else _SMOOTHING
        return smoothing * self._center + (1.0 - smoothing) * self._mixture.price

    @property
    def settled(self) -> bool:
        """Whether no price promises more: what is left of the gap is not convex, or rounding."""
        promise = self._promised - self.bound
        promises = promise > _SETTLED * max(abs(self.bound), abs(self._promised))
        return self._mixture is None or not promises or self._stalled >= _MOST_STALLED

    @property
    def price(self) -> FloatArray:
        """Prices of the rows, (rows, T)."""
        return self._center if self._mixture is None else self._mixture.price

    def weights(self, rounds: int) -> FloatArray:
        """Weight of each answer so far, (rounds, blocks); the first answer where nothing was mixed."""
        weight = np.zeros((rounds, len(self.blocks)))
        if self._mixture is None:
            weight[0] = 1.0
            return weight
        mixed = self._mixture.weight.reshape(-1, len(self.blocks))
        mixed = np.where(mixed < _LEAST_WEIGHT, 0.0, mixed)
        weight[: len(mixed)] = mixed / mixed.sum(axis=0)
        return weight


def _unmet(coupling: Coupling, rows: IntArray) -> float:
    """Cost of rows that add up nothing."""
    above, below = coupling.outside(np.zeros_like(coupling.lower_kw))
    return float(coupling.violation_price[rows] @ (above + below)[rows].sum(axis=1))


def _gather(
    oracle: FleetOracle, components: list[_Component], asked: list[FloatArray], answers: list[Columns], stop: Stop
) -> Decomposed:
    """What all components have found, as one plan."""
    coupling, blocks = oracle.coupling, len(oracle.signature)
    weight, price = np.zeros((len(asked), blocks)), np.zeros_like(coupling.lower_kw)
    for component in components:
        weight[:, component.blocks] = component.weights(len(asked))
        price[component.rows] = component.price
    power, figures = np.zeros((blocks, len(oracle.prices.draw))), np.zeros((blocks + 1, FIGURES))
    figures[blocks] = oracle.fixed
    for share, columns in zip(weight, answers, strict=True):
        if share.any():
            power += share[:, None] * columns.power_kw
            figures[:blocks] += share[:, None] * columns.figures
    above, below = coupling.outside(oracle.rows_kw(power))
    objective = float(figures.sum(axis=0) @ COST_SIGN) + coupling.violation_cost(above, below)
    fixed = float(oracle.fixed @ COST_SIGN)
    bound = min(sum(component.bound for component in components) + fixed, objective)
    met = stop.met(objective, bound, cost_scale(figures, objective))
    return Decomposed(np.array(asked), weight, power, figures, above, below, objective, bound, price, met)


def mixing_of(found: Decomposed, coupling: Coupling, signature: IntArray) -> Mixing:
    """Vectors and weights of each block."""
    rounds, signatures = len(found.asked), len(coupling.member)
    added = np.array([coupling.price(price) for price in found.asked])
    used = found.weight > 0.0
    block, k = np.nonzero(used.T)
    begin = np.concatenate([[0], np.cumsum(used.sum(axis=0))]).astype(np.int64)
    return Mixing(
        added.reshape(rounds * signatures, -1), begin, (k * signatures + signature[block]).astype(np.int64),
        found.weight[k, block],
    )  # fmt: skip
