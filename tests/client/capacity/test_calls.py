"""Calls of both clients: answers as pandas objects, repeated where that helps."""

from __future__ import annotations

from typing import Any

import grpc
import pandas as pd
import pytest
from google.rpc import error_details_pb2

from evflex.capacity.v1 import agreement_pb2, allocation_pb2
from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client import (
    AgreementTerms,
    ConflictError,
    ForecastLoading,
    Hub,
    InvalidRequestError,
    NotFoundError,
    NotPermittedError,
    ScheduleRequest,
    SupplyNode,
    TimeGrid,
    Transformer,
)
from evflex.client.capacity.operations import CAPACITY_SERVICE
from tests.client.capacity.messages import agreement_message, allocation_message, booking_message, grid_message
from tests.client.fake_server import FakeServer, answering, failing

UNAVAILABLE = failing(grpc.StatusCode.UNAVAILABLE, "the queue is full")
INDEX = pd.date_range("2026-01-14 17:00", periods=2, freq="15min", tz="UTC")
BASE_KW = pd.Series([300.0, 320.0], index=INDEX)
TRANSFORMER = Transformer("t-1", 630.0)
HUBS = [Hub("homes", 160.0, demand_kw=60.0), Hub("road", 300.0, demand_kw=50.0)]


def allocate(client: Any, server: FakeServer) -> Any:
    server.on("AllocateCapacity", answering(pb.AllocateCapacityResponse(allocation=allocation_message())))
    return client.allocate_capacity(TRANSFORMER, ForecastLoading(BASE_KW), HUBS)


def test_a_rating_comes_as_a_table(client: Any, server: FakeServer) -> None:
    rating = pb.TransformerRating(
        transformer_id="t-1", rating_id="r-1", time_grid=grid_message(), loading_ratio=[0.5, 0.6],
        top_oil_c=[40.0, 41.0], hot_spot_c=[50.0, 52.0], loss_of_life_h=[0.001, 0.002], headroom_n_kva=[400.0, 390.0],
        headroom_n1_kva=[100.0, 90.0],
    )  # fmt: skip
    rating.limit_violations.add(step=1, reason=allocation_pb2.BINDING_REASON_TOP_OIL, limit=105.0, excess=2.0)
    rating.final_state.top_oil_c = 41.0
    server.on("RateTransformer", UNAVAILABLE, answering(pb.RateTransformerResponse(rating=rating)))
    answer = client.rate_transformer(TRANSFORMER, ForecastLoading(BASE_KW), store=True, area_id="DK2")
    assert (answer.transformer_id, answer.rating_id) == ("t-1", "r-1")
    assert list(answer.steps.index) == list(INDEX)
    assert answer.steps["headroom_n1_kva"].tolist() == [100.0, 90.0]
    assert answer.steps.loc[INDEX[1], "hot_spot_c"] == 52.0
    assert answer.final_state.top_oil_c == 41.0
    (row,) = answer.limit_violations.to_dict("records")
    assert (row["time"], row["reason"], row["limit"], row["excess"]) == (INDEX[1], "TOP_OIL", 105.0, 2.0)
    first, second = server.asked("RateTransformer")
    assert first == second
    assert (first.store, first.area_id) == (True, "DK2")


def test_an_allocation_comes_as_tables(client: Any, server: FakeServer) -> None:
    allocation = allocate(client, server)
    assert (allocation.allocation_id, allocation.policy, allocation.fairness_index) == ("a-1", "MAX_MIN", 0.9)
    assert list(allocation.capacity_kw.columns) == ["homes", "road"]
    assert list(allocation.capacity_kw.index) == list(INDEX)
    assert allocation.capacity_kw["homes"].tolist() == [30.0, 20.0]
    assert allocation.power_kw["road"].tolist() == [50.0, 0.0]
    assert allocation.current_a["homes", "L3"].tolist() == [43.0, 29.0]
    assert allocation.evs_served["homes"].tolist() == [4, 3]
    assert list(allocation.session_power_kw.columns) == [("road", "car-1")]
    assert allocation.session_power_kw["road", "car-1"].tolist() == [50.0, 0.0]
    assert allocation.hubs.loc["homes", "curtailed_kwh"] == 3.75
    assert allocation.hubs.loc["homes", "compensation"] == 0.75
    assert allocation.transformer["hot_spot_c"].tolist() == [70.0, 75.0]
    assert allocation.transformer.loc[INDEX[0], "headroom_n_kva"] == 60.0
    assert allocation.final_state.hot_spot_c == 75.0
    assert allocation.binding.to_dict("records") == [
        {"time": INDEX[1], "hub_id": "homes", "step": 1, "reason": "CONTINGENCY"}
    ]
    (broken,) = allocation.limit_violations.to_dict("records")
    assert (broken["reason"], broken["phase"], broken["hub_id"]) == ("LOADING_RATIO", "L2", "")
    assert allocation.create_time == INDEX[0]


def test_an_allocation_limits_a_schedule(client: Any, server: FakeServer, sessions: pd.DataFrame) -> None:
    allocation = allocate(client, server)
    node = SupplyNode("hub", max_import_kw=allocation.supply_limit("homes"))
    prices = pd.Series([0.3, 0.2], index=allocation.time_grid.index)
    message = ScheduleRequest("homes", sessions, prices, [node], time_grid=allocation.time_grid).to_message()
    assert list(message.nodes[0].max_import_kw) == [30.0, 20.0]
    assert message.time_grid == grid_message()
    with pytest.raises(KeyError, match="no hub 'home'; it has homes, road"):
        allocation.supply_limit("home")


def test_a_supply_limit_is_the_callers_own(client: Any, server: FakeServer) -> None:
    allocation = allocate(client, server)
    allocation.supply_limit("homes")[:] = 0.0
    assert allocation.capacity_kw["homes"].tolist() == [30.0, 20.0]


def test_a_request_that_is_only_checked_has_an_empty_answer(client: Any, server: FakeServer) -> None:
    server.on("AllocateCapacity", answering(pb.AllocateCapacityResponse()))
    server.on("RateTransformer", answering(pb.RateTransformerResponse()))
    allocation = client.allocate_capacity(TRANSFORMER, ForecastLoading(BASE_KW), HUBS, validate_only=True)
    assert allocation.capacity_kw.empty
    assert allocation.session_power_kw.empty
    assert allocation.binding.empty
    rating = client.rate_transformer(TRANSFORMER, ForecastLoading(BASE_KW), validate_only=True)
    assert rating.steps.empty
    assert server.asked("AllocateCapacity")[0].validate_only


def test_a_hub_that_cannot_be_written_is_not_sent(client: Any, server: FakeServer) -> None:
    with pytest.raises(InvalidRequestError, match=r"hubs\[0\]\.phases"):
        client.allocate_capacity(TRANSFORMER, ForecastLoading(BASE_KW), [Hub("h", 1.0, phases="L4")])
    assert server.calls == []


def test_allocations_are_fetched_listed_and_deleted(client: Any, server: FakeServer) -> None:
    listed = allocation_pb2.Allocation(allocation_id="a-2", transformer_id="t-1", time_grid=grid_message())
    server.on("GetAllocation", answering(pb.GetAllocationResponse(allocation=allocation_message())))
    server.on(
        "ListAllocations",
        answering(pb.ListAllocationsResponse(allocations=[listed], next_page_token="more")),
        UNAVAILABLE,
        answering(pb.ListAllocationsResponse(allocations=[allocation_message("a-1")])),
    )
    server.on("DeleteAllocation", UNAVAILABLE, answering(pb.DeleteAllocationResponse()))
    assert client.get_allocation("a-1", hub_ids=["homes"]).hubs.loc["homes", "served_kwh"] == 11.25
    assert list(server.asked("GetAllocation")[0].hub_ids) == ["homes"]
    found = list(client.list_allocations("t-1", page_size=1))
    assert [allocation.allocation_id for allocation in found] == ["a-2", "a-1"]
    assert found[0].transformer.empty
    assert [request.page_token for request in server.asked("ListAllocations")] == ["", "more", "more"]
    client.delete_allocation("a-1", etag="e-1")
    first, second = server.asked("DeleteAllocation")
    assert first == second
    assert (first.allocation_id, first.etag) == ("a-1", "e-1")


def test_an_agreement_is_proposed_accepted_and_ended(client: Any, server: FakeServer) -> None:
    server.on("ProposeAgreement", UNAVAILABLE, answering(pb.ProposeAgreementResponse(agreement=agreement_message())))
    server.on("AcceptAgreement", answering(pb.AcceptAgreementResponse(agreement=agreement_message("ACTIVE"))))
    server.on("EndAgreement", answering(pb.EndAgreementResponse(agreement=agreement_message("ENDED"))))
    terms = AgreementTerms(firm_kw=40.0, conditional_kw=120.0, priority=2, currency_code="DKK")
    agreement = client.propose_agreement(
        "homes", terms, transformer_id="t-1", dso_party="dso", cpo_party="cpo", area_id="DK2"
    )
    assert (agreement.state, agreement.version, agreement.accepted_by) == ("PROPOSED", 1, ("dso",))
    assert (agreement.terms.firm_kw, agreement.terms.conditional_kw, agreement.terms.currency_code) == (40, 120, "DKK")
    assert agreement.terms.notice == pd.Timedelta(minutes=30)
    assert agreement.terms.valid_from_time == INDEX[0]
    assert agreement.terms.valid_until_time is None
    first, second = server.asked("ProposeAgreement")
    assert first == second
    sent = first.agreement
    assert (sent.hub_id, sent.transformer_id, sent.dso_party, sent.cpo_party) == ("homes", "t-1", "dso", "cpo")
    assert (sent.area_id, sent.priority) == ("DK2", 2)
    assert client.accept_agreement("g-1", agreement.version).state == "ACTIVE"
    assert server.asked("AcceptAgreement")[0].version == 1
    assert client.end_agreement("g-1", etag="e-1").state == "ENDED"
    assert server.asked("EndAgreement")[0].etag == "e-1"


def test_other_terms_are_another_version_of_the_same_agreement(client: Any, server: FakeServer) -> None:
    server.on("ProposeAgreement", answering(pb.ProposeAgreementResponse(agreement=agreement_message(version=2))))
    agreement = client.propose_agreement(
        "homes", AgreementTerms(firm_kw=50.0), transformer_id="t-1", dso_party="dso", cpo_party="cpo",
        agreement_id="g-1", etag="e-1",
    )  # fmt: skip
    assert agreement.version == 2
    assert server.asked("ProposeAgreement")[0].agreement.etag == "e-1"
    assert server.asked("ProposeAgreement")[0].agreement.agreement_id == "g-1"


def test_an_agreement_is_fetched_with_its_audit_and_listed(client: Any, server: FakeServer) -> None:
    answer = pb.GetAgreementResponse(agreement=agreement_message("ACTIVE"))
    for action, party in ((agreement_pb2.AGREEMENT_ACTION_PROPOSED, "dso"), (2, "cpo")):
        event = answer.events.add(action=action, party=party, version=1, request_id="r")
        event.event_time.FromJsonString("2026-01-14T17:00:00Z")
    server.on("GetAgreement", answering(answer))
    server.on("ListAgreements", answering(pb.ListAgreementsResponse(agreements=[agreement_message()])))
    agreement = client.get_agreement("g-1", version=1)
    assert [(event.action, event.party) for event in agreement.events] == [("PROPOSED", "dso"), ("ACCEPTED", "cpo")]
    assert agreement.events[0].event_time == INDEX[0]
    assert server.asked("GetAgreement")[0].version == 1
    (listed,) = client.list_agreements("homes", transformer_id="t-1", state="PROPOSED")
    assert (listed.agreement_id, listed.events) == ("g-1", ())
    asked = server.asked("ListAgreements")[0]
    assert asked.state == agreement_pb2.AGREEMENT_STATE_PROPOSED
    assert (asked.hub_id, asked.transformer_id) == ("homes", "t-1")
    with pytest.raises(InvalidRequestError, match="unknown agreement state 'LIVE'; known are PROPOSED"):
        list(client.list_agreements(state="LIVE"))


def test_capacity_is_booked_released_and_listed(client: Any, server: FakeServer) -> None:
    server.on("BookCapacity", answering(pb.BookCapacityResponse(booking=booking_message())))
    server.on("ReleaseBooking", answering(pb.ReleaseBookingResponse(booking=booking_message(released=True))))
    server.on("ListBookings", answering(pb.ListBookingsResponse(bookings=[booking_message()])))
    booking = client.book_capacity("homes", "g-1", firm_kw=pd.Series([30.0, 40.0], index=INDEX))
    assert booking.firm_kw.tolist() == [30.0, 40.0]
    assert list(booking.firm_kw.index) == list(INDEX)
    assert booking.conditional_kw.empty
    client.book_capacity("homes", "g-1", conditional_kw=20.0, time_grid=TimeGrid.from_index(INDEX))
    first, second = server.asked("BookCapacity")
    assert (list(first.firm_kw), list(first.conditional_kw)) == ([30.0, 40.0], [])
    assert (list(second.firm_kw), list(second.conditional_kw)) == ([], [20.0, 20.0])
    assert client.release_booking("b-1", etag="e-2").released
    assert [found.booking_id for found in client.list_bookings("homes", include_released=True)] == ["b-1"]
    assert server.asked("ListBookings")[0].include_released
    with pytest.raises(InvalidRequestError, match="give time_grid"):
        client.book_capacity("homes", "g-1", firm_kw=20.0)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, ConflictError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.PERMISSION_DENIED, NotPermittedError),
    ],
)
def test_a_refusal_is_not_repeated(
    client: Any, server: FakeServer, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    server.on("BookCapacity", failing(code, "3.5 kW are left"))
    with pytest.raises(kind, match=r"3\.5 kW are left"):
        client.book_capacity("homes", "g-1", firm_kw=pd.Series([30.0, 40.0], index=INDEX))
    assert len(server.calls) == 1


def test_a_booking_that_does_not_fit_tells_what_is_left(client: Any, server: FakeServer) -> None:
    cause = error_details_pb2.ErrorInfo(reason="CAPACITY_TAKEN", metadata={"left_kw": "3.5", "first_step": "1"})
    server.on("BookCapacity", failing(grpc.StatusCode.FAILED_PRECONDITION, "3.5 kW are left", cause))
    with pytest.raises(ConflictError) as caught:
        client.book_capacity("homes", "g-1", firm_kw=pd.Series([30.0, 40.0], index=INDEX))
    assert caught.value.reason == "CAPACITY_TAKEN"
    assert caught.value.facts["left_kw"] == "3.5"


def test_the_caller_is_told_to_the_server(server: FakeServer) -> None:
    from evflex.client import EvflexClient

    server.on("ListBookings", answering(pb.ListBookingsResponse()))
    with EvflexClient(server.address, metadata={"evflex-tenant": "dso"}) as client:
        assert list(client.list_bookings()) == []
    assert server.calls[0][2]["evflex-tenant"] == "dso"


def test_every_rpc_of_the_service_can_be_called() -> None:
    from evflex.client.capacity import operations
    from evflex.client.operations import Operation

    known = {operation.name: operation for operation in vars(operations).values() if isinstance(operation, Operation)}
    service = pb.DESCRIPTOR.services_by_name["CapacityService"]
    assert service.full_name == CAPACITY_SERVICE
    assert set(known) == {method.name for method in service.methods}
    for method in service.methods:
        operation = known[method.name]
        assert operation.request_type.DESCRIPTOR is method.input_type
        assert operation.response_type.DESCRIPTOR is method.output_type
        assert (operation.timeout_s is None) == method.server_streaming
