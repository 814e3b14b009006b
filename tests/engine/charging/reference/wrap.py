"""Turns a matrix of powers into the schedule that states it truthfully."""

from __future__ import annotations

import numpy as np

from evflex.engine.charging.schedule import LimitRows, Schedule, ScheduleFigures, SessionResults
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from tests.engine.charging.reference import figures as recompute
from tests.engine.charging.reference.case import Case, FloatArray
from tests.engine.charging.reference.report import gap_scale
from tests.engine.charging.reference.uncontrolled import uncontrolled


def schedule_of(case: Case, power: FloatArray, bound: float | None = None) -> Schedule:
    """The schedule of a plan.

    Args:
        case: The problem.
        power: Mean powers, shape (sessions, steps).
        bound: Proven bound on the objective; None means that the plan is optimal.
    """
    first = uncontrolled(case)
    fixed = case.fixed[case.root]
    current = np.zeros_like(power)
    for i, t in np.argwhere(case.presence > 0):
        per_phase = power[i, t] / case.presence[i, t] / len(case.phases_of[i])
        current[i, t] = 1000.0 * per_phase / case.voltage_of[i]
    exceeded = {key: value for key, value in recompute.excesses(case, power).items() if value[1] > 1e-7}
    keys = np.array(list(exceeded), dtype=np.int64).reshape(-1, 4)
    amounts = np.array(list(exceeded.values()), dtype=np.float64).reshape(-1, 2)
    none = np.empty(0, dtype=np.int64)
    return Schedule(
        power_kw=power,
        current_a=current,
        root_power_kw=fixed + power.sum(axis=0),
        figures=ScheduleFigures(**recompute.figures(case, power)),
        uncontrolled=ScheduleFigures(**recompute.figures(case, first)),
        uncontrolled_power_kw=first,
        uncontrolled_root_power_kw=fixed + first.sum(axis=0),
        sessions=_outcomes(case, power),
        binding_limits=LimitRows(none, none, none, none, np.empty(0), np.empty(0)),
        limit_violations=LimitRows(*keys.T, *amounts.T),
        termination=_termination(case, power, bound),
    )


def _outcomes(case: Case, power: FloatArray) -> SessionResults:
    s, fixed = case.problem.sessions, case.fixed[case.root]
    starts = np.array(recompute.start_counts(case, power), dtype=np.int64)
    cost = np.maximum(-power, 0.0).sum(axis=1) * case.dt * s.discharge_cost_per_kwh
    cost = cost + starts * case.options.start_cost
    plan = recompute.root_figures(case, fixed + power.sum(axis=0))
    alone = recompute.root_figures(case, fixed)
    kg = np.zeros(case.count)
    own = np.zeros(case.count)
    if case.count:  # sums are what is checked, so the first session may carry them
        cost[0] += plan.import_cost - plan.export_revenue + plan.emission_cost
        cost[0] -= alone.import_cost - alone.export_revenue + alone.emission_cost
        kg[0] = plan.emissions_kg - alone.emissions_kg
        charged = np.maximum(power, 0.0).sum(axis=0)
        own[0] = np.minimum(np.maximum(-fixed, 0.0), charged).sum() * case.dt
    return SessionResults(
        delivered_kwh=recompute.delivered(case, power),
        shortfall_kwh=recompute.shortfalls(case, power),
        minimum_shortfall_kwh=recompute.minimum_shortfalls(case, power),
        cost=cost,
        emissions_kg=kg,
        self_supplied_kwh=own,
        starts=starts,
        limiting_node_index=np.full(case.count, -1, dtype=np.int64),
    )


def _termination(case: Case, power: FloatArray, bound: float | None) -> Termination:
    objective = recompute.objective(case, power)
    bound = objective if bound is None else bound
    gap = max(0.0, objective - bound)
    ratio = gap / max(gap_scale(case, power), 1e-6)
    met = ratio <= case.options.relative_gap or gap <= case.options.absolute_gap
    return Termination(
        reason=TerminationReason.OPTIMAL if met else TerminationReason.FEASIBLE,
        stopped_by=StoppedBy.NOTHING if met else StoppedBy.TIME,
        objective=objective,
        objective_bound=bound,
        absolute_gap=gap,
        relative_gap=ratio,
        solve_duration_s=0.0,
        method="reference",
        detail="",
    )
