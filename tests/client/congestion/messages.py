"""Answers of the congestion service, as a server would write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import congestion_pb2, network_pb2, power_flow_pb2
from evflex.congestion.v1 import congestion_service_pb2 as pb
from tests.client.capacity.messages import START, grid_message
from tests.client.fake_server import Behaviour, abort, failing

UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "the queue is full")
NAN = float("nan")


def streaming(messages: list[Any], then: grpc.StatusCode | None = None) -> Behaviour:
    """Answer with these messages, then end well or with a status."""

    def behaviour(_request: Any, context: Any) -> Iterator[Any]:
        yield from messages
        if then is not None:
            abort(context, then, "lost")

    return behaviour


def network_message(network_id: str = "n-1", phase_count: int = 1) -> network_pb2.Network:
    message = network_pb2.Network(
        network_id=network_id, display_name="Feeder", format=network_pb2.NETWORK_FORMAT_PANDAPOWER,
        phase_count=phase_count, base_kva=1000.0, bus_count=3, branch_count=2, source_count=1, load_kw=300.0,
        load_kvar=60.0, islanded_bus_count=1, refusal_count=1, notes=["no vector group"], etag="e-1", tenant_id="dso",
    )  # fmt: skip
    message.refusals.add(element="trafo3w[2]", reason="three-winding transformers are not read")
    message.create_time.FromJsonString(START)
    return message


def table_messages(phase_count: int = 1) -> list[network_pb2.NetworkTables]:
    """Tables of three buses in a row, the first bus in a message of its own."""
    loads = [[0.0], [100.0, 200.0]] if phase_count == 1 else [[0.0] * 3, [10.0, 20.0, 30.0, 0.0, 0.0, 240.0]]
    first = network_pb2.NetworkTables(
        buses=network_pb2.BusTable(bus_ids=["0"], nominal_kv=[20.0], voltage_min_pu=[NAN], load_p_kw=loads[0])
    )
    second = network_pb2.NetworkTables(
        buses=network_pb2.BusTable(
            bus_ids=["1", "2"], nominal_kv=[0.4, 0.4], voltage_min_pu=[0.9, 0.95], load_p_kw=loads[1]
        ),
        branches=network_pb2.BranchTable(
            branch_ids=["trafo 0", "line 7"],
            kinds=[network_pb2.BRANCH_KIND_TRANSFORMER, network_pb2.BRANCH_KIND_LINE],
            from_bus_indices=[0, 1], to_bus_indices=[1, 2], r_pu=[0.01, 0.02], from_closed=[True, False],
            rated_kva=[400.0, NAN],
        ),
        sources=network_pb2.SourceTable(bus_indices=[0], voltage_pu=[1.02], angle_deg=[0.0]),
    )  # fmt: skip
    if phase_count > 1:
        for name in ("load_q_kvar",):
            getattr(first.buses, name).extend([0.0] * 3)
            getattr(second.buses, name).extend([0.0] * 6)
    else:
        first.buses.load_q_kvar.extend([0.0])
        second.buses.load_q_kvar.extend([20.0, 40.0])
    return [first, second]


def network_answers(phase_count: int = 1, *, tables: bool = True) -> list[pb.GetNetworkResponse]:
    parts = table_messages(phase_count) if tables else []
    return [
        pb.GetNetworkResponse(network=network_message(phase_count=phase_count)),
        *(pb.GetNetworkResponse(tables=part) for part in parts),
    ]


def flow_value(step: int, column: int) -> float:
    """Numbers that tell where they come from."""
    return step + column / 100.0


def chunk(first: int, count: int, columns: int = 3, name: str = "voltage_pu") -> pb.RunPowerFlowResponse:
    values = [flow_value(step, column) for step in range(first, first + count) for column in range(columns)]
    message = power_flow_pb2.PowerFlowChunk(first_step=first, step_count=count, converged=[True] * count)
    getattr(message, name).extend(values)
    return pb.RunPowerFlowResponse(chunk=message)


def flow_header(steps: int, phase_count: int = 1, etag: str = "e-1") -> pb.RunPowerFlowResponse:
    return pb.RunPowerFlowResponse(
        header=power_flow_pb2.PowerFlowHeader(
            network_id="n-1", network_etag=etag, phase_count=phase_count, step_count=steps, bus_ids=["0", "1", "2"],
            branch_ids=["trafo 0", "line 7"],
        )
    )  # fmt: skip


def flow_progress(done: int, steps: int) -> pb.RunPowerFlowResponse:
    message = pb.RunPowerFlowResponse(progress=power_flow_pb2.PowerFlowProgress(steps_done=done, step_count=steps))
    message.progress.elapsed_duration.FromJsonString("1.5s")
    return message


def flow_summary(steps: int) -> pb.RunPowerFlowResponse:
    message = power_flow_pb2.PowerFlowSummary(
        step_count=steps, converged_count=steps - 1, losses_kw=np.arange(steps) / 2.0, islanded_bus_ids=["2"]
    )
    if steps > 2:
        message.not_converged.add(step=1, nearest_solvable_loading_ratio=0.8, weakest_bus_id="1")
        message.not_converged.add(step=2)
    message.solve_duration.FromJsonString("0.25s")
    return pb.RunPowerFlowResponse(summary=message)


def flow_answers(steps: int = 5, per_chunk: int = 2) -> list[pb.RunPowerFlowResponse]:
    """Header, chunks with progress after the first, and summary."""
    chunks = [chunk(first, min(per_chunk, steps - first)) for first in range(0, steps, per_chunk)]
    return [flow_header(steps), chunks[0], flow_progress(per_chunk, steps), *chunks[1:], flow_summary(steps)]


def overload() -> congestion_pb2.Congestion:
    return congestion_pb2.Congestion(
        element_id="line 7", kind=congestion_pb2.CONGESTION_KIND_LINE_OVERLOAD, contingency_id="trafo 0", start_step=1,
        end_step=3, worst_value=1.25, worst_step=2, limit=1.0, phase=supply_node_pb2.PHASE_L2, relief_bus_id="2",
        relief_needed_kw=[10.0, 25.0], probability=0.5, step_probability=[0.25, 0.5],
    )  # fmt: skip


def overvoltage() -> congestion_pb2.Congestion:
    return congestion_pb2.Congestion(
        element_id="1", kind=congestion_pb2.CONGESTION_KIND_OVERVOLTAGE, start_step=0, end_step=1, worst_value=1.12,
        limit=1.1, relief_bus_id="1", relief_needed_kw=[-30.0],
    )  # fmt: skip


def forecast_message(forecast_id: str = "f-1", congestion_count: int = 2) -> congestion_pb2.CongestionForecast:
    message = congestion_pb2.CongestionForecast(
        forecast_id=forecast_id, network_id="n-1", network_etag="e-1", time_grid=grid_message(4),
        congestion_count=congestion_count, contingency_count=3, scenario_count=1, flows_solved=12, etag="e-2",
        tenant_id="dso",
    )  # fmt: skip
    message.not_converged.add(contingency_id="line 7", steps=[0, 3])
    message.islands.add(contingency_id="trafo 0", bus_ids=["1", "2"], closed_branch_ids=["line 9"])
    message.solve_duration.FromJsonString("0.5s")
    message.create_time.FromJsonString(START)
    return message


def worst_chunk(first: int, count: int) -> congestion_pb2.WorstChunk:
    steps = range(first, first + count)
    return congestion_pb2.WorstChunk(
        first_step=first, step_count=count,
        voltage_min_pu=[flow_value(step, bus) for step in steps for bus in range(3)],
        voltage_max_pu=[flow_value(step, bus) + 0.5 for step in steps for bus in range(3)],
        branch_loading_ratio=[value for step in steps for value in (flow_value(step, 0), NAN)],
    )  # fmt: skip


def found(*congestions: congestion_pb2.Congestion) -> pb.ForecastCongestionResponse:
    return pb.ForecastCongestionResponse(congestions=congestion_pb2.CongestionChunk(congestions=congestions))


def forecast_progress(done: int) -> pb.ForecastCongestionResponse:
    progress = congestion_pb2.ForecastProgress(contingencies_done=done, contingency_count=3, flows_solved=4 * done)
    message = pb.ForecastCongestionResponse(progress=progress)
    message.progress.elapsed_duration.FromJsonString("2s")
    return message


def forecast_answers(*, worst: bool = False) -> list[pb.ForecastCongestionResponse]:
    values = [worst_chunk(0, 3), worst_chunk(3, 1)] if worst else []
    return [
        forecast_progress(1),
        found(overvoltage()),
        forecast_progress(2),
        found(overload()),
        *(pb.ForecastCongestionResponse(worst=part) for part in values),
        pb.ForecastCongestionResponse(summary=forecast_message()),
    ]


def stored_answers(*, worst: bool = False) -> list[pb.GetForecastResponse]:
    values = [worst_chunk(0, 4)] if worst else []
    return [
        pb.GetForecastResponse(summary=forecast_message()),
        pb.GetForecastResponse(congestions=congestion_pb2.CongestionChunk(congestions=[overvoltage(), overload()])),
        *(pb.GetForecastResponse(worst=part) for part in values),
    ]
