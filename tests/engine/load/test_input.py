"""Bad input is refused by field, index and rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.load import Calendar, LoadForecastOptions, LoadForecastProblem, WeatherColumn, forecast_load
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError
from tests.engine.load.instances import MONDAY_UNIX_S, problem_of

_HOURS = 72
_SOUND = problem_of(np.ones((2, _HOURS)) + np.arange(_HOURS) % 24, 24)


def _with_reading(value: float) -> LoadForecastProblem:
    history_kw = _SOUND.history_kw.copy()
    history_kw[1, 5] = value
    return replace(_SOUND, history_kw=history_kw)


def _weather(name: str = "temperature_c", history: int = _HOURS, horizon: int = 24) -> WeatherColumn:
    return WeatherColumn(name, np.zeros(history), np.zeros(horizon))


_INFINITE_WEATHER = WeatherColumn("temperature_c", np.zeros(_HOURS), np.r_[0.0, np.inf, np.zeros(22)])
_END = _SOUND.history.end_unix_s
_BROKEN = {
    "history.step_count": replace(_SOUND, history=TimeGrid(MONDAY_UNIX_S, 3600.0, 0)),
    "history.step_duration": replace(
        _SOUND,
        history=TimeGrid(MONDAY_UNIX_S, 7000.0, _HOURS),
        horizon=TimeGrid(MONDAY_UNIX_S + 7000.0 * _HOURS, 7000.0, 24),
    ),
    "horizon.step_duration": replace(_SOUND, horizon=TimeGrid(_END, 900.0, 24)),
    "horizon.start_time": replace(_SOUND, horizon=TimeGrid(_END - 3600.0, 3600.0, 24)),
    "meter_ids": replace(_SOUND, meter_ids=(), history_kw=np.empty((0, _HOURS))),
    "meter_ids[1]": replace(_SOUND, meter_ids=("a", "a")),
    "meter_ids[0]": replace(_SOUND, meter_ids=("", "a")),
    "history_kw": replace(_SOUND, history_kw=np.ones((2, _HOURS - 1))),
    "history_kw[1][5]": _with_reading(np.inf),
    "quantiles": replace(_SOUND, quantiles=np.empty(0)),
    "quantiles[1]": replace(_SOUND, quantiles=np.array([0.5, 0.1])),
    "quantiles[0]": replace(_SOUND, quantiles=np.array([0.0, 0.1])),
    "quantiles[2]": replace(_SOUND, quantiles=np.array([0.1, 0.2, np.nan])),
    "calendar.history_utc_offset_s": replace(_SOUND, calendar=Calendar(history_utc_offset_s=np.zeros(3))),
    "calendar.horizon_utc_offset_s[0]": replace(_SOUND, calendar=Calendar(horizon_utc_offset_s=np.array([1e5]))),
    "calendar.history_day_types[0]": replace(_SOUND, calendar=Calendar(history_day_types=np.array([4]))),
    "calendar.horizon_day_types": replace(_SOUND, calendar=Calendar(horizon_day_types=np.array([1, 1]))),
    "weather[0].history": replace(_SOUND, weather=(_weather(history=3),)),
    "weather[0].horizon": replace(_SOUND, weather=(_weather(horizon=3),)),
    "weather[0].horizon[1]": replace(_SOUND, weather=(_INFINITE_WEATHER,)),
    "weather[1].name": replace(_SOUND, weather=(_weather(), _weather())),
}


@pytest.mark.parametrize("field", list(_BROKEN))
def test_a_broken_rule_is_named_by_field_and_index(field: str) -> None:
    with pytest.raises(InvalidProblemError) as refused:
        forecast_load(_BROKEN[field])
    assert [violation.field for violation in refused.value.violations] == [field]


def test_a_horizon_between_two_steps_is_refused() -> None:
    with pytest.raises(InvalidProblemError, match="whole number of steps"):
        forecast_load(replace(_SOUND, horizon=TimeGrid(_END + 1800.0, 3600.0, 24)))


@pytest.mark.parametrize("field", ["backtest_days", "max_training_rows", "seed"])
def test_a_broken_option_is_named(field: str) -> None:
    options = replace(LoadForecastOptions(), **{field: -1})
    with pytest.raises(InvalidProblemError, match=field):
        forecast_load(_SOUND, options)
