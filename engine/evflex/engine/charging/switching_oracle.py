"""The cheapest plan of one session alone, with starts, runs, minimum power and quanta: a dynamic program.

At given marginal prices a session minimises Σ price·p + start_cost·starts + g(Σ p), where g prices shortfall and values
surplus. For a fixed pattern of on-steps the optimum is a vertex: every on-step draws its minimum or maximum, except at
most one, which makes the sum meet the need or fill the battery. Counted in units that divide minimum and maximum, only
that one step carries a remainder, so the states (step, run, starts, remainder, units so far) are exact. Powers that no
unit divides (odd chargers, a step only partly present) are rounded outwards to whole units: the value is then a lower
bound, and slightly below the optimum.

The kernel returns the value and the pattern; :func:`fill_patterns` turns a pattern into the best powers for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_EPS = 1e-9
_HUGE = 1e18


class Switched(NamedTuple):
    """Sessions as the oracle reads them. Powers are mean powers in kW, sums over steps in kW-steps.

    Attributes:
        first: First step of each session, (n,).
        last: One past its last step, (n,).
        low: Smallest power when on, (n, T).
        high: Largest power, 0 where absent, (n, T).
        quantum: Step of the settable mean power; 0: any power, (n, T).
        before: Whether the session charges just before the step without the plan's doing, (n, T).
        must: Steps that are on whatever they cost, where the session can charge, (n, T).
        wanted: Sum of power that meets the need, (n,).
        most: Largest sum of power, (n,).
        short_price: Cost of a kW-step of shortfall, (n,).
        value: Worth of a kW-step above the need, (n,).
        unit: Unit of the dynamic program in kW, (n,).
        start_cost: For each start.
        run_steps: Shortest run.
        max_starts: Most starts; 0: no limit.
    """

    first: IntArray
    last: IntArray
    low: FloatArray
    high: FloatArray
    quantum: FloatArray
    before: BoolArray
    must: BoolArray
    wanted: FloatArray
    most: FloatArray
    short_price: FloatArray
    value: FloatArray
    unit: FloatArray
    start_cost: float
    run_steps: int
    max_starts: int

    def part(self, some: slice) -> Switched:
        """Some of the sessions."""
        return self._replace(
            first=self.first[some], last=self.last[some], low=self.low[some], high=self.high[some],
            quantum=self.quantum[some], before=self.before[some], must=self.must[some], wanted=self.wanted[some],
            most=self.most[some], short_price=self.short_price[some], value=self.value[some], unit=self.unit[some],
        )  # fmt: skip


@kernel
def cheapest_patterns(s: Switched, price: FloatArray, on: BoolArray, value: FloatArray) -> None:
    """Solve every session at ``price`` (n, T); writes patterns ``on`` (n, T) and lower bounds ``value`` (n,)."""
    for i in range(price.shape[0]):
        value[i] = _cheapest_pattern(s, i, s.high[i], price[i], on[i])


@inner_kernel
def _end_cost(s: Switched, i: int, total: float) -> float:
    """g: cost of shortfall less worth of surplus."""
    surplus = min(max(total - s.wanted[i], 0.0), max(s.most[i] - s.wanted[i], 0.0))
    return s.short_price[i] * max(s.wanted[i] - total, 0.0) - s.value[i] * surplus


@inner_kernel
def _cheapest_pattern(s: Switched, i: int, high: FloatArray, price: FloatArray, on: BoolArray) -> float:
    """Dynamic program of session i.

    State: run (0 off .. run_steps), starts (if limited), remainder (0 none, 1 to the need, 2 to the most), units so
    far.
    """
    on[:] = False
    a, b, unit = s.first[i], s.last[i], s.unit[i]
    if a >= b or unit <= 0.0:
        return _end_cost(s, i, 0.0)
    units = int(np.floor(s.most[i] / unit + _EPS))
    remainders = np.zeros(3)
    remainders[1] = max(0.0, s.wanted[i] - np.floor(s.wanted[i] / unit + _EPS) * unit)
    remainders[2] = max(0.0, s.most[i] - units * unit)
    kinds = 3 if s.most[i] > s.wanted[i] + _EPS else 2
    quantised = s.quantum[i].max() > 0.0
    if quantised:
        # Whole steps draw whole quanta (kind 2); only a step partly present may carry a remainder (kind 1), which is
        # credited in full.
        remainders[1] = max(remainders[1], remainders[2])
        remainders[2] = 0.0
        kinds = 3
    counts = s.max_starts + 1
    states = (s.run_steps + 1) * counts * kinds
    now = np.full((states, units + 1), _HUGE)
    now[0, 0] = 0.0
    came = np.full((b - a, states, units + 1), -1, dtype=np.int16)
    took = np.zeros((b - a, states, units + 1), dtype=np.int16)
    window = np.empty(units + 1, dtype=np.int64)
    top = 0
    for t in range(a, b):
        ahead = np.full((states, units + 1), _HUGE)
        back, drawn = came[t - a], took[t - a]
        present = high[t] > _EPS
        # Only an absence cuts a run short; a step without room does not.
        absent = not present and s.low[i, t] <= 0.0
        k_low = int(np.floor(s.low[i, t] / unit + 1e-7))
        k_high = int(np.ceil(high[t] / unit - 1e-7))
        # A charger set in quanta carries a remainder only where the step, only partly present, is no whole unit.
        whole = s.quantum[i, t] > 0.0 and abs(s.quantum[i, t] - unit) < 1e-7 * unit
        unit_cost = price[t] * unit
        for state in range(states):
            kind = state % kinds
            count = (state // kinds) % counts
            run = state // (kinds * counts)
            # Rest: from rest, from a run that is long enough, or because the session is not there.
            if (run == 0 or run == s.run_steps or absent) and not (present and s.must[i, t]):
                rest = kinds * count + kind
                for e in range(top + 1):
                    if now[state, e] < ahead[rest, e]:
                        ahead[rest, e], back[rest, e], drawn[rest, e] = now[state, e], state, 0
            if not present:
                continue
            starts = 1 if run == 0 and not s.before[i, t] else 0
            into_count = count + starts if s.max_starts > 0 else 0
            if into_count > s.max_starts:
                continue
            cost = s.start_cost * starts
            # A run that was under way before has no shortest length left but what ``must`` says.
            longer = s.run_steps if run == 0 and starts == 0 else min(run + 1, s.run_steps)
            into = kinds * (longer * counts + into_count) + kind
            for k in (k_low, k_high):
                for e in range(min(top, units - k) + 1):
                    c = now[state, e] + cost + unit_cost * k
                    if c < ahead[into, e + k]:
                        ahead[into, e + k], back[into, e + k], drawn[into, e + k] = c, state, k
            if kind > 0:
                continue
            for other in range(1, kinds):
                if quantised and whole == (other == 1):
                    continue
                rest_kw = remainders[other]
                k_last = k_high if rest_kw <= _EPS else k_high - 1
                if k_last >= k_low:
                    to = into + other
                    _draw_between(
                        now[state], ahead[to], back[to], drawn[to], window, state, top, k_low, k_last, unit_cost,
                        cost + price[t] * rest_kw,
                    )  # fmt: skip
        now = ahead
        top = min(units, top + k_high) if present else top
    best, state, e = _HUGE, 0, 0
    for last in range(states):
        kind = last % kinds
        for filled in range(units + 1):
            if now[last, filled] < _HUGE:
                total = filled * unit + remainders[kind]
                if total > s.most[i] + _EPS:
                    # Only a remainder that is credited in full may reach beyond what the battery takes.
                    if not quantised:
                        continue
                    total = s.most[i]
                c = now[last, filled] + _end_cost(s, i, total)
                if c < best - 1e-15:
                    best, state, e = c, last, filled
    for t in range(b - 1, a - 1, -1):
        on[t] = state // (kinds * counts) > 0
        previous, k = came[t - a, state, e], took[t - a, state, e]
        state, e = previous, e - k
    return best


@inner_kernel
def _draw_between(
    now: FloatArray, ahead: FloatArray, back: IntArray, drawn: IntArray, window: IntArray, state: int, top: int,
    k_low: int, k_high: int, unit_cost: float, cost: float,
) -> None:  # fmt: skip
    """ahead[e] = min over k_low <= k <= k_high of now[e − k] + unit_cost·k + cost, a sliding-window minimum."""
    head, tail = 0, 0
    for e in range(k_low, ahead.shape[0]):
        enter = e - k_low
        if enter <= top:
            key = now[enter] - unit_cost * enter
            while tail > head and now[window[tail - 1]] - unit_cost * window[tail - 1] >= key:
                tail -= 1
            window[tail] = enter
            tail += 1
        while head < tail and window[head] < e - k_high:
            head += 1
        if head == tail:
            if enter > top:
                break
            continue
        source = window[head]
        c = now[source] + unit_cost * (e - source) + cost
        if c < ahead[e]:
            ahead[e], back[e], drawn[e] = c, state, e - source


@kernel
def fill_patterns(s: Switched, price: FloatArray, on: BoolArray, power: FloatArray) -> None:
    """Best powers of every session for its pattern, written to ``power`` (n, T)."""
    for i in range(price.shape[0]):
        _fill_pattern(s, i, s.high[i], price[i], on[i], power[i])


@kernel
def plan_costs(s: Switched, power: FloatArray) -> FloatArray:
    """Starts, shortfall and surplus of every session's plan, (n,): what it costs besides its power."""
    cost = np.zeros(power.shape[0])
    free = np.zeros(power.shape[1])
    for i in range(power.shape[0]):
        cost[i] = _own_cost(s, i, free, power[i])
    return cost


@inner_kernel
def _fill_pattern(s: Switched, i: int, high: FloatArray, price: FloatArray, on: BoolArray, power: FloatArray) -> bool:
    """Best powers of session i for a pattern, written to ``power`` (T,); False where the pattern overfills it.

    Every on-step draws its minimum; the cheapest ones rise while a kW-step is worth its price.
    """
    power[:] = 0.0
    total = 0.0
    for t in range(s.first[i], s.last[i]):
        if on[t]:
            power[t] = s.low[i, t]
            total += power[t]
    if total > s.most[i] + _EPS:
        power[:] = 0.0
        return False
    order = argsort(price[s.first[i] : s.last[i]]) + s.first[i]
    for t in order:
        if not on[t]:
            continue
        quantum = s.quantum[i, t]
        for goal, worth in ((s.wanted[i], s.short_price[i]), (s.most[i], s.value[i])):
            room = min(high[t] - power[t], goal - total)
            if room <= _EPS or price[t] >= worth:
                continue
            if quantum > 0.0:
                room = np.floor(room / quantum + 1e-7) * quantum
            power[t] += room
            total += room
        if quantum > 0.0 and total < s.wanted[i] - _EPS:
            # One quantum more overshoots the need: is the part that counts worth the whole?
            short = s.wanted[i] - total
            fits = power[t] + quantum <= high[t] + _EPS and total + quantum <= s.most[i] + _EPS
            worth = s.short_price[i] * short + s.value[i] * (quantum - short)
            if fits and short < quantum and worth > price[t] * quantum:
                power[t] += quantum
                total += quantum
    return True


class Shared(NamedTuple):
    """The limits that sessions share, as in :class:`evflex.engine.charging.site.Limits`.

    Attributes:
        presence: Share of each step, (n, T).
        upper: Limits on instantaneous power, (groups, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
    """

    presence: FloatArray
    upper: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray


@kernel
def replan_sessions(
    s: Switched,
    shared: Shared,
    price: FloatArray,
    movable: BoolArray,
    power: FloatArray,
    load: FloatArray,
    relieve: bool,
) -> int:
    """Re-plan one session after another into what the others leave; returns how many changed.

    Args:
        s: Sessions.
        shared: Limits.
        price: Marginal cost of mean power, (n, T).
        movable: Sessions that may be re-planned, (n,).
        power: Mean power, (n, T); changed.
        load: Power that each limit sees, (groups, T); changed.
        relieve: Re-plan only sessions that draw where a limit is overloaded, whatever it costs; else re-plan all, and
            keep what costs less at ``price``.
    """
    n, steps = power.shape
    changed = 0
    on = np.zeros(steps, dtype=np.bool_)
    fresh = np.zeros(steps)
    for i in range(n):
        if not movable[i]:
            continue
        a, b = s.first[i], s.last[i]
        overloaded = False
        for t in range(a, b):
            if power[i, t] > _EPS:
                for k in range(shared.session_start[i], shared.session_start[i + 1]):
                    overloaded |= load[shared.group[k], t] > shared.upper[shared.group[k], t] + 1e-7
        if relieve and not overloaded:
            continue
        high, blocked = s.high[i].copy(), False
        for t in range(a, b):
            if high[t] <= 0.0:
                continue
            room = np.inf
            for k in range(shared.session_start[i], shared.session_start[i + 1]):
                g = shared.group[k]
                own = power[i, t] * shared.weight[k] / shared.presence[i, t]
                room = min(room, (shared.upper[g, t] - load[g, t] + own) / shared.weight[k] * shared.presence[i, t])
            if room < high[t]:
                high[t] = room
                if s.quantum[i, t] > 0.0:
                    high[t] = np.floor(room / s.quantum[i, t] + 1e-7) * s.quantum[i, t]
                if high[t] < s.low[i, t] - _EPS or high[t] <= _EPS:
                    high[t] = 0.0
                    blocked |= s.must[i, t]
        if blocked:
            continue
        _cheapest_pattern(s, i, high, price[i], on)
        _fill_pattern(s, i, high, price[i], on, fresh)
        if not relieve and _own_cost(s, i, price[i], fresh) >= _own_cost(s, i, price[i], power[i]) - 1e-9:
            continue
        changed += 1
        for t in range(a, b):
            delta = fresh[t] - power[i, t]
            if delta != 0.0:
                power[i, t] = fresh[t]
                for k in range(shared.session_start[i], shared.session_start[i + 1]):
                    load[shared.group[k], t] += delta * shared.weight[k] / shared.presence[i, t]
    return changed


@inner_kernel
def _own_cost(s: Switched, i: int, price: FloatArray, power: FloatArray) -> float:
    """Cost of a plan of session i at given prices, starts and end included."""
    cost, total = 0.0, 0.0
    was_on = False
    for t in range(s.first[i], s.last[i]):
        on = power[t] > _EPS
        if on and not was_on and not s.before[i, t]:
            cost += s.start_cost
        was_on = on
        cost += price[t] * power[t]
        total += power[t]
    return cost + _end_cost(s, i, total)
