"""The checker finds what it is there to find: for each rule a plan that breaks it, and one that does not."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import LimitRows, LimitUnit, Schedule
from evflex.engine.supply_tree import PhaseConnection
from evflex.engine.termination import TerminationReason
from tests.engine.charging.reference.builders import cars, site, tree
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.wrap import schedule_of

Plan = list[list[float]]
PRICE = [0.3, 0.1, 0.2, 0.4]


def faults_of(problem: ScheduleProblem, plan: Plan, **options: Any) -> list[str]:
    asked = ScheduleOptions(**options)
    return check(problem, asked, schedule_of(Case(problem, asked), np.array(plan, dtype=float)))


def one_car(need: float = 10.0, **columns: Any) -> ScheduleProblem:
    return site(cars([0], [4], [need], energy_headroom_kwh=20.0, **columns), PRICE, limit_kw=8.0)


def v2g(**columns: Any) -> ScheduleProblem:
    return one_car(max_discharge_kw=10.0, energy_available_kwh=4.0, discharge_efficiency=0.8, **columns)


PHASED = site(
    cars([0], [4], [6.0], max_kw=4.0, phases=int(PhaseConnection.L2)),
    PRICE,
    nodes=tree({"root": ""}, current={"root": 10.0}),
)
TREE = site(
    cars([0, 0], [4, 4], [9.0, 9.0], node_ids=("a", "b")),
    PRICE,
    nodes=tree({"root": "", "a": "root", "b": "a"}, imports={"a": 6.0}, exports={"root": 2.0}),
)
OVERLOADED = site(
    cars([0], [4], [9.0]),
    PRICE,
    nodes=tree({"root": ""}, imports={"root": 5.0}, fixed={"root": [1.0, 7.0, 1.0, 1.0]}),
)
EXPORTING = dataclasses.replace(v2g(), nodes=TREE.nodes)
RAMPED = one_car(min_charge_kw=4.0, max_ramp_kw_per_step=3.0)
FIRST_FREE = np.array([False, True, True, True])
PARTIAL = site(cars([0.5], [2.25], [6.0], min_charge_kw=4.0), PRICE)

NO_LIMIT = site(
    cars([0], [4], [10.0], min_charge_kw=1.0, charging_now=True, run_duration_s=3600.0), PRICE
)  # fmt: skip


class Breach(NamedTuple):
    """A plan that keeps a rule, one that breaks it, and words of the complaint."""

    rule: str
    problem: ScheduleProblem
    kept: Plan
    broken: Plan
    words: str
    options: dict[str, Any] = {}  # noqa: RUF012


BREACHES = [
    Breach("absence", site(cars([1], [3], [4.0]), PRICE), [[0, 4, 0, 0]], [[4, 0, 0, 0]], "while absent"),
    Breach("maximum", one_car(), [[0, 8, 2, 0]], [[0, 0, 10.1, 0]], "outside"),
    Breach("minimum", one_car(min_charge_kw=4.0), [[0, 6, 4, 0]], [[0, 8, 2, 0]], "outside"),
    Breach("minimum while arriving", PARTIAL, [[2, 4, 0, 0]], [[1.5, 4.5, 0, 0]], "outside"),
    Breach("maximum while leaving", PARTIAL, [[0, 4, 2, 0]], [[0, 4, 2.6, 0]], "outside"),
    Breach("no discharging", one_car(), [[0, 8, 2, 0]], [[0, 8, 4, -2]], "outside"),
    Breach("quanta", one_car(), [[0, 6.9, 0, 0]], [[0, 7.0, 0, 0]], "quanta", {"current_quantum_a": 1.0}),
    Breach("headroom", one_car(), [[8, 8, 4, 0]], [[8, 8, 4.1, 0]], "headroom"),
    Breach("battery floor", v2g(), [[-3.2, 8, 6, 0]], [[-3.3, 8, 6, 0]], "lowest"),
    Breach("import limit", one_car(), [[2, 8, 0, 0]], [[0, 8.1, 1.9, 0]], "import"),
    Breach("inner limit", TREE, [[3, 3, 3, 0]] * 2, [[3.1, 3, 3, 0]] * 2, "node 1 step 0: import"),
    Breach("export limit", EXPORTING, [[-2, 8, 4, 0]], [[-2.1, 8, 4, 0]], "export"),
    Breach("current", PHASED, [[2.3, 2.3, 1.4, 0]], [[2.4, 2.3, 1.3, 0]], "current of phase 2"),
    Breach("fixed excess", OVERLOADED, [[4, 0, 4, 1]], [[4, 0.1, 4, 1]], "import"),
    Breach("ramp", one_car(max_ramp_kw_per_step=3.0), [[2, 5, 3, 0]], [[1, 5, 4, 0]], "ramp"),
    Breach("ramp down", one_car(max_ramp_kw_per_step=3.0), [[6, 3, 0, 0]], [[6, 2, 0, 0]], "ramp"),
    Breach("ramp of a start", RAMPED, [[0, 4, 4, 0]], [[0, 5, 4, 0]], "ramp"),
    Breach("cycles", v2g(max_cycles=0.1), [[0, 8, 4, -1.92]], [[0, 8, 4, -2]], "discharges"),
    Breach("starts", one_car(), [[0, 8, 2, 0]], [[2, 0, 8, 0]], "starts", {"max_starts_per_session": 1}),
    Breach("run", one_car(), [[0, 5, 5, 0]], [[0, 8, 0, 2]], "shorter", {"min_run_s": 7200.0}),
    Breach("resumed run", NO_LIMIT, [[5, 0, 2, 3]], [[0, 5, 5, 0]], "cut short", {"min_run_s": 7200.0}),
    Breach(
        "control",
        one_car(),
        [[8, 2, 0, 0]],
        [[7, 3, 0, 0]],
        "uncontrolled 8",
        {"control_enabled": FIRST_FREE},
    ),
]


@pytest.mark.parametrize("breach", BREACHES, ids=[breach.rule for breach in BREACHES])
def test_each_rule_is_checked(breach: Breach) -> None:
    def complaints(plan: Plan) -> list[str]:
        return [fault for fault in faults_of(breach.problem, plan, **breach.options) if breach.words in fault]

    assert complaints(breach.kept) == []
    assert complaints(breach.broken) != []


def test_a_plan_behind_uncontrolled_charging_is_refused() -> None:
    problem = site(cars([0], [4], [10.0]), PRICE)
    assert faults_of(problem, [[0, 10, 0, 0]]) == []
    assert any("above" in fault for fault in faults_of(problem, [[0, 0, 0, 10]]))
    assert any("shortfall" in fault for fault in faults_of(problem, [[0, 9.9, 0, 0]]))


REPORTED = site(
    cars([0, 1], [4, 4], [10.0, 6.0], energy_headroom_kwh=12.0, energy_value_per_kwh=0.05),
    PRICE,
    limit_kw=9.0,
    fixed_kw=[-2.0, 10.0, 3.0, -1.0],
    export_price_per_kwh=np.array([0.05, 0.05, 0.05, 0.05]),
    peak_price_per_kw=0.5,
    observed_peak_kw=1.0,
    emission_intensity_g_per_kwh=np.array([100.0, 200.0, 300.0, 50.0]),
    emission_price_per_kg=0.1,
)
ASKED = ScheduleOptions(shortfall_price_per_kwh=1.0, start_cost=0.1)


def truthful() -> Schedule:
    """States everything as it is; charges from own surplus, and fixed load breaks a limit."""
    return schedule_of(Case(REPORTED, ASKED), np.array([[5.0, 0, 2, 5], [0, 0, 4, 2]]))


def _shifted(row: object, name: str, amount: float = 0.001) -> Any:
    value = getattr(row, name)
    return dataclasses.replace(row, **{name: value + amount})  # type: ignore[type-var]


@pytest.mark.parametrize("part", ["figures", "uncontrolled"])
@pytest.mark.parametrize(
    "name",
    ["energy_cost", "peak_cost", "emission_cost", "discharge_cost", "start_cost", "shortfall_cost",
     "energy_value", "change_cost", "total_cost", "emissions_kg", "peak_import_kw", "delivered_kwh",
     "shortfall_kwh"],
)  # fmt: skip
def test_each_figure_is_recomputed(part: str, name: str) -> None:
    schedule = truthful()
    assert not any(f"{part}.{name}" in fault for fault in check(REPORTED, ASKED, schedule))
    wrong = dataclasses.replace(schedule, **{part: _shifted(getattr(schedule, part), name)})
    assert any(f"{part}.{name}" in fault for fault in check(REPORTED, ASKED, wrong))


@pytest.mark.parametrize(
    "name",
    ["delivered_kwh", "shortfall_kwh", "minimum_shortfall_kwh", "cost", "emissions_kg", "self_supplied_kwh",
     "starts", "limiting_node_index"],
)  # fmt: skip
def test_each_session_outcome_is_recomputed(name: str) -> None:
    schedule = truthful()
    assert not any(f"sessions.{name}" in fault for fault in check(REPORTED, ASKED, schedule))
    wrong = dataclasses.replace(schedule, sessions=_shifted(schedule.sessions, name, 1))
    assert any(f"sessions.{name}" in fault for fault in check(REPORTED, ASKED, wrong))


@pytest.mark.parametrize("name", ["current_a", "root_power_kw", "uncontrolled_root_power_kw"])
def test_each_row_is_recomputed(name: str) -> None:
    wrong = dataclasses.replace(truthful(), **{name: getattr(truthful(), name) + 0.001})
    assert any(fault.startswith(name) for fault in check(REPORTED, ASKED, wrong))


def test_a_wrong_shape_is_named() -> None:
    wrong = dataclasses.replace(truthful(), power_kw=np.zeros((2, 3)), root_power_kw=np.zeros(5))
    assert [fault.split(":")[0] for fault in check(REPORTED, ASKED, wrong)] == ["power_kw", "root_power_kw"]


def test_limits_exceeded_must_be_reported_as_they_are() -> None:
    schedule = truthful()
    stated = schedule.limit_violations
    assert (stated.step.tolist(), stated.amount.tolist()) == ([1], [1.0])
    nothing = LimitRows(*(column[:0] for column in dataclasses.astuple(stated)))
    for wrong in (
        nothing,
        _shifted(stated, "amount"),
        _shifted(stated, "limit"),
        _shifted(stated, "step", 1),
    ):
        faults = check(REPORTED, ASKED, dataclasses.replace(schedule, limit_violations=wrong))
        assert any("limit_violations" in fault for fault in faults)


def test_binding_limits_must_exist_and_have_a_price() -> None:
    schedule = truthful()

    def complaints(step: int, unit: LimitUnit, limit: float, price: float) -> list[str]:
        one = (np.array([value]) for value in (0, step, 0, int(unit), limit, price))
        faults = check(REPORTED, ASKED, dataclasses.replace(schedule, binding_limits=LimitRows(*one)))
        return [fault for fault in faults if "binding_limits" in fault]

    assert complaints(0, LimitUnit.IMPORT_KW, 9.0, 0.1) == []
    assert complaints(0, LimitUnit.EXPORT_KW, 9.0, 0.1) != []
    assert complaints(0, LimitUnit.IMPORT_KW, 8.0, 0.1) != []
    assert complaints(0, LimitUnit.IMPORT_KW, 9.0, 0.0) != []


@pytest.mark.parametrize(
    ("name", "value"),
    [("objective", 1.0), ("objective_bound", 99.0), ("absolute_gap", 0.5), ("relative_gap", 0.5),
     ("reason", TerminationReason.NO_SOLUTION), ("reason", TerminationReason.FEASIBLE)],
)  # fmt: skip
def test_termination_must_be_truthful(name: str, value: float) -> None:
    schedule = truthful()
    ended = dataclasses.replace(schedule.termination, **{name: value})  # type: ignore[arg-type]
    before = check(REPORTED, ASKED, schedule)
    assert not any("termination" in fault for fault in before)
    wrong = dataclasses.replace(schedule, termination=ended)
    assert any("termination" in fault for fault in check(REPORTED, ASKED, wrong))


def test_a_gap_that_was_not_asked_for_is_not_optimal() -> None:
    case = Case(REPORTED, ASKED)
    schedule = schedule_of(case, truthful().power_kw, bound=truthful().termination.objective - 1.0)
    assert schedule.termination.reason == TerminationReason.FEASIBLE
    claimed = dataclasses.replace(schedule.termination, reason=TerminationReason.OPTIMAL)
    wrong = dataclasses.replace(schedule, termination=claimed)
    assert any("OPTIMAL" in fault for fault in check(REPORTED, ASKED, wrong))
