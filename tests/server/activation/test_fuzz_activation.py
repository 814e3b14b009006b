"""Whatever a client sends, the ledger never answers INTERNAL or UNKNOWN, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import policy_pb2, resource_pb2
from tests.server.activation.conftest import furnish
from tests.server.activation.support import (
    HOUR_MS,
    RunningLedger,
    alias,
    at,
    held,
    named,
    new_id,
    plug_in,
    pool,
    resource,
    row,
    running_ledger,
    sale,
)
from tests.server.activation.test_check import chunk, messages
from tests.server.test_fuzz import BAD_CODES, mutate

SERVICE = api.DESCRIPTOR.services_by_name["ActivationService"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLedger]:
    with running_ledger(tmp_path_factory.mktemp("server"), watch_heartbeat_s=0.05) as server:
        furnish(server)
        plug_in(server.cpo, "ev", "cp", "s")
        held(server.party("default"), pool({"ev-2": 1, "s": 1}))
        yield server


def full_requests() -> dict[str, Any]:
    """A request a method, in which every field is set that a caller can set."""
    session = resource_pb2.Session(
        session_id=new_id(), ev_resource_id="ev-2", charge_point_resource_id="cp-2", start_time=at(0), energy_wh=1_000,
        departure_time=at(HOUR_MS), max_charge_w=7_000,
    )  # fmt: skip
    policy = policy_pb2.ActivationPolicy(
        area_id="north", kind="ACTIVATION_POLICY_KIND_ONE_SIDE", sold_side="RESOURCE_KIND_EV", aggregator_cap_w=10**6
    )
    names: dict[str, Any] = {"request_id": new_id(), "resource_id": "ev", "aliases": [alias("x")]}
    pages: dict[str, Any] = {"page_size": 3, "page_token": "AAAA"}
    return {
        "RegisterResources": api.RegisterResourcesRequest(
            request_id=new_id(), resources=[resource(new_id(), parent_id="site", aliases=[alias("x")])]
        ),
        "GetResource": api.GetResourceRequest(resource_id="ev"),
        "ListResources": api.ListResourcesRequest(area_id="north", kind="RESOURCE_KIND_EV", own=True, **pages),
        "LinkAliases": api.LinkAliasesRequest(**names),
        "UnlinkAliases": api.UnlinkAliasesRequest(**names),
        "OpenSession": api.OpenSessionRequest(request_id=new_id(), session=session),
        "CloseSession": api.CloseSessionRequest(request_id=new_id(), session_id="s", end_time=at(1)),
        "ListSessions": api.ListSessionsRequest(resource_id="ev", **pages),
        "HoldCommitments": api.HoldCommitmentsRequest(
            request_id=new_id(), hold_duration=Duration(seconds=5),
            commitments=[sale("ev", 1, energy_wh=1, exclusive_group="g"), pool({"s": 1, "cp-2": 1, "site": 1})],
        ),
        "ConfirmCommitments": named(api.ConfirmCommitmentsRequest, ["c"]),
        "ActivateCommitments": named(api.ActivateCommitmentsRequest, ["c"]),
        "CompleteCommitments": api.CompleteCommitmentsRequest(
            request_id=new_id(), deliveries=[api.Delivery(commitment_id="c", delivered_energy_wh=1)]
        ),
        "SettleCommitments": named(api.SettleCommitmentsRequest, ["c"], settlement_id="i"),
        "ReleaseCommitments": named(api.ReleaseCommitmentsRequest, ["c"]),
        "ReallocateCommitment": api.ReallocateCommitmentRequest(
            request_id=new_id(), commitment_id="c", allocation=[row("ev", 1)]
        ),
        "GetCommitment": api.GetCommitmentRequest(commitment_id="c"),
        "ListCommitments": api.ListCommitmentsRequest(product_id="afrr",
            state="COMMITMENT_STATE_HELD", from_time=at(0), **pages),
        "GetActivationPolicy": api.GetActivationPolicyRequest(area_id="north", product_id="afrr"),
        "ListActivationPolicies": api.ListActivationPoliciesRequest(**pages),
        "SetActivationPolicy": api.SetActivationPolicyRequest(request_id=new_id(), policy=policy),
        "DeleteActivationPolicy": api.DeleteActivationPolicyRequest(request_id=new_id(), area_id="north"),
    }  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    method, request = draw(st.sampled_from(sorted(full_requests().items(), key=lambda item: item[0])))
    if hasattr(request, "page_token") and draw(st.booleans()):
        request.page_token = ""
    for _ in range(draw(st.integers(1, 4))):
        mutate(draw, request)
    return method, request


def code_of(here: RunningLedger, method: str, request: Any) -> Any:
    return getattr(here.party("default").stub, method).future(request, timeout=30.0).code()


@pytest.mark.parametrize("method", full_requests())
def test_whole_request_is_answered(here: RunningLedger, method: str) -> None:
    assert code_of(here, method, full_requests()[method]) not in BAD_CODES


def test_every_unary_method_is_tried() -> None:
    unary = {m.name for m in SERVICE.methods if not m.server_streaming}
    assert set(full_requests()) == unary


@given(st.lists(mutated(), min_size=4, max_size=4))
def test_mutated_request_is_done_or_refused(here: RunningLedger, requests: list[tuple[str, Any]]) -> None:
    for method, request in requests:
        assert code_of(here, method, request) not in BAD_CODES, method


@given(st.data())
def test_mutated_batch_is_checked_or_refused(here: RunningLedger, data: st.DataObject) -> None:
    full = chunk(
        3, resource_ids=["ev", "s"], resource_indices=[0, 1, 0], aggregator_ids=["a"], aggregator_indices=[0] * 3,
        groups=["g"], exclusive_group_indices=[0, -1, -1], co_delivery_group_indices=[-1, 0, -1], energy_wh=[0, 1, 2],
        counter_activation_declared=[True] * 3, pool_numbers=[1, 0, 2],
    )  # fmt: skip
    upload = messages([full, chunk(1, resource_ids=[], product_ids=[])])
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(data.draw, data.draw(st.sampled_from(upload)))  # type: ignore[arg-type]  # draws as it does
    call = here.agg.stub.CheckCommitments(iter(upload), timeout=30.0)
    with suppress(grpc.RpcError):
        list(call)
    assert call.code() not in BAD_CODES


@given(st.sampled_from([m.name for m in SERVICE.methods if not m.server_streaming]), st.binary(max_size=60))
def test_random_bytes_are_answered(here: RunningLedger, method: str, data: bytes) -> None:
    call = here.channel.unary_unary(f"/{SERVICE.full_name}/{method}")
    assert call.future(data, timeout=30.0).code() not in BAD_CODES


def test_it_still_sells(here: RunningLedger) -> None:
    here.clock.set_ms(HOUR_MS)
    held(here.agg, sale("ev-2", 1, 2 * HOUR_MS, 3 * HOUR_MS, product_id="other"))
