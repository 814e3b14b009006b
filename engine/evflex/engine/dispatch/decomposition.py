"""Dantzig–Wolfe decomposition: ask the assets at prices, mix their answers, and prove how good the mixture is.

Every round asks the blocks at prices of limits μ. The answers become columns of a master, whose mixture is a plan and
whose duals are the next prices; each answer proves the bound

    q(μ) = Σ_i min_{X_i} (price + μ)·x - Σ limits' worth at μ,

and the gap is the best mixture less the best bound. Rows that no other rows touch, such as those of a feeder, are mixed
by themselves, all from the same round of answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import sparse

from evflex.engine.budget import Budget
from evflex.engine.dispatch.columns import COST_SIGN, FIGURES, Columns
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.mixer import Mixer
from evflex.engine.dispatch.parts import Mixing
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import relative_gap

_MOST_ROUNDS = 1_000
# Rows by themselves are done at this share of the gap that is asked of all.
_OWN_SHARE = 0.5
# A gap of this share of the cost is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Stop:
    """When a plan is good enough: either gap ends the solve."""

    relative_gap: float
    absolute_gap: float

    def share(self, share: float) -> Stop:
        """The same for a share of the gaps."""
        return Stop(share * self.relative_gap, share * self.absolute_gap)

    def met(self, objective: float, bound: float, scale: float) -> bool:
        """Whether a cost and a bound are close enough, up to rounding."""
        close = objective - bound <= max(self.absolute_gap, _ROUNDING * scale)
        return close or relative_gap(objective, bound, scale) <= self.relative_gap


@dataclass(frozen=True, slots=True)
class Decomposed:
    """A mixture of answers with its bound.

    Attributes:
        asked: Prices of limits at which assets were asked, (K, L, T).
        weight: Weight of each block's answer, (K, B).
        power_kw: Power of each block, (B, T).
        figures: Figures of each block, and in the last row of assets without a part, (B + 1, 6).
        objective: Cost of the mixture.
        bound: Proven lower bound.
        price: Prices of the limits at the end, (L, T).
        met: Whether the asked gap is proven.
        rounds: Rounds of answers.
    """

    asked: FloatArray
    weight: FloatArray
    power_kw: FloatArray
    figures: FloatArray
    objective: float
    bound: float
    price: FloatArray
    met: bool
    rounds: int

    def mixings(self, oracle: FleetOracle) -> list[Mixing]:
        """What the blocks of each part mix."""
        rounds, signatures = len(self.asked), len(oracle.coupling.member)
        added = np.array([oracle.coupling.price(price) for price in self.asked]).reshape(rounds * signatures, -1)
        used = self.weight > 0.0
        block, k = np.nonzero(used.T)
        begin = np.concatenate([[0], np.cumsum(used.sum(axis=0))]).astype(np.int64)
        vector = (k * signatures + oracle.signature[block]).astype(np.int64)
        mixing = Mixing(added, begin, vector, self.weight[k, block])
        ends = np.cumsum([0, *(len(part.block_signature) for part in oracle.parts)])
        return [mixing.blocks(int(a), int(b)) for a, b in pairwise(ends)]

    def better_of(self, before: Decomposed | None, stop: Stop) -> Decomposed:
        """The cheaper of this and what was found before, with the better bound.

        A mixture at prices held in a box may be dearer than an earlier one.
        """
        if before is None:
            return self
        bound = max(self.bound, before.bound)
        best = self if self.objective <= before.objective else before
        bound = min(bound, best.objective)
        met = stop.met(best.objective, bound, cost_scale(best.figures, best.objective))
        return replace(best, bound=bound, met=met, rounds=self.rounds)

    def under(self, bound: float, stop: Stop) -> Decomposed:
        """The same with the bound of a relaxation."""
        bound = min(bound, self.objective)
        met = stop.met(self.objective, bound, cost_scale(self.figures, self.objective))
        return replace(self, bound=bound, met=met)

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
    oracle: FleetOracle, start: FloatArray, radius: float, stop: Stop, budget: Budget,
    report: Callable[[Decomposed], None],
) -> Decomposed:  # fmt: skip
    """Solve a fleet under its shared rows.

    Args:
        oracle: The fleet.
        start: Prices to begin with, of which the last is taken for the best, (K, L, T) with K >= 1.
        radius: How far prices may first move from there, per kW and step.
        stop: When the plan is good enough.
        budget: Time and cancellation; at least one round is done.
        report: Called after each round with what is found.
    """
    pool = Pool(oracle, np.arange(len(oracle.coupling.lower_kw)), radius, budget)
    price, found = pool.begin(start), None
    while True:
        in_time = pool.round(price)
        found = pool.found(stop).better_of(found, stop)
        report(found)
        if found.met or not in_time or pool.settled or budget.spent or found.rounds >= _MOST_ROUNDS:
            return found
        pool.rest(stop)
        price = pool.next_price(price)


class Pool:
    """Answers of all rounds, and the components that mix them.

    Attributes:
        components: Rows and blocks that share nothing with others.
    """

    def __init__(self, oracle: FleetOracle, rows: IntArray, radius: float, budget: Budget) -> None:
        """Begin without answers.

        Args:
            oracle: The fleet.
            rows: Rows that are mixed here; the prices of others count as given.
            radius: How far prices may first move.
            budget: Time and cancellation.
        """
        self._oracle, self._budget = oracle, budget
        self.components = [Component(oracle, *part, radius, budget) for part in _independent(oracle, rows)]
        self._own_share = _OWN_SHARE
        self._asked: list[FloatArray] = []
        self._answers: list[Columns] = []

    @property
    def settled(self) -> bool:
        """Whether no component can prove more."""
        return all(component.mixer.settled for component in self.components)

    def begin(self, start: FloatArray) -> FloatArray:
        """Learn all prices but the last of (K, L, T), while there is time, and return the last."""
        admissible = [self._oracle.coupling.admissible(known) for known in start]
        for known in admissible[:-1]:
            if self._budget.spent:
                break
            self.learn(known)
        return admissible[-1]

    def learn(self, price: FloatArray) -> None:
        """Ask all that are awake at prices (L, T)."""
        awake = [component for component in self.components if component.awake]
        asked = np.zeros(len(self._oracle.signature), dtype=bool)
        for component in awake:
            asked[component.blocks] = True
        columns = self._oracle.ask(price, asked)
        for component in awake:
            component.take(len(self._asked), price, columns)
        self._asked.append(price)
        self._answers.append(columns)

    def round(self, price: FloatArray) -> bool:
        """Ask all that are awake at prices (L, T), and mix; False where time has run out."""
        self.learn(price)
        awake = [component for component in self.components if component.awake]
        return all(self._oracle.workers.each(lambda component: component.mixer.mix(), awake))

    def rest(self, stop: Stop) -> None:
        """Let components be that are good enough by themselves; never all, unless they are settled."""
        while not self.settled:
            for component in self.components:
                component.awake = not component.good_enough(stop.share(self._own_share))
            if any(component.awake for component in self.components):
                return
            # each by itself is, all together are not: their costs cancel out
            self._own_share *= _OWN_SHARE

    def good_enough(self, stop: Stop) -> bool:
        """Whether all components together are as good as asked."""
        mixers = [component.mixer for component in self.components]
        gap = sum(mixer.objective - mixer.bound for mixer in mixers)
        scale = sum(component.scale for component in self.components)
        return gap <= max(stop.relative_gap * scale, stop.absolute_gap)

    def wake(self, price: FloatArray) -> None:
        """Go on with all components at other prices of the rows that are mixed elsewhere, (L, T)."""
        for component in self.components:
            component.awake = len(component.blocks) > 0
        self._oracle.workers.each(lambda component: component.reprice(price, self._answers), self.components)

    def next_price(self, price: FloatArray) -> FloatArray:
        """Prices to ask at next, (L, T); rows that are not mixed here keep those that are given."""
        following = price.copy()
        for component in self.components:
            following[component.rows] = component.mixer.next_price()
        return following

    def weights(self) -> FloatArray:
        """Weight of each round's answer for each block, (rounds, B)."""
        weight = np.zeros((len(self._asked), len(self._oracle.signature)))
        for component in self.components:
            taken = np.array(component.taken, dtype=np.int64)
            weight[np.ix_(taken, component.blocks)] = component.mixer.weights(len(taken))
        return weight

    def mixed(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Powers (B, T) and figures (B, 6) of the blocks at such weights."""
        blocks, steps = len(self._oracle.signature), len(self._oracle.prices.draw)
        power, figures = np.zeros((blocks, steps)), np.zeros((blocks, FIGURES))
        for share, columns in zip(weight, self._answers, strict=False):
            at = np.flatnonzero(share)
            power[at] += share[at, None] * columns.power_kw[at]
            figures[at] += share[at, None] * columns.figures[at]
        return power, figures

    def found(
        self, stop: Stop, weight: FloatArray | None = None, bound: float | None = None, price: FloatArray | None = None
    ) -> Decomposed:
        """A mixture as a plan.

        Args:
            stop: When it is good enough.
            weight: Weights, those of the components where None, (rounds, B).
            bound: Proven bound without assets that have no part, that of the components where None.
            price: Prices of all rows, those of the components where None, (L, T).
        """
        oracle, coupling = self._oracle, self._oracle.coupling
        if weight is None:
            weight = self.weights()
        power, figures = self.mixed(weight)
        figures = np.vstack([figures, oracle.fixed])
        above, below = coupling.outside(oracle.rows_kw(power))
        objective = float(figures.sum(axis=0) @ COST_SIGN) + coupling.violation_cost(above, below)
        if bound is None:
            bound = sum(component.mixer.bound for component in self.components)
        bound = min(bound + float(oracle.fixed @ COST_SIGN), objective)
        if price is None:
            price = np.zeros_like(coupling.lower_kw)
            for component in self.components:
                price[component.rows] = component.mixer.price
        met = stop.met(objective, bound, cost_scale(figures, objective))
        asked = np.array(self._asked)
        return Decomposed(asked, weight, power, figures, objective, bound, price, met, len(asked))


class Component:
    """Rows and blocks that share nothing with others.

    Attributes:
        rows: Rows, (l,).
        blocks: Blocks, (b,).
        mixer: What mixes them.
        taken: Rounds whose answers were taken.
        awake: Whether it still asks.
        scale: Sum of the absolute terms of its last answer.
    """

    def __init__(self, oracle: FleetOracle, rows: IntArray, blocks: IntArray, radius: float, budget: Budget) -> None:
        """Begin without answers."""
        self.rows, self.blocks = rows, blocks
        coupling = oracle.coupling
        self._member = coupling.member[oracle.signature[blocks]].astype(np.float64)
        least, most = (side[rows] for side in coupling.price_range())
        self.mixer = Mixer(coupling.lower_kw[rows], coupling.upper_kw[rows], least, most, len(blocks), radius, budget)
        self.taken: list[int] = []
        self.awake = len(blocks) > 0
        self.scale = 0.0

    def take(self, number: int, price: FloatArray, columns: Columns) -> None:
        """Take the answers of a round."""
        power = columns.power_kw[self.blocks]
        self.taken.append(number)
        self.scale = float(np.abs(columns.figures[self.blocks].sum(axis=0)).sum())
        entries = self._member[:, self.rows, None] * power[:, None, :]
        least = float(columns.least[self.blocks].sum())
        self.mixer.take(price[self.rows], least, entries, self._cost(price, columns))

    def reprice(self, price: FloatArray, answers: list[Columns]) -> None:
        """Cost all answers anew at other prices of the rows that are mixed elsewhere."""
        if self.taken:
            self.mixer.recost(np.concatenate([self._cost(price, answers[number]) for number in self.taken]))

    def _cost(self, price: FloatArray, columns: Columns) -> FloatArray:
        """Cost of each block's answer with the prices of rows that are mixed elsewhere, (b,)."""
        cost: FloatArray = columns.cost[self.blocks]
        elsewhere = np.ones(len(price), dtype=bool)
        elsewhere[self.rows] = False
        if elsewhere.any():
            added = self._member[:, elsewhere] @ price[elsewhere]
            cost = cost + (added * columns.power_kw[self.blocks]).sum(axis=1)
        return cost

    def adds(self, rows: IntArray, power_kw: FloatArray) -> FloatArray:
        """What powers of all blocks (B, T) add to some rows through those of this component, (l, T)."""
        added: FloatArray = self._member[:, rows].T @ power_kw[self.blocks]
        return added

    def good_enough(self, stop: Stop) -> bool:
        """Whether it needs no more answers."""
        if not len(self.blocks) or self.mixer.settled:
            return True
        gap = self.mixer.objective - self.mixer.bound
        return gap <= stop.relative_gap * self.scale


def _independent(oracle: FleetOracle, rows: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Rows and blocks that share nothing with others; the last has no rows, and the blocks without any."""
    member = oracle.coupling.member[:, rows]
    links = sparse.csr_array(member.T.astype(np.int64) @ member.astype(np.int64))
    count, label = sparse.csgraph.connected_components(links, directed=False)
    of_signature = np.full(len(member), -1)
    if len(rows):
        of_signature = np.where(member.any(axis=1), label[member.argmax(axis=1)], -1)
    of_block = of_signature[oracle.signature]
    parts = [(rows[label == k], np.flatnonzero(of_block == k)) for k in range(count)]
    return [*parts, (np.empty(0, dtype=np.int64), np.flatnonzero(of_block == -1))]
