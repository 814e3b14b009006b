"""Many sites and watches: chunks become schedules, faults are values, lost servers are followed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.client import Schedule, ScheduleRequest, ServerError, SiteFault, UnavailableError
from tests.client.fake_server import FakeServer, abort, chunk, failing, sites_of, summary, together


def sites(site: ScheduleRequest, *names: str) -> list[ScheduleRequest]:
    return [replace(site, site_id=name, request_id=f"request-{name}") for name in names]


def echo(requests: Any, _context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
    for site in sites_of(requests):
        yield together(summary(site))


def lost_after(answers: int) -> Any:
    """Answer some sites, then fail as a server that goes down."""

    def behaviour(requests: Any, context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        coming = sites_of(requests)
        for _ in range(answers):
            yield together(summary(next(coming)))
        abort(context, grpc.StatusCode.UNAVAILABLE, "going down")

    return behaviour


def test_each_site_is_answered(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedules", echo)
    answers = list(client.optimize_schedules(sites(site, "x", "y")))
    assert [answer.site_id for answer in answers] == ["x", "y"]
    assert all(isinstance(answer, Schedule) for answer in answers)


def test_a_list_goes_in_batches_and_an_iterator_site_by_site(
    client: Any, server: FakeServer, site: ScheduleRequest
) -> None:
    server.on("OptimizeSchedules", echo)
    names = [f"site-{i}" for i in range(100)]
    assert [a.site_id for a in client.optimize_schedules(sites(site, *names))] == names
    assert [len(m.site_requests) for m in server.asked("OptimizeSchedules")[0]] == [1, 2, 4, 8, 16, 32, 32, 5]
    assert len(list(client.optimize_schedules(iter(sites(site, *names))))) == 100
    assert [len(m.site_requests) for m in server.asked("OptimizeSchedules")[1]] == [1] * 100


def test_no_sites_give_no_answers(client: Any, server: FakeServer) -> None:
    server.on("OptimizeSchedules", echo)
    assert list(client.optimize_schedules([])) == []


def test_chunks_of_several_sites_are_put_together(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    def interleaved(requests: Any, _context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        x, y = sites_of(requests)
        yield together(summary(x, chunk_count=2), summary(y, chunk_count=2))
        for index in (0, 1):
            yield together(chunk(y, index), chunk(x, index))

    server.on("OptimizeSchedules", interleaved)
    answers = list(client.optimize_schedules(sites(site, "x", "y")))
    assert [answer.site_id for answer in answers] == ["y", "x"]
    assert answers[0].power_kw["b"].tolist() == [1.0] * 4
    assert answers[0].sessions.loc["b", "delivered_kwh"] == 1.0


def test_a_fault_is_a_value_and_leaves_the_others_alone(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    def one_bad(requests: Any, _context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        for site_request in sites_of(requests):
            answer = summary(site_request)
            if site_request.site_id == "x":
                answer.fault.code = code_pb2.INVALID_ARGUMENT
                answer.fault.message = "bad site"
                answer.fault.violations.add(field="nodes", description="must have a root")
            yield together(answer)

    server.on("OptimizeSchedules", one_bad)
    fault, schedule = client.optimize_schedules(sites(site, "x", "y"))
    assert isinstance(fault, SiteFault)
    assert (fault.site_id, fault.code, fault.message) == ("x", "INVALID_ARGUMENT", "bad site")
    assert fault.violations[0].field == "nodes"
    assert isinstance(schedule, Schedule)


def test_a_site_that_cannot_be_written_fails_alone(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedules", echo)
    good, bad = sites(site, "x", "y")
    bad = replace(bad, sessions=bad.sessions.drop(columns="arrival_time"))
    answers = {answer.site_id: answer for answer in client.optimize_schedules([bad, good])}
    assert isinstance(answers["x"], Schedule)
    assert answers["y"].violations[0].field == "sessions.arrival_time"
    assert [sent.site_id for sent in sites_of(server.asked("OptimizeSchedules")[0])] == ["x"]


def test_a_request_id_used_twice_is_a_fault(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    def when_all_came(requests: Any, context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        yield from echo(list(requests), context)

    server.on("OptimizeSchedules", when_all_came)
    twice = [site, replace(site, site_id="other")]
    kinds = {type(answer) for answer in client.optimize_schedules(twice)}
    assert kinds == {Schedule, SiteFault}


def test_only_unanswered_sites_are_sent_again(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedules", lost_after(1), lost_after(1), echo)
    answers = list(client.optimize_schedules(sites(site, "x", "y", "z")))
    assert sorted(answer.site_id for answer in answers) == ["x", "y", "z"]
    last = {sent.site_id for sent in sites_of(server.asked("OptimizeSchedules")[-1])}
    assert last == {"z"}


def test_half_a_schedule_is_forgotten_with_its_stream(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    def half(requests: Any, context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        request = next(sites_of(requests))
        yield together(summary(request, chunk_count=2))
        yield together(chunk(request, 0))
        abort(context, grpc.StatusCode.UNAVAILABLE, "going down")

    def whole(requests: Any, _context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        for request in sites_of(requests):
            yield together(summary(request, chunk_count=2), chunk(request, 0), chunk(request, 1))

    server.on("OptimizeSchedules", half, whole)
    (schedule,) = client.optimize_schedules([site])
    assert list(schedule.power_kw.columns) == ["a", "b"]


def test_a_stream_that_never_recovers_is_given_up(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    server.on("OptimizeSchedules", failing(grpc.StatusCode.UNAVAILABLE, "full"))
    with pytest.raises(UnavailableError):
        list(client.optimize_schedules([site]))
    assert len(server.calls) == 3


def test_a_stream_that_ends_early_is_an_error(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    def silent(requests: Any, _context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        list(requests)
        yield from ()

    server.on("OptimizeSchedules", silent)
    with pytest.raises(ServerError, match="1 sites unanswered"):
        list(client.optimize_schedules([site]))


def test_the_callers_own_error_comes_back(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    def breaking() -> Iterator[ScheduleRequest]:
        yield site
        raise KeyError("mine")

    server.on("OptimizeSchedules", echo)
    with pytest.raises(KeyError, match="mine"):
        list(client.optimize_schedules(breaking()))


def test_a_reader_that_stops_ends_the_call(client: Any, server: FakeServer, site: ScheduleRequest) -> None:
    ended = threading.Event()

    def endless(requests: Any, context: Any) -> Iterator[pb.OptimizeSchedulesResponse]:
        context.add_callback(ended.set)
        yield together(summary(next(sites_of(requests))))
        ended.wait(20.0)

    server.on("OptimizeSchedules", endless)
    answers = client.optimize_schedules(sites(site, "x", "y"))
    assert next(answers).site_id == "x"
    answers.close()
    assert ended.wait(20.0)


def event(kind: int, token: str, site_id: str = "", chunk_count: int = -1) -> pb.WatchSchedulesResponse:
    message = pb.WatchSchedulesResponse(
        kind=kind,  # type: ignore[arg-type]
        site_id=site_id,
        resume_token=token,
    )
    if chunk_count >= 0:
        message.summary.schedule.site_id = site_id
        message.summary.schedule.time_grid.step_count = 1
        message.summary.schedule.time_grid.step_duration.seconds = 60
        message.summary.chunk_count = chunk_count
    return message


def rows(token: str, session_id: str) -> pb.WatchSchedulesResponse:
    message = event(pb.SCHEDULE_EVENT_KIND_STORED, token, "x")
    message.chunk.session_ids.append(session_id)
    message.chunk.power_kw.append(1.0)
    return message


def telling(*events: pb.WatchSchedulesResponse, then: grpc.StatusCode | None = None) -> Any:
    def behaviour(_request: Any, context: Any) -> Iterator[pb.WatchSchedulesResponse]:
        yield from events
        if then is not None:
            abort(context, then, "later")

    return behaviour


SNAPSHOT = event(pb.SCHEDULE_EVENT_KIND_SNAPSHOT, "1", "x", chunk_count=0)
COMPLETE = event(pb.SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE, "1")
STORED = event(pb.SCHEDULE_EVENT_KIND_STORED, "2", "x", chunk_count=2)
DELETED = event(pb.SCHEDULE_EVENT_KIND_DELETED, "3", "x")
HEARTBEAT = event(pb.SCHEDULE_EVENT_KIND_HEARTBEAT, "4")


def test_a_watch_tells_what_happens(client: Any, server: FakeServer) -> None:
    server.on("WatchSchedules", telling(SNAPSHOT, COMPLETE, STORED, rows("2", "a"), rows("2", "b"), DELETED, HEARTBEAT))
    events = list(client.watch_schedules(["x"]))
    assert [e.kind for e in events] == ["SNAPSHOT", "SNAPSHOT_COMPLETE", "STORED", "DELETED", "HEARTBEAT"]
    assert [e.resume_token for e in events] == ["", "1", "2", "3", "4"]
    assert list(events[2].schedule.power_kw.columns) == ["a", "b"]
    assert events[3].schedule is None


def test_a_watch_goes_on_after_the_last_whole_event(client: Any, server: FakeServer) -> None:
    server.on(
        "WatchSchedules",
        telling(SNAPSHOT, COMPLETE, STORED, rows("2", "a"), then=grpc.StatusCode.UNAVAILABLE),
        telling(STORED, rows("2", "a"), rows("2", "b"), DELETED),
    )
    events = list(client.watch_schedules(["x"]))
    assert [e.kind for e in events] == ["SNAPSHOT", "SNAPSHOT_COMPLETE", "STORED", "DELETED"]
    assert list(events[2].schedule.power_kw.columns) == ["a", "b"]
    assert [request.resume_token for request in server.asked("WatchSchedules")] == ["", "1"]


def test_a_broken_snapshot_starts_anew(client: Any, server: FakeServer) -> None:
    server.on("WatchSchedules", telling(SNAPSHOT, then=grpc.StatusCode.UNAVAILABLE), telling(SNAPSHOT, COMPLETE))
    assert [e.kind for e in client.watch_schedules()] == ["SNAPSHOT", "SNAPSHOT", "SNAPSHOT_COMPLETE"]
    assert [request.resume_token for request in server.asked("WatchSchedules")] == ["", ""]


def test_a_watch_resumes_where_the_caller_says(client: Any, server: FakeServer) -> None:
    server.on("WatchSchedules", telling(then=grpc.StatusCode.UNAVAILABLE), telling(DELETED))
    assert [e.resume_token for e in client.watch_schedules(resume_token="2")] == ["3"]
    assert [request.resume_token for request in server.asked("WatchSchedules")] == ["2", "2"]


def test_a_watch_follows_a_server_that_comes_and_goes(client: Any, server: FakeServer) -> None:
    lost = telling(HEARTBEAT, then=grpc.StatusCode.UNAVAILABLE)
    server.on("WatchSchedules", *[lost] * 10, telling(DELETED))
    assert [e.kind for e in client.watch_schedules(resume_token="2")] == ["HEARTBEAT"] * 10 + ["DELETED"]
