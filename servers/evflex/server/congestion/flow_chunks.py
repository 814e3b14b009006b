"""Solved steps as chunks of a stream, written straight in the wire format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evflex.congestion.v1 import congestion_service_pb2, power_flow_pb2
from evflex.engine.grid import Network, PowerFlow
from evflex.server.wire import delimited, packed_bools, packed_doubles

_Chunk = power_flow_pb2.PowerFlowChunk
_CHUNK_FIELD = congestion_service_pb2.RunPowerFlowResponse.CHUNK_FIELD_NUMBER
# A chunk with all that stands around it stays under 1 MiB, unless one column of one step is more.
_CHUNK_BYTES = (1 << 20) - 256
# What the engine makes of a block: its memory, and how long until it looks up again.
_BLOCK_BYTES = 8 << 20
_NUMBER_BYTES = 8
_VOLTAGES = ("voltage_pu", "voltage_angle_deg")
_LOADING = "branch_loading_ratio"
_POWERS = ("from_p_kw", "from_q_kvar", "to_p_kw", "to_q_kvar")
_CURRENTS = ("from_current_a", "to_current_a")


@dataclass(frozen=True, slots=True)
class FlowChunks:
    """How steps are cut into blocks for the engine and chunks for the wire.

    Attributes:
        fields: Columns that are wanted.
        branch_flows: Whether any of them is a power or a current of branches.
        steps_per_block: Steps that the engine solves at once.
        steps_per_chunk: Steps in a message.
        columns_apart: Whether one step is too large for one message, so that each column has its own.
    """

    fields: tuple[str, ...]
    branch_flows: bool
    steps_per_block: int
    steps_per_chunk: int
    columns_apart: bool

    @classmethod
    def of(cls, network: Network, outputs: power_flow_pb2.PowerFlowOutputs) -> FlowChunks:
        """Cut the steps of a network for these outputs."""
        fields = _wanted(outputs)
        branch_flows = outputs.branch_power or outputs.branch_current
        bus_cells = network.bus_count * network.phase_count
        branch_cells = network.branch_count * network.phase_count
        made = 2 * bus_cells + branch_cells * (1 + branch_flows * (len(_POWERS) + len(_CURRENTS)))
        sent = sum(bus_cells if name in _VOLTAGES else branch_cells for name in fields)
        per_block = max(1, _BLOCK_BYTES // (_NUMBER_BYTES * made))
        step_bytes = _NUMBER_BYTES * sent + 1
        per_chunk = max(1, min(per_block, _CHUNK_BYTES // step_bytes))
        return cls(fields, branch_flows, per_block // per_chunk * per_chunk, per_chunk, step_bytes > _CHUNK_BYTES)

    def messages(self, first_step: int, flow: PowerFlow) -> Iterator[bytes]:
        """RunPowerFlowResponse messages of a solved block, serialized."""
        for first in range(0, flow.converged.shape[0], self.steps_per_chunk):
            steps = slice(first, first + self.steps_per_chunk)
            converged = flow.converged[steps]
            head = _Chunk(first_step=first_step + first, step_count=converged.shape[0]).SerializeToString()
            solved = packed_bools(_Chunk.CONVERGED_FIELD_NUMBER, converged)
            columns = [_column(name, flow, steps) for name in self.fields]
            if not self.columns_apart:
                yield _message([head, solved, *columns])
                continue
            yield _message([head, solved])
            for column in columns:
                yield _message([head, column])


def _wanted(outputs: power_flow_pb2.PowerFlowOutputs) -> tuple[str, ...]:
    flags = {
        "voltage_pu": outputs.voltage or not outputs.HasField("voltage"),
        "voltage_angle_deg": outputs.voltage_angle or not outputs.HasField("voltage_angle"),
        _LOADING: outputs.branch_loading or not outputs.HasField("branch_loading"),
        **dict.fromkeys(_POWERS, outputs.branch_power),
        **dict.fromkeys(_CURRENTS, outputs.branch_current),
    }
    return tuple(name for name, wanted in flags.items() if wanted)


def _column(name: str, flow: PowerFlow, steps: slice) -> bytes:
    number = _Chunk.DESCRIPTOR.fields_by_name[name].number
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = getattr(flow, name)
    return packed_doubles(number, values[steps].reshape(-1))


def _message(parts: Sequence[bytes]) -> bytes:
    return delimited(_CHUNK_FIELD, b"".join(parts))
