"""Whatever an operator sends is answered, breaks nothing, and never gives away more than the transformer has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evflex.capacity.v1 import tracking_pb2
from tests.conftest import SOAK
from tests.server.capacity.live_support import Operator, header_of, running_live, snapshot_of, time_at, watching
from tests.server.support import START_S

ODD = [0.0, -1.0, 1.0, 230.0, 500.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 5e-324]
COUNTS = [0, 1, 2, 3, 4]


def odd_measurement(rng: np.random.Generator) -> tracking_pb2.CapacityMeasurement:
    """A sound one with some fields that may not be."""
    sound = {
        "current_a": [300.0] * 3, "voltage_v": [230.0] * 3, "power_factor": 0.95, "hub_power_kw": [10.0, 20.0],
    }  # fmt: skip
    message = tracking_pb2.CapacityMeasurement(**sound)  # type: ignore[arg-type]
    for name in ("current_a", "voltage_v", "hub_power_kw"):
        if rng.random() < 0.3:
            values = getattr(message, name)
            del values[:]
            values.extend(rng.choice(ODD, rng.choice(COUNTS)))
    if rng.random() < 0.3:
        message.power_factor = rng.choice(ODD)
    if rng.random() < 0.3:
        message.ambient_c = rng.choice(ODD)
    return message


def odd_changes(rng: np.random.Generator) -> tracking_pb2.TrackedChanges:
    message = tracking_pb2.TrackedChanges(grid_condition=int(rng.integers(0, 5)))  # type: ignore[arg-type]
    for _ in range(rng.choice(COUNTS)):
        hub = message.hubs.add(hub_id=str(rng.choice(["hub-1", "hub-2", "hub-3", ""])))
        if rng.random() < 0.5:
            hub.demand_kw = rng.choice(ODD)
        if rng.random() < 0.5:
            hub.connected_evs = int(rng.choice([-(2**31), -1, 0, 1, 3, 2**31 - 1]))
    if rng.random() < 0.3:
        message.cut_kw = rng.choice(ODD)
    message.clear_cut = bool(rng.random() < 0.3)
    return message


@pytest.mark.parametrize("seed", range(20 if SOAK else 2))
def test_odd_messages_are_answered_one_by_one(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with running_live(tmp_path) as here:
        operator = Operator(here, header_of())
        with watching(here) as events:
            snapshot_of(events)
            for _ in range(150):
                if rng.random() < 0.5:
                    message = odd_measurement(rng)
                    fields = {field.name: value for field, value in message.ListFields()}
                    if rng.random() < 0.1:
                        fields["measurement_time"] = time_at(START_S)
                    answer = operator.measure(**fields)
                    assert answer.outcome
                    assert bool(answer.detail) == (answer.outcome != tracking_pb2.MEASUREMENT_OUTCOME_ACCEPTED)
                else:
                    answer = operator.change(**{f.name: value for f, value in odd_changes(rng).ListFields()})
                assert 0.0 <= answer.transformer.hubs_capacity_kw <= 200.0
                assert all(np.isfinite([hub.capacity_kw, hub.fallback_kw, *hub.current_a]).all() for hub in answer.hubs)
            assert operator.change(clear_cut=True, cut_kw=None).detail == ""
            assert next(events).hubs
