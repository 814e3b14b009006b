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
from evflex.engine.supply_tree import FloatArray, IntArray

# Pivots after which the inverse is computed anew.
_REFRESH = 120
# What stops a step: the entering variable's other bound, an extra, a key, a limit.
_STOP_OWN, _STOP_EXTRA, _STOP_KEY, _STOP_LIMIT = 0, 1, 2, 3


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
    change = np.zeros(capacity)
    key_change = np.zeros(n)
    moved = np.zeros((groups, steps))
    gains = np.empty(steps)
    tolerance = 1e-9 * max(1e-3, np.abs(s.price).max())
    since_inverse, since_slack = 0, 0
    for pivots in range(max_pivots):
        price_limits(s, state)
        i, v, direction = enter(s, state, tolerance, gains)
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
            if not refresh_inverse(s, state):
                return -1
            since_inverse = 0
        # Slacks take a pass over all sessions, so as many pivots lie between two of them.
        if i == -1 or since_slack >= max(_REFRESH, n):
            _refresh_slack(s, state)
            since_slack = 0
    return -1


@inner_kernel
def _pivot(
    s: SharedProblem, state: State, i: int, v: int, direction: float, work: FloatArray, change: FloatArray,
    key_change: FloatArray, moved: FloatArray, capacity: int,
) -> int:  # fmt: skip
    """Bring a variable (or, with i = -2, the slack of tight limit v) into the basis; -1 when that fails."""
    steps = s.price.shape[0]
    size = state.size[0]
    work[:size] = 0.0
    if i >= 0:
        tight_column(s, state, i, v, work)
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
        key_change[i] = -direction * row_sign(steps, v) / row_sign(steps, state.key[i])
    for e in range(size):
        if change[e] != 0.0:
            m = state.extra[e, 0]
            key_change[m] -= row_sign(steps, state.extra[e, 1]) / row_sign(steps, state.key[m]) * change[e]
    _move_limits(s, state, i, v, direction, change, key_change, moved)

    # Ratio test; of equal ratios the largest pivot wins.
    x, extra, key = state.x, state.extra, state.key
    step, kind, at, limit_step, best_pivot = np.inf, -1, -1, -1, 0.0
    if i >= 0:
        step, kind = upper_bound(s, i, v), _STOP_OWN
    for e in range(-1, size):
        m = i if e < 0 else extra[e, 0]
        if m < 0:
            continue
        for stop in (_STOP_EXTRA, _STOP_KEY):
            if stop == _STOP_EXTRA and e < 0:
                continue
            u = extra[e, 1] if stop == _STOP_EXTRA else key[m]
            rate = change[e] if stop == _STOP_EXTRA else key_change[m]
            if abs(rate) <= PIVOT:
                continue
            room = _room(x[m, u], upper_bound(s, m, u), rate)
            if room < step - EPS or (room < step + EPS and abs(rate) > best_pivot and kind != _STOP_OWN):
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
def _room(x: float, cap: float, rate: float) -> float:
    """How far a basic variable can go before a bound stops it."""
    return max(0.0, (cap - x) / rate if rate > 0.0 else -x / rate)


@inner_kernel
def _move_limits(
    s: SharedProblem, state: State, i: int, v: int, direction: float, change: FloatArray, key_change: FloatArray,
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
    s: SharedProblem, state: State, i: int, v: int, change: FloatArray, key_change: FloatArray, moved: FloatArray,
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
                if rate > PIVOT and state.place[g, t] < 0 and s.upper[g, t] < np.inf:
                    room = max(state.slack[g, t], 0.0) / rate
                    if room < step - EPS or (room < step + EPS and rate > best_pivot and kind != _STOP_OWN):
                        step, kind, at, limit_step, best_pivot = room, _STOP_LIMIT, g, t, rate
    return step, kind, at, limit_step


@inner_kernel
def _apply_limits(
    s: SharedProblem, state: State, i: int, v: int, change: FloatArray, step: float, moved: FloatArray
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
