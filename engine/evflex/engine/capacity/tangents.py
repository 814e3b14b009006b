"""Tangents of a transformer's temperatures and ageing as functions of the load that hubs add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.day_limits import Days
from evflex.engine.capacity.forward import LoadedTransformer
from evflex.engine.capacity.thermal import ageing_rate_and_slope
from evflex.engine.capacity.transformer import InsulationPaper, ThermalParameters, Transformer
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

# At smaller loadings the gradient K^y bends too sharply for its difference from top oil to be convex: there tangents
# leave as much slack as the two can move.
_LEAST_CONVEX_RATIO, _MOST_CONVEX_RATIO = 0.05, 4.0
# A day's loss of life is near its limit within a tenth of it where temperatures are within 1 K.
_NEAR_RATIO_PER_K = 0.1
_TANGENTS_A_ROUND = 24


@dataclass(frozen=True, slots=True)
class Tangents:
    """What temperatures depend on: the load of all phases together, never above three times the most loaded one.

    Attributes:
        transformer: The transformer.
        limits: Its limits.
        fixed_kw: Base load and firm capacity, (T,).
        kvar: Reactive power, (T,).
        day: Day of each step, (T,).
        life_limit_h: In each day, (days,).
        rise_slack_k: What top oil's target may fall below its tangents at small loads, (T,).
        gradient_slack_k: The same of the winding's target, (T,).
        convex: Whether tangents cut off no plan, so that they prove something.
    """

    transformer: LoadedTransformer
    limits: Transformer
    fixed_kw: FloatArray
    kvar: FloatArray
    day: IntArray
    life_limit_h: FloatArray
    rise_slack_k: FloatArray
    gradient_slack_k: FloatArray
    convex: bool

    @classmethod
    def of(
        cls,
        grid: TimeGrid,
        transformer: LoadedTransformer,
        limits: Transformer,
        firm_kw: FloatArray,
        room_kw: FloatArray,
    ) -> Tangents:
        """For a transformer that carries base load and firm capacity, with so much room for more in each step."""
        fixed_kw, kvar = transformer.base_kw.sum(axis=1) + firm_kw, transformer.base_kvar.sum(axis=1)
        least_kw = np.clip(0.0, fixed_kw, fixed_kw + room_kw)
        small = np.hypot(least_kw, kvar) < _LEAST_CONVEX_RATIO * transformer.rated_kva
        thermal, days = limits.thermal, Days.of(grid)
        rise_k, gradient_k = _targets(thermal, np.array([0.0, _LEAST_CONVEX_RATIO]))
        return cls(
            transformer, limits, fixed_kw, kvar, days.of_step,
            days.limits_h(limits.max_loss_of_life_h_per_day),
            np.where(small, rise_k[1] - rise_k[0], 0.0), np.where(small, thermal.k21 * gradient_k[1], 0.0),
            _is_convex(transformer, thermal),
        )  # fmt: skip

    def near(self, added_kw: FloatArray, nearer_k: float) -> Iterator[tuple[FloatArray, float]]:
        """Tangents at a load of hubs, where a temperature comes near its limit or the ageing of a day breaks it.

        Args:
            added_kw: Conditional power of all hubs, (T,).
            nearer_k: How near; negative for those that are broken by more.

        Yields:
            A row a, (T,), and a number b such that a·y <= b for every plan.
        """
        if not self.convex:
            return
        grid, limits = self.transformer, self.limits
        kva = np.hypot(self.fixed_kw + added_kw, self.kvar)
        ratio = kva / grid.rated_kva
        ratio_slope = (self.fixed_kw + added_kw) / np.maximum(kva, 1e-9) / grid.rated_kva
        hot_spot_c, top_oil_c = self._temperatures(ratio)
        for values_c, limit_c, of_winding in (
            (hot_spot_c, limits.max_hot_spot_c, 1.0),
            (top_oil_c, limits.max_top_oil_c, 0.0),
        ):
            excess = values_c.max(axis=1) - limit_c
            peaks = np.flatnonzero(excess > -nearer_k)
            for t in peaks[np.argsort(-excess[peaks])][:_TANGENTS_A_ROUND].tolist():
                weight = np.zeros_like(values_c)
                weight[t, values_c[t].argmax()] = 1.0
                yield self._tangent(weight, of_winding, ratio, ratio_slope, added_kw, float(excess[t]))
        if np.isfinite(self.life_limit_h).all():
            yield from self._of_life(hot_spot_c, ratio, ratio_slope, added_kw, nearer_k)

    def _of_life(
        self, hot_spot_c: FloatArray, ratio: FloatArray, ratio_slope: FloatArray, added_kw: FloatArray, nearer_k: float
    ) -> Iterator[tuple[FloatArray, float]]:
        """Tangents of the loss of life of each day that is near its limit.

        The rate of normal paper is the exponential of the hot-spot, so that the logarithm of a day's loss is convex,
        too; its tangents hold far better at a distance than those of the loss itself.
        """
        rate, slope = ageing_rate_and_slope(hot_spot_c, self.limits.paper)
        inner_h = self.transformer.constants.inner_h
        lost_h = np.bincount(self.day, rate.sum(axis=1) * inner_h)
        most_h = self.life_limit_h * (1.0 - nearer_k * _NEAR_RATIO_PER_K)
        for d in np.flatnonzero(lost_h > most_h).tolist():
            weight = np.where((self.day == d)[:, None], slope * inner_h, 0.0)
            excess_h = float(lost_h[d] - self.life_limit_h[d])
            if self.limits.paper == InsulationPaper.NORMAL:
                weight, excess_h = weight / lost_h[d], float(np.log(lost_h[d] / self.life_limit_h[d]))
            yield self._tangent(weight, 1.0, ratio, ratio_slope, added_kw, excess_h)

    def _tangent(
        self,
        weight: FloatArray,
        of_winding: float,
        ratio: FloatArray,
        ratio_slope: FloatArray,
        added_kw: FloatArray,
        excess: float,
    ) -> tuple[FloatArray, float]:
        """Tangent of the weighted sum of temperatures at inner steps, (T, n), which is ``excess`` above its limit."""
        constants, thermal = self.transformer.constants, self.limits.thermal
        oil, winding, gradient = np.empty((3, len(ratio)))
        _sensitivity(constants.values[6], constants.values[7], constants.values[8], weight, oil, winding, gradient)
        rise_slope, gradient_slope = _slopes(thermal, ratio)
        on_gradient = of_winding * (thermal.k21 * winding - (thermal.k21 - 1.0) * gradient)
        row = ratio_slope * (oil * rise_slope + on_gradient * gradient_slope)
        slack = float(oil @ self.rise_slack_k + of_winding * (winding @ self.gradient_slack_k))
        return row, float(row @ added_kw) - excess + slack

    def _temperatures(self, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Hot-spot and top-oil at the inner steps, (T, n) each."""
        grid = self.transformer
        rise_k, gradient_k = _targets(self.limits.thermal, ratio)
        hot_spot_c, top_oil_c = np.empty((2, len(ratio), grid.constants.inner_count))
        keep = grid.constants.values[6:9]
        start = np.array([grid.start.top_oil_c, grid.start.winding_gradient_c, grid.start.oil_gradient_c])
        _fill_temperatures(
            keep, self.limits.thermal.k21, grid.ambient_c + rise_k, gradient_k, start, hot_spot_c, top_oil_c
        )
        return hot_spot_c, top_oil_c


def _targets(thermal: ThermalParameters, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Steady top-oil rise and hot-spot gradient at loading ratios."""
    losses = (1.0 + thermal.loss_ratio * ratio**2) / (1.0 + thermal.loss_ratio)
    return (
        thermal.top_oil_rise_k * losses**thermal.oil_exponent,
        thermal.hot_spot_gradient_k * ratio**thermal.winding_exponent,
    )


def _slopes(thermal: ThermalParameters, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives of the targets by the loading ratio."""
    r, x, y = thermal.loss_ratio, thermal.oil_exponent, thermal.winding_exponent
    losses = (1.0 + r * ratio**2) / (1.0 + r)
    rise = thermal.top_oil_rise_k * x * losses ** (x - 1.0) * 2.0 * r * ratio / (1.0 + r)
    return rise, thermal.hot_spot_gradient_k * y * ratio ** (y - 1.0)


def _is_convex(transformer: LoadedTransformer, thermal: ThermalParameters) -> bool:
    """Whether a load's part in every later hot-spot is convex in the loading ratio, from 0.05 on."""
    ratio = np.linspace(_LEAST_CONVEX_RATIO, _MOST_CONVEX_RATIO, 80)
    r, x, y = thermal.loss_ratio, thermal.oil_exponent, thermal.winding_exponent
    losses = (1.0 + r * ratio**2) / (1.0 + r)
    rise = (
        thermal.top_oil_rise_k
        * x
        * 2.0
        * r
        / (1.0 + r) ** 2
        * losses ** (x - 2.0)
        * (1.0 + (2.0 * x - 1.0) * r * ratio**2)
    )
    gradient = thermal.hot_spot_gradient_k * y * (y - 1.0) * ratio ** (y - 2.0)
    keep = transformer.constants.values[6:9]
    lag = np.arange(transformer.horizon * transformer.constants.inner_count)[:, None]
    oil, winding, oil_gradient = ((1.0 - k) * k**lag for k in keep.tolist())
    curvature = oil * rise + (thermal.k21 * winding - (thermal.k21 - 1.0) * oil_gradient) * gradient
    return bool((rise >= 0.0).all() and (curvature >= 0.0).all())


@kernel
def _fill_temperatures(
    keep: FloatArray,
    k21: float,
    oil_target_c: FloatArray,
    gradient_k: FloatArray,
    start: FloatArray,
    hot_spot_c: FloatArray,
    top_oil_c: FloatArray,
) -> None:
    top_oil, winding, gradient = start[0], start[1], start[2]
    for t in range(hot_spot_c.shape[0]):
        for i in range(hot_spot_c.shape[1]):
            top_oil = oil_target_c[t] + keep[0] * (top_oil - oil_target_c[t])
            winding = k21 * gradient_k[t] + keep[1] * (winding - k21 * gradient_k[t])
            gradient = (k21 - 1.0) * gradient_k[t] + keep[2] * (gradient - (k21 - 1.0) * gradient_k[t])
            hot_spot_c[t, i], top_oil_c[t, i] = top_oil + winding - gradient, top_oil


@kernel
def _sensitivity(
    oil_keep: float,
    winding_keep: float,
    gradient_keep: float,
    weight: FloatArray,
    oil: FloatArray,
    winding: FloatArray,
    gradient: FloatArray,
) -> None:
    """How a weighted sum of temperatures at inner steps depends on the targets of each step: backwards in time."""
    on_oil, on_winding, on_gradient = 0.0, 0.0, 0.0
    for t in range(weight.shape[0] - 1, -1, -1):
        oil[t], winding[t], gradient[t] = 0.0, 0.0, 0.0
        for i in range(weight.shape[1] - 1, -1, -1):
            on_oil, on_winding, on_gradient = (
                on_oil + weight[t, i],
                on_winding + weight[t, i],
                on_gradient + weight[t, i],
            )
            oil[t] += (1.0 - oil_keep) * on_oil
            winding[t] += (1.0 - winding_keep) * on_winding
            gradient[t] += (1.0 - gradient_keep) * on_gradient
            on_oil, on_winding, on_gradient = oil_keep * on_oil, winding_keep * on_winding, gradient_keep * on_gradient
