"""The best plan for a given pattern: which sessions charge, discharge or rest in which step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.relaxation import Relaxation, net_power_kw, program_of, solve_ranked
from evflex.engine.charging.site import Site
from evflex.engine.supply_tree import FloatArray

# A step of the pattern is on at this share of the minimum power.
_ON_SHARE = 0.5


def polish(site: Site, relaxation: Relaxation, power_kw: FloatArray, budget: Budget) -> FloatArray | None:
    """Re-optimise all powers at the pattern of a plan; None when that has no answer in time.

    Args:
        site: The site.
        relaxation: The relaxation; its program is solved again with the pattern as bounds.
        power_kw: Plan whose pattern is kept, (n, T). Where it lies below a minimum it is rounded.
        budget: Time and cancellation.
    """
    model, _ = program_of(site, relaxation)
    lower, upper = model.program.column_lower.copy(), model.program.column_upper.copy()
    for columns, power, smallest in (
        (model.charge, power_kw, site.min_charge_kw),
        (model.discharge, -power_kw, site.min_discharge_kw),
    ):
        i, t = np.nonzero(columns >= 0)
        least = site.presence[i, t] * smallest[i]
        on = (power[i, t] > 1e-9) & (power[i, t] >= _ON_SHARE * least)
        used = columns[i, t]
        lower[used] = np.where(on, least, 0.0)
        upper[used] = np.where(on, upper[used], 0.0)
    program = replace(model.program, column_lower=lower, column_upper=upper)
    ranked = solve_ranked(replace(model, program=program), budget)
    return None if ranked is None else net_power_kw(site, model, ranked.solution.x)
