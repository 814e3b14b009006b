"""The binary part of the exact program: minimum powers, one direction at a time, starts, runs and quanta."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evflex.engine.highs import INFINITY
from evflex.engine.supply_tree import BoolArray, FloatArray

if TYPE_CHECKING:
    from evflex.engine.charging.model import ScheduleOptions
    from evflex.engine.charging.program import ProgramWriter
    from evflex.engine.charging.site import Site
    from evflex.engine.timegrid import TimeGrid

# A session that is on and has no minimum still draws this much (kW), so that a start is a start.
ON_KW = 1e-6


def add_switching(writer: ProgramWriter) -> None:
    """min·on <= p <= max·on for either direction, and at most one direction in a step."""
    site, model, options = writer.site, writer.model, writer.site.options
    starts, forced = counts_starts(options), must_charge(site)
    both = (writer.discharge >= 0) & (writer.charge >= 0)
    on_wanted = (writer.charge >= 0) & ((site.min_charge_kw > 0.0)[:, None] | both | starts)
    off_wanted = (writer.discharge >= 0) & ((site.min_discharge_kw > 0.0)[:, None] | both)
    for columns, switch, wanted, smallest, largest in (
        (writer.charge, writer.on, on_wanted, least_on_kw(site), site.max_charge_kw),
        (writer.discharge, writer.discharge_on, off_wanted, site.min_discharge_kw, site.max_discharge_kw),
    ):
        i, t = np.nonzero(wanted)
        if not len(i):
            continue
        f = site.presence[i, t]
        least = forced[i, t].astype(np.float64) if switch is writer.on else 0.0
        switch[i, t] = model.add_columns(len(i), least, 1.0, integer=True)
        rows = model.add_rows(len(i), -INFINITY, 0.0)
        model.put(rows, columns[i, t], 1.0)
        model.put(rows, switch[i, t], -f * largest[i])
        rows = model.add_rows(len(i), 0.0, INFINITY)
        model.put(rows, columns[i, t], 1.0)
        model.put(rows, switch[i, t], -f * smallest[i])
    i, t = np.nonzero((writer.on >= 0) & (writer.discharge_on >= 0))
    rows = model.add_rows(len(i), -INFINITY, 1.0)
    model.put(rows, writer.on[i, t], 1.0)
    model.put(rows, writer.discharge_on[i, t], 1.0)
    if starts:
        _add_starts(writer)
    _add_jumps(writer)


def counts_starts(options: ScheduleOptions) -> bool:
    """Whether starts and runs matter to the plan."""
    return options.start_cost > 0.0 or options.max_starts_per_session is not None or options.min_run_s > 0.0


def _add_starts(writer: ProgramWriter) -> None:
    """start_t >= on_t − on_{t−1}, starts within their number, runs no shorter than min_run.

    Runs after Rajan and Takriti (2005): the starts of the last min_run steps are at most on_t.
    """
    site, model, options = writer.site, writer.model, writer.site.options
    i, t = np.nonzero(writer.on >= 0)
    writer.start[i, t] = model.add_columns(len(i), 0.0, 1.0, options.start_cost)
    before = charging_before(site)[i, t].astype(np.float64)
    rows = model.add_rows(len(i), -before, INFINITY)
    model.put(rows, writer.start[i, t], 1.0)
    model.put(rows, writer.on[i, t], -1.0)
    earlier = np.where(t > 0, writer.on[i, t - 1], -1)
    has = earlier >= 0
    model.put(rows[has], earlier[has], 1.0)
    if options.max_starts_per_session is not None:
        who = np.flatnonzero((writer.on >= 0).any(axis=1))
        place = np.full(site.session_count, -1)
        place[who] = model.add_rows(len(who), -INFINITY, options.max_starts_per_session)
        model.put(place[i], writer.start[i, t], 1.0)
    run_steps = min_run_steps(options, site.problem.grid)
    if run_steps > 1:
        rows = model.add_rows(len(i), -INFINITY, 0.0)
        model.put(rows, writer.on[i, t], -1.0)
        here = np.ones(len(i), dtype=np.bool_)
        for back in range(run_steps):
            # A run that ended because the session was not there, or not controlled, binds no later step.
            here &= (t >= back) & (writer.on[i, np.maximum(t - back, 0)] >= 0)
            model.put(rows[here], writer.start[i[here], t[here] - back], 1.0)


def min_run_steps(options: ScheduleOptions, grid: TimeGrid) -> int:
    """Shortest run in whole steps, at least 1."""
    return max(1, int(np.ceil(options.min_run_s / grid.step_s - 1e-9)))


def charging_before(site: Site) -> BoolArray:
    """Whether the session charges uncontrolled, or as its state says, in the step before. (n, T)."""
    before = np.zeros(site.presence.shape, dtype=np.bool_)
    before[:, 1:] = site.given_kw[:, :-1] > 0.0
    before[:, 0] = site.problem.sessions.charging_now
    return before


def least_on_kw(site: Site) -> FloatArray:
    """Least power of a session that is on, (n,)."""
    if not counts_starts(site.options):
        return site.min_charge_kw
    return np.maximum(site.min_charge_kw, np.where(site.quantum_kw > 0.0, site.quantum_kw, ON_KW))


def must_charge(site: Site) -> BoolArray:
    """Steps in which a run under way at the grid's start must go on, to last as long as the shortest run. (n, T).

    It goes on for as long as it can: while the session is present and controlled, the battery takes its least power,
    and the limits have room for it beside the runs of sessions served earlier.
    """
    must = np.zeros(site.presence.shape, dtype=np.bool_)
    sessions, grid = site.problem.sessions, site.problem.grid
    lacking = sessions.charging_now * (site.options.min_run_s - sessions.run_duration_s)
    if not len(lacking) or lacking.max() <= 1e-6:
        return must
    least, limits = least_on_kw(site), site.limits
    left = np.minimum(limits.upper_kw, np.maximum(limits.agreement_kw, 0.0))
    ramp = sessions.max_ramp_kw_per_step
    for i in np.argsort(sessions.arrival_unix_s, kind="stable"):
        entries = slice(limits.session_start[i], limits.session_start[i + 1])
        load = limits.weight[entries] * least[i]
        energy = 0.0
        for t in range(min(int(np.ceil(lacking[i] / grid.step_s - 1e-9)), site.step_count)):
            f = site.presence[i, t]
            energy += f * least[i] * sessions.charge_efficiency[i] * site.step_h
            fits = f > 0.0 and 0.0 < least[i] <= site.max_charge_kw[i] and energy <= site.ceiling_kwh[i]
            steep = t > 0 and abs(f - site.presence[i, t - 1]) * least[i] > ramp[i]
            if not fits or steep or (left[limits.group[entries], t] < load).any():
                break
            must[i, t] = True
            left[limits.group[entries], t] -= load
    return must


def run_breaks(site: Site, on: BoolArray) -> BoolArray:
    """Steps in which a session rests although the run before is too short; runs that its stay cuts are fine. (n, T)."""
    broken = np.zeros(on.shape, dtype=np.bool_)
    before = charging_before(site)
    before[:, 1:] |= on[:, :-1]
    alive = on & ~before
    for _ in range(min_run_steps(site.options, site.problem.grid) - 1):
        alive = alive[:, :-1] & (site.presence[:, on.shape[1] - alive.shape[1] + 1 :] > 0.0)
        broken[:, on.shape[1] - alive.shape[1] :] |= alive
        if not alive.shape[1]:
            break
    return broken & ~on


def ramp_room(site: Site, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Most by which power may fall and rise from each step to the next, (n, T − 1) each.

    A start may jump to the minimum of its step, and a stop may fall from it, where that exceeds the ramp.

    Args:
        site: The site.
        direction: Above 0 where the session charges, below where it discharges. (n, T).
    """
    f, ramp = site.presence, site.problem.sessions.max_ramp_kw_per_step[:, None]
    charge, discharge = f * site.min_charge_kw[:, None], f * site.min_discharge_kw[:, None]
    ramp = np.where((f[:, 1:] > 0.0) & (f[:, :-1] > 0.0), ramp, np.inf)
    free = np.where(np.isfinite(ramp), ramp, 0.0)
    was, now = direction[:, :-1], direction[:, 1:]

    def jump(smallest: FloatArray, happens: BoolArray) -> FloatArray:
        return np.maximum(smallest - free, 0.0) * happens

    rise = jump(charge[:, 1:], (was <= 0.0) & (now > 0.0)) + jump(discharge[:, :-1], (was < 0.0) & (now >= 0.0))
    fall = jump(charge[:, :-1], (was > 0.0) & (now <= 0.0)) + jump(discharge[:, 1:], (was >= 0.0) & (now < 0.0))
    return ramp + fall, ramp + rise


def _add_jumps(writer: ProgramWriter) -> None:
    """The ramp rows, but starts and stops may jump to the minimum: each by a switch that only they can set."""
    site, model = writer.site, writer.model
    i, t = np.nonzero(writer.ramp_row >= 0)
    if not len(i):
        return
    ramp, f = site.problem.sessions.max_ramp_kw_per_step[i], site.presence
    for on, smallest, sign in (
        (writer.on, site.min_charge_kw, 1.0),
        (writer.discharge_on, site.min_discharge_kw, -1.0),
    ):
        # Into a direction power moves by its sign; out of it, back.
        for into, out, way in ((t, t - 1, sign), (t - 1, t, -sign)):
            jump = f[i, into] * smallest[i] - ramp
            has = (jump > 0.0) & (on[i, into] >= 0)
            who, into_has = i[has], into[has]
            switch = model.add_columns(len(who), 0.0, 1.0)
            rows = model.add_rows(len(who), -INFINITY, 0.0)
            model.put(rows, switch, 1.0)
            model.put(rows, on[who, into_has], -1.0)
            rows = model.add_rows(len(who), -INFINITY, 1.0)
            model.put(rows, switch, 1.0)
            model.put(rows, on[who, out[has]], 1.0)
            model.put(writer.ramp_row[who, t[has]], switch, -way * jump[has])


def add_quanta(writer: ProgramWriter) -> None:
    """P = presence · quantum · count with whole counts."""
    site, model = writer.site, writer.model
    for columns, counts, largest in (
        (writer.charge, writer.count, site.max_charge_kw),
        (writer.discharge, writer.discharge_count, site.max_discharge_kw),
    ):
        i, t = np.nonzero((columns >= 0) & (site.quantum_kw > 0.0)[:, None])
        if not len(i):
            continue
        quantum = site.quantum_kw[i]
        counts[i, t] = model.add_columns(len(i), 0.0, np.round(largest[i] / quantum), integer=True)
        rows = model.add_rows(len(i), 0.0, 0.0)
        model.put(rows, columns[i, t], 1.0)
        model.put(rows, counts[i, t], -site.presence[i, t] * quantum)
