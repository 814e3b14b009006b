"""What is asked: the load that meters will measure, from what they measured, the calendar and the weather."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

DAY_S = 86_400.0
MAX_QUANTILES = 99
_LARGEST_KW = 1e9
_LARGEST_UTC_OFFSET_S = 18 * 3600.0
# A start that lies off the history's steps by more than this share of a step belongs to another time axis.
_ALIGNED_RATIO = 1e-6


class DayType(IntEnum):
    """What kind of day it is at the meters."""

    WORKDAY = 1
    SATURDAY = 2
    HOLIDAY = 3  # and Sunday


@dataclass(frozen=True, slots=True)
class Calendar:
    """Local time and kinds of day; each array has length 0 (default), 1 (always) or one entry a step.

    An offset a step lets daylight saving change within: slots of the day are slots of local time.

    Attributes:
        history_utc_offset_s: Local time less UTC in each step of the history; 0 by default.
        horizon_utc_offset_s: The same in each step of the horizon.
        history_day_types: :class:`DayType` of each step of the history; by default from the local day of the week.
        horizon_day_types: The same in each step of the horizon.
    """

    history_utc_offset_s: FloatArray = field(default_factory=lambda: np.empty(0))
    horizon_utc_offset_s: FloatArray = field(default_factory=lambda: np.empty(0))
    history_day_types: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    horizon_day_types: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def validate(self, rules: Rules, history_steps: int, horizon_steps: int) -> None:
        """Report every broken rule."""
        for part, steps in (("history", history_steps), ("horizon", horizon_steps)):
            path, offset_s = f"calendar.{part}_utc_offset_s", getattr(self, f"{part}_utc_offset_s")
            if rules.array(path, offset_s, (0, 1, steps)):
                rule = f"must lie between ±{_LARGEST_UTC_OFFSET_S:g} s"
                _each(rules, path, np.abs(offset_s) <= _LARGEST_UTC_OFFSET_S, rule, offset_s)
            path, day_types = f"calendar.{part}_day_types", getattr(self, f"{part}_day_types")
            if rules.length(path, day_types.shape[0], (0, 1, steps)):
                _each(rules, path, np.isin(day_types, list(DayType)), "must be a kind of day", day_types)


@dataclass(frozen=True, slots=True)
class WeatherColumn:
    """One quantity of the weather, the same for all meters.

    Attributes:
        name: Unique, not empty, for example ``temperature_c``.
        history: As measured, or as forecast then, in each step of the history; NaN where missing.
        horizon: As forecast, in each step of the horizon; NaN where missing.
    """

    name: str
    history: FloatArray
    horizon: FloatArray


@dataclass(frozen=True, slots=True)
class LoadForecastProblem:
    """Meters to forecast. Quantiles of a sum are no sums of quantiles: for a bus, give the sum of its meters as one.

    Attributes:
        history: Time axis of the readings; its step divides a day. Its end is the time of the forecast.
        history_kw: Mean power in each step, consumption positive and feed-in negative, NaN where a reading is
            missing, (meters, history steps).
        meter_ids: Unique, not empty.
        horizon: Time axis of the forecast, same step, beginning a whole number of steps after the history's end.
        quantiles: Wanted, rising, each within (0, 1).
        calendar: Local time and kinds of day.
        weather: Columns that cover history and horizon.
    """

    history: TimeGrid
    history_kw: FloatArray
    meter_ids: tuple[str, ...]
    horizon: TimeGrid
    quantiles: FloatArray
    calendar: Calendar = field(default_factory=Calendar)
    weather: tuple[WeatherColumn, ...] = ()

    @property
    def lead_steps(self) -> int:
        """Steps between the history's end and the horizon's start."""
        return round((self.horizon.start_unix_s - self.history.end_unix_s) / self.history.step_s)

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        sound = self.history.validate(rules, "history")
        if not self.horizon.validate(rules, "horizon") or not sound:
            return
        self._validate_times(rules)
        self._validate_meters(rules)
        self._validate_quantiles(rules)
        steps, ahead = self.history.step_count, self.horizon.step_count
        self.calendar.validate(rules, steps, ahead)
        rules.identifiers("weather", "name", [column.name for column in self.weather])
        for i, column in enumerate(self.weather):
            for name, values, count in (("history", column.history, steps), ("horizon", column.horizon, ahead)):
                if rules.length(f"weather[{i}].{name}", values.shape[0], (count,)):
                    _each(rules, f"weather[{i}].{name}", ~np.isinf(values), "must not be infinite", values)

    def _validate_times(self, rules: Rules) -> None:
        step_s = self.history.step_s
        a_day = DAY_S / step_s
        rules.check(
            a_day == round(a_day), "history.step_duration", f"must divide a day of {DAY_S:g} s, is {step_s:g} s"
        )
        rules.check(
            self.horizon.step_s == step_s, "horizon.step_duration",
            f"must be that of the history, {step_s:g} s, is {self.horizon.step_s:g} s",
        )  # fmt: skip
        ahead = (self.horizon.start_unix_s - self.history.end_unix_s) / step_s
        rules.check(
            ahead > -_ALIGNED_RATIO, "horizon.start_time",
            f"must not lie before the history's end, lies {-ahead * step_s:g} s before it",
        )  # fmt: skip
        rules.check(
            abs(ahead - round(ahead)) <= _ALIGNED_RATIO, "horizon.start_time",
            f"must lie a whole number of steps after the history's end, lies {ahead:g} after it",
        )  # fmt: skip

    def _validate_meters(self, rules: Rules) -> None:
        rules.check(bool(self.meter_ids), "meter_ids", "must hold at least one meter")
        rules.identifiers("meter_ids", "", self.meter_ids)
        shape, wanted = self.history_kw.shape, (len(self.meter_ids), self.history.step_count)
        if shape != wanted:
            rules.check(False, "history_kw", f"must have shape {wanted}, has {shape}")
            return
        # NaN compares as False, and a missing reading is none too large
        bad = np.abs(self.history_kw) > _LARGEST_KW
        for i, k in np.argwhere(bad).tolist() if bad.any() else []:
            value = self.history_kw[i, k]
            rules.check(False, f"history_kw[{i}][{k}]", f"must be within ±{_LARGEST_KW:g}, is {value}")

    def _validate_quantiles(self, rules: Rules) -> None:
        count = len(self.quantiles)
        rules.check(0 < count <= MAX_QUANTILES, "quantiles", f"must hold 1 to {MAX_QUANTILES}, holds {count}")
        inside = (self.quantiles > 0.0) & (self.quantiles < 1.0)
        _each(rules, "quantiles", inside, "must lie within (0, 1)", self.quantiles)
        rising = np.concatenate([[True], ~(np.diff(self.quantiles) <= 0.0)])
        _each(rules, "quantiles", rising[:count], "must exceed the one before", self.quantiles)


@dataclass(frozen=True, slots=True)
class LoadForecastOptions:
    """How a forecast is made.

    Attributes:
        backtest_days: Days at the end of the history on which the forecast is tried, and the blend chosen; 0 for none.
        max_training_rows: Most samples that a model is trained on; time and memory grow with it.
        seed: Of the draw of samples.
    """

    backtest_days: int = 28
    max_training_rows: int = 40_000
    seed: int = 0

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        rules.check(self.backtest_days >= 0, "backtest_days", f"must be >= 0, is {self.backtest_days}")
        rules.check(self.max_training_rows >= 1, "max_training_rows", f"must be >= 1, is {self.max_training_rows}")
        rules.check(self.seed >= 0, "seed", f"must be >= 0, is {self.seed}")


def _each(rules: Rules, path: str, good: BoolArray, rule: str, values: NDArray[np.generic]) -> None:
    for k in np.flatnonzero(~good).tolist():
        rules.check(False, f"{path}[{k}]", f"{rule}, is {values[k]}")
