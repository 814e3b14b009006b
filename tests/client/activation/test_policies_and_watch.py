"""Policies and the watch of conflicts of both clients."""

from __future__ import annotations

from typing import Any

import grpc
import pandas as pd
import pytest

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import policy_pb2, resource_pb2
from evflex.client import InvalidRequestError, UnavailableError
from evflex.client.activation.operations import ACTIVATION_SERVICE
from tests.client.activation.messages import START, UNAVAILABLE, policy_message, resolved_message
from tests.client.congestion.messages import streaming
from tests.client.fake_server import FakeServer, answering


def event(kind: str, token: str = "", number: int = 0) -> pb.WatchConflictsResponse:
    message = pb.WatchConflictsResponse(kind=f"CONFLICT_EVENT_KIND_{kind}", resume_token=token)
    message.event_time.FromJsonString(START)
    if number:
        message.conflict.CopyFrom(resolved_message(number))
    return message


SNAPSHOT = event("SNAPSHOT", number=1)
COMPLETE = event("SNAPSHOT_COMPLETE", "1")
DECIDED = event("DECIDED", "2", number=2)
HEARTBEAT = event("HEARTBEAT", "2")


def test_a_policy_is_set_fetched_and_listed(client: Any, server: FakeServer) -> None:
    server.on("SetActivationPolicy", UNAVAILABLE, answering(pb.SetActivationPolicyResponse(policy=policy_message())))
    server.on("GetActivationPolicy", answering(pb.GetActivationPolicyResponse(policy=policy_pb2.ActivationPolicy())))
    server.on("ListActivationPolicies", answering(pb.ListActivationPoliciesResponse(policies=[policy_message()])))
    policy = client.set_activation_policy(
        "ONE_SIDE", area_id="DK1", sold_side="EV", aggregator_cap_kw=5000.0009, etag="e-3"
    )
    assert (policy.kind, policy.sold_side, policy.aggregator_cap_kw, policy.version) == ("ONE_SIDE", "EV", 5000.0, 2)
    first, second = server.asked("SetActivationPolicy")
    assert first == second
    assert first.request_id
    assert first.etag == "e-3"
    assert first.policy == policy_pb2.ActivationPolicy(
        area_id="DK1", kind=policy_pb2.ACTIVATION_POLICY_KIND_ONE_SIDE, sold_side=resource_pb2.RESOURCE_KIND_EV,
        aggregator_cap_w=5_000_000,
    )  # fmt: skip
    none = client.get_activation_policy("DK1", "LOCAL_UP")
    assert (none.kind, none.sold_side, none.aggregator_cap_kw, none.version) == ("", "", None, 0)
    assert server.asked("GetActivationPolicy")[0].product_id == "LOCAL_UP"
    assert [listed.area_id for listed in client.list_activation_policies()] == ["DK1"]


def test_nothing_holds_by_a_policy_of_no_kind(client: Any, server: FakeServer) -> None:
    server.on("SetActivationPolicy", answering(pb.SetActivationPolicyResponse()))
    client.set_activation_policy("", product_id="LOCAL_UP", validate_only=True)
    (request,) = server.asked("SetActivationPolicy")
    assert request.validate_only
    assert request.policy == policy_pb2.ActivationPolicy(product_id="LOCAL_UP")


def test_a_policy_is_deleted(client: Any, server: FakeServer) -> None:
    server.on("DeleteActivationPolicy", UNAVAILABLE, answering(pb.DeleteActivationPolicyResponse()))
    client.delete_activation_policy(area_id="DK1", product_id="LOCAL_UP", etag="e-3")
    first, second = server.asked("DeleteActivationPolicy")
    assert first == second
    assert first.request_id
    assert (first.area_id, first.product_id, first.etag, first.validate_only) == ("DK1", "LOCAL_UP", "e-3", False)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kind": "NONE_AT_ALL"}, "unknown activation policy kind 'NONE_AT_ALL'; known are ONE_SIDE, SESSION"),
        ({"kind": "ONE_SIDE", "sold_side": "BOTH"}, "sold_side: unknown resource kind 'BOTH'"),
        ({"kind": "", "aggregator_cap_kw": float("inf")}, "aggregator_cap_kw: must be a finite number"),
    ],
)
def test_a_policy_that_cannot_be_written_is_not_sent(
    client: Any, server: FakeServer, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        client.set_activation_policy(**arguments)
    assert server.calls == []


def test_a_watch_tells_what_was_decided(client: Any, server: FakeServer) -> None:
    server.on("WatchConflicts", streaming([SNAPSHOT, COMPLETE, DECIDED, HEARTBEAT]))
    events = list(client.watch_conflicts())
    assert [told.kind for told in events] == ["SNAPSHOT", "SNAPSHOT_COMPLETE", "DECIDED", "HEARTBEAT"]
    assert [told.resume_token for told in events] == ["", "1", "2", "2"]
    assert events[1].conflict is None
    decided = events[2].conflict
    assert (decided.kept_commitment_id, decided.suspended_commitment_id) == ("c-0", "c-2")
    assert (decided.kept_aggregator_id, decided.suspended_aggregator_id, decided.session_id) == ("", "agg", "s-1")
    assert decided.conflict.kind == "CROSS_SALE"
    assert events[0].event_time == pd.Timestamp(START)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_watch_goes_on_after_the_last_event(client: Any, server: FakeServer, code: grpc.StatusCode) -> None:
    server.on("WatchConflicts", streaming([SNAPSHOT, COMPLETE], code), streaming([DECIDED]))
    assert [told.kind for told in client.watch_conflicts()] == ["SNAPSHOT", "SNAPSHOT_COMPLETE", "DECIDED"]
    assert [request.resume_token for request in server.asked("WatchConflicts")] == ["", "1"]


def test_a_broken_snapshot_begins_anew(client: Any, server: FakeServer) -> None:
    server.on("WatchConflicts", streaming([SNAPSHOT], grpc.StatusCode.UNAVAILABLE), streaming([SNAPSHOT, COMPLETE]))
    assert [told.kind for told in client.watch_conflicts()] == ["SNAPSHOT", "SNAPSHOT", "SNAPSHOT_COMPLETE"]
    assert [request.resume_token for request in server.asked("WatchConflicts")] == ["", ""]


def test_a_watch_resumes_where_the_caller_says(client: Any, server: FakeServer) -> None:
    server.on("WatchConflicts", UNAVAILABLE, streaming([DECIDED]))
    assert [told.resume_token for told in client.watch_conflicts("1")] == ["2"]
    assert [request.resume_token for request in server.asked("WatchConflicts")] == ["1", "1"]


def test_a_watch_that_never_gets_through_is_given_up(client: Any, server: FakeServer) -> None:
    server.on("WatchConflicts", UNAVAILABLE)
    with pytest.raises(UnavailableError):
        list(client.watch_conflicts())
    assert len(server.calls) == 3


def test_every_rpc_of_the_service_can_be_called() -> None:
    from evflex.client.activation import operations
    from evflex.client.operations import Operation

    known = {operation.name: operation for operation in vars(operations).values() if isinstance(operation, Operation)}
    service = pb.DESCRIPTOR.services_by_name["ActivationService"]
    assert service.full_name == ACTIVATION_SERVICE
    assert set(known) == {method.name for method in service.methods}
    for method in service.methods:
        operation = known[method.name]
        assert operation.request_type.DESCRIPTOR is method.input_type
        assert operation.response_type.DESCRIPTOR is method.output_type
        assert (operation.timeout_s is None) == (method.name == "WatchConflicts")


def test_the_twins_have_the_same_calls() -> None:
    import inspect

    from evflex.client.activation.aio_calls import AsyncActivationCalls
    from evflex.client.activation.sync_calls import ActivationCalls

    def calls(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(call).parameters) for name, call in found if not name.startswith("_")}

    assert calls(ActivationCalls) == calls(AsyncActivationCalls)
    assert len(calls(ActivationCalls)) == len(pb.DESCRIPTOR.services_by_name["ActivationService"].methods)
