"""The exact program of a small site, by HiGHS' branch and bound, started from the best plan so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.evaluation import Evaluation, fixed_load_objective
from evflex.engine.charging.program import SiteProgram, build_program
from evflex.engine.charging.relaxation import net_power_kw, solve_ranked
from evflex.engine.charging.site import Site
from evflex.engine.supply_tree import FloatArray

# Beyond this many session-steps branch and bound improves nothing in useful time (measured: about 40 sessions a day).
_LARGEST = 4_000


@dataclass(frozen=True, slots=True)
class ExactPlan:
    """Plan for the controlled steps and a proven bound on the objective (minus infinity: none)."""

    power_kw: FloatArray
    bound: float


def is_small(site: Site) -> bool:
    """Whether branch and bound is worth trying."""
    return int((site.presence > 0.0).sum()) <= _LARGEST


def branch_and_bound(site: Site, plan: Evaluation, budget: Budget) -> ExactPlan | None:
    """Solve the exact program; None when no plan was found in time."""
    model = build_program(site, exact=True)
    options = site.options
    # The asked gap is relative to the plan's scale, HiGHS' to its objective.
    asked = max(options.absolute_gap, 0.5 * options.relative_gap * plan.scale)
    ranked = solve_ranked(model, budget, absolute_gap=asked, start=_start(site, model, plan.power_kw - site.given_kw))
    if ranked is None:
        return None
    solution = ranked.solution
    bound = solution.bound + model.constant - fixed_load_objective(site) if ranked.levels_proven else -np.inf
    return ExactPlan(_clean(site, net_power_kw(site, model, solution.x)), bound)


def _clean(site: Site, power_kw: FloatArray) -> FloatArray:
    """Undo the solver's tolerances: powers snap to nothing, to the minimum and to whole quanta."""
    f = site.presence
    smallest = f * np.where(power_kw > 0.0, site.min_charge_kw[:, None], site.min_discharge_kw[:, None])
    size = np.abs(power_kw)
    size = np.where(size < 1e-5, 0.0, np.where(size < smallest, smallest, size))
    quantum = f * site.quantum_kw[:, None]
    whole = np.divide(size, quantum, out=np.zeros_like(size), where=quantum > 0.0)
    size = np.where(quantum > 0.0, np.round(whole) * quantum, size)
    return np.where(power_kw < 0.0, -size, size)


def _start(site: Site, model: SiteProgram, power_kw: FloatArray) -> dict[int, float]:
    """Values of the binary columns in a plan."""
    values: dict[int, float] = {}
    for columns, power in ((model.on, power_kw), (model.discharge_on, -power_kw)):
        i, t = np.nonzero(columns >= 0)
        values |= dict(zip(columns[i, t].tolist(), (power[i, t] > 1e-9).astype(float).tolist(), strict=True))
    for columns, power in ((model.count, power_kw), (model.discharge_count, -power_kw)):
        i, t = np.nonzero(columns >= 0)
        count = np.round(np.maximum(power[i, t], 0.0) / (site.presence[i, t] * site.quantum_kw[i]))
        values |= dict(zip(columns[i, t].tolist(), count.tolist(), strict=True))
    return values
