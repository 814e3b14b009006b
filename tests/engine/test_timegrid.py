"""Steps, their limits, and the share of each that a stay covers."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.timegrid import MAX_STEP_COUNT, TimeGrid
from evflex.engine.validation import Rules


def fields_of(grid: TimeGrid) -> list[str]:
    rules = Rules()
    assert grid.validate(rules, "time_grid") is not bool(rules.violations)
    return [violation.field for violation in rules.violations]


@pytest.mark.parametrize(
    ("grid", "fields"),
    [
        (TimeGrid(0.0, 1.0, 1), []),
        (TimeGrid(0.0, 86_400.0, MAX_STEP_COUNT), []),
        (TimeGrid(np.nan, 900.0, 96), ["time_grid.start_time"]),
        (TimeGrid(np.inf, 900.0, 96), ["time_grid.start_time"]),
        (TimeGrid(0.0, 0.5, 96), ["time_grid.step_duration"]),
        (TimeGrid(0.0, 0.0, 96), ["time_grid.step_duration"]),
        (TimeGrid(0.0, -900.0, 96), ["time_grid.step_duration"]),
        (TimeGrid(0.0, np.nan, 96), ["time_grid.step_duration"]),
        (TimeGrid(0.0, 86_401.0, 96), ["time_grid.step_duration"]),
        (TimeGrid(0.0, 900.0, 0), ["time_grid.step_count"]),
        (TimeGrid(0.0, 900.0, MAX_STEP_COUNT + 1), ["time_grid.step_count"]),
        (
            TimeGrid(np.nan, 0.0, 0),
            ["time_grid.start_time", "time_grid.step_duration", "time_grid.step_count"],
        ),
    ],
)
def test_each_rule_names_its_field(grid: TimeGrid, fields: list[str]) -> None:
    assert fields_of(grid) == fields


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-11-05", 24)])
def test_a_local_day_has_as_many_hours_as_the_clock_gives_it(day: str, hours: int) -> None:
    copenhagen = ZoneInfo("Europe/Copenhagen")
    midnight = datetime.fromisoformat(day).replace(tzinfo=copenhagen)
    next_midnight = (midnight + timedelta(days=1)).timestamp()
    grid = TimeGrid(midnight.timestamp(), 900.0, hours * 4)
    assert grid.end_unix_s == next_midnight
    assert grid.step_h == 0.25


def test_a_stay_covers_whole_steps_and_parts_of_its_first_and_last() -> None:
    grid = TimeGrid(1000.0, 100.0, 4)
    ratio = grid.presence_ratio(np.array([1050.0]), np.array([1325.0]))
    np.testing.assert_allclose(ratio, [[0.5, 1.0, 1.0, 0.25]])


def test_stays_outside_the_grid_cover_nothing_of_it() -> None:
    grid = TimeGrid(1000.0, 100.0, 2)
    ratio = grid.presence_ratio(np.array([0.0, 1200.0, 1100.0, 0.0]), np.array([1000.0, 5000.0, 1100.0, 9000.0]))
    np.testing.assert_array_equal(ratio, [[0, 0], [0, 0], [0, 0], [1, 1]])


@given(
    arrival=st.floats(0.0, 2000.0),
    stay=st.floats(0.0, 2000.0),
    step_s=st.sampled_from([1.0, 60.0, 300.0, 900.0]),
    steps=st.integers(1, 20),
)
def test_shares_add_up_to_the_part_of_the_stay_within_the_grid(
    arrival: float, stay: float, step_s: float, steps: int
) -> None:
    start = 1_730_804_400.0
    grid = TimeGrid(start, step_s, steps)
    begin, finish = start - 500.0 + arrival, start - 500.0 + arrival + stay
    ratio = grid.presence_ratio(np.array([begin]), np.array([finish]))
    within = max(0.0, min(finish, grid.end_unix_s) - max(begin, start))
    assert ((ratio >= 0.0) & (ratio <= 1.0)).all()
    assert ratio.sum() * step_s == pytest.approx(within, abs=5e-6)
