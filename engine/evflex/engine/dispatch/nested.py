"""Limits above limits: a price for the rows of the whole fleet around the problems of its feeders.

With the price of the fleet's rows given, feeders are independent again. Their mixtures at that price are columns of an
outer master, whose duals are the next price; the bounds of the feeders add up to the bound. A master of all rows at
once would need a column for every combination of feeders' prices, and stalls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.decomposition import Decomposed, Pool, Stop
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.mixer import Mixer
from evflex.engine.dispatch.model import DispatchProblem, LimitScope
from evflex.engine.supply_tree import FloatArray, IntArray

# With fewer limits of one scope a master of all rows is as fast.
_WORTH_NESTING = 6
_MOST_PRICES = 200
# Rounds of the feeders at one price of the fleet, and the share of the asked gap at which they have done enough.
_MOST_INNER, _INNER_SHARE = 40, 0.3
# Relative gap of the whole to begin with, and the share of it at which feeders have done enough.
_FIRST_GAP, _INNER_OF_OUTER = 0.02, 0.2


def decompose_nested(
    oracle: FleetOracle, outer_rows: IntArray, start: FloatArray, radius: float, stop: Stop, budget: Budget,
    report: Callable[[Decomposed], None],
) -> Decomposed:  # fmt: skip
    """Solve a fleet whose rows fall apart without some of them.

    Args:
        oracle: The fleet.
        outer_rows: Rows that hold the others together.
        start: Prices to begin with, of which the last is taken for the best, (K, L, T) with K >= 1.
        radius: How far prices may first move from there, per kW and step.
        stop: When the plan is good enough.
        budget: Time and cancellation.
        report: Called for each price of the outer rows with what is found.
    """
    coupling = oracle.coupling
    inner_rows = np.setdiff1d(np.arange(len(coupling.lower_kw)), outer_rows)
    pool = Pool(oracle, inner_rows, radius, budget)
    least, most = (side[outer_rows] for side in coupling.price_range())
    components = pool.components
    lower, upper = coupling.lower_kw[outer_rows], coupling.upper_kw[outer_rows]
    outer = Mixer(lower, upper, least, most, len(components), radius, budget)
    weights: list[FloatArray] = []
    gap, found = _FIRST_GAP, None
    price = pool.begin(start)
    while True:
        if weights or len(start) > 1:
            # what was proven so far holds at other prices of the outer rows
            pool.wake(price)
            price = pool.next_price(price) if weights else price
        # feeders need not be solved much better than the price around them is known
        share = max(_INNER_SHARE * stop.relative_gap, _INNER_OF_OUTER * gap)
        price = _settle_inside(pool, price, Stop(share, _INNER_SHARE * stop.absolute_gap), budget)
        weights.append(pool.weights())
        power, _ = pool.mixed(weights[-1])
        outside = np.array([component.adds(outer_rows, power) for component in components])
        at = price[outer_rows]
        costs = np.array([component.mixer.objective for component in components]) - (outside * at).sum(axis=(1, 2))
        outer.take(at, sum(component.mixer.bound for component in components), outside, costs)
        in_time = outer.mix()
        bound = outer.bound
        prices = price.copy()
        prices[outer_rows] = outer.price
        found = pool.found(stop, _combined(pool, outer, weights), bound, prices).better_of(found, stop)
        report(found)
        gap = min(gap, found.gap)
        if found.met or not in_time or outer.settled or budget.spent or len(weights) >= _MOST_PRICES:
            return found
        price = price.copy()
        price[outer_rows] = outer.next_price()


def rows_that_hold_together(problem: DispatchProblem, oracle: FleetOracle) -> IntArray:
    """Rows without which many others are independent: of the fleet, of reserves, and of the scope with fewer limits.

    None where the rows are so few that one master does for all, or independent anyhow.
    """
    rows = len(oracle.coupling.lower_kw)
    of = {scope: [r for r, limit in enumerate(problem.limits) if limit.scope is scope] for scope in LimitScope}
    groups, operators = of[LimitScope.GROUP], of[LimitScope.OPERATOR]
    inner = groups if len(groups) >= len(operators) else operators
    if len(inner) < _WORTH_NESTING or len(inner) == rows:
        return np.empty(0, dtype=np.int64)
    return np.setdiff1d(np.arange(rows), inner)


def _settle_inside(pool: Pool, price: FloatArray, enough: Stop, budget: Budget) -> FloatArray:
    """Rounds at given prices of the outer rows, until the inner gap is small; returns the last prices."""
    for _ in range(_MOST_INNER):
        pool.round(price)
        pool.rest(enough)
        if budget.spent or pool.settled or pool.good_enough(enough):
            break
        price = pool.next_price(price)
    return price


def _combined(pool: Pool, outer: Mixer, weights: list[FloatArray]) -> FloatArray:
    """Weights of all answers: those of each price's mixtures in the proportion of the outer master."""
    share = outer.weights(len(weights))
    total = np.zeros_like(weights[-1])
    for of_component, inner in zip(share, weights, strict=True):
        for k, component in enumerate(pool.components):
            total[: len(inner), component.blocks] += of_component[k] * inner[:, component.blocks]
    return total
