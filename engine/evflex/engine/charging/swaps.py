"""Load-preserving swaps: two sessions exchange power between two steps, so that a power below its minimum is mended.

Step totals, hence cost and limits, stay as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.charging.repairable import EPS, Repairable, add_power, fits, is_allowed
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Sessions asked for a swap besides those that are on below their maximum.
_NEIGHBOURS = 250


class Partial(NamedTuple):
    """Sessions that may gain in a step without being switched on; kernels check again, for lists may be out of date.

    Attributes:
        length: Of each step's list, (T,).
        session: The lists, (T, n).
    """

    length: IntArray
    session: IntArray


@inner_kernel
def list_partial_sessions(s: Repairable, power: FloatArray) -> Partial:
    """Sessions that are on below their maximum, by step."""
    n, steps = power.shape
    partial = Partial(np.zeros(steps, dtype=np.int64), np.empty((steps, n), dtype=np.int64))
    for i in range(n):
        for t in range(s.first[i], s.last[i]):
            _list_partial(s, i, t, power, partial)
    return partial


@inner_kernel
def swap(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray, partial: Partial) -> bool:
    """Mend step t of session i by a swap with another session; False where there is none."""
    p = power[i, t]
    for delta in (s.low[i, t] - p, -p):
        for u in range(s.first[i], s.last[i]):
            if u == t or power[i, u] <= EPS or not is_allowed(power[i, u] - delta, s.low[i, u], s.high[i, u]):
                continue
            partner = _exchange_with_any(s, i, t, u, delta, power, load, partial)
            if partner >= 0:
                for m in (i, partner):
                    _list_partial(s, m, t, power, partial)
                    _list_partial(s, m, u, power, partial)
                return True
    return False


@inner_kernel
def _may_swap(s: Repairable, i: int, t: int, u: int, p: float, power: FloatArray) -> bool:
    """Whether power p, were it in step u of session i and not in t, could be mended there by a swap with a third."""
    for delta in (s.low[i, u] - p, -p):
        for w in range(s.first[i], s.last[i]):
            if w != t and power[i, w] > EPS and is_allowed(power[i, w] - delta, s.low[i, w], s.high[i, w]):
                return True
    return False


@inner_kernel
def swap_twice(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray, partial: Partial) -> bool:
    """Move what lies below the minimum to a step that is off, by one swap, and mend that step by another."""
    p = power[i, t]
    for u in range(s.first[i], s.last[i]):
        if u == t or power[i, u] > EPS or s.high[i, u] < s.low[i, u] or not _may_swap(s, i, t, u, p, power):
            continue
        partner = _exchange_with_any(s, i, t, u, -p, power, load, partial)
        if partner >= 0:
            if swap(s, i, u, power, load, partial):
                _list_partial(s, partner, t, power, partial)
                return True
            _exchange(s, i, partner, t, u, p, power, load)
            power[i, t] = p
    return False


@inner_kernel
def _exchange_with_any(
    s: Repairable, i: int, t: int, u: int, delta: float, power: FloatArray, load: FloatArray, partial: Partial
) -> int:
    """Move delta of session i from step u to step t, and another one's the other way; its number, -1 for none.

    The other one has room where it gains. Those that are on there come first, all of them; then some that may be off.
    """
    if (t < s.early_steps[i]) != (u < s.early_steps[i]):
        return -1
    n = power.shape[0]
    low, high, movable, early_steps = s.low, s.high, s.movable, s.early_steps
    gaining = u if delta > 0.0 else t
    count = partial.length[gaining]
    for c in range(count + min(n - 1, _NEIGHBOURS)):
        j = partial.session[gaining, c] if c < count else (i + 1 + c - count) % n
        if j == i or not movable[j] or high[j, t] <= 0.0 or high[j, u] <= 0.0:
            continue
        if not is_allowed(power[j, t] - delta, low[j, t], high[j, t]):
            continue
        if not is_allowed(power[j, u] + delta, low[j, u], high[j, u]):
            continue
        if (t < early_steps[j]) != (u < early_steps[j]):
            continue
        before_t, before_u = power[i, t], power[i, u]
        _exchange(s, i, j, t, u, delta, power, load)
        if fits(s, i, t, load) and fits(s, i, u, load) and fits(s, j, t, load) and fits(s, j, u, load):
            return j
        _exchange(s, i, j, t, u, -delta, power, load)
        power[i, t], power[i, u] = before_t, before_u
    return -1


@inner_kernel
def _list_partial(s: Repairable, i: int, t: int, power: FloatArray, partial: Partial) -> None:
    """Note that session i may gain in step t, if it is on there below its maximum and the list has a place."""
    at = partial.length[t]
    if power[i, t] > EPS and power[i, t] < s.high[i, t] - EPS and at < partial.session.shape[1]:
        partial.session[t, at] = i
        partial.length[t] = at + 1


@inner_kernel
def _exchange(s: Repairable, i: int, j: int, t: int, u: int, delta: float, power: FloatArray, load: FloatArray) -> None:
    """Session i moves delta from step u to step t, session j moves it back."""
    add_power(s, i, t, delta, power, load)
    add_power(s, i, u, -delta, power, load)
    add_power(s, j, t, -delta, power, load)
    add_power(s, j, u, delta, power, load)
