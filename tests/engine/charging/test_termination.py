"""Solves end as they say: same input, same answer; limits of time and cancelling give a plan with a true gap."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from evflex.engine.charging import optimize_schedule
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from evflex.engine.termination import StoppedBy, TerminationReason
from tests.engine.charging.reference.builders import cars, site
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.generators import random_problem, some_features


def busy_site(count: int, seed: int = 3, minimum_kw: float = 4.14) -> ScheduleProblem:
    """A day of quarter-hours with a limit that binds."""
    rng = np.random.default_rng(seed)
    arrive = rng.uniform(0.0, 60.0, count)
    leave = np.minimum(96.0, arrive + rng.uniform(12.0, 60.0, count))
    need = np.minimum(rng.uniform(5.0, 40.0, count), 9.0 * (leave - arrive) / 4.0)
    sessions = cars(
        arrive.tolist(), leave.tolist(), need.tolist(), step_s=900.0, max_kw=11.04, min_charge_kw=minimum_kw,
        charge_efficiency=0.92,
    )  # fmt: skip
    price = np.repeat(np.round(0.2 + 0.15 * np.sin(np.arange(24) / 3.0) + rng.uniform(0, 0.02, 24), 4), 4)
    return site(sessions, price.tolist(), step_s=900.0, limit_kw=float(need.sum() / 14.0))


def same(a: Schedule, b: Schedule) -> bool:
    first, second = (dataclasses.replace(s.termination, solve_duration_s=0.0) for s in (a, b))
    return (
        np.array_equal(a.power_kw, b.power_kw)
        and np.array_equal(a.uncontrolled_power_kw, b.uncontrolled_power_kw)
        and a.figures == b.figures
        and first == second
        and all(
            np.array_equal(x, y)
            for part in ("sessions", "binding_limits", "limit_violations")
            for x, y in zip(_columns(getattr(a, part)), _columns(getattr(b, part)), strict=True)
        )
    )


def _columns(part: object) -> list[NDArray[np.float64]]:
    return [getattr(part, f.name) for f in dataclasses.fields(part)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(10))
def test_the_same_small_problem_gives_the_same_answer(seed: int) -> None:
    problem, options = random_problem(seed, some_features(seed), count=3, steps=6)
    assert same(optimize_schedule(problem, options), optimize_schedule(problem, options))


def test_the_same_day_gives_the_same_answer() -> None:
    problem = busy_site(40)
    assert same(optimize_schedule(problem, ScheduleOptions()), optimize_schedule(problem, ScheduleOptions()))


@pytest.mark.parametrize("limit_s", [1e-9, 1e-3, 0.02])
@pytest.mark.parametrize(
    "options",
    [ScheduleOptions(), ScheduleOptions(shortfall_price_per_kwh=2.0), ScheduleOptions(start_cost=0.05),
     ScheduleOptions(current_quantum_a=1.0)],
    ids=["ranked", "priced", "starts", "quanta"],
)  # fmt: skip
def test_a_tiny_time_limit_gives_a_plan_with_a_true_gap(limit_s: float, options: ScheduleOptions) -> None:
    problem = busy_site(30)
    asked = dataclasses.replace(options, time_limit_s=limit_s, relative_gap=1e-7)
    schedule = optimize_schedule(problem, asked)
    assert check(problem, asked, schedule) == []
    ended = schedule.termination
    if ended.reason == TerminationReason.FEASIBLE:
        assert ended.stopped_by == StoppedBy.TIME
    unhurried = optimize_schedule(problem, dataclasses.replace(options, relative_gap=1e-4, time_limit_s=3.0))
    if abs(unhurried.sessions.shortfall_kwh.sum() - schedule.sessions.shortfall_kwh.sum()) < 1e-6:
        slack = 1e-6 * max(1.0, abs(unhurried.termination.objective))
        assert ended.objective_bound <= unhurried.termination.objective + slack


def test_a_cancelled_solve_returns_a_plan_that_keeps_the_rules() -> None:
    cancel = threading.Event()
    cancel.set()
    problem, options = busy_site(30), ScheduleOptions(relative_gap=0.0)
    schedule = optimize_schedule(problem, options, cancel)
    assert check(problem, options, schedule) == []
    if schedule.termination.reason == TerminationReason.FEASIBLE:
        assert schedule.termination.stopped_by == StoppedBy.CANCELLED


def test_a_solve_cancelled_under_way_returns() -> None:
    cancel = threading.Event()
    answers: list[Schedule] = []
    problem = busy_site(25)
    options = ScheduleOptions(relative_gap=0.0, start_cost=0.05, time_limit_s=250.0)
    solve = threading.Thread(target=lambda: answers.append(optimize_schedule(problem, options, cancel)))
    solve.start()
    solve.join(0.5)
    cancel.set()
    solve.join(60.0)
    assert len(answers) == 1
    assert check(problem, options, answers[0]) == []


def test_either_gap_is_enough() -> None:
    problem = busy_site(12)
    by_share = optimize_schedule(problem, ScheduleOptions(relative_gap=0.05, absolute_gap=0.0))
    by_money = optimize_schedule(problem, ScheduleOptions(relative_gap=0.0, absolute_gap=5.0))
    for schedule in (by_share, by_money):
        assert schedule.termination.reason == TerminationReason.OPTIMAL
    assert by_share.termination.relative_gap <= 0.05
    assert by_money.termination.absolute_gap <= 5.0
