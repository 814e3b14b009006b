"""Readings laid out by local day and slot of the day, so that "the same slot yesterday" is a look-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evflex.engine.load.model import DAY_S, DayType, LoadForecastProblem
from evflex.engine.supply_tree import FloatArray, IntArray

_Number = TypeVar("_Number", np.float64, np.int64)
# 1970-01-01 was a Thursday; Monday is 0.
_EPOCH_WEEKDAY = 3
# Rounding of unix seconds must not shift a step into the slot before.
_TIME_TOLERANCE_S = 1e-3
# Days of the same kind that quantiles of a slot are drawn from: those of about 2½ and 6 weeks.
_SAME_KIND_DAYS = {DayType.WORKDAY: 12, DayType.SATURDAY: 6, DayType.HOLIDAY: 6}
_MOST_SAME_KIND_DAYS = max(_SAME_KIND_DAYS.values())
NO_STEP = -1


@dataclass(frozen=True, slots=True)
class Panel:
    """Readings, and where each step lies in local time; N covers history, lead and horizon, T the history alone.

    Attributes:
        readings_kw: NaN where missing, (meters, T).
        known_kw: Running sum of readings before each step, (meters, T + 1).
        known_count: Running number of readings before each step, (meters, T + 1).
        slots_per_day: Steps of a day.
        day: Local day of each step, counted from that of the first, (N,).
        slot: Slot of the local day, (N,).
        weekday: Of each step, Monday 0; of a holiday that of Sunday, as of any day the one whose kind it has, (N,).
        calendar_weekday: Of each step, Monday 0, (N,).
        day_type: Of each step, (N,).
        step_of: Last step of the history in each local day and slot, or NO_STEP, (days, slots).
        same_kind_days: The last days of a kind up to each day, latest first, −1 where there are no more, (4, days, d).
        weather: Columns over all steps, NaN where missing and in the lead, (columns, N).
    """

    readings_kw: FloatArray
    known_kw: FloatArray
    known_count: IntArray
    slots_per_day: int
    day: IntArray
    slot: IntArray
    weekday: IntArray
    calendar_weekday: IntArray
    day_type: IntArray
    step_of: IntArray
    same_kind_days: IntArray
    weather: FloatArray

    @property
    def step_count(self) -> int:
        """Steps of the history."""
        return self.readings_kw.shape[1]

    def reading(self, meter: IntArray, step: IntArray, origin: IntArray) -> FloatArray:
        """Readings in kW at steps that lie before the origin, NaN elsewhere; the arrays broadcast."""
        known = (step >= 0) & (step < origin)
        return np.where(known, self.readings_kw[meter, np.where(known, step, 0)], np.nan)

    def step_at(self, day: IntArray, slot: IntArray) -> IntArray:
        """Steps of the history at local days and slots, NO_STEP where there is none; the arrays broadcast."""
        inside = (day >= 0) & (day < self.step_of.shape[0]) & (slot >= 0) & (slot < self.slots_per_day)
        return np.where(inside, self.step_of[np.where(inside, day, 0), np.where(inside, slot, 0)], NO_STEP)

    def mean_before(self, meter: IntArray, end: IntArray, count: int) -> FloatArray:
        """Mean of the readings in kW of the last ``count`` steps before step ``end``, NaN where there is none."""
        end = np.clip(end, 0, self.step_count)
        begin = np.maximum(end - count, 0)
        readings = self.known_count[meter, end] - self.known_count[meter, begin]
        total = self.known_kw[meter, end] - self.known_kw[meter, begin]
        return np.where(readings > 0, total / np.maximum(readings, 1), np.nan)


def lay_out(problem: LoadForecastProblem) -> Panel:
    """The panel of a sound problem."""
    history, steps = problem.history, problem.history.step_count
    first = steps + problem.lead_steps
    count, horizon = first + problem.horizon.step_count, slice(first, None)
    calendar = problem.calendar
    offset_s = np.zeros(count)
    offset_s[:steps] = _filled(calendar.history_utc_offset_s, steps, 0.0)
    offset_s[horizon] = _filled(calendar.horizon_utc_offset_s, problem.horizon.step_count, 0.0)
    if problem.lead_steps:
        offset_s[steps:first] = offset_s[first]
    local_s = history.start_unix_s + history.step_s * np.arange(count) + offset_s + _TIME_TOLERANCE_S
    unix_day = np.floor(local_s / DAY_S).astype(np.int64)
    slots = round(DAY_S / history.step_s)
    slot = np.minimum((local_s - unix_day * DAY_S) // history.step_s, slots - 1).astype(np.int64)
    weekday = (unix_day + _EPOCH_WEEKDAY) % 7
    day = unix_day - unix_day.min()
    by_weekday = np.where(weekday < 5, DayType.WORKDAY, np.where(weekday == 5, DayType.SATURDAY, DayType.HOLIDAY))
    day_type = by_weekday.astype(np.int64)
    for part, given in ((slice(0, steps), calendar.history_day_types), (horizon, calendar.horizon_day_types)):
        if given.shape[0]:
            day_type[part] = given
    step_of = np.full((int(day.max()) + 1, slots), NO_STEP)
    # where clocks go back two steps share a slot, and the later one is kept
    step_of[day[:steps], slot[:steps]] = np.arange(steps)
    known = ~np.isnan(problem.history_kw)
    weather = np.full((len(problem.weather), count), np.nan)
    for row, column in zip(weather, problem.weather, strict=True):
        row[:steps], row[horizon] = column.history, column.horizon
    return Panel(
        problem.history_kw, _running(np.where(known, problem.history_kw, 0.0)), _running(known.astype(np.int64)),
        slots, day, slot, _weekday_of(day_type, weekday), weekday, day_type, step_of,
        _same_kind_days(day[:steps], day_type[:steps], len(step_of)),
        weather,
    )  # fmt: skip


def _weekday_of(day_type: IntArray, weekday: IntArray) -> IntArray:
    """Monday to Friday of a working day, else Saturday or Sunday."""
    working = np.minimum(weekday, 4)
    return np.select([day_type == DayType.SATURDAY, day_type == DayType.HOLIDAY], [5, 6], working)


def _filled(values: FloatArray, steps: int, default: float) -> FloatArray:
    return np.broadcast_to(values if values.shape[0] else default, (steps,))


def _running(values: NDArray[_Number]) -> NDArray[_Number]:
    total = np.zeros((values.shape[0], values.shape[1] + 1), dtype=values.dtype)
    np.cumsum(values, axis=1, out=total[:, 1:])
    return total


def _same_kind_days(day: IntArray, day_type: IntArray, days: int) -> IntArray:
    """Last days of the history of each kind, up to each day."""
    kind_of = np.zeros(days, dtype=np.int64)
    kind_of[day] = day_type
    found = np.full((max(DayType) + 1, days, _MOST_SAME_KIND_DAYS), -1)
    for kind, most in _SAME_KIND_DAYS.items():
        of_kind = np.flatnonzero(kind_of == kind)
        up_to = np.searchsorted(of_kind, np.arange(days), side="right")
        for back in range(most):
            there = up_to > back
            found[kind, there, back] = of_kind[up_to[there] - 1 - back]
    return found
