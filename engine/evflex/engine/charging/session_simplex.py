"""An exact simplex for sessions that share limits: one basic variable of each session is kept aside.

    minimise  Σ price_it·x_it + Σ short_i·u_i − Σ value_i·v_i
    subject to  Σ_t x_it + u_i − v_i = wanted_i          (one row a session)
                Σ_i w_ig / f_it · x_it <= upper_gt       (one row a limit and step)
                0 <= x <= high,  0 <= u <= wanted,  0 <= v <= most − wanted

Of these rows only the limits that bind are hard. Generalised upper bounding (Dantzig and Van Slyke 1967) keeps for each
session one basic variable, its *key*, outside the working basis. The working basis W then has one row and one column a
tight limit (tens, not thousands), its inverse is kept explicitly, and a pivot costs O(tight²) whatever the number of
sessions. Variables of one session have the index t of their step, ``T`` for u and ``T + 1`` for v.

The start is greedy: the least flexible session first, cheapest free steps first. Each limit that fills up on the way
has exactly one variable that filled it, so W starts triangular.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

ByteArray = NDArray[np.int8]

_EPS = 1e-9
_PIVOT = 1e-7
_REFRESH = 120
_CANDIDATES = 64
# Steps whose prices differ by less than this share of the highest one are alike at the start.
_SPREAD = 0.01
# Where a variable may go: up from 0, down from its upper bound, nowhere (basic, or fixed at 0).
_RISE, _FALL, _STAY = 1, -1, 0
# What stops a step: the entering variable's other bound, an extra, a key, a limit.
_STOP_OWN, _STOP_EXTRA, _STOP_KEY, _STOP_LIMIT = 0, 1, 2, 3


class SharedProblem(NamedTuple):
    """What the simplex reads; powers are mean powers in kW, sums over steps in kW-steps.

    Attributes:
        price: Cost of mean power, (T,).
        high: Largest power; 0 where absent, (n, T).
        first: First step of each session, (n,).
        last: One past its last step, (n,).
        wanted: Sum of power that meets the need, (n,).
        most: Largest sum of power, (n,).
        short_price: Cost of a kW-step of shortfall, (n,).
        value: Worth of a kW-step above the need, (n,).
        presence: Share of each step, (n, T).
        upper: Limits on instantaneous power; infinite where there is none, (groups, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
    """

    price: FloatArray
    high: FloatArray
    first: IntArray
    last: IntArray
    wanted: FloatArray
    most: FloatArray
    short_price: FloatArray
    value: FloatArray
    presence: FloatArray
    upper: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray


class _State(NamedTuple):
    """Basis and point.

    Attributes:
        x: Values, (n, T + 2).
        way: Which way each variable may go when it enters, (n, T + 2).
        key: Key variable of each session, (n,).
        slack: Room in each limit, (groups, T).
        place: Position of a limit among the tight ones, -1 otherwise, (groups, T).
        tight: Tight limits as (group, step), (capacity, 2).
        extra: Basic variables besides the keys as (session, variable), (capacity, 2).
        extras_of: Number of extras of each session, (n,).
        inverse: Inverse of the working basis, (capacity, capacity).
        dual: Prices of the tight limits (<= 0), (capacity,).
        price: The same where they belong, 0 elsewhere, (groups, T).
        candidate: Variables worth entering when last looked at, as (session, variable), (_CANDIDATES, 2).
        size: [number of tight limits, number of candidates, session to look at next].
    """

    x: FloatArray
    way: ByteArray
    key: IntArray
    slack: FloatArray
    place: IntArray
    tight: IntArray
    extra: IntArray
    extras_of: IntArray
    inverse: FloatArray
    dual: FloatArray
    price: FloatArray
    candidate: IntArray
    size: IntArray


@kernel
def solve_shared(
    s: SharedProblem, guess: FloatArray, power: FloatArray, limit_dual: FloatArray, capacity: int, max_pivots: int
) -> int:
    """Optimal power (n, T) and prices (groups, T; <= 0) of the limits.

    Args:
        s: The problem.
        guess: Prices of the limits (<= 0) that the greedy start goes by, (groups, T).
        power: Written.
        limit_dual: Written: change of the optimum for each kW by which a limit is widened.
        capacity: Most tight limits that the working basis holds.
        max_pivots: Give up after so many.

    Returns:
        Number of pivots, or -1 when capacity, pivots or accuracy did not suffice.
    """
    n, steps = s.high.shape
    groups = s.upper.shape[0]
    state = _State(
        np.zeros((n, steps + 2)), np.zeros((n, steps + 2), dtype=np.int8),
        np.zeros(n, dtype=np.int64), s.upper.copy(), np.full((groups, steps), -1),
        np.zeros((capacity, 2), dtype=np.int64),
        np.zeros((capacity, 2), dtype=np.int64), np.zeros(n, dtype=np.int64), np.empty((capacity, capacity)),
        np.zeros(capacity), np.zeros((groups, steps)), np.zeros((_CANDIDATES, 2), dtype=np.int64),
        np.zeros(3, dtype=np.int64),
    )  # fmt: skip
    if not _start_greedy(s, state, guess, capacity):
        return -1
    work = np.zeros(capacity)
    change = np.zeros(capacity)
    key_change = np.zeros(n)
    moved = np.zeros((groups, steps))
    gains = np.empty(steps)
    tolerance = 1e-9 * max(1e-3, np.abs(s.price).max())
    since_inverse, since_slack = 0, 0
    for pivots in range(max_pivots):
        _price_limits(s, state)
        i, v, direction = _enter(s, state, tolerance, gains)
        if i == -1:
            if since_inverse == 0 and since_slack == 0:
                power[:] = state.x[:, :steps]
                limit_dual[:] = state.price
                return pivots
        elif _pivot(s, state, i, v, direction, work, change, key_change, moved, capacity) < 0:
            return -1
        else:
            since_inverse += 1
            since_slack += 1
        # The optimum is confirmed with an inverse and slacks that carry no rounding.
        if i == -1 or since_inverse >= _REFRESH:
            if not _refresh_inverse(s, state):
                return -1
            since_inverse = 0
        # Slacks take a pass over all sessions, so as many pivots lie between two of them.
        if i == -1 or since_slack >= max(_REFRESH, n):
            _refresh_slack(s, state)
            since_slack = 0
    return -1


@inner_kernel
def _sign(steps: int, v: int) -> float:
    """Coefficient of a variable in its session's row."""
    return -1.0 if v == steps + 1 else 1.0


@inner_kernel
def _cap(s: SharedProblem, i: int, v: int) -> float:
    """Upper bound of a variable."""
    steps = s.price.shape[0]
    if v < steps:
        return s.high[i, v]
    return s.wanted[i] if v == steps else max(0.0, s.most[i] - s.wanted[i])


@inner_kernel
def _cost(price: FloatArray, short_price: float, value: float, v: int) -> float:
    """Cost of a variable."""
    steps = price.shape[0]
    if v < steps:
        return price[v]
    return short_price if v == steps else -value


@inner_kernel
def _start_greedy(s: SharedProblem, state: _State, guess: FloatArray, capacity: int) -> bool:
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
    state.price[:] = 0.0
    return _refresh_inverse(s, state)


@inner_kernel
def _demand(s: SharedProblem, i: int, most: float, sign: float, demand: FloatArray) -> None:
    """Add what a session draws in each step when it spreads its need evenly over its stay."""
    if most <= _EPS:
        return
    even = sign * min(1.0, s.wanted[i] / most)
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g = s.group[k]
        for t in range(s.first[i], s.last[i]):
            if s.high[i, t] > 0.0:
                demand[g, t] += even * s.high[i, t] * s.weight[k] / s.presence[i, t]


@inner_kernel
def _preference(
    s: SharedProblem, state: _State, i: int, guess: FloatArray, demand: FloatArray, spread: float, priced: FloatArray
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
            if s.high[i, t] > _EPS and s.upper[g, t] < np.inf:
                wish = max(demand[g, t], 0.0)
                priced[t] -= guess[g, t] * weight / s.presence[i, t]
                priced[t] += spread * wish / (wish + max(state.slack[g, t], 0.0) + _EPS)


@inner_kernel
def _fill(s: SharedProblem, state: _State, i: int, priced: FloatArray, capacity: int) -> bool:
    """Fill a session's cheapest steps as far as limits allow; False when more limits fill up than fit."""
    steps = s.price.shape[0]
    a, b = s.first[i], s.last[i]
    for v in range(steps + 2):
        state.way[i, v] = _RISE if _cap(s, i, v) > _EPS else _STAY
    rest = s.wanted[i]
    key = -1
    for t in argsort(priced[a:b]) + a:
        high = s.high[i, t]
        if rest <= _EPS:
            break
        if high <= _EPS or s.price[t] >= s.short_price[i]:
            continue
        room, full = np.inf, -1
        for k in range(s.session_start[i], s.session_start[i + 1]):
            free = state.slack[s.group[k], t] * s.presence[i, t] / s.weight[k]
            if free < room:
                room, full = free, s.group[k]
        give = min(high, rest, room)
        if give <= _EPS:
            continue
        state.x[i, t] = give
        rest -= give
        for k in range(s.session_start[i], s.session_start[i + 1]):
            state.slack[s.group[k], t] -= give * s.weight[k] / s.presence[i, t]
        if give == high:
            state.way[i, t] = _FALL
        elif give == room:
            if state.size[0] == capacity:
                return False
            at = state.size[0]
            state.slack[full, t] = 0.0
            state.place[full, t] = at
            state.tight[at, 0], state.tight[at, 1] = full, t
            state.extra[at, 0], state.extra[at, 1] = i, t
            state.extras_of[i] += 1
            state.way[i, t] = _STAY
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
    state.way[i, key] = _STAY
    return True


@inner_kernel
def _tight_column(s: SharedProblem, state: _State, i: int, v: int, out: FloatArray) -> None:
    """Entries of a variable in the tight limits, its session's key eliminated; added to ``out``."""
    steps = s.price.shape[0]
    key = state.key[i]
    share = _sign(steps, v) / _sign(steps, key)
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g = s.group[k]
        if v < steps and state.place[g, v] >= 0:
            out[state.place[g, v]] += s.weight[k] / s.presence[i, v]
        if key < steps and state.place[g, key] >= 0:
            out[state.place[g, key]] -= share * s.weight[k] / s.presence[i, key]


@inner_kernel
def _row_entry(s: SharedProblem, state: _State, g: int, t: int, i: int, v: int) -> float:
    """Entry of a variable in limit (g, t), its session's key eliminated."""
    steps = s.price.shape[0]
    key = state.key[i]
    if v != t and key != t:
        return 0.0
    for k in range(s.session_start[i], s.session_start[i + 1]):
        if s.group[k] == g:
            entry = s.weight[k] / s.presence[i, t]
            if v == key:
                return 0.0
            return entry if v == t else -_sign(steps, v) / _sign(steps, key) * entry
    return 0.0


@inner_kernel
def _refresh_inverse(s: SharedProblem, state: _State) -> bool:
    """Invert the working basis anew."""
    size = state.size[0]
    if size == 0:
        return True
    basis = np.zeros((size, size))
    column = np.zeros(size)
    for e in range(size):
        column[:] = 0.0
        _tight_column(s, state, state.extra[e, 0], state.extra[e, 1], column)
        basis[:, e] = column
    return _invert(basis, state.inverse)


@inner_kernel
def _refresh_slack(s: SharedProblem, state: _State) -> None:
    """Compute anew what each limit leaves."""
    state.slack[:] = s.upper
    for i in range(s.high.shape[0]):
        for k in range(s.session_start[i], s.session_start[i + 1]):
            g, weight = s.group[k], s.weight[k]
            for t in range(s.first[i], s.last[i]):
                if state.x[i, t] != 0.0:
                    state.slack[g, t] -= state.x[i, t] * weight / s.presence[i, t]


@inner_kernel
def _invert(basis: FloatArray, out: FloatArray) -> bool:
    """Invert ``basis`` (destroyed) into the leading block of ``out``; Gauss–Jordan with row pivoting.

    Own loops: the matrix is small, and a call of a threaded BLAS costs more than the arithmetic.
    """
    size = basis.shape[0]
    inverse = np.eye(size)
    for c in range(size):
        p = c
        for r in range(c + 1, size):
            if abs(basis[r, c]) > abs(basis[p, c]):
                p = r
        if abs(basis[p, c]) < _PIVOT:
            return False
        if p != c:
            for k in range(size):
                basis[p, k], basis[c, k] = basis[c, k], basis[p, k]
                inverse[p, k], inverse[c, k] = inverse[c, k], inverse[p, k]
        scale = 1.0 / basis[c, c]
        for k in range(size):
            basis[c, k] *= scale
            inverse[c, k] *= scale
        for r in range(size):
            factor = basis[r, c]
            if r != c and factor != 0.0:
                for k in range(size):
                    basis[r, k] -= factor * basis[c, k]
                    inverse[r, k] -= factor * inverse[c, k]
    out[:size, :size] = inverse
    return True


@inner_kernel
def _times_column(matrix: FloatArray, column: FloatArray, size: int) -> FloatArray:
    out = np.zeros(size)
    for r in range(size):
        if column[r] != 0.0:
            for e in range(size):
                out[e] += matrix[e, r] * column[r]
    return out


@inner_kernel
def _times_row(row: FloatArray, matrix: FloatArray, size: int) -> FloatArray:
    out = np.zeros(size)
    for e in range(size):
        if row[e] != 0.0:
            for r in range(size):
                out[r] += row[e] * matrix[e, r]
    return out


@inner_kernel
def _price_limits(s: SharedProblem, state: _State) -> None:
    """Duals of the tight limits: πᵀW = c_extra − c_key."""
    size, steps = state.size[0], s.price.shape[0]
    dual, inverse, extra, price = state.dual, state.inverse, state.extra, state.price
    dual[:size] = 0.0
    for e in range(size):
        i, v = extra[e, 0], extra[e, 1]
        key = state.key[i]
        share = _sign(steps, v) / _sign(steps, key)
        c = _cost(s.price, s.short_price[i], s.value[i], v) - share * _cost(s.price, s.short_price[i], s.value[i], key)
        if c != 0.0:
            for r in range(size):
                dual[r] += c * inverse[e, r]
    for r in range(size):
        price[state.tight[r, 0], state.tight[r, 1]] = dual[r]


@inner_kernel
def _enter(s: SharedProblem, state: _State, tolerance: float, gains: FloatArray) -> tuple[int, int, float]:
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
        gain = state.way[i, v] * (_row_price(s, state, i) * _sign(s.price.shape[0], v) - _worth(s, state, i, v))
        if gain > tolerance:
            candidate[kept, 0], candidate[kept, 1] = i, v
            kept += 1
            if gain > best:
                best, best_i, best_v = gain, i, v
    if best_i == -1:
        i = size[2]
        for _ in range(n):
            gain, v = _best_of_session(s, state, i, gains)
            if gain > tolerance:
                candidate[kept, 0], candidate[kept, 1] = i, v
                kept += 1
                if gain > best:
                    best, best_i, best_v = gain, i, v
            i = i + 1 if i + 1 < n else 0
            if kept == _CANDIDATES:
                break
        size[2] = i
    size[1] = kept
    direction = -1.0 if best_i >= 0 and state.way[best_i, best_v] == _FALL else 1.0
    return best_i, best_v, direction


@inner_kernel
def _worth(s: SharedProblem, state: _State, i: int, v: int) -> float:
    """Cost of a variable, tight limits priced."""
    cost = _cost(s.price, s.short_price[i], s.value[i], v)
    if v < s.price.shape[0]:
        for k in range(s.session_start[i], s.session_start[i + 1]):
            cost -= state.price[s.group[k], v] * s.weight[k] / s.presence[i, v]
    return cost


@inner_kernel
def _row_price(s: SharedProblem, state: _State, i: int) -> float:
    """Price of the session's row, which the key sets."""
    key = state.key[i]
    return _worth(s, state, i, key) * _sign(s.price.shape[0], key)


@inner_kernel
def _best_of_session(s: SharedProblem, state: _State, i: int, gains: FloatArray) -> tuple[float, int]:
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


@inner_kernel
def _pivot(
    s: SharedProblem, state: _State, i: int, v: int, direction: float, work: FloatArray, change: FloatArray,
    key_change: FloatArray, moved: FloatArray, capacity: int,
) -> int:  # fmt: skip
    """Bring a variable (or, with i = -2, the slack of tight limit v) into the basis; -1 when that fails."""
    steps = s.price.shape[0]
    size = state.size[0]
    work[:size] = 0.0
    if i >= 0:
        _tight_column(s, state, i, v, work)
        for e in range(size):
            total = 0.0
            for r in range(size):
                if work[r] != 0.0:
                    total += state.inverse[e, r] * work[r]
            change[e] = -direction * total
    else:
        for e in range(size):
            change[e] = -state.inverse[e, v]
    # How the keys follow: each session's row stays satisfied.
    if i >= 0:
        key_change[i] = -direction * _sign(steps, v) / _sign(steps, state.key[i])
    for e in range(size):
        if change[e] != 0.0:
            m = state.extra[e, 0]
            key_change[m] -= _sign(steps, state.extra[e, 1]) / _sign(steps, state.key[m]) * change[e]
    _move_limits(s, state, i, v, direction, change, key_change, moved)

    # Ratio test; of equal ratios the largest pivot wins.
    x, extra, key = state.x, state.extra, state.key
    step, kind, at, limit_step, best_pivot = np.inf, -1, -1, -1, 0.0
    if i >= 0:
        step, kind = _cap(s, i, v), _STOP_OWN
    for e in range(-1, size):
        m = i if e < 0 else extra[e, 0]
        if m < 0:
            continue
        for stop in (_STOP_EXTRA, _STOP_KEY):
            if stop == _STOP_EXTRA and e < 0:
                continue
            u = extra[e, 1] if stop == _STOP_EXTRA else key[m]
            rate = change[e] if stop == _STOP_EXTRA else key_change[m]
            if abs(rate) <= _PIVOT:
                continue
            room = _room(x[m, u], _cap(s, m, u), rate)
            if room < step - _EPS or (room < step + _EPS and abs(rate) > best_pivot and kind != _STOP_OWN):
                step, kind, best_pivot = room, stop, abs(rate)
                at = e if stop == _STOP_EXTRA else m
    step, kind, at, limit_step = _limit_ratio(
        s, state, i, v, change, key_change, moved, step, kind, at, limit_step, best_pivot
    )
    if kind < 0 or step == np.inf:
        return -1
    step = max(step, 0.0)

    # Move.
    if i >= 0:
        state.x[i, v] += direction * step
        state.x[i, state.key[i]] += key_change[i] * step
    for e in range(size):
        m = state.extra[e, 0]
        if change[e] != 0.0:
            state.x[m, state.extra[e, 1]] += change[e] * step
        if key_change[m] != 0.0 and m != i:
            state.x[m, state.key[m]] += key_change[m] * step
            key_change[m] = 0.0
    _apply_limits(s, state, i, v, change, step, moved)
    for e in range(size):
        key_change[state.extra[e, 0]] = 0.0
    if i >= 0:
        key_change[i] = 0.0

    # Change the basis.
    if kind == _STOP_OWN:
        state.way[i, v] = _FALL if direction > 0.0 else _RISE
        state.x[i, v] = _cap(s, i, v) if direction > 0.0 else 0.0
        return 0
    if kind == _STOP_LIMIT:
        if i >= 0:
            return _grow(s, state, i, v, at, limit_step, work, capacity)
        return _exchange_limits(s, state, v, at, limit_step)
    if kind == _STOP_KEY:
        m = at
        if state.extras_of[m] == 0:
            # Only the entering variable's own session: it becomes the key.
            _leave(s, state, m, state.key[m])
            state.key[m] = v
            state.way[m, v] = _STAY
            return 0
        at = _swap_key(s, state, m)
    m, leaving = state.extra[at, 0], state.extra[at, 1]
    _leave(s, state, m, leaving)
    state.extras_of[m] -= 1
    if i < 0:
        return _shrink(state, v, at)
    state.extra[at, 0], state.extra[at, 1] = i, v
    state.extras_of[i] += 1
    state.way[i, v] = _STAY
    work[:size] = 0.0
    _tight_column(s, state, i, v, work)
    return _replace_column(state, at, work)


@inner_kernel
def _room(x: float, cap: float, rate: float) -> float:
    """How far a basic variable can go before a bound stops it."""
    return max(0.0, (cap - x) / rate if rate > 0.0 else -x / rate)


@inner_kernel
def _move_limits(
    s: SharedProblem, state: _State, i: int, v: int, direction: float, change: FloatArray, key_change: FloatArray,
    moved: FloatArray,
) -> None:  # fmt: skip
    """Rate of change of each limit's load, written to ``moved``."""
    steps = s.price.shape[0]
    session_start, group, weight, presence, extra = s.session_start, s.group, s.weight, s.presence, state.extra
    for e in range(-1, state.size[0]):
        m = i if e < 0 else extra[e, 0]
        if m < 0:
            continue
        own = v if e < 0 else extra[e, 1]
        rate = direction if e < 0 else change[e]
        if own < steps and rate != 0.0:
            for k in range(session_start[m], session_start[m + 1]):
                moved[group[k], own] += rate * weight[k] / presence[m, own]
        # A session with several basic variables moves its key once.
        key = state.key[m]
        if key < steps and key_change[m] != 0.0 and (e < 0 or (m != i and _is_last_extra(extra, e, state.size[0]))):
            for k in range(session_start[m], session_start[m + 1]):
                moved[group[k], key] += key_change[m] * weight[k] / presence[m, key]


@inner_kernel
def _is_last_extra(extra: IntArray, e: int, size: int) -> bool:
    for later in range(e + 1, size):  # noqa: SIM110 - numba compiles no generator
        if extra[later, 0] == extra[e, 0]:
            return False
    return True


@inner_kernel
def _limit_ratio(
    s: SharedProblem, state: _State, i: int, v: int, change: FloatArray, key_change: FloatArray, moved: FloatArray,
    step: float, kind: int, at: int, limit_step: int, best_pivot: float,
) -> tuple[float, int, int, int]:  # fmt: skip
    """Ratio test over the limits that are not tight and whose load rises."""
    steps = s.price.shape[0]
    for e in range(-1, state.size[0]):
        m = i if e < 0 else state.extra[e, 0]
        if m < 0:
            continue
        for which in range(2):
            t = state.key[m]
            if which == 1:
                t = v if e < 0 else state.extra[e, 1]
            if t >= steps:
                continue
            for k in range(s.session_start[m], s.session_start[m + 1]):
                g = s.group[k]
                rate = moved[g, t]
                if rate > _PIVOT and state.place[g, t] < 0 and s.upper[g, t] < np.inf:
                    room = max(state.slack[g, t], 0.0) / rate
                    if room < step - _EPS or (room < step + _EPS and rate > best_pivot and kind != _STOP_OWN):
                        step, kind, at, limit_step, best_pivot = room, _STOP_LIMIT, g, t, rate
    return step, kind, at, limit_step


@inner_kernel
def _apply_limits(
    s: SharedProblem, state: _State, i: int, v: int, change: FloatArray, step: float, moved: FloatArray
) -> None:
    """Move the slacks and clear ``moved``."""
    steps = s.price.shape[0]
    for e in range(-1, state.size[0]):
        m = i if e < 0 else state.extra[e, 0]
        if m < 0:
            continue
        for which in range(2):
            t = state.key[m]
            if which == 1:
                t = v if e < 0 else state.extra[e, 1]
            if t < steps:
                for k in range(s.session_start[m], s.session_start[m + 1]):
                    g = s.group[k]
                    if moved[g, t] != 0.0:
                        if state.place[g, t] < 0:
                            state.slack[g, t] -= moved[g, t] * step
                        moved[g, t] = 0.0
    if i < 0:
        state.slack[state.tight[v, 0], state.tight[v, 1]] = step


@inner_kernel
def _leave(s: SharedProblem, state: _State, m: int, v: int) -> None:
    """A variable leaves the basis at the bound that it has reached."""
    cap = _cap(s, m, v)
    if cap <= _EPS:
        state.way[m, v], state.x[m, v] = _STAY, 0.0
    elif state.x[m, v] > 0.5 * cap:
        state.way[m, v], state.x[m, v] = _FALL, cap
    else:
        state.way[m, v], state.x[m, v] = _RISE, 0.0


@inner_kernel
def _swap_key(s: SharedProblem, state: _State, m: int) -> int:
    """Make an extra of session m its key, and the old key an extra; returns the position.

    With e the new key, the columns of m's other extras lose a multiple of e's, and the old key's is a multiple of it.
    """
    size, steps = state.size[0], s.price.shape[0]
    at = -1
    for e in range(size):
        if state.extra[e, 0] == m and (
            at < 0 or abs(state.x[m, state.extra[e, 1]]) > abs(state.x[m, state.extra[at, 1]])
        ):
            at = e
    old, new = state.key[m], state.extra[at, 1]
    # W' = W·M with M = identity except in row `at`; the inverse takes the inverse row operation.
    for r in range(size):
        total = -_sign(steps, new) / _sign(steps, old) * state.inverse[at, r]
        for e in range(size):
            if e != at and state.extra[e, 0] == m:
                total -= _sign(steps, state.extra[e, 1]) / _sign(steps, old) * state.inverse[e, r]
        state.inverse[at, r] = total
    state.extra[at, 1] = old
    state.key[m] = new
    return at


@inner_kernel
def _replace_column(state: _State, at: int, column: FloatArray) -> int:
    """Inverse after column ``at`` of the working basis was replaced."""
    size = state.size[0]
    image = _times_column(state.inverse, column, size)
    if abs(image[at]) < _PIVOT:
        return -1
    pivot_row = state.inverse[at, :size] / image[at]
    for e in range(size):
        if e != at and image[e] != 0.0:
            for r in range(size):
                state.inverse[e, r] -= image[e] * pivot_row[r]
    state.inverse[at, :size] = pivot_row
    return 0


@inner_kernel
def _grow(s: SharedProblem, state: _State, i: int, v: int, g: int, t: int, work: FloatArray, capacity: int) -> int:
    """Limit (g, t) becomes tight and the entering variable an extra: the inverse by bordering."""
    size = state.size[0]
    if size == capacity:
        return -1
    work[:size] = 0.0
    _tight_column(s, state, i, v, work)
    row = np.zeros(size)
    for e in range(size):
        row[e] = _row_entry(s, state, g, t, state.extra[e, 0], state.extra[e, 1])
    corner = _row_entry(s, state, g, t, i, v)
    image = _times_column(state.inverse, work, size)
    left = _times_row(row, state.inverse, size)
    schur = corner
    for e in range(size):
        schur -= row[e] * image[e]
    if abs(schur) < _PIVOT:
        return -1
    for e in range(size):
        for r in range(size):
            state.inverse[e, r] += image[e] * left[r] / schur
        state.inverse[e, size] = -image[e] / schur
        state.inverse[size, e] = -left[e] / schur
    state.inverse[size, size] = 1.0 / schur
    state.place[g, t] = size
    state.slack[g, t] = 0.0
    state.tight[size, 0], state.tight[size, 1] = g, t
    state.extra[size, 0], state.extra[size, 1] = i, v
    state.extras_of[i] += 1
    state.way[i, v] = _STAY
    state.size[0] = size + 1
    return 0


@inner_kernel
def _shrink(state: _State, row: int, column: int) -> int:
    """Limit ``row`` is no longer tight and extra ``column`` has left: the inverse without them."""
    size = state.size[0]
    pivot = state.inverse[column, row]
    if abs(pivot) < _PIVOT:
        return -1
    for e in range(size):
        if e != column and state.inverse[e, row] != 0.0:
            factor = state.inverse[e, row] / pivot
            for r in range(size):
                state.inverse[e, r] -= factor * state.inverse[column, r]
    last = size - 1
    state.place[state.tight[row, 0], state.tight[row, 1]] = -1
    state.price[state.tight[row, 0], state.tight[row, 1]] = 0.0
    # The last row and column take the free places.
    if row != last:
        state.inverse[:size, row] = state.inverse[:size, last]
        state.tight[row, 0], state.tight[row, 1] = state.tight[last, 0], state.tight[last, 1]
        state.place[state.tight[row, 0], state.tight[row, 1]] = row
    if column != last:
        state.inverse[column, :size] = state.inverse[last, :size]
        state.extra[column, 0], state.extra[column, 1] = state.extra[last, 0], state.extra[last, 1]
    state.size[0] = last
    return 0


@inner_kernel
def _exchange_limits(s: SharedProblem, state: _State, row: int, g: int, t: int) -> int:
    """Limit (g, t) becomes tight in place of limit ``row``: the inverse after a row was replaced."""
    size = state.size[0]
    entries = np.zeros(size)
    for e in range(size):
        entries[e] = _row_entry(s, state, g, t, state.extra[e, 0], state.extra[e, 1])
    left = _times_row(entries, state.inverse, size)
    if abs(left[row]) < _PIVOT:
        return -1
    column = state.inverse[:size, row] / left[row]
    for r in range(size):
        if r != row and left[r] != 0.0:
            for e in range(size):
                state.inverse[e, r] -= column[e] * left[r]
    state.inverse[:size, row] = column
    state.place[state.tight[row, 0], state.tight[row, 1]] = -1
    state.price[state.tight[row, 0], state.tight[row, 1]] = 0.0
    state.place[g, t] = row
    state.slack[g, t] = 0.0
    state.tight[row, 0], state.tight[row, 1] = g, t
    return 0


@kernel
def lagrangian_bound(s: SharedProblem, limit_dual: FloatArray) -> float:
    """Least cost of all sessions at prices of the limits (<= 0), plus what the limits are worth: a lower bound.

    Each session alone takes its steps in the order of price, which is exact: min Σ λ·x + short·u − value·v.
    """
    n, steps = s.high.shape
    total = 0.0
    for g in range(s.upper.shape[0]):
        for t in range(steps):
            if limit_dual[g, t] < 0.0:
                total += limit_dual[g, t] * s.upper[g, t]
    priced = np.empty(steps)
    for i in range(n):
        a, b = s.first[i], s.last[i]
        for t in range(a, b):
            priced[t] = s.price[t]
            worth = 0.0
            for k in range(s.session_start[i], s.session_start[i + 1]):
                worth += limit_dual[s.group[k], t] * s.weight[k]
            if worth != 0.0:
                priced[t] -= worth / s.presence[i, t]
        drawn = 0.0
        for t in argsort(priced[a:b]) + a:
            left = s.high[i, t]
            for goal, worth in ((s.wanted[i], s.short_price[i]), (s.most[i], s.value[i])):
                give = min(left, goal - drawn)
                if give > 0.0 and priced[t] < worth:
                    total += priced[t] * give
                    drawn += give
                    left -= give
        total += s.short_price[i] * max(0.0, s.wanted[i] - drawn) - s.value[i] * max(0.0, drawn - s.wanted[i])
    return total
