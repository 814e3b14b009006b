"""Checks a plan against its problem from the contract alone; shares no code with the solver."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan
from evflex.engine.termination import StoppedBy, TerminationReason
from tests.engine.dispatch.reference.case import Assets, BoolArray, Case, FloatArray
from tests.engine.dispatch.reference.figures import Tally, attributed

_TOLERANCE = 1e-6
_CHUNK = 8192
# Of each rule so many breaches are spelled out.
_MOST_TOLD = 5


def faults(problem: DispatchProblem, options: PlanOptions | None, plan: FleetPlan) -> list[str]:
    """Everything wrong with a plan, in words; empty when nothing is.

    Args:
        problem: What was asked, valid.
        options: How it was asked; None for the defaults.
        plan: The answer.
    """
    case = Case(problem)
    wrong = _shape_faults(case, plan)
    if wrong:
        return wrong
    tally = Tally(case)
    for first in range(0, case.count, _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, case.count))
        power = plan.setpoints.power_kw(rows)
        if power.shape != (len(rows), case.steps) or not np.isfinite(power).all():
            return [*wrong, f"setpoints: rows {first}..{rows[-1]} have shape {power.shape} or are not finite"]
        assets = case.assets(rows)
        wrong += _asset_faults(case, assets, power)
        wrong += _single_row_faults(plan, rows[len(rows) // 2], power[len(rows) // 2])
        tally.add(assets, power)
    return [
        *wrong, *_sum_faults(plan, tally), *_limit_faults(case, plan, tally), *_reserve_faults(case, plan, tally),
        *_figure_faults(case, plan, tally), *_termination_faults(options or PlanOptions(), plan),
    ]  # fmt: skip


def sum_tolerance_kw(total_kw: FloatArray) -> FloatArray:
    """How far a sum of powers may lie from the powers it adds up."""
    return np.maximum(1e-3, 1e-9 * np.abs(total_kw))


def _shape_faults(case: Case, plan: FleetPlan) -> list[str]:
    limits, reserves = (len(case.problem.limits), case.steps), (len(case.problem.reserves), case.steps)
    shapes = {
        "fleet_power_kw": (case.steps,), "group_power_kw": (case.problem.group_count, case.steps),
        "limit_power_kw": limits, "limit_price_per_kw_step": limits, "limit_above_kw": limits,
        "limit_below_kw": limits, "reserve_missing_up_kw": reserves, "reserve_missing_down_kw": reserves,
    }  # fmt: skip
    wrong = []
    for name, shape in shapes.items():
        stated = np.asarray(getattr(plan, name))
        if stated.shape != shape:
            wrong.append(f"{name}: shape {stated.shape}, not {shape}")
        elif not np.isfinite(stated).all():
            wrong.append(f"{name}: not finite")
    return wrong


def _told(bad: BoolArray, words: str, *values: FloatArray) -> Iterator[str]:
    """The first breaches of a rule; ``words`` holds places for the position, then for each value there."""
    positions = np.argwhere(bad)
    for position in positions[:_MOST_TOLD].tolist():
        yield words.format(position, *(float(np.broadcast_to(v, bad.shape)[tuple(position)]) for v in values))
    if len(positions) > _MOST_TOLD:
        yield f"... and {len(positions) - _MOST_TOLD} more like the last"


# --- assets ------------------------------------------------------------------------------------


def _asset_faults(case: Case, assets: Assets, power: FloatArray) -> list[str]:
    """Bounds of power and state, and the minimum of EVs."""
    first = int(assets.rows[0])
    where = f" (chunk from row {first})" if first else ""
    low, high = assets.base_kw - assets.discharge_most_kw, assets.base_kw + assets.charge_most_kw
    wrong = [
        *_told(power < low - _TOLERANCE, "power{}" + where + ": {} below {}", power, low),
        *_told(power > high + _TOLERANCE, "power{}" + where + ": {} above {}", power, high),
    ]
    least = assets.charge_least_kw
    slow = (power > _TOLERANCE) & (power < least - _TOLERANCE)
    wrong += _told(slow, "minimum{}" + where + ": charges with {}, at least {}", power, least)
    state = assets.state_kwh(power, case.dt)
    low, high = (np.where(assets.has_state, b, 0.0)[:, None] for b in (assets.state_low_kwh, assets.state_high_kwh))
    slack = _TOLERANCE * np.maximum(1.0, np.maximum(np.abs(low), np.abs(high)))
    wrong += _told(state < low - slack, "state{}" + where + ": {} kWh below {}", state, low)
    wrong += _told(state > high + slack, "state{}" + where + ": {} kWh above {}", state, high)
    return wrong


def _single_row_faults(plan: FleetPlan, row: int, power: FloatArray) -> list[str]:
    """A row asked for alone is the same as among others."""
    alone = plan.setpoints.power_kw(np.array([row]))
    same = alone.shape == (1, len(power)) and np.allclose(alone[0], power, rtol=0.0, atol=1e-9)
    return [] if same else [f"setpoints: row {row} alone differs from the row among others"]


# --- sums and limits ---------------------------------------------------------------------------


def _sum_faults(plan: FleetPlan, tally: Tally) -> list[str]:
    wrong: list[str] = []
    for name in ("fleet_power_kw", "group_power_kw", "limit_power_kw"):
        stated, actual = getattr(plan, name), getattr(tally, name)
        bad = np.abs(stated - actual) > sum_tolerance_kw(actual)
        wrong += _told(bad, name + "{}: {}, the setpoints add up to {}", stated, actual)
    return wrong


def _limit_faults(case: Case, plan: FleetPlan, tally: Tally) -> list[str]:
    wrong: list[str] = []
    tolerance = sum_tolerance_kw(tally.limit_power_kw)
    for name, actual in (("limit_above_kw", tally.above_kw), ("limit_below_kw", tally.below_kw)):
        stated = getattr(plan, name)
        bad = (np.abs(stated - actual) > tolerance) | (stated < 0.0)
        wrong += _told(bad, name + "{}: {}, is {}", stated, actual)
    if abs(plan.violation_kwh - tally.violation_kwh) > _violation_slack_kwh(case, tally):
        wrong.append(f"violation_kwh: {plan.violation_kwh}, recomputed {tally.violation_kwh}")
    for i, limit in enumerate(case.problem.limits):
        price = plan.limit_price_per_kw_step[i]
        most = limit.violation_price_per_kwh * case.dt
        slack = _TOLERANCE * max(1.0, most)
        name = f"limit_price_per_kw_step[{i}]"
        wrong += _told(np.abs(price) > most + slack, name + "{}: {}, a violation costs {}", price, np.array(most))
        wrong += _told((price > slack) & np.isinf(limit.upper_kw), name + "{}: {} without an upper limit", price)
        wrong += _told((price < -slack) & np.isinf(limit.lower_kw), name + "{}: {} without a lower limit", price)
    return wrong


def _violation_slack_kwh(case: Case, tally: Tally) -> float:
    """How far violated energy may be off: as the sums are where there is a violation, and rounding."""
    beyond = tally.above_kw + tally.below_kw
    near = np.where(beyond > 0.0, sum_tolerance_kw(tally.limit_power_kw), 0.0)
    return float(near.sum()) * case.dt + _TOLERANCE * max(1.0, tally.violation_kwh)


# --- reserves ----------------------------------------------------------------------------------


def _reserve_faults(case: Case, plan: FleetPlan, tally: Tally) -> list[str]:
    wrong: list[str] = []
    for name, stated, sold, needed, given, missing in (
        ("reserve_missing_up_kw", plan.reserve_missing_up_kw, case.sold_up_kw, case.up_kw,
         tally.reserve_up_kw, tally.missing_up_kw),
        ("reserve_missing_down_kw", plan.reserve_missing_down_kw, case.sold_down_kw, case.down_kw,
         tally.reserve_down_kw, tally.missing_down_kw),
    ):  # fmt: skip
        total = stated.sum(axis=0)
        tolerance = sum_tolerance_kw(given)
        wrong += _told(stated < 0.0, name + "{}: {} is negative", stated)
        wrong += _told(total < missing - tolerance, name + "{}: {} of {} missing", total, missing)
        wrong += _told(total > missing + tolerance, name + "{}: {}, but only {} missing", total, missing)
        for k in np.flatnonzero(total > tolerance).tolist():
            starts = [j for j in case.starts(k) if sold[:, j].sum() >= needed[k] - _TOLERANCE]
            fitting = [np.abs(attributed(sold[:, j], float(total[k])) - stated[:, k]).max() for j in starts]
            if min(fitting) > tolerance[k]:
                wrong.append(f"{name}[{k}]: {stated[:, k].tolist()}, later commitments do not come first")
    return wrong


# --- figures and termination -------------------------------------------------------------------


def _figure_faults(case: Case, plan: FleetPlan, tally: Tally) -> list[str]:
    figures = tally.figures
    wrong = []
    for name in figures.__dataclass_fields__:
        stated, actual = getattr(plan.figures, name), getattr(figures, name)
        slack = _TOLERANCE * abs(actual) + 1e-8 * figures.scale + 1e-9
        if name == "violation_cost":
            slack += _violation_cost_slack(case, tally)
        if not abs(stated - actual) <= slack:
            wrong.append(f"figures.{name}: {stated}, recomputed {actual}")
    if not abs(plan.shortfall_kwh - tally.shortfall_kwh) <= _TOLERANCE * max(1.0, tally.shortfall_kwh):
        wrong.append(f"shortfall_kwh: {plan.shortfall_kwh}, recomputed {tally.shortfall_kwh}")
    if not tally.least_short <= plan.assets_short <= tally.most_short:
        wrong.append(f"assets_short: {plan.assets_short}, recomputed {tally.least_short}..{tally.most_short}")
    return wrong


def _violation_cost_slack(case: Case, tally: Tally) -> float:
    """Violations may be off as the sums are."""
    prices = [limit.violation_price_per_kwh for limit in case.problem.limits]
    dearest = max([*prices, case.reserve_price if case.problem.reserves else 0.0], default=0.0)
    missing = tally.missing_up_kw + tally.missing_down_kw
    near = float(np.where(missing > 0.0, sum_tolerance_kw(tally.fleet_power_kw), 0.0).sum()) * case.dt
    return dearest * (_violation_slack_kwh(case, tally) + near)


def _termination_faults(asked: PlanOptions, plan: FleetPlan) -> list[str]:
    ended, figures, wrong = plan.termination, plan.figures, []
    scale = max(figures.scale, 1e-6)
    slack = 1e-9 * scale
    if not abs(ended.objective - figures.total_cost) <= slack:
        wrong.append(f"termination.objective: {ended.objective}, the figures' total is {figures.total_cost}")
    if not ended.objective_bound <= ended.objective + slack:
        wrong.append(f"termination.objective_bound: {ended.objective_bound} above {ended.objective}")
    gap = max(0.0, ended.objective - ended.objective_bound)  # infinite where nothing is proven
    for name, expected, room in (("absolute_gap", gap, slack), ("relative_gap", gap / scale, 1e-9)):
        stated = getattr(ended, name)
        if not (stated == expected or math.isclose(stated, expected, rel_tol=1e-9, abs_tol=room)):
            wrong.append(f"termination.{name}: {stated}, recomputed {expected}")
    met = gap / scale <= asked.relative_gap + 1e-9 or gap <= asked.absolute_gap + slack
    if ended.reason == TerminationReason.OPTIMAL and not met:
        wrong.append(f"termination.reason: OPTIMAL at gap {gap / scale}, asked {asked.relative_gap}")
    if ended.reason == TerminationReason.FEASIBLE and ended.stopped_by == StoppedBy.NOTHING:
        wrong.append("termination.stopped_by: FEASIBLE, but nothing stopped it")
    if ended.reason == TerminationReason.NO_SOLUTION:
        wrong.append("termination.reason: NO_SOLUTION, but a plan always exists")
    return wrong
