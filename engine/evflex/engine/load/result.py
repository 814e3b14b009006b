"""What comes out: quantiles of the load of each meter, how they were made, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist

import numpy as np

from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid


class ForecastMethod(IntEnum):
    """How the forecast of a meter was made, from the best to none."""

    # boosted trees of all meters, blended with EMPIRICAL as the back-test chose
    BOOSTED = 1
    # readings of the same slot of local time on the last days of the same kind
    EMPIRICAL = 2
    # all readings, whatever their slot; or the value that never changed
    LEVEL = 3
    # nothing can be said: NaN
    NONE = 4


class FallbackReason(IntEnum):
    """Why the best method was not used."""

    NONE = 0
    SHORT_HISTORY = 1
    STALE_READINGS = 2
    CONSTANT = 3
    ALL_MISSING = 4


@dataclass(frozen=True, slots=True)
class BackTest:
    """What the method was worth on days of the history that it had not seen; NaN for a meter that was not tried.

    Origins roll over the last days with the same lead and horizon. The model is trained on what lies before all of
    them, and its blend chosen on the earlier ones, the figures come from the later ones. Weather of the history stands
    for its forecast, so with weather as measured they flatter. The pinball loss is the mean over quantiles and steps.

    Attributes:
        reading_count: Readings that the forecast was held against, (meters,).
        pinball_kw: Of the forecast, (meters,).
        last_week_pinball_kw: Of the reading of the same slot a week before (or more weeks, as lead needs), taken for
            every quantile, where there is one, (meters,).
        same_slot_pinball_kw: Of the quantiles of the readings of the same slot and kind of day in the last four weeks,
            (meters,).
        coverage_ratio: Share of readings within the lowest and the highest quantile, (meters,).
    """

    reading_count: IntArray
    pinball_kw: FloatArray
    last_week_pinball_kw: FloatArray
    same_slot_pinball_kw: FloatArray
    coverage_ratio: FloatArray


@dataclass(frozen=True, slots=True)
class LoadForecast:
    """The load to come.

    Attributes:
        meter_ids: As asked.
        horizon: Time axis.
        quantiles: As asked.
        quantile_kw: Never crossing, (meters, horizon steps, quantiles); consumption positive.
        mean_kw: Expected, (meters, horizon steps).
        methods: :class:`ForecastMethod` of each meter, (meters,).
        fallback_reasons: :class:`FallbackReason` of each meter, (meters,).
        boosted_ratio: Weight of the boosted trees in the blend, (meters,).
        backtest: What the forecast is worth.
    """

    meter_ids: tuple[str, ...]
    horizon: TimeGrid
    quantiles: FloatArray
    quantile_kw: FloatArray
    mean_kw: FloatArray
    methods: IntArray
    fallback_reasons: IntArray
    boosted_ratio: FloatArray
    backtest: BackTest

    @property
    def standard_deviation_kw(self) -> FloatArray:
        """Standard deviation of the load, (meters, horizon steps), NaN where only one quantile was asked for.

        The slope of the least-squares line through the quantiles over those of the standard normal distribution: exact
        where the load is normal, and with quantiles of 0.05 to 0.95 little moved by a long tail.
        """
        if len(self.quantiles) < 2:
            return np.full(self.mean_kw.shape, np.nan)
        z = np.array([NormalDist().inv_cdf(q) for q in self.quantiles.tolist()])
        z -= z.mean()
        # rounding of equal quantiles must not show as a deviation below zero
        return np.maximum((self.quantile_kw - self.quantile_kw[..., :1]) @ z / (z @ z), 0.0)
