"""Uncontrolled charging: first come, first served, at full power from arrival until the need is met."""

from __future__ import annotations

import math

import numpy as np

from tests.engine.charging.reference.case import Case, FloatArray


def uncontrolled(case: Case, steps: list[int] | None = None) -> FloatArray:
    """Mean powers when sessions charge on arrival, in the order of arrival, under all limits.

    Args:
        case: The problem.
        steps: Steps in which charging happens at all; None means every step.
    """
    s = case.problem.sessions
    power = np.zeros((case.count, case.steps))
    order = sorted(range(case.count), key=lambda i: (s.arrival_unix_s[i], i))
    rows_of: dict[tuple[int, int], list[int]] = {}
    for k, row in enumerate(case.rows):
        for i in row.share:
            if row.share[i] > 0:
                rows_of.setdefault((i, row.step), []).append(k)
    left = [row.limit - row.fixed for row in case.rows]
    for t in range(case.steps) if steps is None else steps:
        for i in order:
            share = case.presence[i, t]
            if share <= 0:
                continue
            low, high = case.range_kw(i, charging=True)
            have = float(power[i].sum() * case.dt * s.charge_efficiency[i])
            room = (case.needed[i] - have) / (case.dt * s.charge_efficiency[i] * share)
            rows = rows_of.get((i, t), [])
            for k in rows:
                room = min(room, left[k] / (case.rows[k].share[i] * share))
            wanted = min(high, room)
            unit = case.quantum_kw(i)
            if unit > 0:
                wanted = unit * math.floor(wanted / unit + 1e-9)
            if wanted > 1e-9 and wanted >= low - 1e-9:
                power[i, t] = wanted * share
                for k in rows:
                    left[k] -= case.rows[k].share[i] * power[i, t]
    return power
