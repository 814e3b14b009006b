"""The forecast: never crossing, the same every time, blind to the future, and at home in local time."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from evflex.engine.load import (
    BackTest,
    Calendar,
    DayType,
    ForecastMethod,
    LoadForecast,
    LoadForecastProblem,
    WeatherColumn,
    forecast_load,
)
from evflex.engine.load.boosting import train
from evflex.engine.load.features import features, levels_before
from evflex.engine.load.panel import lay_out
from evflex.engine.load.samples import Window, rolling_samples, training_samples
from evflex.engine.load.seasonal import last_week, naive_quantiles, recent_readings
from evflex.engine.timegrid import TimeGrid
from tests.engine.load.instances import MONDAY_UNIX_S, QUANTILES, QUICK, households, pinball, problem_of

_DAYS = 70


@pytest.fixture(scope="module")
def problem() -> LoadForecastProblem:
    return problem_of(households(4, _DAYS), 24)


@pytest.fixture(scope="module")
def found(problem: LoadForecastProblem) -> LoadForecast:
    return forecast_load(problem, QUICK)


def test_quantiles_never_cross_and_the_mean_lies_among_them(found: LoadForecast) -> None:
    assert found.quantile_kw.shape == (4, 24, len(QUANTILES))
    assert (np.diff(found.quantile_kw, axis=2) >= 0.0).all()
    assert (found.methods == ForecastMethod.BOOSTED).all()
    assert (found.mean_kw > found.quantile_kw[..., 0]).all()
    assert (found.mean_kw < found.quantile_kw[..., -1]).all()


def test_the_answer_is_the_same_again_beside_another_and_on_more_threads(
    problem: LoadForecastProblem, found: LoadForecast
) -> None:
    filters = list(warnings.filters)
    with threadpool_limits(limits=3, user_api="openmp"), ThreadPoolExecutor(2) as pool:
        twice = list(pool.map(lambda _: forecast_load(problem, QUICK), range(2)))
    assert warnings.filters == filters
    for again in twice:
        np.testing.assert_array_equal(again.quantile_kw, found.quantile_kw)
        np.testing.assert_array_equal(again.mean_kw, found.mean_kw)
        np.testing.assert_array_equal(again.boosted_ratio, found.boosted_ratio)
        np.testing.assert_array_equal(again.backtest.pinball_kw, found.backtest.pinball_kw)


def test_a_forecast_scales_with_its_meter(problem: LoadForecastProblem, found: LoadForecast) -> None:
    # a power of two, so that scaling rounds nothing
    scaled = forecast_load(replace(problem, history_kw=problem.history_kw * 4.0), QUICK)
    np.testing.assert_allclose(scaled.quantile_kw, 4.0 * found.quantile_kw, rtol=1e-9)


@pytest.mark.parametrize("horizon_steps", [24, 3])
def test_nothing_that_is_read_after_an_origin_changes_what_is_known_there(horizon_steps: int) -> None:
    problem = problem_of(households(3, _DAYS), horizon_steps, lead_steps=2)
    window = Window(problem.lead_steps, horizon_steps, 24)
    cut = 50 * 24
    meters = np.arange(3)
    disturbed_kw = problem.history_kw.copy()
    disturbed_kw[:, cut:] = -77.0
    panel, disturbed = lay_out(problem), lay_out(replace(problem, history_kw=disturbed_kw))
    drawn = training_samples(window, meters, cut, 5000, np.random.default_rng(0))
    assert (drawn.target < cut).all()
    assert (drawn.target - drawn.origin >= 2).all()
    samples = rolling_samples(window, meters, cut, panel.step_count, 5000, np.random.default_rng(0))
    assert (samples.origin >= cut).all()
    assert (samples.target < panel.step_count).all()
    at_cut = replace(samples, origin=np.full(len(samples), cut))
    models = [train(p, drawn, cut, QUANTILES) for p in (panel, disturbed)]
    forecasts = [m.predict(p, at_cut)[0] for m, p in zip(models, (panel, disturbed), strict=True)]
    np.testing.assert_array_equal(forecasts[0], forecasts[1])
    for known in (recent_readings, last_week):
        np.testing.assert_array_equal(known(panel, at_cut), known(disturbed, at_cut))
    rows = [features(p, drawn, levels_before(p, cut)) for p in (panel, disturbed)]
    np.testing.assert_array_equal(rows[0], rows[1])


def test_the_figures_are_those_of_forecasts_made_without_the_future() -> None:
    # with a back-test of two origins a meter, the later is judged: tomorrow's reading of each slot
    load_kw = households(2, 40)
    panel = lay_out(problem_of(load_kw, 24))
    window = Window(0, 24, 24)
    origin = 39 * 24
    samples = rolling_samples(window, np.arange(2), origin, panel.step_count, 10_000, np.random.default_rng(0))
    assert set(samples.origin.tolist()) == {origin}
    naive = naive_quantiles(panel, samples, np.array([0.5])).reshape(2, 24)
    week = last_week(panel, samples).reshape(2, 24)
    past = load_kw[:, :origin].reshape(2, 39, 24)
    # day 39 is a Friday: working days of the last four weeks
    same = [day for day in range(39 - 28, 39) if day % 7 < 5]
    np.testing.assert_allclose(naive, np.median(past[:, same], axis=1), rtol=1e-12)
    np.testing.assert_allclose(week, past[:, 32])


def test_it_beats_seasonal_naive_on_days_that_it_has_not_seen() -> None:
    load_kw = households(4, _DAYS + 1)
    found = forecast_load(problem_of(load_kw[:, :-24], 24), QUICK)
    actual_kw = load_kw[:, -24:]
    week_kw = np.repeat(load_kw[:, -8 * 24 : -7 * 24, None], len(QUANTILES), axis=2)
    assert pinball(actual_kw, found.quantile_kw) < 0.7 * pinball(actual_kw, week_kw)
    backtest = found.backtest
    assert (backtest.reading_count > 0).all()
    assert (backtest.pinball_kw < backtest.last_week_pinball_kw).all()
    assert backtest.pinball_kw.mean() < backtest.same_slot_pinball_kw.mean()
    assert (np.abs(backtest.coverage_ratio - 0.9) < 0.15).all()


def test_the_next_hours_know_the_last_ones() -> None:
    # noise stays for hours, so an hour ahead is surer than a day ahead
    load_kw = households(4, _DAYS)
    hour, day = (forecast_load(problem_of(load_kw, steps), QUICK).backtest.pinball_kw.mean() for steps in (1, 24))
    assert hour < 0.8 * day


def test_weather_that_makes_the_load_is_used() -> None:
    rng = np.random.default_rng(5)
    steps = (_DAYS + 1) * 24
    temperature_c = np.repeat(rng.uniform(-10.0, 20.0, _DAYS + 1), 24)
    load_kw = np.maximum(0.0, 15.0 - temperature_c) * rng.uniform(0.9, 1.1, (2, steps)) + 1.0
    plain = problem_of(load_kw[:, :-24], 24)
    informed = replace(
        plain, weather=(WeatherColumn("temperature_c", temperature_c[:-24], temperature_c[-24:]),)
    )  # fmt: skip
    losses = [pinball(load_kw[:, -24:], forecast_load(p, QUICK).quantile_kw) for p in (plain, informed)]
    assert losses[1] < 0.5 * losses[0]


def test_habits_follow_local_time_when_clocks_change() -> None:
    # up at seven local time; clocks go forward after day 60
    changed = 60 * 24
    offset_s = np.where(np.arange((_DAYS + 1) * 24) < changed, 3600.0, 7200.0)
    local_hour = (np.arange(len(offset_s)) + offset_s / 3600.0) % 24
    noise = np.random.default_rng(2).uniform(0.9, 1.1, len(offset_s))
    load_kw = np.where(local_hour == 7, 10.0, 1.0)[None] * noise
    # asked for the day after the change, when every lag lies before it
    history_kw = load_kw[:, :changed]
    calendar = Calendar(history_utc_offset_s=offset_s[:changed], horizon_utc_offset_s=offset_s[changed : changed + 24])
    problem = replace(problem_of(history_kw, 24), calendar=calendar)
    found = forecast_load(problem, replace(QUICK, backtest_days=7)).quantile_kw[0, :, 1]
    np.testing.assert_allclose(found, load_kw[0, changed : changed + 24], rtol=0.3)


def test_clocks_that_go_back_give_a_slot_two_steps_and_the_later_counts() -> None:
    offset_s = np.where(np.arange(72) < 25, 7200.0, 3600.0)
    panel = lay_out(
        replace(problem_of(np.arange(72.0)[None], 24), calendar=Calendar(offset_s, np.array([3600.0])))
    )  # fmt: skip
    # step 24 and 25 are both 02:00 of the second day
    assert panel.slot[[23, 24, 25, 26]].tolist() == [1, 2, 2, 3]
    assert panel.step_of[1, 2] == 25
    forward = np.where(np.arange(72) < 25, 3600.0, 7200.0)
    panel = lay_out(
        replace(problem_of(np.arange(72.0)[None], 24), calendar=Calendar(forward, np.array([7200.0])))
    )  # fmt: skip
    assert panel.step_of[1, 2] == -1


def test_a_holiday_is_forecast_as_a_sunday() -> None:
    load_kw = np.where(np.arange(_DAYS * 24) // 24 % 7 == 6, 2.0, 8.0)[None] * np.linspace(0.99, 1.01, _DAYS * 24)
    plain = problem_of(load_kw, 24)  # the next day is a Monday
    holiday = replace(plain, calendar=Calendar(horizon_day_types=np.array([DayType.HOLIDAY], dtype=np.int64)))
    for problem, expected_kw in ((plain, 8.0), (holiday, 2.0)):
        median_kw = forecast_load(problem, replace(QUICK, backtest_days=0)).quantile_kw[0, :, 1]
        assert abs(median_kw - expected_kw).max() < 1.8


def test_a_gap_before_the_horizon_shifts_the_slots() -> None:
    load_kw = np.tile(np.arange(24.0), _DAYS)[None]
    found = forecast_load(problem_of(load_kw, 24, lead_steps=30), QUICK)
    expected_kw = np.roll(np.arange(24.0), -6)
    assert abs(found.quantile_kw[0, :, 1] - expected_kw).mean() < 1.0


def test_the_standard_deviation_is_that_of_a_normal_load() -> None:
    normal = NormalDist(3.0, 1.7)
    kw = np.array([[[normal.inv_cdf(q) for q in QUANTILES.tolist()]]])
    found = _made_of(kw, QUANTILES)
    np.testing.assert_allclose(found.standard_deviation_kw, 1.7, rtol=1e-9)
    assert np.isnan(_made_of(kw[..., :1], QUANTILES[:1]).standard_deviation_kw).all()


def _made_of(quantile_kw: np.ndarray, quantiles: np.ndarray) -> LoadForecast:
    nothing = np.zeros(1)
    none = np.zeros(1, dtype=np.int64)
    backtest = BackTest(none, nothing, nothing, nothing, nothing)
    horizon = TimeGrid(MONDAY_UNIX_S, 3600.0, 1)
    mean_kw = quantile_kw[..., 0]
    return LoadForecast(("m",), horizon, quantiles, quantile_kw, mean_kw, none, none, nothing, backtest)
