"""Checks what a schedule says about itself: figures, currents, outcomes, limits and termination."""

from __future__ import annotations

import math

import numpy as np

from evflex.engine.charging.schedule import LimitRows, Schedule, ScheduleFigures
from tests.engine.charging.reference import figures as recompute
from tests.engine.charging.reference.case import Case, FloatArray
from tests.engine.charging.reference.rules import plan_faults

TOLERANCE = 1e-6
OPTIMAL, FEASIBLE = 1, 2
RANKS = ("safety excess", "minimum energy shortfall", "agreement excess", "shortfall", "objective")


def _close(a: float, b: float, scale: float = 1.0) -> bool:
    return bool(abs(a - b) <= TOLERANCE * max(1.0, abs(a), abs(b), scale))


def _equal(a: float, b: float, slack: float) -> bool:
    """Equality that also holds between infinities."""
    return bool(a == b or (math.isfinite(a) and math.isfinite(b) and abs(a - b) <= slack))


def answer_faults(case: Case, schedule: Schedule) -> list[str]:
    """Everything that a schedule states wrongly."""
    return [
        *_figure_faults("figures", case, schedule.power_kw, schedule.figures),
        *_figure_faults("uncontrolled", case, schedule.uncontrolled_power_kw, schedule.uncontrolled),
        *_root_faults("root_power_kw", case, schedule.power_kw, schedule.root_power_kw),
        *_root_faults(
            "uncontrolled_root_power_kw",
            case,
            schedule.uncontrolled_power_kw,
            schedule.uncontrolled_root_power_kw,
        ),
        *_current_faults(case, schedule),
        *_session_faults(case, schedule),
        *_violation_faults(case, schedule.power_kw, schedule.limit_violations),
        *_binding_faults(case, schedule.binding_limits),
        *_termination_faults(case, schedule),
        *incumbent_faults(case, schedule),
    ]


def _figure_faults(name: str, case: Case, power: FloatArray, stated: ScheduleFigures) -> list[str]:
    expected = recompute.figures(case, power)
    gross = sum(abs(expected[key]) for key in expected if key.endswith(("_cost", "_value")))
    return [
        f"{name}.{key}: {getattr(stated, key)}, recomputed {value}"
        for key, value in expected.items()
        if not _close(getattr(stated, key), value, gross if key == "total_cost" else 0.0)
    ]


def _root_faults(name: str, case: Case, power: FloatArray, stated: FloatArray) -> list[str]:
    return _column_faults(name, stated, case.fixed[case.root] + power.sum(axis=0))


def _column_faults(name: str, stated: FloatArray, expected: FloatArray) -> list[str]:
    wrong = ~(np.abs(stated - expected) <= TOLERANCE * np.maximum(1.0, np.abs(expected)))
    return [f"{name}[{k}]: {stated[k]}, recomputed {expected[k]}" for k in np.flatnonzero(wrong)]


def _current_faults(case: Case, schedule: Schedule) -> list[str]:
    faults = []
    for i, t in np.ndindex(case.count, case.steps):
        ampere = float(schedule.power_kw[i, t]) * 1000.0 / case.voltage_of[i] / len(case.phases_of[i])
        shares = [float(f[i, t]) for f in (case.presence, case.short_presence) if f[i, t] > 0]
        allowed = [ampere / share for share in shares] or [0.0]
        stated = float(schedule.current_a[i, t])
        if not any(_close(stated, value) for value in allowed):
            faults.append(f"current_a[{i}, {t}]: {stated}, recomputed {allowed[0]}")
    return faults


def _session_faults(case: Case, schedule: Schedule) -> list[str]:
    faults = []
    power, results = schedule.power_kw, schedule.sessions
    columns = {
        "delivered_kwh": recompute.delivered(case, power),
        "shortfall_kwh": recompute.shortfalls(case, power),
        "minimum_shortfall_kwh": recompute.minimum_shortfalls(case, power),
        "starts": np.array(recompute.start_counts(case, power), dtype=float),
    }
    for name, expected in columns.items():
        stated = np.asarray(getattr(results, name), dtype=float)
        if stated.shape != (case.count,):
            faults.append(f"sessions.{name}: shape {stated.shape}")
            continue
        faults += _column_faults(f"sessions.{name}", stated, expected)
    faults += _shared_faults(case, schedule)
    short = columns["shortfall_kwh"] + columns["minimum_shortfall_kwh"]
    for i in range(case.count):
        node = int(results.limiting_node_index[i])
        if short[i] <= TOLERANCE and node != -1:
            faults.append(f"sessions.limiting_node_index[{i}]: {node}, but nothing is short")
        elif node != -1 and node not in case.path(case.node_of[i]):
            faults.append(f"sessions.limiting_node_index[{i}]: node {node} does not feed the session")
    return faults


def _shared_faults(case: Case, schedule: Schedule) -> list[str]:
    """What sessions share adds up to what the site has."""
    power, results = schedule.power_kw, schedule.sessions
    fixed = case.fixed[case.root]
    alone = recompute.root_figures(case, fixed)
    plan = recompute.root_figures(case, fixed + power.sum(axis=0))
    wear_and_starts = schedule.figures.discharge_cost + schedule.figures.start_cost
    cost = plan.import_cost - plan.export_revenue + plan.emission_cost + wear_and_starts
    cost -= alone.import_cost - alone.export_revenue + alone.emission_cost
    charging = np.maximum(power, 0.0).sum(axis=0)
    surplus = np.minimum(np.maximum(-fixed, 0.0), charging).sum() * case.dt
    kg = plan.emissions_kg - alone.emissions_kg
    expected = {"cost": cost, "emissions_kg": kg, "self_supplied_kwh": surplus}
    gross = {"cost": abs(plan.import_cost) + abs(plan.export_revenue) + plan.emission_cost}
    faults = []
    for name, value in expected.items():
        stated = float(np.sum(getattr(results, name)))
        if not _close(stated, value, gross.get(name, 0.0)):
            faults.append(f"sessions.{name}: sum {stated}, recomputed {value}")
    return faults


def _key(rows: LimitRows, k: int) -> tuple[int, int, int, int]:
    return int(rows.node_index[k]), int(rows.step[k]), int(rows.phase[k]), int(rows.unit[k])


def _violation_faults(case: Case, power: FloatArray, stated: LimitRows) -> list[str]:
    actual = recompute.excesses(case, power)
    faults = []
    seen = set()
    for k in range(len(stated.node_index)):
        key = _key(stated, k)
        seen.add(key)
        limit, excess = actual.get(key, (float("nan"), 0.0))
        if not _close(stated.amount[k], excess) or stated.amount[k] <= 0:
            faults.append(f"limit_violations{key}: excess {stated.amount[k]}, recomputed {excess}")
        elif excess and not _close(stated.limit[k], limit):
            faults.append(f"limit_violations{key}: limit {stated.limit[k]}, is {limit}")
    for key, (_, excess) in actual.items():
        if excess > TOLERANCE and key not in seen:
            faults.append(f"limit_violations{key}: excess {excess} is not reported")
    return faults


def _binding_faults(case: Case, stated: LimitRows) -> list[str]:
    limits = {(row.node, row.step, row.phase, row.unit): row.limit for row in case.rows}
    faults = []
    for k in range(len(stated.node_index)):
        key = _key(stated, k)
        if key not in limits:
            faults.append(f"binding_limits{key}: no such limit")
        elif not _close(stated.limit[k], limits[key]):
            faults.append(f"binding_limits{key}: limit {stated.limit[k]}, is {limits[key]}")
        if not stated.amount[k] > 0:
            faults.append(f"binding_limits{key}: shadow price {stated.amount[k]}")
    return faults


def gap_scale(case: Case, power: FloatArray) -> float:
    """Sum of the absolute terms of the objective."""
    return sum(abs(term) for term in recompute.objective_terms(case, power).values())


def _termination_faults(case: Case, schedule: Schedule) -> list[str]:
    ended, faults = schedule.termination, []
    scale = max(gap_scale(case, schedule.power_kw), 1e-6)
    objective = recompute.objective(case, schedule.power_kw)
    gross = scale + abs(recompute.figures(case, schedule.power_kw)["energy_cost"])
    if not _close(ended.objective, objective, gross):
        faults.append(f"termination.objective: {ended.objective}, recomputed {objective}")
    slack = TOLERANCE * max(1e-3, scale)
    if ended.objective_bound > ended.objective + slack:
        faults.append(f"termination.objective_bound: {ended.objective_bound} above {ended.objective}")
    gap = max(0.0, ended.objective - ended.objective_bound)  # infinite where nothing is proven
    if not _equal(ended.absolute_gap, gap, slack):
        faults.append(f"termination.absolute_gap: {ended.absolute_gap}, recomputed {gap}")
    share = gap / scale
    if not _equal(ended.relative_gap, share, 1e-6 + 1e-3 * share):
        faults.append(f"termination.relative_gap: {ended.relative_gap}, recomputed {share}")
    asked = case.options
    met = ended.relative_gap <= asked.relative_gap + 1e-9 or ended.absolute_gap <= asked.absolute_gap + 1e-9
    if ended.reason == OPTIMAL and not met:
        faults.append(f"termination.reason: OPTIMAL at gap {ended.relative_gap}, asked {asked.relative_gap}")
    if ended.reason == FEASIBLE and not ended.stopped_by:
        faults.append("termination.stopped_by: FEASIBLE, but nothing stopped it")
    if ended.reason not in (OPTIMAL, FEASIBLE):
        faults.append(f"termination.reason: {ended.reason}, but a plan always exists")
    return faults


def incumbent_faults(case: Case, schedule: Schedule) -> list[str]:
    """A plan never ranks behind uncontrolled charging, where that is allowed at all."""
    first = schedule.uncontrolled_power_kw
    if plan_faults(case, first):
        return []
    scale = gap_scale(case, first)
    both = zip(RANKS, recompute.ranks(case, schedule.power_kw), recompute.ranks(case, first), strict=True)
    for name, mine, theirs in both:
        slack = 2e-6 * scale + 1e-9 if name == "objective" else TOLERANCE * max(1.0, theirs)
        if mine > theirs + slack:
            return [f"{name}: {mine} above {theirs} of uncontrolled charging"]
        if mine < theirs - slack:
            return []
    return []
