"""The forecast of loads: boosted quantile trees blended with the quantiles of past days, as a back-test chooses."""

from __future__ import annotations

import numpy as np

from evflex.engine.load.backtest import DEFAULT_BOOSTED_RATIO, roll, untried
from evflex.engine.load.boosting import Boosted, train
from evflex.engine.load.fallback import empirical, level, methods_before
from evflex.engine.load.model import LoadForecastOptions, LoadForecastProblem
from evflex.engine.load.panel import Panel, lay_out
from evflex.engine.load.result import BackTest, FallbackReason, ForecastMethod, LoadForecast
from evflex.engine.load.samples import Samples, Window, forecast_samples, training_samples
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.validation import Rules

_DEFAULT_OPTIONS = LoadForecastOptions()
# Trees on fewer samples than this know less than the quantiles that they are blended with.
_LEAST_TRAINING_ROWS = 500
# At most this share of the history is held out, so that what is tried resembles what is used.
_MOST_HELD_OUT = 3


def forecast_load(problem: LoadForecastProblem, options: LoadForecastOptions = _DEFAULT_OPTIONS) -> LoadForecast:
    """Quantiles of the load of each meter over a horizon after its history.

    Gradient boosting of the pinball loss over all meters together, readings scaled by each meter's level, features
    from the calendar, the latest readings, the same slot of days and weeks before, its empirical quantiles, and the
    weather. Each meter's quantiles are a blend of the trees' and the empirical ones of the same slot and kind of day,
    with the weight that did best on held-out days; then they are sorted. Meters that the readings do not suffice for
    fall back, and say so. Same input, same answer, on any number of processors.

    Raises:
        InvalidProblemError: Naming each field and rule that is broken.
    """
    rules = Rules()
    problem.validate(rules)
    options.validate(rules)
    rules.raise_if_any()
    panel = lay_out(problem)
    window = Window(problem.lead_steps, problem.horizon.step_count, panel.slots_per_day)
    methods, reasons = methods_before(panel, panel.step_count)
    ratio, backtest = _try_out(panel, window, problem.quantiles, options)
    boosted = _train(panel, window, panel.step_count, methods, problem.quantiles, options)
    if boosted is None:
        short = methods == ForecastMethod.BOOSTED
        methods[short], reasons[short] = ForecastMethod.EMPIRICAL, FallbackReason.SHORT_HISTORY
    # a meter that was too young to be tried, but may be boosted now
    ratio = np.where(np.isnan(ratio), DEFAULT_BOOSTED_RATIO, ratio)
    ratio[methods != ForecastMethod.BOOSTED] = 0.0
    samples = forecast_samples(window, np.arange(len(methods)), panel.step_count)
    quantile_kw, mean_kw = _predict(panel, samples, methods, boosted, ratio, problem.quantiles)
    shape = (len(methods), window.horizon_steps)
    return LoadForecast(
        problem.meter_ids, problem.horizon, problem.quantiles, quantile_kw.reshape(*shape, -1), mean_kw.reshape(shape),
        methods, reasons, ratio, backtest,
    )  # fmt: skip


def _try_out(
    panel: Panel, window: Window, quantiles: FloatArray, options: LoadForecastOptions
) -> tuple[FloatArray, BackTest]:
    """Weights of the trees, NaN where none was found, and the figures of the back-test."""
    meters = panel.readings_kw.shape[0]
    days = min(options.backtest_days, panel.step_count // panel.slots_per_day // _MOST_HELD_OUT)
    if days == 0:
        return np.full(meters, np.nan), untried(meters)
    begin = panel.step_count - days * panel.slots_per_day
    methods, _ = methods_before(panel, begin)
    boosted = _train(panel, window, begin, methods, quantiles, options)
    ratio, backtest = roll(
        panel, window, begin, boosted, quantiles, np.random.default_rng(options.seed)
    )  # fmt: skip
    return np.where(methods == ForecastMethod.BOOSTED, ratio, np.nan), backtest


def _train(
    panel: Panel, window: Window, end: int, methods: IntArray, quantiles: FloatArray, options: LoadForecastOptions,
) -> Boosted | None:  # fmt: skip
    """Trees of the meters that are to be boosted, from readings before step ``end``; None where they are too few."""
    meters = np.flatnonzero(methods == ForecastMethod.BOOSTED)
    rng = np.random.default_rng(options.seed)
    samples = training_samples(window, meters, end, options.max_training_rows, rng)
    samples = samples.where(~np.isnan(panel.readings_kw[samples.meter, samples.target]))
    if len(samples) < _LEAST_TRAINING_ROWS:
        return None
    return train(panel, samples, end, quantiles)


def _predict(
    panel: Panel, samples: Samples, methods: IntArray, boosted: Boosted | None, ratio: FloatArray,
    quantiles: FloatArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Quantiles and means in kW of samples at the history's end, by the method of each meter."""
    quantile_kw, mean_kw = np.full((len(samples), len(quantiles)), np.nan), np.full(len(samples), np.nan)
    method, end = methods[samples.meter], panel.step_count
    flat = method == ForecastMethod.LEVEL
    quantile_kw[flat], mean_kw[flat] = level(panel, samples.where(flat), end, quantiles)
    shaped = method <= ForecastMethod.EMPIRICAL
    quantile_kw[shaped], mean_kw[shaped] = empirical(panel, samples.where(shaped), end, quantiles)
    blended = method == ForecastMethod.BOOSTED
    if boosted is not None and blended.any():
        trees_kw, trees_mean_kw = boosted.predict(panel, samples.where(blended))
        weight = ratio[samples.meter[blended]]
        mean_kw[blended] += weight * (trees_mean_kw - mean_kw[blended])
        quantile_kw[blended] += weight[:, None] * (trees_kw - quantile_kw[blended])
    # rounding of the blend must not cross what both keep apart
    quantile_kw.sort(axis=1)
    return quantile_kw, mean_kw
