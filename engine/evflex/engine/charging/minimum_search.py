"""Branch and bound on minimum powers, for small sites whose sessions only charge and pay for energy alone.

Where repair leaves a gap, most often the relaxation's bound is right and the plan is not: many vertices are optimal,
and few of them have every session draw nothing or its minimum. Each node of the search (Land and Doig 1960) decides for
one more session and step whether it rests or charges. The search dives: of two children it looks first at the one that
charges, until the bound closes the node, and goes on with the open node of least bound.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.branch_and_bound import ExactPlan
from evflex.engine.charging.evaluation import Evaluation, evaluate
from evflex.engine.charging.feasibility import keeps_rules, tidy
from evflex.engine.charging.minimum_node import CHARGES, FREE, RESTS, ChoiceArray, examine
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.relaxation import (
    RankedBound,
    Relaxation,
    shared_constant,
    shared_problem,
    shortfall_penalty,
)
from evflex.engine.charging.repairable import has_minimums, repairable
from evflex.engine.charging.site import Site
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import SCALE_FLOOR

# Nodes after which HiGHS is the faster (measured: what is not closed by then rarely is soon).
_MOST_NODES = 300
# Equal prices would send every session to the same steps first: each node starts from prices that differ by this share
# (measured: half the time of a node).
_GUESS_SPREAD = 0.01
# Share of the asked gap that the search leaves to rounding.
_ROUNDING = 1e-6


class _Node(NamedTuple):
    """An open node; those of least bound come first, and of equal ones the latest.

    Attributes:
        bound: Of the node above.
        turn: Less the number of nodes opened before.
        choice: What is decided, (n, T).
        guess: Prices of the limits in the node above (<= 0), (groups, T).
    """

    bound: float
    turn: int
    choice: ChoiceArray
    guess: FloatArray


def is_searchable(site: Site, relaxation: Relaxation) -> bool:
    """Whether the simplex of sessions solved the relaxation and minimums are all that it left out."""
    return relaxation.model is None and has_minimums(site)


def search_minimums(site: Site, relaxation: Relaxation, plan: Evaluation, budget: Budget) -> ExactPlan:
    """Search until the asked gap is met, nodes or time run out.

    Args:
        site: A searchable site without starts and quanta.
        relaxation: Its relaxation.
        plan: The best plan so far.
        budget: Time and cancellation.
    """
    search = _Search(site, relaxation, plan)
    least = search.run(relaxation, budget)
    # To rest is a plan: where no node has any, rounding closed them.
    objective = least + search.constant if least < np.inf else -np.inf
    bound = RankedBound(objective, {}, {"shortfall": shortfall_penalty(site)})
    found = search.plan.power_kw - site.given_kw if search.plan is not plan else None
    return ExactPlan(found, bound, budget.spent)


class _Search:
    """The best plan so far, and what every node needs."""

    def __init__(self, site: Site, relaxation: Relaxation, plan: Evaluation) -> None:
        self.site, self.plan = site, plan
        self.shared = shared_problem(site)
        self.repairable = repairable(site, Parts.whole(site), relaxation)
        self.constant = shared_constant(site)
        random = np.random.default_rng(len(self.shared.wanted))
        self.spread = 1.0 + _GUESS_SPREAD * random.standard_normal(self.shared.upper.shape)

    @property
    def cutoff(self) -> float:
        """A node whose bound is no lower needs no closer look: what it could save lies within the asked gap."""
        options, plan = self.site.options, self.plan
        if any(rank > 0.0 for rank in plan.ranks):
            return np.inf
        gap = max(options.absolute_gap, options.relative_gap * max(plan.scale, SCALE_FLOOR))
        return plan.objective - self.constant - (1.0 - _ROUNDING) * gap

    def run(self, relaxation: Relaxation, budget: Budget) -> float:
        """Lower bound on the cost of every plan, the site's constant left out."""
        choice = np.full(self.site.presence.shape, FREE, dtype=np.int8)
        prices = -np.maximum(relaxation.limit_price + relaxation.agreement_price, 0.0)
        node: _Node | None = _Node(relaxation.bound.objective - self.constant, 0, choice, prices)
        still_open: list[_Node] = []
        closed = np.inf
        nodes = 0
        while node is not None:
            if nodes == _MOST_NODES or budget.spent:
                closed = min(closed, node.bound)
                break
            nodes += 1
            bound, children = self._look_at(node, nodes)
            if children is not None:
                node, resting = children
                heapq.heappush(still_open, resting)
                continue
            closed = min(closed, bound)
            worth_it = bool(still_open) and still_open[0].bound < self.cutoff
            node = heapq.heappop(still_open) if worth_it else None
        return min([closed, *(node.bound for node in still_open)])

    def _look_at(self, node: _Node, turn: int) -> tuple[float, tuple[_Node, _Node] | None]:
        """Bound of a node, and its children, the one that charges first; None where the node is closed."""
        choice, dual = node.choice, np.zeros(node.guess.shape)
        power, repaired = np.zeros(choice.shape), np.zeros(choice.shape)
        bound, cost, i, t = examine(
            self.shared, self.repairable, choice, node.guess * self.spread, power, dual, repaired
        )
        bound = max(bound, node.bound)
        if cost < self.plan.objective - self.constant or self.cutoff == np.inf:
            self._offer(repaired)
        if i < 0 or bound >= self.cutoff:
            return bound, None
        charging, resting = choice.copy(), choice.copy()
        charging[i, t], resting[i, t] = CHARGES, RESTS
        return bound, (_Node(bound, -turn, charging, dual), _Node(bound, -turn, resting, dual))

    def _offer(self, power_kw: FloatArray) -> None:
        """Take a plan that keeps every rule, if it is better."""
        power_kw = tidy(self.site, power_kw)
        if keeps_rules(self.site, power_kw):
            candidate = evaluate(self.site, power_kw + self.site.given_kw)
            if candidate.better_than(self.plan):
                self.plan = candidate
