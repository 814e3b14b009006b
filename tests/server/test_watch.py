"""WatchSchedules: a snapshot, then every change to every watcher, tokens to resume, and an end for the slow."""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from evflex.charging.v1 import charging_service_pb2 as api
from tests.server.support import (
    Running,
    one_by_one,
    open_channel,
    reason_of,
    retry_delay_s,
    running,
    stored_request,
    until,
    violations_of,
)

SNAPSHOT = api.SCHEDULE_EVENT_KIND_SNAPSHOT
COMPLETE = api.SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE
STORED = api.SCHEDULE_EVENT_KIND_STORED
DELETED = api.SCHEDULE_EVENT_KIND_DELETED
# A client that takes little it has not asked for.
NO_READ_AHEAD = {"http2.lookahead_bytes": 65_536, "http2.bdp_probe": 0}
HEARTBEAT = api.SCHEDULE_EVENT_KIND_HEARTBEAT


@contextmanager
def watching(here: Running, *site_ids: str, token: str = "") -> Iterator[Iterator[api.WatchSchedulesResponse]]:
    call = here.stub.WatchSchedules(api.WatchSchedulesRequest(site_ids=site_ids, resume_token=token), timeout=60.0)
    try:
        yield call
    finally:
        call.cancel()


def watches(here: Running) -> float:
    return here.server.metrics.registry.get_sample_value("evflex_watches") or 0.0


def store(here: Running, site_id: str = "site-1", **fields: object) -> str:
    schedule_id: str = here.stub.OptimizeSchedule(stored_request(site_id, **fields)).schedule.schedule_id
    return schedule_id


def delete(here: Running, schedule_id: str) -> None:
    here.stub.DeleteSchedule(api.DeleteScheduleRequest(schedule_id=schedule_id, request_id=str(uuid.uuid4())))


def snapshot_of(events: Iterator[api.WatchSchedulesResponse]) -> tuple[list[api.WatchSchedulesResponse], str]:
    seen: list[api.WatchSchedulesResponse] = []
    for event in events:
        if event.kind == COMPLETE:
            return seen, event.resume_token
        assert event.kind == SNAPSHOT
        assert event.resume_token == ""
        seen.append(event)
    raise AssertionError("the snapshot never ended")


def test_snapshot_has_the_latest_schedule_of_each_site(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        store(here, "a")
        latest = {"a": store(here, "a"), "b": store(here, "b")}
        with watching(here) as events:
            seen, _ = snapshot_of(events)
    assert {e.site_id: e.schedule_id for e in seen} == latest
    assert all(e.summary.schedule.schedule_id == e.schedule_id for e in seen)
    assert all(e.summary.schedule.power_kw for e in seen)


def test_every_change_follows_in_order(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here, watching(here) as events:
        assert snapshot_of(events)[0] == []
        made = [store(here, f"site-{i}") for i in range(5)]
        delete(here, made[0])
        seen = [next(events) for _ in range(6)]
    assert [(e.kind, e.schedule_id) for e in seen] == [*((STORED, m) for m in made), (DELETED, made[0])]
    assert seen[1].summary.schedule.site_id == "site-1"
    assert seen[5].WhichOneof("payload") is None
    assert len({e.resume_token for e in seen}) == 6
    assert all(e.event_time.seconds > 0 for e in seen)


def test_only_the_sites_asked_for_are_told(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        store(here, "a")
        store(here, "b")
        with watching(here, "b", "c") as events:
            seen, _ = snapshot_of(events)
            assert [e.site_id for e in seen] == ["b"]
            store(here, "a")
            store(here, "c")
            assert next(events).site_id == "c"


def test_other_tenants_are_not_told(tmp_path: Path) -> None:
    with running(tmp_path) as here, watching(here) as events:
        snapshot_of(events)
        here.stub.OptimizeSchedule(stored_request("theirs"), metadata=(("evflex-tenant", "other"),))
        store(here, "mine")
        assert next(events).site_id == "mine"


def test_many_watchers_get_every_change(tmp_path: Path) -> None:
    watchers, changes = 60, 10
    with running(tmp_path) as here:
        calls = [here.stub.WatchSchedules(api.WatchSchedulesRequest(), timeout=60.0) for _ in range(watchers)]
        for call in calls:
            snapshot_of(call)
        made = [store(here, f"site-{i}") for i in range(changes)]
        for call in calls:
            assert [next(call).schedule_id for _ in range(changes)] == made
            call.cancel()
        until(lambda: watches(here) == 0)


def test_resumed_watch_gets_exactly_what_it_missed(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url=database_url) as here:
        with watching(here) as events:
            snapshot_of(events)
            store(here, "seen")
            token = next(events).resume_token
        missed = [store(here, f"missed-{i}") for i in range(3)]
        delete(here, missed[1])
        with watching(here, token=token) as events:
            seen = [next(events) for _ in range(4)]
            assert [(e.kind, e.schedule_id) for e in seen] == [
                (STORED, missed[0]), (STORED, missed[1]), (STORED, missed[2]), (DELETED, missed[1]),
            ]  # fmt: skip
            assert seen[1].WhichOneof("payload") is None  # deleted since
            live = store(here, "live")
            assert next(events).schedule_id == live


def test_watch_resumes_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as here, watching(here) as events:
        token = snapshot_of(events)[1]
    with running(tmp_path) as here:
        made = store(here)
        with watching(here, token=token) as events:
            assert next(events).schedule_id == made


def test_bad_resume_token_is_an_invalid_argument(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        store(here)
        with watching(here) as events:
            snapshot_of(events)
            store(here)
            token = next(events).resume_token
        for bad in ("x", token[:-1], "A" * 22):
            with pytest.raises(grpc.RpcError) as caught, watching(here, token=bad) as events:
                next(events)
            assert "resume_token" in violations_of(caught.value)
    with running(tmp_path / "another") as there:
        with pytest.raises(grpc.RpcError) as caught, watching(there, token=token) as events:
            next(events)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_silence_is_filled_with_heartbeats_that_can_be_resumed_from(tmp_path: Path) -> None:
    with running(tmp_path, watch_heartbeat_s=0.1) as here:
        with watching(here, "site-1") as events:
            snapshot_of(events)
            store(here, "not watched")
            beats = [next(events) for _ in range(3)]
        assert {e.kind for e in beats} == {HEARTBEAT}
        made = store(here)
        with watching(here, token=beats[-1].resume_token) as events:
            event = next(events)
            assert (event.kind, event.schedule_id) == (STORED, made)


def test_changes_by_another_process_on_the_database_are_seen(tmp_path: Path, database_url: str) -> None:
    with (
        running(tmp_path, database_url=database_url) as here,
        running(tmp_path, database_url=database_url) as there,
        watching(here) as events,
    ):
        snapshot_of(events)
        made = store(there)
        assert next(events).schedule_id == made
        delete(there, made)
        assert next(events).kind == DELETED


def test_large_schedule_comes_in_chunks_and_only_the_last_can_be_resumed_from(tmp_path: Path) -> None:
    request = stored_request("large", sessions=2000, steps=96)
    with running(tmp_path) as here, watching(here) as events:
        snapshot_of(events)
        list(here.stub.OptimizeSchedules(one_by_one(request)))
        head = next(events)
        parts = [next(events) for _ in range(head.summary.chunk_count)]
    assert head.summary.chunk_count > 1
    assert sum(len(p.chunk.session_ids) for p in parts) == 2000
    assert [bool(e.resume_token) for e in (head, *parts)] == [False] * len(parts) + [True]


def test_slow_watcher_is_dropped_with_a_clear_status(tmp_path: Path) -> None:
    """Its stream ends with RESOURCE_EXHAUSTED once it reads again, and other watchers lose nothing."""
    with running(tmp_path, watch_queue_limit=3) as here:
        with open_channel(here.server.port, **NO_READ_AHEAD) as channel:
            slow = channel.unary_stream(
                "/evflex.charging.v1.ChargingService/WatchSchedules",
                response_deserializer=api.WatchSchedulesResponse.FromString,
            )(b"", timeout=60.0)
            assert next(slow).kind == COMPLETE
            with watching(here) as quick:
                snapshot_of(quick)
                made = []
                for i in range(60):
                    made.append(store(here, f"site-{i}", sessions=60, steps=96))
                    assert next(quick).schedule_id == made[-1]
            received: list[api.WatchSchedulesResponse] = []
            with pytest.raises(grpc.RpcError) as caught:
                received.extend(slow)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(caught.value) == "WATCHER_TOO_SLOW"
        assert retry_delay_s(caught.value) is not None
        assert [e.schedule_id for e in received] == made[: len(received)]
        assert len(received) < len(made)
        with watching(here, token=received[-1].resume_token) as resumed:
            assert [next(resumed).schedule_id for _ in made[len(received) :]] == made[len(received) :]


def test_dropped_watcher_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    with (
        running(tmp_path, watch_queue_limit=2, watch_stall_s=0.2) as here,
        open_channel(here.server.port, **NO_READ_AHEAD) as channel,
    ):
        stuck = channel.unary_stream("/evflex.charging.v1.ChargingService/WatchSchedules")(b"", timeout=60.0)
        until(lambda: watches(here) == 1)
        for i in range(60):
            store(here, f"site-{i}", sessions=60, steps=96)
        until(lambda: watches(here) == 0)
        stuck.cancel()


def test_too_many_watches_are_unavailable(tmp_path: Path) -> None:
    with running(tmp_path, max_watches=1) as here, watching(here) as events:
        snapshot_of(events)
        with pytest.raises(grpc.RpcError) as caught, watching(here) as more:
            next(more)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_too_many_or_empty_sites_are_refused(tmp_path: Path) -> None:
    with running(tmp_path, max_watched_sites=2) as here:
        with pytest.raises(grpc.RpcError) as caught, watching(here, "a", "b", "c") as events:
            next(events)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as caught, watching(here, "a", "") as events:
            next(events)
        assert "site_ids[1]" in violations_of(caught.value)


def test_changes_during_the_snapshot_are_told_once(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        made: list[str] = [store(here, f"site-{i}") for i in range(3)]
        stop = threading.Event()
        told: queue.SimpleQueue[str] = queue.SimpleQueue()

        def keep_storing() -> None:
            while not stop.is_set():
                told.put(store(here, "busy"))

        writer = threading.Thread(target=keep_storing)
        writer.start()
        try:
            for _ in range(5):
                with watching(here) as events:
                    seen, _ = snapshot_of(events)
                    busy = [e.schedule_id for e in seen if e.site_id == "busy"]
                    busy += [next(events).schedule_id for _ in range(3)]
                    assert len(set(busy)) == len(busy)
        finally:
            stop.set()
            writer.join()
        order = [told.get() for _ in range(told.qsize())]
        place = [order.index(schedule_id) for schedule_id in busy]
        assert place == list(range(place[0], place[0] + len(place)))
        assert len(made) == 3
