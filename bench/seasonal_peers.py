"""Seasonal-naive forecasts of load, and the pinball loss that forecasts are judged by; sharing no code with ours."""

from __future__ import annotations

import numpy as np

from bench.instances import FloatArray

_WEEK = 7


def last_week(history_kw: FloatArray, horizon_steps: int, steps_a_day: int, quantiles: FloatArray) -> FloatArray:
    """The same slot a week before as every quantile, (meters, steps, quantiles); for a horizon of up to a week."""
    begin = history_kw.shape[1] - _WEEK * steps_a_day
    point = history_kw[:, begin : begin + horizon_steps]
    return np.repeat(point[:, :, None], len(quantiles), axis=2)


def same_slots(
    history_kw: FloatArray, horizon_steps: int, steps_a_day: int, quantiles: FloatArray, first_weekday: int, weeks: int
) -> FloatArray:
    """Quantiles of the same slot on days of the same kind in the last weeks, (meters, steps, quantiles)."""
    end = history_kw.shape[1]
    found = np.empty((history_kw.shape[0], horizon_steps, len(quantiles)))
    for ahead in range(horizon_steps):
        target = end + ahead
        past = np.arange(target - steps_a_day, target - weeks * _WEEK * steps_a_day - 1, -steps_a_day)
        past = past[past < end]
        kind = _kind(target // steps_a_day, first_weekday)
        same = past[np.array([_kind(step // steps_a_day, first_weekday) == kind for step in past.tolist()])]
        found[:, ahead] = np.quantile(history_kw[:, same], quantiles, axis=1).T
    return found


def pinball(actual_kw: FloatArray, quantile_kw: FloatArray, quantiles: FloatArray) -> float:
    """Mean over meters, steps and quantiles in kW."""
    loss = [
        np.where(actual_kw >= quantile_kw[..., k], q * (actual_kw - quantile_kw[..., k]),
                 (1.0 - q) * (quantile_kw[..., k] - actual_kw))
        for k, q in enumerate(quantiles.tolist())
    ]  # fmt: skip
    return float(np.mean(loss))


def _kind(day: int, first_weekday: int) -> int:
    """0 Monday to Friday, 1 Saturday, 2 Sunday."""
    return max(0, (day + first_weekday) % _WEEK - 4)
