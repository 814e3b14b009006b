"""Among plans of equal objective: energy earlier, then fewer starts.

Power moves within a session from a later to an earlier step of the same marginal cost, as far as limits, minimum power
and quanta allow. Then two sessions exchange a step each, which leaves the load of every step as it is, where that saves
starts. The caller checks that the objective rose by no more than the tie tolerance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.charging.evaluation import group_power_kw
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import charging_before, counts_starts, min_run_steps
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# The objective may rise by this share of the gap's scale.
TIE_TOLERANCE = 1e-6
_EPS = 1e-9
# Partners tried for one exchange, and rounds over all sessions.
_PARTNERS, _ROUNDS = 48, 3
# Power moves earlier by at most this many steps, and starts are saved on horizons of at most that many.
_REACH, _LONGEST = 200, 2_000


class Movable(NamedTuple):
    """What the kernel reads; powers are mean powers in kW.

    Attributes:
        sessions: Sessions whose power may move, (n,).
        price: Marginal cost of a kW in each step where there is room, (n, T).
        low: Smallest power when on, (n, T).
        high: Largest power; 0 where absent, (n, T).
        quantum: Step of the settable power; 0: any, (n, T).
        presence: Share of each step, (n, T).
        upper: Limits on instantaneous power, (groups, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
        before: Whether the session charges just before the step without the plan's doing, (n, T).
        keep_pattern: Whether steps must stay on or off as they are.
    """

    sessions: BoolArray
    price: FloatArray
    low: FloatArray
    high: FloatArray
    quantum: FloatArray
    presence: FloatArray
    upper: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray
    before: BoolArray
    keep_pattern: bool


def break_ties(site: Site, free_price: FloatArray, power_kw: FloatArray) -> FloatArray:
    """The plan with energy earlier and fewer starts at equal marginal cost, (n, T).

    Args:
        site: The site.
        free_price: Marginal cost of a kW in each step, limits not priced, (n, T).
        power_kw: Plan for the controlled steps, (n, T).
    """
    options = site.options
    changes = options.change_cost_per_kwh > 0.0 and options.previous_power_kw.size > 0
    if changes or not _settles(site).any():
        return power_kw
    load = group_power_kw(site, power_kw)
    what = movable(site, free_price, load)
    moved = power_kw.copy()
    move_earlier(what, moved, load)
    if saves_starts(site):
        save_starts(what, moved, load)
    return moved


def saves_starts(site: Site) -> bool:
    """Whether starts are saved by exchanges: not where runs have a shortest length, or the horizon is long."""
    return min_run_steps(site.options, site.problem.grid) == 1 and site.step_count <= _LONGEST


def movable(site: Site, free_price: FloatArray, load_kw: FloatArray) -> Movable:
    """A site as the kernels read it.

    Args:
        site: The site.
        free_price: Marginal cost of a kW in each step, limits not priced, (n, T).
        load_kw: What each limit sees of the plan, (groups, T).
    """
    limits = site.limits
    return Movable(
        sessions=_settles(site),
        price=free_price,
        low=site.presence * site.min_charge_kw[:, None],
        high=site.presence * site.max_charge_kw[:, None],
        quantum=site.presence * site.quantum_kw[:, None],
        presence=site.presence,
        # An agreement that gave way to minimum energy is not broken further.
        upper=np.minimum(limits.upper_kw, np.maximum(limits.agreement_kw, load_kw)),
        session_start=limits.session_start,
        group=limits.group,
        weight=limits.weight,
        before=charging_before(site),
        keep_pattern=counts_starts(site.options),
    )


def _settles(site: Site) -> BoolArray:
    """Sessions whose power may move, (n,)."""
    held = (site.max_discharge_kw > 0.0) | (site.minimum_kwh > 0.0)
    return np.asarray(~held & np.isinf(site.problem.sessions.max_ramp_kw_per_step))


@kernel
def move_earlier(s: Movable, power: FloatArray, load: FloatArray) -> int:
    """Move power of each session to earlier steps of equal price, in place; returns the number of moves.

    Args:
        s: What may move.
        power: Mean power, (n, T); changed.
        load: Power that each limit sees, (groups, T); changed.
    """
    n, steps = power.shape
    moves = 0
    for i in range(n):
        if not s.sessions[i]:
            continue
        for u in range(steps):
            free = s.high[i, u] - power[i, u]
            if free <= _EPS or (s.keep_pattern and power[i, u] <= _EPS):
                continue
            for k in range(s.session_start[i], s.session_start[i + 1]):
                g = s.group[k]
                free = min(free, (s.upper[g, u] - load[g, u]) / s.weight[k] * s.presence[i, u])
            for t in range(min(steps - 1, u + _REACH), u, -1):
                if free <= _EPS:
                    break
                p = power[i, t]
                if p <= _EPS or abs(s.price[i, u] - s.price[i, t]) > 1e-12 * (1.0 + abs(s.price[i, t])):
                    continue
                if s.quantum[i, t] != s.quantum[i, u]:
                    continue
                amount = p
                if s.keep_pattern or amount > free:
                    amount = min(free, p - s.low[i, t])
                    if s.quantum[i, t] > 0.0:
                        amount = np.floor(amount / s.quantum[i, t] + 1e-7) * s.quantum[i, t]
                if amount <= _EPS or power[i, u] + amount < s.low[i, u] - _EPS:
                    continue
                power[i, t] -= amount
                power[i, u] += amount
                if power[i, t] <= _EPS:
                    power[i, t] = 0.0
                for k in range(s.session_start[i], s.session_start[i + 1]):
                    load[s.group[k], t] -= amount * s.weight[k] / s.presence[i, t]
                    load[s.group[k], u] += amount * s.weight[k] / s.presence[i, u]
                free -= amount
                moves += 1
    return moves


@kernel
def save_starts(s: Movable, power: FloatArray, load: FloatArray) -> int:
    """Exchange steps between sessions where that saves a start, in place; returns the number of exchanges.

    Session i gives up step t for step u, and session j as much of step u for step t: loads of steps do not change.
    """
    n, steps = power.shape
    exchanges = 0
    for _ in range(_ROUNDS):
        saved = 0
        for i in range(n):
            if not s.sessions[i]:
                continue
            for t in range(steps):
                p = power[i, t]
                lonely = p > _EPS and (t + 1 == steps or power[i, t + 1] <= _EPS)
                if not lonely or s.before[i, t] or (t > 0 and power[i, t - 1] > _EPS):
                    continue
                if _exchange_step(s, i, t, power, load):
                    saved += 1
        exchanges += saved
        if saved == 0:
            break
    return exchanges


@inner_kernel
def _exchange_step(s: Movable, i: int, t: int, power: FloatArray, load: FloatArray) -> bool:
    """Move the lonely step t of session i next to another of its steps, if a session can take it in exchange."""
    n, steps = power.shape
    p = power[i, t]
    for u in range(steps):
        beside = (u > 0 and u - 1 != t and power[i, u - 1] > _EPS) or (
            u + 1 < steps and u + 1 != t and power[i, u + 1] > _EPS
        )
        if not beside or power[i, u] > _EPS or p > s.high[i, u] + _EPS or p < s.low[i, u] - _EPS:
            continue
        if s.quantum[i, t] != s.quantum[i, u]:
            continue
        for ahead in range(1, min(n, _PARTNERS)):
            j = (i + ahead) % n
            if not s.sessions[j] or power[j, u] < p - _EPS or s.quantum[j, t] != s.quantum[j, u]:
                continue
            rest, grown = power[j, u] - p, power[j, t] + p
            if (rest > _EPS and rest < s.low[j, u] - _EPS) or grown > s.high[j, t] + _EPS or grown < s.low[j, t] - _EPS:
                continue
            if s.quantum[j, t] > 0.0 and abs(p / s.quantum[j, t] - np.round(p / s.quantum[j, t])) > 1e-9:
                continue
            starts = _starts_beside(s, i, t, u, power) + _starts_beside(s, j, t, u, power)
            _shift(s, i, t, u, p, power, load)
            _shift(s, j, u, t, p, power, load)
            fits = _fits(s, i, u, load) and _fits(s, j, t, load)
            if fits and _starts_beside(s, i, t, u, power) + _starts_beside(s, j, t, u, power) < starts:
                return True
            _shift(s, j, t, u, p, power, load)
            _shift(s, i, u, t, p, power, load)
    return False


@inner_kernel
def _shift(s: Movable, i: int, source: int, target: int, amount: float, power: FloatArray, load: FloatArray) -> None:
    power[i, source] -= amount
    power[i, target] += amount
    if abs(power[i, source]) <= _EPS:
        power[i, source] = 0.0
    for k in range(s.session_start[i], s.session_start[i + 1]):
        load[s.group[k], source] -= amount * s.weight[k] / s.presence[i, source]
        load[s.group[k], target] += amount * s.weight[k] / s.presence[i, target]


@inner_kernel
def _fits(s: Movable, i: int, t: int, load: FloatArray) -> bool:
    for k in range(s.session_start[i], s.session_start[i + 1]):
        if load[s.group[k], t] > s.upper[s.group[k], t] + _EPS:
            return False
    return True


@inner_kernel
def _starts_beside(s: Movable, i: int, t: int, u: int, power: FloatArray) -> int:
    """Starts of session i that depend on whether it charges in steps t and u: those in them and just after."""
    first, second = min(t, u), max(t, u)
    count, counted = 0, -1
    for step in (first, first + 1, second, second + 1):
        if step > counted and step < power.shape[1] and power[i, step] > _EPS and not s.before[i, step]:
            count += step == 0 or power[i, step - 1] <= _EPS
        counted = step
    return count
