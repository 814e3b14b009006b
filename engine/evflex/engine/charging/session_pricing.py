"""Which variable enters the basis of the simplex of sessions: prices of the limits, and what they make worth it."""

from __future__ import annotations

from evflex.engine.charging.session_problem import CANDIDATES, FALL, SharedProblem, State, row_sign, variable_cost
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import FloatArray

# Sessions looked at after which one candidate is enough.
_LOOK = 200


@inner_kernel
def price_limits(s: SharedProblem, state: State) -> None:
    """Duals of the tight limits: πᵀW = c_extra − c_key."""
    size, steps = state.size[0], s.price.shape[0]
    dual, inverse, extra, price = state.dual, state.inverse, state.extra, state.price
    dual[:size] = 0.0
    for e in range(size):
        i, v = extra[e, 0], extra[e, 1]
        key = state.key[i]
        share = row_sign(steps, v) / row_sign(steps, key)
        short_price, value = s.short_price[i], s.value[i]
        c = variable_cost(s.price, short_price, value, v) - share * variable_cost(s.price, short_price, value, key)
        if c != 0.0:
            for r in range(size):
                dual[r] += c * inverse[e, r]
    for r in range(size):
        price[state.tight[r, 0], state.tight[r, 1]] = dual[r]


@inner_kernel
def enter(s: SharedProblem, state: State, tolerance: float, gains: FloatArray) -> tuple[int, int, float]:
    """Entering variable (session, variable, direction); session -1 at the optimum.

    Session -2 stands for the slack of the tight limit with that position. Candidates found earlier are looked at first;
    when none is left, sessions are priced in turn until the list is full again.
    """
    n = s.high.shape[0]
    candidate, size = state.candidate, state.size
    best, best_i, best_v = tolerance, -1, -1
    for r in range(size[0]):
        if state.dual[r] > best:
            best, best_i, best_v = state.dual[r], -2, r
    kept = 0
    for c in range(size[1]):
        i, v = candidate[c, 0], candidate[c, 1]
        gain = state.way[i, v] * (_row_price(s, state, i) * row_sign(s.price.shape[0], v) - _worth(s, state, i, v))
        if gain > tolerance:
            candidate[kept, 0], candidate[kept, 1] = i, v
            kept += 1
            if gain > best:
                best, best_i, best_v = gain, i, v
    if best_i == -1:
        i = size[2]
        for looked in range(n):
            gain, v = _best_of_session(s, state, i, gains)
            if gain > tolerance:
                candidate[kept, 0], candidate[kept, 1] = i, v
                kept += 1
                if gain > best:
                    best, best_i, best_v = gain, i, v
            i = i + 1 if i + 1 < n else 0
            if kept == CANDIDATES or (kept > 0 and looked >= _LOOK):
                break
        size[2] = i
    size[1] = kept
    direction = -1.0 if best_i >= 0 and state.way[best_i, best_v] == FALL else 1.0
    return best_i, best_v, direction


@inner_kernel
def _worth(s: SharedProblem, state: State, i: int, v: int) -> float:
    """Cost of a variable, tight limits priced."""
    cost = variable_cost(s.price, s.short_price[i], s.value[i], v)
    if v < s.price.shape[0]:
        for k in range(s.session_start[i], s.session_start[i + 1]):
            cost -= state.price[s.group[k], v] * s.weight[k] / s.presence[i, v]
    return cost


@inner_kernel
def _row_price(s: SharedProblem, state: State, i: int) -> float:
    """Price of the session's row, which the key sets."""
    key = state.key[i]
    return _worth(s, state, i, key) * row_sign(s.price.shape[0], key)


@inner_kernel
def _best_of_session(s: SharedProblem, state: State, i: int, gains: FloatArray) -> tuple[float, int]:
    """What the objective gains most for each kW by which a variable of session i enters, and that variable."""
    steps = s.price.shape[0]
    a, b = s.first[i], s.last[i]
    way, price, presence, limit_price = state.way, s.price, s.presence, state.price
    row_price = _row_price(s, state, i)
    gains[a:b] = 0.0
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g, weight = s.group[k], s.weight[k]
        for t in range(a, b):
            gains[t] += limit_price[g, t] * weight
    best, best_v = way[i, steps] * (row_price - s.short_price[i]), steps
    gain = way[i, steps + 1] * (s.value[i] - row_price)
    if gain > best:
        best, best_v = gain, steps + 1
    for t in range(a, b):
        gain = way[i, t] * (row_price - price[t] + gains[t] / presence[i, t])
        if gain > best:
            best, best_v = gain, t
    return best, best_v
