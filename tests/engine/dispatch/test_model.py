"""Bad dispatch problems are refused with the path of each field, the index and the rule that it breaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from evflex.engine.dispatch.model import (
    ALWAYS_UNIX_S,
    WIRE_NAMES,
    AssetKind,
    DispatchProblem,
    Fleet,
    LimitScope,
    PlanOptions,
    Profiles,
)
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from tests.engine.dispatch.reference.builders import assets, limit, portfolio, reserve

NAN, INF = float("nan"), float("inf")
FLEET = assets([0, 0], [3, 2], max_charge_kw=10, energy_needed_kwh=[5, 6])
PROBLEM = portfolio(
    assets([0, 0, 0], [3, 3, 3], kind=[AssetKind.EV, AssetKind.PV, AssetKind.HEAT_PUMP]),
    [0.3, 0.1, 0.2],
    profiles={1: [-1, 0, -2], 2: [0, 1, 2]},
    limits=[limit(3, upper=8), limit(3, upper=4, lower=-1, scope=LimitScope.GROUP, index=1)],
    reserves=[reserve(3, up=1), reserve(3, down=2)],
    group_count=2,
    operator_count=1,
)


def broken(rules: Rules) -> list[tuple[str, str]]:
    return [(violation.field, violation.description) for violation in rules.violations]


def fleet_faults(**columns: Any) -> list[tuple[str, str]]:
    """Faults of the fleet, with two groups and one operator, and with the columns of its second asset changed."""
    changed = {}
    for name, value in columns.items():
        column = getattr(FLEET, name).copy()
        column[1] = value
        changed[name] = column
    rules = Rules()
    dataclasses.replace(FLEET, **changed).validate(rules, 2, 1)
    return broken(rules)


def problem_faults(problem: DispatchProblem) -> list[tuple[str, str]]:
    rules = Rules()
    problem.validate(rules)
    return broken(rules)


# --- fleet -------------------------------------------------------------------------------------


def test_a_sound_fleet_breaks_no_rule() -> None:
    assert fleet_faults() == []
    assert fleet_faults(group_index=1, operator_index=0) == []
    assert fleet_faults(shortfall_price_per_kwh=0.2, energy_value_per_kwh=0.2, min_charge_kw=10.0) == []
    assert fleet_faults(available_until_unix_s=FLEET.available_from_unix_s[1]) == []
    rules = Rules()
    Fleet.of(0, {}).validate(rules, 0, 0)
    assert broken(rules) == []


NOT_NEGATIVE = (
    "max_charge_kw", "min_charge_kw", "max_discharge_kw", "energy_needed_kwh", "energy_headroom_kwh",
    "energy_available_kwh", "discharge_cost_per_kwh", "energy_value_per_kwh",
)  # fmt: skip


@pytest.mark.parametrize("value", [-1.0, NAN, INF])
@pytest.mark.parametrize("column", NOT_NEGATIVE)
def test_quantities_are_finite_and_not_negative(column: str, value: float) -> None:
    assert (f"{column}[1]", f"must be finite and >= 0, is {value}") in fleet_faults(**{column: value})


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, NAN, INF])
@pytest.mark.parametrize("column", ["charge_efficiency", "discharge_efficiency"])
def test_efficiencies_are_ratios(column: str, value: float) -> None:
    assert fleet_faults(**{column: value}) == [(f"{column}[1]", f"must lie in (0, 1], is {value}")]


FLEET_RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": 0}, "kinds[1]", "must be a known asset kind, is 0"),
    ({"kind": 6}, "kinds[1]", "must be a known asset kind, is 6"),
    ({"group_index": -2}, "group_indices[1]", "must be -1 or the index of one of 2, is -2"),
    ({"group_index": 2}, "group_indices[1]", "must be -1 or the index of one of 2, is 2"),
    ({"operator_index": 1}, "operator_indices[1]", "must be -1 or the index of one of 1, is 1"),
    ({"available_until_unix_s": 0}, "available_until_unix_s[1]", "must not lie before available_from_unix_s, is 0"),
    ({"min_charge_kw": 10.5}, "min_charge_kw[1]", "must not exceed max_charge_kw, is 10.5"),
    ({"min_charge_kw": 1.0, "kind": AssetKind.BATTERY}, "min_charge_kw[1]", "is for an EV only, is 1.0"),
    ({"energy_headroom_kwh": 5.5}, "energy_headroom_kwh[1]", "must be >= energy_needed_kwh, is 5.5"),
    ({"shortfall_price_per_kwh": -0.1}, "shortfall_price_per_kwh[1]",
     "must be finite and >= energy_value_per_kwh, is -0.1"),
    ({"shortfall_price_per_kwh": INF}, "shortfall_price_per_kwh[1]",
     "must be finite and >= energy_value_per_kwh, is inf"),
    ({"shortfall_price_per_kwh": 0.1, "energy_value_per_kwh": 0.2}, "shortfall_price_per_kwh[1]",
     "must be finite and >= energy_value_per_kwh, is 0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "field", "rule"), FLEET_RULES)
def test_each_rule_of_a_fleet_names_column_row_and_value(columns: dict[str, Any], field: str, rule: str) -> None:
    assert fleet_faults(**columns) == [(field, rule)]


@pytest.mark.parametrize("name", WIRE_NAMES)
def test_a_column_of_another_length_is_named(name: str) -> None:
    if name == "kind":  # decides how many assets there are
        return
    rules = Rules()
    dataclasses.replace(FLEET, **{name: getattr(FLEET, name)[:1]}).validate(rules, 0, 0)
    assert broken(rules) == [(WIRE_NAMES[name], "must have length 2, has 1")]


def test_columns_that_are_not_given_hold_the_defaults() -> None:
    fleet = Fleet.of(2, {"energy_needed_kwh": np.array([3.0, 4.0])})
    assert fleet.kind.tolist() == [AssetKind.EV] * 2
    assert fleet.energy_headroom_kwh.tolist() == [3.0, 4.0]
    assert fleet.available_until_unix_s.tolist() == [ALWAYS_UNIX_S] * 2
    assert fleet.group_index.tolist() == fleet.operator_index.tolist() == [-1, -1]
    assert np.isnan(fleet.shortfall_price_per_kwh).all()
    assert fleet.charge_efficiency.tolist() == [1.0, 1.0]
    assert len(fleet.take(np.array([1]))) == 1
    assert Fleet.of(2, {"max_charge_kw": 5.0}).max_charge_kw.tolist() == [5.0, 5.0]


def test_a_fleet_is_not_made_of_columns_that_do_not_fit() -> None:
    with pytest.raises(KeyError, match="colour"):
        Fleet.of(1, {"colour": 1.0})
    for length in (1, 3):
        with pytest.raises(ValueError, match="max_charge_kw"):
            Fleet.of(2, {"max_charge_kw": np.ones(length)})


def test_an_unknown_kind_does_not_turn_into_a_known_one() -> None:
    for kind in (257, -255):
        rules = Rules()
        Fleet.of(1, {"kind": np.array([kind], dtype=np.int32)}).validate(rules, 0, 0)
        assert [field for field, _ in broken(rules)] == ["kinds[0]"]


# --- problem -----------------------------------------------------------------------------------


def test_a_sound_problem_breaks_no_rule() -> None:
    assert problem_faults(PROBLEM) == []
    assert problem_faults(portfolio(assets([], []), [0.1])) == []


def test_nothing_is_held_against_a_grid_that_cannot_be_used() -> None:
    faults = problem_faults(dataclasses.replace(PROBLEM, grid=TimeGrid(0.0, 0.0, 3)))
    assert [field for field, _ in faults] == ["time_grid.step_duration"]


def with_limit(**changes: Any) -> DispatchProblem:
    """The problem with another second limit."""
    return dataclasses.replace(PROBLEM, limits=(PROBLEM.limits[0], dataclasses.replace(PROBLEM.limits[1], **changes)))


def with_reserve(**changes: Any) -> DispatchProblem:
    """The problem with another second reserve."""
    changed = dataclasses.replace(PROBLEM.reserves[1], **changes)
    return dataclasses.replace(PROBLEM, reserves=(PROBLEM.reserves[0], changed))


def with_profiles(rows: list[int], power: list[list[float]]) -> DispatchProblem:
    return dataclasses.replace(PROBLEM, profiles=Profiles(np.array(rows, dtype=np.int64), np.array(power, dtype=float)))


def steps(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(values, dtype=float)


PROFILE_RULE = "must be finite, <= 0 for PV and >= 0 for loads"
PROBLEM_RULES: list[tuple[DispatchProblem, str, str]] = [
    (dataclasses.replace(PROBLEM, import_price_per_kwh=steps(0.3, 0.1)), "import_price_per_kwh",
     "must have length 3, has 2"),
    (dataclasses.replace(PROBLEM, import_price_per_kwh=steps(0.3, NAN, 0.2)), "import_price_per_kwh[1]",
     "must be finite, is nan"),
    (dataclasses.replace(PROBLEM, export_price_per_kwh=steps(0.3, 0.1, -INF)), "export_price_per_kwh[2]",
     "must be finite, is -inf"),
    (dataclasses.replace(PROBLEM, export_price_per_kwh=steps(0.3, 0.1, 0.21)), "export_price_per_kwh[2]",
     "must not exceed the import price 0.2, is 0.21"),
    (with_limit(index=2), "limits[1].group_id", "must be a group or an operator"),
    (with_limit(index=-1), "limits[1].group_id", "must be a group or an operator"),
    (with_limit(scope=LimitScope.OPERATOR), "limits[1].group_id", "must be a group or an operator"),
    (with_limit(scope=LimitScope.FLEET, index=0), "limits[1].group_id", "has a limit already"),
    (with_limit(violation_price_per_kwh=0.0), "limits[1].violation_price_per_kwh", "must be finite and > 0, is 0.0"),
    (with_limit(violation_price_per_kwh=INF), "limits[1].violation_price_per_kwh", "must be finite and > 0, is inf"),
    (with_limit(upper_kw=steps(4, 4)), "limits[1].max_import_kw", "must have length 3, has 2"),
    (with_limit(lower_kw=steps(-1)), "limits[1].max_export_kw", "must have length 3, has 1"),
    (with_limit(upper_kw=steps(4, NAN, 4)), "limits[1].max_import_kw", "must be a number above -inf"),
    (with_limit(lower_kw=steps(NAN, -1, -1)), "limits[1].max_export_kw", "must be a number below inf"),
    # all the rest would be a cost without end
    (with_limit(lower_kw=steps(INF, -1, -1), upper_kw=steps(INF, 4, 4)), "limits[1].max_export_kw",
     "must be a number below inf"),
    (with_limit(lower_kw=steps(-INF, -1, -1), upper_kw=steps(-INF, 4, 4)), "limits[1].max_import_kw",
     "must be a number above -inf"),
    (with_limit(upper_kw=steps(4, 4, -1.5)), "limits[1].max_import_kw[2]", "must not lie below -max_export_kw"),
    (with_reserve(up_kw=steps(1, 1)), "reserves[1].up_kw", "must have length 3, has 2"),
    (with_reserve(up_kw=steps(1, -1, 1)), "reserves[1].up_kw[1]", "must be finite and >= 0, is -1.0"),
    (with_reserve(down_kw=steps(1, 1, INF)), "reserves[1].down_kw[2]", "must be finite and >= 0, is inf"),
    (with_reserve(endurance_s=-1.0), "reserves[1].endurance_s", "must be finite and >= 0"),
    (with_reserve(endurance_s=NAN), "reserves[1].endurance_s", "must be finite and >= 0"),
    (with_profiles([1], [[-1, -1]]), "profiles", "must have shape (1, 3), has (1, 2)"),
    (with_profiles([2, 1], [[1, 1, 1], [-1, -1, -1]]), "profiles", "must be of assets in ascending order"),
    (with_profiles([1, 1], [[-1, -1, -1], [-1, -1, -1]]), "profiles", "must be of assets in ascending order"),
    (with_profiles([3], [[1, 1, 1]]), "profiles", "must be of assets in ascending order"),
    (with_profiles([-1], [[1, 1, 1]]), "profiles", "must be of assets in ascending order"),
    (with_profiles([0], [[1, 1, 1]]), "profiles[0].power_kw", "is for PV, a flexible load or a heat pump"),
    (with_profiles([1, 2], [[-1, 0, 0], [0, -1, 0]]), "profiles[1].power_kw", PROFILE_RULE),
    (with_profiles([1], [[0, 0.1, 0]]), "profiles[0].power_kw", PROFILE_RULE),
    (with_profiles([2], [[0, NAN, 0]]), "profiles[0].power_kw", PROFILE_RULE),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "field", "rule"), PROBLEM_RULES)
def test_each_rule_of_a_problem_names_field_index_and_rule(problem: DispatchProblem, field: str, rule: str) -> None:
    assert problem_faults(problem) == [(field, rule)]


# --- options -----------------------------------------------------------------------------------


OPTION_RULES: list[tuple[dict[str, float], str]] = [
    ({"relative_gap": -1e-3}, "options.relative_gap"), ({"relative_gap": NAN}, "options.relative_gap"),
    ({"absolute_gap": -1.0}, "options.absolute_gap"), ({"absolute_gap": INF}, "options.absolute_gap"),
    ({"time_limit_s": 0.0}, "options.time_limit_duration"), ({"time_limit_s": NAN}, "options.time_limit_duration"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "field"), OPTION_RULES)
def test_each_rule_of_the_options_names_its_field(values: dict[str, Any], field: str) -> None:
    rules = Rules()
    PlanOptions(**values).validate(rules)
    assert [name for name, _ in broken(rules)] == [field]


def test_sound_options_break_no_rule() -> None:
    rules = Rules()
    PlanOptions().validate(rules)
    PlanOptions(0.0, 0.0).with_time_limit(0.1).validate(rules)
    assert broken(rules) == []
