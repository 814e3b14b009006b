"""Which measurements make sense."""

from __future__ import annotations

from math import isfinite

import numpy as np

from evflex.engine.capacity.tracking_model import Measurement, TrackerSetup
from evflex.engine.supply_tree import DEFAULT_VOLTAGE_V

# Of the nominal line-to-neutral voltage: less is an outage or a broken transducer, more would have ended both.
_LEAST_VOLTAGE_RATIO, _MOST_VOLTAGE_RATIO = 0.1, 2.0
# Of rated current: a transformer of 2 % impedance short-circuited at its terminals carries so much.
_MOST_CURRENT_RATIO = 50.0
# Of max_kw: a hub gives nothing back, and a meter is not that wrong.
_LEAST_HUB_RATIO, _MOST_HUB_RATIO = -0.01, 1.5
_COLDEST_C, _HOTTEST_C = -60.0, 60.0


def nonsense_in(sample: Measurement, setup: TrackerSetup) -> str:
    """What is wrong with a measurement, with the rule that it breaks; empty when nothing is."""
    current_a, voltage_v, hubs = sample.current_a, sample.voltage_v, setup.hubs
    if not isfinite(sample.unix_s):
        return "measurement_time must be set"
    if len(current_a) != 3 or len(voltage_v) != 3:
        return f"current_a and voltage_v must have length 3, have {len(current_a)} and {len(voltage_v)}"
    low_v, high_v = _LEAST_VOLTAGE_RATIO * DEFAULT_VOLTAGE_V, _MOST_VOLTAGE_RATIO * DEFAULT_VOLTAGE_V
    for f, volts in enumerate(voltage_v.tolist()):
        if not low_v <= volts <= high_v:
            return f"voltage_v[{f}] must lie between {low_v:g} and {high_v:g}, is {volts:g}"
    most_a = _MOST_CURRENT_RATIO * setup.transformer.rated_kva * 1000.0 / 3.0 / DEFAULT_VOLTAGE_V
    for f, amperes in enumerate(current_a.tolist()):
        if not 0.0 <= amperes <= most_a:
            return f"current_a[{f}] must lie between 0 and {most_a:g}, is {amperes:g}"
    factor = sample.power_factor
    if not 0.0 < abs(factor) <= 1.0:
        return f"power_factor must lie in [-1, 1] without 0, is {factor:g}"
    if sample.ambient_c is not None and not _COLDEST_C <= sample.ambient_c <= _HOTTEST_C:
        return f"ambient_c must lie between {_COLDEST_C:g} and {_HOTTEST_C:g}, is {sample.ambient_c:g}"
    power_kw = sample.hub_power_kw
    if len(power_kw) not in (0, len(hubs)):
        return f"hub_power_kw must have length 0 or {len(hubs)}, has {len(power_kw)}"
    if not len(power_kw):
        return ""
    sound = (power_kw >= _LEAST_HUB_RATIO * hubs.max_kw) & (power_kw <= _MOST_HUB_RATIO * hubs.max_kw)
    if sound.all():
        return ""
    h = int(np.argmin(sound))
    return (
        f"hub_power_kw[{h}] must lie between {_LEAST_HUB_RATIO:.0%} and {_MOST_HUB_RATIO:.0%} of max_kw "
        f"({hubs.max_kw[h]:g}), is {power_kw[h]:g}"
    )
