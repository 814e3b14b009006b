"""Tracking and watching by both clients: what is sent and answered, and streams that end or break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pandas as pd
import pytest

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.capacity.v1 import tracking_pb2, transformer_pb2
from evflex.client import (
    CallCancelledError,
    CapacityMeasurement,
    DeadlineExceededError,
    EvflexClient,
    Hub,
    InvalidRequestError,
    LimitExceededError,
    TrackedChanges,
    TrackedHub,
    Transformer,
    UnavailableError,
)
from evflex.client.capacity import aio_tracking, sync_tracking
from tests.client.capacity.messages import hub_capacity
from tests.client.fake_server import FakeServer, abort, failing

TRANSFORMER = Transformer("t-1", 630.0, ambient_c=-5.0)
HUBS = [Hub("homes", 160.0), Hub("road", 300.0)]
NOON = pd.Timestamp("2026-01-14 12:00", tz="UTC")
BUSY = failing(grpc.StatusCode.UNAVAILABLE, "t-1 is tracked already")
PATIENCE_S = 20.0


def measurement(second: int = 0, power_factor: float = 0.98) -> CapacityMeasurement:
    return CapacityMeasurement(
        NOON + pd.Timedelta(seconds=second), [400.0, 410.0, 390.0], [230.0] * 3, power_factor, [20.0, 50.0]
    )


def answer_to(request: tracking_pb2.TrackCapacityRequest) -> tracking_pb2.TrackCapacityResponse:
    """One hub's capacity: the current of L1 for a measurement, else 1 kW."""
    answer = tracking_pb2.TrackCapacityResponse()
    if request.WhichOneof("payload") == "measurement":
        answer.outcome = tracking_pb2.MEASUREMENT_OUTCOME_ACCEPTED
        answer.measurement_time.CopyFrom(request.measurement.measurement_time)
        answer.hubs.append(hub_capacity("homes", request.measurement.current_a[0]))
    else:
        answer.hubs.append(hub_capacity("homes", 1.0))
    answer.transformer.loading_ratio = 0.9
    answer.transformer.state.top_oil_c = 50.0
    answer.valid_until_time.FromJsonString("2026-01-14T12:00:10Z")
    return answer


def echo(requests: Any, _context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
    for request in requests:
        yield answer_to(request)


def test_each_message_is_answered(client: Any, server: FakeServer) -> None:
    server.on("TrackCapacity", echo)
    with client.track_capacity(TRANSFORMER, HUBS, max_silence=timedelta(seconds=5)) as tracking:
        assert tracking.opening.outcome == "UNSPECIFIED"
        tracking.send(measurement())
        answer = tracking.receive(PATIENCE_S)
        assert (answer.outcome, answer.detail, answer.fallen_back) == ("ACCEPTED", "", False)
        assert answer.measurement_time == NOON
        assert answer.valid_until_time == NOON + pd.Timedelta(seconds=10)
        assert answer.capacity_kw.to_dict() == {"homes": 400.0}
        (hub,) = answer.hubs
        assert (hub.fallback_kw, hub.reason, hub.evs_served, len(hub.current_a)) == (10.0, "HOT_SPOT", 3, 3)
        assert answer.transformer.loading_ratio == 0.9
        assert answer.transformer.state.top_oil_c == 50.0


def test_header_measurements_and_changes_go_in_order(client: Any, server: FakeServer) -> None:
    server.on("TrackCapacity", echo)
    options = {
        "policy": "PROPORTIONAL", "contingency": True, "n1_rated_kva": 400.0, "max_silence": timedelta(seconds=5),
        "dead_band_ratio": 0.0, "ramp_ratio_per_min": 0.25, "rotation": timedelta(minutes=1),
        "max_clock_skew": timedelta(seconds=1), "area_id": "DK2",
    }  # fmt: skip
    with client.track_capacity(TRANSFORMER, HUBS, **options) as tracking:
        tracking.send(measurement())
        tracking.send(TrackedChanges(contingency=False, hubs=[TrackedHub("road", 120.0, 2), TrackedHub("homes")]))
        tracking.send(TrackedChanges(cut_kw=0.0))
        tracking.send(TrackedChanges(clear_cut=True))
        tracking.finish()
        assert len(list(tracking)) == 4
    header, measured, changed, cut, cleared = server.asked("TrackCapacity")[0]
    header = header.header
    assert header.request_id
    assert (header.transformer.transformer_id, list(header.transformer.ambient_c)) == ("t-1", [-5.0])
    assert [hub.hub_id for hub in header.hubs] == ["homes", "road"]
    assert not any(hub.demand_kw for hub in header.hubs)
    assert header.grid_condition == transformer_pb2.GRID_CONDITION_CONTINGENCY
    assert (header.n1_rated_kva, header.dead_band_ratio, header.ramp_ratio_per_min) == (400.0, 0.0, 0.25)
    assert header.HasField("dead_band_ratio")
    assert (header.max_silence_duration.seconds, header.rotation_duration.seconds) == (5, 60)
    assert (header.max_clock_skew_duration.seconds, header.area_id) == (1, "DK2")
    assert list(measured.measurement.hub_power_kw) == [20.0, 50.0]
    assert not measured.measurement.HasField("ambient_c")
    assert changed.changes.grid_condition == transformer_pb2.GRID_CONDITION_NORMAL
    road, homes = changed.changes.hubs
    assert (road.hub_id, road.demand_kw, road.connected_evs) == ("road", 120.0, 2)
    assert not homes.HasField("demand_kw")
    assert cut.changes.HasField("cut_kw")
    assert cut.changes.grid_condition == transformer_pb2.GRID_CONDITION_UNSPECIFIED
    assert cleared.changes.clear_cut


def test_who_stops_waiting_does_not_lose_the_answer(client: Any, server: FakeServer) -> None:
    may_answer = threading.Event()

    def late(requests: Any, _context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        yield answer_to(next(requests))
        request = next(requests)
        may_answer.wait(PATIENCE_S)
        yield answer_to(request)
        yield from echo(requests, None)

    server.on("TrackCapacity", late)
    with client.track_capacity(TRANSFORMER, HUBS) as tracking:
        tracking.send(measurement())
        with pytest.raises(TimeoutError):
            tracking.receive(0.01)
        may_answer.set()
        assert tracking.receive(PATIENCE_S).outcome == "ACCEPTED"
        tracking.send(TrackedChanges(contingency=True))
        assert tracking.receive(PATIENCE_S).outcome == "UNSPECIFIED"


def test_answers_that_were_not_asked_for_come_too(client: Any, server: FakeServer) -> None:
    def silent(requests: Any, _context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        yield answer_to(next(requests))
        yield tracking_pb2.TrackCapacityResponse(fallen_back=True)
        yield from echo(requests, None)

    server.on("TrackCapacity", silent)
    with client.track_capacity(TRANSFORMER, HUBS) as tracking:
        assert tracking.receive(PATIENCE_S).fallen_back


def test_the_end_of_the_block_ends_the_stream(client: Any, server: FakeServer) -> None:
    ended = threading.Event()

    def noting(requests: Any, _context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        yield from echo(requests, None)
        ended.set()

    server.on("TrackCapacity", noting)
    with client.track_capacity(TRANSFORMER, HUBS) as tracking:
        tracking.send(measurement())
    assert ended.wait(PATIENCE_S)
    assert len(server.asked("TrackCapacity")[0]) == 2
    with pytest.raises(CallCancelledError, match="has ended"):
        tracking.send(measurement(1))
    with pytest.raises(CallCancelledError, match="has ended"):
        tracking.receive()
    tracking.close()


def test_an_error_in_the_block_ends_the_call_and_comes_out(client: Any, server: FakeServer) -> None:
    ended = threading.Event()

    def endless(requests: Any, context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        context.add_callback(ended.set)
        yield answer_to(next(requests))
        ended.wait(PATIENCE_S)

    server.on("TrackCapacity", endless)
    with pytest.raises(KeyError, match="mine"), client.track_capacity(TRANSFORMER, HUBS):
        raise KeyError("mine")
    assert ended.wait(PATIENCE_S)


def test_a_transformer_that_is_tracked_already_is_asked_for_again(client: Any, server: FakeServer) -> None:
    server.on("TrackCapacity", BUSY, echo)
    with client.track_capacity(TRANSFORMER, HUBS) as tracking:
        tracking.send(measurement())
        assert tracking.receive(PATIENCE_S).outcome == "ACCEPTED"
    first, second = (asked[:1] for asked in server.asked("TrackCapacity"))
    assert second[0].header.request_id
    assert first in ([], second)


def test_a_transformer_that_stays_tracked_is_given_up(client: Any, server: FakeServer) -> None:
    def busy(requests: Any, context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        yield from ()
        next(requests)  # it tells which transformer
        abort(context, grpc.StatusCode.UNAVAILABLE, "t-1 is tracked already")

    server.on("TrackCapacity", busy)
    with pytest.raises(UnavailableError, match="tracked already"), client.track_capacity(TRANSFORMER, HUBS):
        pass
    assert len(server.calls) == 3


def test_a_header_that_is_refused_is_not_repeated(client: Any, server: FakeServer) -> None:
    def refusing(requests: Any, context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        yield from ()
        next(requests)
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, "max_silence_duration must be >= 1 s")

    server.on("TrackCapacity", refusing)
    with pytest.raises(InvalidRequestError, match="max_silence"), client.track_capacity(TRANSFORMER, HUBS):
        pass
    assert len(server.calls) == 1


def test_a_header_that_cannot_be_written_is_not_sent(client: Any, server: FakeServer) -> None:
    with pytest.raises(InvalidRequestError, match="unknown cooling"):
        client.track_capacity(Transformer("t", 630.0, "WATER"), HUBS)
    assert server.calls == []


def test_a_server_that_does_not_answer_the_header_is_given_up(
    client: Any, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sync_tracking, aio_tracking):
        monkeypatch.setattr(module, "OPENING_TIMEOUT_S", 0.05)
    ended = threading.Event()

    def mute(_requests: Any, context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        context.add_callback(ended.set)
        ended.wait(PATIENCE_S)
        yield from ()

    server.on("TrackCapacity", mute)
    with pytest.raises(DeadlineExceededError, match="header"), client.track_capacity(TRANSFORMER, HUBS):
        pass
    assert ended.wait(PATIENCE_S)


def test_a_stream_that_breaks_is_told_to_the_reader(client: Any, server: FakeServer) -> None:
    def breaking(requests: Any, context: Any) -> Iterator[tracking_pb2.TrackCapacityResponse]:
        yield answer_to(next(requests))
        next(requests)
        abort(context, grpc.StatusCode.UNAVAILABLE, "going down")

    server.on("TrackCapacity", breaking)
    with client.track_capacity(TRANSFORMER, HUBS) as tracking:
        tracking.send(measurement())
        with pytest.raises(UnavailableError, match="going down"):
            tracking.receive(PATIENCE_S)
        with pytest.raises(CallCancelledError):
            tracking.send(measurement(1))


def test_a_measurement_without_a_time_zone_is_not_sent(client: Any, server: FakeServer) -> None:
    server.on("TrackCapacity", echo)
    with client.track_capacity(TRANSFORMER, HUBS) as tracking:
        with pytest.raises(ValueError, match="measurement_time must have a time zone"):
            tracking.send(CapacityMeasurement(pd.Timestamp("2026-01-14"), [1.0] * 3, [230.0] * 3))
        tracking.send(measurement())
        assert tracking.receive(PATIENCE_S).outcome == "ACCEPTED"


def test_one_thread_sends_while_another_reads(server: FakeServer) -> None:
    count = 200
    server.on("TrackCapacity", echo)
    with EvflexClient(server.address) as client, client.track_capacity(TRANSFORMER, HUBS) as tracking:

        def feed() -> None:
            for second in range(count):
                tracking.send(measurement(second))
            tracking.finish()

        sender = threading.Thread(target=feed)
        sender.start()
        times = [answer.measurement_time for answer in tracking]
        sender.join()
    assert times == [NOON + pd.Timedelta(seconds=second) for second in range(count)]


def test_another_thread_can_end_a_reader(server: FakeServer) -> None:
    server.on("TrackCapacity", echo)
    answers: list[Any] = []
    with EvflexClient(server.address) as client, client.track_capacity(TRANSFORMER, HUBS) as tracking:
        reader = threading.Thread(target=lambda: answers.extend(tracking))
        reader.start()
        tracking.send(measurement())
        tracking.close()
        reader.join(PATIENCE_S)
        assert not reader.is_alive()


def event(kind: int, token: str = "", *hubs: tracking_pb2.HubCapacity, allocation_id: str = "") -> Any:
    message = pb.WatchCapacityResponse(
        kind=kind,  # type: ignore[arg-type]
        hubs=hubs,
        resume_token=token,
        allocation_id=allocation_id,
    )
    message.event_time.FromJsonString("2026-01-14T12:00:00Z")
    return message


def telling(*events: pb.WatchCapacityResponse, then: grpc.StatusCode | None = None) -> Any:
    def behaviour(_request: Any, context: Any) -> Iterator[pb.WatchCapacityResponse]:
        yield from events
        if then is not None:
            abort(context, then, "later")

    return behaviour


SNAPSHOT = event(pb.CAPACITY_EVENT_KIND_SNAPSHOT, "1", hub_capacity("homes", 40.0))
COMPLETE = event(pb.CAPACITY_EVENT_KIND_SNAPSHOT_COMPLETE, "1")
CHANGED = event(pb.CAPACITY_EVENT_KIND_CHANGED, "2", hub_capacity("homes", 60.0, sequence=2))
PLANNED = event(pb.CAPACITY_EVENT_KIND_PLANNED, "3", allocation_id="a-1")
HEARTBEAT = event(pb.CAPACITY_EVENT_KIND_HEARTBEAT, "3")


def test_a_watch_tells_what_happens(client: Any, server: FakeServer) -> None:
    server.on("WatchCapacity", telling(SNAPSHOT, COMPLETE, CHANGED, PLANNED, HEARTBEAT))
    events = list(client.watch_capacity(["homes"]))
    assert [e.kind for e in events] == ["SNAPSHOT", "SNAPSHOT_COMPLETE", "CHANGED", "PLANNED", "HEARTBEAT"]
    assert [e.resume_token for e in events] == ["", "1", "2", "3", "3"]
    assert [(hub.hub_id, hub.capacity_kw, hub.sequence) for hub in events[2].hubs] == [("homes", 60.0, 2)]
    assert events[2].hubs[0].valid_until_time == pd.Timestamp("2026-01-14T17:00:10Z")
    assert events[3].allocation_id == "a-1"
    assert events[0].event_time == NOON
    assert list(server.asked("WatchCapacity")[0].hub_ids) == ["homes"]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_watch_goes_on_after_the_last_event(client: Any, server: FakeServer, code: grpc.StatusCode) -> None:
    server.on("WatchCapacity", telling(SNAPSHOT, COMPLETE, CHANGED, then=code), telling(PLANNED))
    assert [e.kind for e in client.watch_capacity()] == ["SNAPSHOT", "SNAPSHOT_COMPLETE", "CHANGED", "PLANNED"]
    assert [request.resume_token for request in server.asked("WatchCapacity")] == ["", "2"]


def test_a_broken_snapshot_starts_anew(client: Any, server: FakeServer) -> None:
    server.on("WatchCapacity", telling(SNAPSHOT, then=grpc.StatusCode.UNAVAILABLE), telling(SNAPSHOT, COMPLETE))
    assert [e.kind for e in client.watch_capacity()] == ["SNAPSHOT", "SNAPSHOT", "SNAPSHOT_COMPLETE"]
    assert [request.resume_token for request in server.asked("WatchCapacity")] == ["", ""]


def test_a_watch_resumes_where_the_caller_says(client: Any, server: FakeServer) -> None:
    server.on("WatchCapacity", telling(then=grpc.StatusCode.UNAVAILABLE), telling(PLANNED))
    assert [e.resume_token for e in client.watch_capacity(resume_token="2")] == ["3"]
    assert [request.resume_token for request in server.asked("WatchCapacity")] == ["2", "2"]


def test_a_watch_that_never_gets_through_is_given_up(client: Any, server: FakeServer) -> None:
    server.on("WatchCapacity", failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "too slow"))
    with pytest.raises(LimitExceededError, match="too slow"):
        list(client.watch_capacity())
    assert len(server.calls) == 3
