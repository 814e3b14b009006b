"""Load to come: the history of meters out, quantiles by time and meter in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.congestion.injections import by_row
from evflex.client.enums import short_name
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_service_pb2 as pb
from evflex.congestion.v1 import load_forecast_pb2

_SATURDAY, _SUNDAY = 5, 6
_DAY_TYPES = (
    load_forecast_pb2.DAY_TYPE_WORKDAY, load_forecast_pb2.DAY_TYPE_SATURDAY, load_forecast_pb2.DAY_TYPE_HOLIDAY
)  # fmt: skip
_BACKTEST = ("reading_count", "pinball_kw", "last_week_pinball_kw", "same_slot_pinball_kw", "coverage_ratio")

Horizon = timedelta | TimeGrid | pd.DatetimeIndex
"""Time axis of a forecast, or how long it goes on after the history."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadForecastRequest:
    """Meters whose load is to be forecast; attributes as the parameters of ``EvflexClient.forecast_load``."""

    history_kw: pd.DataFrame
    horizon: Horizon
    weather: pd.DataFrame | None = None
    quantiles: Sequence[float] = ()
    holidays: Collection[date] = ()
    bus_ids: Sequence[str] = ()
    backtest_days: int | None = None

    def to_message(self) -> pb.ForecastLoadRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each field that cannot be written.
        """
        try:
            history, local = _axis(self.history_kw.index)
            horizon, local_horizon = self._horizon(history, local)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError.before_sending([Violation("history_kw", str(error))]) from None
        violations: list[Violation] = []
        message = pb.ForecastLoadRequest(
            history=history.to_message(),
            horizon=horizon.to_message(),
            meter_ids=[str(meter) for meter in self.history_kw.columns],
            bus_ids=[str(bus_id) for bus_id in self.bus_ids],
            quantiles=list(self.quantiles),
            backtest_days=self.backtest_days,
            calendar=self._calendar(local, local_horizon),
        )
        try:
            readings, missing = _with_gaps(by_row(self.history_kw))
            message.history_kw.extend(readings)
            message.missing.extend(missing)
        except (TypeError, ValueError) as error:
            violations.append(Violation("history_kw", str(error)))
        try:
            message.weather.extend(self._weather(history.index, horizon.index))
        except (TypeError, ValueError) as error:
            violations.append(Violation("weather", str(error)))
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message

    def _horizon(self, history: TimeGrid, local: pd.DatetimeIndex) -> tuple[TimeGrid, pd.DatetimeIndex]:
        given = self.horizon
        if isinstance(given, pd.DatetimeIndex):
            grid, _ = _axis(given)
        elif isinstance(given, TimeGrid):
            grid = given
        else:
            count, rest = divmod(given, history.step_duration)
            if rest or count < 1:
                raise ValueError(f"horizon must be a whole number of steps of {history.step_duration}, is {given}")
            end = history.start_time + history.step_count * history.step_duration
            grid = TimeGrid(end, history.step_duration, count)
        return grid, grid.index.tz_convert(local.tz)

    def _calendar(self, local: pd.DatetimeIndex, local_horizon: pd.DatetimeIndex) -> load_forecast_pb2.LoadCalendar:
        return load_forecast_pb2.LoadCalendar(
            history_utc_offset_s=_utc_offset_s(local),
            horizon_utc_offset_s=_utc_offset_s(local_horizon),
            history_day_types=self._day_types(local),
            horizon_day_types=self._day_types(local_horizon),
        )

    def _day_types(self, local: pd.DatetimeIndex) -> list[load_forecast_pb2.DayType]:
        """Kind of day of each step; none where there are no holidays, since the server knows the days of the week."""
        if not len(self.holidays):
            return []
        holidays = {pd.Timestamp(day).date() for day in self.holidays}
        holiday = np.array([day in holidays for day in local.date])
        kinds = np.where(holiday | (local.day_of_week == _SUNDAY), 2, np.where(local.day_of_week == _SATURDAY, 1, 0))
        return [_DAY_TYPES[kind] for kind in kinds.tolist()]

    def _weather(self, history: pd.DatetimeIndex, horizon: pd.DatetimeIndex) -> list[load_forecast_pb2.WeatherColumn]:
        if self.weather is None:
            return []
        index = self.weather.index
        if not isinstance(index, pd.DatetimeIndex) or index.tz is None or index.has_duplicates:
            raise ValueError("the index must be times with a time zone, each once")
        table = self.weather.set_axis(index.tz_convert("UTC"))
        columns = []
        for place, name in enumerate(table.columns):
            values = table.iloc[:, place]
            past, past_missing = _with_gaps(values.reindex(history).to_numpy(dtype=np.float64))
            ahead, ahead_missing = _with_gaps(values.reindex(horizon).to_numpy(dtype=np.float64))
            columns.append(
                load_forecast_pb2.WeatherColumn(
                    name=str(name), history=past, horizon=ahead, history_missing=past_missing,
                    horizon_missing=ahead_missing,
                )
            )  # fmt: skip
        return columns


@dataclass(frozen=True, slots=True, eq=False)
class LoadForecast:
    """Load to come. Rows of tables by time are steps (UTC); consumption is positive.

    Attributes:
        time_grid: Time axis.
        quantiles: Quantiles, rising.
        quantile_kw: Power in kW by step; columns are meters and quantiles.
        mean_kw: Expected power in kW by step; columns are meters.
        standard_deviation_kw: Standard deviation in kW by step, NaN where only one quantile was asked for; columns are
            meters.
        meters: By ``meter_id``: ``bus_id`` (empty where it was not told), ``method`` (``BOOSTED``, ``EMPIRICAL``,
            ``LEVEL`` or ``NONE``), ``fallback_reason`` (why not better, else empty), ``boosted_ratio`` (weight of the
            boosted trees), and what a forecast was worth on days that it had not seen: ``reading_count``,
            ``pinball_kw`` (mean pinball loss), ``last_week_pinball_kw`` and ``same_slot_pinball_kw`` (that of naive
            forecasts), ``coverage_ratio`` (readings between the outer quantiles).
    """

    time_grid: TimeGrid
    quantiles: tuple[float, ...]
    quantile_kw: pd.DataFrame
    mean_kw: pd.DataFrame
    standard_deviation_kw: pd.DataFrame
    meters: pd.DataFrame

    @classmethod
    def from_message(cls, message: load_forecast_pb2.LoadForecast) -> LoadForecast:
        """Read a forecast of the contract."""
        grid = TimeGrid.from_message(message.horizon)
        meters = pd.Index(list(message.meter_ids), name="meter_id", dtype=object)
        pairs = pd.MultiIndex.from_product([meters, list(message.quantiles)], names=["meter_id", "quantile"])
        shape = (len(meters), grid.step_count, len(message.quantiles))
        by_step = np.asarray(message.quantile_kw, dtype=np.float64).reshape(shape).swapaxes(0, 1)
        return cls(
            time_grid=grid,
            quantiles=tuple(message.quantiles),
            quantile_kw=pd.DataFrame(by_step.reshape(grid.step_count, -1), index=grid.index, columns=pairs),
            mean_kw=_by_meter(message.mean_kw, grid, meters),
            standard_deviation_kw=_by_meter(message.standard_deviation_kw, grid, meters),
            meters=_meters(message, meters),
        )

    def by_bus(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A table whose columns are meters with their buses as columns: what :class:`Injections` take.

        Args:
            frame: ``mean_kw``, ``standard_deviation_kw``, or one quantile of ``quantile_kw``.

        Raises:
            ValueError: The buses of the meters were not told.
        """
        buses = self.meters["bus_id"].reindex(frame.columns)
        if (buses == "").any() or buses.isna().any():
            raise ValueError("the buses of the meters were not told; give bus_ids to forecast_load")
        return frame.set_axis(pd.Index(buses.to_numpy(), name="bus_id", dtype=object), axis="columns")


def _axis(index: pd.Index) -> tuple[TimeGrid, pd.DatetimeIndex]:
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError("the index must be the start of each step, with a time zone")
    return TimeGrid.from_index(index), index


def _utc_offset_s(local: pd.DatetimeIndex) -> list[int]:
    """Local time less UTC, one number where it never changes."""
    offsets = local.tz_localize(None) - local.tz_convert("UTC").tz_localize(None)
    seconds: list[int] = (offsets // pd.Timedelta(seconds=1)).astype("int64").tolist()
    return seconds[:1] if len(set(seconds)) == 1 else seconds


def _with_gaps(values: NDArray[np.float64]) -> tuple[list[float], list[int]]:
    """Values, and places of those that are missing, where 0 stands."""
    missing = np.isnan(values)
    return np.where(missing, 0.0, values).tolist(), np.flatnonzero(missing).tolist()


def _by_meter(flat: Sequence[float], grid: TimeGrid, meters: pd.Index) -> pd.DataFrame:
    matrix = np.asarray(flat, dtype=np.float64).reshape(len(meters), grid.step_count).T
    return pd.DataFrame(matrix, index=grid.index, columns=meters)


def _meters(message: load_forecast_pb2.LoadForecast, meters: pd.Index) -> pd.DataFrame:
    reasons = [
        short_name(load_forecast_pb2.FallbackReason, "FALLBACK_REASON_", reason) if reason else ""
        for reason in message.fallback_reasons
    ]
    methods = load_forecast_pb2.LoadForecastMethod
    columns = {
        "bus_id": list(message.bus_ids) or [""] * len(meters),
        "method": [short_name(methods, "LOAD_FORECAST_METHOD_", method) for method in message.methods],
        "fallback_reason": reasons,
        "boosted_ratio": np.asarray(message.boosted_ratio, dtype=np.float64),
    }
    return pd.DataFrame(
        columns | {name: np.asarray(getattr(message.backtest, name)) for name in _BACKTEST}, index=meters
    )
