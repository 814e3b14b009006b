"""An exact simplex for sessions that share limits: one basic variable of each session is kept aside.

    minimise  Σ price_it·x_it + Σ short_i·u_i − Σ value_i·v_i
    subject to  Σ_t x_it + u_i − v_i = wanted_i          (one row a session)
                Σ_i w_ig / f_it · x_it <= upper_gt       (one row a limit and step)
                0 <= x <= high,  0 <= u <= wanted,  0 <= v <= most − wanted

Of these rows only the limits that bind are hard. Generalised upper bounding (Dantzig and Van Slyke 1967) keeps for each
session one basic variable, its *key*, outside the working basis. The working basis W then has one row and one column a
tight limit (tens, not thousands), its inverse is kept explicitly, and a pivot costs O(tight²) whatever the number of
sessions. Variables of one session have the index t of their step, ``T`` for u and ``T + 1`` for v.

The parts: ``session_problem`` says what is solved and where a solve stands, ``session_start`` finds the first point,
``session_pricing`` what enters the basis, ``session_basis`` keeps W and its inverse, and pivots are made here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.charging.session_basis import (
    exchange_limits,
    grow,
    refresh_inverse,
    replace_column,
    shrink,
    swap_key,
    tight_column,
)
from evflex.engine.charging.session_pricing import enter, price_limits
from evflex.engine.charging.session_problem import (
    CANDIDATES,
    EPS,
    FALL,
    PIVOT,
    RISE,
    STAY,
    SharedProblem,
    State,
    row_sign,
    upper_bound,
)
from evflex.engine.charging.session_start import start_greedy
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# The working basis holds at most this many limits; the simplex gives up after so many pivots for each session, and for
# a hundred more.
_MOST_TIGHT, _PIVOTS_EACH, _PIVOTS_MORE = 500, 60, 100
# Pivots after which the inverse is computed anew.
_REFRESH = 120
# What stops a step: the entering variable's other bound, an extra, a key, a limit.
_STOP_OWN, _STOP_EXTRA, _STOP_KEY, _STOP_LIMIT = 0, 1, 2, 3


@kernel
def solve_shared(s: SharedProblem, guess: FloatArray, power: FloatArray, limit_dual: FloatArray) -> int:
    """Optimal power (n, T) and prices (groups, T; <= 0) of the limits.

    Args:
        s: The problem.
        guess: Prices of the limits (<= 0) that the greedy start goes by, (groups, T).
        power: Written.
        limit_dual: Written: change of the optimum for each kW by which a limit is widened.

    Returns:
        Number of pivots, or -1 when capacity, pivots or accuracy did not suffice.
    """
    n, steps = s.high.shape
    groups = s.upper.shape[0]
    capacity = min(_MOST_TIGHT, np.isfinite(s.upper).sum())
    state = State(
        np.zeros((n, steps + 2)), np.zeros((n, steps + 2), dtype=np.int8),
        np.zeros(n, dtype=np.int64), s.upper.copy(), np.full((groups, steps), -1),
        np.zeros((capacity, 2), dtype=np.int64),
        np.zeros((capacity, 2), dtype=np.int64), np.zeros(n, dtype=np.int64), np.empty((capacity, capacity)),
        np.zeros(capacity), np.zeros((groups, steps)), np.zeros((CANDIDATES, 2), dtype=np.int64),
        np.zeros(3, dtype=np.int64),
    )  # fmt: skip
    if not start_greedy(s, state, guess, capacity) or not refresh_inverse(s, state):
        return -1
    work = np.zeros(capacity)
    move = _Move(
        np.zeros(capacity), np.zeros(n), np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.int64),
        np.zeros((groups, steps)), np.zeros((groups, steps), dtype=np.bool_),
        np.zeros((groups * steps, 2), dtype=np.int64), np.zeros(2, dtype=np.int64),
    )  # fmt: skip
    gains = np.empty(steps)
    tolerance = 1e-9 * max(1e-3, np.abs(s.price).max())
    since_inverse, since_slack = 0, 0
    for pivots in range(_PIVOTS_EACH * (n + _PIVOTS_MORE)):
        price_limits(s, state)
        i, v, direction = enter(s, state, tolerance, gains)
        if i == -1:
            if since_inverse == 0 and since_slack == 0:
                power[:] = state.x[:, :steps]
                limit_dual[:] = state.price
                return pivots
        elif _pivot(s, state, i, v, direction, work, move, capacity) < 0:
            return -1
        else:
            since_inverse += 1
            since_slack += 1
        # The optimum is confirmed with an inverse and slacks that carry no rounding.
        if i == -1 or since_inverse >= _REFRESH:
            if not refresh_inverse(s, state):
                return -1
            since_inverse = 0
        # Slacks take a pass over all sessions, so as many pivots lie between two of them.
        if i == -1 or since_slack >= max(_REFRESH, n):
            _refresh_slack(s, state)
            since_slack = 0
    return -1


class _Move(NamedTuple):
    """How the point moves for each unit by which the entering variable moves; what is listed is cleared afterwards.

    Attributes:
        change: Rate of each extra, (capacity,).
        key_change: Rate of each session's key, (n,).
        key_moves: Whether the session is listed, (n,).
        session: Sessions whose key moves, (n,).
        load_change: Rate of each limit's load, (groups, T).
        load_moves: Whether the limit is listed, (groups, T).
        limit: Limits whose load moves, as (group, step), (groups · T, 2).
        listed: [number of sessions listed, number of limits listed].
    """

    change: FloatArray
    key_change: FloatArray
    key_moves: BoolArray
    session: IntArray
    load_change: FloatArray
    load_moves: BoolArray
    limit: IntArray
    listed: IntArray


@inner_kernel
def _pivot(
    s: SharedProblem, state: State, i: int, v: int, direction: float, work: FloatArray, move: _Move, capacity: int
) -> int:
    """Bring a variable (or, with i = -2, the slack of tight limit v) into the basis; -1 when that fails."""
    size = state.size[0]
    _move_extras(s, state, i, v, direction, work, move)
    _move_keys(s, state, i, v, direction, move)
    _move_loads(s, state, i, v, direction, move)
    step, kind, at, limit_step = _longest_step(s, state, i, v, move)
    if kind < 0 or step == np.inf:
        return -1
    _advance(s, state, i, v, direction, max(step, 0.0), move)

    # Change the basis.
    if kind == _STOP_OWN:
        state.way[i, v] = FALL if direction > 0.0 else RISE
        state.x[i, v] = upper_bound(s, i, v) if direction > 0.0 else 0.0
        return 0
    if kind == _STOP_LIMIT:
        if i >= 0:
            return grow(s, state, i, v, at, limit_step, work, capacity)
        return exchange_limits(s, state, v, at, limit_step)
    if kind == _STOP_KEY:
        m = at
        if state.extras_of[m] == 0:
            # Only the entering variable's own session: it becomes the key.
            _leave(s, state, m, state.key[m])
            state.key[m] = v
            state.way[m, v] = STAY
            return 0
        at = swap_key(s, state, m)
    m, leaving = state.extra[at, 0], state.extra[at, 1]
    _leave(s, state, m, leaving)
    state.extras_of[m] -= 1
    if i < 0:
        return shrink(state, v, at)
    state.extra[at, 0], state.extra[at, 1] = i, v
    state.extras_of[i] += 1
    state.way[i, v] = STAY
    work[:size] = 0.0
    tight_column(s, state, i, v, work)
    return replace_column(state, at, work)


@inner_kernel
def _move_extras(
    s: SharedProblem, state: State, i: int, v: int, direction: float, work: FloatArray, move: _Move
) -> None:
    """Rates of the extras: the entering column, which has few entries, by the inverse."""
    size, inverse, change = state.size[0], state.inverse, move.change
    if i < 0:
        for e in range(size):
            change[e] = -inverse[e, v]
        return
    work[:size] = 0.0
    tight_column(s, state, i, v, work)
    change[:size] = 0.0
    for r in range(size):
        if work[r] != 0.0:
            factor = -direction * work[r]
            for e in range(size):
                change[e] += factor * inverse[e, r]


@inner_kernel
def _move_keys(s: SharedProblem, state: State, i: int, v: int, direction: float, move: _Move) -> None:
    """Rates of the keys: each session's row stays satisfied."""
    steps = s.price.shape[0]
    move.listed[0] = 0
    for e in range(-1 if i >= 0 else 0, state.size[0]):
        m, own, rate = (i, v, direction) if e < 0 else (state.extra[e, 0], state.extra[e, 1], move.change[e])
        if rate == 0.0:
            continue
        if not move.key_moves[m]:
            move.key_moves[m] = True
            move.session[move.listed[0]] = m
            move.listed[0] += 1
        move.key_change[m] -= row_sign(steps, own) / row_sign(steps, state.key[m]) * rate


@inner_kernel
def _move_loads(s: SharedProblem, state: State, i: int, v: int, direction: float, move: _Move) -> None:
    """Rates of the limits' loads."""
    move.listed[1] = 0
    for e in range(-1 if i >= 0 else 0, state.size[0]):
        if e < 0:
            _move_load(s, i, v, direction, move)
        elif move.change[e] != 0.0:
            _move_load(s, state.extra[e, 0], state.extra[e, 1], move.change[e], move)
    for m in move.session[: move.listed[0]]:
        _move_load(s, m, state.key[m], move.key_change[m], move)


@inner_kernel
def _move_load(s: SharedProblem, m: int, v: int, rate: float, move: _Move) -> None:
    """Add what variable v of session m changes."""
    if v >= s.price.shape[0]:
        return
    for k in range(s.session_start[m], s.session_start[m + 1]):
        g = s.group[k]
        if not move.load_moves[g, v]:
            move.load_moves[g, v] = True
            move.limit[move.listed[1], 0], move.limit[move.listed[1], 1] = g, v
            move.listed[1] += 1
        move.load_change[g, v] += rate * s.weight[k] / s.presence[m, v]


@inner_kernel
def _longest_step(s: SharedProblem, state: State, i: int, v: int, move: _Move) -> tuple[float, int, int, int]:
    """Ratio test: how far the entering variable goes, what stops it, and where; of equal ratios the largest pivot wins.

    Where is the position of an extra, the session of a key, or the group of a limit, whose step comes last.
    """
    x, extra = state.x, state.extra
    step, kind, at, limit_step, best_pivot = np.inf, -1, -1, -1, 0.0
    if i >= 0:
        step, kind = upper_bound(s, i, v), _STOP_OWN
    for e in range(state.size[0]):
        rate = move.change[e]
        if abs(rate) > PIVOT:
            m, u = extra[e, 0], extra[e, 1]
            room = _room(x[m, u], upper_bound(s, m, u), rate)
            if room < step - EPS or (room < step + EPS and abs(rate) > best_pivot and kind != _STOP_OWN):
                step, kind, at, best_pivot = room, _STOP_EXTRA, e, abs(rate)
    for m in move.session[: move.listed[0]]:
        rate = move.key_change[m]
        if abs(rate) > PIVOT:
            u = state.key[m]
            room = _room(x[m, u], upper_bound(s, m, u), rate)
            if room < step - EPS or (room < step + EPS and abs(rate) > best_pivot and kind != _STOP_OWN):
                step, kind, at, best_pivot = room, _STOP_KEY, m, abs(rate)
    for c in range(move.listed[1]):
        g, t = move.limit[c, 0], move.limit[c, 1]
        rate = move.load_change[g, t]
        if rate > PIVOT and state.place[g, t] < 0 and s.upper[g, t] < np.inf:
            room = max(state.slack[g, t], 0.0) / rate
            if room < step - EPS or (room < step + EPS and rate > best_pivot and kind != _STOP_OWN):
                step, kind, at, limit_step, best_pivot = room, _STOP_LIMIT, g, t, rate
    return step, kind, at, limit_step


@inner_kernel
def _room(x: float, cap: float, rate: float) -> float:
    """How far a basic variable can go before a bound stops it."""
    return max(0.0, (cap - x) / rate if rate > 0.0 else -x / rate)


@inner_kernel
def _advance(s: SharedProblem, state: State, i: int, v: int, direction: float, step: float, move: _Move) -> None:
    """Move the point and the slacks, and clear the lists."""
    if i >= 0:
        state.x[i, v] += direction * step
    for e in range(state.size[0]):
        if move.change[e] != 0.0:
            state.x[state.extra[e, 0], state.extra[e, 1]] += move.change[e] * step
    for m in move.session[: move.listed[0]]:
        state.x[m, state.key[m]] += move.key_change[m] * step
        move.key_change[m] = 0.0
        move.key_moves[m] = False
    for c in range(move.listed[1]):
        g, t = move.limit[c, 0], move.limit[c, 1]
        if state.place[g, t] < 0:
            state.slack[g, t] -= move.load_change[g, t] * step
        move.load_change[g, t] = 0.0
        move.load_moves[g, t] = False
    if i < 0:
        state.slack[state.tight[v, 0], state.tight[v, 1]] = step


@inner_kernel
def _leave(s: SharedProblem, state: State, m: int, v: int) -> None:
    """A variable leaves the basis at the bound that it has reached."""
    cap = upper_bound(s, m, v)
    if cap <= EPS:
        state.way[m, v], state.x[m, v] = STAY, 0.0
    elif state.x[m, v] > 0.5 * cap:
        state.way[m, v], state.x[m, v] = FALL, cap
    else:
        state.way[m, v], state.x[m, v] = RISE, 0.0


@inner_kernel
def _refresh_slack(s: SharedProblem, state: State) -> None:
    """Compute anew what each limit leaves."""
    state.slack[:] = s.upper
    for i in range(s.high.shape[0]):
        for k in range(s.session_start[i], s.session_start[i + 1]):
            g, weight = s.group[k], s.weight[k]
            for t in range(s.first[i], s.last[i]):
                if state.x[i, t] != 0.0:
                    state.slack[g, t] -= state.x[i, t] * weight / s.presence[i, t]
