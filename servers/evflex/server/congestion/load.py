"""Forecasts of load: decoding, the forecast in the pool, and encoding."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evflex.congestion.v1 import congestion_service_pb2, load_forecast_pb2
from evflex.engine.load import Calendar, LoadForecast, LoadForecastOptions, LoadForecastProblem, WeatherColumn
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import InvalidProblemError, Rules
from evflex.server.calls import Call
from evflex.server.engine_port import CongestionEngine
from evflex.server.errors import invalid, invalid_problem, limit_exceeded
from evflex.server.fields import check_id, decode_grid, merged
from evflex.server.pool_run import PoolRun
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.wire import check_unary_size, packed_doubles

_Request = congestion_service_pb2.ForecastLoadRequest
_Forecast = load_forecast_pb2.LoadForecast
_Backtest = load_forecast_pb2.LoadBacktest
_DEFAULT_QUANTILES = (0.1, 0.5, 0.9)
_NUMBER_BYTES = 8
# Besides quantiles there are the mean and the standard deviation.
_MORE_COLUMNS = 2
_ARRAYS = ("quantile_kw", "mean_kw", "standard_deviation_kw", "boosted_ratio")
_BACKTEST_ARRAYS = ("pinball_kw", "last_week_pinball_kw", "same_slot_pinball_kw", "coverage_ratio")


@dataclass(frozen=True, slots=True)
class LoadForecaster:
    """Forecasts load.

    Attributes:
        settings: Limits.
        engine: Forecasts.
        pool: Where it does.
    """

    settings: Settings
    engine: CongestionEngine
    pool: SolvePool

    def forecast(self, request: _Request, call: Call) -> _Forecast:
        """The forecast that a request asks for.

        Raises:
            ServiceError: The request is refused, no thread is free, or nobody waits any more.
        """
        self._check_limits(request, call)
        problem, options = _decoded(request)

        def solve(_: threading.Event) -> _Forecast:
            try:
                return encode_load_forecast(request, self.engine.forecast_load(problem, options))
            except InvalidProblemError as error:
                raise invalid_problem(error) from error

        return PoolRun(self.pool.unary, call, solve, self.settings).result()

    def _check_limits(self, request: _Request, call: Call) -> None:
        settings = self.settings
        steps = max(request.history.step_count, request.horizon.step_count)
        if steps > settings.max_steps:
            raise limit_exceeded("max_steps", steps, settings.max_steps)
        columns = (len(request.quantiles) or len(_DEFAULT_QUANTILES)) + _MORE_COLUMNS
        size_bytes = _NUMBER_BYTES * len(request.meter_ids) * max(0, request.horizon.step_count) * columns
        check_unary_size(call.method, size_bytes, settings.max_unary_answer_bytes)


def _decoded(request: _Request) -> tuple[LoadForecastProblem, LoadForecastOptions]:
    """The engine's problem, every rule checked.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    wire = Rules()
    for path, names in (("meter_ids", request.meter_ids), ("bus_ids", request.bus_ids)):
        for i, name in enumerate(names):
            check_id(wire, f"{path}[{i}]", name)
    for i, column in enumerate(request.weather):
        check_id(wire, f"weather[{i}].name", column.name)
    history = decode_grid(wire, request.history, "history")
    horizon = decode_grid(wire, request.horizon, "horizon")
    meters, steps, ahead = len(request.meter_ids), history.known_step_count, horizon.known_step_count
    wire.length("bus_ids", len(request.bus_ids), (0, meters))
    cells = None if steps is None else meters * steps
    readings = _with_gaps(wire, "history_kw", request.history_kw, "missing", request.missing, cells)
    calendar = request.calendar
    problem = LoadForecastProblem(
        history=history,
        history_kw=readings.reshape(meters, steps or 0),
        meter_ids=tuple(request.meter_ids),
        horizon=horizon,
        quantiles=np.array(request.quantiles or _DEFAULT_QUANTILES, dtype=np.float64),
        calendar=Calendar(
            np.array(calendar.history_utc_offset_s, dtype=np.float64),
            np.array(calendar.horizon_utc_offset_s, dtype=np.float64),
            np.array(calendar.history_day_types, dtype=np.int64),
            np.array(calendar.horizon_day_types, dtype=np.int64),
        ),
        weather=tuple(
            _weather(wire, f"weather[{i}]", column, steps, ahead) for i, column in enumerate(request.weather)
        ),
    )
    options = LoadForecastOptions()
    if request.HasField("backtest_days"):
        options = LoadForecastOptions(backtest_days=request.backtest_days)
    rules = Rules()
    problem.validate(rules)
    options.validate(rules)
    if violations := merged(wire, rules):
        raise invalid(violations)
    return problem, options


def _weather(
    rules: Rules, path: str, column: load_forecast_pb2.WeatherColumn, steps: int | None, ahead: int | None
) -> WeatherColumn:
    return WeatherColumn(
        column.name,
        _with_gaps(rules, f"{path}.history", column.history, f"{path}.history_missing", column.history_missing, steps),
        _with_gaps(rules, f"{path}.horizon", column.horizon, f"{path}.horizon_missing", column.horizon_missing, ahead),
    )


def _with_gaps(
    rules: Rules, path: str, numbers: Sequence[float], gaps_path: str, gaps: Sequence[int], count: int | None
) -> FloatArray:
    """Numbers with NaN in their gaps; all NaN where they break a rule, which is reported; none of an unknown count."""
    if count is None:
        return np.empty(0)
    values, missing = np.array(numbers, dtype=np.float64), np.array(gaps, dtype=np.int64)
    nothing = np.full(count, np.nan)
    if not rules.length(path, len(values), (count,)):
        return nothing
    before = len(rules.violations)
    outside = np.flatnonzero((missing < 0) | (missing >= count))
    for k in outside.tolist():
        rules.check(False, f"{gaps_path}[{k}]", f"must be a place below {count}, is {missing[k]}")
    for k in (np.flatnonzero(np.diff(missing) <= 0) + 1).tolist():
        rules.check(False, f"{gaps_path}[{k}]", f"must exceed the one before, is {missing[k]}")
    if len(rules.violations) > before:
        return nothing
    values[missing] = 0.0
    if not rules.array(path, values, (count,)):
        return nothing
    values[missing] = np.nan
    return values


def encode_load_forecast(request: _Request, forecast: LoadForecast) -> _Forecast:
    """The forecast as a message."""
    message = _Forecast(
        horizon=request.horizon,
        meter_ids=request.meter_ids,
        bus_ids=request.bus_ids,
        quantiles=forecast.quantiles.tolist(),
        methods=forecast.methods.tolist(),
        fallback_reasons=forecast.fallback_reasons.tolist(),
    )
    numbers = _Forecast.DESCRIPTOR.fields_by_name
    for name in _ARRAYS:
        message.MergeFromString(packed_doubles(numbers[name].number, getattr(forecast, name).reshape(-1)))
    backtest = message.backtest
    backtest.reading_count.extend(forecast.backtest.reading_count.tolist())
    numbers = _Backtest.DESCRIPTOR.fields_by_name
    for name in _BACKTEST_ARRAYS:
        backtest.MergeFromString(packed_doubles(numbers[name].number, getattr(forecast.backtest, name)))
    return message
