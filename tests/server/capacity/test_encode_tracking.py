"""Hubs written straight in the wire format are what protobuf reads and writes."""

from __future__ import annotations

import numpy as np

from evflex.capacity.v1 import capacity_service_pb2, tracking_pb2
from evflex.engine.capacity.tracking_model import MeasurementOutcome, TrackedUpdate
from evflex.engine.capacity.transformer import ThermalState
from evflex.server.capacity.encode_tracking import HubWriter, event_head, event_hub, response
from evflex.server.messages import timestamp


def update_of(hubs: int) -> TrackedUpdate:
    rng = np.random.default_rng(1)
    return TrackedUpdate(
        changed=np.arange(hubs), capacity_kw=rng.uniform(0.0, 9.0, hubs), current_a=rng.uniform(0.0, 9.0, (hubs, 3)),
        evs_served=rng.integers(0, 1000, hubs), reason=np.arange(hubs) % 12, fallback_kw=rng.uniform(0.0, 9.0, hubs),
        outcome=MeasurementOutcome.TOO_OLD, detail="late", loading_ratio=0.5, state=ThermalState(50.0, 20.0, 5.0),
        hubs_capacity_kw=7.0, valid_until_unix_s=1_700_000_000.25, fallen_back=True,
    )  # fmt: skip


def expected(update: TrackedUpdate, hub_id: str, h: int, since_us: int, sequence: int) -> tracking_pb2.HubCapacity:
    return tracking_pb2.HubCapacity(
        hub_id=hub_id, capacity_kw=update.capacity_kw[h], current_a=update.current_a[h].tolist(),
        evs_served=int(update.evs_served[h]), valid_from_time=timestamp(since_us),
        valid_until_time=timestamp(1_700_000_000_250_000), fallback_kw=update.fallback_kw[h], sequence=sequence,
        reason=int(update.reason[h]), transformer_id="trafo ü",  # type: ignore[arg-type]
    )  # fmt: skip


def test_hubs_are_what_protobuf_writes() -> None:
    names = ["a", "b" * 200, "ü"] * 5
    update, writer = update_of(15), HubWriter("trafo ü", names)
    written = writer.write(update, range(15), 1_600_000_000_000_123, 2**50)
    for h, data in enumerate(written):
        read = tracking_pb2.HubCapacity.FromString(data)
        assert read == expected(update, names[h], h, 1_600_000_000_000_123, 2**50)


def test_a_renewal_keeps_time_and_number_of_the_change() -> None:
    update, writer = update_of(2), HubWriter("trafo ü", ["a", "b"])
    writer.write(update, [0, 1], 1_000_000, 5)
    writer.write(update, [1], 2_000_000, 6)
    renewed = [tracking_pb2.HubCapacity.FromString(data) for data in writer.write(update, [0, 1], 3, 7, renewed=True)]
    assert renewed == [expected(update, "a", 0, 1_000_000, 5), expected(update, "b", 1, 2_000_000, 6)]


def test_answers_and_events_hold_the_hubs() -> None:
    update = update_of(2)
    hubs = HubWriter("t", ["a", "b"]).write(update, [0, 1], 1, 1)
    answer = tracking_pb2.TrackCapacityResponse.FromString(response(update, timestamp(7), hubs))
    assert [hub.hub_id for hub in answer.hubs] == ["a", "b"]
    assert (answer.outcome, answer.detail, answer.fallen_back) == (5, "late", True)
    assert answer.transformer.hot_spot_c == 65.0
    assert answer.measurement_time == timestamp(7)
    assert not tracking_pb2.TrackCapacityResponse.FromString(response(update, None, ())).HasField("measurement_time")
    head = event_head(capacity_service_pb2.CAPACITY_EVENT_KIND_CHANGED, "token", 9)
    event = capacity_service_pb2.WatchCapacityResponse.FromString(head + event_hub(hubs[1]))
    assert (event.kind, event.resume_token, event.event_time) == (3, "token", timestamp(9))
    assert list(event.hubs) == [answer.hubs[1]]
