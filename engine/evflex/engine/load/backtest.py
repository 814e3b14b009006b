"""A forecast tried on the last days of the history: chooses the blend of each meter, and says what it is worth."""

from __future__ import annotations

import numpy as np

from evflex.engine.load.boosting import Boosted
from evflex.engine.load.fallback import empirical, methods_before
from evflex.engine.load.panel import Panel
from evflex.engine.load.result import BackTest, ForecastMethod
from evflex.engine.load.samples import Samples, Window, rolling_samples
from evflex.engine.load.seasonal import last_week, naive_quantiles
from evflex.engine.supply_tree import BoolArray, FloatArray

# Weight of the boosted trees that is taken where nothing could be tried.
DEFAULT_BOOSTED_RATIO = 0.75
_BOOSTED_RATIOS = np.linspace(0.0, 1.0, 5)
# Samples of all meters that the forecast is held against.
_MOST_SAMPLES = 40_000


def pinball_kw(actual_kw: FloatArray, quantile_kw: FloatArray, quantiles: FloatArray) -> FloatArray:
    """Pinball loss, the mean over quantiles, (n,) (Koenker and Bassett 1978): max(q·(y − x), (q − 1)·(y − x))."""
    above = actual_kw[:, None] - quantile_kw
    return np.maximum(quantiles * above, (quantiles - 1.0) * above).mean(axis=1)


def roll(
    panel: Panel, window: Window, begin: int, boosted: Boosted | None, quantiles: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, BackTest]:  # fmt: skip
    """Try a model that has seen nothing at or after step ``begin`` of the history.

    Returns:
        Weight of the boosted trees for the forecast that follows, (meters,), and the figures.
    """
    meters = panel.readings_kw.shape[0]
    methods, _ = methods_before(panel, begin)
    tried = np.flatnonzero(methods <= ForecastMethod.EMPIRICAL)
    samples = rolling_samples(window, tried, begin, panel.step_count, _MOST_SAMPLES, rng)
    samples = samples.where(~np.isnan(panel.readings_kw[samples.meter, samples.target]))
    ratio = np.where(methods == ForecastMethod.BOOSTED, DEFAULT_BOOSTED_RATIO, 0.0)
    if not len(samples):
        return ratio, untried(meters)
    actual_kw = panel.readings_kw[samples.meter, samples.target]
    plain_kw, _ = empirical(panel, samples, begin, quantiles)
    # what was measured before the middle chooses the blend that the origins after it judge
    middle = (samples.origin.min() + samples.origin.max() + 1) // 2
    earlier, later = samples.target < middle, samples.origin >= middle
    judged = ratio
    quantile_kw = plain_kw
    if boosted is not None:
        boosted_kw, _ = boosted.predict(panel, samples)
        loss = np.stack(
            [pinball_kw(actual_kw, r * boosted_kw + (1.0 - r) * plain_kw, quantiles) for r in _BOOSTED_RATIOS]
        )
        may = methods == ForecastMethod.BOOSTED
        judged = _best(loss, samples, earlier, ratio, may)
        ratio = _best(loss, samples, np.ones_like(later), ratio, may)
        weight = judged[samples.meter][:, None]
        quantile_kw = weight * boosted_kw + (1.0 - weight) * plain_kw
    kept = samples.where(later)
    return ratio, _figures(panel, kept, actual_kw[later], quantile_kw[later], quantiles)


def untried(meters: int) -> BackTest:
    """Figures where nothing was tried."""
    nothing = np.full(meters, np.nan)
    return BackTest(np.zeros(meters, dtype=np.int64), nothing, nothing, nothing, nothing)


def _best(loss: FloatArray, samples: Samples, chosen: BoolArray, default: FloatArray, may: BoolArray) -> FloatArray:
    """Weight of least loss of each meter over the chosen samples; the default where it has none, or may not."""
    meters = len(default)
    total = np.stack([np.bincount(samples.meter[chosen], row[chosen], meters) for row in loss])
    any_chosen = np.bincount(samples.meter[chosen], minlength=meters) > 0
    return np.where(may & any_chosen, _BOOSTED_RATIOS[np.argmin(total, axis=0)], default)


def _figures(
    panel: Panel, samples: Samples, actual_kw: FloatArray, quantile_kw: FloatArray, quantiles: FloatArray
) -> BackTest:
    week_kw = np.repeat(last_week(panel, samples)[:, None], len(quantiles), axis=1)
    naive_kw = naive_quantiles(panel, samples, quantiles)
    within = (actual_kw >= quantile_kw[:, 0]) & (actual_kw <= quantile_kw[:, -1])
    meters = panel.readings_kw.shape[0]
    # all forecasts are held against the same readings: those for which each of them exists
    there = ~np.isnan(week_kw[:, 0]) & ~np.isnan(naive_kw[:, 0])
    count = np.bincount(samples.meter[there], minlength=meters)

    def mean(values: FloatArray) -> FloatArray:
        total = np.bincount(samples.meter[there], values[there], meters)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    ours, week, naive = (mean(pinball_kw(actual_kw, kw, quantiles)) for kw in (quantile_kw, week_kw, naive_kw))
    return BackTest(count, ours, week, naive, mean(within.astype(np.float64)))
