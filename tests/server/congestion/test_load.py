"""Forecasts of load: what is asked reaches the engine, what it answers reaches the caller, and faults are named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.common.v1 import time_grid_pb2
from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.congestion.v1 import congestion_service_pb2_grpc, load_forecast_pb2
from evflex.engine.load import BackTest, LoadForecast, LoadForecastOptions, LoadForecastProblem
from evflex.engine.validation import InvalidProblemError, Violation
from evflex.server.app import Server
from tests.server.congestion.support import FakeGridEngine, RunningCongestion, refused, running_congestion
from tests.server.support import START_S, info_of, open_channel, reason_of, settings_for, until, violations_of

HOURS = 48
DAY_START_S = START_S - START_S % 86_400


@dataclass
class FakeLoadEngine(FakeGridEngine):
    """Forecasts numbers that tell their place."""

    problems: list[tuple[LoadForecastProblem, LoadForecastOptions]] = field(default_factory=list)
    load_error: Exception | None = None

    def forecast_load(self, problem: LoadForecastProblem, options: LoadForecastOptions) -> LoadForecast:
        self.problems.append((problem, options))
        self.started.release()
        if self.hold:
            self.release.wait(30.0)
        if self.load_error is not None:
            raise self.load_error
        return forecast_of(problem)


def forecast_of(problem: LoadForecastProblem) -> LoadForecast:
    meters, steps, levels = len(problem.meter_ids), problem.horizon.step_count, len(problem.quantiles)
    each = np.arange(float(meters))
    quantile_kw = np.arange(float(meters * steps * levels)).reshape(meters, steps, levels)
    return LoadForecast(
        problem.meter_ids, problem.horizon, problem.quantiles, quantile_kw, quantile_kw.mean(axis=2) + 0.25,
        np.full(meters, 1), np.full(meters, 0), each / 10.0,
        BackTest(np.full(meters, 7), each, each + 1.0, each + 2.0, np.full(meters, np.nan)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCongestion]:
    with running_congestion(tmp_path_factory.mktemp("server"), FakeLoadEngine()) as server:
        yield server


def axis(steps: int, after: int = 0, step_s: int = 3600) -> time_grid_pb2.TimeGrid:
    return time_grid_pb2.TimeGrid(
        start_time=Timestamp(seconds=DAY_START_S + after * step_s), step_duration=Duration(seconds=step_s),
        step_count=steps,
    )  # fmt: skip


def load_request(**fields: Any) -> api.ForecastLoadRequest:
    values = {
        "history": axis(HOURS), "horizon": axis(3, HOURS), "meter_ids": ["m-1", "m-2"],
        "history_kw": np.arange(2.0 * HOURS).tolist(), **fields,
    }  # fmt: skip
    return api.ForecastLoadRequest(**values)


def weather(**fields: Any) -> load_forecast_pb2.WeatherColumn:
    values = {"name": "temperature_c", "history": [1.0] * HOURS, "horizon": [2.0] * 3, **fields}
    return load_forecast_pb2.WeatherColumn(**values)


def calendar(**fields: Any) -> load_forecast_pb2.LoadCalendar:
    return load_forecast_pb2.LoadCalendar(**fields)


def asked(here: RunningCongestion, **fields: Any) -> tuple[load_forecast_pb2.LoadForecast, LoadForecastProblem]:
    answer = here.congestion.ForecastLoad(load_request(**fields), timeout=60.0).forecast
    assert isinstance(here.engine, FakeLoadEngine)
    return answer, here.engine.problems[-1][0]


def test_the_engine_gets_what_was_asked(here: RunningCongestion) -> None:
    _, problem = asked(
        here, missing=[1, HOURS], quantiles=[0.2, 0.8], weather=[weather(history_missing=[3], horizon_missing=[0, 2])],
        calendar=calendar(
            history_utc_offset_s=[3600], horizon_utc_offset_s=[0, 3600, 3600],
            history_day_types=[load_forecast_pb2.DAY_TYPE_WORKDAY], horizon_day_types=[3, 3, 2],
        ),
    )  # fmt: skip
    expected = np.arange(2.0 * HOURS)
    expected[[1, HOURS]] = np.nan
    np.testing.assert_array_equal(problem.history_kw, expected.reshape(2, HOURS))
    assert problem.meter_ids == ("m-1", "m-2")
    assert (problem.history.step_count, problem.horizon.step_count, problem.lead_steps) == (HOURS, 3, 0)
    assert problem.quantiles.tolist() == [0.2, 0.8]
    (column,) = problem.weather
    assert np.flatnonzero(np.isnan(column.history)).tolist() == [3]
    np.testing.assert_array_equal(column.horizon, [np.nan, 2.0, np.nan])
    assert problem.calendar.history_utc_offset_s.tolist() == [3600.0]
    assert problem.calendar.horizon_utc_offset_s.tolist() == [0.0, 3600.0, 3600.0]
    assert problem.calendar.history_day_types.tolist() == [1]
    assert problem.calendar.horizon_day_types.tolist() == [3, 3, 2]


def test_the_answer_is_the_engines(here: RunningCongestion) -> None:
    answer, problem = asked(here, bus_ids=["b", "b"])
    expected = forecast_of(problem)
    assert answer.horizon == axis(3, HOURS)
    assert (list(answer.meter_ids), list(answer.bus_ids)) == (["m-1", "m-2"], ["b", "b"])
    assert list(answer.quantiles) == [0.1, 0.5, 0.9]
    for name in ("quantile_kw", "mean_kw", "standard_deviation_kw", "boosted_ratio"):
        np.testing.assert_allclose(getattr(answer, name), getattr(expected, name).ravel())
    assert list(answer.methods) == [load_forecast_pb2.LOAD_FORECAST_METHOD_BOOSTED] * 2
    assert list(answer.fallback_reasons) == [load_forecast_pb2.FALLBACK_REASON_UNSPECIFIED] * 2
    assert list(answer.backtest.reading_count) == [7, 7]
    assert list(answer.backtest.same_slot_pinball_kw) == [2.0, 3.0]
    assert np.isnan(answer.backtest.coverage_ratio).all()


def test_a_backtest_may_be_left_out(here: RunningCongestion) -> None:
    assert isinstance(here.engine, FakeLoadEngine)
    asked(here, backtest_days=0)
    assert here.engine.problems[-1][1].backtest_days == 0
    asked(here)
    assert here.engine.problems[-1][1].backtest_days == LoadForecastOptions().backtest_days


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"history": axis(0)}, "history.step_count"),
        ({"history": axis(HOURS, step_s=7)}, "history.step_duration"),
        ({"history": time_grid_pb2.TimeGrid()}, "history.start_time"),
        ({"horizon": axis(3, HOURS - 1)}, "horizon.start_time"),
        ({"horizon": axis(3, HOURS, 1800)}, "horizon.step_duration"),
        ({"horizon": axis(-1)}, "horizon.step_count"),
        ({"meter_ids": [], "history_kw": []}, "meter_ids"),
        ({"meter_ids": ["m-1", "m-1"]}, "meter_ids[1]"),
        ({"meter_ids": ["m-1", ""]}, "meter_ids[1]"),
        ({"meter_ids": ["m-1", "a\n"]}, "meter_ids[1]"),
        ({"bus_ids": ["b"]}, "bus_ids"),
        ({"history_kw": [1.0]}, "history_kw"),
        ({"history_kw": [np.nan] * 2 * HOURS}, "history_kw[0]"),
        ({"history_kw": [1e10] * 2 * HOURS}, "history_kw[0][0]"),
        ({"missing": [2 * HOURS]}, "missing[0]"),
        ({"missing": [-1]}, "missing[0]"),
        ({"missing": [3, 3]}, "missing[1]"),
        ({"quantiles": [0.0]}, "quantiles[0]"),
        ({"quantiles": [0.5, 0.5]}, "quantiles[1]"),
        ({"quantiles": [0.001 * k for k in range(1, 101)]}, "quantiles"),
        ({"weather": [weather(name="")]}, "weather[0].name"),
        ({"weather": [weather(), weather()]}, "weather[1].name"),
        ({"weather": [weather(history=[1.0])]}, "weather[0].history"),
        ({"weather": [weather(horizon=[np.inf, 1.0, 1.0])]}, "weather[0].horizon[0]"),
        ({"weather": [weather(horizon_missing=[9])]}, "weather[0].horizon_missing[0]"),
        ({"calendar": calendar(history_utc_offset_s=[1, 2])}, "calendar.history_utc_offset_s"),
        ({"calendar": calendar(horizon_utc_offset_s=[90_000])}, "calendar.horizon_utc_offset_s[0]"),
        ({"calendar": calendar(history_day_types=[9])}, "calendar.history_day_types[0]"),
        ({"backtest_days": -1}, "backtest_days"),
    ],
)
def test_what_breaks_a_rule_is_named(here: RunningCongestion, fields: dict[str, Any], path: str) -> None:
    assert isinstance(here.engine, FakeLoadEngine)
    count = len(here.engine.problems)
    error = refused(here.congestion.ForecastLoad, load_request(**fields))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert path in violations_of(error)
    assert len(here.engine.problems) == count


def test_what_the_engine_refuses_is_named_too(tmp_path: Path) -> None:
    engine = FakeLoadEngine(load_error=InvalidProblemError([Violation("history_kw", "must be likely")]))
    with running_congestion(tmp_path, engine) as here:
        assert list(violations_of(refused(here.congestion.ForecastLoad, load_request()))) == ["history_kw"]


def test_an_answer_too_large_is_refused_before_it_is_made(here: RunningCongestion) -> None:
    many = [0.01 * k for k in range(1, 100)]
    error = refused(here.congestion.ForecastLoad, load_request(horizon=axis(5_000, HOURS), quantiles=many))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info_of(error)["limit"] == "max_unary_answer_bytes"
    assert "fewer meters" in error.details()


def test_too_many_steps_are_refused(tmp_path: Path) -> None:
    with running_congestion(tmp_path, FakeLoadEngine(), max_steps=24) as here:
        assert info_of(refused(here.congestion.ForecastLoad, load_request()))["limit"] == "max_steps"


def test_a_client_that_leaves_gets_nothing_and_frees_the_thread(tmp_path: Path) -> None:
    engine = FakeLoadEngine(hold=True)
    with running_congestion(tmp_path, engine) as here:
        call = here.congestion.ForecastLoad.future(load_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        call.cancel()
        engine.release.set()
        until(lambda: here.server.pool.load() == (0, 0))


def test_a_full_queue_is_unavailable(tmp_path: Path) -> None:
    engine = FakeLoadEngine(hold=True)
    with running_congestion(tmp_path, engine, solve_threads=1, solve_queue_limit=0) as here:
        first = here.congestion.ForecastLoad.future(load_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        assert reason_of(refused(here.congestion.ForecastLoad, load_request())) == "QUEUE_FULL"
        engine.release.set()
        assert first.result().forecast.meter_ids


def test_the_engine_itself_forecasts_a_load_that_repeats(tmp_path: Path) -> None:
    hours = 24 * 35
    day = 3.0 - 2.0 * np.cos(2.0 * np.pi * np.arange(24) / 24.0)
    server = Server(settings_for(tmp_path, warm_up=False))
    with server, open_channel(server.port) as channel:
        stub: Any = congestion_service_pb2_grpc.CongestionServiceStub(channel)
        request = load_request(
            history=axis(hours), horizon=axis(24, hours), meter_ids=["m", "none"],
            history_kw=[*np.tile(day, 35), *np.zeros(hours)], missing=list(range(hours, 2 * hours)), backtest_days=7,
        )  # fmt: skip
        forecast = stub.ForecastLoad(request, timeout=60.0).forecast
    mean_kw = np.array(forecast.mean_kw).reshape(2, 24)
    np.testing.assert_allclose(mean_kw[0], day, atol=0.3)
    assert np.isnan(mean_kw[1]).all()
    assert list(forecast.methods)[1] == load_forecast_pb2.LOAD_FORECAST_METHOD_NONE
    assert list(forecast.fallback_reasons)[1] == load_forecast_pb2.FALLBACK_REASON_ALL_MISSING
