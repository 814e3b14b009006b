"""State of the streaming calls, shared by both clients: what was sent, what came back, where to go on."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.charging.v1 import schedule_pb2
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.request import ScheduleRequest
from evflex.client.schedule import Schedule, SiteFault

# Most sites and bytes of a message; a site that is larger goes alone.
MOST_SITES = 32
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleEvent:
    """A message of a watch.

    Attributes:
        kind: ``SNAPSHOT``, ``SNAPSHOT_COMPLETE``, ``STORED``, ``DELETED`` or ``HEARTBEAT``.
        site_id: Site concerned.
        schedule_id: Schedule concerned.
        schedule: The schedule of a SNAPSHOT or STORED event; None when it has been deleted since.
        resume_token: Token with which a later watch goes on after this event; empty while the snapshot is
            incomplete.
        event_time: When it happened (UTC).
    """

    kind: str
    site_id: str
    schedule_id: str
    schedule: Schedule | None
    resume_token: str
    event_time: pd.Timestamp


class Assembly:
    """Puts a schedule together from its summary and the chunks that follow."""

    def __init__(self, summary: pb.ScheduleSummary) -> None:
        self._schedule = schedule_pb2.Schedule()
        self._schedule.CopyFrom(summary.schedule)
        self._waiting = summary.chunk_count

    @property
    def complete(self) -> bool:
        """Whether all chunks have come."""
        return self._waiting == 0

    def add(self, chunk: pb.ScheduleChunk) -> None:
        """Append the rows of the next chunk."""
        self._schedule.session_ids.extend(chunk.session_ids)
        self._schedule.evse_ids.extend(chunk.evse_ids)
        self._schedule.power_kw.extend(chunk.power_kw)
        self._schedule.current_a.extend(chunk.current_a)
        self._schedule.session_results.extend(chunk.session_results)
        self._schedule.binding_limits.extend(chunk.binding_limits)
        self._schedule.limit_violations.extend(chunk.limit_violations)
        self._waiting -= 1

    def schedule(self) -> Schedule:
        """The schedule, whole."""
        return Schedule.from_message(self._schedule)


class SiteStream:
    """Sites of one ``OptimizeSchedules``: sent, answered, and to be sent again after a failure.

    gRPC pulls requests in a thread of its own, also for a moment after a call has failed; hence the lock, and
    the generation by which an old call notices that it must not take further sites.
    """

    def __init__(self, requests: Iterable[ScheduleRequest]) -> None:
        # What is there already is sent in batches; an iterator may wait for answers, so its sites go one by one.
        self._most_sites = MOST_SITES if isinstance(requests, Collection) else 1
        self._source = iter(requests)
        self._unanswered: dict[str, pb.OptimizeScheduleRequest] = {}
        self._assemblies: dict[str, Assembly] = {}
        self._refused: deque[SiteFault] = deque()
        self._lock = threading.Lock()
        self._generation = 0
        self.failure: Exception | None = None

    def begin(self) -> Iterator[pb.OptimizeSchedulesRequest]:
        """Requests of a new call: first those that an earlier call left unanswered."""
        with self._lock:
            self._generation += 1
            self._assemblies.clear()
            again = list(self._unanswered.values())
            generation = self._generation
        return self._requests(again, generation)

    @property
    def unanswered(self) -> int:
        """Number of sites sent without an answer."""
        return len(self._unanswered)

    def refused(self) -> Iterator[SiteFault]:
        """Sites that could not be written as a message and were not sent; each is told once."""
        while self._refused:
            yield self._refused.popleft()

    def accept(self, message: pb.OptimizeSchedulesResponse) -> Iterator[Schedule | SiteFault]:
        """Take parts of answers; each answer is returned once it is whole."""
        for part in message.answers:
            answer = self._accept(part)
            if answer is not None:
                yield answer

    def _accept(self, message: pb.SiteAnswer) -> Schedule | SiteFault | None:
        key = message.request_id
        if key not in self._unanswered:
            return None
        kind = message.WhichOneof("payload")
        if kind == "fault":
            self._answered(key)
            return SiteFault.from_message(message.site_id, key, message.fault)
        if kind == "summary":
            self._assemblies[key] = Assembly(message.summary)
        elif kind == "chunk" and key in self._assemblies:
            self._assemblies[key].add(message.chunk)
        assembly = self._assemblies.get(key)
        if assembly is None or not assembly.complete:
            return None
        self._answered(key)
        return assembly.schedule()

    def _requests(
        self, again: Sequence[pb.OptimizeScheduleRequest], generation: int
    ) -> Iterator[pb.OptimizeSchedulesRequest]:
        """Batches that begin small, so that the server has work early."""
        sites = itertools.chain(again, iter(lambda: self._next(generation), None))
        most, size_bytes = 1, 0
        batch: list[pb.OptimizeScheduleRequest] = []
        for site in sites:
            if batch and size_bytes + site.ByteSize() > MOST_BYTES:
                yield pb.OptimizeSchedulesRequest(site_requests=batch)
                batch, size_bytes = [], 0
            batch.append(site)
            size_bytes += site.ByteSize()
            if len(batch) >= most:
                yield pb.OptimizeSchedulesRequest(site_requests=batch)
                batch, size_bytes = [], 0
                most = min(2 * most, self._most_sites)
        if batch:
            yield pb.OptimizeSchedulesRequest(site_requests=batch)

    def _next(self, generation: int) -> pb.OptimizeScheduleRequest | None:
        with self._lock:
            while generation == self._generation and self.failure is None:
                try:
                    request = next(self._source)
                except StopIteration:
                    return None
                except Exception as error:
                    # gRPC would turn the caller's own error into an UNKNOWN status
                    self.failure = error
                    return None
                message = self._encode(request)
                if message is not None:
                    return message
            return None

    def _encode(self, request: ScheduleRequest) -> pb.OptimizeScheduleRequest | None:
        try:
            message = request.to_message()
            if request.request_id in self._unanswered:
                repeated = Violation("request_id", "is used by another site of this stream")
                raise InvalidRequestError.before_sending([repeated])
        except InvalidRequestError as error:
            fault = SiteFault(request.site_id, request.request_id, error.code, error.message, error.violations)
            self._refused.append(fault)
            return None
        self._unanswered[message.request_id] = message
        return message

    def _answered(self, key: str) -> None:
        self._assemblies.pop(key, None)
        with self._lock:
            del self._unanswered[key]


class Watch:
    """Progress of one ``WatchSchedules`` across lost connections."""

    def __init__(self, site_ids: Sequence[str], resume_token: str) -> None:
        self._site_ids = list(site_ids)
        self._resume_token = resume_token
        self._snapshot_complete = bool(resume_token)
        self._assembly: tuple[pb.WatchSchedulesResponse, Assembly] | None = None

    def request(self) -> pb.WatchSchedulesRequest:
        """Request that goes on where the last message was whole; a broken snapshot starts anew."""
        self._assembly = None
        return pb.WatchSchedulesRequest(site_ids=self._site_ids, resume_token=self._resume_token)

    def accept(self, message: pb.WatchSchedulesResponse) -> ScheduleEvent | None:
        """Take a message; return the event once it is whole."""
        kind = message.WhichOneof("payload")
        if kind == "chunk":
            if self._assembly is None:
                return None
            self._assembly[1].add(message.chunk)
        else:
            self._assembly = (message, Assembly(message.summary))
        head, assembly = self._assembly
        if not assembly.complete:
            return None
        self._assembly = None
        if message.kind == pb.SCHEDULE_EVENT_KIND_SNAPSHOT_COMPLETE:
            self._snapshot_complete = True
        if self._snapshot_complete and message.resume_token:
            self._resume_token = message.resume_token
        return ScheduleEvent(
            kind=pb.ScheduleEventKind.Name(head.kind).removeprefix("SCHEDULE_EVENT_KIND_"),
            site_id=head.site_id,
            schedule_id=head.schedule_id,
            schedule=assembly.schedule() if head.HasField("summary") else None,
            resume_token=self._resume_token,
            event_time=pd.Timestamp(head.event_time.ToNanoseconds(), unit="ns", tz="UTC"),
        )
