"""OptimizeSchedules: answers as they are done, faults alone, large plans in chunks, a bounded number in flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from tests.server.support import (
    FakeEngine,
    Running,
    answers_of,
    empty_plan,
    one_by_one,
    reason_of,
    running,
    site_request,
    stored_request,
    until,
)


def planned(here: Running, *requests: api.OptimizeScheduleRequest) -> Iterator[api.SiteAnswer]:
    """The answers to sites that are sent one by one."""
    return answers_of(here.stub.OptimizeSchedules(one_by_one(*requests)))


def test_every_site_is_answered_once(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        requests = [site_request(site_id=f"site-{i}") for i in range(200)]
        answers = list(planned(here, *requests))
    assert sorted(a.site_id for a in answers) == sorted(r.site_id for r in requests)
    assert all(len(a.summary.schedule.power_kw) == 16 for a in answers)


def test_empty_stream_ends_well(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        assert list(planned(here)) == []


def test_sites_of_one_message_are_answered_together(tmp_path: Path) -> None:
    requests = [site_request(site_id=f"site-{i}") for i in range(200)]
    requests[7].sessions[0].max_charge_kw = -1.0
    with running(tmp_path, stream_sites_in_flight=16) as here:
        batch = api.OptimizeSchedulesRequest(site_requests=requests)
        messages = list(here.stub.OptimizeSchedules(iter([batch, batch])))
    answers = list(answers_of(messages))
    assert sorted(a.site_id for a in answers) == sorted(2 * [r.site_id for r in requests])
    assert {a.site_id for a in answers if a.HasField("fault")} == {"site-7"}
    assert len(messages) < len(answers)


def test_a_message_of_too_many_sites_is_a_fault_without_a_site(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        batch = api.OptimizeSchedulesRequest(site_requests=[site_request(sessions=0)] * 1001)
        (answer,) = answers_of(here.stub.OptimizeSchedules(iter([batch])))
    assert (answer.site_id, answer.fault.code) == ("", code_pb2.RESOURCE_EXHAUSTED)


def test_bad_site_fails_alone(tmp_path: Path) -> None:
    bad = site_request(site_id="bad", request_id="8d6e2f3e-3b0c-4b0e-9f4e-0c6c2a0f1d11")
    bad.sessions[1].max_charge_kw = -1.0
    with running(tmp_path, max_sessions=5) as here:
        large = site_request(sessions=6, site_id="large")
        mixed = site_request(site_id="good"), bad, large, site_request(site_id="also")
        answers = {a.site_id: a for a in planned(here, *mixed)}
    assert answers["good"].HasField("summary")
    assert answers["also"].HasField("summary")
    fault = answers["bad"].fault
    assert answers["bad"].request_id == bad.request_id
    assert fault.code == code_pb2.INVALID_ARGUMENT
    assert "sessions[1].max_charge_kw" in [v.field for v in fault.violations]
    assert answers["large"].fault.code == code_pb2.RESOURCE_EXHAUSTED
    assert "max_sessions" in answers["large"].fault.message


def test_answers_come_as_they_are_done(tmp_path: Path) -> None:
    class SlowSite(FakeEngine):
        def optimize_schedule(
            self, problem: ScheduleProblem, options: ScheduleOptions, cancel: threading.Event | None = None
        ) -> Schedule:
            self.hold = len(problem.sessions) == 3
            return super().optimize_schedule(problem, options, cancel)

    engine = SlowSite()
    with running(tmp_path, engine) as here:
        slow, quick = site_request(sessions=3, site_id="slow"), site_request(site_id="quick")
        answers = planned(here, slow, quick)
        assert next(answers).site_id == "quick"
        engine.release.set()
        assert next(answers).site_id == "slow"


def test_unexpected_error_of_one_site_is_its_fault_alone(tmp_path: Path) -> None:
    with running(tmp_path, FakeEngine(error=MemoryError("secret"))) as here:
        (answer,) = list(planned(here, site_request()))
    assert answer.fault.code == code_pb2.INTERNAL
    assert "secret" not in answer.fault.message


def test_sites_are_planned_alone_where_planning_them_at_once_fails(tmp_path: Path) -> None:
    class Failing(FakeEngine):
        def optimize_together(
            self, problems: Sequence[ScheduleProblem], options: Sequence[ScheduleOptions]
        ) -> list[Schedule | None]:
            raise MemoryError("secret")

    with running(tmp_path, Failing()) as here:
        answers = list(planned(here, *(site_request(site_id=f"site-{i}") for i in range(10))))
    assert all(len(a.summary.schedule.power_kw) == 16 for a in answers)
    assert len({a.site_id for a in answers}) == 10


def test_what_is_planned_at_once_does_not_wait_for_a_site_planned_alone(tmp_path: Path) -> None:
    class Together(FakeEngine):
        def optimize_together(
            self, problems: Sequence[ScheduleProblem], options: Sequence[ScheduleOptions]
        ) -> list[Schedule | None]:
            return [empty_plan(problem) if len(problem.sessions) == 2 else None for problem in problems]

    engine = Together(hold=True)
    requests = [site_request(site_id="slow", sessions=3), *(site_request(site_id=f"site-{i}") for i in range(5))]
    with running(tmp_path, engine) as here:
        batch = api.OptimizeSchedulesRequest(site_requests=requests)
        answers = answers_of(here.stub.OptimizeSchedules(iter([batch])))
        quick = [next(answers).site_id for _ in range(5)]
        assert "slow" not in quick
        engine.release.set()
        assert next(answers).site_id == "slow"


def test_large_plan_comes_in_chunks(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        summary, *chunks = planned(here, site_request(sessions=2000, steps=96))
    assert summary.summary.chunk_count == len(chunks) == 3
    assert sum(len(c.chunk.session_ids) for c in chunks) == 2000
    assert all(c.site_id == "site-1" for c in chunks)


def test_number_in_flight_is_bounded(tmp_path: Path) -> None:
    sent = 0

    def endless() -> Iterator[api.OptimizeSchedulesRequest]:
        nonlocal sent
        while True:
            sent += 1
            # large enough that the transport's buffers hold only a few
            yield api.OptimizeSchedulesRequest(site_requests=[site_request(sessions=2000, steps=2)])

    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, stream_sites_in_flight=4) as here:
        call = here.stub.OptimizeSchedules(endless())
        assert engine.started.acquire(timeout=10.0)
        assert engine.started.acquire(timeout=10.0)

        def has_stopped() -> bool:
            before = sent
            threading.Event().wait(0.3)  # time in which an unbounded reader would run on
            return sent == before

        assert any(has_stopped() for _ in range(20))
        call.cancel()


def test_plans_are_stored_where_asked_for(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        keep = [stored_request(f"site-{i}") for i in range(5)]
        answers = {a.site_id: a.summary.schedule for a in planned(here, *keep, site_request(site_id="x"))}
        assert answers["x"].schedule_id == ""
        for request in keep:
            stored = answers[request.site_id]
            assert here.stub.GetSchedule(api.GetScheduleRequest(schedule_id=stored.schedule_id)).schedule == stored
        again = {a.site_id: a.summary.schedule for a in planned(here, *keep)}
        assert all(again[r.site_id] == answers[r.site_id] for r in keep)  # fmt: skip


def test_reused_request_id_is_the_fault_of_one_site(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        first, second = stored_request("a"), stored_request("b")
        second.request_id = first.request_id
        answers = {a.site_id: a for a in planned(here, first, second)}
    kinds = sorted(a.WhichOneof("payload") for a in answers.values())
    assert kinds == ["fault", "summary"]
    (fault,) = [a.fault for a in answers.values() if a.HasField("fault")]
    assert fault.code == code_pb2.ALREADY_EXISTS


def test_validate_only_sites_are_not_solved(tmp_path: Path) -> None:
    with running(tmp_path) as here:
        (answer,) = planned(here, site_request(validate_only=True))
        assert answer.summary.schedule.ByteSize() == 0
        assert here.engine.started_count == 0


def test_too_many_streams_are_unavailable(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, max_streams=1) as here:
        first = planned(here, site_request())
        assert engine.started.acquire(timeout=10.0)
        with pytest.raises(grpc.RpcError) as caught:
            list(planned(here, site_request()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "TOO_MANY_STREAMS"
        engine.release.set()
        assert len(list(first)) == 1
        until(lambda: len(list(planned(here, site_request()))) == 1)
