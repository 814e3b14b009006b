"""Which method each meter's readings allow, and what is said of those without enough of them."""

from __future__ import annotations

import numpy as np

from evflex.engine.load.panel import Panel
from evflex.engine.load.result import FallbackReason, ForecastMethod
from evflex.engine.load.samples import Samples
from evflex.engine.load.seasonal import mean_of, quantiles_of, recent_readings
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# A week on each kind of day twice, for trees; a day, for slots.
_LEAST_DAYS_BOOSTED, _LEAST_DAYS_EMPIRICAL = 14, 1
_STALE_DAYS = 28


def methods_before(panel: Panel, end: int) -> tuple[IntArray, IntArray]:
    """Best method that the readings before step ``end`` allow, and why not a better one, (meters,) each."""
    meters = np.arange(panel.readings_kw.shape[0])
    count = panel.known_count[meters, end]
    begin = max(0, end - _STALE_DAYS * panel.slots_per_day)
    recent = count - panel.known_count[meters, begin]
    methods = np.full(len(meters), ForecastMethod.BOOSTED, dtype=np.int64)
    reasons = np.full(len(meters), FallbackReason.NONE, dtype=np.int64)
    # the later in this order, the stronger
    for method, reason, applies in (
        (ForecastMethod.EMPIRICAL, FallbackReason.SHORT_HISTORY, count < _LEAST_DAYS_BOOSTED * panel.slots_per_day),
        (ForecastMethod.LEVEL, FallbackReason.SHORT_HISTORY, count < _LEAST_DAYS_EMPIRICAL * panel.slots_per_day),
        (ForecastMethod.LEVEL, FallbackReason.STALE_READINGS, recent == 0),
        (ForecastMethod.LEVEL, FallbackReason.CONSTANT, _constant(panel.readings_kw[:, :end])),
        (ForecastMethod.NONE, FallbackReason.ALL_MISSING, count == 0),
    ):
        methods[applies], reasons[applies] = method, reason
    return methods, reasons


def empirical(panel: Panel, samples: Samples, end: int, quantiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Quantiles and means of recent readings in kW, (n, quantiles) and (n,); of all readings where there are none."""
    rising = recent_readings(panel, samples)
    quantile_kw, mean_kw = quantiles_of(rising, quantiles), mean_of(rising)
    without = np.isnan(mean_kw)
    if without.any():
        quantile_kw[without], mean_kw[without] = level(panel, samples.where(without), end, quantiles)
    return quantile_kw, mean_kw


def level(panel: Panel, samples: Samples, end: int, quantiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Quantiles and means of all readings in kW before step ``end``; NaN for a meter without any."""
    quantile_kw, mean_kw = np.full((len(samples), len(quantiles)), np.nan), np.full(len(samples), np.nan)
    for meter in np.unique(samples.meter).tolist():
        rising = np.sort(panel.readings_kw[meter, :end])[None]
        rows = samples.meter == meter
        quantile_kw[rows], mean_kw[rows] = quantiles_of(rising, quantiles), mean_of(rising)
    return quantile_kw, mean_kw


def _constant(readings_kw: FloatArray) -> BoolArray:
    """Whether all readings of a meter are the same; a single one says nothing about that."""
    known = ~np.isnan(readings_kw)
    low = np.where(known, readings_kw, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known, readings_kw, -np.inf).max(axis=1, initial=-np.inf)
    return (low == high) & (known.sum(axis=1) > 1)
