"""Charging schedules of one site: least cost, proven gap."""

from evflex.engine.charging.forest import optimize_together
from evflex.engine.charging.model import (
    DepartureBeyondHorizon,
    ScheduleObjective,
    ScheduleOptions,
    ScheduleProblem,
    Sessions,
    Tariff,
)
from evflex.engine.charging.optimize import optimize_schedule
from evflex.engine.charging.replan import align_previous
from evflex.engine.charging.schedule import LimitRows, LimitUnit, Schedule, ScheduleFigures, SessionResults
from evflex.engine.charging.warm_up import warm_up

__all__ = [
    "DepartureBeyondHorizon",
    "LimitRows",
    "LimitUnit",
    "Schedule",
    "ScheduleFigures",
    "ScheduleObjective",
    "ScheduleOptions",
    "ScheduleProblem",
    "SessionResults",
    "Sessions",
    "Tariff",
    "align_previous",
    "optimize_schedule",
    "optimize_together",
    "warm_up",
]
