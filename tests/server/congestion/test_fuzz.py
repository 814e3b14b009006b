"""Whatever a client sends, networks are taken in or refused, flows are computed or refused, and the server goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import congestion_service_pb2 as api
from evflex.congestion.v1 import power_flow_pb2
from tests.server.congestion.support import (
    RunningCongestion,
    flow_request,
    flowed,
    grid,
    header,
    imported,
    running_congestion,
    toy,
    upload,
)
from tests.server.test_fuzz import BAD_CODES, TEXT, WHOLE, mutate

SERVICE = api.DESCRIPTOR.services_by_name["CongestionService"]
REFUSALS = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND,
}  # fmt: skip
PHASES = (supply_node_pb2.PHASE_CONNECTION_UNSPECIFIED, supply_node_pb2.PHASE_CONNECTION_L1_L2_L3)
NOT_BUILT = {"ForecastCongestion"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCongestion]:
    with running_congestion(tmp_path_factory.mktemp("server"), max_steps=1_000) as server:
        imported(server)
        imported(server, toy(4, phases=3), network_id="phases")
        yield server


def mutated(draw: st.DrawFn, messages: list[Any]) -> list[Any]:
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, draw(st.sampled_from(messages)))
    return messages


@st.composite
def imports(draw: st.DrawFn) -> list[Any]:
    return mutated(draw, upload(header(network_id=""), ("toy.json", toy(2)), ("other", b"")))


@st.composite
def flow_requests(draw: st.DrawFn) -> api.RunPowerFlowRequest:
    request = flow_request(draw(st.sampled_from(["net", "phases"])))
    if draw(st.booleans()):
        request.time_grid.CopyFrom(grid(2))
    if draw(st.booleans()):
        request.injections.CopyFrom(
            power_flow_pb2.Injections(
                bus_ids=["bus-1", "bus-1"], p_kw=[1.0, 2.0, 3.0, 4.0], q_kvar=[0.0] * 4, phases=PHASES
            )
        )
    else:
        request.profiled_injections.CopyFrom(
            power_flow_pb2.ProfiledInjections(
                profile_count=1, profile_values=[1.0, 2.0], bus_ids=["bus-1"], p_profile_indices=[0], p_scale_kw=[1.0]
            )
        )
    mutated(draw, [request])
    return request


def code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = call.code()
    return code


@given(imports())
def test_mutated_network_is_taken_in_or_refused(here: RunningCongestion, messages: list[Any]) -> None:
    assert code_of(here.congestion.ImportNetwork.future(iter(messages), timeout=30.0)) in REFUSALS


@given(flow_requests())
def test_mutated_flow_is_computed_or_refused(here: RunningCongestion, request: api.RunPowerFlowRequest) -> None:
    stream = here.congestion.RunPowerFlow(request, timeout=30.0)
    with contextlib.suppress(grpc.RpcError):
        list(stream)
    assert code_of(stream) in REFUSALS


@given(st.sampled_from([m for m in SERVICE.methods if m.name not in NOT_BUILT]), st.binary(max_size=60))
def test_random_bytes_are_answered(here: RunningCongestion, method: Any, data: bytes) -> None:
    path = f"/{SERVICE.full_name}/{method.name}"
    if method.client_streaming:
        call = here.channel.stream_unary(path).future(iter([data]), timeout=30.0)
    elif method.server_streaming:
        call = here.channel.unary_stream(path)(data, timeout=30.0)
    else:
        call = here.channel.unary_unary(path).future(data, timeout=30.0)
    assert code_of(call) not in BAD_CODES


@given(TEXT, TEXT, WHOLE, TEXT)
def test_odd_names_and_tokens_are_answered(here: RunningCongestion, name: str, token: str, size: int, row: str) -> None:
    stub = here.congestion
    for call, request in (
        (stub.ListNetworks, api.ListNetworksRequest(page_size=size, page_token=token)),
        (stub.DeleteNetwork, api.DeleteNetworkRequest(request_id=row, network_id=name, etag=token)),
        (stub.ListForecasts, api.ListForecastsRequest(network_id=name, page_size=size, page_token=token)),
        (stub.DeleteForecast, api.DeleteForecastRequest(request_id=row, forecast_id=name, etag=token)),
    ):
        assert code_of(call.future(request, timeout=30.0)) not in BAD_CODES
    for stream, asked in (
        (stub.GetNetwork, api.GetNetworkRequest(network_id=name)),
        (stub.GetForecast, api.GetForecastRequest(forecast_id=name)),
        (stub.RunPowerFlow, flow_request(name)),
    ):
        assert code_of(stream(asked, timeout=30.0)) not in BAD_CODES


def test_it_still_computes(here: RunningCongestion) -> None:
    assert flowed(here).summary.converged_count == 1
