"""Whatever a client sends, portfolios are taken in or refused, and the server goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.dispatch.v1 import dispatch_service_pb2 as api
from tests.server.dispatch.support import (
    RunningDispatch,
    created,
    creation,
    fleet,
    header,
    plan_request,
    planned,
    profile,
    running_dispatch,
    update,
)
from tests.server.test_fuzz import BAD_CODES, TEXT, WHOLE, mutate

SERVICE = api.DESCRIPTOR.services_by_name["DispatchService"]
REFUSALS = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDispatch]:
    with running_dispatch(tmp_path_factory.mktemp("server"), max_plan_series_steps=10_000) as server:
        created(server)
        yield server


def mutated(draw: st.DrawFn, messages: list[Any]) -> list[Any]:
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, draw(st.sampled_from(messages)))
    return messages


@st.composite
def creations(draw: st.DrawFn) -> list[Any]:
    chunk = api.PortfolioChunk(fleet=fleet(2, kinds=[3, 1]), profiles=[profile("asset-000000", -1.0, -2.0)])
    return mutated(draw, creation(header(2, portfolio_id=""), chunk))


@st.composite
def updates(draw: st.DrawFn) -> list[Any]:
    chunk = api.PortfolioChunk(fleet=fleet(2), removed_asset_ids=["asset-000002"])
    return mutated(draw, update(chunk, validate_only=draw(st.booleans())))


@st.composite
def requests(draw: st.DrawFn) -> api.PlanPortfolioRequest:
    request = plan_request()
    request.limits.add(violation_price_per_kwh=1.0, max_import_kw=[5.0])
    request.reserves.add(commitment_id="c", product_id="FCR-N", up_kw=[1.0]).time_grid.CopyFrom(request.time_grid)
    mutated(draw, [request])
    return request


def code_of(call: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = call.code()
    return code


@given(creations())
def test_mutated_portfolio_is_taken_in_or_refused(here: RunningDispatch, messages: list[Any]) -> None:
    assert code_of(here.dispatch.CreatePortfolio.future(iter(messages), timeout=30.0)) in REFUSALS


@given(updates())
def test_mutated_change_is_taken_over_or_refused(here: RunningDispatch, messages: list[Any]) -> None:
    assert code_of(here.dispatch.UpdatePortfolio.future(iter(messages), timeout=30.0)) in REFUSALS


@given(requests())
def test_mutated_plan_is_made_or_refused(here: RunningDispatch, request: api.PlanPortfolioRequest) -> None:
    stream = here.dispatch.PlanPortfolio(request, timeout=30.0)
    with contextlib.suppress(grpc.RpcError):
        list(stream)
    assert code_of(stream) in REFUSALS


@given(st.sampled_from(list(SERVICE.methods)), st.binary(max_size=60))
def test_random_bytes_are_answered(here: RunningDispatch, method: Any, data: bytes) -> None:
    path = f"/{SERVICE.full_name}/{method.name}"
    if method.client_streaming:
        call = here.channel.stream_unary(path).future(iter([data]), timeout=30.0)
    elif method.server_streaming:
        call = here.channel.unary_stream(path)(data, timeout=30.0)
    else:
        call = here.channel.unary_unary(path).future(data, timeout=30.0)
    assert code_of(call) not in BAD_CODES


@given(TEXT, TEXT, WHOLE, TEXT)
def test_odd_names_and_tokens_are_answered(here: RunningDispatch, name: str, token: str, size: int, row: str) -> None:
    stub = here.dispatch
    for call, request in (
        (stub.GetPortfolio, api.GetPortfolioRequest(portfolio_id=name)),
        (stub.ListPortfolios, api.ListPortfoliosRequest(page_size=size, page_token=token)),
        (stub.DeletePortfolio, api.DeletePortfolioRequest(request_id=row, portfolio_id=name, etag=token)),
        (stub.ListPlans, api.ListPlansRequest(portfolio_id=name, page_size=size, page_token=token)),
        (stub.DeletePlan, api.DeletePlanRequest(request_id=row, plan_id=name, etag=token)),
    ):
        assert code_of(call.future(request, timeout=30.0)) not in BAD_CODES


def test_it_still_plans(here: RunningDispatch) -> None:
    assert planned(here).plan.plan_id
