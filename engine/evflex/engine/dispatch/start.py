"""Prices to begin with: those of a smaller problem that is like the one to be solved.

Feeders with a limit each begin with the prices of all of them under one limit. A fleet with stores, whose answers are
dear, begins with the prices of a sample under a share of its limits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.dispatch.assets import dearest_price, only_charges
from evflex.engine.dispatch.build import build_oracle
from evflex.engine.dispatch.decomposition import Decomposed, Stop, decompose
from evflex.engine.dispatch.fleet_oracle import FleetOracle
from evflex.engine.dispatch.model import AssetKind, DispatchProblem, LimitScope, PortfolioLimit, Profiles
from evflex.engine.dispatch.prepared import prepare
from evflex.engine.supply_tree import FloatArray
from evflex.engine.workers import Workers

# How far prices may first move, as a share of the dearest price (measured: half or twice as much need as many rounds).
_RADIUS = 0.1
# The same around known prices, and how many of those that were asked for last are asked for again.
_KNOWN_RADIUS, _ASKED_AGAIN = 0.05, 20
# So many limits of one scope are worth a solve for their sum.
_MANY_LIMITS = 4
# A fleet with so many stores is worth a sample of so many assets.
_MANY_STORES, _SAMPLE = 20_000, 4_000
# A smaller problem need not be solved as exactly.
_COARSER = 2.0


def known_prices(problem: DispatchProblem, oracle: FleetOracle, stop: Stop, budget: Budget) -> tuple[FloatArray, float]:
    """Prices to begin with of the rows of a problem and its oracle, (K, L, T), and how far they may first move."""
    rows, workers = len(oracle.coupling.lower_kw), oracle.workers
    dearest = dearest_price(problem) * problem.grid.step_h
    none = np.zeros((1, rows, problem.grid.step_count)), _RADIUS * dearest
    scopes = {limit.scope for limit in problem.limits}
    if len(problem.limits) >= _MANY_LIMITS and len(scopes) == 1 and rows == len(problem.limits):
        found = _solve(_under_one_limit(problem), stop, budget, workers)
        return np.repeat(_last_asked(found), rows, axis=1), _KNOWN_RADIUS * dearest
    if len(problem.limits) >= _MANY_LIMITS and scopes == {LimitScope.FLEET, LimitScope.GROUP}:
        of_fleet = [r for r, limit in enumerate(problem.limits) if limit.scope is LimitScope.FLEET]
        found = _solve(replace(problem, limits=tuple(problem.limits[r] for r in of_fleet)), stop, budget, workers)
        known = _last_asked(found)
        start = np.zeros((len(known), rows, problem.grid.step_count))
        start[:, of_fleet] = known
        return start, _KNOWN_RADIUS * dearest
    fleet = problem.fleet
    stores = int((~only_charges(fleet) & (fleet.kind != AssetKind.PV)).sum())
    if rows and stores >= _MANY_STORES and len(problem.fleet) >= 4 * _SAMPLE:
        return _last_asked(_solve(_sampled(problem), stop, budget, workers)), _KNOWN_RADIUS * dearest
    return none


def _solve(problem: DispatchProblem, stop: Stop, budget: Budget, workers: Workers) -> Decomposed:
    oracle = build_oracle(prepare(problem), workers)
    start, radius = known_prices(problem, oracle, stop, budget)
    coarse = Stop(_COARSER * stop.relative_gap, stop.absolute_gap)
    return decompose(oracle, start, radius, coarse, budget, lambda found: None)


def _last_asked(found: Decomposed) -> FloatArray:
    """Prices that were asked for last, and those of the master, (K, L, T)."""
    return np.concatenate([found.asked[-_ASKED_AGAIN:], found.price[None]])


def _under_one_limit(problem: DispatchProblem) -> DispatchProblem:
    """The same fleet with the sum of its limits."""
    lower = np.sum([limit.lower_kw for limit in problem.limits], axis=0)
    upper = np.sum([limit.upper_kw for limit in problem.limits], axis=0)
    price = max(limit.violation_price_per_kwh for limit in problem.limits)
    return replace(problem, limits=(PortfolioLimit(LimitScope.FLEET, 0, lower, upper, price),))


def _sampled(problem: DispatchProblem) -> DispatchProblem:
    """Evenly spread assets under their share of limits and reserves."""
    fleet, count = problem.fleet, len(problem.fleet)
    rows = np.arange(0, count, count // _SAMPLE)
    share = len(rows) / count
    place = np.full(count, -1)
    place[rows] = np.arange(len(rows))
    kept = place[problem.profiles.asset] >= 0
    profiles = Profiles(place[problem.profiles.asset[kept]], problem.profiles.power_kw[kept])
    limits = [
        replace(limit, lower_kw=limit.lower_kw * share, upper_kw=limit.upper_kw * share) for limit in problem.limits
    ]
    reserves = [
        replace(reserve, up_kw=reserve.up_kw * share, down_kw=reserve.down_kw * share) for reserve in problem.reserves
    ]
    return replace(problem, fleet=fleet.take(rows), profiles=profiles, limits=tuple(limits), reserves=tuple(reserves))
