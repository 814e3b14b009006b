"""Loads that are known, and a pinball loss that shares no code with the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.load import LoadForecastOptions, LoadForecastProblem
from evflex.engine.timegrid import TimeGrid

FloatArray = NDArray[np.float64]
# a Monday, 00:00 UTC
MONDAY_UNIX_S = 1_704_067_200.0
QUANTILES = np.array([0.05, 0.5, 0.95])
# small enough for a test
QUICK = LoadForecastOptions(max_training_rows=2000, backtest_days=14)


def problem_of(
    history_kw: FloatArray, horizon_steps: int, *, step_s: float = 3600.0, quantiles: FloatArray = QUANTILES,
    start_unix_s: float = MONDAY_UNIX_S, lead_steps: int = 0,
) -> LoadForecastProblem:  # fmt: skip
    """Meters from a Monday on."""
    history = TimeGrid(start_unix_s, step_s, history_kw.shape[1])
    horizon = TimeGrid(history.end_unix_s + lead_steps * step_s, step_s, horizon_steps)
    return LoadForecastProblem(
        history, history_kw, tuple(f"m{i}" for i in range(len(history_kw))), horizon, quantiles
    )  # fmt: skip


def households(meters: int, days: int, seed: int = 0, slots: int = 24) -> FloatArray:
    """Evening peaks, later on the weekend, with noise that stays for hours, as multiples of a level a meter."""
    rng = np.random.default_rng(seed)
    hour = np.arange(days * slots) % slots * 24.0 / slots
    weekend = np.arange(days * slots) // slots % 7 >= 5
    peak = np.where(weekend, 13.0, 19.0)
    shape = 0.4 + np.exp(-(((hour - peak) / 2.5) ** 2))
    noise = np.zeros((meters, days * slots))
    shocks = rng.standard_normal(noise.shape)
    for k in range(1, noise.shape[1]):
        noise[:, k] = 0.8 * noise[:, k - 1] + 0.15 * shocks[:, k]
    return rng.uniform(0.5, 5.0, (meters, 1)) * shape * np.exp(noise)


def pinball(actual_kw: FloatArray, quantile_kw: FloatArray, quantiles: FloatArray = QUANTILES) -> float:
    """Mean pinball loss, one number at a time."""
    total = 0.0
    for index in np.ndindex(actual_kw.shape):
        for k, q in enumerate(quantiles.tolist()):
            miss = float(actual_kw[index] - quantile_kw[index][k])
            total += q * miss if miss >= 0.0 else (q - 1.0) * miss
    return total / (actual_kw.size * len(quantiles))


def last_week_kw(history_kw: FloatArray, steps: int, slots: int) -> FloatArray:
    """The same slot a week before, for every quantile."""
    begin = history_kw.shape[1] - 7 * slots
    return np.repeat(history_kw[:, begin : begin + steps, None], len(QUANTILES), axis=2)


def same_slot_kw(history_kw: FloatArray, steps: int, slots: int, first_weekday: int, weeks: int = 4) -> FloatArray:
    """Quantiles of the same slot on days of the same kind over the last weeks; history ends at midnight or within."""

    def kind(step: int) -> int:
        return max(0, (step // slots + first_weekday) % 7 - 4)

    end = history_kw.shape[1]
    columns = []
    for target in range(end, end + steps):
        past = [target - d * slots for d in range(1, 7 * weeks + 1)]
        past = [step for step in past if step < end and kind(step) == kind(target)]
        columns.append(np.quantile(history_kw[:, past], QUANTILES, axis=1).T)
    return np.stack(columns, axis=1)
