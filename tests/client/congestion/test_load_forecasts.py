"""Forecasts of load of both clients: history with gaps, local time, holidays and weather out, quantiles in."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evflex.client import InvalidRequestError, TimeGrid
from evflex.congestion.v1 import congestion_service_pb2 as pb
from evflex.congestion.v1 import load_forecast_pb2
from tests.client.capacity.messages import grid_message
from tests.client.congestion.messages import NAN, UNAVAILABLE
from tests.client.fake_server import FakeServer, answering

# over the change to summer time on 29 March 2026
HISTORY_INDEX = pd.date_range("2026-03-28", "2026-03-30", freq="h", tz="Europe/Copenhagen", inclusive="left")
HISTORY = pd.DataFrame({"m-1": np.arange(47.0), 2: 1.0}, index=HISTORY_INDEX)
DAY = timedelta(days=1)
WORKDAY, SATURDAY, HOLIDAY = (
    load_forecast_pb2.DayType.Value(f"DAY_TYPE_{name}") for name in ("WORKDAY", "SATURDAY", "HOLIDAY")
)


def forecast_message() -> load_forecast_pb2.LoadForecast:
    """Two meters, two steps, three quantiles: values tell meter, step and quantile."""
    message = load_forecast_pb2.LoadForecast(
        horizon=grid_message(2), meter_ids=["m-1", "2"], bus_ids=["7", "8"], quantiles=[0.1, 0.5, 0.9],
        quantile_kw=[100 * meter + 10 * step + k for meter in range(2) for step in range(2) for k in range(3)],
        mean_kw=[0.5, 10.5, 100.5, 110.5], standard_deviation_kw=[1.0, 2.0, 3.0, NAN],
        methods=[load_forecast_pb2.LOAD_FORECAST_METHOD_BOOSTED, load_forecast_pb2.LOAD_FORECAST_METHOD_LEVEL],
        fallback_reasons=[
            load_forecast_pb2.FALLBACK_REASON_UNSPECIFIED, load_forecast_pb2.FALLBACK_REASON_CONSTANT
        ], boosted_ratio=[0.75, 0.0],
    )  # fmt: skip
    message.backtest.reading_count.extend([672, 0])
    for name in ("pinball_kw", "last_week_pinball_kw", "same_slot_pinball_kw", "coverage_ratio"):
        getattr(message.backtest, name).extend([0.25, NAN])
    return message


@pytest.fixture
def asked(client: Any, server: FakeServer) -> Any:
    """The request that arguments become."""
    server.on("ForecastLoad", answering(pb.ForecastLoadResponse(forecast=forecast_message())))

    def asking(*arguments: Any, **named: Any) -> pb.ForecastLoadRequest:
        client.forecast_load(*arguments, **named)
        request: pb.ForecastLoadRequest = server.asked("ForecastLoad")[-1]
        return request

    return asking


def test_quantiles_come_by_time_meter_and_quantile(client: Any, server: FakeServer) -> None:
    server.on("ForecastLoad", UNAVAILABLE, answering(pb.ForecastLoadResponse(forecast=forecast_message())))
    forecast = client.forecast_load(HISTORY, DAY)
    assert forecast.quantiles == (0.1, 0.5, 0.9)
    assert forecast.quantile_kw[("m-1", 0.9)].tolist() == [2.0, 12.0]
    assert forecast.quantile_kw[("2", 0.1)].tolist() == [100.0, 110.0]
    assert forecast.mean_kw["2"].tolist() == [100.5, 110.5]
    assert forecast.standard_deviation_kw["m-1"].tolist() == [1.0, 2.0]
    assert list(forecast.mean_kw.index) == list(forecast.time_grid.index)
    boosted, level = (forecast.meters.loc[meter] for meter in ("m-1", "2"))
    assert (boosted["method"], boosted["fallback_reason"], boosted["pinball_kw"]) == ("BOOSTED", "", 0.25)
    assert (level["method"], level["fallback_reason"], level["reading_count"]) == ("LEVEL", "CONSTANT", 0)
    assert level[["pinball_kw", "coverage_ratio"]].isna().all()


def test_meters_become_buses(client: Any, server: FakeServer) -> None:
    server.on("ForecastLoad", answering(pb.ForecastLoadResponse(forecast=forecast_message())))
    forecast = client.forecast_load(HISTORY, DAY, bus_ids=[7, 8])
    assert list(server.asked("ForecastLoad")[0].bus_ids) == ["7", "8"]
    assert forecast.by_bus(forecast.mean_kw)["8"].tolist() == [100.5, 110.5]
    high = forecast.quantile_kw.xs(0.9, axis="columns", level="quantile")
    assert forecast.by_bus(high)["7"].tolist() == [2.0, 12.0]
    unnamed = forecast_message()
    del unnamed.bus_ids[:]
    server.on("ForecastLoad", answering(pb.ForecastLoadResponse(forecast=unnamed)))
    forecast = client.forecast_load(HISTORY, DAY)
    with pytest.raises(ValueError, match="give bus_ids"):
        forecast.by_bus(forecast.mean_kw)


def test_the_horizon_follows_the_history(asked: Any) -> None:
    request = asked(HISTORY, DAY)
    assert request.history.step_count == 47
    assert TimeGrid.from_message(request.horizon) == TimeGrid(HISTORY_INDEX[-1] + DAY / 24, DAY / 24, 24)
    assert list(request.meter_ids) == ["m-1", "2"]
    assert list(request.history_kw) == [*np.arange(47.0), *[1.0] * 47]
    assert not len(request.quantiles)
    assert not request.HasField("backtest_days")


def test_the_horizon_may_have_an_axis_of_its_own(asked: Any) -> None:
    index = pd.date_range("2026-03-30 06:00", periods=3, freq="h", tz="UTC")
    for horizon in (index, TimeGrid.from_index(index)):
        request = asked(HISTORY, horizon, quantiles=[0.05, 0.95], backtest_days=7)
        assert TimeGrid.from_message(request.horizon) == TimeGrid.from_index(index)
        assert list(request.calendar.horizon_utc_offset_s) == [7200]
    assert list(request.quantiles) == [0.05, 0.95]
    assert request.backtest_days == 7


def test_the_time_zone_of_the_history_is_local_time(asked: Any) -> None:
    calendar = asked(HISTORY, DAY).calendar
    assert list(calendar.history_utc_offset_s) == [3600] * 26 + [7200] * 21
    assert list(calendar.horizon_utc_offset_s) == [7200]
    assert not len(calendar.history_day_types)
    assert list(asked(HISTORY.tz_convert("UTC"), DAY).calendar.history_utc_offset_s) == [0]


def test_holidays_are_kinds_of_days(asked: Any) -> None:
    calendar = asked(HISTORY, 2 * DAY, holidays=[date(2026, 3, 31)]).calendar
    assert list(calendar.history_day_types) == [SATURDAY] * 24 + [HOLIDAY] * 23
    assert list(calendar.horizon_day_types) == [WORKDAY] * 24 + [HOLIDAY] * 24


def test_what_was_not_measured_is_told(asked: Any) -> None:
    history = HISTORY.copy()
    history.iloc[[3, 46], 0] = np.nan
    history.iloc[0, 1] = np.nan
    request = asked(history, DAY)
    assert list(request.missing) == [3, 46, 47]
    assert np.isfinite(request.history_kw).all()


def test_weather_is_cut_to_history_and_horizon(asked: Any) -> None:
    index = pd.date_range("2026-03-28 01:00", periods=60, freq="h", tz="Europe/Copenhagen")
    weather = pd.DataFrame({"temperature_c": np.arange(60.0)}, index=index.tz_convert("UTC"))
    weather.iloc[1, 0] = np.nan
    (column,) = asked(HISTORY, DAY, weather=weather).weather
    assert column.name == "temperature_c"
    assert list(column.history[:4]) == [0.0, 0.0, 0.0, 2.0]
    assert list(column.history_missing) == [0, 2]
    assert list(column.horizon[:3]) == [46.0, 47.0, 48.0]
    assert list(column.horizon_missing) == list(range(14, 24))


@pytest.mark.parametrize(
    ("history", "horizon", "weather", "field", "problem"),
    [
        (HISTORY.tz_localize(None), DAY, None, "history_kw", "must have a time zone"),
        (HISTORY.reset_index(drop=True), DAY, None, "history_kw", "the index must be the start of each step"),
        (HISTORY, timedelta(minutes=90), None, "history_kw", "whole number of steps"),
        (HISTORY, -DAY, None, "history_kw", "whole number of steps"),
        (HISTORY.assign(x="y"), DAY, None, "history_kw", "could not convert"),
        (HISTORY, DAY, HISTORY.tz_localize(None), "weather", "times with a time zone, each once"),
        (HISTORY, DAY, pd.concat([HISTORY, HISTORY]), "weather", "each once"),
        (HISTORY, DAY, HISTORY.assign(sky="blue"), "weather", "could not convert"),
    ],
)
def test_what_cannot_be_written_is_told_before_it_is_sent(
    client: Any, server: FakeServer, history: Any, horizon: Any, weather: Any, field: str, problem: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.forecast_load(history, horizon, weather=weather)
    assert refused.value.violations[0].field == field
    assert problem in refused.value.violations[0].description
    assert server.calls == []
