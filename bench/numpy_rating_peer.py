"""The peer of ratings: a NumPy loop over time, all transformers at once.

It evaluates the difference equations of IEC 60076-7 as they are written, at each minute, and finds headroom as an
engineer would with such a loop: by bisection on the common level, all transformers together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.batch import TransformerBatch
from evflex.engine.supply_tree import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class PeerTemperatures:
    """Rows are steps, columns are transformers."""

    top_oil_c: FloatArray
    hot_spot_c: FloatArray
    loss_of_life_h: FloatArray


def simulate(batch: TransformerBatch, loading_ratio: FloatArray) -> PeerTemperatures:
    """Temperatures and ageing at one-minute inner steps; planning steps are whole minutes."""
    rise, gradient, loss_ratio, x, y, oil_min, winding_min, k11, k21, k22 = batch.thermal_parameters.T.copy()
    steps, n = loading_ratio.shape
    oil, h1, h2 = batch.initial_states()
    top_oil, hot_spot, life = np.empty((steps, n)), np.empty((steps, n)), np.empty((steps, n))
    any_upgraded = bool(batch.upgraded.any())
    for k in range(steps):
        load, ambient = loading_ratio[k], batch.ambient_c[k]
        hottest, lost = np.full(n, -np.inf), np.zeros(n)
        for _ in range(round(batch.grid.step_s / 60.0)):
            oil = oil + 1.0 / (k11 * oil_min) * (
                ((1.0 + load * load * loss_ratio) / (1.0 + loss_ratio)) ** x * rise - (oil - ambient)
            )
            h1 = h1 + 1.0 / (k22 * winding_min) * (k21 * gradient * load**y - h1)
            h2 = h2 + 1.0 / (oil_min / k22) * ((k21 - 1.0) * gradient * load**y - h2)
            hot = oil + h1 - h2
            hottest = np.maximum(hottest, hot)
            rate = np.exp2((hot - 98.0) / 6.0)
            if any_upgraded:
                rate = np.where(batch.upgraded, np.exp(15000.0 / 383.0 - 15000.0 / (hot + 273.0)), rate)
            lost = lost + rate * (1.0 / 60.0)
        top_oil[k], hot_spot[k], life[k] = oil, hottest, lost
    return PeerTemperatures(top_oil, hot_spot, life)


class LevelSearch:
    """Bisection on the common level of one condition; call :meth:`halve` until :attr:`width` is small enough."""

    def __init__(self, batch: TransformerBatch, cap: FloatArray) -> None:
        self._batch, self._base = batch, np.abs(batch.loading_ratio)
        self._cap = np.maximum(cap, self._base)
        self._low, self._high = np.zeros(len(batch)), self._cap.max(axis=0)

    @property
    def width(self) -> float:
        """Width of the widest bracket."""
        return float((self._high - self._low).max())

    def halve(self) -> None:
        """Simulate the middle of all brackets."""
        middle = 0.5 * (self._low + self._high)
        fits = self.fits(middle)
        self._low, self._high = np.where(fits, middle, self._low), np.where(fits, self._high, middle)

    def fits(self, level: FloatArray) -> BoolArray:
        """Whether limits of temperature and daily loss of life are kept at a level, (n,)."""
        batch = self._batch
        load = np.where(batch.wanted, np.maximum(self._base, np.minimum(self._cap, level)), self._base)
        found = simulate(batch, load)
        # within a step top oil moves one way only
        warm = (found.hot_spot_c > batch.max_hot_spot_c) | (found.top_oil_c > batch.max_top_oil_c)
        a_day = round(86_400.0 / batch.grid.step_s)
        lost = np.add.reduceat(found.loss_of_life_h, np.arange(0, load.shape[0], a_day), axis=0)
        return np.logical_not(warm.any(axis=0) | (lost > batch.max_loss_of_life_h_per_day).any(axis=0))

    @property
    def low(self) -> FloatArray:
        """Largest level known to fit, (n,)."""
        return self._low
