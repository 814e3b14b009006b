"""From the relaxation's plan to one in which every session draws nothing or at least its minimum.

Few steps of the relaxation lie between nothing and the minimum, and most of them can be mended at no cost at all.

1. *Load-preserving swap*: the session moves power between two of its own steps, and another one moves as much the
   other way. Step totals, hence cost and limits, stay as they are.
2. *Single-session fix*: what is left moves within its own session, to where it costs least at the relaxation's
   marginal prices plus a penalty for overload; power is never simply dropped.
3. *Rebalance*: overloaded limits are relieved by the cheapest shifts.
4. *Fill*: shortfall and dear steps move into free capacity, at what power costs there.

All powers are mean powers in kW; sums over steps are in kW-steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.charging.evaluation import group_power_kw
from evflex.engine.charging.relaxation import Relaxation
from evflex.engine.charging.site import Site
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Kernels treat power differences below this as none (kW), and price differences below the next as equal.
_EPS = 1e-9
_EPS_PRICE = 1e-12
_MAX_PASSES = 8


class Repairable(NamedTuple):
    """What the kernels read.

    Attributes:
        price: Marginal cost of a kW in each step, limits priced, (n, T).
        free_price: The same without the limits' prices: what a kW costs where there is room, (n, T).
        movable: Sessions that may be changed: those that do not discharge, (n,).
        low: Smallest power when on, (n, T).
        high: Largest power; 0 where absent, (n, T).
        first: First step of each session, (n,).
        last: One past its last step, (n,).
        wanted: Sum of power that meets the need, (n,).
        most: Largest sum of power, (n,).
        short_price: Cost of a kW-step of shortfall, (n,).
        value: Worth of a kW-step above the need, (n,).
        early_steps: Leading steps that count for the minimum energy, (n,).
        early_wanted: Sum of power that meets the minimum energy, (n,).
        presence: Share of each step, (n, T).
        upper: Limits on instantaneous power, (groups, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
        overload_price: Penalty for a kW of overload; more than any price difference.
    """

    price: FloatArray
    free_price: FloatArray
    movable: BoolArray
    low: FloatArray
    high: FloatArray
    first: IntArray
    last: IntArray
    wanted: FloatArray
    most: FloatArray
    short_price: FloatArray
    value: FloatArray
    early_steps: IntArray
    early_wanted: FloatArray
    presence: FloatArray
    upper: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray
    overload_price: float


def repair(site: Site, relaxation: Relaxation, power_kw: FloatArray | None = None) -> FloatArray:
    """Plan for the controlled steps in which every session that only charges keeps its minimum, (n, T).

    Args:
        site: The site.
        relaxation: Prices.
        power_kw: Point to repair; the relaxation's own where there is none.
    """
    power = np.array(relaxation.power_kw if power_kw is None else power_kw)
    if has_minimums(site):
        repair_minimums(repairable(site, relaxation), power, group_power_kw(site, power))
    return power


def has_minimums(site: Site) -> bool:
    """Whether any session that only charges has a minimum power."""
    return bool(((site.max_discharge_kw <= 0.0) & (site.min_charge_kw > 0.0)).any())


def repairable(site: Site, relaxation: Relaxation) -> Repairable:
    """The site as the kernels read it."""
    sessions, limits, steps = site.problem.sessions, site.limits, site.step_count
    kwh_per_kw = sessions.charge_efficiency * site.step_h
    given = site.given_kw.sum(axis=1)
    early = site.minimum_kwh > 0.0
    early_wanted = np.zeros(site.session_count)
    if early.any():
        counted = np.arange(steps)[None, :] < site.minimum_steps[:, None]
        early_wanted = np.where(early, site.minimum_kwh / kwh_per_kw - (site.given_kw * counted).sum(axis=1), 0.0)
    present = site.presence > 0.0
    some = present.any(axis=1)
    highest = max(float(np.abs(price).max(initial=1e-3)) for price in (relaxation.price, relaxation.free_price))
    unpriced_kwh = 1e3 * highest / site.step_h
    short_price = np.where(np.isnan(site.shortfall_price_per_kwh), unpriced_kwh, site.shortfall_price_per_kwh)
    return Repairable(
        price=relaxation.price,
        free_price=relaxation.free_price,
        movable=site.max_discharge_kw <= 0.0,
        low=site.presence * site.min_charge_kw[:, None],
        high=site.presence * site.max_charge_kw[:, None],
        first=np.where(some, present.argmax(axis=1), 0),
        last=np.where(some, steps - present[:, ::-1].argmax(axis=1), 0),
        wanted=site.need_kwh / kwh_per_kw - given,
        most=site.ceiling_kwh / kwh_per_kw - given,
        short_price=short_price * kwh_per_kw,
        value=site.value_per_kwh * kwh_per_kw,
        early_steps=np.where(early, site.minimum_steps, 0),
        early_wanted=early_wanted,
        presence=site.presence,
        upper=np.minimum(limits.upper_kw, _agreed(site, relaxation)),
        session_start=limits.session_start,
        group=limits.group,
        weight=limits.weight,
        overload_price=1e3 * highest,
    )


def _agreed(site: Site, relaxation: Relaxation) -> FloatArray:
    """Agreements, raised to where the relaxation gave them up for minimum energy, (groups, T)."""
    if not site.minimum_kwh.any():
        return site.limits.agreement_kw
    return np.maximum(site.limits.agreement_kw, group_power_kw(site, relaxation.power_kw))


@kernel
def repair_minimums(s: Repairable, power: FloatArray, load: FloatArray) -> IntArray:
    """Repair ``power`` (n, T) in place; ``load`` (groups, T) is the power that limits see and follows.

    Returns:
        Counts: steps below the minimum, swaps, single-session fixes, rebalancing shifts, filling shifts.
    """
    n = power.shape[0]
    counts = np.zeros(5, dtype=np.int64)
    for i in range(n):
        if s.movable[i]:
            for t in range(s.first[i], s.last[i]):
                if power[i, t] <= _EPS:
                    power[i, t] = 0.0
                elif _below_minimum(power[i, t], s.low[i, t]):
                    counts[0] += 1
                    if _swap(s, i, t, power, load):
                        counts[1] += 1
    for i in range(n):
        if s.movable[i]:
            for t in range(s.first[i], s.last[i]):
                if _below_minimum(power[i, t], s.low[i, t]):
                    _fix_alone(s, i, t, power, load)
                    counts[2] += 1
    counts[3] = _rebalance(s, power, load)
    for _ in range(_MAX_PASSES):
        moved = 0
        for i in range(n):
            if s.movable[i]:
                moved += _fill(s, i, power, load)
                moved += _fill_by_exchange(s, i, power, load)
                moved += _move_to_cheaper(s, i, power, load)
        counts[4] += moved
        if moved == 0:
            break
    return counts


@inner_kernel
def _below_minimum(p: float, low: float) -> bool:
    return p > _EPS and p < low - _EPS


@inner_kernel
def _allowed(p: float, low: float, high: float) -> bool:
    return abs(p) <= _EPS or (p >= low - _EPS and p <= high + _EPS)


@inner_kernel
def _room(s: Repairable, i: int, t: int, load: FloatArray) -> float:
    """Mean power that session i may add in step t before a limit binds."""
    room = np.inf
    for k in range(s.session_start[i], s.session_start[i + 1]):
        g = s.group[k]
        room = min(room, (s.upper[g, t] - load[g, t]) / s.weight[k] * s.presence[i, t])
    return room


@inner_kernel
def _add(s: Repairable, i: int, t: int, delta: float, power: FloatArray, load: FloatArray) -> None:
    """Change the power of session i in step t, and the load that limits see."""
    power[i, t] += delta
    if abs(power[i, t]) <= _EPS:
        power[i, t] = 0.0
    for k in range(s.session_start[i], s.session_start[i + 1]):
        load[s.group[k], t] += delta * s.weight[k] / s.presence[i, t]


@inner_kernel
def _fits(s: Repairable, i: int, t: int, load: FloatArray) -> bool:
    for k in range(s.session_start[i], s.session_start[i + 1]):
        if load[s.group[k], t] > s.upper[s.group[k], t] + _EPS:
            return False
    return True


@inner_kernel
def _swap(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray) -> bool:
    """Mend step t of session i by a swap with another session; False where there is none."""
    n = power.shape[0]
    p = power[i, t]
    for up in (True, False):
        delta = s.low[i, t] - p if up else -p
        for u in range(s.first[i], s.last[i]):
            if u == t or power[i, u] <= _EPS or (t < s.early_steps[i]) != (u < s.early_steps[i]):
                continue
            if not _allowed(power[i, u] - delta, s.low[i, u], s.high[i, u]):
                continue
            for ahead in range(1, n):
                j = (i + ahead) % n
                if not s.movable[j] or s.high[j, t] <= 0.0 or s.high[j, u] <= 0.0:
                    continue
                if not _allowed(power[j, t] - delta, s.low[j, t], s.high[j, t]):
                    continue
                if not _allowed(power[j, u] + delta, s.low[j, u], s.high[j, u]):
                    continue
                if (t < s.early_steps[j]) != (u < s.early_steps[j]):
                    continue
                _exchange(s, i, j, t, u, delta, power, load)
                if _fits(s, i, t, load) and _fits(s, i, u, load) and _fits(s, j, t, load) and _fits(s, j, u, load):
                    return True
                _exchange(s, i, j, t, u, -delta, power, load)
                power[i, t] = p
    return False


@inner_kernel
def _exchange(s: Repairable, i: int, j: int, t: int, u: int, delta: float, power: FloatArray, load: FloatArray) -> None:
    """Session i moves delta from step u to step t, session j moves it back."""
    _add(s, i, t, delta, power, load)
    _add(s, i, u, -delta, power, load)
    _add(s, j, t, -delta, power, load)
    _add(s, j, u, delta, power, load)


@inner_kernel
def _overload_cost(s: Repairable, i: int, t: int, delta: float, load: FloatArray) -> float:
    return s.overload_price * max(0.0, delta - max(_room(s, i, t, load), 0.0))


@inner_kernel
def _fix_alone(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray) -> None:
    """Mend step t of session i within the session: raise it to the minimum or clear it, whichever costs less."""
    raised, cleared = np.zeros(power.shape[1]), np.zeros(power.shape[1])
    raise_cost = _plan_raise(s, i, t, power, load, raised)
    clear_cost = _plan_clear(s, i, t, power, load, cleared)
    change = raised if raise_cost < clear_cost else cleared
    for u in range(s.first[i], s.last[i]):
        if change[u] != 0.0:
            _add(s, i, u, change[u], power, load)


@inner_kernel
def _plan_raise(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray, change: FloatArray) -> float:
    """Raise step t to the minimum: dearest other steps give, as far as the battery cannot take more. Returns cost."""
    if s.low[i, t] > s.high[i, t] + _EPS:
        return np.inf
    delta = s.low[i, t] - power[i, t]
    change[t] = delta
    total = power[i, s.first[i] : s.last[i]].sum()
    surplus = max(0.0, min(delta, s.most[i] - total))
    useful = max(0.0, min(surplus, s.wanted[i] - total))
    cost = s.price[i, t] * delta + _overload_cost(s, i, t, delta, load)
    cost -= useful * s.short_price[i] + (surplus - useful) * s.value[i]
    rest = delta - surplus
    while rest > _EPS:
        pick, pick_amount = -1, 0.0
        for u in range(s.first[i], s.last[i]):
            if u == t or change[u] != 0.0 or power[i, u] <= _EPS:
                continue
            amount = min(rest, power[i, u] - s.low[i, u])
            if power[i, u] <= rest + _EPS:
                amount = power[i, u]
            if amount > _EPS and (pick < 0 or s.price[i, u] > s.price[i, pick]):
                pick, pick_amount = u, amount
        if pick < 0:
            return np.inf
        change[pick] = -pick_amount
        cost -= s.price[i, pick] * pick_amount
        rest -= pick_amount
    return cost + _early_cost(s, i, power, change)


@inner_kernel
def _plan_clear(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray, change: FloatArray) -> float:
    """Clear step t: cheapest other steps take, what finds no place becomes shortfall. Returns cost."""
    rest = power[i, t]
    change[t] = -rest
    cost = -s.price[i, t] * rest
    while rest > _EPS:
        pick, pick_price, pick_amount = -1, s.short_price[i], 0.0
        for u in range(s.first[i], s.last[i]):
            if u == t or change[u] != 0.0 or s.high[i, u] <= 0.0:
                continue
            amount = min(rest, s.high[i, u] - power[i, u])
            if amount <= _EPS or power[i, u] + amount < s.low[i, u] - _EPS:
                continue
            unit = s.price[i, u] + _overload_cost(s, i, u, amount, load) / amount
            if unit < pick_price:
                pick, pick_price, pick_amount = u, unit, amount
        if pick < 0:
            break
        change[pick] = pick_amount
        cost += pick_price * pick_amount
        rest -= pick_amount
    return cost + s.short_price[i] * rest + _early_cost(s, i, power, change)


@inner_kernel
def _early_cost(s: Repairable, i: int, power: FloatArray, change: FloatArray) -> float:
    """Penalty for minimum energy that a change takes away."""
    gained = change[: s.early_steps[i]].sum()
    if gained >= 0.0:
        return 0.0
    spare = power[i, : s.early_steps[i]].sum() - s.early_wanted[i]
    return s.overload_price * max(0.0, -gained - max(spare, 0.0))


@inner_kernel
def _early_spare(s: Repairable, i: int, power: FloatArray) -> float:
    """Power in early steps beyond what the minimum energy asks."""
    return power[i, : s.early_steps[i]].sum() - s.early_wanted[i]


@inner_kernel
def _best_target(
    s: Repairable,
    i: int,
    source: int,
    amount: float,
    spare: float,
    price: FloatArray,
    power: FloatArray,
    load: FloatArray,
) -> int:
    """Cheapest step that can take ``amount`` from step ``source`` of session i; -1 where there is none."""
    best = -1
    for u in range(s.first[i], s.last[i]):
        if u == source or s.high[i, u] - power[i, u] < amount - _EPS or power[i, u] + amount < s.low[i, u] - _EPS:
            continue
        if source < s.early_steps[i] and u >= s.early_steps[i] and spare < amount - _EPS:
            continue
        if (best < 0 or price[i, u] < price[i, best]) and _room(s, i, u, load) >= amount - _EPS:
            best = u
    return best


@inner_kernel
def _rebalance(s: Repairable, power: FloatArray, load: FloatArray) -> int:
    """Relieve overloaded limits by the cheapest shift of one session at a time; the last resort is shortfall."""
    n, steps = power.shape
    moves = 0
    for g in range(s.upper.shape[0]):
        for t in range(steps):
            for _ in range(4 * n):
                excess = load[g, t] - s.upper[g, t]
                if excess <= _EPS:
                    break
                pick, target, pick_cost, pick_amount = -1, -1, np.inf, 0.0
                for i in range(n):
                    if not s.movable[i] or power[i, t] <= _EPS:
                        continue
                    share = 0.0
                    for k in range(s.session_start[i], s.session_start[i + 1]):
                        if s.group[k] == g:
                            share = s.weight[k] / s.presence[i, t]
                    if share <= 0.0:
                        continue
                    need = excess / share
                    spare = _early_spare(s, i, power)
                    for whole in (False, True):
                        amount = power[i, t] if whole else min(need, power[i, t] - s.low[i, t])
                        if amount <= _EPS:
                            continue
                        u = _best_target(s, i, t, amount, spare, s.price, power, load)
                        unit = s.short_price[i] if u < 0 else s.price[i, u]
                        cost = (unit - s.price[i, t]) * amount / min(amount, need)
                        if cost < pick_cost:
                            pick, target, pick_cost, pick_amount = i, u, cost, amount
                if pick < 0:
                    break
                _add(s, pick, t, -pick_amount, power, load)
                if target >= 0:
                    _add(s, pick, target, pick_amount, power, load)
                moves += 1
    return moves


@inner_kernel
def _fill(s: Repairable, i: int, power: FloatArray, load: FloatArray) -> int:
    """Put shortfall of session i, and energy worth more than it costs, where there is room."""
    moves = 0
    total = power[i, s.first[i] : s.last[i]].sum()
    for _ in range(s.last[i] - s.first[i]):
        lacking = max(0.0, s.wanted[i] - total)
        may = s.most[i] - total
        if may <= _EPS:
            break
        pick, pick_gain, pick_amount = -1, _EPS_PRICE, 0.0
        for u in range(s.first[i], s.last[i]):
            room = min(s.high[i, u] - power[i, u], _room(s, i, u, load), may)
            amount = min(room, lacking) if lacking > _EPS else room
            if power[i, u] + amount < s.low[i, u] - _EPS:
                # Rise to the minimum where the battery can take the surplus.
                amount = s.low[i, u] - power[i, u]
                if amount > room + _EPS:
                    continue
            if amount <= _EPS:
                continue
            useful = min(amount, lacking)
            gain = s.short_price[i] * useful + s.value[i] * (amount - useful) - s.free_price[i, u] * amount
            if gain > pick_gain:
                pick, pick_gain, pick_amount = u, gain, amount
        if pick < 0:
            break
        _add(s, i, pick, pick_amount, power, load)
        total += pick_amount
        moves += 1
    return moves


@inner_kernel
def _fill_by_exchange(s: Repairable, i: int, power: FloatArray, load: FloatArray) -> int:
    """Put shortfall of session i into full steps, from which another session moves as much into free capacity."""
    n = power.shape[0]
    moves = 0
    for _ in range(s.last[i] - s.first[i]):
        lacking = s.wanted[i] - power[i, s.first[i] : s.last[i]].sum()
        if lacking <= 1e-7:
            break
        best_gain, at, other, target, best_amount = _EPS_PRICE, -1, -1, -1, 0.0
        for t in range(s.first[i], s.last[i]):
            take = min(lacking, s.high[i, t] - power[i, t])
            if take <= _EPS:
                continue
            for j in range(n):
                if j == i or not s.movable[j] or power[j, t] <= _EPS:
                    continue
                spare = _early_spare(s, j, power)
                for whole in (True, False):
                    amount = power[j, t] if whole else min(take, power[j, t] - s.low[j, t])
                    if amount > take + _EPS or amount <= 1e-7 or power[i, t] + amount < s.low[i, t] - _EPS:
                        continue
                    amount = min(amount, take)
                    u = _best_target(s, j, t, amount, spare, s.free_price, power, load)
                    if u < 0:
                        continue
                    gain = (s.short_price[i] - s.free_price[i, t] + s.free_price[j, t] - s.free_price[j, u]) * amount
                    if gain > best_gain:
                        best_gain, at, other, target, best_amount = gain, t, j, u, amount
        if at < 0:
            break
        _add(s, other, at, -best_amount, power, load)
        _add(s, other, target, best_amount, power, load)
        _add(s, i, at, best_amount, power, load)
        if not (_fits(s, i, at, load) and _fits(s, other, target, load)):
            _add(s, other, at, best_amount, power, load)
            _add(s, other, target, -best_amount, power, load)
            _add(s, i, at, -best_amount, power, load)
            break
        moves += 1
    return moves


@inner_kernel
def _move_to_cheaper(s: Repairable, i: int, power: FloatArray, load: FloatArray) -> int:
    """Move a step of session i, whole or down to its minimum, into cheaper free capacity."""
    moves = 0
    for t in range(s.first[i], s.last[i]):
        spare = _early_spare(s, i, power)
        for whole in (True, False):
            amount = power[i, t] if whole else power[i, t] - s.low[i, t]
            if power[i, t] <= _EPS or amount <= _EPS:
                continue
            u = _best_target(s, i, t, amount, spare, s.free_price, power, load)
            if u < 0 and not whole:
                u, amount = _part_target(s, i, t, amount, spare, power, load)
            if u >= 0 and s.free_price[i, u] < s.free_price[i, t] - _EPS_PRICE:
                _add(s, i, t, -amount, power, load)
                _add(s, i, u, amount, power, load)
                moves += 1
                break
    return moves


@inner_kernel
def _part_target(
    s: Repairable, i: int, t: int, amount: float, spare: float, power: FloatArray, load: FloatArray
) -> tuple[int, float]:
    """Cheapest step that is on and can take some of ``amount``, and how much; (-1, 0) where there is none."""
    best, best_amount = -1, 0.0
    for u in range(s.first[i], s.last[i]):
        if u == t or power[i, u] <= _EPS:
            continue
        part = min(amount, s.high[i, u] - power[i, u], _room(s, i, u, load))
        if t < s.early_steps[i] and u >= s.early_steps[i]:
            part = min(part, spare)
        if part > 1e-6 and (best < 0 or s.free_price[i, u] < s.free_price[i, best]):
            best, best_amount = u, part
    return best, best_amount
