"""Whatever a client sends, capacity is planned or refused with the field's name, and the server goes on."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.capacity.v1 import transformer_pb2
from tests.server.capacity.planning_support import (
    STEPS,
    RunningCapacity,
    allocate_request,
    allocated,
    car,
    forecast,
    hub,
    measured,
    rate_request,
    running_capacity,
    terms,
    transformer,
)
from tests.server.support import START_S, violations_of
from tests.server.test_fuzz import BAD_CODES, TEXT, WHOLE, mutate

SERVICE = api.DESCRIPTOR.services_by_name["CapacityService"]
PLANNING = ("RateTransformer", "AllocateCapacity", "GetAllocation", "ListAllocations", "DeleteAllocation")
REFUSALS = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ALREADY_EXISTS,
}  # fmt: skip
# Any value will do.
FREE = {"priority"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCapacity]:
    with running_capacity(tmp_path_factory.mktemp("server"), max_hub_steps=10_000) as server:
        server.agreements.add("kept", "hub-3")
        yield server


def full_transformer() -> transformer_pb2.Transformer:
    names = transformer_pb2.ThermalParameters.DESCRIPTOR.fields_by_name
    return transformer(
        ambient_c=[15.0] * STEPS, max_loading_ratio=1.4, max_hot_spot_c=118.0, max_top_oil_c=100.0,
        max_loss_of_life_h_per_day=24.0, cooling=1, distribution=True, paper=1,
        thermal_parameters=transformer_pb2.ThermalParameters(**dict.fromkeys(names, 2.0)),
        initial_state=transformer_pb2.ThermalState(top_oil_c=40.0, winding_gradient_c=20.0, oil_gradient_c=10.0),
    )  # fmt: skip


def full_allocation() -> api.AllocateCapacityRequest:
    """A request in which every field is set that a caller can set, but for the sources of loads."""
    own = terms(
        hub_id="hub-1", transformer_id="trafo-1", priority=1, notice_duration=Duration(seconds=60),
        curtailment_price_per_kwh=0.1, currency_code="EUR", valid_from_time=Timestamp(seconds=START_S),
        valid_until_time=Timestamp(seconds=START_S + 7200),
    )  # fmt: skip
    limits: dict[str, Any] = {"min_kw_per_ev": 2.0, "phases": 7, "phases_per_ev": 1, "weight": 2.0}
    return allocate_request(
        transformer=full_transformer(), grid_condition=[1] * STEPS, n1_rated_kva=300.0, policy=1, area_id="area",
        time_limit_duration=Duration(seconds=5), loading=quantiles(), risk_quantile=0.8,
        hubs=[
            hub("hub-1", connected_evs=[4] * STEPS, agreement=own, **limits),
            hub("hub-2", sessions=[car("a"), car("b")]),
            hub("hub-3", agreement_id="kept"),
        ],
    )  # fmt: skip


def full_rating() -> api.RateTransformerRequest:
    return rate_request(
        transformer=full_transformer(), grid_condition=[1] * STEPS, n1_rated_kva=300.0, area_id="area",
        loading=measured(measurement_time=Timestamp(seconds=START_S)), wanted=[True] * STEPS,
    )  # fmt: skip


def quantiles() -> transformer_pb2.Loading:
    return forecast(load_kw=[1.0] * 2 * STEPS, load_kvar=[1.0] * 2 * STEPS, quantiles=[0.5, 0.9])


def broken(request: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a request with one field broken in each, and that field's path."""
    for path, _ in leaves(request):
        copy = type(request)()
        copy.CopyFrom(request)
        breaks = dict(leaves(copy))[path]
        breaks()
        yield path, copy


def leaves(message: Message, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path of each value in a message, and what breaks it."""
    for field, value in message.ListFields():
        here = f"{path}{field.name}"
        if field.name in FREE or (field.cpp_type == FieldDescriptor.CPPTYPE_BOOL and not field.is_repeated):
            continue
        if isinstance(value, Timestamp):
            yield here, lambda value=value: setattr(value, "nanos", -1)
        elif isinstance(value, Duration):
            yield here, lambda value=value: value.CopyFrom(Duration(seconds=-1, nanos=1))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            items = enumerate(value) if field.is_repeated else [(-1, value)]
            for i, item in items:
                yield from leaves(item, f"{here}[{i}]." if field.is_repeated else f"{here}.")
        elif field.is_repeated:
            yield here, lambda value=value: value.append(value[-1])  # too long
            if field.cpp_type != FieldDescriptor.CPPTYPE_BOOL:
                yield f"{here}[1]", lambda value=value, field=field: value.__setitem__(1, nonsense(field))
        else:
            yield here, lambda field=field: setattr(message, field.name, nonsense(field))


def nonsense(field: FieldDescriptor) -> object:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return nan
    return "\n" if kind == FieldDescriptor.CPPTYPE_STRING else -7


@pytest.mark.parametrize("request_of", [full_allocation, full_rating])
def test_each_field_that_is_broken_is_named(here: RunningCapacity, request_of: Any) -> None:
    request = request_of()
    method = api.AllocateCapacityRequest.DESCRIPTOR.name.removesuffix("Request")
    if isinstance(request, api.RateTransformerRequest):
        method = "RateTransformer"
    call = getattr(here.capacity, method)
    call(request)
    paths = []
    for path, copy in broken(request):
        with pytest.raises(grpc.RpcError) as caught:
            call(copy)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, path
        named = violations_of(caught.value)
        # a quantile too many is one that does not rise
        assert any(field.split("[2]")[0] == path if "quantiles" in path else field == path for field in named), (
            path, named,
        )  # fmt: skip
        paths.append(path)
    assert len(paths) > 30


@st.composite
def allocations(draw: st.DrawFn) -> api.AllocateCapacityRequest:
    request = full_allocation()
    if draw(st.booleans()):
        request.ClearField("risk_quantile")
        request.loading.CopyFrom(draw(st.sampled_from([measured(), forecast()])))
    request.store = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, request)
    return request


@st.composite
def ratings(draw: st.DrawFn) -> api.RateTransformerRequest:
    request = full_rating()
    if draw(st.booleans()):
        request.loading.CopyFrom(quantiles())
    request.store = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, request)
    return request


def code_of(call: Any, request: object) -> grpc.StatusCode:
    code: grpc.StatusCode = call.future(request, timeout=30.0).code()
    return code


@given(allocations())
def test_mutated_allocation_is_made_or_refused(here: RunningCapacity, request: api.AllocateCapacityRequest) -> None:
    assert code_of(here.capacity.AllocateCapacity, request) in REFUSALS


@given(ratings())
def test_mutated_rating_is_made_or_refused(here: RunningCapacity, request: api.RateTransformerRequest) -> None:
    assert code_of(here.capacity.RateTransformer, request) in REFUSALS


@given(st.sampled_from(PLANNING), st.binary(max_size=60))
def test_random_bytes_are_answered(here: RunningCapacity, method: str, data: bytes) -> None:
    assert code_of(here.channel.unary_unary(f"/{SERVICE.full_name}/{method}"), data) not in BAD_CODES


@given(TEXT, TEXT, WHOLE, TEXT)
def test_odd_names_and_tokens_are_answered(here: RunningCapacity, name: str, token: str, size: int, row: str) -> None:
    stub = here.capacity
    for call, request in (
        (stub.GetAllocation, api.GetAllocationRequest(allocation_id=name, hub_ids=[row])),
        (stub.ListAllocations, api.ListAllocationsRequest(transformer_id=name, page_size=size, page_token=token)),
        (stub.DeleteAllocation, api.DeleteAllocationRequest(request_id=row, allocation_id=name, etag=token)),
    ):
        assert code_of(call, request) not in BAD_CODES


def test_it_still_shares(here: RunningCapacity) -> None:
    assert allocated(here, store=True).allocation_id
