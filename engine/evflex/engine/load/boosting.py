"""Boosted trees, one for each quantile and one for the mean, of all meters together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from evflex.engine.load.features import Levels, features, levels_before
from evflex.engine.load.panel import Panel
from evflex.engine.load.samples import Samples
from evflex.engine.supply_tree import FloatArray

# Fitting swaps the filters of warnings of the whole process: two at once would leave the wrong ones behind.
_FITTING = Lock()
# Half as many leaves and two thirds of the trees that do best cost a third of the time, and 1 % of the pinball loss.
_TREES, _LEARNING_RATE, _MOST_LEAVES, _LEAST_SAMPLES_OF_A_LEAF = 50, 0.15, 20, 100
# Rows whose features are held at once.
_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trained trees.

    Attributes:
        levels: What readings were scaled by.
        of_quantiles: A model for each quantile.
        of_mean: The model of the mean.
    """

    levels: Levels
    of_quantiles: Sequence[HistGradientBoostingRegressor]
    of_mean: HistGradientBoostingRegressor

    def predict(self, panel: Panel, samples: Samples) -> tuple[FloatArray, FloatArray]:
        """Quantiles in kW, never crossing, (n, quantiles), and means in kW, (n,)."""
        models = [*self.of_quantiles, self.of_mean]
        found = np.empty((len(samples), len(models)))
        for part in samples.parts(_ROWS_AT_ONCE):
            rows = features(panel, samples.where(part), self.levels)
            with _one_thread():
                found[part] = np.stack([model.predict(rows) for model in models], axis=1)
        found *= self.levels.level_kw[samples.meter][:, None]
        return np.sort(found[:, :-1], axis=1), found[:, -1]


def train(panel: Panel, samples: Samples, end: int, quantiles: FloatArray) -> Boosted:
    """Train on samples whose targets lie before step ``end`` and have a reading."""
    levels = levels_before(panel, end)
    rows = features(panel, samples, levels)
    # of a short history no sample may have some lag at all, which trees must be spared
    rows[:, np.isnan(rows).all(axis=0)] = 0.0
    wanted = panel.readings_kw[samples.meter, samples.target] / levels.level_kw[samples.meter]
    common = {
        "max_iter": _TREES, "learning_rate": _LEARNING_RATE, "max_leaf_nodes": _MOST_LEAVES,
        "min_samples_leaf": min(_LEAST_SAMPLES_OF_A_LEAF, max(1, len(samples) // 100)),
        "early_stopping": False, "random_state": 0,
    }  # fmt: skip
    models = [HistGradientBoostingRegressor(loss="quantile", quantile=q, **common) for q in quantiles.tolist()]
    models.append(HistGradientBoostingRegressor(loss="squared_error", **common))
    for model in models:
        with _FITTING, _one_thread():
            model.fit(rows, wanted)
    return Boosted(levels, models[:-1], models[-1])


def _one_thread() -> AbstractContextManager[object]:
    """Keep a model on the thread that it is called on: sums of several threads depend on their number.

    They also wait for each other by turning over: beside another busy process, two took forty times as long as one.
    """
    return threadpool_limits(limits=1, user_api="openmp")
