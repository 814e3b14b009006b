"""Compiles what tracks capacity, so that the first measurement is answered as fast as every other."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.capacity.tracker import CapacityTracker
from evflex.engine.capacity.tracking_model import Measurement, TrackedHubs, TrackerSetup
from evflex.engine.capacity.transformer import Cooling, ThermalParameters, Transformer


def warm_up_tracking() -> None:
    """Track two hubs for two measurements and a moment; policies are numbers to the kernels, so one stands for all."""
    transformer = Transformer(100.0, ThermalParameters.of(Cooling.ONAN), np.array([20.0]))
    setup = TrackerSetup(transformer, 100.0, TrackedHubs.of(2, max_kw=11.0), AllocationPolicy.MAX_MIN)
    tracker = CapacityTracker(setup)
    tracker.begin(0.0, 0.0)
    for k in (1.0, 2.0):
        sample = Measurement(k, np.full(3, 100.0), np.full(3, 230.0), 1.0, np.zeros(2))
        tracker.measure(sample, k, k)
    tracker.tick(3.0, 3.0)
