"""A bounded pool of threads for solves, with lanes that take turns and drop work nobody waits for.

Kernels release the GIL, so threads are enough. Unary calls share one lane, each stream has its own, and free threads
serve the lanes in turn, so a stream of a thousand sites does not hold up a single call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from evflex.server.errors import busy
from evflex.server.log import places
from evflex.server.metrics import Metrics


@dataclass(eq=False, slots=True)
class Job:
    """Work for one thread of the pool.

    Attributes:
        run: The work; receives the cancel event.
        cancel: Set when nobody waits for the result.
        finished: Set when the work is done, has failed, or was dropped; None where nobody asks.
        dropped: Whether it never ran, because it was cancelled while queued or the pool closed.
    """

    run: Callable[[threading.Event], None]
    cancel: threading.Event
    finished: threading.Event | None = None
    dropped: bool = False

    def finish(self) -> None:
        """Tell that it is over."""
        if self.finished is not None:
            self.finished.set()


class Lane:
    """A queue of jobs; see :meth:`SolvePool.open_lane`."""

    def __init__(self, pool: SolvePool, queue_limit: int) -> None:
        """Belong to `pool` and hold at most `queue_limit` waiting jobs."""
        self._pool = pool
        self.queue_limit = queue_limit
        self.jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Queue a job, or start it when a thread is free.

        Raises:
            ServiceError: UNAVAILABLE, as many jobs wait as may, or the pool is closed.
        """
        self._pool.submit(self, job)

    def cancel(self, job: Job) -> None:
        """Tell a job that nobody waits; a queued one is dropped at once."""
        self._pool.cancel(self, job)


class SolvePool:
    """Threads that run jobs."""

    def __init__(
        self,
        thread_count: int,
        queue_limit: int,
        retry_delay_s: float,
        metrics: Metrics,
        log: FilteringBoundLogger,
    ) -> None:
        """Start `thread_count` threads; `queue_limit` jobs of unary calls may wait for one."""
        self._metrics = metrics
        self._log = log
        self._retry_delay_s = retry_delay_s
        self._changed = threading.Condition()
        self._waiting: deque[Lane] = deque()
        self._idle = thread_count
        self._running: set[Job] = set()
        self._closed = False
        self.unary = Lane(self, queue_limit)
        self._threads = [
            threading.Thread(target=self._work, name=f"solve-{i}", daemon=True) for i in range(thread_count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def thread_count(self) -> int:
        """Number of threads."""
        return len(self._threads)

    def open_lane(self, queue_limit: int) -> Lane:
        """A lane of one's own, in which `queue_limit` jobs may wait."""
        return Lane(self, queue_limit)

    def load(self) -> tuple[int, int]:
        """Number of jobs that run and that wait."""
        with self._changed:
            return len(self._running), sum(len(lane.jobs) for lane in self._waiting)

    def submit(self, lane: Lane, job: Job) -> None:
        """See :meth:`Lane.submit`."""
        with self._changed:
            if self._closed:
                raise busy("SHUTTING_DOWN", "the server is shutting down", self._retry_delay_s)
            # a job that an idle thread is about to take does not wait
            if len(lane.jobs) >= lane.queue_limit + max(0, self._idle - self._queued_elsewhere(lane)):
                self._metrics.solves_rejected.labels("queue full").inc()
                message = f"{len(lane.jobs)} solves wait already, as many as solve_queue_limit allows"
                raise busy("QUEUE_FULL", message, self._retry_delay_s)
            if not lane.jobs:
                self._waiting.append(lane)
            lane.jobs.append(job)
            self._metrics.solves_queued.inc()
            self._changed.notify()

    def cancel(self, lane: Lane, job: Job) -> None:
        """See :meth:`Lane.cancel`."""
        job.cancel.set()
        with self._changed:
            if job not in lane.jobs:
                return
            lane.jobs.remove(job)
            if not lane.jobs:
                self._waiting.remove(lane)
            self._drop(job)

    def close(self, timeout_s: float) -> bool:
        """Drop what waits, cancel what runs, and wait at most `timeout_s` for the threads.

        Returns:
            Whether all threads ended.
        """
        with self._changed:
            self._closed = True
            for lane in self._waiting:
                for job in lane.jobs:
                    job.cancel.set()
                    self._drop(job)
                lane.jobs.clear()
            self._waiting.clear()
            for job in self._running:
                job.cancel.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _queued_elsewhere(self, lane: Lane) -> int:
        return sum(len(other.jobs) for other in self._waiting if other is not lane)

    def _drop(self, job: Job) -> None:
        job.dropped = True
        job.finish()
        self._metrics.solves_queued.dec()
        self._metrics.solves_rejected.labels("cancelled").inc()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            self._metrics.solves_running.inc()
            try:
                job.run(job.cancel)
            except Exception as error:
                self._log.error("job failed", exception=type(error).__name__, places=places(error))
            finally:
                self._metrics.solves_running.dec()
                with self._changed:
                    self._running.discard(job)
                    self._idle += 1
                job.finish()

    def _take(self) -> Job | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            lane = self._waiting.popleft()
            job = lane.jobs.popleft()
            if lane.jobs:
                self._waiting.append(lane)
            self._idle -= 1
            self._running.add(job)
            self._metrics.solves_queued.dec()
            return job
