"""Answers of the activation service, as a server would write them."""

from __future__ import annotations

import grpc

from evflex.activation.v1 import audit_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.common.v1 import direction_pb2
from tests.client.fake_server import failing

UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "the queue is full")
START = "2026-03-04T17:00:00Z"
END = "2026-03-04T18:00:00Z"


def resource_message(resource_id: str = "car-1") -> resource_pb2.Resource:
    message = resource_pb2.Resource(
        resource_id=resource_id, kind=resource_pb2.RESOURCE_KIND_EV, parent_id="site-1", area_id="DK1",
        up_headroom_w=7400, tenant_id="agg", etag="e-1", sequence=3,
        aliases=[{"scheme": "vin", "value": "W1"}, {"scheme": "vin", "value": "W2"}, {"scheme": "emaid", "value": "D"}],
    )  # fmt: skip
    message.create_time.FromJsonString(START)
    return message


def session_message(end: str = "") -> resource_pb2.Session:
    message = resource_pb2.Session(
        session_id="s-1", ev_resource_id="car-1", charge_point_resource_id="bay-1", energy_wh=20_001,
        max_charge_w=11_000, tenant_id="cpo", area_id="DK1", etag="e-2", sequence=4,
    )  # fmt: skip
    message.start_time.FromJsonString(START)
    message.departure_time.FromJsonString("2026-03-05T06:00:00Z")
    if end:
        message.end_time.FromJsonString(end)
    return message


def commitment_message(state: str = "HELD", commitment_id: str = "c-1") -> commitment_pb2.Commitment:
    message = commitment_pb2.Commitment(
        commitment_id=commitment_id, aggregator_id="agg", product_id="LOCAL_UP", direction=direction_pb2.DIRECTION_UP,
        resource_id="car-1", power_w=7400, energy_wh=3700, state=f"COMMITMENT_STATE_{state}", sequence=5,
        tenant_id="agg", area_id="DK1", etag="e-3",
    )  # fmt: skip
    message.start_time.FromJsonString(START)
    message.end_time.FromJsonString(END)
    message.expire_time.FromJsonString("2026-03-04T12:05:00Z")
    return message


def conflict_message() -> commitment_pb2.Conflict:
    message = commitment_pb2.Conflict(
        kind=commitment_pb2.CONFLICT_KIND_CROSS_SALE, commitment_ids=["c-0"], request_indices=[0], resource_id="car-1",
        excess_w=7400, rule="a vehicle and the charge point that it is at are both sold",
        direction=direction_pb2.DIRECTION_UP,
    )  # fmt: skip
    message.start_time.FromJsonString(START)
    message.end_time.FromJsonString("2026-03-04T17:30:00.5Z")
    return message


def resolved_message(number: int = 1) -> audit_pb2.ResolvedConflict:
    return audit_pb2.ResolvedConflict(
        conflict=conflict_message(), kept_commitment_id="c-0", suspended_commitment_id=f"c-{number}",
        suspended_aggregator_id="agg", session_id="s-1",
    )  # fmt: skip


def policy_message() -> policy_pb2.ActivationPolicy:
    return policy_pb2.ActivationPolicy(
        area_id="DK1", kind=policy_pb2.ACTIVATION_POLICY_KIND_ONE_SIDE, sold_side=resource_pb2.RESOURCE_KIND_EV,
        aggregator_cap_w=5_000_000, version=2, tenant_id="dso", etag="e-4", sequence=6,
    )  # fmt: skip
