"""The root search of relief on functions whose roots are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.grid.congestion_report import ReliefObstacle
from evflex.engine.grid.relief_search import smallest_relief
from evflex.engine.supply_tree import FloatArray, IntArray

_Value = Callable[[float], float]


def _search(values: list[_Value], slope: list[float]) -> tuple[FloatArray, IntArray, int]:
    calls = 0

    def evaluate(jobs: IntArray, relief_kw: FloatArray) -> FloatArray:
        nonlocal calls
        calls += len(jobs)
        assert (relief_kw > 0.0).all()
        return np.array([values[j](float(r)) for j, r in zip(jobs, relief_kw, strict=True)])

    excess = np.array([value(0.0) for value in values])
    relief, obstacle = smallest_relief(evaluate, excess, np.array(slope))
    return relief, obstacle, calls


@pytest.mark.parametrize("guess", [0.03, 0.5, 1.0, 1.7, 30.0])
def test_relief_is_the_smallest_that_suffices(guess: float) -> None:
    values: list[_Value] = [
        lambda r: 5.0 - 2.0 * r,
        lambda r: (10.0 - r) ** 2 / 100.0 - 0.5,
        lambda r: np.hypot(3.0 - r, 1.0) - 1.01,
        lambda r: np.exp(-r) - 0.2,
        lambda r: 2e-8 - 1e-9 * r,
    ]
    slopes = [2.0, 0.2, 3.0 / np.hypot(3.0, 1.0), 1.0, 1e-9]
    relief, obstacle, _ = _search(values, [guess * slope for slope in slopes])
    assert (obstacle == ReliefObstacle.NONE).all()
    for value, r in zip(values, relief.tolist(), strict=True):
        assert value(r) <= 0.0 < value(0.98 * r)


def test_a_nearly_straight_value_takes_few_evaluations() -> None:
    _, _, calls = _search([lambda r: 1.0 - r + 0.02 * r * r] * 10, [1.0] * 10)
    assert calls <= 30


def test_a_least_above_the_limit_is_told() -> None:
    relief, obstacle, _ = _search([lambda r: np.hypot(3.0 - r, 1.0) - 0.9, lambda r: 1.0 + r], [1.0, 1.0])
    assert np.isnan(relief).all()
    assert (obstacle == ReliefObstacle.REVERSED).all()


def test_an_end_of_solutions_is_told() -> None:
    relief, obstacle, _ = _search([lambda r: 5.0 - r if r < 4.0 else np.nan], [1.0])
    assert np.isnan(relief).all()
    assert obstacle[0] == ReliefObstacle.COLLAPSE


def test_a_root_close_before_the_end_of_solutions_is_found() -> None:
    relief, obstacle, _ = _search([lambda r: 5.0 - r if r < 5.2 else np.nan], [0.5])
    assert obstacle[0] == ReliefObstacle.NONE
    assert 5.0 <= relief[0] < 5.2


@given(
    st.lists(
        st.tuples(st.floats(0.1, 50.0), st.floats(0.05, 3.0), st.floats(0.01, 0.9), st.floats(0.02, 40.0)),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_relief_of_loadings_that_turn_is_the_smallest(rows: list[tuple[float, float, float, float]]) -> None:
    # |P − r + jQ| against a limit between its least and its first value
    values: list[_Value] = []
    slopes = []
    for p, q, share, guess in rows:
        limit = q + share * (np.hypot(p, q) - q)
        values.append(lambda r, p=p, q=q, limit=limit: float(np.hypot(p - r, q) - limit))  # type: ignore[misc]
        slopes.append(guess * p / np.hypot(p, q))
    relief, obstacle, _ = _search(values, slopes)
    for value, r, why in zip(values, relief.tolist(), obstacle.tolist(), strict=True):
        assert why == ReliefObstacle.NONE
        assert value(r) <= 0.0 < value(0.98 * r)
