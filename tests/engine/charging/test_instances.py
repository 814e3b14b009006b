"""The instances with known optima are planned to their gap."""

from __future__ import annotations

from pathlib import Path

import pytest

from evflex.engine.charging import optimize_schedule
from evflex.engine.termination import TerminationReason
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.datasets import LP_OPTIMUM, MILP_OPTIMUM, site_instance
from tests.engine.charging.reference.generators import with_options

pytestmark = pytest.mark.shared_data


@pytest.mark.parametrize("count", [10, 100, pytest.param(1000, marks=pytest.mark.slow)])
def test_without_a_minimum_the_optimum_is_met(count: int, shared_data: Path) -> None:
    problem, options = site_instance(count, minimum=False, folder=shared_data)
    options = with_options(options, relative_gap=1e-6)
    schedule = optimize_schedule(problem, options)
    assert check(problem, options, schedule) == []
    assert schedule.termination.objective == pytest.approx(LP_OPTIMUM[count], rel=1e-6)
    assert schedule.termination.objective_bound == pytest.approx(LP_OPTIMUM[count], rel=1e-6)


@pytest.mark.parametrize(("count", "gap"), [(10, 1e-3), (100, 1e-4), pytest.param(1000, 2e-4, marks=pytest.mark.slow)])
def test_with_a_minimum_the_gap_is_closed(count: int, gap: float, shared_data: Path) -> None:
    problem, options = site_instance(count, folder=shared_data)
    options = with_options(options, relative_gap=gap)
    schedule = optimize_schedule(problem, options)
    assert check(problem, options, schedule) == []
    ended = schedule.termination
    assert ended.reason == TerminationReason.OPTIMAL
    best = MILP_OPTIMUM.get(count, ended.objective)
    assert ended.objective_bound <= best + 1e-6 * best
    assert best <= ended.objective + 1e-6 * best
    assert ended.objective <= LP_OPTIMUM[count] * (1.0 + 2.0 * gap)
    assert schedule.figures.shortfall_cost <= gap * ended.objective


def test_ten_cars_with_a_minimum_are_planned_to_the_proven_optimum(shared_data: Path) -> None:
    problem, options = site_instance(10, folder=shared_data)
    schedule = optimize_schedule(problem, with_options(options, relative_gap=1e-6))
    assert schedule.termination.objective == pytest.approx(MILP_OPTIMUM[10], abs=3e-5)
