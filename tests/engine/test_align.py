"""Profiles keep their energy, reserves their largest power, whatever the two time axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.align import largest_of_rows, largest_overlapping, mean_power
from evflex.engine.timegrid import TimeGrid

START_S = 1_730_804_400.0
grids = st.builds(
    TimeGrid,
    st.integers(-20, 20).map(lambda k: START_S + 300.0 * k),
    st.sampled_from([300.0, 600.0, 900.0, 3600.0]),
    st.integers(1, 12),
)


def seconds_shared(grid: TimeGrid, k: int, source: TimeGrid, s: int) -> float:
    begin = max(grid.start_unix_s + k * grid.step_s, source.start_unix_s + s * source.step_s)
    end = min(grid.start_unix_s + (k + 1) * grid.step_s, source.start_unix_s + (s + 1) * source.step_s)
    return max(0.0, end - begin)


@given(grids, grids, st.integers(0, 1_000))
def test_both_are_what_a_slow_loop_finds(grid: TimeGrid, source: TimeGrid, seed: int) -> None:
    power_kw = np.random.default_rng(seed).uniform(0.0, 10.0, (3, source.step_count))
    mean = np.zeros((3, grid.step_count))
    largest = np.zeros(grid.step_count)
    for k in range(grid.step_count):
        for s in range(source.step_count):
            shared_s = seconds_shared(grid, k, source, s)
            mean[:, k] += power_kw[:, s] * shared_s / grid.step_s
            if shared_s > 0.0:
                largest[k] = max(largest[k], power_kw[0, s])
    assert mean_power(grid, source, power_kw) == pytest.approx(mean, abs=1e-9)
    assert largest_overlapping(grid, source, power_kw[0]) == pytest.approx(largest)


@given(grids, grids)
def test_powers_of_one_sign_keep_it(grid: TimeGrid, source: TimeGrid) -> None:
    power_kw = -np.random.default_rng(0).uniform(0.0, 1e-3, (2, source.step_count))
    assert (mean_power(grid, source, power_kw) <= 0.0).all()


@given(grids, st.integers(-3_000, 20_000), st.lists(st.tuples(st.integers(1, 9_000), st.integers(0, 9)), max_size=5))
def test_rows_that_end_one_by_one_count_where_they_touch(
    grid: TimeGrid, begin_s: int, rows: list[tuple[int, int]]
) -> None:
    start_s = START_S + begin_s
    ends = np.array([start_s + length_s for length_s, _ in rows])
    values = np.array([float(value) for _, value in rows])
    expected = np.zeros(grid.step_count)
    for k in range(grid.step_count):
        first, last = grid.start_unix_s + k * grid.step_s, grid.start_unix_s + (k + 1) * grid.step_s
        for instant in range(int(max(first, start_s)), int(last), 100):
            expected[k] = max(expected[k], sum(value for end, value in zip(ends, values, strict=True) if instant < end))
    assert largest_of_rows(grid, start_s, ends, values).tolist() == expected.tolist()


def test_axes_that_do_not_meet_give_nothing() -> None:
    grid, source = TimeGrid(START_S, 900.0, 4), TimeGrid(START_S + 3600.0, 900.0, 4)
    assert not mean_power(grid, source, np.ones((1, 4))).any()
    assert not largest_overlapping(grid, source, np.ones(4)).any()


def test_no_profiles_are_no_rows() -> None:
    grid, source = TimeGrid(START_S, 900.0, 4), TimeGrid(START_S, 3600.0, 1)
    assert mean_power(grid, source, np.empty((0, 1))).shape == (0, 4)
