"""Agreements: who may propose, accept, end and see them."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.capacity.v1 import agreement_pb2
from evflex.capacity.v1 import capacity_service_pb2 as api
from tests.server.capacity.support import (
    CPO,
    DSO,
    STRANGER,
    acceptance,
    agreed,
    audit_rows,
    booking_request,
    code_of,
    ending,
    error_of,
    get,
    new_id,
    proposal,
    proposed,
    rate,
    running_capacity,
    terms_in_force,
    time_at,
)
from tests.server.support import START_S, info_of, reason_of, violations_of

NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
PROPOSED = agreement_pb2.AGREEMENT_STATE_PROPOSED
ACTIVE = agreement_pb2.AGREEMENT_STATE_ACTIVE
ENDED = agreement_pb2.AGREEMENT_STATE_ENDED


@pytest.mark.parametrize(("by", "other"), [(DSO, CPO), (CPO, DSO)])
def test_either_party_proposes_and_the_other_accepts(tmp_path: Path, database_url: str, by: str, other: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        first = proposed(here, by, area_id="north")
        assert (first.state, first.version, first.proposed_by, list(first.accepted_by)) == (PROPOSED, 1, by, [by])
        assert (first.dso_party, first.cpo_party, first.tenant_id, first.area_id) == (DSO, CPO, DSO, "north")
        assert first.create_time == first.update_time
        active = here.party(other).AcceptAgreement(acceptance(first)).agreement
        assert (active.state, active.version, list(active.accepted_by)) == (ACTIVE, 1, [by, other])
        assert active.etag != first.etag
        assert active.update_time.ToNanoseconds() > active.create_time.ToNanoseconds()
        for party in (DSO, CPO):
            answer = get(here, party, first.agreement_id)
            assert answer.agreement == active
            assert [(line.action, line.party, line.version) for line in answer.events] == [
                (agreement_pb2.AGREEMENT_ACTION_PROPOSED, by, 1),
                (agreement_pb2.AGREEMENT_ACTION_ACCEPTED, other, 1),
            ]


def test_terms_come_back_exactly_as_proposed(tmp_path: Path, database_url: str) -> None:
    request = proposal(firm_kw=0.1 + 0.2, valid_from_time=time_at(0), valid_until_time=time_at(96))
    request.agreement.valid_from_time.nanos = 123_456_789
    request.agreement.notice_duration.nanos = 5
    with running_capacity(tmp_path, database_url) as here:
        answer = here.cpo.ProposeAgreement(request).agreement
    for name in (
        "hub_id", "transformer_id", "firm_kw", "conditional_kw", "priority", "notice_duration",
        "curtailment_price_per_kwh", "currency_code", "valid_from_time", "valid_until_time",
    ):  # fmt: skip
        assert getattr(answer, name) == getattr(request.agreement, name)


def test_what_the_server_sets_is_not_taken_from_the_message(tmp_path: Path) -> None:
    lie = {
        "state": ACTIVE, "version": 7, "accepted_by": [DSO, CPO], "proposed_by": DSO, "tenant_id": STRANGER,
        "etag": "mine", "create_time": time_at(9),
    }  # fmt: skip
    with running_capacity(tmp_path) as here:
        answer = proposed(here, CPO, **lie)
        stored = get(here, DSO, answer.agreement_id).agreement
    assert stored == answer
    assert (answer.state, answer.version, list(answer.accepted_by), answer.proposed_by) == (PROPOSED, 1, [CPO], CPO)
    assert (answer.tenant_id, answer.create_time.seconds) == (DSO, START_S)
    assert answer.etag != "mine"


def test_nobody_proposes_for_others(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        for by in (STRANGER, "default"):
            error = error_of(here.party(by).ProposeAgreement, proposal())
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert reason_of(error) == "NOT_A_PARTY"
        assert not audit_rows(here)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("cpo_party", {"dso_party": CPO}),
        ("cpo_party", {"cpo_party": "not a tenant"}),
        ("dso_party", {"dso_party": ""}),
        ("hub_id", {"hub_id": ""}),
        ("transformer_id", {"transformer_id": "a\x00b"}),
        ("area_id", {"area_id": "a" * 257}),
        ("firm_kw", {"firm_kw": -1.0}),
        ("firm_kw", {"firm_kw": float("nan")}),
        ("conditional_kw", {"conditional_kw": float("inf")}),
        ("curtailment_price_per_kwh", {"curtailment_price_per_kwh": -0.1}),
        ("currency_code", {"currency_code": ""}),
        ("currency_code", {"currency_code": "euro"}),
        ("notice_duration", {"notice_duration": {"seconds": -1}}),
        ("valid_until_time", {"valid_from_time": {"seconds": 10}, "valid_until_time": {"seconds": 10}}),
        ("valid_from_time", {"valid_from_time": {"seconds": 10**12}}),
    ],
)
def test_terms_that_make_no_sense_are_refused(tmp_path: Path, field: str, values: dict[str, Any]) -> None:
    with running_capacity(tmp_path) as here:
        error = error_of(here.cpo.ProposeAgreement, proposal(**values))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"agreement.{field}" in violations_of(error)


def test_a_proposal_without_agreement_is_refused(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        error = error_of(here.cpo.ProposeAgreement, api.ProposeAgreementRequest(request_id="x"))
    assert set(violations_of(error)) == {"request_id", "agreement"}


def test_a_proposer_does_not_accept_for_the_other(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        first = proposed(here, CPO)
        error = error_of(here.cpo.AcceptAgreement, acceptance(first))
        assert error.code() is FAILED_PRECONDITION
        assert reason_of(error) == "OWN_PROPOSAL"
        assert get(here, DSO, first.agreement_id).agreement == first


def test_only_the_proposed_version_is_accepted(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        first = proposed(here, CPO)
        second = proposed(here, CPO, agreement_id=first.agreement_id, firm_kw=12.0)
        assert second.version == 2
        for version in (1, 3):
            error = error_of(here.dso.AcceptAgreement, acceptance(second, version=version))
            assert error.code() is FAILED_PRECONDITION
            assert reason_of(error) == "VERSION_NOT_PROPOSED"
            assert info_of(error) == {"version": "2"}
        active = here.dso.AcceptAgreement(acceptance(second)).agreement
        assert (active.version, active.firm_kw) == (2, 12.0)
        error = error_of(here.dso.AcceptAgreement, acceptance(second))
        assert reason_of(error) == "NOTHING_PROPOSED"
        for version in (0, -1):
            error = error_of(here.dso.AcceptAgreement, acceptance(second, version=version))
            assert "version" in violations_of(error)


def test_other_terms_are_another_version_and_the_old_one_holds_until_then(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        first = agreed(here)
        second = proposed(here, DSO, agreement_id=first.agreement_id, firm_kw=5.0)
        assert (second.state, second.version, list(second.accepted_by)) == (PROPOSED, 2, [DSO])
        in_force = get(here, CPO, first.agreement_id).agreement
        assert (in_force.state, in_force.version, in_force.firm_kw) == (ACTIVE, 1, 10.0)
        assert terms_in_force(here, DSO, first).terms.firm_kw == 10.0
        third = proposed(here, CPO, agreement_id=first.agreement_id, firm_kw=7.0)
        assert third.version == 3
        active = here.dso.AcceptAgreement(acceptance(third)).agreement
        assert (active.state, active.version, active.firm_kw) == (ACTIVE, 3, 7.0)
        assert terms_in_force(here, DSO, first).terms.firm_kw == 7.0
        states = [get(here, CPO, first.agreement_id, version).agreement for version in (1, 2, 3)]
        assert [(one.state, one.firm_kw, list(one.accepted_by)) for one in states] == [
            (ENDED, 10.0, [CPO, DSO]), (ENDED, 5.0, [DSO]), (ACTIVE, 7.0, [CPO, DSO]),
        ]  # fmt: skip
        assert code_of(get, here, CPO, first.agreement_id, 4) is NOT_FOUND
        assert code_of(get, here, CPO, first.agreement_id, -1) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hub_id", "hub-2"),
        ("transformer_id", "transformer-2"),
        ("area_id", "south"),
        ("cpo_party", STRANGER),
        ("dso_party", STRANGER),
    ],
)
def test_a_version_changes_terms_only(tmp_path: Path, field: str, value: str) -> None:
    with running_capacity(tmp_path) as here:
        first = agreed(here)
        error = error_of(here.cpo.ProposeAgreement, proposal(agreement_id=first.agreement_id, **{field: value}))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert f"agreement.{field}" in violations_of(error)


def test_a_third_party_finds_nothing(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        active = agreed(here)
        pending = proposed(here, CPO, hub_id="hub-2")
        booking = here.cpo.BookCapacity(booking_request(active, [1.0])).booking
        before = audit_rows(here)
        for by in (STRANGER, "default"):
            who = here.party(by)
            as_own = proposal(agreement_id=active.agreement_id, cpo_party=by)
            for call, request in (
                (who.GetAgreement, api.GetAgreementRequest(agreement_id=active.agreement_id)),
                (who.ProposeAgreement, proposal(agreement_id=active.agreement_id)),
                (who.ProposeAgreement, as_own),
                (who.AcceptAgreement, acceptance(pending)),
                (who.EndAgreement, ending(active)),
                (who.EndAgreement, ending(active, validate_only=True)),
                (who.BookCapacity, booking_request(active, [1.0])),
                (who.ReleaseBooking, api.ReleaseBookingRequest(request_id=new_id(), booking_id=booking.booking_id)),
            ):
                assert code_of(call, request) is NOT_FOUND
            assert not who.ListAgreements(api.ListAgreementsRequest()).agreements
            assert not who.ListBookings(api.ListBookingsRequest(include_released=True)).bookings
            assert not terms_in_force(here, by, active)
        assert audit_rows(here) == before


@pytest.mark.parametrize("agreement_id", [str(uuid.UUID(int=7)), "x", "' OR 1=1 --"])
def test_an_unknown_agreement_is_not_found(tmp_path: Path, agreement_id: str) -> None:
    unknown = agreement_pb2.Agreement(agreement_id=agreement_id, version=1)
    with running_capacity(tmp_path) as here:
        assert code_of(get, here, DSO, agreement_id) is NOT_FOUND
        assert code_of(here.dso.AcceptAgreement, acceptance(unknown)) is NOT_FOUND
        assert code_of(here.dso.EndAgreement, ending(unknown)) is NOT_FOUND
        assert code_of(here.dso.ProposeAgreement, proposal(agreement_id=agreement_id)) is NOT_FOUND


@pytest.mark.parametrize("by", [DSO, CPO])
def test_either_party_ends_or_declines(tmp_path: Path, database_url: str, by: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        for agreement in (proposed(here), agreed(here)):
            ended = here.party(by).EndAgreement(ending(agreement)).agreement
            assert (ended.state, ended.version) == (ENDED, 1)
            assert get(here, CPO, agreement.agreement_id).agreement == ended
            last = get(here, DSO, agreement.agreement_id).events[-1]
            assert (last.action, last.party) == (agreement_pb2.AGREEMENT_ACTION_ENDED, by)
            for call, request in (
                (here.cpo.EndAgreement, ending(agreement)),
                (here.dso.AcceptAgreement, acceptance(agreement)),
                (here.cpo.ProposeAgreement, proposal(agreement_id=agreement.agreement_id)),
            ):
                error = error_of(call, request)
                assert (error.code(), reason_of(error)) == (FAILED_PRECONDITION, "AGREEMENT_ENDED")


def test_the_version_in_force_ends_not_the_one_that_waits(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        first = agreed(here)
        proposed(here, DSO, agreement_id=first.agreement_id, firm_kw=5.0)
        ended = here.cpo.EndAgreement(ending(first)).agreement
        assert (ended.version, ended.state, ended.firm_kw) == (1, ENDED, 10.0)
        assert get(here, DSO, first.agreement_id).events[-1].version == 1
        pending = get(here, DSO, first.agreement_id, 2).agreement
        assert (pending.state, list(pending.accepted_by)) == (ENDED, [DSO])


def test_a_hub_has_one_agreement_at_a_time(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        first = agreed(here, valid_from_time=time_at(0), valid_until_time=time_at(10))
        overlapping = proposed(here, CPO, valid_from_time=time_at(9), transformer_id="transformer-2")
        error = error_of(here.dso.AcceptAgreement, acceptance(overlapping))
        assert (error.code(), reason_of(error)) == (FAILED_PRECONDITION, "AGREEMENT_OVERLAPS")
        assert info_of(error) == {"agreement_id": first.agreement_id}
        agreed(here, valid_from_time=time_at(10), valid_until_time=time_at(12))
        agreed(here, valid_until_time=time_at(0))
        agreed(here, hub_id="hub-2")
        agreed(here, dso_party="other-dso")
        here.cpo.EndAgreement(ending(first))
        error = error_of(here.dso.AcceptAgreement, acceptance(overlapping))
        assert reason_of(error) == "AGREEMENT_OVERLAPS"


def test_an_agreement_of_others_is_not_named(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        agreed(here)
        theirs = proposed(here, DSO, cpo_party="other-cpo")
        error = error_of(here.party("other-cpo").AcceptAgreement, acceptance(theirs))
        assert reason_of(error) == "AGREEMENT_OVERLAPS"
        assert info_of(error) == {}


def test_a_new_version_does_not_overlap_with_its_own_agreement(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        first = agreed(here)
        second = proposed(here, DSO, agreement_id=first.agreement_id, firm_kw=5.0)
        assert here.cpo.AcceptAgreement(acceptance(second)).agreement.version == 2
