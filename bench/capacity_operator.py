"""An operator's side of TrackCapacity: one message out, its answer back, timed."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration

from bench.instances import FloatArray
from evflex.capacity.v1 import capacity_service_pb2_grpc, hub_pb2, transformer_pb2
from evflex.capacity.v1 import tracking_pb2 as api

MAX_KW, FIRM_KW = 22.0, 4.2
_CALL_S = 3600.0


@dataclass(slots=True)
class Operator:
    """A stream that tracks a transformer.

    Attributes:
        outbox: What is to be sent.
        answers: What comes back.
        power_kw: Power of each hub, as measured next.
        last_unix_s: Time of the last measurement.
    """

    outbox: queue.SimpleQueue[api.TrackCapacityRequest | None]
    answers: Iterator[api.TrackCapacityResponse]
    power_kw: FloatArray
    last_unix_s: float = 0.0

    def measurement(self, base_kw: FloatArray) -> api.TrackCapacityRequest:
        """A base load of each phase, and hubs at their power."""
        self.last_unix_s = max(time.time(), self.last_unix_s + 1e-3)
        phase_kw = base_kw + self.power_kw.sum() / 3.0
        message = api.CapacityMeasurement(
            current_a=(phase_kw * 1000.0 / 230.0).tolist(), voltage_v=[230.0] * 3, power_factor=1.0,
            hub_power_kw=self.power_kw.tolist(),
        )  # fmt: skip
        message.measurement_time.FromMicroseconds(round(1e6 * self.last_unix_s))
        return api.TrackCapacityRequest(measurement=message)

    def told(self, request: api.TrackCapacityRequest) -> tuple[api.TrackCapacityResponse, float]:
        """The answer to a message, and how many seconds it took."""
        started_s = time.perf_counter()
        self.outbox.put(request)
        for answer in self.answers:
            if answer.outcome or not request.HasField("measurement"):
                return answer, time.perf_counter() - started_s
        raise RuntimeError("the stream has ended")


@contextmanager
def operator(
    channel: grpc.Channel, hubs: int, rated_kva: float, *, dead_band_ratio: float, ramp_ratio_per_min: float
) -> Iterator[Operator]:
    """Track a transformer with hubs `hub-0` and so on."""
    header = api.TrackCapacityHeader(
        transformer=transformer_pb2.Transformer(transformer_id="trafo", rated_kva=rated_kva),
        hubs=[hub_pb2.Hub(hub_id=f"hub-{i}", max_kw=MAX_KW, min_kw_per_ev=4.14) for i in range(hubs)],
        # so long that no capacity is renewed between two measurements
        max_silence_duration=Duration(seconds=900),
        dead_band_ratio=dead_band_ratio,
        ramp_ratio_per_min=ramp_ratio_per_min,
    )
    for hub in header.hubs:
        hub.agreement.firm_kw, hub.agreement.conditional_kw = FIRM_KW, MAX_KW - FIRM_KW
    outbox: queue.SimpleQueue[api.TrackCapacityRequest | None] = queue.SimpleQueue()
    outbox.put(api.TrackCapacityRequest(header=header))
    stub = capacity_service_pb2_grpc.CapacityServiceStub(channel)
    answers = iter(stub.TrackCapacity(iter(outbox.get, None), timeout=_CALL_S))
    next(answers)
    try:
        yield Operator(outbox, answers, np.zeros(hubs))
    finally:
        outbox.put(None)
