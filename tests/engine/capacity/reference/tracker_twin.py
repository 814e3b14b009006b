"""A transformer that is really there: per-second difference equations, and limits found by trying loads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evflex.engine.capacity.transformer import ThermalParameters, Transformer

Array = NDArray[np.float64]


@dataclass
class Plant:
    """A transformer under load, second by second (IEC 60076-7, difference equations with a step of a second)."""

    transformer: Transformer
    state: list[float] = field(default_factory=lambda: [20.0, 0.0, 0.0])
    ambient_c: float = 20.0
    hottest_oil_c: float = -np.inf

    def run(self, phase_kw: Array, phase_kvar: Array, seconds: int) -> float:
        """Load the phases for a while; returns the largest hot-spot."""
        most = -np.inf
        ratio = 3.0 * float(np.hypot(phase_kw, phase_kvar).max()) / self.transformer.rated_kva
        for _ in range(seconds):
            self.state = after(self.transformer.thermal, self.state, ratio, self.ambient_c, 1.0 / 60.0)
            most = max(most, self.hot_spot_c)
            self.hottest_oil_c = max(self.hottest_oil_c, self.state[0])
        return most

    @property
    def hot_spot_c(self) -> float:
        return self.state[0] + self.state[1] - self.state[2]


def after(own: ThermalParameters, state: list[float], ratio: float, ambient_c: float, minutes: float) -> list[float]:
    """One inner step."""
    oil, first, second = state
    rise = own.top_oil_rise_k * ((1 + ratio**2 * own.loss_ratio) / (1 + own.loss_ratio)) ** own.oil_exponent
    gradient = own.hot_spot_gradient_k * ratio**own.winding_exponent
    oil += minutes / (own.k11 * own.oil_time_constant_min) * (rise + ambient_c - oil)
    first += minutes / (own.k22 * own.winding_time_constant_min) * (own.k21 * gradient - first)
    second += minutes * own.k22 / own.oil_time_constant_min * ((own.k21 - 1) * gradient - second)
    return [oil, first, second]


def stays_cool(
    transformer: Transformer, state: list[float], ambient_c: float, ratio: float, hold_s: int, after_ratio: float
) -> bool:
    """Whether a load held for a while, and another for two days afterwards, keeps both temperatures."""
    for k in range(hold_s + 2 * 24 * 60):
        held = k < hold_s
        minutes = 1.0 / 60.0 if held else 1.0
        state = after(transformer.thermal, state, ratio if held else after_ratio, ambient_c, minutes)
        hot_spot_c = state[0] + state[1] - state[2]
        if hot_spot_c > transformer.max_hot_spot_c or state[0] > transformer.max_top_oil_c:
            return False
    return True


def largest_ratio(
    transformer: Transformer, state: list[float], ambient_c: float, hold_s: int, base_ratio: float, most: float
) -> float:
    """Largest load to hold before the base load alone follows, by bisection."""
    low, high = 0.0, most
    if stays_cool(transformer, state, ambient_c, most, hold_s, base_ratio):
        return most
    for _ in range(14):
        middle = 0.5 * (low + high)
        if stays_cool(transformer, state, ambient_c, middle, hold_s, base_ratio):
            low = middle
        else:
            high = middle
    return low


def room_kw(ratio: float, rated_kva: float, phase_kw: Array, phase_kvar: Array) -> float:
    """Balanced three-phase power at unity power factor that keeps every phase within a load, by trying."""
    low, high = 0.0, 10.0 * rated_kva
    for _ in range(60):
        middle = 0.5 * (low + high)
        worst = 3.0 * float(np.hypot(phase_kw + middle / 3.0, phase_kvar).max()) / rated_kva
        low, high = (middle, high) if worst <= ratio else (low, middle)
    return low
