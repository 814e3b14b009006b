"""What the trees see of a sample: the calendar, the latest readings, the same slot of days before, and the weather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.load.panel import Panel
from evflex.engine.load.samples import Samples
from evflex.engine.load.seasonal import (
    last_days,
    mean_of,
    quantiles_of,
    recent_readings,
    same_weekday_steps,
)
from evflex.engine.supply_tree import FloatArray, IntArray

_LAG_DAYS, _LAG_WEEKS, _LATEST_READINGS = 7, 3, 4
_MEANS_H, _MEANS_DAYS = (1, 2, 4, 12), (1, 7, 28)
# Means around the slot, of the last days: half an hour to each side in steps of a quarter.
_AROUND_STEPS, _AROUND_DAYS = 5, 3
_SLOT_QUANTILES = np.array([0.05, 0.2, 0.5, 0.8, 0.95])
_LEVEL_QUANTILES = (0.1, 0.9)


@dataclass(frozen=True, slots=True)
class Levels:
    """What a meter is like, from readings before a step; the trees see readings as multiples of its level.

    Attributes:
        level_kw: Mean size of a reading, > 0, (meters,).
        shape: Spread, low and high quantile over level, (meters, 3).
    """

    level_kw: FloatArray
    shape: FloatArray


def levels_before(panel: Panel, end: int) -> Levels:
    """Levels from the readings of steps before ``end``; 1 kW for a meter without any, or with zeros only."""
    level_kw = np.ones(panel.readings_kw.shape[0])
    shape = np.full((len(level_kw), 1 + len(_LEVEL_QUANTILES)), np.nan)
    for i, row in enumerate(panel.readings_kw[:, :end]):
        known = row[~np.isnan(row)]
        # a meter of zeros only is not boosted, but must not divide by zero
        if np.any(known != 0.0):
            level_kw[i] = np.abs(known).mean()
            shape[i] = np.array([known.std(), *np.quantile(known, _LEVEL_QUANTILES)]) / level_kw[i]
    return Levels(level_kw, shape)


def features(panel: Panel, samples: Samples, levels: Levels) -> FloatArray:
    """One row a sample, from nothing but calendar, weather and readings before the origin; NaN where unknown."""
    meter, origin, target = samples.meter, samples.origin, samples.target
    slot, hour = panel.slot[target], panel.slots_per_day / 24.0
    last = last_days(panel, samples)
    day_steps = panel.step_at(last[:, None] - np.arange(_LAG_DAYS), slot[:, None])
    week_steps = same_weekday_steps(panel, samples, panel.weekday, _LAG_WEEKS)
    steps = np.concatenate(
        [day_steps, week_steps, origin[:, None] - 1 - np.arange(_LATEST_READINGS)], axis=1
    )  # fmt: skip
    rising = recent_readings(panel, samples)
    around_end = np.minimum(day_steps[:, :_AROUND_DAYS] + _AROUND_STEPS // 2 + 1, origin[:, None])
    around_end[day_steps[:, :_AROUND_DAYS] < 0] = 0
    counts = [max(1, round(h * hour)) for h in _MEANS_H] + [d * panel.slots_per_day for d in _MEANS_DAYS]
    powers_kw = np.concatenate(
        [
            panel.reading(meter[:, None], steps, origin[:, None]),
            np.stack([panel.mean_before(meter, origin, count) for count in counts], axis=1),
            np.stack([panel.mean_before(meter, end, _AROUND_STEPS) for end in around_end.T], axis=1),
            quantiles_of(rising, _SLOT_QUANTILES), mean_of(rising)[:, None],
        ], axis=1,
    )  # fmt: skip
    calendar = np.stack(
        [slot, panel.weekday[target], panel.day_type[target], (target - origin) // samples.lead_unit], axis=1
    )
    return np.concatenate(
        [
            calendar, powers_kw / levels.level_kw[meter][:, None], levels.shape[meter],
            _weather(panel, samples, np.concatenate([day_steps[:, :1], week_steps[:, :1]], axis=1)),
        ], axis=1,
    )  # fmt: skip


def _weather(panel: Panel, samples: Samples, lag_steps: IntArray) -> FloatArray:
    """Each column at the target, and what it was at the lags that stand beside it, (n, 3 · columns)."""
    steps = np.concatenate([samples.target[:, None], lag_steps], axis=1)
    values = np.where(steps >= 0, panel.weather[:, np.maximum(steps, 0)], np.nan)
    return np.moveaxis(values, 0, 1).reshape(len(samples), values.shape[0] * values.shape[2])
