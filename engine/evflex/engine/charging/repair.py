"""From the relaxation's plan to one in which every session draws nothing or at least its minimum.

Few steps of the relaxation lie between nothing and the minimum, and most of them can be mended at no cost at all.

1. *Load-preserving swap*: the session moves power between two of its own steps, and another one moves as much the
   other way. Step totals, hence cost and limits, stay as they are.
2. *Single-session fix*: what is left moves within its own session, to where it costs least at the relaxation's
   marginal prices plus a penalty for overload; power is never simply dropped. Where that costs anything, two swaps one
   after the other are tried before.
3. *Rebalance*: overloaded limits are relieved by the cheapest shifts.
4. *Fill*: shortfall and dear steps move into free capacity, at what power costs there.

All powers are mean powers in kW; sums over steps are in kW-steps.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.evaluation import group_power_kw
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.relaxation import Relaxation
from evflex.engine.charging.repairable import (
    EPS,
    Repairable,
    add_power,
    fits,
    has_minimums,
    is_below_minimum,
    repairable,
    room_kw,
)
from evflex.engine.charging.site import Site
from evflex.engine.charging.swaps import Partial, list_partial_sessions, swap, swap_twice
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Price differences below this are none.
_EPS_PRICE = 1e-12
_MAX_PASSES = 8


def repair(site: Site, relaxation: Relaxation, power_kw: FloatArray | None = None) -> FloatArray:
    """Plan for the controlled steps in which every session that only charges keeps its minimum, (n, T).

    Args:
        site: The site.
        relaxation: Prices.
        power_kw: Point to repair; the relaxation's own where there is none.
    """
    power = np.array(relaxation.power_kw if power_kw is None else power_kw)
    if has_minimums(site):
        repair_minimums(repairable(site, Parts.whole(site), relaxation), power, group_power_kw(site, power))
    return power


@kernel
def repair_minimums(s: Repairable, power: FloatArray, load: FloatArray) -> IntArray:
    """Repair ``power`` (n, T) in place; ``load`` (groups, T) is the power that limits see and follows.

    Returns:
        Counts: steps below the minimum, swaps, single-session fixes, rebalancing shifts, filling shifts.
    """
    n = power.shape[0]
    counts = np.zeros(5, dtype=np.int64)
    partial = list_partial_sessions(s, power)
    for i in range(n):
        if s.movable[i]:
            for t in range(s.first[i], s.last[i]):
                if power[i, t] <= EPS:
                    power[i, t] = 0.0
                elif is_below_minimum(power[i, t], s.low[i, t]):
                    counts[0] += 1
                    if swap(s, i, t, power, load, partial):
                        counts[1] += 1
    for i in range(n):
        if s.movable[i]:
            for t in range(s.first[i], s.last[i]):
                if is_below_minimum(power[i, t], s.low[i, t]):
                    counts[1 if _fix(s, i, t, power, load, partial) else 2] += 1
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
def _overload_cost(s: Repairable, i: int, t: int, delta: float, load: FloatArray) -> float:
    return s.overload_price[i] * max(0.0, delta - max(room_kw(s, i, t, load), 0.0))


@inner_kernel
def _fix(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray, partial: Partial) -> bool:
    """Raise step t of session i to the minimum or clear it, by two swaps if the session alone can only at a cost.

    Returns:
        Whether it was done by swaps.
    """
    raised, cleared = np.zeros(power.shape[1]), np.zeros(power.shape[1])
    raise_cost = _plan_raise(s, i, t, power, load, raised)
    clear_cost = _plan_clear(s, i, t, power, load, cleared)
    if min(raise_cost, clear_cost) > EPS and swap_twice(s, i, t, power, load, partial):
        return True
    change = raised if raise_cost < clear_cost else cleared
    for u in range(s.first[i], s.last[i]):
        if change[u] != 0.0:
            add_power(s, i, u, change[u], power, load)
    return False


@inner_kernel
def _plan_raise(s: Repairable, i: int, t: int, power: FloatArray, load: FloatArray, change: FloatArray) -> float:
    """Raise step t to the minimum: dearest other steps give, as far as the battery cannot take more. Returns cost."""
    if s.low[i, t] > s.high[i, t] + EPS:
        return np.inf
    delta = s.low[i, t] - power[i, t]
    change[t] = delta
    total = power[i, s.first[i] : s.last[i]].sum()
    surplus = max(0.0, min(delta, s.most[i] - total))
    useful = max(0.0, min(surplus, s.wanted[i] - total))
    cost = s.price[i, t] * delta + _overload_cost(s, i, t, delta, load)
    cost -= useful * s.short_price[i] + (surplus - useful) * s.value[i]
    rest = delta - surplus
    while rest > EPS:
        pick, pick_amount = -1, 0.0
        for u in range(s.first[i], s.last[i]):
            if u == t or change[u] != 0.0 or power[i, u] <= EPS:
                continue
            amount = min(rest, power[i, u] - s.low[i, u])
            if power[i, u] <= rest + EPS:
                amount = power[i, u]
            if amount > EPS and (pick < 0 or s.price[i, u] > s.price[i, pick]):
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
    while rest > EPS:
        pick, pick_price, pick_amount = -1, s.short_price[i], 0.0
        for u in range(s.first[i], s.last[i]):
            if u == t or change[u] != 0.0 or s.high[i, u] <= 0.0:
                continue
            amount = min(rest, s.high[i, u] - power[i, u])
            if amount <= EPS or power[i, u] + amount < s.low[i, u] - EPS:
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
    return s.overload_price[i] * max(0.0, -gained - max(spare, 0.0))


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
        if u == source or s.high[i, u] - power[i, u] < amount - EPS or power[i, u] + amount < s.low[i, u] - EPS:
            continue
        if source < s.early_steps[i] and u >= s.early_steps[i] and spare < amount - EPS:
            continue
        if (best < 0 or price[i, u] < price[i, best]) and room_kw(s, i, u, load) >= amount - EPS:
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
                if excess <= EPS:
                    break
                pick, target, pick_cost, pick_amount = -1, -1, np.inf, 0.0
                for i in range(n):
                    if not s.movable[i] or power[i, t] <= EPS:
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
                        if amount <= EPS:
                            continue
                        u = _best_target(s, i, t, amount, spare, s.price, power, load)
                        unit = s.short_price[i] if u < 0 else s.price[i, u]
                        cost = (unit - s.price[i, t]) * amount / min(amount, need)
                        if cost < pick_cost:
                            pick, target, pick_cost, pick_amount = i, u, cost, amount
                if pick < 0:
                    break
                add_power(s, pick, t, -pick_amount, power, load)
                if target >= 0:
                    add_power(s, pick, target, pick_amount, power, load)
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
        if may <= EPS:
            break
        pick, pick_gain, pick_amount = -1, _EPS_PRICE, 0.0
        for u in range(s.first[i], s.last[i]):
            room = min(s.high[i, u] - power[i, u], room_kw(s, i, u, load), may)
            amount = min(room, lacking) if lacking > EPS else room
            if power[i, u] + amount < s.low[i, u] - EPS:
                # Rise to the minimum where the battery can take the surplus.
                amount = s.low[i, u] - power[i, u]
                if amount > room + EPS:
                    continue
            if amount <= EPS:
                continue
            useful = min(amount, lacking)
            gain = s.short_price[i] * useful + s.value[i] * (amount - useful) - s.free_price[i, u] * amount
            if gain > pick_gain:
                pick, pick_gain, pick_amount = u, gain, amount
        if pick < 0:
            break
        add_power(s, i, pick, pick_amount, power, load)
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
            if take <= EPS:
                continue
            for j in range(n):
                if j == i or not s.movable[j] or power[j, t] <= EPS:
                    continue
                spare = _early_spare(s, j, power)
                for whole in (True, False):
                    amount = power[j, t] if whole else min(take, power[j, t] - s.low[j, t])
                    if amount > take + EPS or amount <= 1e-7 or power[i, t] + amount < s.low[i, t] - EPS:
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
        add_power(s, other, at, -best_amount, power, load)
        add_power(s, other, target, best_amount, power, load)
        add_power(s, i, at, best_amount, power, load)
        if not (fits(s, i, at, load) and fits(s, other, target, load)):
            add_power(s, other, at, best_amount, power, load)
            add_power(s, other, target, -best_amount, power, load)
            add_power(s, i, at, -best_amount, power, load)
            break
        moves += 1
    return moves


@inner_kernel
def _move_to_cheaper(s: Repairable, i: int, power: FloatArray, load: FloatArray) -> int:
    """Move a step of session i, whole or down to its minimum, into cheaper free capacity."""
    moves = 0
    least = _cheapest_free(s, i, power, load)
    for t in range(s.first[i], s.last[i]):
        if power[i, t] <= EPS or s.free_price[i, t] - _EPS_PRICE <= least:
            continue
        spare = _early_spare(s, i, power)
        for whole in (True, False):
            amount = power[i, t] if whole else power[i, t] - s.low[i, t]
            if amount <= EPS:
                continue
            u = _best_target(s, i, t, amount, spare, s.free_price, power, load)
            if u < 0 and not whole:
                u, amount = _part_target(s, i, t, amount, spare, power, load)
            if u >= 0 and s.free_price[i, u] < s.free_price[i, t] - _EPS_PRICE:
                add_power(s, i, t, -amount, power, load)
                add_power(s, i, u, amount, power, load)
                moves += 1
                least = _cheapest_free(s, i, power, load)
                break
    return moves


@inner_kernel
def _cheapest_free(s: Repairable, i: int, power: FloatArray, load: FloatArray) -> float:
    """Least price of a step of session i that can take more; infinite where none can."""
    least = np.inf
    price, high, upper, group = s.free_price, s.high, s.upper, s.group
    for u in range(s.first[i], s.last[i]):
        if price[i, u] < least and power[i, u] < high[i, u] - EPS:
            free = True
            for k in range(s.session_start[i], s.session_start[i + 1]):
                free = free and load[group[k], u] < upper[group[k], u] - EPS
            if free:
                least = price[i, u]
    return least


@inner_kernel
def _part_target(
    s: Repairable, i: int, t: int, amount: float, spare: float, power: FloatArray, load: FloatArray
) -> tuple[int, float]:
    """Cheapest step that is on and can take some of ``amount``, and how much; (-1, 0) where there is none."""
    best, best_amount = -1, 0.0
    for u in range(s.first[i], s.last[i]):
        if u == t or power[i, u] <= EPS:
            continue
        part = min(amount, s.high[i, u] - power[i, u], room_kw(s, i, u, load))
        if t < s.early_steps[i] and u >= s.early_steps[i]:
            part = min(part, spare)
        if part > 1e-6 and (best < 0 or s.free_price[i, u] < s.free_price[i, best]):
            best, best_amount = u, part
    return best, best_amount
