"""Samples: a meter, an origin and a step to forecast from it; drawn to train, rolled to try, given to forecast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evflex.engine.supply_tree import BoolArray, IntArray

# Origins before this many days have too little behind them to learn from.
_LEAST_DAYS_BEHIND = 7


@dataclass(frozen=True, slots=True)
class Samples:
    """What is forecast, from when; only readings of steps before the origin are known.

    Attributes:
        meter: Index of the meter, (n,).
        origin: First step that is not known yet, (n,).
        target: Step to forecast, >= origin, (n,).
        lead_unit: Steps that the trees count leads in: with origins at one time of the day, steps would say no more
            than slots do, and the wrong thing on the day on which clocks change.
    """

    meter: IntArray
    origin: IntArray
    target: IntArray
    lead_unit: int = 1

    def __len__(self) -> int:
        """Number of samples."""
        return self.meter.shape[0]

    def where(self, kept: BoolArray | slice) -> Samples:
        """Some of them."""
        return Samples(self.meter[kept], self.origin[kept], self.target[kept], self.lead_unit)

    def parts(self, most: int) -> Iterator[slice]:
        """Slices of at most ``most`` samples, so that memory stays bounded."""
        for begin in range(0, len(self), most):
            yield slice(begin, begin + most)


@dataclass(frozen=True, slots=True)
class Window:
    """How the steps to forecast lie behind an origin.

    Attributes:
        lead_steps: Steps between origin and horizon.
        horizon_steps: Steps of the horizon.
        slots_per_day: Steps of a day.
    """

    lead_steps: int
    horizon_steps: int
    slots_per_day: int

    @property
    def origin_stride(self) -> int:
        """Steps from origin to origin: a day where the horizon covers one, so that each lead keeps its slot.

        A shorter one is tried at all times of the day: a day's forecast has one origin, an hour's has 24.
        """
        return self.slots_per_day if self.horizon_steps >= self.slots_per_day else 1


def training_samples(window: Window, meters: IntArray, end: int, most: int, rng: np.random.Generator) -> Samples:
    """Up to ``most`` seeded samples whose targets lie before step ``end``; none where the history is too short."""
    stride = window.origin_stride
    # origins that are whole strides before the end, like that of the forecast itself
    last = end - window.lead_steps - 1
    count = (last - _LEAST_DAYS_BEHIND * window.slots_per_day) // stride + 1
    if count <= 0 or not len(meters):
        nothing = np.empty(0, dtype=np.int64)
        return Samples(nothing, nothing, nothing, stride)
    all_of_them = count * window.horizon_steps * len(meters)
    number = np.arange(all_of_them) if all_of_them <= most else rng.integers(0, all_of_them, most)
    number, ahead = np.divmod(number, window.horizon_steps)
    number, back = np.divmod(number, count)
    origin = end - stride * ((end - last + stride - 1) // stride) - stride * back
    samples = Samples(meters[number], origin, origin + window.lead_steps + ahead, stride)
    return samples.where((samples.target < end) & (samples.origin > 0))


def rolling_samples(
    window: Window, meters: IntArray, begin: int, end: int, most: int, rng: np.random.Generator
) -> Samples:
    """The same origins at and after ``begin`` and steps for each meter, targets before ``end``, about ``most`` in all.

    Where there are too many they are drawn; origins rise within a meter.
    """
    stride, horizon = window.origin_stride, window.horizon_steps
    last = end - stride * -(-(window.lead_steps + horizon) // stride)
    origins = np.arange(last, begin - 1, -stride)[::-1]
    all_of_them, most_a_meter = len(origins) * horizon, max(1, most // max(1, len(meters)))
    number = np.arange(all_of_them)
    if all_of_them > most_a_meter:
        number = np.sort(rng.choice(all_of_them, most_a_meter, replace=False))
    meter, number = np.repeat(meters, len(number)), np.tile(number, len(meters))
    origin = origins[number // horizon]
    return Samples(meter, origin, origin + window.lead_steps + number % horizon, stride)


def forecast_samples(window: Window, meters: IntArray, end: int) -> Samples:
    """Every step of the horizon behind the history's end for each meter, a meter after another."""
    target = end + window.lead_steps + np.arange(window.horizon_steps)
    meter = np.repeat(meters, len(target))
    return Samples(meter, np.full(len(meter), end), np.tile(target, len(meters)), window.origin_stride)
