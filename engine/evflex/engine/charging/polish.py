"""The best plan for a given pattern: which sessions charge, discharge or rest in which step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.feasibility import tidy
from evflex.engine.charging.pattern import pattern_of
from evflex.engine.charging.relaxation import Relaxation, net_power_kw, program_of, solve_ranked
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import least_on_kw, ramp_room
from evflex.engine.supply_tree import FloatArray

# Patterns of longer runs that are tried where ramps leave sessions short.
_MAX_LENGTHENED = 16


def polished_plans(site: Site, relaxation: Relaxation, power_kw: FloatArray, budget: Budget) -> Iterator[FloatArray]:
    """The best plans at a pattern and, where ramps leave sessions short at it, at patterns of longer runs."""
    ramped = np.isfinite(site.problem.sessions.max_ramp_kw_per_step)
    # Repair knows no ramps: of them the relaxation's own pattern says more.
    power_kw = np.where(ramped[:, None], relaxation.power_kw, power_kw)
    for _ in range(_MAX_LENGTHENED if ramped.any() else 1):
        polished = polish(site, relaxation, power_kw, budget)
        if polished is None:
            return
        yield polished
        kwh = site.problem.sessions.charge_efficiency * site.step_h * (polished + site.given_kw).sum(axis=1)
        short = ramped & (kwh < site.need_kwh - 1e-6) & (site.max_discharge_kw <= 0.0)
        on = polished > 0.0
        longer = on.copy()
        longer[:, 1:] |= on[:, :-1]
        longer[:, :-1] |= on[:, 1:]
        added = longer & ~on & short[:, None] & (site.presence > 0.0)
        if not added.any():
            return
        power_kw = np.where(added, site.presence * least_on_kw(site)[:, None], polished)


def polish(site: Site, relaxation: Relaxation, power_kw: FloatArray, budget: Budget) -> FloatArray | None:
    """Re-optimise all powers at the pattern of a plan; None when that has no answer in time.

    Args:
        site: The site.
        relaxation: The relaxation; its program is solved again with the pattern as bounds.
        power_kw: Plan whose pattern is kept, (n, T), as far as it keeps the rules.
        budget: Time and cancellation.
    """
    if budget.spent:
        return None
    model, _ = program_of(site, relaxation)
    charges, discharges = pattern_of(site, power_kw)
    program = model.program
    lower, upper = program.column_lower.copy(), program.column_upper.copy()
    for columns, on, smallest in (
        (model.charge, charges, least_on_kw(site)),
        (model.discharge, discharges, site.min_discharge_kw),
    ):
        i, t = np.nonzero(columns >= 0)
        used = columns[i, t]
        lower[used] = np.where(on[i, t], site.presence[i, t] * smallest[i], 0.0)
        upper[used] = np.where(on[i, t], upper[used], 0.0)
    row_lower, row_upper = program.row_lower, program.row_upper
    i, t = np.nonzero(model.ramp_row >= 0)
    if len(i):
        down, up = ramp_room(site, charges.astype(np.float64) - discharges)
        row_lower, row_upper = row_lower.copy(), row_upper.copy()
        row_lower[model.ramp_row[i, t]] = -down[i, t - 1]
        row_upper[model.ramp_row[i, t]] = up[i, t - 1]
    program = replace(program, column_lower=lower, column_upper=upper, row_lower=row_lower, row_upper=row_upper)
    ranked = solve_ranked(replace(model, program=program), budget)
    return None if ranked is None else tidy(site, net_power_kw(site, model, ranked.solution.x))
