"""On random problems the independent checker finds nothing."""

from __future__ import annotations

import pytest

from evflex.engine.capacity import AllocationOptions, allocate_capacity
from tests.conftest import SOAK
from tests.engine.capacity.reference.checker import violations
from tests.engine.capacity.reference.generators import Knobs, day_problem, small_problem

SMALL_BLOCK, DAY_BLOCK = 20, 10 if SOAK else 3
SMALL_BLOCKS = range(0, 1000 if SOAK else 60, SMALL_BLOCK)
DAY_BLOCKS = range(0, 10_000 if SOAK else 24, DAY_BLOCK)


@pytest.mark.parametrize("first", SMALL_BLOCKS)
def test_nothing_is_wrong_with_small_plans(first: int) -> None:
    for seed in range(first, first + SMALL_BLOCK):
        problem = small_problem(seed)
        assert violations(problem, allocate_capacity(problem, AllocationOptions())) == [], seed


@pytest.mark.parametrize("first", DAY_BLOCKS)
def test_nothing_is_wrong_with_plans_of_a_day(first: int) -> None:
    for seed in range(first, first + DAY_BLOCK):
        problem = day_problem(seed)
        assert violations(problem, allocate_capacity(problem, AllocationOptions())) == [], seed


@pytest.mark.parametrize("seed", range(200 if SOAK else 12))
def test_a_firm_capacity_that_cannot_be_carried_is_cut_and_reported(seed: int) -> None:
    problem = small_problem(seed, Knobs(hubs=4, steps=16, firm_share=1.2, minimum_power=False, feasible=False))
    assert violations(problem, allocate_capacity(problem, AllocationOptions())) == []


def test_firm_capacity_that_loads_phases_unevenly_is_not_held_back_for_conditional_capacity_later() -> None:
    problem = day_problem(768)
    assert violations(problem, allocate_capacity(problem, AllocationOptions())) == []
