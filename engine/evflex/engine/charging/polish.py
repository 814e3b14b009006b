"""The best plan for a given pattern: which sessions charge, discharge or rest in which step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.feasibility import tidy
from evflex.engine.charging.pattern import pattern_of
from evflex.engine.charging.relaxation import Relaxation, net_power_kw, program_of, solve_ranked
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import least_on_kw, ramp_room
from evflex.engine.supply_tree import FloatArray


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
