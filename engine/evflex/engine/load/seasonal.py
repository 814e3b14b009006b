"""Quantiles of the same slot on days of the same kind, and the seasonal-naive forecasts that a back-test compares."""

from __future__ import annotations

import numpy as np

from evflex.engine.load.panel import Panel
from evflex.engine.load.samples import Samples
from evflex.engine.supply_tree import FloatArray, IntArray

# Slots around that of the target, whose readings count as its own: a quarter-hour earlier or later is chance.
_NEIGHBOURS = np.array([-1, 0, 1])
_NAIVE_WEEKS = 4


def recent_readings(panel: Panel, samples: Samples) -> FloatArray:
    """Readings in kW around the same slot on the last days of the same kind, rising, NaN last, (n, readings)."""
    days = panel.same_kind_days[panel.day_type[samples.target], panel.day[samples.origin - 1]]
    slot = panel.slot[samples.target][:, None, None] + _NEIGHBOURS
    step = panel.step_at(days[:, :, None], slot).reshape(len(samples), days.shape[1] * len(_NEIGHBOURS))
    readings = panel.reading(samples.meter[:, None], step, samples.origin[:, None])
    readings.sort(axis=1)
    return readings


def quantiles_of(rising: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Quantiles of rows of rising numbers that end in NaN, (n, quantiles); NaN for a row of none.

    Hyndman and Fan's type 5: reading k of m, from 1, is the quantile (k − ½) / m.
    """
    count = (~np.isnan(rising)).sum(axis=1)[:, None]
    place = np.clip(quantiles * count - 0.5, 0.0, np.maximum(count - 1, 0))
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    row = np.arange(len(rising))[:, None]
    below, above = rising[row, low], rising[row, high]
    return below + (place - low) * (above - below)


def mean_of(rising: FloatArray) -> FloatArray:
    """Mean of each row but its NaN, (n,); NaN for a row of none."""
    count = (~np.isnan(rising)).sum(axis=1)
    total = np.where(count > 0, np.nansum(rising, axis=1), np.nan)
    return total / np.maximum(count, 1)


def last_week(panel: Panel, samples: Samples) -> FloatArray:
    """Readings in kW of the same slot on the latest same day of the week that is known, NaN where missing, (n,)."""
    return panel.reading(
        samples.meter, same_weekday_steps(panel, samples, panel.calendar_weekday, 1)[:, 0], samples.origin
    )


def naive_quantiles(panel: Panel, samples: Samples, quantiles: FloatArray) -> FloatArray:
    """Quantiles in kW of the same slot and kind of day in the last four weeks before the origin, (n, quantiles)."""
    last = panel.day[samples.origin - 1]
    days = last[:, None] - np.arange(7 * _NAIVE_WEEKS)
    step = panel.step_at(days, panel.slot[samples.target][:, None])
    same = panel.day_type[np.maximum(step, 0)] == panel.day_type[samples.target][:, None]
    readings = panel.reading(samples.meter[:, None], np.where(same, step, -1), samples.origin[:, None])
    readings.sort(axis=1)
    return quantiles_of(readings, quantiles)


def last_days(panel: Panel, samples: Samples) -> IntArray:
    """The latest local day on which the target's slot lies before the origin, (n,)."""
    day, slot = panel.day[samples.origin - 1], panel.slot[samples.target]
    return np.where(slot <= panel.slot[samples.origin - 1], day, day - 1)


def same_weekday_steps(panel: Panel, samples: Samples, weekday: IntArray, weeks: int) -> IntArray:
    """Steps of the target's slot on the last known days of its ``weekday``, latest first, (n, weeks)."""
    last = last_days(panel, samples)
    target = samples.target
    last_weekday = panel.calendar_weekday[target] + last - panel.day[target]
    latest = last - (last_weekday - weekday[target]) % 7
    return panel.step_at(latest[:, None] - 7 * np.arange(weeks), panel.slot[target][:, None])
