"""The pool is bounded, takes lanes in turn, and drops what nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from google.rpc import code_pb2

from evflex.server.errors import ServiceError
from evflex.server.log import make_log
from evflex.server.metrics import Metrics
from evflex.server.solve_pool import Job, Lane, SolvePool
from tests.server.support import until


def make_pool(threads: int, queue_limit: int) -> SolvePool:
    return SolvePool(threads, queue_limit, 1.0, Metrics(), make_log("error"))


@pytest.fixture
def pool() -> Iterator[SolvePool]:
    made = make_pool(1, 2)
    yield made
    made.close(5.0)


class Gate:
    """A job that waits until it is let through or cancelled."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.was_cancelled = False
        self.job = Job(self.run, threading.Event(), threading.Event())

    def run(self, cancel: threading.Event) -> None:
        self.entered.set()
        while not self.leave.wait(0.002):
            if cancel.is_set():
                self.was_cancelled = True
                return

    def start(self, lane: Lane) -> Gate:
        lane.submit(self.job)
        return self


def finished(job: Job) -> bool:
    assert job.finished is not None
    return job.finished.wait(5.0)


def test_full_queue_refuses_with_a_retry(pool: SolvePool) -> None:
    running = Gate().start(pool.unary)
    assert running.entered.wait(5.0)
    waiting = [Gate().start(pool.unary), Gate().start(pool.unary)]
    with pytest.raises(ServiceError) as caught:
        Gate().start(pool.unary)
    assert caught.value.code == code_pb2.UNAVAILABLE
    assert caught.value.reason == "QUEUE_FULL"
    assert caught.value.retry_delay_s == 1.0
    for gate in (running, *waiting):
        gate.leave.set()
        assert finished(gate.job)
    Gate().start(pool.unary).leave.set()


def test_queue_of_zero_still_lets_a_free_thread_work() -> None:
    pool = make_pool(2, 0)
    first, second = Gate().start(pool.unary), Gate().start(pool.unary)
    with pytest.raises(ServiceError):
        Gate().start(pool.unary)
    assert first.entered.wait(5.0)
    assert second.entered.wait(5.0)
    assert pool.close(5.0)


def test_cancelled_job_stops_and_frees_its_thread(pool: SolvePool) -> None:
    gate = Gate().start(pool.unary)
    assert gate.entered.wait(5.0)
    pool.unary.cancel(gate.job)
    assert finished(gate.job)
    assert gate.was_cancelled
    assert not gate.job.dropped
    until(lambda: pool.load() == (0, 0))


def test_cancelled_job_in_the_queue_never_runs_and_leaves_its_place(pool: SolvePool) -> None:
    running = Gate().start(pool.unary)
    assert running.entered.wait(5.0)
    waiting = [Gate().start(pool.unary), Gate().start(pool.unary)]
    pool.unary.cancel(waiting[0].job)
    assert finished(waiting[0].job)
    assert waiting[0].job.dropped
    replacement = Gate().start(pool.unary)
    for gate in (running, waiting[1], replacement):
        gate.leave.set()
        assert finished(gate.job)
    assert not waiting[0].entered.is_set()


def test_lanes_take_turns(pool: SolvePool) -> None:
    order: list[str] = []
    blocker = Gate().start(pool.unary)
    assert blocker.entered.wait(5.0)
    stream = pool.open_lane(10)
    last = threading.Event()
    for i in range(3):
        stream.submit(Job(lambda _, i=i: order.append(f"stream {i}"), threading.Event()))  # type: ignore[misc]
    pool.unary.submit(Job(lambda _: order.append("unary"), threading.Event(), last))
    blocker.leave.set()
    assert last.wait(5.0)
    assert order[:2] == ["stream 0", "unary"]
    until(lambda: len(order) == 4)


def test_failing_job_leaves_the_pool_whole(pool: SolvePool) -> None:
    def fail(_: threading.Event) -> None:
        raise ValueError

    job = Job(fail, threading.Event(), threading.Event())
    pool.unary.submit(job)
    assert finished(job)
    after = Gate().start(pool.unary)
    after.leave.set()
    assert finished(after.job)


def test_closing_drops_the_queue_and_cancels_what_runs(pool: SolvePool) -> None:
    running = Gate().start(pool.unary)
    assert running.entered.wait(5.0)
    waiting = Gate().start(pool.unary)
    assert pool.close(5.0)
    assert running.was_cancelled
    assert waiting.job.dropped
    with pytest.raises(ServiceError) as caught:
        Gate().start(pool.unary)
    assert caught.value.reason == "SHUTTING_DOWN"
