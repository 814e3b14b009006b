"""Uncontrolled charging: full power on arrival, first come first served, under the site's limits and minimums."""

from __future__ import annotations

import numpy as np

from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Power below this is nothing (kW).
NOTHING_KW = 1e-9


@kernel
def first_come_first_served(
    order: IntArray,
    presence: FloatArray,
    need_kw_steps: FloatArray,
    max_kw: FloatArray,
    min_kw: FloatArray,
    quantum_kw: FloatArray,
    upper_kw: FloatArray,
    session_start: IntArray,
    group: IntArray,
    weight: FloatArray,
) -> FloatArray:  # pragma: no cover - compiled
    """Serve sessions one after another; each takes what the earlier ones left.

    A session draws its largest power until it has its energy. Its last step would often lie below its minimum; the
    step before then gives up what the last one lacks.

    Args:
        order: Sessions in the order of service.
        presence: Share of each step, (n, T).
        need_kw_steps: Wanted sum of mean power over steps, (n,).
        max_kw: Largest power, (n,).
        min_kw: Smallest power when charging, (n,).
        quantum_kw: Step of the settable power, 0 for any, (n,).
        upper_kw: Limits on the sum of instantaneous power, (groups, T).
        session_start: Row pointers of the session's groups.
        group: Groups of each session.
        weight: Weight of the session in each group.

    Returns:
        Mean power, (n, T).
    """
    n, steps = presence.shape
    power = np.zeros((n, steps))
    left = upper_kw.copy()
    for i in order:
        rest = need_kw_steps[i]
        for t in range(steps):
            f = presence[i, t]
            if f <= 0.0 or rest <= NOTHING_KW:
                continue
            room = max_kw[i]
            for k in range(session_start[i], session_start[i + 1]):
                room = min(room, left[group[k], t] / weight[k])
            now = min(room, rest / f)
            if quantum_kw[i] > 0.0:
                now = np.floor(now / quantum_kw[i] + 1e-9) * quantum_kw[i]
            if now < min_kw[i] - NOTHING_KW and room >= min_kw[i] - NOTHING_KW:
                now = _borrow(power, presence, left, i, t, rest, min_kw[i], quantum_kw[i], session_start, group, weight)
                rest = need_kw_steps[i] - power[i, :t].sum()
            if now < max(min_kw[i], NOTHING_KW) - NOTHING_KW or now <= NOTHING_KW:
                continue
            power[i, t] = now * f
            rest -= now * f
            for k in range(session_start[i], session_start[i + 1]):
                left[group[k], t] -= weight[k] * now
    return power


@inner_kernel
def _borrow(
    power: FloatArray,
    presence: FloatArray,
    left: FloatArray,
    i: int,
    t: int,
    rest: float,
    min_kw: float,
    quantum_kw: float,
    session_start: IntArray,
    group: IntArray,
    weight: FloatArray,
) -> float:  # pragma: no cover - compiled
    """Lower earlier steps of session i so that step t can run at its minimum; 0 where they cannot spare that much."""
    f = presence[i, t]
    lack = min_kw * f - rest
    spare = 0.0
    for u in range(t):
        if power[i, u] > 0.0 and presence[i, u] > 0.0:
            spare += max(0.0, power[i, u] - min_kw * presence[i, u])
    if quantum_kw > 0.0 or spare < lack:
        return 0.0
    for u in range(t - 1, -1, -1):
        if lack <= 0.0:
            break
        if power[i, u] > 0.0:
            give = min(lack, max(0.0, power[i, u] - min_kw * presence[i, u]))
            power[i, u] -= give
            lack -= give
            for k in range(session_start[i], session_start[i + 1]):
                left[group[k], u] += weight[k] * give / presence[i, u]
    return min_kw
