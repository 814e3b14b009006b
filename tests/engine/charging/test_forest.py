"""Sites planned at once get the plans that each gets alone, and none gets in another's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from evflex.engine.charging import optimize_schedule, optimize_together
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from tests.conftest import SOAK
from tests.engine.charging.reference.builders import cars, site, tree
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.generators import random_problem

# Features of which sites may be planned at once.
SIMPLE = ("min", "tree", "phases", "agreement", "partial", "priced", "beyond", "co2", "weights", "value", "shut")
# Features that a site must be planned alone for, and the options that each sets.
MORE = ("v2g", "peak", "ramp", "minimum_energy", "starts", "quantum", "control", "pv")


# Its plan costs more than the greedy one, so that it is certain to be planned.
PRICE = [0.4, 0.1, 0.3, 0.2]
EASY = site(cars([0, 0, 1], [4, 4, 4], [9.0, 8.0, 9.0]), PRICE, limit_kw=20.0)
PRICED = ScheduleOptions(shortfall_price_per_kwh=2.0)


def sites_of_one_kind(
    seed: int, features: Sequence[str], count: int
) -> tuple[list[ScheduleProblem], list[ScheduleOptions]]:
    """Random sites under one tariff and the same options."""
    first, options = random_problem(seed, features, count=3, steps=8)
    others = [random_problem(seed + k, features, count=1 + k % 5, steps=8)[0] for k in range(1, count)]
    options = replace(options, relative_gap=0.5)
    return [first, *(replace(other, tariff=first.tariff) for other in others)], [options] * count


def differing(a: object, b: object, path: str = "") -> list[str]:
    """Paths at which two answers differ, times left out."""
    if is_dataclass(a):
        names = [field.name for field in fields(a) if field.name != "solve_duration_s"]
        return [d for name in names for d in differing(getattr(a, name), getattr(b, name), f"{path}.{name}")]
    if isinstance(a, str):
        return [] if a == b else [path]
    mine, theirs = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    same = mine.shape == theirs.shape and np.allclose(mine, theirs, rtol=1e-9, atol=1e-9)
    return [] if same else [path]


@pytest.mark.parametrize("seed", range(0, 6000 if SOAK else 600, 20))
def test_sites_planned_at_once_get_the_plans_that_each_gets_alone(seed: int) -> None:
    features = [name for k, name in enumerate(SIMPLE) if seed >> (k % 7) & 1 or k == seed // 20 % len(SIMPLE)]
    problems, options = sites_of_one_kind(1000 + seed, features, 6)
    together = optimize_together(problems, options)
    for problem, own, schedule in zip(problems, options, together, strict=True):
        if schedule is not None:
            assert check(problem, own, schedule) == []
            assert differing(schedule, optimize_schedule(problem, own)) == []


def test_most_simple_sites_need_no_more() -> None:
    planned = 0
    for seed in range(0, 400, 20):
        together = optimize_together(*sites_of_one_kind(seed, ("min", "priced", "phases"), 6))
        planned += sum(schedule is not None for schedule in together)
    assert planned > 0.6 * 120


@pytest.mark.parametrize("feature", MORE)
def test_a_site_that_needs_more_is_left_to_be_planned_alone(feature: str) -> None:
    other, own = random_problem(7, (feature, "min"), count=3, steps=len(PRICE))
    together = optimize_together([EASY, replace(other, grid=EASY.grid), EASY], [PRICED, own, PRICED])
    assert together[1] is None
    assert isinstance(together[0], Schedule)
    assert isinstance(together[2], Schedule)


def test_a_site_that_discharges_is_sorted_out_among_others_of_its_kind() -> None:
    discharging = replace(EASY, sessions=replace(EASY.sessions, max_discharge_kw=np.full(3, 5.0)))
    exporting = replace(EASY, nodes=replace(EASY.nodes, fixed_load_kw=(np.array([-3.0]),)))
    together = optimize_together([EASY, discharging, EASY, exporting], [PRICED] * 4)
    assert [schedule is None for schedule in together] == [False, True, False, True]
    alone = optimize_schedule(EASY, PRICED)
    assert all(differing(schedule, alone) == [] for schedule in (together[0], together[2]))


def test_a_site_that_breaks_a_rule_costs_no_other_its_plan() -> None:
    broken = replace(EASY, sessions=replace(EASY.sessions, max_charge_kw=np.array([11.0, np.nan, 11.0])))
    twice = replace(EASY, sessions=replace(EASY.sessions, session_ids=("a", "b", "a")))
    nameless = replace(EASY, sessions=replace(EASY.sessions, session_ids=("a", "", "b")))
    two_roots = replace(EASY, nodes=tree({"a": "", "b": ""}))
    for bad in (broken, twice, nameless, two_roots):
        together = optimize_together([EASY, bad], [PRICED, PRICED])
        assert together[1] is None
        if together[0] is not None:
            assert differing(together[0], optimize_schedule(EASY, PRICED)) == []


def test_a_time_limit_that_breaks_its_rule_is_left_to_be_reported() -> None:
    together = optimize_together([EASY, EASY], [PRICED, replace(PRICED, time_limit_s=0.0)])
    assert [schedule is None for schedule in together] == [False, True]


def test_more_sites_than_are_joined_keep_their_order() -> None:
    problems = [
        replace(EASY, sessions=replace(EASY.sessions, energy_needed_kwh=np.array([9.0, 8.0, 2.0 + 0.04 * k])))
        for k in range(150)
    ]
    together = optimize_together(problems, [replace(PRICED, relative_gap=0.5)] * 150)
    delivered = [schedule.figures.delivered_kwh for schedule in together if schedule is not None]
    assert delivered == pytest.approx([19.0 + 0.04 * k for k in range(150)])


def test_no_sites_and_sites_without_sessions_are_fine() -> None:
    assert optimize_together([], []) == []
    empty = site(cars([], [], []), PRICE)
    assert optimize_together([empty], [ScheduleOptions()]) == [None]
