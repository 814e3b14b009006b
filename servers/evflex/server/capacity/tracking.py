"""TrackCapacity: one stream of an operator, from measurements to capacities."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import inf, isfinite

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from structlog.typing import FilteringBoundLogger

from evflex.capacity.v1 import tracking_pb2
from evflex.engine.capacity.tracker import CapacityTracker
from evflex.engine.capacity.tracking_model import MeasurementOutcome, TrackedUpdate
from evflex.server.calls import Call
from evflex.server.capacity.decode_tracking import decode_changes, decode_header, decode_measurement
from evflex.server.capacity.encode_tracking import HubWriter, response
from evflex.server.capacity.hub_terms import AgreementTerms, agreed_terms
from evflex.server.capacity.live import LiveCapacities, Track
from evflex.server.errors import ServiceError, busy, invalid_field, limit_exceeded
from evflex.server.log import places
from evflex.server.settings import Settings
from evflex.server.wire import Undecodable, decoded

# Messages that are read and not yet answered; a client that sends faster waits.
_MOST_WAITING = 64
_POLL_S = 0.2
# Watchers hear that capacities are valid for longer when so much of max_silence has gone.
_RENEW_AFTER = 0.5


class TrackStream:
    """One TrackCapacity call.

    A thread reads what the client sends. :meth:`answers` waits for that and for the time at which silence, the ramp or
    a turn is due, whichever comes first, so that a client that says nothing is noticed.
    """

    def __init__(
        self,
        settings: Settings,
        live: LiveCapacities,
        agreements: AgreementTerms,
        call: Call,
        requests: Iterable[object],
        log: FilteringBoundLogger,
        clocks: tuple[Callable[[], float], Callable[[], float]] = (time.time, time.monotonic),
    ) -> None:
        """Serve `call`, whose messages are `requests`; `clocks` are the wall clock and the monotonic one."""
        self._settings = settings
        self._live = live
        self._agreements = agreements
        self._call = call
        self._requests = requests
        self._log = log
        self._wall_s, self._monotonic_s = clocks
        self._inbox: queue.Queue[object] = queue.Queue(_MOST_WAITING)
        self._over = threading.Event()
        self._draining = False
        self._renewed_s = -inf
        self._fallen_back = True

    def answers(self) -> Iterator[bytes]:
        """TrackCapacityResponse messages, serialized: one a message of the client, one a tick that changes some.

        Raises:
            ServiceError: INVALID_ARGUMENT; RESOURCE_EXHAUSTED; UNAVAILABLE, the transformer is tracked already, or the
                server drains.
        """
        self._call.on_end(self._end)
        threading.Thread(target=self._read, name="capacity-reader", daemon=True).start()
        try:
            header = self._header()
            agreed = agreed_terms(self._agreements, header.hubs, self._call.caller)
            self._tracker = CapacityTracker(decode_header(header, agreed, self._wall_s()))
            self._hub_ids = self._tracker.setup.hubs.hub_ids
            self._index_of = {hub_id: i for i, hub_id in enumerate(self._hub_ids)}
            transformer_id = header.transformer.transformer_id
            self._writer = HubWriter(transformer_id, self._hub_ids)
            tenant_id = self._call.caller.tenant_id
            self._track: Track = self._live.open_track(tenant_id, transformer_id, header.area_id, self._drain)
            try:
                yield from self._followed()
            finally:
                self._leave()
        finally:
            self._over.set()

    def _header(self) -> tracking_pb2.TrackCapacityHeader:
        """The first message, within the limits."""
        message = self._next(self._settings.default_deadline_s)
        if message is None:
            raise ServiceError(code_pb2.DEADLINE_EXCEEDED, "NO_HEADER", "the header did not come in time")
        request = decoded(message)
        if not isinstance(request, tracking_pb2.TrackCapacityRequest) or not request.HasField("header"):
            raise invalid_field("header", "must be the first message")
        header, most = request.header, self._settings.max_hubs
        if len(header.hubs) > most:
            raise limit_exceeded("max_hubs", len(header.hubs), most)
        self._call.caller.require_area(header.area_id)
        return header

    def _followed(self) -> Iterator[bytes]:
        tracker = self._tracker
        yield self._told(tracker.begin(self._wall_s(), self._monotonic_s()), None)
        while not self._call.ended.is_set():
            due_s = tracker.next_due_s - self._monotonic_s()
            message = self._next(due_s if isfinite(due_s) else None) if due_s > 0.0 else None
            if self._draining:
                raise busy("SHUTTING_DOWN", "the server is shutting down", self._settings.retry_delay_s)
            if message is _END:
                return
            if message is not None:
                update, measured = self._taken(message)
                yield self._told(update, measured)
                continue
            update = tracker.tick(self._wall_s(), self._monotonic_s())
            if len(update.changed):
                yield self._told(update, None)

    def _taken(self, message: object) -> tuple[TrackedUpdate, Timestamp | None]:
        """What a message of the client does, and the time of the measurement that it is."""
        tracker, wall_s, monotonic_s = self._tracker, self._wall_s(), self._monotonic_s()
        if isinstance(message, Undecodable):
            refused = self._refused(f"the {message.size_bytes} bytes are no TrackCapacityRequest")
            return replace(refused, outcome=MeasurementOutcome.NONSENSE), None
        assert isinstance(message, tracking_pb2.TrackCapacityRequest)
        if message.HasField("measurement"):
            measured = message.measurement
            update = tracker.measure(decode_measurement(measured), wall_s, monotonic_s)
            return update, measured.measurement_time if measured.HasField("measurement_time") else None
        if not message.HasField("changes"):
            return self._refused("must be a measurement or changes after the header"), None
        changes = decode_changes(message.changes, self._index_of)
        if changes.fault:
            return self._refused(changes.fault), None
        update = tracker.change(
            wall_s, monotonic_s, contingency=changes.contingency, wishes=changes.wishes, cut_kw=changes.cut_kw,
            clear_cut=changes.clear_cut,
        )  # fmt: skip
        return update, None

    def _refused(self, detail: str) -> TrackedUpdate:
        """Nothing has changed."""
        return replace(self._tracker.present(self._wall_s(), self._monotonic_s()), detail=detail)

    def _told(self, update: TrackedUpdate, measurement_time: Timestamp | None) -> bytes:
        """The answer, after the watchers were told what has changed: they are to act on it."""
        changed = update.changed.tolist()
        hubs: Sequence[bytes] = ()
        self._fallen_back = update.fallen_back
        if changed:
            hubs = self._publish(update, changed)
        since_s = self._monotonic_s() - self._renewed_s
        if (
            update.outcome is MeasurementOutcome.ACCEPTED
            and since_s >= _RENEW_AFTER * self._tracker.setup.max_silence_s
        ):
            rest = sorted(set(range(len(self._hub_ids))).difference(changed))
            if rest:
                self._publish(update, rest, renewed=True)
            self._renewed_s = self._monotonic_s()
        return response(update, measurement_time, hubs)

    def _publish(self, update: TrackedUpdate, hubs: list[int], *, renewed: bool = False) -> Sequence[bytes]:
        now_unix_us = round(1e6 * self._wall_s())
        return self._live.publish(
            self._track,
            [self._hub_ids[h] for h in hubs],
            lambda sequence: self._writer.write(update, hubs, now_unix_us, sequence, renewed=renewed),
            now_unix_us,
        )

    def _leave(self) -> None:
        """Hubs are on their fallback from now on, and hear of it at once."""
        try:
            if not self._fallen_back:
                update = self._tracker.let_go(self._wall_s(), self._monotonic_s())
                self._publish(update, update.changed.tolist())
        finally:
            self._live.close_track(self._track)

    def _next(self, timeout_s: float | None) -> object:
        """The next message, `_END` when there is none any more, None after a time without one."""
        try:
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def _read(self) -> None:
        try:
            for message in self._requests:
                if not self._put(message):
                    return
        except Exception as error:  # gRPC raises here when the call is over
            if not self._call.ended.is_set():
                self._log.warning("request stream broke", exception=type(error).__name__, places=places(error))
        finally:
            self._put(_END)

    def _put(self, message: object) -> bool:
        while not self._over.is_set():
            try:
                self._inbox.put(message, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def _drain(self) -> None:
        self._draining = True
        self._end()

    def _end(self) -> None:
        """Wake the stream, so that it sees that it is to end; a full inbox keeps it awake anyway."""
        try:
            self._inbox.put_nowait(_END)
        except queue.Full:
            self._over.set()


_END = object()
