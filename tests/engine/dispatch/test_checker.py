"""The checker finds what it is there to find: a sound plan passes, and each planted fault is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from evflex.engine.dispatch.model import AssetKind, DispatchProblem, LimitScope, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanFigures
from evflex.engine.termination import StoppedBy, TerminationReason
from tests.engine.dispatch.reference.builders import assets, limit, portfolio, reserve, target
from tests.engine.dispatch.reference.case import FloatArray, IntArray
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.wrap import MatrixSetpoints, plan_of_powers

Powers = list[list[float]]

PRICE = [0.3, 0.1, 0.2, 0.4]
EV, BATTERY, PV, FLEXIBLE, PUMP = AssetKind
PROBLEM = portfolio(
    assets(
        [0, 1, 0, 0, 0, 0], [4, 3.5, 9, 9, 9, 4],
        kind=[EV, EV, BATTERY, PV, PUMP, FLEXIBLE],
        max_charge_kw=[10, 8, 5, 0, 4, 3],
        min_charge_kw=[4, 0, 0, 0, 0, 0],
        max_discharge_kw=[0, 0, 5, 6, 0, 0],
        energy_needed_kwh=[10, 20, 0, 0, 0, 0],
        energy_headroom_kwh=[12, 25, 6, 0, 3, 0],
        energy_available_kwh=[0, 0, 4, 0, 2, 0],
        energy_value_per_kwh=[0.05, 0, 0, 0, 0, 0],
        charge_efficiency=[1, 1, 0.9, 1, 0.9, 1],
        discharge_efficiency=[1, 1, 0.8, 1, 1, 1],
        discharge_cost_per_kwh=[0, 0, 0.02, 0, 0.5, 0],
        group_index=[0, 0, 1, 1, -1, 1],
        operator_index=[0, -1, -1, 0, 0, 0],
    ),
    PRICE,
    export_price=[0.25, 0.05, 0.15, 0.4],
    profiles={3: [-3, -7, -5, 0], 4: [2, 2, 2, 2], 5: [1, 1, 1, 1]},
    limits=[
        limit(4, upper=12),
        limit(4, lower=-4, upper=[np.inf, 3, 3, 3], price=0.5, scope=LimitScope.GROUP, index=1),
        target(4, [3, 8, 2, 0], price=1.0),
    ],
    group_count=2,
    operator_count=1,
)  # fmt: skip
PROBLEM = replace(PROBLEM, limits=(*PROBLEM.limits[:2], replace(PROBLEM.limits[2], scope=LimitScope.OPERATOR, index=0)))
SOUND: Powers = [
    [0, 5, 6, 0],  # charges 1 kWh more than it needs
    [0, 8, 7, 4],  # lacks 1 kWh
    [-3.2, 5, 0.5, 0],
    [-3, -2, -5, 0],
    [3, 1, 2, 2.1],  # lacks 0.01 kWh
    [0, 3, 1, 0],
]


def plan_with(powers: Powers, problem: DispatchProblem = PROBLEM) -> FleetPlan:
    return plan_of_powers(problem, np.array(powers, dtype=float))


def told(plan: FleetPlan, word: str, problem: DispatchProblem = PROBLEM, options: PlanOptions | None = None) -> bool:
    return any(fault.startswith(word) for fault in faults(problem, options, plan))


def test_a_sound_plan_passes() -> None:
    plan = plan_with(SOUND)
    assert plan.shortfall_kwh == pytest.approx(1.0 + 0.01)
    assert plan.assets_short == 2
    assert plan.violation_kwh > 0.0
    assert min(dataclasses.astuple(plan.figures)) > 0.0
    assert faults(PROBLEM, None, plan) == []


# --- powers and states -------------------------------------------------------------------------

BREACHES: list[tuple[str, int, list[float]]] = [
    ("power[0, 1]", 0, [0, 10.1, 0, 0]),
    ("power[0, 0]", 0, [-0.1, 5, 5, 0]),
    ("minimum[0, 2]", 0, [0, 8, 2, 0]),
    ("state[0, 2]", 0, [0, 6, 6.1, 0]),
    ("power[1, 0]", 1, [0.1, 8, 7, 4]),
    ("power[1, 3]", 1, [0, 8, 7, 4.1]),
    ("power[2, 0]", 2, [-5.1, 5, 5, 0]),
    ("state[2, 0]", 2, [-3.3, 5, 5, 0]),
    ("state[2, 3]", 2, [0, 5, 0, 2.5]),
    ("power[3, 1]", 3, [-3, -6.1, -5, 0]),
    ("power[3, 0]", 3, [0.1, -2, -5, 0]),
    ("power[4, 0]", 4, [-0.1, 3, 2, 2]),
    ("power[4, 0]", 4, [4.1, 2, 2, 2]),
    ("state[4, 1]", 4, [1, 0.9, 4, 2]),
    ("state[4, 1]", 4, [4, 3.6, 2, 2]),
    ("power[5, 0]", 5, [3.1, 0, 0, 0]),
    ("state[5, 1]", 5, [3, 1.1, 0, 0]),
]


@pytest.mark.parametrize(("word", "row", "powers"), BREACHES)
def test_each_limit_of_an_asset_is_checked(word: str, row: int, powers: list[float]) -> None:
    broken = [*SOUND]
    broken[row] = powers
    found = faults(PROBLEM, None, plan_with(broken))
    assert word in {fault.split(":")[0] for fault in found}
    assert all(f"[{row}, " in fault for fault in found)


@pytest.mark.parametrize("row", range(6))
def test_edges_of_the_limits_are_within(row: int) -> None:
    at_edges: Powers = [[0, 4, 8, 0], [0, 8, 8, 4], [-3.2, 5, 5, 0], [-3, -6, -5, 0], [4, 0, 4, 2], [3, 0, 1, 0]]
    edged = [*SOUND]
    edged[row] = at_edges[row]
    assert faults(PROBLEM, None, plan_with(edged)) == []


# --- statements --------------------------------------------------------------------------------


def shifted(name: str, amount: float, at: tuple[int, ...] | None = None) -> Callable[[FleetPlan], FleetPlan]:
    def mutate(plan: FleetPlan) -> FleetPlan:
        value = getattr(plan, name)
        if at is None:
            return replace(plan, **{name: value + amount})
        value = value.copy()
        value[at] += amount
        return replace(plan, **{name: value})

    return mutate


STATEMENTS = [
    ("fleet_power_kw[1]", shifted("fleet_power_kw", 0.002, (1,))),
    ("group_power_kw[1, 2]", shifted("group_power_kw", -0.002, (1, 2))),
    ("limit_power_kw[2, 0]", shifted("limit_power_kw", 0.002, (2, 0))),
    ("limit_above_kw[0, 1]", shifted("limit_above_kw", -0.002, (0, 1))),
    ("limit_above_kw[1, 0]", shifted("limit_above_kw", 0.002, (1, 0))),
    ("limit_below_kw[1, 0]", shifted("limit_below_kw", 0.5, (1, 0))),
    ("limit_below_kw[2, 2]", shifted("limit_below_kw", -1e-9, (2, 2))),
    ("violation_kwh", shifted("violation_kwh", 0.1)),
    ("shortfall_kwh", shifted("shortfall_kwh", 1e-4)),
    ("assets_short", shifted("assets_short", 1)),
    ("assets_short", shifted("assets_short", -1)),
    ("limit_price_per_kw_step[0]", shifted("limit_price_per_kw_step", 2.1, (0, 1))),
    ("limit_price_per_kw_step[0]", shifted("limit_price_per_kw_step", -0.1, (0, 1))),
    ("limit_price_per_kw_step[1]", shifted("limit_price_per_kw_step", 0.1, (1, 0))),
    ("limit_price_per_kw_step[2]", shifted("limit_price_per_kw_step", -1.1, (2, 0))),
    ("fleet_power_kw: shape", lambda plan: replace(plan, fleet_power_kw=plan.fleet_power_kw[:3])),
    ("limit_above_kw: shape", lambda plan: replace(plan, limit_above_kw=plan.limit_above_kw[:2])),
    ("group_power_kw: not finite", shifted("group_power_kw", np.nan, (0, 0))),
]  # fmt: skip


@pytest.mark.parametrize(("word", "mutate"), STATEMENTS)
def test_each_statement_is_recomputed(word: str, mutate: Callable[[FleetPlan], FleetPlan]) -> None:
    assert told(mutate(plan_with(SOUND)), word)


@pytest.mark.parametrize("value", [2.0, 0.0, 0.5])
def test_limit_prices_within_the_price_of_a_violation_pass(value: float) -> None:
    assert not faults(PROBLEM, None, shifted("limit_price_per_kw_step", value, (0, 1))(plan_with(SOUND)))
    assert not faults(PROBLEM, None, shifted("limit_price_per_kw_step", -0.5 * value, (2, 1))(plan_with(SOUND)))


@pytest.mark.parametrize("name", PlanFigures.__dataclass_fields__)
@pytest.mark.parametrize("factor", [1.001, 0.0])
def test_each_figure_is_recomputed(name: str, factor: float) -> None:
    plan = plan_with(SOUND)
    wrong = replace(plan, figures=replace(plan.figures, **{name: getattr(plan.figures, name) * factor}))
    assert told(wrong, f"figures.{name}" if name != "violation_cost" or factor == 0.0 else "termination.objective")


TERMINATIONS: list[tuple[str, dict[str, Any]]] = [
    ("termination.objective", {"objective": 1.0}),
    ("termination.objective_bound", {"objective_bound": 99.0}),
    ("termination.absolute_gap", {"absolute_gap": 0.5}),
    ("termination.relative_gap", {"relative_gap": 0.5}),
    ("termination.relative_gap", {"relative_gap": float("nan")}),
    ("termination.reason", {"reason": TerminationReason.NO_SOLUTION}),
    ("termination.stopped_by", {"reason": TerminationReason.FEASIBLE}),
]


@pytest.mark.parametrize(("word", "changes"), TERMINATIONS)
def test_termination_must_be_truthful(word: str, changes: dict[str, Any]) -> None:
    plan = plan_with(SOUND)
    assert told(replace(plan, termination=replace(plan.termination, **changes)), word)


def test_a_gap_that_was_not_asked_for_is_not_optimal() -> None:
    cost = plan_with(SOUND).figures.total_cost
    plan = plan_of_powers(PROBLEM, np.array(SOUND, dtype=float), bound=cost - 1.0)
    assert plan.termination.stopped_by == StoppedBy.TIME
    assert faults(PROBLEM, None, plan) == []
    claimed = replace(plan, termination=replace(plan.termination, reason=TerminationReason.OPTIMAL))
    assert told(claimed, "termination.reason")
    assert not faults(PROBLEM, PlanOptions(relative_gap=0.5), claimed)
    assert not faults(PROBLEM, PlanOptions(absolute_gap=1.0), claimed)


def test_a_plan_without_a_bound_may_say_so() -> None:
    plan = plan_of_powers(PROBLEM, np.array(SOUND, dtype=float), bound=-np.inf)
    assert plan.termination.relative_gap == np.inf
    assert faults(PROBLEM, None, plan) == []


# --- setpoints ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class MoodySetpoints(MatrixSetpoints):
    """Answers differently when asked for one row alone."""

    def power_kw(self, rows: IntArray) -> FloatArray:
        return self.matrix_kw[rows] + (0.001 if len(rows) == 1 else 0.0)


def test_setpoints_must_not_depend_on_the_rows_asked_for() -> None:
    plan = plan_with(SOUND)
    assert told(replace(plan, setpoints=MoodySetpoints(np.array(SOUND))), "setpoints")


@pytest.mark.parametrize("matrix", [np.zeros((6, 3)), np.full((6, 4), np.nan)])
def test_setpoints_must_have_their_shape_and_be_numbers(matrix: FloatArray) -> None:
    assert told(replace(plan_with(SOUND), setpoints=MatrixSetpoints(matrix)), "setpoints")


# --- reserves ----------------------------------------------------------------------------------

HELD = portfolio(
    assets([0, 0], [4, 4], max_charge_kw=4, energy_needed_kwh=[6, 3], energy_headroom_kwh=[14, 3]),
    PRICE,
    reserves=[
        reserve(4, up=[0, 2, 0, 0], down=[1, 0, 0, 0], endurance_steps=2),
        reserve(4, up=[0, 3, 0, 0], down=[1, 0, 4, 0]),
    ],
)
# both are ready two steps before they leave, and only the first has room for a call downward; each step asks for what
# may have begun in the step before
KEPT: Powers = [[2, 4, 0, 0], [2, 1, 0, 0]]


def test_what_is_missing_of_reserves_is_told_with_its_commitment() -> None:
    plan = plan_with(KEPT, HELD)
    np.testing.assert_allclose(plan.reserve_missing_up_kw, [[0, 0, 2, 0], [0, 0, 3, 0]])
    np.testing.assert_allclose(plan.reserve_missing_down_kw, [[0, 1, 0, 0], [0, 1, 4, 4]])
    assert faults(HELD, None, plan) == []
    slow = plan_with([[2, 3, 0, 0], [2, 1, 0, 0]], HELD)
    np.testing.assert_allclose(slow.reserve_missing_up_kw, [[0, 0, 2, 0], [0, 1, 3, 0]])
    assert faults(HELD, None, slow) == []


@pytest.mark.parametrize(
    ("name", "step", "column"),
    [
        ("reserve_missing_up_kw", 2, [0.0, 3.0]),
        ("reserve_missing_up_kw", 2, [2.0, 4.0]),
        ("reserve_missing_up_kw", 2, [3.0, 2.0]),
        ("reserve_missing_up_kw", 1, [0.0, 0.1]),
        ("reserve_missing_up_kw", 1, [0.1, -0.1]),
        ("reserve_missing_down_kw", 1, [1.5, 0.5]),
        ("reserve_missing_down_kw", 1, [0.0, 0.0]),
    ],
)
def test_missing_reserve_must_be_true_and_later_commitments_first(name: str, step: int, column: list[float]) -> None:
    plan = plan_with(KEPT, HELD)
    stated = getattr(plan, name).copy()
    stated[:, step] = column
    assert told(replace(plan, **{name: stated}), name, HELD)


@pytest.mark.parametrize(
    ("word", "powers"),
    [
        ("power[0, 2]", [[2, 2, 2, 0], [2, 1, 0, 0]]),  # ready two steps before it leaves
        ("state[0, 1]", [[4, 4, 0, 0], [2, 1, 0, 0]]),  # and with room for a call
    ],
)
def test_those_that_take_part_in_reserve_keep_time_and_room_for_it(word: str, powers: Powers) -> None:
    problem = HELD if word.startswith("power") else replace(
        HELD, fleet=replace(HELD.fleet, energy_headroom_kwh=np.array([15.9, 3.0]))
    )  # fmt: skip
    assert told(plan_with(powers, problem), word, problem)
    without = replace(problem, reserves=())
    assert faults(without, None, plan_with(powers, without)) == []
