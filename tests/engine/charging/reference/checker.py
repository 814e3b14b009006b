"""Checks a schedule against its problem from the contract alone; shares no code with the solver."""

from __future__ import annotations

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.report import answer_faults
from tests.engine.charging.reference.rules import plan_faults, uncontrolled_faults


def check(problem: ScheduleProblem, options: ScheduleOptions, schedule: Schedule) -> list[str]:
    """Everything wrong with a schedule, in words; empty when nothing is.

    Args:
        problem: What was asked.
        options: How it was asked.
        schedule: The answer, or anything with its attributes.
    """
    case = Case(problem, options)
    shape = (case.count, case.steps)
    matrices = ("power_kw", "current_a", "uncontrolled_power_kw")
    rows = ("root_power_kw", "uncontrolled_root_power_kw")
    expected = dict.fromkeys(matrices, str(shape)) | dict.fromkeys(rows, str(shape[1:]))
    actual = {name: str(getattr(schedule, name).shape) for name in expected}
    if actual != expected:
        return [f"{k}: shape {actual[k]}, expected {v}" for k, v in expected.items() if actual[k] != v]
    return [
        *plan_faults(case, schedule.power_kw),
        *(f"uncontrolled: {fault}" for fault in uncontrolled_faults(case, schedule.uncontrolled_power_kw)),
        *answer_faults(case, schedule),
    ]
