"""Commitments of both clients: held, confirmed, called, metered, paid and moved; a refusal is an answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pandas as pd
import pytest
from google.rpc import error_details_pb2

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import commitment_pb2, policy_pb2
from evflex.client import Commitment, ConflictError, InvalidRequestError
from evflex.common.v1 import direction_pb2
from tests.client.activation.messages import END, START, UNAVAILABLE, commitment_message, conflict_message
from tests.client.fake_server import FakeServer, answering, failing

SALE = Commitment(
    product_id="LOCAL_UP", direction="UP", resource_id="car-1", start_time=pd.Timestamp(START),
    end_time=pd.Timestamp(END), power_kw=7.4009, energy_kwh=3.7009,
)  # fmt: skip
POOL = replace(SALE, resource_id="", power_kw=None, allocation={"car-1": 3.3338, "car-2": 3.3338})


def test_commitments_are_held_in_whole_watts(client: Any, server: FakeServer) -> None:
    answer = pb.HoldCommitmentsResponse(granted=True, commitments=[commitment_message()])
    server.on("HoldCommitments", UNAVAILABLE, answering(answer))
    sale = replace(SALE, exclusive_group="either", counter_activation_declared=True, aggregator_id="agg")
    hold = client.hold_commitments([sale], timedelta(minutes=2))
    first, second = server.asked("HoldCommitments")
    assert first == second
    assert first.request_id
    assert first.hold_duration.seconds == 120
    (sent,) = first.commitments
    expected = commitment_pb2.Commitment(
        product_id="LOCAL_UP", direction=direction_pb2.DIRECTION_UP, resource_id="car-1", power_w=7400, energy_wh=3700,
        exclusive_group="either", counter_activation_declared=True, aggregator_id="agg",
    )  # fmt: skip
    expected.start_time.FromJsonString(START)
    expected.end_time.FromJsonString(END)
    assert sent == expected
    assert hold.granted
    assert hold.commitment_ids == ("c-1",)
    (held,) = hold.commitments
    assert (held.state, held.direction, held.power_kw, held.energy_kwh, held.sequence) == ("HELD", "UP", 7.4, 3.7, 5)
    assert held.expire_time == pd.Timestamp("2026-03-04T12:05:00Z")
    assert held.delivered_energy_kwh is None


def test_what_was_held_can_be_offered_again(client: Any, server: FakeServer) -> None:
    server.on("HoldCommitments", answering(pb.HoldCommitmentsResponse()))
    client.hold_commitments([Commitment.from_message(commitment_message())], validate_only=True)
    (request,) = server.asked("HoldCommitments")
    assert request.validate_only
    assert not request.HasField("hold_duration")
    assert request.commitments[0].power_w == 7400
    assert not request.commitments[0].commitment_id


def test_a_pool_adds_up_to_what_is_sent(client: Any, server: FakeServer) -> None:
    held = commitment_message()
    held.allocation.add(resource_id="car-2", power_w=3333).truncated_time.FromJsonString(START)
    server.on("HoldCommitments", answering(pb.HoldCommitmentsResponse(granted=True, commitments=[held])))
    hold = client.hold_commitments([POOL])
    (sent,) = server.asked("HoldCommitments")[0].commitments
    assert [(row.resource_id, row.power_w) for row in sent.allocation] == [("car-1", 3333), ("car-2", 3333)]
    # the sum of the kW would be 6667 W
    assert sent.power_w == 6666
    assert hold.commitments[0].allocation == {"car-2": 3.333}
    assert hold.commitments[0].truncated_times == {"car-2": pd.Timestamp(START)}


def test_a_refused_hold_is_an_answer_with_its_conflicts(client: Any, server: FakeServer) -> None:
    answer = pb.HoldCommitmentsResponse(conflicts=[conflict_message()])
    server.on("HoldCommitments", answering(answer))
    hold = client.hold_commitments([SALE])
    assert not hold.granted
    assert hold.commitments == ()
    (conflict,) = hold.conflicts
    assert (conflict.kind, conflict.resource_id, conflict.excess_kw) == ("CROSS_SALE", "car-1", 7.4)
    assert (conflict.commitment_ids, conflict.request_indices) == (("c-0",), (0,))
    assert str(conflict) == (
        "CROSS_SALE at car-1, 2026-03-04T17:00:00Z to 2026-03-04T17:30:00.500000Z, 7.4 kW UP, row 0, "
        "commitment c-0: a vehicle and the charge point that it is at are both sold"
    )


def test_a_conflict_in_an_area_tells_the_area(client: Any, server: FakeServer) -> None:
    cap = commitment_pb2.Conflict(
        kind=commitment_pb2.CONFLICT_KIND_AGGREGATOR_CAP, area_id="DK1", excess_w=10, rule="too much"
    )
    energy = commitment_pb2.Conflict(
        kind=commitment_pb2.CONFLICT_KIND_ENERGY_EXCEEDED,
        resource_id="car-1",
        excess_wh=2500,
        rule="too little",
        request_indices=[0, 3],
        commitment_ids=["a", "b"],
    )
    server.on("HoldCommitments", answering(pb.HoldCommitmentsResponse(conflicts=[cap, energy])))
    conflicts = client.hold_commitments([SALE]).conflicts
    assert list(map(str, conflicts)) == [
        "AGGREGATOR_CAP in DK1, 0.01 kW: too much",
        "ENERGY_EXCEEDED at car-1, 2.5 kWh short, rows 0, 3, commitments a, b: too little",
    ]


@pytest.mark.parametrize(
    ("sale", "problem"),
    [
        (
            replace(SALE, direction="UPWARD"),
            r"commitments\[1\]\.direction: unknown direction 'UPWARD'; known are UP, DOWN",
        ),
        (
            replace(SALE, start_time=pd.Timestamp("2026-03-04")),
            r"commitments\[1\]\.start_time: .* must have a time zone",
        ),
        (
            replace(SALE, end_time=pd.Timestamp("2026-03-04T18:00:00.0001Z")),
            r"commitments\[1\]\.end_time: must be a whole millisecond",
        ),
        (replace(SALE, power_kw=None), r"commitments\[1\]\.power_kw: must be given where there is no allocation"),
        (replace(SALE, power_kw=float("nan")), r"commitments\[1\]\.power_kw: must be a finite number, is nan"),
        (
            replace(POOL, allocation={"car-1": float("inf")}),
            r"commitments\[1\]\.allocation\[car-1\]: must be a finite number, is inf",
        ),
    ],
)
def test_a_commitment_that_cannot_be_written_is_not_sent(
    client: Any, server: FakeServer, sale: Commitment, problem: str
) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        client.hold_commitments([SALE, sale])
    assert server.calls == []


def test_everything_wrong_is_told_at_once(client: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.hold_commitments([replace(SALE, direction="X", power_kw=float("nan")), replace(SALE, direction="Y")])
    assert [violation.field for violation in caught.value.violations] == [
        "commitments[0].power_kw", "commitments[0].direction", "commitments[1].direction",
    ]  # fmt: skip


CHANGED: dict[str, Any] = {"commitments": [commitment_message("CONFIRMED")]}
REFUSED: dict[str, Any] = {"conflicts": [conflict_message()]}


@pytest.mark.parametrize(
    ("method", "rpc", "flag"),
    [
        ("confirm_commitments", "ConfirmCommitments", "confirmed"),
        ("activate_commitments", "ActivateCommitments", "activated"),
    ],
)
def test_commitments_are_confirmed_and_activated(
    client: Any, server: FakeServer, method: str, rpc: str, flag: str
) -> None:
    kind = getattr(pb, f"{rpc}Response")
    server.on(rpc, UNAVAILABLE, answering(kind(**CHANGED, **{flag: True})), answering(kind(**REFUSED)))
    done = getattr(client, method)(("c-1",))
    assert (done.done, done.commitments[0].state, done.conflicts) == (True, "CONFIRMED", ())
    refused = getattr(client, method)(["c-1"], validate_only=True)
    assert (refused.done, refused.commitments) == (False, ())
    assert refused.conflicts[0].kind == "CROSS_SALE"
    first, second, third = server.asked(rpc)
    assert first == second
    assert (list(first.commitment_ids), first.validate_only, third.validate_only) == (["c-1"], False, True)
    assert first.request_id != third.request_id


def test_a_hold_that_has_expired_is_an_error_with_its_cause(client: Any, server: FakeServer) -> None:
    cause = error_details_pb2.ErrorInfo(reason="HOLD_EXPIRED", metadata={"commitment_id": "c-1"})
    server.on("ConfirmCommitments", failing(grpc.StatusCode.FAILED_PRECONDITION, "hold c-1 has expired", cause))
    with pytest.raises(ConflictError, match="hold c-1 has expired") as caught:
        client.confirm_commitments(["c-1"])
    assert (caught.value.reason, caught.value.facts["commitment_id"]) == ("HOLD_EXPIRED", "c-1")
    assert len(server.calls) == 1


def test_what_was_metered_is_told_settled_and_released(client: Any, server: FakeServer) -> None:
    delivered = commitment_message("DELIVERED")
    delivered.delivered_energy_wh = 3500
    settled = commitment_message("SETTLED")
    settled.settlement_id = "2026-03"
    server.on("CompleteCommitments", UNAVAILABLE, answering(pb.CompleteCommitmentsResponse(commitments=[delivered])))
    server.on("SettleCommitments", UNAVAILABLE, answering(pb.SettleCommitmentsResponse(commitments=[settled])))
    released = pb.ReleaseCommitmentsResponse(commitments=[commitment_message("RELEASED")])
    server.on("ReleaseCommitments", UNAVAILABLE, answering(released))
    (complete,) = client.complete_commitments({"c-1": 3.5009, "c-2": 0.0})
    assert (complete.state, complete.delivered_energy_kwh) == ("DELIVERED", 3.5)
    (paid,) = client.settle_commitments(["c-1"], "2026-03")
    assert (paid.state, paid.settlement_id) == ("SETTLED", "2026-03")
    (given_back,) = client.release_commitments(["c-1"])
    assert given_back.state == "RELEASED"
    for rpc in ("CompleteCommitments", "SettleCommitments", "ReleaseCommitments"):
        first, second = server.asked(rpc)
        assert first == second
        assert first.request_id
    deliveries = server.asked("CompleteCommitments")[0].deliveries
    assert [(row.commitment_id, row.delivered_energy_wh) for row in deliveries] == [("c-1", 3500), ("c-2", 0)]
    assert server.asked("SettleCommitments")[0].settlement_id == "2026-03"
    with pytest.raises(InvalidRequestError, match=r"deliveries\[c-1\]: must be a finite number"):
        client.complete_commitments({"c-1": float("nan")})


def test_a_pool_is_given_other_resources(client: Any, server: FakeServer) -> None:
    server.on(
        "ReallocateCommitment",
        UNAVAILABLE,
        answering(pb.ReallocateCommitmentResponse(reallocated=True, commitment=commitment_message("CONFIRMED"))),
        answering(pb.ReallocateCommitmentResponse(**REFUSED)),
    )
    done = client.reallocate_commitment("c-1", {"car-2": 4.4, "car-3": 3.0}, etag="e-3")
    assert (done.done, [row.commitment_id for row in done.commitments]) == (True, ["c-1"])
    refused = client.reallocate_commitment("c-1", {"car-2": 7.4})
    assert (refused.done, refused.commitments, len(refused.conflicts)) == (False, (), 1)
    first, second, _ = server.asked("ReallocateCommitment")
    assert first == second
    assert [(row.resource_id, row.power_w) for row in first.allocation] == [("car-2", 4400), ("car-3", 3000)]
    assert (first.commitment_id, first.etag) == ("c-1", "e-3")


def test_commitments_are_fetched_and_listed(client: Any, server: FakeServer) -> None:
    server.on("GetCommitment", answering(pb.GetCommitmentResponse(commitment=commitment_message())))
    server.on(
        "ListCommitments",
        answering(pb.ListCommitmentsResponse(commitments=[commitment_message()], next_page_token="more")),
        answering(pb.ListCommitmentsResponse(commitments=[commitment_message(commitment_id="c-0")])),
    )
    assert client.get_commitment("c-1").product_id == "LOCAL_UP"
    since = pd.Timestamp("2026-03-04T17:00:00.0000001Z")
    found = list(client.list_commitments("LOCAL_UP", state="HELD", from_time=since))
    assert [commitment.commitment_id for commitment in found] == ["c-1", "c-0"]
    asked = server.asked("ListCommitments")[0]
    assert (asked.product_id, asked.state) == ("LOCAL_UP", commitment_pb2.COMMITMENT_STATE_HELD)
    assert asked.from_time.ToNanoseconds() == since.value
    with pytest.raises(InvalidRequestError, match="unknown commitment state 'SOLD'; known are HELD, CONFIRMED"):
        list(client.list_commitments(state="SOLD"))
    with pytest.raises(InvalidRequestError, match="from_time must have a time zone"):
        list(client.list_commitments(from_time=pd.Timestamp("2026-03-04")))


def test_a_commitment_tells_the_policies_that_it_keeps() -> None:
    one = commitment_message()
    one.policy_kind = policy_pb2.ACTIVATION_POLICY_KIND_ONE_SIDE
    assert Commitment.from_message(one).policies == {"car-1": "ONE_SIDE"}
    pool = commitment_message()
    pool.resource_id = ""
    pool.allocation.add(resource_id="a", power_w=7000, policy_kind=policy_pb2.ACTIVATION_POLICY_KIND_SESSION)
    pool.allocation.add(resource_id="b", power_w=400)
    assert Commitment.from_message(pool).policies == {"a": "SESSION"}
