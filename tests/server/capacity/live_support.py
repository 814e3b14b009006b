"""A server with the live part of CapacityService, and an operator's and a watcher's side of it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.capacity.v1 import capacity_service_pb2_grpc, hub_pb2, tracking_pb2, transformer_pb2
from evflex.server.app import Server
from evflex.server.capacity.agreements import Agreements
from evflex.server.capacity.bookings import Bookings
from evflex.server.capacity.planner import CapacityPlanner
from evflex.server.capacity.servicer import CapacityServicer
from evflex.server.store.allocations import AllocationStore
from evflex.server.store.capacity import CapacityStore
from evflex.server.store.ratings import RatingStore
from evflex.server.store.retention import Retention
from tests.server.capacity.planning_support import FakeAgreements
from tests.server.support import FakeEngine, open_channel, settings_for

CALL_S = 60.0


class _LiveServer(Server):
    """A server with other agreements."""

    agreements: FakeAgreements

    def _capacity_servicer(self, retention: Retention) -> CapacityServicer:
        store = CapacityStore(self._database, retention)
        planner = CapacityPlanner(
            self.settings, self._engine, self.pool, AllocationStore(self._database, retention),
            RatingStore(self._database, retention), self.agreements, self.live, self.metrics,
        )  # fmt: skip
        bookings = Bookings(store, self.settings)
        return CapacityServicer(
            self.settings, planner, self.live, Agreements(store), bookings, self.agreements, self.log
        )


@dataclass(frozen=True)
class RunningLive:
    """A server, its agreements, and a channel to it."""

    server: Any
    channel: Any
    agreements: FakeAgreements

    @property
    def stub(self) -> Any:
        return capacity_service_pb2_grpc.CapacityServiceStub(self.channel)

    def gauge(self, name: str) -> float:
        return self.server.metrics.registry.get_sample_value(name) or 0.0


@contextmanager
def running_live(
    data_dir: Path, *, server_arguments: dict[str, Any] | None = None, **values: Any
) -> Iterator[RunningLive]:
    """A server in this process."""
    server = _LiveServer(settings_for(data_dir, **values), engine=FakeEngine(), **(server_arguments or {}))
    server.agreements = FakeAgreements()
    with server, open_channel(server.port) as channel:
        yield RunningLive(server, channel, server.agreements)


def as_tenant(tenant_id: str) -> tuple[tuple[str, str], ...]:
    """Metadata of a caller."""
    return (("evflex-tenant", tenant_id),) if tenant_id else ()


def header_of(hubs: int | list[hub_pb2.Hub] = 2, **fields: Any) -> tracking_pb2.TrackCapacityHeader:
    """400 kVA that never gets hot, and hubs of 100 kW, or those given, that may rise at once."""
    if isinstance(hubs, int):
        hubs = [hub_pb2.Hub(hub_id=f"hub-{i + 1}", max_kw=100.0, min_kw_per_ev=0.0) for i in range(hubs)]
    values: dict[str, Any] = {
        "transformer": transformer_pb2.Transformer(
            transformer_id="trafo-1", rated_kva=400.0, max_hot_spot_c=1000.0, max_top_oil_c=1000.0
        ),
        "hubs": hubs,
        "max_silence_duration": Duration(seconds=60),
        "ramp_ratio_per_min": 1e9,
        "dead_band_ratio": 0.0,
        **fields,
    }
    return tracking_pb2.TrackCapacityHeader(**values)


class Operator:
    """A TrackCapacity stream, message by message."""

    def __init__(self, here: RunningLive, header: Any = None, tenant_id: str = "", **fields: Any) -> None:
        self.header = header_of(**fields) if header is None else header
        self.last_unix_s = 0.0
        self.open(here, tenant_id)
        self.send(header=self.header)
        self.first = self.next()

    def open(self, here: RunningLive, tenant_id: str = "") -> None:
        """Call, and send nothing yet."""
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.call = here.stub.TrackCapacity(iter(self._outbox.get, None), timeout=CALL_S, metadata=as_tenant(tenant_id))

    def send(self, **payload: Any) -> None:
        self._outbox.put(api_request(**payload))

    def next(self) -> tracking_pb2.TrackCapacityResponse:
        answer: tracking_pb2.TrackCapacityResponse = next(self.call)
        return answer

    def measure(
        self, base_kw: float = 100.0, power_kw: Any = None, **fields: Any
    ) -> tracking_pb2.TrackCapacityResponse:
        """Tell a balanced base load, with hubs that draw nothing."""
        power_kw = np.zeros(len(self.header.hubs)) if power_kw is None else np.asarray(power_kw)
        self.last_unix_s = max(time.time(), self.last_unix_s + 1e-3)
        values: dict[str, Any] = {
            "measurement_time": time_at(self.last_unix_s),
            "current_a": [(base_kw + power_kw.sum()) / 3.0 * 1000.0 / 230.0] * 3,
            "voltage_v": [230.0] * 3,
            "power_factor": 1.0,
            "hub_power_kw": power_kw.tolist(),
            **fields,
        }
        self.send(measurement=tracking_pb2.CapacityMeasurement(**values))
        answer = self.next()
        while not answer.outcome:  # of a tick
            answer = self.next()
        return answer

    def change(self, **fields: Any) -> tracking_pb2.TrackCapacityResponse:
        self.send(changes=tracking_pb2.TrackedChanges(**fields))
        return self.next()

    def settled(self, base_kw: float = 100.0) -> tracking_pb2.TrackCapacityResponse:
        """Measure twice: the first measurement ends the silence, and the second finds the ramp done."""
        self.measure(base_kw)
        return self.measure(base_kw)

    def end(self) -> None:
        """Send no more, and wait until the server has ended too."""
        self._outbox.put(None)
        list(self.call)


def api_request(**payload: Any) -> tracking_pb2.TrackCapacityRequest:
    return tracking_pb2.TrackCapacityRequest(**payload)


def time_at(unix_s: float) -> Timestamp:
    value = Timestamp()
    value.FromMicroseconds(round(1e6 * unix_s))
    return value


@contextmanager
def watching(here: RunningLive, *hub_ids: str, token: str = "", tenant_id: str = "") -> Iterator[Any]:
    request = api.WatchCapacityRequest(hub_ids=hub_ids, resume_token=token)
    call = here.stub.WatchCapacity(request, timeout=CALL_S, metadata=as_tenant(tenant_id))
    try:
        yield call
    finally:
        call.cancel()


def snapshot_of(events: Any) -> tuple[dict[str, tracking_pb2.HubCapacity], str]:
    """Hubs by identifier, and the token after them."""
    seen: dict[str, tracking_pb2.HubCapacity] = {}
    for event in events:
        if event.kind == api.CAPACITY_EVENT_KIND_SNAPSHOT_COMPLETE:
            return seen, event.resume_token
        assert event.kind == api.CAPACITY_EVENT_KIND_SNAPSHOT
        assert event.resume_token == ""
        seen |= {hub.hub_id: hub for hub in event.hubs}
    raise AssertionError("the snapshot never ended")


def event_with(events: Any, condition: Callable[[Any], bool]) -> Any:
    """The next event that fulfils a condition."""
    return next(event for event in events if condition(event))
