"""Solved steps as chunks of a stream, written straight in the wire format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evflex.congestion.v1 import congestion_service_pb2, power_flow_pb2
from evflex.engine.grid import FlowOptions, Network, PowerFlow
from evflex.engine.supply_tree import FloatArray
from evflex.server.wire import delimited, packed_bools, packed_doubles

_Chunk = power_flow_pb2.PowerFlowChunk
_CHUNK_FIELD = congestion_service_pb2.RunPowerFlowResponse.CHUNK_FIELD_NUMBER
# A chunk with all that stands around it stays under 1 MiB, unless one column of one step is more.
_CHUNK_BYTES = (1 << 20) - 256
# What the engine makes of a block: its memory, and how long until it looks up again.
_BLOCK_BYTES = 8 << 20
_NUMBER_BYTES = 8
_ANGLE = "voltage_angle_deg"
_VOLTAGES = ("voltage_pu", _ANGLE)
_LOADING = "branch_loading_ratio"
_UNBALANCE = "voltage_unbalance_ratio"
_POWERS = ("from_p_kw", "from_q_kvar", "to_p_kw", "to_q_kvar")
_CURRENTS = ("from_current_a", "to_current_a")
# Numbers that the engine makes of a branch in a step on the way to powers and currents, as complex ones twice.
_FLOW_NUMBERS = 24


@dataclass(frozen=True, slots=True)
class FlowChunks:
    """How steps are cut into blocks for the engine and chunks for the wire.

    Attributes:
        fields: Columns that are wanted.
        options: What the engine is to compute for them.
        steps_per_block: Steps that the engine solves at once.
        steps_per_chunk: Steps in a message.
        columns_apart: Whether one step is too large for one message, so that each column has its own.
    """

    fields: tuple[str, ...]
    options: FlowOptions
    steps_per_block: int
    steps_per_chunk: int
    columns_apart: bool

    @classmethod
    def of(cls, network: Network, outputs: power_flow_pb2.PowerFlowOutputs) -> FlowChunks:
        """Cut the steps of a network for these outputs."""
        fields = _wanted(outputs, network.phase_count)
        options = FlowOptions(
            complex_voltages=_ANGLE in fields, branch_flows=outputs.branch_power or outputs.branch_current
        )
        bus_cells = network.bus_count * network.phase_count
        branch_cells = network.branch_count * network.phase_count
        made = 3 * bus_cells + branch_cells * (_FLOW_NUMBERS if options.branch_flows else 1)
        widths = dict.fromkeys(_VOLTAGES, bus_cells) | {_LOADING: network.branch_count, _UNBALANCE: network.bus_count}
        sent = sum(widths.get(name, branch_cells) for name in fields)
        per_block = max(1, _BLOCK_BYTES // (_NUMBER_BYTES * made))
        step_bytes = _NUMBER_BYTES * sent + 1
        per_chunk = max(1, min(per_block, _CHUNK_BYTES // step_bytes))
        return cls(fields, options, per_block // per_chunk * per_chunk, per_chunk, step_bytes > _CHUNK_BYTES)

    def messages(self, first_step: int, flow: PowerFlow) -> Iterator[bytes]:
        """RunPowerFlowResponse messages of a solved block, serialized."""
        whole = {name: _values(name, flow) for name in self.fields}
        numbers = _Chunk.DESCRIPTOR.fields_by_name
        for first in range(0, flow.converged.shape[0], self.steps_per_chunk):
            steps = slice(first, first + self.steps_per_chunk)
            converged = flow.converged[steps]
            head = _Chunk(first_step=first_step + first, step_count=converged.shape[0]).SerializeToString()
            solved = packed_bools(_Chunk.CONVERGED_FIELD_NUMBER, converged)
            columns = [
                packed_doubles(numbers[name].number, values[steps].reshape(-1)) for name, values in whole.items()
            ]
            if not self.columns_apart:
                yield _message([head, solved, *columns])
                continue
            yield _message([head, solved])
            for column in columns:
                yield _message([head, column])


def _wanted(outputs: power_flow_pb2.PowerFlowOutputs, phase_count: int) -> tuple[str, ...]:
    flags = {
        "voltage_pu": outputs.voltage or not outputs.HasField("voltage"),
        _ANGLE: outputs.voltage_angle or not outputs.HasField("voltage_angle"),
        _LOADING: outputs.branch_loading or not outputs.HasField("branch_loading"),
        _UNBALANCE: outputs.voltage_unbalance and phase_count > 1,
        **dict.fromkeys(_POWERS, outputs.branch_power),
        **dict.fromkeys(_CURRENTS, outputs.branch_current),
    }
    return tuple(name for name, wanted in flags.items() if wanted)


def _values(name: str, flow: PowerFlow) -> FloatArray:
    values: FloatArray = getattr(flow.flows if name in _POWERS or name in _CURRENTS else flow, name)
    return values


def _message(parts: Sequence[bytes]) -> bytes:
    return delimited(_CHUNK_FIELD, b"".join(parts))
