"""What a forecast of congestion finds, as messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np

from evflex.congestion.v1 import congestion_pb2
from evflex.engine.grid import Congestion, CongestionKind, ContingencyFindings, Network, WorstValues
from evflex.server.wire import packed_doubles

_WorstChunk = congestion_pb2.WorstChunk
# Of a chunk: congestions, and steps of all of them, each of some ten bytes twice.
_MOST_CONGESTIONS, _MOST_STEPS = 500, 20_000
# Of a chunk of worst values: each takes up to twelve bytes.
_MOST_VALUES = 60_000


def encode_congestion(
    network: Network, found: Congestion, *, uncertain: bool, with_relief: bool
) -> congestion_pb2.Congestion:
    """A congestion."""
    branch_ids, bus_ids = network.branches.branch_ids, network.buses.bus_ids
    of_bus = found.kind in (CongestionKind.UNDERVOLTAGE, CongestionKind.OVERVOLTAGE)
    message = congestion_pb2.Congestion(
        element_id=(bus_ids if of_bus else branch_ids)[found.element],
        kind=congestion_pb2.CongestionKind.Name(int(found.kind)),
        contingency_id=_branch_id(network, found.contingency),
        closed_branch_ids=[branch_ids[k] for k in found.closed_ties],
        start_step=found.start_step,
        end_step=found.end_step,
        worst_value=found.worst_value,
        worst_step=found.worst_step,
        limit=found.limit,
    )
    if with_relief:
        message.relief_needed_kw.extend(found.relief_kw.tolist())
        message.relief_obstacle = cast("congestion_pb2.ReliefObstacle", int(found.relief_obstacle))
        if found.relief_bus >= 0:
            message.relief_bus_id = bus_ids[found.relief_bus]
    if uncertain:
        message.probability = found.probability
        message.step_probability.extend(found.step_probability.tolist())
    return message


def congestion_chunks(congestions: Sequence[congestion_pb2.Congestion]) -> Iterator[congestion_pb2.CongestionChunk]:
    """Congestions in chunks below 1 MiB, unless one of them is more."""
    chunk, steps = congestion_pb2.CongestionChunk(), 0
    for congestion in congestions:
        chunk.congestions.append(congestion)
        steps += congestion.end_step - congestion.start_step
        if len(chunk.congestions) == _MOST_CONGESTIONS or steps >= _MOST_STEPS:
            yield chunk
            chunk, steps = congestion_pb2.CongestionChunk(), 0
    if chunk.congestions:
        yield chunk


def worst_chunks(worst: WorstValues) -> Iterator[_WorstChunk]:
    """Worst values in chunks of steps."""
    columns = {
        "voltage_min_pu": worst.voltage_min_pu,
        "voltage_max_pu": worst.voltage_max_pu,
        "branch_loading_ratio": worst.loading_ratio,
    }
    contingencies = {
        "voltage_min_contingency": worst.voltage_min_contingency,
        "voltage_max_contingency": worst.voltage_max_contingency,
        "branch_loading_contingency": worst.loading_contingency,
    }
    steps, width = len(worst.loading_ratio), sum(values.shape[1] for values in columns.values())
    per_chunk = max(1, _MOST_VALUES // max(1, width))
    numbers = _WorstChunk.DESCRIPTOR.fields_by_name
    for first in range(0, steps, per_chunk):
        part = slice(first, min(first + per_chunk, steps))
        chunk = _WorstChunk(
            first_step=first,
            step_count=part.stop - first,
            **{name: np.ravel(values[part]).tolist() for name, values in contingencies.items()},
        )
        for name, values in columns.items():
            chunk.MergeFromString(packed_doubles(numbers[name].number, values[part].reshape(-1)))
        yield chunk


def encode_island(network: Network, found: ContingencyFindings, step_h: float) -> congestion_pb2.Island | None:
    """What a contingency cuts off and how that is fed; None where it cuts off nothing."""
    if found.island is None and not found.closed_ties:
        return None
    branch_ids, bus_ids = network.branches.branch_ids, network.buses.bus_ids
    message = congestion_pb2.Island(
        contingency_id=_branch_id(network, found.contingency),
        closed_branch_ids=[branch_ids[k] for k in found.closed_ties],
    )
    if found.island is not None:
        message.bus_ids.extend(bus_ids[i] for i in found.island.buses.tolist())
        message.unserved_kwh = found.island.unserved_kwh(step_h)
    return message


def encode_unsolved(network: Network, found: ContingencyFindings) -> congestion_pb2.UnsolvedContingency | None:
    """The steps of a contingency that are not solved; None where all are."""
    failed = found.not_converged
    if failed is None:
        return None
    message = congestion_pb2.UnsolvedContingency(
        contingency_id=_branch_id(network, failed.contingency),
        steps=failed.steps.tolist(),
        heaviest_step=failed.heaviest_step,
    )
    if failed.nearest is not None:
        message.nearest_solvable_loading_ratio = failed.nearest.ratio
        message.weakest_bus_id = network.buses.bus_ids[failed.nearest.weakest_bus]
    return message


def _branch_id(network: Network, branch: int) -> str:
    return network.branches.branch_ids[branch] if branch >= 0 else ""
