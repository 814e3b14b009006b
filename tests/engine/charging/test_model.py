"""Bad charging problems are refused with the path of each field and the rule that it breaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem, Sessions, Tariff
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError, Rules
from tests.engine.charging.reference.builders import cars, site
from tests.engine.charging.reference.generators import problems

PROBLEM = site(cars([0, 0], [3, 2], [5.0, 6.0]), [0.3, 0.1, 0.2], limit_kw=8.0)


def fields_of(problem: ScheduleProblem, options: ScheduleOptions | None = None) -> list[str]:
    rules = Rules()
    problem.validate(rules)
    if options is not None:
        options.validate(rules, problem)
    assert all(violation.description for violation in rules.violations)
    return [violation.field for violation in rules.violations]


def with_sessions(**columns: Any) -> ScheduleProblem:
    """The problem, with the columns of its second session changed."""
    changed: dict[str, Any] = {}
    for name, value in columns.items():
        column = getattr(PROBLEM.sessions, name)
        if isinstance(column, tuple):
            changed[name] = (column[0], value)
        else:
            changed[name] = np.array([column[0], value], dtype=column.dtype)
    return dataclasses.replace(PROBLEM, sessions=dataclasses.replace(PROBLEM.sessions, **changed))


def test_a_sound_problem_breaks_no_rule() -> None:
    assert fields_of(PROBLEM, ScheduleOptions()) == []
    assert fields_of(site(cars([], [], []), [0.1]), ScheduleOptions()) == []


NAN, INF = float("nan"), float("inf")
NOT_NEGATIVE = {
    "energy_needed_kwh": "energy_needed_kwh", "minimum_energy_kwh": "minimum_energy_kwh",
    "energy_headroom_kwh": "energy_headroom_kwh", "energy_available_kwh": "energy_available_kwh",
    "max_charge_kw": "max_charge_kw", "min_charge_kw": "min_charge_kw",
    "max_discharge_kw": "max_discharge_kw", "min_discharge_kw": "min_discharge_kw",
    "discharge_cost_per_kwh": "discharge_cost_per_kwh",
    "energy_value_per_kwh": "energy_value_per_kwh", "delivered_kwh": "state.delivered_kwh",
    "run_duration_s": "state.run_duration",
}  # fmt: skip


@pytest.mark.parametrize("value", [-1.0, NAN, INF])
@pytest.mark.parametrize(("column", "field"), NOT_NEGATIVE.items())
def test_quantities_are_finite_and_not_negative(column: str, field: str, value: float) -> None:
    assert f"sessions[1].{field}" in fields_of(with_sessions(**{column: value}))


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, NAN, INF])
@pytest.mark.parametrize("column", ["charge_efficiency", "discharge_efficiency"])
def test_efficiencies_are_ratios(column: str, value: float) -> None:
    assert fields_of(with_sessions(**{column: value})) == [f"sessions[1].{column}"]


SESSION_RULES: list[tuple[dict[str, Any], str]] = [
    ({"session_ids": ""}, "session_id"),
    ({"session_ids": "session-0"}, "session_id"),
    ({"node_ids": "attic"}, "node_id"),
    ({"arrival_unix_s": NAN}, "arrival_time"),
    ({"departure_unix_s": NAN}, "departure_time"),
    ({"departure_unix_s": INF}, "departure_time"),
    ({"departure_unix_s": PROBLEM.grid.start_unix_s - 1.0}, "departure_time"),
    ({"minimum_energy_unix_s": NAN}, "minimum_energy_time"),
    ({"energy_headroom_kwh": 5.9}, "energy_headroom_kwh"),
    ({"minimum_energy_kwh": 6.1}, "minimum_energy_kwh"),
    ({"min_charge_kw": 10.1}, "min_charge_kw"),
    ({"min_discharge_kw": 0.1}, "min_discharge_kw"),
    ({"phases": 8}, "phases"),
    ({"phases": -1}, "phases"),
    ({"shortfall_weight": 0.0}, "shortfall_weight"),
    ({"shortfall_weight": INF}, "shortfall_weight"),
    ({"max_ramp_kw_per_step": 0.0}, "max_ramp_kw_per_step"),
    ({"max_ramp_kw_per_step": NAN}, "max_ramp_kw_per_step"),
    ({"max_cycles": -1.0}, "max_cycles"),
    ({"max_cycles": NAN}, "max_cycles"),
    ({"shortfall_price_per_kwh": -1.0}, "shortfall_price_per_kwh"),
    ({"shortfall_price_per_kwh": INF}, "shortfall_price_per_kwh"),
    ({"shortfall_price_per_kwh": 0.1, "energy_value_per_kwh": 0.2}, "shortfall_price_per_kwh"),
]


@pytest.mark.parametrize(("columns", "field"), SESSION_RULES)
def test_each_rule_of_a_session_names_its_field(columns: dict[str, Any], field: str) -> None:
    assert set(fields_of(with_sessions(**columns))) == {f"sessions[1].{field}"}


@pytest.mark.parametrize(
    "columns",
    [{"max_ramp_kw_per_step": INF}, {"max_cycles": INF}, {"minimum_energy_unix_s": INF},
     {"departure_unix_s": PROBLEM.grid.start_unix_s}, {"min_charge_kw": 10.0 + 1e-12}, {"max_cycles": 0.0},
     {"arrival_unix_s": 0.0}, {"node_ids": "root"}, {"phases": 0}],
)  # fmt: skip
def test_edges_of_the_rules_are_within(columns: dict[str, Any]) -> None:
    assert fields_of(with_sessions(**columns)) == []


def test_columns_of_different_lengths_are_named() -> None:
    for column in dataclasses.fields(Sessions):
        value = getattr(PROBLEM.sessions, column.name)[:1]
        if column.name == "session_ids":
            continue
        sessions = dataclasses.replace(PROBLEM.sessions, **{column.name: value})
        assert fields_of(dataclasses.replace(PROBLEM, sessions=sessions)) == [f"sessions.{column.name}"]


TARIFF_RULES: list[tuple[dict[str, Any], list[str]]] = [
    ({"import_price_per_kwh": np.zeros(0)}, ["import_price_per_kwh"]),
    (
        {"import_price_per_kwh": np.array([0.1, NAN, -INF])},
        ["import_price_per_kwh[1]", "import_price_per_kwh[2]"],
    ),
    ({"export_price_per_kwh": np.zeros(1)}, ["export_price_per_kwh"]),
    ({"export_price_per_kwh": np.array([NAN, 0.0, 0.0])}, ["export_price_per_kwh[0]"]),
    ({"emission_intensity_g_per_kwh": np.zeros(2)}, ["emission_intensity_g_per_kwh"]),
    ({"emission_intensity_g_per_kwh": np.array([0.0, -1.0, 0.0])}, ["emission_intensity_g_per_kwh[1]"]),
    ({"peak_window": np.array([True])}, ["peak_window"]),
    ({"peak_price_per_kw": -1.0}, ["peak_price_per_kw"]),
    ({"observed_peak_kw": NAN}, ["observed_peak_kw"]),
    ({"emission_price_per_kg": INF}, ["emission_price_per_kg"]),
    ({"peak_averaging_s": 5400.0}, ["peak_averaging_duration"]),
    ({"peak_averaging_s": 900.0}, ["peak_averaging_duration"]),
    ({"peak_averaging_s": -3600.0}, ["peak_averaging_duration"]),
    ({"peak_averaging_s": NAN}, ["peak_averaging_duration"]),
    ({"currency_code": "eur"}, ["currency_code"]),
    ({"currency_code": ""}, ["currency_code"]),
    ({"currency_code": "EURO"}, ["currency_code"]),
]


@pytest.mark.parametrize(("changes", "fields"), TARIFF_RULES)
def test_each_rule_of_the_tariff_names_its_field(changes: dict[str, Any], fields: list[str]) -> None:
    problem = dataclasses.replace(PROBLEM, tariff=dataclasses.replace(PROBLEM.tariff, **changes))
    assert fields_of(problem) == [f"tariff.{field}" for field in fields]


OPTION_RULES: list[tuple[dict[str, Any], str]] = [
    *(({name: value}, public) for value in (-1.0, NAN, INF) for name, public in (
        ("relative_gap", "relative_gap"), ("absolute_gap", "absolute_gap"), ("start_cost", "start_cost"),
        ("min_run_s", "min_run_duration"), ("departure_margin_s", "departure_margin_duration"),
        ("terminal_value_per_kwh", "terminal_value_per_kwh"), ("change_cost_per_kwh", "change_cost_per_kwh"),
        ("current_quantum_a", "current_quantum_a"), ("time_limit_s", "time_limit_duration"),
        ("shortfall_price_per_kwh", "shortfall_price_per_kwh"),
    )),
    ({"time_limit_s": 0.0}, "time_limit_duration"),
    ({"objective": 3}, "objective"),
    ({"objective": 0}, "objective"),
    ({"departure_beyond_horizon": 3}, "departure_beyond_horizon"),
    ({"max_starts_per_session": 0}, "max_starts_per_session"),
    ({"control_enabled": np.array([True, False])}, "control_enabled"),
    ({"previous_power_kw": np.zeros((2, 2))}, "previous_schedule_id"),
    ({"previous_power_kw": np.full((2, 3), INF)}, "previous_schedule_id"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "field"), OPTION_RULES)
def test_each_rule_of_the_options_names_its_field(changes: dict[str, Any], field: str) -> None:
    assert fields_of(PROBLEM, ScheduleOptions(**changes)) == [f"options.{field}"]


def test_a_shortfall_price_below_an_energy_value_is_refused() -> None:
    problem = with_sessions(energy_value_per_kwh=0.3)
    field = "options.shortfall_price_per_kwh"
    assert fields_of(problem, ScheduleOptions(shortfall_price_per_kwh=0.2)) == [field]
    assert fields_of(problem, ScheduleOptions(shortfall_price_per_kwh=0.3)) == []
    assert fields_of(problem, ScheduleOptions()) == []


@pytest.mark.parametrize(
    ("own_price", "price", "value", "terminal", "fields"),
    [
        (NAN, 0.5, 0.3, 0.2, []),
        (NAN, 0.5, 0.3, 0.25, ["sessions[1].energy_value_per_kwh"]),
        (NAN, 0.5, 0.0, 0.6, ["options.terminal_value_per_kwh"]),
        (0.4, 9.0, 0.3, 0.2, ["sessions[1].energy_value_per_kwh"]),
        (0.4, None, 0.3, 0.2, ["sessions[1].energy_value_per_kwh"]),
        (0.4, None, 0.0, 0.5, ["options.terminal_value_per_kwh"]),
        (NAN, None, 0.3, 9.0, []),
    ],
)
def test_surplus_beyond_the_grid_is_never_worth_more_than_need(
    own_price: float, price: float | None, value: float, terminal: float, fields: list[str]
) -> None:
    options = ScheduleOptions(shortfall_price_per_kwh=price, terminal_value_per_kwh=terminal)
    leaves = {"shortfall_price_per_kwh": own_price, "energy_value_per_kwh": value}
    assert fields_of(with_sessions(**leaves), options) == []
    stays = {**leaves, "departure_unix_s": PROBLEM.grid.end_unix_s + 1.0}
    assert fields_of(with_sessions(**stays), options) == fields


def test_a_minimum_is_not_held_against_a_maximum_that_is_at_fault() -> None:
    assert fields_of(with_sessions(max_charge_kw=-1.0, min_charge_kw=1.4)) == ["sessions[1].max_charge_kw"]
    assert fields_of(with_sessions(energy_headroom_kwh=NAN)) == ["sessions[1].energy_headroom_kwh"]


def test_nodes_and_tariff_are_checked_beside_a_bad_grid_all_but_lengths() -> None:
    problem = dataclasses.replace(
        PROBLEM,
        grid=TimeGrid(0.0, 3600.0, 0),
        nodes=dataclasses.replace(PROBLEM.nodes, max_import_kw=(np.array([1.0, -1.0]),)),
        tariff=Tariff(np.array([0.1, NAN])),
    )
    assert fields_of(problem, ScheduleOptions(control_enabled=np.array([True]))) == [
        "time_grid.step_count", "nodes[0].max_import_kw[1]", "tariff.import_price_per_kwh[1]",
    ]  # fmt: skip


def test_a_bad_grid_is_reported_once_and_not_followed_by_guesses() -> None:
    assert fields_of(dataclasses.replace(PROBLEM, grid=TimeGrid(NAN, 3600.0, 3))) == ["time_grid.start_time"]


def test_two_thousand_faults_list_the_first_hundred() -> None:
    n = 2000
    sessions = cars([0] * n, [3] * n, [5.0] * n, charge_efficiency=1.5)
    rules = Rules()
    site(sessions, [0.1, 0.2, 0.3]).validate(rules)
    with pytest.raises(InvalidProblemError) as caught:
        rules.raise_if_any()
    assert caught.value.total == n
    assert [v.field for v in caught.value.violations] == [f"sessions[{k}].charge_efficiency" for k in range(100)]


ANY_NUMBER = st.one_of(st.sampled_from([0.0, -1.0, 1.0, NAN, INF, -INF, 1e308, 5e-324]), st.floats())


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[ScheduleProblem, ScheduleOptions]:
    """A sound problem in which any numbers, lengths and names may have been replaced by anything."""
    problem, options = draw(problems())
    parts: dict[str, Any] = {
        "sessions": problem.sessions, "nodes": problem.nodes, "tariff": problem.tariff, "grid": problem.grid,
        "options": options,
    }  # fmt: skip
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.sampled_from(sorted(parts)))
        field = draw(st.sampled_from([f.name for f in dataclasses.fields(parts[part])]))
        parts[part] = dataclasses.replace(parts[part], **{field: draw(_spoil(getattr(parts[part], field)))})
    return ScheduleProblem(parts["grid"], parts["nodes"], parts["sessions"], parts["tariff"]), parts["options"]


def _spoil(value: object) -> st.SearchStrategy[Any]:
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        if value.ndim == 2:
            return st.integers(0, 3).map(lambda n: np.full((n, n), NAN))
        return st.lists(ANY_NUMBER, max_size=7).map(lambda row: np.array(row, dtype=np.float64))
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        return st.lists(st.booleans(), max_size=7).map(lambda row: np.array(row, dtype=np.bool_))
    if isinstance(value, np.ndarray):
        return st.lists(st.integers(-(2**40), 2**40), max_size=7).map(lambda row: np.array(row, dtype=np.int64))
    if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
        return st.just(value).map(lambda rows: tuple(np.append(row, NAN) for row in rows))
    if isinstance(value, tuple):
        return st.lists(st.sampled_from(["", "root", "panel-1", "session-0", "x\x00", "é"]), max_size=5).map(tuple)
    if isinstance(value, str):
        return st.text(max_size=4)
    if isinstance(value, int):
        return st.integers(-5, 50_000)
    return ANY_NUMBER


@given(spoiled())
def test_validation_of_anything_ends_with_a_verdict(given_: tuple[ScheduleProblem, ScheduleOptions]) -> None:
    problem, options = given_
    rules = Rules()
    problem.validate(rules)
    options.validate(rules, problem)
    for violation in rules.violations:
        assert violation.field
        assert violation.description


@given(problems())
def test_sound_problems_are_accepted(given_: tuple[ScheduleProblem, ScheduleOptions]) -> None:
    assert fields_of(*given_) == []


def test_a_tariff_has_the_defaults_of_the_contract() -> None:
    tariff = Tariff(import_price_per_kwh=np.zeros(1))
    assert (tariff.peak_price_per_kw, tariff.observed_peak_kw, tariff.emission_price_per_kg) == (
        0.0,
        0.0,
        0.0,
    )
    options = ScheduleOptions()
    assert (options.relative_gap, options.absolute_gap, options.shortfall_price_per_kwh) == (1e-3, 0.0, None)
