"""The first point of the simplex of sessions: greedy, and so that sessions to come have room.

The least flexible session comes first and takes its cheapest free steps. Each limit that fills up on the way has
exactly one variable that filled it, so the working basis starts triangular.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.session_problem import EPS, FALL, RISE, STAY, SharedProblem, State, upper_bound
from evflex.engine.kernels import argsort, inner_kernel
from evflex.engine.supply_tree import FloatArray

# Steps whose prices differ by less than this share of the highest one are alike at the start.
_SPREAD = 0.01


@inner_kernel
def start_greedy(s: SharedProblem, state: State, guess: FloatArray, capacity: int) -> bool:
    """Fill sessions one by one, the least flexible first; the variables between their bounds become basic."""
    n, steps = s.high.shape
    most = np.empty(n)
    for i in range(n):
        most[i] = s.high[i, s.first[i] : s.last[i]].sum()
    demand = np.zeros(s.upper.shape)
    for i in range(n):
        _demand(s, i, most[i], 1.0, demand)
    spread = _SPREAD * max(1e-3, np.abs(s.price).max())
    priced = np.empty(steps)
    for i in argsort(most - s.wanted):
        _preference(s, state, i, guess, demand, spread, priced)
        if not _fill(s, state, i, priced, capacity):
            return False
        _demand(s, i, most[i], -1.0, demand)
    return True


@inner_kernel
def _demand(s: SharedProblem, i: int, most: float, sign: float, demand: FloatArray) -> None:
    """Add what a session draws in each step when it spreads its need evenly over its stay."""
    if most <= EPS:
        return
    even = sign * min(1.0, s.wanted[i] / most)
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g = s.group[k]
        for t in range(s.first[i], s.last[i]):
            if s.high[i, t] > 0.0:
                demand[g, t] += even * s.high[i, t] * s.weight[k] / s.presence[i, t]


@inner_kernel
def _preference(
    s: SharedProblem, state: State, i: int, guess: FloatArray, demand: FloatArray, spread: float, priced: FloatArray
) -> None:
    """Price of each step of a session: its cost, limits as guessed, and a little for limits that others press on.

    In most optima many steps cost the same, limits priced. Of those a session takes the ones where the sessions to come
    leave the most room, so that all of them fill up together and few sessions have to be moved by pivots.
    """
    a, b = s.first[i], s.last[i]
    priced[a:b] = s.price[a:b]
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g, weight = s.group[k], s.weight[k]
        for t in range(a, b):
            if s.high[i, t] > EPS and s.upper[g, t] < np.inf:
                wish = max(demand[g, t], 0.0)
                priced[t] -= guess[g, t] * weight / s.presence[i, t]
                priced[t] += spread * wish / (wish + max(state.slack[g, t], 0.0) + EPS)


@inner_kernel
def _fill(s: SharedProblem, state: State, i: int, priced: FloatArray, capacity: int) -> bool:
    """Fill a session's cheapest steps as far as limits allow; False when more limits fill up than fit."""
    steps = s.price.shape[0]
    a, b = s.first[i], s.last[i]
    for v in range(steps + 2):
        state.way[i, v] = RISE if upper_bound(s, i, v) > EPS else STAY
    rest = s.wanted[i]
    key = -1
    for t in argsort(priced[a:b]) + a:
        high = s.high[i, t]
        if rest <= EPS:
            break
        if high <= EPS or s.price[t] >= s.short_price[i]:
            continue
        room, full = np.inf, -1
        for k in range(s.session_start[i], s.session_start[i + 1]):
            free = state.slack[s.group[k], t] * s.presence[i, t] / s.weight[k]
            if free < room:
                room, full = free, s.group[k]
        give = min(high, rest, room)
        if give <= EPS:
            continue
        state.x[i, t] = give
        rest -= give
        for k in range(s.session_start[i], s.session_start[i + 1]):
            state.slack[s.group[k], t] -= give * s.weight[k] / s.presence[i, t]
        if give == high:
            state.way[i, t] = FALL
        elif give == room:
            if state.size[0] == capacity:
                return False
            at = state.size[0]
            state.slack[full, t] = 0.0
            state.place[full, t] = at
            state.tight[at, 0], state.tight[at, 1] = full, t
            state.extra[at, 0], state.extra[at, 1] = i, t
            state.extras_of[i] += 1
            state.way[i, t] = STAY
            state.size[0] += 1
        else:
            key = t
    if key < 0:
        key = steps
        state.x[i, steps] = rest
    else:
        # What rounding left over belongs to the key.
        state.x[i, key] += rest
    state.key[i] = key
    state.way[i, key] = STAY
    return True
