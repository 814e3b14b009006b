"""Clients that leave, queues that fill: the solver stops and the pool is free again."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest

from tests.server.support import (
    FakeEngine,
    one_by_one,
    open_channel,
    reason_of,
    retry_delay_s,
    running,
    site_request,
    until,
)


def test_cancelled_call_stops_the_solver(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine) as here:
        call = here.stub.OptimizeSchedule.future(site_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        call.cancel()
        assert engine.cancelled.acquire(timeout=10.0)
        until(lambda: here.server.pool.load() == (0, 0))


def test_vanished_client_stops_the_solver(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, solve_threads=1) as here:
        channel = open_channel(here.server.port)
        call = channel.unary_unary("/evflex.charging.v1.ChargingService/OptimizeSchedule").future(
            site_request().SerializeToString(), timeout=60.0
        )
        assert engine.started.acquire(timeout=10.0)
        channel.close()
        assert call.cancelled() or call.exception() is not None
        assert engine.cancelled.acquire(timeout=10.0)
        engine.hold = False
        assert here.stub.OptimizeSchedule(site_request(), timeout=10.0).schedule.site_id == "site-1"


def test_passed_deadline_stops_the_solver(tmp_path: Path) -> None:
    class Deaf(FakeEngine):
        """Knows no time limit, only cancellation."""

        def _wait(self, time_limit_s: float, cancel: threading.Event) -> object:  # type: ignore[override]
            return super()._wait(1e9, cancel)

    engine = Deaf(hold=True)
    with running(tmp_path, engine) as here:
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(site_request(), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert engine.cancelled.acquire(timeout=10.0)
        until(lambda: here.server.pool.load() == (0, 0))


def test_full_queue_is_unavailable_with_a_retry(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, solve_threads=1, solve_queue_limit=1, retry_delay_s=2.5) as here:
        calls = [here.stub.OptimizeSchedule.future(site_request(), timeout=60.0)]
        assert engine.started.acquire(timeout=10.0)
        calls.append(here.stub.OptimizeSchedule.future(site_request(), timeout=60.0))
        until(lambda: here.server.pool.load() == (1, 1))
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(site_request(), timeout=60.0)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "QUEUE_FULL"
        assert retry_delay_s(caught.value) == 2.5
        engine.release.set()
        assert [call.result().schedule.site_id for call in calls] == ["site-1"] * 2


def test_bad_request_does_not_wait_in_the_queue(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, solve_threads=1, solve_queue_limit=0) as here:
        blocking = here.stub.OptimizeSchedule.future(site_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        with pytest.raises(grpc.RpcError) as caught:
            here.stub.OptimizeSchedule(site_request(site_id=""), timeout=60.0)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        blocking.cancel()


def test_queued_solve_of_a_gone_client_is_dropped(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine, solve_threads=1) as here:
        first = here.stub.OptimizeSchedule.future(site_request(), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        gone = here.stub.OptimizeSchedule.future(site_request(), timeout=60.0)
        until(lambda: here.server.pool.load() == (1, 1))
        gone.cancel()
        until(lambda: here.server.pool.load() == (1, 0))
        engine.release.set()
        first.result()
        until(lambda: here.server.pool.load() == (0, 0))
        assert engine.started_count == 1


def test_stream_of_a_gone_client_stops(tmp_path: Path) -> None:
    engine = FakeEngine(hold=True)
    with running(tmp_path, engine) as here:
        call = here.stub.OptimizeSchedules(one_by_one(*[site_request()] * 20), timeout=60.0)
        assert engine.started.acquire(timeout=10.0)
        assert engine.started.acquire(timeout=10.0)
        call.cancel()
        until(lambda: here.server.pool.load() == (0, 0))
        assert engine.started_count == 2
