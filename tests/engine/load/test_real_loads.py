"""On measured and synthetic grids: better than seasonal-naive, a day and an hour ahead, at origins never seen."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from evflex.engine.load import LoadForecastOptions, forecast_load
from tests.conftest import SOAK
from tests.engine.load.instances import MONDAY_UNIX_S, FloatArray, last_week_kw, pinball, problem_of, same_slot_kw

_SLOTS = 96
_DAYS = 120
_OPTIONS = LoadForecastOptions(max_training_rows=40_000 if SOAK else 4000, backtest_days=14)


@pytest.fixture(scope="module")
def buses_kw() -> FloatArray:
    """Buses with households, shops, heat pumps and photovoltaics; 2016 from 1 January, a Friday."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of foreign libraries
        import simbench

        net = simbench.get_simbench_net("1-LV-rural3--2-no_sw")
        values = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    load_kw = np.zeros((len(net.bus), len(values["load", "p_mw"])))
    for kind, sign in (("load", 1000.0), ("sgen", -1000.0)):
        table = values[kind, "p_mw"]
        for name in table.columns:
            load_kw[net[kind].bus.at[name]] += sign * table[name].to_numpy()
    return load_kw[np.ptp(load_kw, axis=1) > 0.0][:: 1 if SOAK else 8]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [_SLOTS, 4])
def test_buses_of_simbench_are_forecast_better_than_seasonal_naive(buses_kw: FloatArray, steps: int) -> None:
    _beats_both(buses_kw, steps, first_weekday=4)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("steps", [_SLOTS, 4])
def test_households_are_forecast_better_than_seasonal_naive(shared_data: Path, steps: int) -> None:
    load_kw = np.loadtxt(shared_data / "load" / "residential_loads.csv", delimiter=",").T
    _beats_both(load_kw[:: 1 if SOAK else 3], steps, first_weekday=0)


def _beats_both(load_kw: FloatArray, steps: int, first_weekday: int) -> None:
    """Loss of a forecast from 120 days, and of its back-test, below that of both peers."""
    end = load_kw.shape[1] // _SLOTS * _SLOTS - 10 * _SLOTS
    begin = end - _DAYS * _SLOTS
    history_kw, actual_kw = load_kw[:, begin:end], load_kw[:, end : end + steps]
    weekday = (begin // _SLOTS + first_weekday) % 7
    found = forecast_load(
        problem_of(history_kw, steps, step_s=900.0, start_unix_s=MONDAY_UNIX_S + 86_400.0 * weekday), _OPTIONS
    )
    tried = found.backtest
    assert (tried.reading_count > 100).all()
    assert tried.pinball_kw.mean() < 0.8 * tried.last_week_pinball_kw.mean()
    assert tried.pinball_kw.mean() < tried.same_slot_pinball_kw.mean()
    if steps < _SLOTS:
        return  # an hour alone is chance
    ours = pinball(actual_kw, found.quantile_kw)
    assert ours < 0.8 * pinball(actual_kw, last_week_kw(history_kw, steps, _SLOTS))
    assert ours < pinball(actual_kw, same_slot_kw(history_kw, steps, _SLOTS, weekday))
