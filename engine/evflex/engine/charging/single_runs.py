"""One run of charging a session: keeps ramps, shortest runs and few starts where nothing better is known."""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.evaluation import group_power_kw
from evflex.engine.charging.site import Site, service_order
from evflex.engine.charging.switching import least_on_kw, min_run_steps
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_EPS = 1e-9
# Halvings of the interval in which the level of a run lies.
_HALVINGS = 40


def with_single_runs(site: Site, who: BoolArray, power_kw: FloatArray) -> FloatArray:
    """The plan in which some sessions charge in one run each, in what the others leave; (n, T).

    Args:
        site: The site.
        who: Sessions to plan, (n,).
        power_kw: Plan of the others for the controlled steps, (n, T).
    """
    power = np.where(who[:, None], 0.0, power_kw)
    limits, sessions = site.limits, site.problem.sessions
    kwh_per_kw = sessions.charge_efficiency * site.step_h
    given = site.given_kw.sum(axis=1)
    order = service_order(site.problem)
    add_single_runs(
        order[who[order]], power, limits.drawable_kw - group_power_kw(site, power), site.presence,
        site.presence * least_on_kw(site)[:, None], site.presence * site.max_charge_kw[:, None],
        site.presence * site.quantum_kw[:, None], sessions.max_ramp_kw_per_step,
        np.maximum(site.need_kwh / kwh_per_kw - given, 0.0), site.ceiling_kwh / kwh_per_kw - given,
        min_run_steps(site.options, site.problem.grid), limits.session_start, limits.group, limits.weight,
    )  # fmt: skip
    return power


@kernel
def add_single_runs(
    order: IntArray,
    power: FloatArray,
    left: FloatArray,
    presence: FloatArray,
    low: FloatArray,
    high: FloatArray,
    quantum: FloatArray,
    ramp: FloatArray,
    wanted: FloatArray,
    most: FloatArray,
    run_steps: int,
    session_start: IntArray,
    group: IntArray,
    weight: FloatArray,
) -> None:
    """Give each session of ``order`` the run that brings it closest to its need, the earliest of equal ones.

    Args:
        order: Sessions in the order of service.
        power: Mean power, (n, T); changed.
        left: What limits leave, instantaneous, (groups, T); changed.
        presence: Share of each step, (n, T).
        low: Smallest mean power when on, (n, T).
        high: Largest mean power, (n, T).
        quantum: Step of the settable mean power, 0 for any, (n, T).
        ramp: Largest change from step to step, (n,).
        wanted: Sum of power that meets the need, (n,).
        most: Largest sum of power, (n,).
        run_steps: Shortest run.
        session_start: Row pointers of the session's groups.
        group: Groups of each session.
        weight: Weight of the session in each group.
    """
    steps = power.shape[1]
    path, best = np.zeros(steps), np.zeros(steps)
    for i in order:
        room = high[i].copy()
        for t in range(steps):
            for k in range(session_start[i], session_start[i + 1]):
                room[t] = min(room[t], left[group[k], t] / weight[k] * presence[i, t])
        goal = min(wanted[i], most[i])
        best[:] = 0.0
        best_sum = 0.0
        a = 0
        while a < steps:
            if room[a] < low[i, a] - _EPS or room[a] <= _EPS:
                a += 1
                continue
            b = a
            while b < steps and room[b] >= low[i, b] - _EPS and room[b] > _EPS:
                b += 1
            # A run may be cut by the end of the stay, but not by limits.
            cut = b == steps or presence[i, b] <= 0.0
            total = _fit_run(a, b, cut, room, low[i], quantum[i], ramp[i], goal, run_steps, path)
            if total > best_sum + _EPS:
                best_sum = total
                best[:] = path
            a = b
        for t in range(steps):
            if best[t] > 0.0:
                power[i, t] = best[t]
                for k in range(session_start[i], session_start[i + 1]):
                    left[group[k], t] -= weight[k] * best[t] / presence[i, t]


@inner_kernel
def _fit_run(
    a: int,
    b: int,
    cut: bool,
    room: FloatArray,
    low: FloatArray,
    quantum: FloatArray,
    ramp: float,
    goal: float,
    run_steps: int,
    path: FloatArray,
) -> float:
    """Fill ``path`` with a run within a .. b − 1 that draws at most ``goal``; returns what it draws, 0 for none."""
    path[:] = 0.0
    end = b
    while end > a and not (end - a < run_steps and not (cut and end == b)):
        least = _level_run(a, end, 0.0, room, low, quantum, ramp, path)
        if 0.0 <= least <= goal + _EPS:
            break
        end -= 1
    else:
        path[:] = 0.0
        return 0.0
    lowest, highest = 0.0, room[a:end].max()
    total = _level_run(a, end, highest, room, low, quantum, ramp, path)
    if 0.0 <= total <= goal + _EPS:
        return total
    for _ in range(_HALVINGS):
        level = 0.5 * (lowest + highest)
        total = _level_run(a, end, level, room, low, quantum, ramp, path)
        if 0.0 <= total <= goal:
            lowest = level
        else:
            highest = level
    return _level_run(a, end, lowest, room, low, quantum, ramp, path)


@inner_kernel
def _level_run(
    a: int,
    b: int,
    level: float,
    room: FloatArray,
    low: FloatArray,
    quantum: FloatArray,
    ramp: float,
    path: FloatArray,
) -> float:
    """The highest run below ``level`` (but not below the minimum) that follows its ramp; −1 where there is none."""
    path[:] = 0.0
    for t in range(a, b):
        path[t] = max(low[t], min(room[t], level))
        if quantum[t] > 0.0:
            path[t] = np.floor(path[t] / quantum[t] + 1e-7) * quantum[t]
    path[a] = min(path[a], max(ramp, low[a]))
    path[b - 1] = min(path[b - 1], max(ramp, low[b - 1]))
    for t in range(a + 1, b):
        path[t] = min(path[t], path[t - 1] + ramp)
    for t in range(b - 2, a - 1, -1):
        path[t] = min(path[t], path[t + 1] + ramp)
    total = 0.0
    for t in range(a, b):
        if path[t] < low[t] - _EPS:
            return -1.0
        total += path[t]
    return total
