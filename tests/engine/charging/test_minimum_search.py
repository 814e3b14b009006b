"""The search for minimum powers against the reference: its bound never lies above the optimum, its plan never below."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evflex.engine.budget import Budget
from evflex.engine.charging import ScheduleOptions, ScheduleProblem, optimize_schedule
from evflex.engine.charging.evaluation import evaluate
from evflex.engine.charging.feasibility import keeps_rules
from evflex.engine.charging.minimum_search import is_searchable, search_minimums
from evflex.engine.charging.optimize import _first
from evflex.engine.charging.relaxation import relax_sessions
from evflex.engine.charging.site import build_site
from evflex.engine.charging.warm_up import warm_up
from tests.conftest import SOAK
from tests.engine.charging.reference import reference_milp
from tests.engine.charging.reference.compare import differences
from tests.engine.charging.reference.generators import random_problem

# Features beside which a site is still searched.
BESIDE = ("negative_prices", "partial", "phases", "priced", "shut", "tree", "value", "weights", "beyond")


def searchable(seed: int) -> tuple[ScheduleProblem, ScheduleOptions]:
    """A small site with minimums, some other features, and limits that bind."""
    rng = np.random.default_rng([seed, 3])
    beside = rng.permutation(BESIDE)[: rng.integers(0, 4)].tolist()
    problem, options = random_problem(
        seed, ["min", *beside], count=int(rng.integers(1, 6)), steps=int(rng.integers(3, 13))
    )
    # Most sessions are short under these limits; with a price that costs, so that the relaxation leaves no wish open.
    return problem, dataclasses.replace(options, shortfall_price_per_kwh=float(rng.choice([0.4, 1.0, 2.0])))


@pytest.mark.parametrize("seed", range(1000 if SOAK else 60))
def test_bound_and_plan_enclose_the_optimum(seed: int) -> None:
    problem, options = searchable(seed)
    site = build_site(problem, options, np.zeros(len(problem.sessions)))
    relaxation = relax_sessions(site)
    if relaxation is None or not is_searchable(site, relaxation):
        pytest.skip("not for the search")
    start = _first(site).plan
    found = search_minimums(site, relaxation, start, Budget(30.0))
    optimum = reference_milp.solve(problem, options).objective
    slack = 2e-6 * max(1.0, start.scale)
    assert found.bound.levels == {}
    assert found.bound.objective <= optimum + slack
    assert found.bound.objective >= relaxation.bound.objective - slack
    if found.power_kw is not None:
        assert keeps_rules(site, found.power_kw)
        plan = evaluate(site, found.power_kw + site.given_kw)
        assert plan.better_than(start)
        assert plan.objective >= optimum - slack


@pytest.mark.parametrize("seed", range(1000 if SOAK else 60))
def test_schedules_that_are_searched_are_optimal(seed: int) -> None:
    problem, options = searchable(seed)
    assert differences(problem, options, optimize_schedule(problem, options)) == []


def test_it_closes_what_repair_leaves_open() -> None:
    tried = [optimize_schedule(*searchable(seed)).termination.detail for seed in range(40)]
    searched = [detail for detail in tried if "search of minimums" in detail]
    assert len(searched) >= 10
    assert sum("branch and bound" in detail for detail in searched) <= 2


def test_the_warm_up_takes_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def noted(*arguments: object) -> object:
        searched.append("yes")
        return search_minimums(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("evflex.engine.charging.optimize.search_minimums", noted)
    warm_up()
    assert searched


def test_it_proves_no_more_than_the_relaxation_when_time_is_over() -> None:
    problem, options = searchable(4)
    site = build_site(problem, options, np.zeros(len(problem.sessions)))
    relaxation = relax_sessions(site)
    assert relaxation is not None
    found = search_minimums(site, relaxation, _first(site).plan, Budget(0.0))
    assert found.power_kw is None
    assert found.bound.objective == pytest.approx(relaxation.bound.objective)
