"""What each limit sees of the sessions: sums over its group."""

from __future__ import annotations

import numpy as np

from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray, IntArray


@kernel
def sum_groups(
    power: FloatArray,
    presence: FloatArray,
    session_start: IntArray,
    group: IntArray,
    weight: FloatArray,
    group_count: int,
) -> FloatArray:
    """Instantaneous power that each group sees: Σ weight·power / presence, (groups, T).

    Args:
        power: Mean power, (n, T).
        presence: Share of each step, (n, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in each group.
        group_count: Number of groups.
    """
    out = np.zeros((group_count, power.shape[1]))
    for i in range(power.shape[0]):
        for k in range(session_start[i], session_start[i + 1]):
            for t in range(power.shape[1]):
                if power[i, t] != 0.0 and presence[i, t] > 0.0:
                    out[group[k], t] += weight[k] * power[i, t] / presence[i, t]
    return out
