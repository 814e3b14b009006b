"""Temperatures and ageing of a transformer: the difference equations of IEC 60076-7.

With D = Δt / τ of each, per inner step of at most a minute,

    top oil            Δθ_o  += D(k11 τ_o) [Δθ_or ((1 + K² R) / (1 + R))^x + θ_a - θ_o]
    winding gradient   Δθ_h1 += D(k22 τ_w) [k21 Δθ_hr K^y - Δθ_h1]
    oil gradient       Δθ_h2 += D(τ_o / k22) [(k21 - 1) Δθ_hr K^y - Δθ_h2]
    hot-spot           θ_h = θ_o + Δθ_h1 - Δθ_h2

Load and ambient temperature are constant within a planning step, so each difference from its target shrinks by the same
factor in every inner step: the inner steps need multiplications only, and powers of K are taken once a planning step.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from evflex.engine.capacity.transformer import InsulationPaper, ThermalParameters, ThermalState, Transformer
from evflex.engine.kernels import inner_kernel, kernel, vector_inner_kernel
from evflex.engine.supply_tree import FloatArray, IntArray

_LONGEST_INNER_STEP_MIN = 1.0
# Ageing rates: 2^((θ - 98) / 6) for normal paper (IEC 60076-7, eq. 2), exp(15000 / 383 - 15000 / (θ + 273)) for
# thermally upgraded paper (eq. 3).
_NORMAL_REFERENCE_C, _NORMAL_DOUBLING_K = 98.0, 6.0
_UPGRADED_REFERENCE_K, _UPGRADED_RATE_K, _ZERO_C_K = 383.0, 15_000.0, 273.0
_LOG2_E = float(np.log2(np.e))


@dataclass(frozen=True, slots=True)
class ThermalConstants:
    """What kernels need of a transformer, for one length of planning step.

    Attributes:
        values: top-oil rise, hot-spot gradient, loss ratio, x, y, k21, and per inner step the factors by which top oil,
            winding gradient and oil gradient keep their distance from the target, (9,).
        inner_count: Inner steps in a planning step.
        inner_h: Length of an inner step in hours.
        upgraded: Whether the paper is thermally upgraded.
    """

    values: FloatArray
    inner_count: int
    inner_h: float
    upgraded: bool

    @classmethod
    def of(cls, thermal: ThermalParameters, paper: InsulationPaper, step_s: float) -> ThermalConstants:
        """Constants for planning steps of ``step_s`` seconds.

        Inner steps are a minute at most, and half of each time constant.
        """
        counts, kept = inner_steps(np.array([astuple(thermal)]), step_s)
        count = int(counts[0])
        values = np.array(
            [
                thermal.top_oil_rise_k, thermal.hot_spot_gradient_k, thermal.loss_ratio, thermal.oil_exponent,
                thermal.winding_exponent, thermal.k21, *kept[:, 0].tolist(),
            ]
        )  # fmt: skip
        return cls(values, count, step_s / 3600.0 / count, paper == InsulationPaper.THERMALLY_UPGRADED)


def inner_steps(parameters: FloatArray, step_s: float) -> tuple[IntArray, FloatArray]:
    """How planning steps are divided.

    Args:
        parameters: A row a transformer, columns as in :class:`ThermalParameters`, (n, 10).
        step_s: Length of a planning step in seconds.

    Returns:
        Number of inner steps, (n,), a minute at most and half of each time constant; and the factors by which top oil,
        winding gradient and oil gradient keep their distance from the target in one, (3, n).
    """
    oil_min, winding_min, k11, k22 = parameters[:, 5], parameters[:, 6], parameters[:, 7], parameters[:, 9]
    constants_min = np.stack([k11 * oil_min, k22 * winding_min, oil_min / k22])
    longest_min = np.minimum(_LONGEST_INNER_STEP_MIN, 0.5 * constants_min.min(axis=0))
    counts = np.maximum(1, np.ceil(step_s / 60.0 / longest_min - 1e-9)).astype(np.int64)
    return counts, 1.0 - step_s / 60.0 / counts / constants_min


@dataclass(frozen=True, slots=True)
class Temperatures:
    """What a load does to a transformer.

    Attributes:
        top_oil_c: At the end of each step, (T,).
        max_top_oil_c: Largest within each step, (T,).
        hot_spot_c: Largest within each step, (T,).
        loss_of_life_h: In each step, (T,).
        final_state: At the end of the last step.
    """

    top_oil_c: FloatArray
    max_top_oil_c: FloatArray
    hot_spot_c: FloatArray
    loss_of_life_h: FloatArray
    final_state: ThermalState


def simulate(transformer: Transformer, step_s: float, loading_ratio: FloatArray, start: ThermalState) -> Temperatures:
    """Temperatures and ageing under a load.

    Args:
        transformer: Parameters and ambient temperature.
        step_s: Length of a step in seconds.
        loading_ratio: Load over rated power, (T,).
        start: State at the beginning.
    """
    constants = ThermalConstants.of(transformer.thermal, transformer.paper, step_s)
    steps = loading_ratio.shape[0]
    out = np.empty((4, steps))
    state = np.array([start.top_oil_c, start.winding_gradient_c, start.oil_gradient_c])
    _simulate(
        constants.values, constants.inner_count, constants.inner_h, constants.upgraded, loading_ratio,
        transformer.ambient_c, state, out,
    )  # fmt: skip
    return Temperatures(out[0], out[1], out[2], out[3], ThermalState(*state.tolist()))


def steady_state(thermal: ThermalParameters, loading_ratio: float, ambient_c: float) -> ThermalState:
    """State that a constant load settles at."""
    rise, gradient = targets(
        thermal.top_oil_rise_k, thermal.hot_spot_gradient_k, thermal.loss_ratio, thermal.oil_exponent,
        thermal.winding_exponent, loading_ratio,
    )  # fmt: skip
    return ThermalState(ambient_c + rise, thermal.k21 * gradient, (thermal.k21 - 1.0) * gradient)


def initial_state(transformer: Transformer, first_loading_ratio: float) -> ThermalState:
    """The state that is given, or the steady state of the first step's load."""
    if transformer.initial_state is not None:
        return transformer.initial_state
    return steady_state(transformer.thermal, first_loading_ratio, float(transformer.ambient_c[0]))


@kernel
def targets(
    top_oil_rise_k: float,
    hot_spot_gradient_k: float,
    loss_ratio: float,
    oil_exponent: float,
    winding_exponent: float,
    loading_ratio: float,
) -> tuple[float, float]:
    """Steady top-oil rise and hot-spot gradient in K at a load."""
    rise = top_oil_rise_k * ((1.0 + loading_ratio * loading_ratio * loss_ratio) / (1.0 + loss_ratio)) ** oil_exponent
    return rise, hot_spot_gradient_k * loading_ratio**winding_exponent


def ageing_rate_and_slope(hot_spot_c: FloatArray, paper: InsulationPaper) -> tuple[FloatArray, FloatArray]:
    """Hours of life lost in an hour at hot-spot temperatures, and its derivative by the temperature."""
    if paper == InsulationPaper.THERMALLY_UPGRADED:
        kelvin = hot_spot_c + _ZERO_C_K
        rate = np.exp(_UPGRADED_RATE_K / _UPGRADED_REFERENCE_K - _UPGRADED_RATE_K / kelvin)
        return rate, rate * _UPGRADED_RATE_K / kelvin**2
    rate = 2.0 ** ((hot_spot_c - _NORMAL_REFERENCE_C) / _NORMAL_DOUBLING_K)
    return rate, rate * np.log(2.0) / _NORMAL_DOUBLING_K


@inner_kernel
def ageing_rate(hot_spot_c: float, upgraded: bool) -> float:
    """Hours of life lost in an hour at a hot-spot temperature."""
    if upgraded:
        return np.exp(_UPGRADED_RATE_K / _UPGRADED_REFERENCE_K - _UPGRADED_RATE_K / (hot_spot_c + _ZERO_C_K))
    return 2.0 ** ((hot_spot_c - _NORMAL_REFERENCE_C) / _NORMAL_DOUBLING_K)


@vector_inner_kernel
def ageing_exponent(hot_spot_c: float, upgraded: bool) -> float:
    """Logarithm to base 2 of the ageing rate, for :func:`evflex.engine.capacity.powers.exp2`."""
    if upgraded:
        return _UPGRADED_RATE_K * _LOG2_E * (1.0 / _UPGRADED_REFERENCE_K - 1.0 / (hot_spot_c + _ZERO_C_K))
    return (hot_spot_c - _NORMAL_REFERENCE_C) * (1.0 / _NORMAL_DOUBLING_K)


@vector_inner_kernel
def ageing_slope(hot_spot_c: float, upgraded: bool) -> float:
    """Derivative of the ageing rate's natural logarithm by the hot-spot temperature, per K."""
    if upgraded:
        return _UPGRADED_RATE_K / ((hot_spot_c + _ZERO_C_K) * (hot_spot_c + _ZERO_C_K))
    return 1.0 / (_NORMAL_DOUBLING_K * _LOG2_E)


@kernel
def _simulate(
    constants: FloatArray,
    inner_count: int,
    inner_h: float,
    upgraded: bool,
    loading_ratio: FloatArray,
    ambient_c: FloatArray,
    state: FloatArray,
    out: FloatArray,
) -> None:
    """Fill ``out`` (rows: top oil at the end, largest top oil, largest hot-spot, loss of life) and move ``state``."""
    k21, oil_keep, winding_keep, gradient_keep = constants[5], constants[6], constants[7], constants[8]
    top_oil, winding, gradient = state[0], state[1], state[2]
    for k in range(loading_ratio.shape[0]):
        rise, hot_spot_gradient = targets(
            constants[0], constants[1], constants[2], constants[3], constants[4], loading_ratio[k]
        )
        oil_target = ambient_c[k] + rise
        winding_target, gradient_target = k21 * hot_spot_gradient, (k21 - 1.0) * hot_spot_gradient
        most_oil, most_hot_spot, lost_h = -np.inf, -np.inf, 0.0
        for _ in range(inner_count):
            top_oil = oil_target + oil_keep * (top_oil - oil_target)
            winding = winding_target + winding_keep * (winding - winding_target)
            gradient = gradient_target + gradient_keep * (gradient - gradient_target)
            hot_spot = top_oil + winding - gradient
            most_oil, most_hot_spot = max(most_oil, top_oil), max(most_hot_spot, hot_spot)
            lost_h += ageing_rate(hot_spot, upgraded) * inner_h
        out[0, k], out[1, k], out[2, k], out[3, k] = top_oil, most_oil, most_hot_spot, lost_h
    state[0], state[1], state[2] = top_oil, winding, gradient
