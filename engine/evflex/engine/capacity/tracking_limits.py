"""How far a transformer may be loaded now, so that it stays cool enough later: thermal look-ahead in closed form.

Under a constant load, top oil and both hot-spot gradients approach their targets as exp(-t / τ) with the time constants
k11 τ_o, k22 τ_w and τ_o / k22: the differential equations that the difference equations of IEC 60076-7 (see
:mod:`~evflex.engine.capacity.thermal`) stand for. So a state at any later time costs three multiplications, however
long a measurement was awaited, and the factors of fixed times are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from evflex.engine.capacity.model import BindingReason
from evflex.engine.capacity.thermal import targets
from evflex.engine.capacity.transformer import Transformer
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray

_HOT_SPOT, _TOP_OIL = int(BindingReason.HOT_SPOT), int(BindingReason.TOP_OIL)
# Hubs hear of a fall this long after the silence began, at the latest.
_GRACE_S = 60.0
# The hot-spot peaks between the times that are looked at: at most this much higher.
_MARGIN_K = 0.1
_LONGEST_HOLD_STEP_S = 30.0
_MOST_HOLD_STEPS, _SETTLING_STEPS = 512, 256
# A bisection's last interval is 1e-9 of the first.
_BISECTIONS = 30


@dataclass(frozen=True, slots=True)
class ThermalOutlook:
    """What the kernels need of a transformer.

    Attributes:
        values: top-oil rise, hot-spot gradient, loss ratio, x, y, k21, largest hot-spot, largest top oil, (8,).
        time_constants_s: Of top oil, winding gradient and oil gradient, (3,).
        hold_keep: What each still keeps of its distance from the target after rising times, the last of which is the
            end of the time that a load is to be held, (n, 3).
        settling_keep: The same for times from now until nothing moves any more, (m, 3).
    """

    values: FloatArray
    time_constants_s: FloatArray
    hold_keep: FloatArray
    settling_keep: FloatArray

    @classmethod
    def of(cls, transformer: Transformer, max_silence_s: float) -> ThermalOutlook:
        """The outlook of a transformer whose load may go unheard for ``max_silence_s``."""
        own = transformer.thermal
        values = np.array(
            [
                own.top_oil_rise_k, own.hot_spot_gradient_k, own.loss_ratio, own.oil_exponent, own.winding_exponent,
                own.k21, transformer.max_hot_spot_c - _MARGIN_K, transformer.max_top_oil_c - _MARGIN_K,
            ]
        )  # fmt: skip
        constants_s = 60.0 * np.array(
            [own.k11 * own.oil_time_constant_min, own.k22 * own.winding_time_constant_min,
             own.oil_time_constant_min / own.k22]
        )  # fmt: skip
        fastest_s, slowest_s = float(constants_s.min()), float(constants_s.max())
        hold_s = max_silence_s + _GRACE_S
        count = min(_MOST_HOLD_STEPS, ceil(hold_s / min(_LONGEST_HOLD_STEP_S, fastest_s / 8.0)))
        hold = hold_s * np.arange(1, count + 1) / count
        settling = np.geomspace(fastest_s / 16.0, 16.0 * slowest_s, _SETTLING_STEPS)
        return cls(values, constants_s, np.exp(-hold[:, None] / constants_s), np.exp(-settling[:, None] / constants_s))


@kernel
def advance(
    values: FloatArray, time_constants_s: FloatArray, loading_ratio: float, ambient_c: float, seconds: float,
    state: FloatArray,
) -> None:  # fmt: skip
    """Move ``state`` (top oil, winding gradient, oil gradient) on by a time of constant load."""
    oil, winding, gradient = _targets(values, loading_ratio, ambient_c)
    state[0] = oil + (state[0] - oil) * np.exp(-seconds / time_constants_s[0])
    state[1] = winding + (state[1] - winding) * np.exp(-seconds / time_constants_s[1])
    state[2] = gradient + (state[2] - gradient) * np.exp(-seconds / time_constants_s[2])


@inner_kernel
def lasting_loading(
    values: FloatArray, settling_keep: FloatArray, ambient_c: float, state: FloatArray, most_ratio: float
) -> tuple[float, int]:
    """Largest load, up to ``most_ratio``, that can be held for ever from now on, and what bounds it: 0 for the ratio.

    None can where a limit is broken already.
    """
    top_oil, winding, gradient = state[0], state[1], state[2]
    if top_oil + winding - gradient > values[6] + _MARGIN_K:
        return 0.0, _HOT_SPOT
    if top_oil > values[7] + _MARGIN_K:
        return 0.0, _TOP_OIL
    reason = _settles(values, settling_keep, ambient_c, top_oil, winding, gradient, most_ratio)
    if reason == 0:
        return most_ratio, 0
    low, high = 0.0, most_ratio
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        found = _settles(values, settling_keep, ambient_c, top_oil, winding, gradient, middle)
        if found == 0:
            low = middle
        else:
            high, reason = middle, found
    return low, reason


@inner_kernel
def held_loading(
    values: FloatArray,
    hold_keep: FloatArray,
    settling_keep: FloatArray,
    ambient_c: float,
    state: FloatArray,
    lasting_ratio: float,
    after_ratio: float,
    most_ratio: float,
) -> tuple[float, int]:
    """Largest load that can be held until a silence would be noticed, the hubs falling to firm capacity then.

    Args:
        values: See :class:`ThermalOutlook`.
        hold_keep: See :class:`ThermalOutlook`.
        settling_keep: See :class:`ThermalOutlook`.
        ambient_c: Ambient temperature.
        state: Now.
        lasting_ratio: Load that can be held for ever.
        after_ratio: Load afterwards.
        most_ratio: Largest load that is wanted, above ``lasting_ratio``.

    Returns:
        The load, and what bounds it: 0 for ``most_ratio``.
    """
    top_oil, winding, gradient = state[0], state[1], state[2]
    reason = _holds(
        values, hold_keep, settling_keep, ambient_c, top_oil, winding, gradient, most_ratio, after_ratio
    )  # fmt: skip
    if reason == 0:
        return most_ratio, 0
    low, high = lasting_ratio, most_ratio
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        found = _holds(
            values, hold_keep, settling_keep, ambient_c, top_oil, winding, gradient, middle, after_ratio
        )  # fmt: skip
        if found == 0:
            low = middle
        else:
            high, reason = middle, found
    return low, reason


@inner_kernel
def _targets(values: FloatArray, loading_ratio: float, ambient_c: float) -> tuple[float, float, float]:
    rise, hot_spot_gradient = targets(values[0], values[1], values[2], values[3], values[4], loading_ratio)
    return ambient_c + rise, values[5] * hot_spot_gradient, (values[5] - 1.0) * hot_spot_gradient


@inner_kernel
def _settles(
    values: FloatArray, keep: FloatArray, ambient_c: float, top_oil: float, winding: float, gradient: float,
    loading_ratio: float,
) -> int:  # fmt: skip
    """Whether a load stays within the limits at all times of ``keep``: 0, or the limit that it breaks."""
    oil_target, winding_target, gradient_target = _targets(values, loading_ratio, ambient_c)
    settled = oil_target + winding_target - gradient_target
    oil_off, winding_off, gradient_off = top_oil - oil_target, winding - winding_target, gradient - gradient_target
    if settled > values[6]:
        return _HOT_SPOT
    if oil_target > values[7]:
        return _TOP_OIL
    for k in range(keep.shape[0]):
        oil_part = oil_off * keep[k, 0]
        if settled + oil_part + winding_off * keep[k, 1] - gradient_off * keep[k, 2] > values[6]:
            return _HOT_SPOT
        if oil_target + oil_part > values[7]:
            return _TOP_OIL
    return 0


@inner_kernel
def _holds(
    values: FloatArray, hold_keep: FloatArray, settling_keep: FloatArray, ambient_c: float, top_oil: float,
    winding: float, gradient: float, loading_ratio: float, after_ratio: float,
) -> int:  # fmt: skip
    """The same for a load that is held for a while, and another one afterwards."""
    oil_target, winding_target, gradient_target = _targets(values, loading_ratio, ambient_c)
    oil, own, other = top_oil, winding, gradient
    for k in range(hold_keep.shape[0]):
        oil = oil_target + (top_oil - oil_target) * hold_keep[k, 0]
        own = winding_target + (winding - winding_target) * hold_keep[k, 1]
        other = gradient_target + (gradient - gradient_target) * hold_keep[k, 2]
        if oil + own - other > values[6]:
            return _HOT_SPOT
        if oil > values[7]:
            return _TOP_OIL
    return _settles(values, settling_keep, ambient_c, oil, own, other, after_ratio)
