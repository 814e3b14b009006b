"""What is said of meters whose readings are few, broken or always the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.load import Calendar, DayType, FallbackReason, ForecastMethod, LoadForecast, forecast_load
from tests.engine.load.instances import QUANTILES, QUICK, households, problem_of

_DAYS = 42


@pytest.fixture(scope="module")
def broken() -> LoadForecast:
    """Meters: whole, with gaps, short, a few hours, silent for five weeks, constant, zero, never read."""
    load_kw = np.repeat(households(1, _DAYS), 8, axis=0)
    load_kw[1, np.random.default_rng(1).random(load_kw.shape[1]) < 0.3] = np.nan
    load_kw[2, : -7 * 24] = np.nan
    load_kw[3, :-6] = np.nan
    load_kw[4, -35 * 24 :] = np.nan
    load_kw[5], load_kw[6], load_kw[7] = 2.5, 0.0, np.nan
    return forecast_load(problem_of(load_kw, 24), QUICK)


def test_each_meter_says_how_it_was_forecast_and_why(broken: LoadForecast) -> None:
    method, reason = ForecastMethod, FallbackReason
    assert list(zip(broken.methods.tolist(), broken.fallback_reasons.tolist(), strict=True)) == [
        (method.BOOSTED, reason.NONE),
        (method.BOOSTED, reason.NONE),
        (method.EMPIRICAL, reason.SHORT_HISTORY),
        (method.LEVEL, reason.SHORT_HISTORY),
        (method.LEVEL, reason.STALE_READINGS),
        (method.LEVEL, reason.CONSTANT),
        (method.LEVEL, reason.CONSTANT),
        (method.NONE, reason.ALL_MISSING),
    ]
    assert (broken.boosted_ratio[2:] == 0.0).all()


def test_all_but_the_meter_never_read_have_a_forecast(broken: LoadForecast) -> None:
    assert np.isfinite(broken.quantile_kw[:-1]).all()
    assert np.isfinite(broken.mean_kw[:-1]).all()
    assert np.isnan(broken.quantile_kw[-1]).all()
    assert np.isnan(broken.mean_kw[-1]).all()


def test_a_constant_meter_stays_constant_without_spread(broken: LoadForecast) -> None:
    np.testing.assert_allclose(broken.quantile_kw[5], 2.5)
    np.testing.assert_allclose(broken.mean_kw[5:7], [[2.5] * 24, [0.0] * 24])
    assert (broken.standard_deviation_kw[5:7] == 0.0).all()


def test_missing_readings_cost_little(broken: LoadForecast) -> None:
    whole, gaps = broken.quantile_kw[:2, :, 1]
    assert abs(gaps - whole).mean() < 0.15 * whole.mean()


def test_a_single_reading_is_all_that_can_be_said() -> None:
    found = forecast_load(problem_of(np.array([[3.0]]), 5))
    np.testing.assert_allclose(found.quantile_kw, 3.0)
    assert found.methods.tolist() == [ForecastMethod.LEVEL]
    assert found.fallback_reasons.tolist() == [FallbackReason.SHORT_HISTORY]
    assert found.backtest.reading_count.tolist() == [0]


def test_a_short_history_keeps_the_shape_of_its_days() -> None:
    # five working days, each as the one before, and a Saturday asked as a working day
    load_kw = np.tile(np.arange(24.0), 5)[None]
    problem = replace(
        problem_of(load_kw, 24), calendar=Calendar(horizon_day_types=np.array([DayType.WORKDAY], dtype=np.int64))
    )
    found = forecast_load(problem)
    assert found.methods.tolist() == [ForecastMethod.EMPIRICAL]
    np.testing.assert_allclose(found.quantile_kw[0, 1:-1, 1], np.arange(1.0, 23.0))


def test_a_kind_of_day_that_was_never_seen_is_forecast_from_all_readings() -> None:
    load_kw = np.tile(np.arange(24.0), 5)[None]  # Monday to Friday; Saturday is next
    found = forecast_load(problem_of(load_kw, 24))
    np.testing.assert_allclose(found.mean_kw, 11.5)
    assert np.ptp(found.quantile_kw, axis=1).max() == 0.0


def test_hours_within_hour_long_days_and_whole_days_are_steps_too() -> None:
    days_kw = 10.0 + households(2, 120, slots=1)
    found = forecast_load(problem_of(days_kw, 7, step_s=86_400.0), QUICK)
    assert np.isfinite(found.quantile_kw).all()
    assert found.quantile_kw.shape == (2, 7, len(QUANTILES))


@pytest.mark.parametrize("days", [1, 7, 14, 17, 20, 25, 30])
def test_a_history_of_any_length_has_a_forecast(days: int) -> None:
    found = forecast_load(problem_of(households(2, days), 24), QUICK)
    assert np.isfinite(found.quantile_kw).all()
    assert (np.diff(found.quantile_kw, axis=2) >= 0.0).all()
