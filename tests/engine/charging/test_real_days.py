"""Thirty measured days at market prices: no limit broken, never worse than uncontrolled charging."""

from __future__ import annotations

from pathlib import Path

import pytest

from evflex.engine.charging import optimize_schedule
from evflex.engine.charging.model import ScheduleOptions
from tests.engine.charging.reference import figures
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.datasets import acn_day, acn_days
from tests.engine.charging.reference.rules import plan_faults

pytestmark = pytest.mark.shared_data


@pytest.mark.parametrize("number", range(30))
def test_a_measured_day_is_planned_within_its_limits(number: int, shared_data: Path) -> None:
    day = acn_days(30, shared_data)[number]
    problem, options = acn_day(day, folder=shared_data)
    schedule = optimize_schedule(problem, options)
    assert check(problem, options, schedule) == []
    case = Case(problem, options)
    assert plan_faults(case, schedule.uncontrolled_power_kw) == []
    plan = figures.ranks(case, schedule.power_kw)
    first = figures.ranks(case, schedule.uncontrolled_power_kw)
    assert plan[3] <= first[3] + 1e-6
    if plan[3] >= first[3] - 1e-6:
        assert plan[4] <= first[4] + 2e-6 * abs(first[4])


@pytest.mark.parametrize("number", [0, 7, 15, 22])
@pytest.mark.parametrize(
    "options",
    [ScheduleOptions(shortfall_price_per_kwh=1.0), ScheduleOptions(start_cost=0.02, time_limit_s=5.0),
     ScheduleOptions(current_quantum_a=1.0, time_limit_s=5.0)],
    ids=["priced", "starts", "quanta"],
)  # fmt: skip
def test_options_keep_a_measured_day_within_its_limits(
    number: int, options: ScheduleOptions, shared_data: Path
) -> None:
    problem, _ = acn_day(acn_days(30, shared_data)[number], limit_ratio=0.2, folder=shared_data)
    assert check(problem, options, optimize_schedule(problem, options)) == []


def test_thirty_different_days_are_found(shared_data: Path) -> None:
    days = acn_days(30, shared_data)
    assert len(set(days)) == 30
    assert sum(len(acn_day(day, folder=shared_data)[0].sessions) for day in days) > 600
