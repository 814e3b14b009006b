"""What is left for bookings, against a twin that asks at many instants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.capacity.booking import (
    BookedWindow,
    StepSeries,
    bookable_kw,
    capacity_left,
    fits,
    ratings_that_hold,
)
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid

START_S = 1_730_804_400.0


def series(start_s: float, step_s: float, *power_kw: float) -> StepSeries:
    return StepSeries(TimeGrid(START_S + start_s, step_s, len(power_kw)), np.array(power_kw))


@st.composite
def any_series(draw: st.DrawFn) -> StepSeries:
    """A series whose edges lie on whole seconds, somewhere about the window."""
    count = draw(st.integers(1, 5))
    power_kw = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    return series(draw(st.integers(-30, 40)), draw(st.integers(1, 20)), *power_kw)


@st.composite
def any_window(draw: st.DrawFn) -> BookedWindow:
    many = st.lists(any_series(), max_size=3).map(tuple)
    window = TimeGrid(START_S, float(draw(st.integers(1, 15))), draw(st.integers(1, 4)))
    normal = draw(many)
    contingency = tuple(
        StepSeries(one.grid, np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), dtype=np.float64))
        for one in normal
        for n in [one.grid.step_count]
    )
    return BookedWindow(window, draw(st.integers(0, 9)), draw(many), normal, contingency, draw(many), draw(many))


def at(one: StepSeries, unix_s: float) -> float | None:
    for k, power_kw in enumerate(one.power_kw.tolist()):
        start_s = one.grid.start_unix_s + k * one.grid.step_s
        if start_s <= unix_s < start_s + one.grid.step_s:
            return float(power_kw)
    return None


def sum_at(many: tuple[StepSeries, ...], unix_s: float) -> float:
    return sum(at(one, unix_s) or 0.0 for one in many)


def newest_at(many: tuple[StepSeries, ...], unix_s: float) -> float:
    return next((value for one in many if (value := at(one, unix_s)) is not None), np.nan)


def twin(booked: BookedWindow, *, firm: bool) -> tuple[FloatArray, FloatArray]:
    """What is left in the agreement and on the transformer, asked at the middle of every second."""
    agreement, transformer = [], []
    for k in range(booked.window.step_count):
        in_agreement, on_transformer = [], []
        for second in range(int(booked.window.step_s)):
            unix_s = booked.window.start_unix_s + k * booked.window.step_s + second + 0.5
            firm_kw, conditional_kw = sum_at(booked.booked_firm, unix_s), sum_at(booked.booked_conditional, unix_s)
            left_kw = newest_at(booked.headroom_n, unix_s) - firm_kw - conditional_kw
            if firm:
                left_kw = np.minimum(left_kw, newest_at(booked.headroom_n1, unix_s) - firm_kw)
            on_transformer.append(left_kw)
            in_agreement.append(booked.agreed_kw - sum_at(booked.booked_in_agreement, unix_s))
        agreement.append(np.min(in_agreement))
        transformer.append(np.min(on_transformer))
    return np.array(agreement), np.array(transformer)


@given(any_window(), st.booleans())
def test_what_is_left_is_the_least_at_any_instant_of_a_step(booked: BookedWindow, firm: bool) -> None:
    left = capacity_left(booked, firm=firm)
    agreement_kw, transformer_kw = twin(booked, firm=firm)
    np.testing.assert_allclose(left.in_agreement_kw, agreement_kw)
    np.testing.assert_allclose(left.on_transformer_kw, transformer_kw)


@given(any_window())
def test_ratings_that_never_hold_make_no_difference(booked: BookedWindow) -> None:
    holding = ratings_that_hold(booked.window, [one.grid for one in booked.headroom_n])
    for second in range(int(booked.window.step_s) * booked.window.step_count):
        unix_s = booked.window.start_unix_s + second + 0.5
        first = next((i for i, one in enumerate(booked.headroom_n) if at(one, unix_s) is not None), None)
        assert first is None or first in holding


def empty(window: TimeGrid, *booked: StepSeries, headroom_kw: float = 10.0) -> BookedWindow:
    covering = (StepSeries(TimeGrid(START_S - 1e5, 86_400.0, 40), np.full(40, headroom_kw)),)
    return BookedWindow(window, 100.0, (), covering, covering, booked, ())


@pytest.mark.parametrize("step_s", [1.1, 7.3, 900.1, 1.0 / 3.0 + 1.0])
def test_bookings_that_meet_do_not_overlap_by_rounding(step_s: float) -> None:
    grid = TimeGrid(START_S + 0.1, step_s, 1_000)
    before = StepSeries(grid, np.full(1_000, 10.0))
    after = StepSeries(TimeGrid(grid.end_unix_s + 40 * step_s, step_s, 10), np.full(10, 10.0))
    left = capacity_left(empty(TimeGrid(grid.end_unix_s, step_s, 40), before, after), firm=True)
    np.testing.assert_allclose(left.on_transformer_kw, 10.0)


def test_a_longer_step_is_held_to_its_worst_second() -> None:
    left = capacity_left(empty(TimeGrid(START_S, 3600.0, 2), series(3599.0, 2.0, 4.0)), firm=True)
    np.testing.assert_allclose(left.on_transformer_kw, [6.0, 6.0])


def test_what_is_said_to_be_left_can_be_booked() -> None:
    left_kw = np.array([0.1 + 0.2, 1.0 - 1e-9, 2.00049, -3.0])
    assert bookable_kw(left_kw).tolist() == [0.3, 1.0, 2.0, 0.0]
    assert fits(bookable_kw(left_kw), left_kw).all()


def test_a_step_that_wants_nothing_fits_where_nothing_is_left() -> None:
    assert fits(np.array([0.0, 1.0]), np.array([-5.0, -5.0])).tolist() == [True, False]
