"""One node of the search for minimum powers: its bound, a plan, and where to branch.

In a node some session-steps rest, some charge with at least their minimum, and the others are free: there power may lie
between nothing and the minimum too. What charges draws its minimum for sure, so that minimum is taken off limits and
needs, and the simplex of sessions solves what is left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.charging.group_sums import sum_groups
from evflex.engine.charging.repair import repair_minimums
from evflex.engine.charging.repairable import Repairable
from evflex.engine.charging.session_problem import SharedProblem, lagrangian_bound
from evflex.engine.charging.session_simplex import solve_shared
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray

ChoiceArray = NDArray[np.int8]
FREE, RESTS, CHARGES = 0, 1, 2
# Rounding of powers (kW) and of limits' prices: what differs by less is equal.
_EPS_KW = 1e-7
_EPS_PRICE = 1e-12


@kernel
def examine(
    s: SharedProblem, r: Repairable, choice: ChoiceArray, guess: FloatArray, power: FloatArray, dual: FloatArray,
    repaired: FloatArray,
) -> tuple[float, float, int, int]:  # fmt: skip
    """Solve the relaxation of a node and repair its plan.

    Args:
        s: The whole problem without minimums.
        r: The same with minimums, as repair reads it.
        choice: FREE, RESTS or CHARGES, (n, T). Free steps that can no longer charge come to rest here.
        guess: Prices of the limits (<= 0) of the node above, (groups, T).
        power: Written: optimum of the relaxation, (n, T).
        dual: Written: prices of the limits, (groups, T).
        repaired: Written: a plan, (n, T).

    Returns:
        Lower bound on the cost of every plan in the node: infinite where there is none, minus infinity where the
        simplex gave up; cost of the repaired plan, infinite where it breaks a limit; session and step to branch on,
        -1 where every session draws nothing or its minimum.
    """
    rest, forced_cost = _take_off(s, r.low, choice)
    if forced_cost == np.inf:
        return np.inf, np.inf, -1, -1
    n = len(s.wanted)
    pivots = solve_shared(rest, guess, power, dual)
    if pivots < 0:
        return -np.inf, np.inf, -1, -1
    bound = lagrangian_bound(rest, dual) + forced_cost
    for i in range(n):
        for t in range(s.first[i], s.last[i]):
            if choice[i, t] == CHARGES:
                power[i, t] += r.low[i, t]
    repaired[:] = power
    load = sum_groups(repaired, s.presence, s.session_start, s.group, s.weight, s.upper.shape[0])
    repair_minimums(r, repaired, load)
    cost = _cost(s, repaired) if (load <= s.upper + _EPS_KW).all() else np.inf
    i, t = _where_to_branch(s, r.low, power, dual)
    return bound, cost, i, t


@inner_kernel
def _take_off(s: SharedProblem, low: FloatArray, choice: ChoiceArray) -> tuple[SharedProblem, float]:
    """What is left of the problem once sessions that charge have their minimum, and what these minimums cost.

    That is infinite where they break a limit or overfill a battery. Free steps whose minimum no longer fits rest.
    """
    n = len(s.wanted)
    high, upper = s.high.copy(), s.upper.copy()
    wanted, most = s.wanted.copy(), s.most.copy()
    cost = 0.0
    for i in range(n):
        for t in range(s.first[i], s.last[i]):
            if choice[i, t] == CHARGES:
                high[i, t] -= low[i, t]
                wanted[i] -= low[i, t]
                most[i] -= low[i, t]
                cost += s.price[t] * low[i, t]
                for k in range(s.session_start[i], s.session_start[i + 1]):
                    upper[s.group[k], t] -= low[i, t] * s.weight[k] / s.presence[i, t]
        if wanted[i] < 0.0:
            cost += s.value[i] * wanted[i]
            wanted[i] = 0.0
        if most[i] < -_EPS_KW:
            cost = np.inf
        most[i] = max(most[i], wanted[i])
    if upper.size > 0 and upper.min() < -_EPS_KW:
        cost = np.inf
    upper = np.maximum(upper, 0.0)
    for i in range(n):
        for t in range(s.first[i], s.last[i]):
            if choice[i, t] == FREE:
                fits = low[i, t] <= most[i] + _EPS_KW and low[i, t] <= high[i, t] + _EPS_KW
                for k in range(s.session_start[i], s.session_start[i + 1]):
                    fits &= low[i, t] * s.weight[k] / s.presence[i, t] <= upper[s.group[k], t] + _EPS_KW
                if not fits:
                    choice[i, t] = RESTS
            if choice[i, t] == RESTS:
                high[i, t] = 0.0
    rest = SharedProblem(
        s.price, high, s.first, s.last, wanted, most, s.short_price, s.value, s.presence, upper, s.session_start,
        s.group, s.weight,
    )  # fmt: skip
    return rest, cost


@inner_kernel
def _cost(s: SharedProblem, power: FloatArray) -> float:
    """Cost of a plan."""
    cost = 0.0
    for i in range(len(s.wanted)):
        drawn = 0.0
        for t in range(s.first[i], s.last[i]):
            cost += s.price[t] * power[i, t]
            drawn += power[i, t]
        cost += s.short_price[i] * max(0.0, s.wanted[i] - drawn) - s.value[i] * max(0.0, drawn - s.wanted[i])
    return cost


@inner_kernel
def _where_to_branch(s: SharedProblem, low: FloatArray, power: FloatArray, dual: FloatArray) -> tuple[int, int]:
    """Session and step below the minimum: in the step whose limits are the cheapest, the largest minimum.

    Measured on small sites beside a dozen other rules: it needs the fewest nodes. What a step with dear limits decides
    moves the others, what a cheap one decides stays; and a large minimum leaves the least choice to the others.
    """
    at_i, at_t, least_price = -1, -1, np.inf
    for t in range(power.shape[1]):
        price = -dual[:, t].sum()
        if price >= least_price - _EPS_PRICE:
            continue
        for i in range(power.shape[0]):
            if power[i, t] <= _EPS_KW or power[i, t] >= low[i, t] - _EPS_KW:
                continue
            larger = low[i, t] > low[at_i, t] + _EPS_KW
            if at_t != t or larger or (low[i, t] > low[at_i, t] - _EPS_KW and power[i, t] > power[at_i, t]):
                at_i, at_t, least_price = i, t, price
    return at_i, at_t
