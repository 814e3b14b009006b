"""What the tests of congestion share: a toy format, an engine of plain formulas in the kernels' place, and requests."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.common.v1 import time_grid_pb2
from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.congestion.v1 import congestion_service_pb2_grpc, network_pb2, power_flow_pb2
from evflex.engine.grid import (
    Branches,
    BranchFlows,
    BranchKind,
    Buses,
    FlowOptions,
    Generators,
    NearestSolvable,
    Network,
    PowerFlow,
    Sources,
    ZeroSequence,
    validate_network,
)
from evflex.engine.grid.formats import ImportedNetwork, NetworkFormat, Refusal
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.validation import InvalidProblemError, Violation
from evflex.server.app import Server
from tests.server.support import START_S, FakeEngine, Running, open_channel, settings_for

OTHER_TENANT = (("evflex-tenant", "other"),)


def toy(buses: int = 4, **fields: Any) -> bytes:
    """A file that the fake engine reads: buses in a row, the source at the first, 10 kW more at each bus."""
    return json.dumps({"buses": buses, **fields}).encode()


def toy_network(buses: int, phases: int = 1, cut: Sequence[int] = (), prefix: str = "bus") -> Network:
    """The network of a toy file; lines after the buses in `cut` are open."""
    n, m = buses, buses - 1
    nothing, unknown, ones = np.zeros(m), np.full(n, np.nan), np.ones(m)
    closed = np.array([i not in cut for i in range(m)], dtype=bool)
    shape = (n,) if phases == 1 else (n, 3)
    load = np.broadcast_to(10.0 * np.arange(n).reshape(-1, *[1] * (phases > 1)), shape).copy()
    rated = np.where(np.arange(m) % 2, np.nan, 100.0)
    return Network(
        base_kva=1000.0,
        phase_count=phases,
        buses=Buses(
            tuple(f"{prefix}-{i}" for i in range(n)), np.full(n, 20.0), np.zeros(n), np.zeros(n),
            np.full(n, 0.95), unknown, np.arange(float(n)), unknown,
        ),
        branches=Branches(
            tuple(f"line-{i}" for i in range(m)), np.full(m, int(BranchKind.LINE)), np.arange(m), np.arange(m) + 1,
            0.01 * ones, 0.02 * ones, nothing, nothing, nothing, nothing, ones, nothing, closed, closed,
            rated, np.full(m, np.nan), np.full(m, np.nan), np.full(m, int(ZeroSequence.THROUGH)),
            0.03 * ones, 0.06 * ones, nothing, nothing, nothing, nothing,
        ),
        sources=Sources(np.array([0]), np.array([1.02]), np.array([0.0])),
        generators=Generators(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)),
        load_p_kw=load,
        load_q_kvar=load / 2.0,
    )  # fmt: skip


@dataclass(frozen=True)
class ToyGrid:
    """A network and the buses that its source reaches."""

    network: Network
    energised: BoolArray


MOST_KW = 1e5


def toy_flow(network: Network, p_kw: FloatArray, q_kvar: FloatArray, *, branch_flows: bool) -> PowerFlow:
    """Numbers that tell where they come from; a step of more than :data:`MOST_KW` in all has no solution."""
    of, to = network.branches.from_bus, network.branches.to_bus
    total_kw = p_kw.reshape(len(p_kw), -1).sum(axis=1)
    converged = total_kw <= MOST_KW
    flows = BranchFlows(
        p_kw[:, of], q_kvar[:, of], p_kw[:, of] / 2, -p_kw[:, to], -q_kvar[:, to], p_kw[:, to] / 4
    )  # fmt: skip
    voltage_pu = 1.0 - p_kw / 1e6
    complex_voltage_pu: Any = voltage_pu * np.exp(1j * np.deg2rad(q_kvar / 7.0))
    loading = p_kw[:, of] + 2.0 * p_kw[:, to]
    by_phase = network.phase_count > 1
    return PowerFlow(
        voltage_pu, loading.max(axis=2) if by_phase else loading, np.where(converged, total_kw, np.nan), converged,
        toy_energised(network), p_kw[:, :, 0] - p_kw[:, :, 2] if by_phase else None, complex_voltage_pu,
        flows if branch_flows else None,
    )  # fmt: skip


def toy_column(flow: PowerFlow, name: str) -> FloatArray:
    """A column of a chunk, as it is to be."""
    if name == "voltage_angle_deg":
        assert flow.complex_voltage_pu is not None
        return np.rad2deg(np.arctan2(flow.complex_voltage_pu.imag, flow.complex_voltage_pu.real))
    column: FloatArray = getattr(flow, name) if hasattr(flow, name) else getattr(flow.flows, name)
    return column


def toy_energised(network: Network) -> BoolArray:
    """Buses in a row are reached until the first open line."""
    reached = np.ones(network.bus_count, dtype=bool)
    reached[1:] = np.cumprod(network.branches.from_closed).astype(bool)
    return reached


@dataclass
class FakeGridEngine(FakeEngine):
    """Reads toy files and computes by :func:`toy_flow`, at once or when told to.

    Attributes:
        blocks: Steps of each block that was solved.
        prepared: Counts networks prepared.
        hold_after: Blocks that are solved at once while `hold` is set.
    """

    blocks: list[int] = field(default_factory=list)
    prepared: int = 0
    hold_after: int = 0
    read_error: Exception | None = None
    formats: list[tuple[NetworkFormat, dict[str, bytes], bool | None]] = field(default_factory=list)

    def read_network(
        self, network_format: NetworkFormat, files: Mapping[str, bytes], three_phase: bool | None
    ) -> ImportedNetwork:
        self.formats.append((network_format, dict(files), three_phase))
        if self.read_error is not None:
            raise self.read_error
        try:
            told = json.loads(files["toy.json"])
        except (KeyError, ValueError) as error:
            raise InvalidProblemError([Violation("toy.json", f"must be JSON: {error}")]) from None
        network = toy_network(
            told["buses"], 3 if three_phase else told.get("phases", 1), told.get("cut", ()), told.get("prefix", "bus")
        )
        validate_network(network)
        refused = tuple(Refusal(name, "is not known here") for name in told.get("refused", ()))
        return ImportedNetwork(network, refused, tuple(told.get("notes", ())))

    def prepare_grid(self, network: Network) -> Any:
        self.prepared += 1
        return ToyGrid(network, toy_energised(network))

    def run_power_flow(self, prepared: Any, p_kw: FloatArray, q_kvar: FloatArray, options: FlowOptions) -> Any:
        self.blocks.append(len(p_kw))
        self.started.release()
        if self.hold and len(self.blocks) > self.hold_after:
            self._wait(60.0, threading.Event())
        if self.error is not None:
            raise self.error
        return toy_flow(prepared.network, p_kw, q_kvar, branch_flows=options.branch_flows)

    def nearest_solvable(self, prepared: Any, p_kw: FloatArray, q_kvar: FloatArray) -> NearestSolvable | None:
        return NearestSolvable(MOST_KW / p_kw.sum(), int(p_kw.argmax())) if p_kw.min() >= 0.0 else None


@dataclass(frozen=True)
class RunningCongestion(Running):
    """A server with the fake engine for networks."""

    engine: FakeGridEngine

    @property
    def congestion(self) -> Any:
        return congestion_service_pb2_grpc.CongestionServiceStub(self.channel)


@contextmanager
def running_congestion(
    data_dir: Path,
    engine: FakeGridEngine | None = None,
    *,
    server_arguments: dict[str, Any] | None = None,
    **values: Any,
) -> Iterator[RunningCongestion]:
    """A server in this process with the fake engine."""
    engine = engine or FakeGridEngine()
    server = Server(settings_for(data_dir, **values), engine=engine, **(server_arguments or {}))
    with server, open_channel(server.port) as channel:
        yield RunningCongestion(server, channel=channel, engine=engine)


def header(**fields: Any) -> api.ImportNetworkHeader:
    values = {
        "request_id": str(uuid.uuid4()), "format": network_pb2.NETWORK_FORMAT_PANDAPOWER, "network_id": "net",
        "display_name": "Toy", **fields,
    }  # fmt: skip
    return api.ImportNetworkHeader(**values)


def upload(head: api.ImportNetworkHeader, *files: tuple[str, bytes]) -> list[api.ImportNetworkRequest]:
    """Messages of ImportNetwork, each file in one."""
    return [
        api.ImportNetworkRequest(header=head),
        *(
            api.ImportNetworkRequest(chunk=api.ImportNetworkChunk(file_name=name, content=content))
            for name, content in files
        ),
        api.ImportNetworkRequest(commit=api.ImportNetworkCommit()),
    ]


def imported(here: RunningCongestion, content: bytes | None = None, **fields: Any) -> network_pb2.Network:
    """A network of a toy file."""
    messages = upload(header(**fields), ("toy.json", toy() if content is None else content))
    network: network_pb2.Network = here.congestion.ImportNetwork(iter(messages), timeout=60.0).network
    return network


def refused(method: Any, request: Any, **arguments: Any) -> Any:
    """The error that a call of any kind ends with."""

    def called() -> None:
        answer = method(request, timeout=60.0, **arguments)
        if not hasattr(answer, "DESCRIPTOR"):
            list(answer)

    with pytest.raises(grpc.RpcError) as caught:
        called()
    return caught.value


def grid(steps: int, step_s: int = 900) -> time_grid_pb2.TimeGrid:
    return time_grid_pb2.TimeGrid(
        start_time=Timestamp(seconds=START_S), step_duration=Duration(seconds=step_s), step_count=steps
    )


@dataclass
class FlowAnswer:
    """A stream of RunPowerFlow, taken apart; `arrays` are put together from all chunks."""

    header: power_flow_pb2.PowerFlowHeader = field(default_factory=power_flow_pb2.PowerFlowHeader)
    progress: list[power_flow_pb2.PowerFlowProgress] = field(default_factory=list)
    chunks: list[power_flow_pb2.PowerFlowChunk] = field(default_factory=list)
    summary: power_flow_pb2.PowerFlowSummary = field(default_factory=power_flow_pb2.PowerFlowSummary)
    sizes: list[int] = field(default_factory=list)

    def array(self, name: str) -> FloatArray:
        """A column, (steps, …)."""
        width = len(self.header.bus_ids if name.startswith("voltage") else self.header.branch_ids)
        apart = self.header.phase_count > 1 and not name.endswith("_ratio")
        phases = (3,) if apart else ()
        whole = np.concatenate([np.array(getattr(chunk, name)) for chunk in self.chunks])
        return whole.reshape(-1, width, *phases)


def flow_answer(stream: Iterable[Any]) -> FlowAnswer:
    """The parts of a stream, whose order is checked."""
    answer = FlowAnswer()
    kinds = []
    steps = 0
    for message in stream:
        kind = message.WhichOneof("payload")
        kinds.append(kind)
        if kind in ("progress", "chunk"):
            getattr(answer, kind if kind == "progress" else "chunks").append(getattr(message, kind))
        else:
            setattr(answer, kind, getattr(message, kind))
        if kind == "chunk":
            answer.sizes.append(message.ByteSize())
            assert message.chunk.first_step in (steps, steps - message.chunk.step_count)
            steps = message.chunk.first_step + message.chunk.step_count
    assert (kinds[0], kinds[-1]) == ("header", "summary")
    assert steps == answer.header.step_count == answer.summary.step_count
    return answer


def flow_request(network_id: str = "net", **fields: Any) -> api.RunPowerFlowRequest:
    return api.RunPowerFlowRequest(network_id=network_id, **fields)


def flowed(here: RunningCongestion, request: api.RunPowerFlowRequest | None = None, **fields: Any) -> FlowAnswer:
    return flow_answer(here.congestion.RunPowerFlow(request or flow_request(**fields), timeout=60.0))
