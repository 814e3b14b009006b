"""What an answer of the engine must be beside the optimum of the reference."""

from __future__ import annotations

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from tests.engine.charging.reference import figures, reference_milp
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.report import RANKS, gap_scale

# Wishes that rank before cost agree to this (kWh), money to this share of its scale.
RANK_TOLERANCE = 5e-6
MONEY_TOLERANCE = 2e-6


def differences(problem: ScheduleProblem, options: ScheduleOptions, schedule: Schedule) -> list[str]:
    """Everything wrong with a schedule, its optimality included.

    The first ranks must be those of the reference, the objective within the gap that the schedule states,
    and the proven bound must hold.
    """
    faults = check(problem, options, schedule)
    case = Case(problem, options)
    best = reference_milp.solve(problem, options)
    mine = figures.ranks(case, schedule.power_kw)
    for name, value, optimum in zip(RANKS[:-1], mine, best.ranks, strict=False):
        if abs(value - optimum) > RANK_TOLERANCE * max(1.0, optimum):
            return [*faults, f"{name}: {value}, optimum {optimum}"]
    ended = schedule.termination
    slack = MONEY_TOLERANCE * max(1.0, gap_scale(case, schedule.power_kw)) + 1e-6
    if ended.objective_bound > best.objective + slack:
        faults.append(f"objective_bound: {ended.objective_bound} above the optimum {best.objective}")
    if mine[-1] < best.objective - slack:
        faults.append(f"objective: {mine[-1]} below the optimum {best.objective}: a rule is not kept")
    if mine[-1] > best.objective + ended.absolute_gap + slack:
        faults.append(f"objective: {mine[-1]}, optimum {best.objective}, stated gap {ended.absolute_gap}")
    return faults
