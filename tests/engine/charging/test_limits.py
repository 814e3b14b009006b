"""Which limit caused a shortfall, and what a limit costs: beside finite differences of the relaxed reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evflex.engine.charging import optimize_schedule
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import LimitUnit
from evflex.engine.supply_tree import PhaseConnection
from tests.engine.charging.reference import reference_milp
from tests.engine.charging.reference.builders import cars, site, tree
from tests.engine.charging.reference.case import Case, FloatArray
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.generators import random_problem

STRICT = ScheduleOptions(relative_gap=1e-6)
COLUMNS = {
    LimitUnit.IMPORT_KW: "max_import_kw",
    LimitUnit.EXPORT_KW: "max_export_kw",
    LimitUnit.AGREEMENT_IMPORT_KW: "agreement_import_kw",
}


def relaxed_objective(problem: ScheduleProblem, options: ScheduleOptions) -> float:
    return reference_milp.solve(problem, options, relaxed=True).objective


def with_limit(problem: ScheduleProblem, unit: LimitUnit, node: int, step: int, change: float) -> ScheduleProblem:
    """The problem with one limit of one step moved."""
    column = COLUMNS[unit]
    rows: list[FloatArray] = list(getattr(problem.nodes, column))
    rows[node] = np.array(np.broadcast_to(rows[node], (problem.grid.step_count,)))
    rows[node][step] += change
    nodes = dataclasses.replace(problem.nodes, **{column: tuple(rows)})  # type: ignore[arg-type]
    return dataclasses.replace(problem, nodes=nodes)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "features", [{"priced"}, {"priced", "tree", "min"}, {"priced", "peak", "pv", "tree", "partial"}]
)
def test_shadow_prices_are_slopes_of_the_relaxation(seed: int, features: set[str]) -> None:
    problem, options = random_problem(seed, features, count=4, steps=5)
    schedule = optimize_schedule(problem, options)
    assert check(problem, options, schedule) == []
    stated = schedule.binding_limits
    at, width = relaxed_objective(problem, options), 1e-3
    broken = {(r.node, r.step, r.unit) for r in Case(problem, options).rows if r.fixed_excess > 0}
    for k in range(len(stated.unit)):
        unit = LimitUnit(int(stated.unit[k]))
        where = (unit, int(stated.node_index[k]), int(stated.step[k]))
        if (where[1], where[2], int(unit)) in broken:
            continue  # a little more of a limit that fixed load alone breaks leaves nothing for us
        wider = relaxed_objective(with_limit(problem, *where, width), options)
        tighter = relaxed_objective(with_limit(problem, *where, -width), options)
        scale = width * problem.grid.step_h
        assert (at - wider) / scale - 1e-3 <= stated.amount[k] <= (tighter - at) / scale + 1e-3


def test_a_limit_of_the_site_has_the_price_of_what_it_displaces() -> None:
    problem = site(cars([0, 0], [2, 2], [6.0, 6.0]), [0.1, 0.35], limit_kw=[8.0, 99.0])
    stated = optimize_schedule(problem, ScheduleOptions(shortfall_price_per_kwh=5.0)).binding_limits
    assert stated.step.tolist() == [0]
    assert stated.unit.tolist() == [LimitUnit.IMPORT_KW]
    assert stated.limit.tolist() == [8.0]
    assert stated.amount.tolist() == [pytest.approx(0.25, abs=1e-6)]


def test_a_limit_of_current_has_a_price_per_ampere_hour() -> None:
    nodes = tree({"root": ""}, current={"root": 10.0})
    sessions = cars([0], [2], [3.0], max_kw=4.0, phases=int(PhaseConnection.L3))
    schedule = optimize_schedule(site(sessions, [0.1, 0.3], nodes=nodes), ScheduleOptions(shortfall_price_per_kwh=5.0))
    stated = schedule.binding_limits
    assert (stated.step.tolist(), stated.phase.tolist()) == ([0], [3])
    assert stated.unit.tolist() == [LimitUnit.CURRENT_A]
    assert stated.amount.tolist() == [pytest.approx(0.2 * 0.23, abs=1e-6)]


def test_limits_that_do_not_bind_have_no_price() -> None:
    problem = site(cars([0], [3], [6.0]), [0.1, 0.2, 0.3], limit_kw=50.0)
    assert optimize_schedule(problem, STRICT).binding_limits.amount.size == 0


def test_the_node_whose_limit_starves_a_session_is_named() -> None:
    nodes = tree({"root": "", "left": "root", "right": "root"}, imports={"root": 20.0, "left": 3.0, "right": 15.0})
    sessions = cars([0, 0], [2, 2], [15.0, 15.0], node_ids=("left", "right"))
    schedule = optimize_schedule(site(sessions, [0.1, 0.2], nodes=nodes), STRICT)
    np.testing.assert_allclose(schedule.sessions.shortfall_kwh, [9.0, 0.0], atol=1e-6)
    assert schedule.sessions.limiting_node_index.tolist() == [1, -1]


def test_the_root_is_named_where_it_is_what_starves() -> None:
    nodes = tree({"left": "root", "root": ""}, imports={"root": 4.0, "left": 9.0})
    schedule = optimize_schedule(site(cars([0], [2], [15.0], node_ids=("left",)), [0.1, 0.2], nodes=nodes), STRICT)
    assert schedule.sessions.limiting_node_index.tolist() == [1]


def test_a_limit_of_current_is_named_too() -> None:
    nodes = tree({"root": "", "post": "root"}, current={"post": 10.0})
    sessions = cars([0], [1], [6.0], max_kw=7.0, phases=int(PhaseConnection.L1), node_ids=("post",))
    schedule = optimize_schedule(site(sessions, [0.1], nodes=nodes), STRICT)
    np.testing.assert_allclose(schedule.power_kw, [[2.3]], atol=1e-6)
    assert schedule.sessions.limiting_node_index.tolist() == [1]


def test_no_node_is_named_where_stay_or_charger_is_too_small() -> None:
    problem = site(cars([0, 0], [1, 4], [15.0, 50.0]), [0.1, 0.2, 0.1, 0.1], limit_kw=99.0)
    schedule = optimize_schedule(problem, STRICT)
    assert (schedule.sessions.shortfall_kwh > 1.0).all()
    assert schedule.sessions.limiting_node_index.tolist() == [-1, -1]
