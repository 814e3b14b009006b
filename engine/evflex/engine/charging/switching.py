"""The binary part of the exact program: minimum powers, one direction at a time, starts, runs and quanta."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evflex.engine.highs import INFINITY

if TYPE_CHECKING:
    from evflex.engine.charging.model import BoolArray, ScheduleOptions
    from evflex.engine.charging.program import ProgramWriter
    from evflex.engine.charging.site import Site
    from evflex.engine.timegrid import TimeGrid

# A session that is on and has no minimum still draws this much (kW), so that a start is a start.
ON_KW = 1e-6


def add_switching(writer: ProgramWriter) -> None:
    """min·on <= p <= max·on for either direction, and at most one direction in a step."""
    site, model, options = writer.site, writer.model, writer.site.options
    starts = counts_starts(options)
    both = (writer.discharge >= 0) & (writer.charge >= 0)
    on_wanted = (writer.charge >= 0) & ((site.min_charge_kw > 0.0)[:, None] | both | starts)
    off_wanted = (writer.discharge >= 0) & ((site.min_discharge_kw > 0.0)[:, None] | both)
    least = np.maximum(site.min_charge_kw, ON_KW) if starts else site.min_charge_kw
    for columns, switch, wanted, smallest, largest in (
        (writer.charge, writer.on, on_wanted, least, site.max_charge_kw),
        (writer.discharge, writer.discharge_on, off_wanted, site.min_discharge_kw, site.max_discharge_kw),
    ):
        i, t = np.nonzero(wanted)
        if not len(i):
            continue
        f = site.presence[i, t]
        switch[i, t] = model.add_columns(len(i), 0.0, 1.0, integer=True)
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
    _tighten_ramps(writer)


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
        for back in range(run_steps):
            started = np.where(t >= back, writer.start[i, t - back], -1)
            has = started >= 0
            model.put(rows[has], started[has], 1.0)


def min_run_steps(options: ScheduleOptions, grid: TimeGrid) -> int:
    """Shortest run in whole steps, at least 1."""
    return max(1, int(np.ceil(options.min_run_s / grid.step_s - 1e-9)))


def charging_before(site: Site) -> BoolArray:
    """Whether the session charges uncontrolled, or as its state says, in the step before. (n, T)."""
    before = np.zeros(site.presence.shape, dtype=np.bool_)
    before[:, 1:] = site.given_kw[:, :-1] > 0.0
    before[:, 0] = site.problem.sessions.charging_now
    return before


def _tighten_ramps(writer: ProgramWriter) -> None:
    """Where the minimum exceeds the ramp, only a start may rise to it and only a stop may fall from it."""
    site, model = writer.site, writer.model
    ramp = site.problem.sessions.max_ramp_kw_per_step
    jumps = np.isfinite(ramp) & (site.min_charge_kw > ramp)
    i, t = np.nonzero((writer.on[:, 1:] >= 0) & (writer.on[:, :-1] >= 0) & jumps[:, None])
    if not len(i):
        return
    jump = (site.min_charge_kw - ramp)[i]
    for later, earlier in ((t + 1, t), (t, t + 1)):
        # p_later − p_earlier + jump·on_earlier <= ramp + jump
        rows = model.add_rows(len(i), -INFINITY, ramp[i] + jump)
        model.put(rows, writer.charge[i, later], 1.0)
        model.put(rows, writer.charge[i, earlier], -1.0)
        model.put(rows, writer.on[i, earlier], jump)


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
