"""Limits of temperatures and ageing, and what a load that comes anyway does to them."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.day_limits import Days
from evflex.engine.capacity.lookahead import LaterLoad, Limits
from evflex.engine.capacity.thermal import simulate, targets
from evflex.engine.capacity.transformer import ThermalState, Transformer
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.timegrid import TimeGrid

# Where a load breaks a limit by itself, all that hubs do before may add so much to it.
_ADDED_K = 0.1
_ADDED_LIFE_RATIO = 1e-3
# In K or relative: what a load that was brought to a limit may be above it.
_ROUNDING = 1e-8
# After so many time constants a load has left no trace: e^-16 of 60 K is less than 1e-5 K. With fewer, what is given in
# the morning cuts firm capacity of the evening by a few watts.
_TIME_CONSTANTS = 16.0
_DAY_S = 86_400.0


def limits_for(
    transformer: Transformer, grid: TimeGrid, loading_ratio: FloatArray, start: ThermalState, gives_way: BoolArray
) -> Limits:
    """The transformer's limits, raised where a load that comes anyway breaks them or has no room left below them.

    Args:
        transformer: The transformer.
        grid: Time axis.
        loading_ratio: The load, (T,).
        start: State at the beginning.
        gives_way: Steps in which the load was cut to the limits already, (T,).
    """
    alone = simulate(transformer, grid.step_s, loading_ratio, start)
    days = Days.of(grid)
    life_h = days.sums(alone.loss_of_life_h)
    most_h = days.limits_h(transformer.max_loss_of_life_h_per_day)
    full_day = (life_h > most_h * (1.0 + _ROUNDING)) | (days.sums(gives_way.astype(np.float64)) > 0.0)
    return Limits(
        hot_spot_c=_raised(transformer.max_hot_spot_c, alone.hot_spot_c, gives_way),
        top_oil_c=_raised(transformer.max_top_oil_c, alone.max_top_oil_c, gives_way),
        life_h=np.where(np.isfinite(most_h) & full_day, np.maximum(most_h, life_h * (1.0 + _ADDED_LIFE_RATIO)), most_h),
    )


def later_load(transformer: Transformer, loading_ratio: FloatArray) -> LaterLoad:
    """Temperatures that oil and winding tend to under a load."""
    thermal = transformer.thermal
    out = np.empty((2, loading_ratio.shape[0]))
    _targets(
        thermal.top_oil_rise_k, thermal.hot_spot_gradient_k, thermal.loss_ratio, thermal.oil_exponent,
        thermal.winding_exponent, loading_ratio, transformer.ambient_c, out,
    )  # fmt: skip
    return LaterLoad(out[0], out[1])


def memory_steps(transformer: Transformer, grid: TimeGrid) -> int:
    """Steps after which a load has left no trace that matters."""
    thermal = transformer.thermal
    slowest_min = thermal.oil_time_constant_min * max(thermal.k11, 1.0 / thermal.k22)
    steps = int(np.ceil(_TIME_CONSTANTS * slowest_min * 60.0 / grid.step_s))
    return max(steps, int(_DAY_S / grid.step_s)) if np.isfinite(transformer.max_loss_of_life_h_per_day) else steps


def _raised(limit_c: float, alone_c: FloatArray, gives_way: BoolArray) -> FloatArray:
    raised: FloatArray = np.where(
        (alone_c > limit_c + _ROUNDING) | gives_way, np.maximum(limit_c, alone_c + _ADDED_K), limit_c
    )
    return raised


@kernel
def _targets(
    top_oil_rise_k: float,
    hot_spot_gradient_k: float,
    loss_ratio: float,
    oil_exponent: float,
    winding_exponent: float,
    loading_ratio: FloatArray,
    ambient_c: FloatArray,
    out: FloatArray,
) -> None:
    for t in range(loading_ratio.shape[0]):
        rise, gradient = targets(
            top_oil_rise_k, hot_spot_gradient_k, loss_ratio, oil_exponent, winding_exponent, loading_ratio[t]
        )
        out[0, t], out[1, t] = ambient_c[t] + rise, gradient
