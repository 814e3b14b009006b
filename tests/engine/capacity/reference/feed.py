"""A tracker with a clock, and measurements of whole numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from evflex.engine.capacity.tracker import CapacityTracker
from evflex.engine.capacity.tracking_model import (
    Measurement,
    TrackedHubs,
    TrackedUpdate,
    TrackerSetup,
)
from evflex.engine.capacity.transformer import Cooling, ThermalParameters, Transformer
from evflex.engine.supply_tree import FloatArray

NOW_S = 1_700_000_000.0
PHASE_SHARE = {1: [1.0, 0.0, 0.0], 2: [0.0, 1.0, 0.0], 3: [0.0, 0.0, 1.0], 4: [0.5, 0.5, 0.0], 7: [1 / 3] * 3}


def transformer_of(rated_kva: float = 400.0, **fields: Any) -> Transformer:
    """One that its temperature never limits, unless told otherwise."""
    anyway = Transformer(
        rated_kva, ThermalParameters.of(Cooling.ONAN), np.array([20.0]), max_hot_spot_c=1000.0, max_top_oil_c=1000.0
    )
    return replace(anyway, **fields)


def setup_of(hubs: TrackedHubs, transformer: Transformer | None = None, **fields: Any) -> TrackerSetup:
    """Quick and without a dead band, unless told otherwise."""
    setup = TrackerSetup(transformer or transformer_of(), 250.0, hubs, dead_band_ratio=0.0, ramp_ratio_per_min=1e6)
    return replace(setup, **fields)


class Feed:
    """A tracker with a clock and measurements of whole numbers."""

    def __init__(self, setup: TrackerSetup) -> None:
        self.tracker = CapacityTracker(setup)
        self.setup = setup
        self.time_s = 0.0
        self.last = self.tracker.begin(NOW_S, 0.0)

    def sample(
        self, base_kw: float | FloatArray, power_kw: FloatArray | None = None, factor: float = 1.0
    ) -> Measurement:
        """What is measured over a base load, of all phases or of each, with hubs that draw their capacity."""
        power_kw = self.last.capacity_kw if power_kw is None else power_kw
        share = np.array([PHASE_SHARE[c] for c in self.setup.hubs.phases.tolist()])
        phase_kw = (
            np.broadcast_to(np.asarray(base_kw) / (3.0 if np.ndim(base_kw) == 0 else 1.0), (3,)) + power_kw @ share
        )
        current_a = np.abs(phase_kw / factor) * 1000.0 / 230.0
        sign = 1.0 if phase_kw.sum() >= 0.0 else -1.0
        return Measurement(NOW_S + self.time_s, current_a, np.full(3, 230.0), sign * factor, power_kw)

    def measure(self, base_kw: float | FloatArray, seconds: float = 1.0, **fields: Any) -> TrackedUpdate:
        self.time_s += seconds
        return self.take(replace(self.sample(base_kw), **fields))

    def take(self, sample: Measurement) -> TrackedUpdate:
        self.last = self.tracker.measure(sample, NOW_S + self.time_s, self.time_s)
        return self.last

    def change(self, **fields: Any) -> TrackedUpdate:
        self.last = self.tracker.change(NOW_S + self.time_s, self.time_s, **fields)
        return self.last

    def tick(self, seconds: float) -> TrackedUpdate:
        self.time_s += seconds
        self.last = self.tracker.tick(NOW_S + self.time_s, self.time_s)
        return self.last


def settled(feed: Feed, base_kw: float | FloatArray, seconds: int = 300) -> TrackedUpdate:
    """After the noise filter has come down."""
    for _ in range(seconds // 5):
        feed.measure(base_kw, 5.0)
    return feed.last
