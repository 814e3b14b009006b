"""WatchCapacity: what hubs may draw, every change to every watcher who may see it, and an end for the slow."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from evflex.capacity.v1 import allocation_pb2
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.server.caller import Caller
from evflex.server.tokens import make_token
from tests.server.capacity.live_support import Operator, event_with, running_live, snapshot_of, watching
from tests.server.support import open_channel, reason_of, retry_delay_s, until, violations_of

CHANGED = api.CAPACITY_EVENT_KIND_CHANGED
PLANNED = api.CAPACITY_EVENT_KIND_PLANNED
HEARTBEAT = api.CAPACITY_EVENT_KIND_HEARTBEAT
COMPLETE = api.CAPACITY_EVENT_KIND_SNAPSHOT_COMPLETE
# So many that a message of all of them is large.
MANY_HUBS = 200
# A client that takes little it has not asked for.
NO_READ_AHEAD = {"http2.lookahead_bytes": 65_536, "http2.bdp_probe": 0}


def test_snapshot_then_changes(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        told = {hub.hub_id: hub for hub in operator.settled().hubs}
        with watching(here) as events:
            seen, token = snapshot_of(events)
            assert seen == told
            assert token
            cut = operator.change(cut_kw=50.0)
            event = next(events)
            assert event.kind == CHANGED
            assert list(event.hubs) == list(cut.hubs)
            assert event.resume_token
            assert event.event_time.seconds > 0
            assert all(hub.sequence > told[hub.hub_id].sequence for hub in event.hubs)


def test_only_hubs_asked_for_are_told(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        with watching(here, "hub-2", "elsewhere") as events:
            assert list(snapshot_of(events)[0]) == ["hub-2"]
            operator.change(cut_kw=50.0)
            assert [hub.hub_id for hub in next(events).hubs] == ["hub-2"]


def test_end_of_tracking_is_told_at_once_and_to_those_who_come_later(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        with watching(here) as events:
            snapshot_of(events)
            operator.end()
            event = next(events)
            assert [(hub.capacity_kw, hub.reason) for hub in event.hubs] == [
                (0.0, allocation_pb2.BINDING_REASON_SILENCE)
            ] * 2
        with watching(here) as events:
            seen, _ = snapshot_of(events)
            assert {hub.reason for hub in seen.values()} == {allocation_pb2.BINDING_REASON_SILENCE}


def test_validity_is_renewed_for_watchers(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here, max_silence_duration=Duration(seconds=1))
        operator.settled()
        with watching(here, "hub-1") as events:
            first = snapshot_of(events)[0]["hub-1"]
            deadline_s = time.monotonic() + 30.0
            renewed = None
            while renewed is None and time.monotonic() < deadline_s:
                operator.measure()
                renewed = event_with(events, lambda event: True) if here.server.live.position > first.sequence else None
            assert renewed is not None
        hub = renewed.hubs[0]
        assert (hub.capacity_kw, hub.sequence) == (first.capacity_kw, first.sequence)
        assert hub.valid_from_time == first.valid_from_time
        assert hub.valid_until_time.ToMicroseconds() > first.valid_until_time.ToMicroseconds()


def test_other_tenants_see_hubs_of_their_agreements_only(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        here.agreements.add("a", "hub-1", cpo="cpo-1")
        operator = Operator(here)
        operator.settled()
        with (
            watching(here, tenant_id="cpo-1") as mine,
            watching(here, "hub-2", tenant_id="cpo-1") as not_mine,
            watching(here, "hub-1", tenant_id="cpo-2") as nobody,
        ):
            assert list(snapshot_of(mine)[0]) == ["hub-1"]
            assert snapshot_of(not_mine)[0] == {}
            assert snapshot_of(nobody)[0] == {}
            operator.change(cut_kw=50.0)
            assert [hub.hub_id for hub in next(mine).hubs] == ["hub-1"]
            here.server.live.close()
            for events in (not_mine, nobody):
                with pytest.raises(grpc.RpcError):
                    next(events)


def test_an_agreement_that_begins_is_seen_at_the_next_heartbeat(tmp_path: Path) -> None:
    with running_live(tmp_path, watch_heartbeat_s=0.1) as here:
        operator = Operator(here)
        operator.settled()
        with watching(here, tenant_id="cpo-1") as events:
            assert snapshot_of(events)[0] == {}
            here.agreements.add("a", "hub-1", cpo="cpo-1")
            assert {next(events).kind for _ in range(3)} == {HEARTBEAT}
            operator.change(cut_kw=50.0)
            assert event_with(events, lambda event: event.kind == CHANGED).hubs[0].hub_id == "hub-1"


def test_areas_that_the_caller_may_not_use_are_not_told(tmp_path: Path) -> None:
    def resolve(metadata: object, peer: str) -> Caller:
        watches = ("evflex-tenant", "narrow") in tuple(metadata)  # type: ignore[arg-type]
        return Caller("default", areas=frozenset({"north"}) if watches else None)

    with running_live(tmp_path, server_arguments={"resolve_caller": resolve}) as here:
        Operator(here, area_id="south").settled()
        with watching(here, tenant_id="narrow") as events:
            assert snapshot_of(events)[0] == {}


def test_resumed_watch_gets_what_has_changed_since(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        with watching(here) as events:
            token = snapshot_of(events)[1]
        with watching(here, token=token) as events:
            operator.change(hubs=[{"hub_id": "hub-2", "demand_kw": 30.0}])
            event = next(events)
            assert [(event.kind, hub.hub_id) for hub in event.hubs] == [(CHANGED, "hub-2")]
        operator.change(hubs=[{"hub_id": "hub-2", "demand_kw": 20.0}])
        operator.change(hubs=[{"hub_id": "hub-2", "demand_kw": 10.0}])
        here.server.live.planned("default", "plan-1", ["hub-1"], "trafo-1", "")
        with watching(here, token=event.resume_token) as events:
            missed = [next(events) for _ in range(2)]
            assert [hub.capacity_kw for hub in missed[0].hubs] == [10.0]
            assert (missed[1].kind, missed[1].allocation_id) == (PLANNED, "plan-1")


def test_tokens_of_elsewhere_are_refused(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        for token in ("x", make_token("WatchSchedules", 1), make_token("WatchCapacity", 2**62)):
            with pytest.raises(grpc.RpcError) as caught, watching(here, token=token) as events:
                next(events)
            assert "resume_token" in violations_of(caught.value)
        with pytest.raises(grpc.RpcError) as caught, watching(here, token=make_token("WatchCapacity", 1)) as events:
            next(events)
        assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
        assert reason_of(caught.value) == "RESUME_TOKEN_EXPIRED"


def test_silence_is_filled_with_heartbeats_that_can_be_resumed_from(tmp_path: Path) -> None:
    with running_live(tmp_path, watch_heartbeat_s=0.1) as here:
        operator = Operator(here)
        operator.settled()
        with watching(here, "elsewhere") as events:
            snapshot_of(events)
            operator.change(cut_kw=50.0)
            beats = [next(events) for _ in range(2)]
        assert {event.kind for event in beats} == {HEARTBEAT}
        with watching(here, token=beats[-1].resume_token) as events:
            operator.change(cut_kw=40.0)
            assert event_with(events, lambda event: event.kind == CHANGED).hubs[0].capacity_kw == pytest.approx(20.0)


def test_stored_allocations_are_told_to_whom_they_concern(tmp_path: Path) -> None:
    with running_live(tmp_path) as here:
        here.agreements.add("a", "hub-1", cpo="cpo-1")
        with (
            watching(here) as owner,
            watching(here, "hub-2") as other_hub,
            watching(here, tenant_id="cpo-1") as party,
            watching(here, tenant_id="cpo-2") as nobody,
        ):
            for events in (owner, other_hub, party, nobody):
                snapshot_of(events)
            here.server.live.planned("default", "plan-1", ["hub-1"], "trafo-1", "")
            here.server.live.planned("default", "plan-2", ["hub-2"], "trafo-1", "")
            here.server.live.planned("cpo-2", "plan-3", ["hub-1"], "trafo-1", "")
            assert [next(owner).allocation_id for _ in range(2)] == ["plan-1", "plan-2"]
            assert next(other_hub).allocation_id == "plan-2"
            assert next(party).allocation_id == "plan-1"
            event = next(nobody)
            assert (event.kind, event.allocation_id, list(event.hubs)) == (PLANNED, "plan-3", [])


def test_many_watchers_see_every_cut_in_order(tmp_path: Path) -> None:
    cuts = [180.0, 150.0, 100.0, 40.0, 2.0]
    with running_live(tmp_path) as here:
        operator = Operator(here)
        operator.settled()
        calls = [here.stub.WatchCapacity(api.WatchCapacityRequest(hub_ids=["hub-1"]), timeout=60.0) for _ in range(50)]
        for call in calls:
            snapshot_of(call)
        assert here.gauge("evflex_watches") == 50
        for cut_kw in cuts:
            operator.change(cut_kw=cut_kw)
        for call in calls:
            seen = [next(call).hubs[0].capacity_kw for _ in cuts]
            assert seen == pytest.approx([cut_kw / 2.0 for cut_kw in cuts])
            call.cancel()
        until(lambda: here.gauge("evflex_watches") == 0)


def test_slow_watcher_is_dropped_with_a_clear_status(tmp_path: Path) -> None:
    """Its stream ends once it reads again, and others lose nothing."""
    with running_live(tmp_path, watch_queue_limit=3) as here:
        operator = Operator(here, hubs=MANY_HUBS)
        operator.settled()
        with open_channel(here.server.port, **NO_READ_AHEAD) as channel:
            slow = channel.unary_stream(
                "/evflex.capacity.v1.CapacityService/WatchCapacity",
                response_deserializer=api.WatchCapacityResponse.FromString,
            )(b"", timeout=60.0)
            assert event_with(slow, lambda event: event.kind == COMPLETE)
            with watching(here, "hub-1") as quick:
                snapshot_of(quick)
                for k in range(60):
                    cut = operator.change(cut_kw=200.0 - k)
                    assert list(next(quick).hubs) == [hub for hub in cut.hubs if hub.hub_id == "hub-1"]
            received: list[api.WatchCapacityResponse] = []
            with pytest.raises(grpc.RpcError) as caught:
                received.extend(slow)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(caught.value) == "WATCHER_TOO_SLOW"
        assert retry_delay_s(caught.value) is not None
        assert len(received) < 60
        with watching(here, "hub-1", token=received[-1].resume_token) as resumed:
            assert next(resumed).hubs[0].capacity_kw == pytest.approx((200.0 - 59) / MANY_HUBS)


def test_dropped_watcher_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    with (
        running_live(tmp_path, watch_queue_limit=2, watch_stall_s=0.2) as here,
        open_channel(here.server.port, **NO_READ_AHEAD) as channel,
    ):
        operator = Operator(here, hubs=MANY_HUBS)
        operator.settled()
        stuck = channel.unary_stream("/evflex.capacity.v1.CapacityService/WatchCapacity")(b"", timeout=60.0)
        until(lambda: here.gauge("evflex_watches") == 1)
        for k in range(60):
            operator.change(cut_kw=200.0 - k)
        until(lambda: here.gauge("evflex_watches") == 0)
        stuck.cancel()


def test_too_many_watches_are_unavailable(tmp_path: Path) -> None:
    with running_live(tmp_path, max_capacity_watches=1) as here, watching(here) as events:
        snapshot_of(events)
        with pytest.raises(grpc.RpcError) as caught, watching(here) as more:
            next(more)
        assert reason_of(caught.value) == "TOO_MANY_WATCHES"


def test_too_many_or_empty_hubs_are_refused(tmp_path: Path) -> None:
    with running_live(tmp_path, max_watched_hubs=2) as here:
        with pytest.raises(grpc.RpcError) as caught, watching(here, "a", "b", "c") as events:
            next(events)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as caught, watching(here, "a", "") as events:
            next(events)
        assert "hub_ids[1]" in violations_of(caught.value)


def test_draining_ends_watches(tmp_path: Path) -> None:
    with running_live(tmp_path) as here, watching(here) as events:
        snapshot_of(events)
        here.server.stop(5.0)
        with pytest.raises(grpc.RpcError) as caught:
            next(events)
        assert reason_of(caught.value) == "SHUTTING_DOWN"
