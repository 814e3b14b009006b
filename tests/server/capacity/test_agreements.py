"""Agreements: who may propose, accept, end and see them, and an audit that is only ever added to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from evflex.capacity.v1 import agreement_pb2
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.engine.timegrid import TimeGrid
from evflex.server.caller import Caller, CallerResolver
from evflex.server.errors import ServiceError
from evflex.server.store.tables import agreement_events, agreement_versions
from tests.server.capacity.support import (
    CPO,
    DSO,
    HUB,
    STEP_S,
    STRANGER,
    TRANSFORMER,
    RunningCapacity,
    acceptance,
    agreed,
    booking_request,
    code_of,
    ending,
    error_of,
    new_id,
    proposal,
    proposed,
    rate,
    running_capacity,
    time_at,
)
from tests.server.support import START_S, info_of, reason_of, violations_of

NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
PROPOSED = agreement_pb2.AGREEMENT_STATE_PROPOSED
ACTIVE = agreement_pb2.AGREEMENT_STATE_ACTIVE
ENDED = agreement_pb2.AGREEMENT_STATE_ENDED


def get(here: RunningCapacity, by: str, agreement_id: str, version: int = 0) -> Any:
    return here.party(by).GetAgreement(api.GetAgreementRequest(agreement_id=agreement_id, version=version))


def audit_rows(here: RunningCapacity) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Every row of terms and audit by its key, bit by bit."""
    rows: dict[tuple[object, ...], tuple[object, ...]] = {}
    with here.database.reading() as connection:
        for table in (agreement_versions, agreement_events):
            for row in connection.execute(sa.select(table)):
                rows[(table.name, *(row._mapping[column] for column in table.primary_key))] = tuple(row)
    return rows


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
        assert here.agreements.active_terms(Caller(DSO), first.agreement_id).terms.firm_kw == 10.0
        third = proposed(here, CPO, agreement_id=first.agreement_id, firm_kw=7.0)
        assert third.version == 3
        active = here.dso.AcceptAgreement(acceptance(third)).agreement
        assert (active.state, active.version, active.firm_kw) == (ACTIVE, 3, 7.0)
        assert here.agreements.active_terms(Caller(DSO), first.agreement_id).terms.firm_kw == 7.0
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
            with pytest.raises(ServiceError):
                here.agreements.active_terms(Caller(by), active.agreement_id)
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


def test_the_same_request_gets_the_same_answer(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        steps: list[tuple[Any, Any, Any]] = []
        first_request = proposal()
        first = here.cpo.ProposeAgreement(first_request)
        steps.append((here.cpo.ProposeAgreement, first_request, first))
        accept = acceptance(first.agreement)
        steps.append((here.dso.AcceptAgreement, accept, here.dso.AcceptAgreement(accept)))
        end = ending(first.agreement)
        steps.append((here.cpo.EndAgreement, end, here.cpo.EndAgreement(end)))
        before = audit_rows(here)
        for call, request, answer in steps:
            assert call(request) == answer
        assert audit_rows(here) == before
        first_request.agreement.firm_kw = 11.0
        accept.version = 2
        end.etag = "other"
        for call, request, _ in steps:
            error = error_of(call, request)
            assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert len(here.cpo.ListAgreements(api.ListAgreementsRequest()).agreements) == 1


def test_a_request_id_belongs_to_its_party(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        request = proposal()
        mine = here.cpo.ProposeAgreement(request).agreement
        theirs = here.dso.ProposeAgreement(request).agreement
    assert mine.agreement_id != theirs.agreement_id


def test_another_etag_changes_nothing(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        first = proposed(here)
        active = here.dso.AcceptAgreement(acceptance(first)).agreement
        for call, request in (
            (here.cpo.EndAgreement, ending(active, etag=first.etag)),
            (here.cpo.ProposeAgreement, proposal(agreement_id=first.agreement_id, etag=first.etag)),
        ):
            error = error_of(call, request)
            assert error.code() is grpc.StatusCode.ABORTED
            assert info_of(error) == {"etag": active.etag}
        newer = proposed(here, agreement_id=first.agreement_id, etag=active.etag)
        assert here.cpo.EndAgreement(ending(active, etag=newer.etag)).agreement.state == ENDED


def test_only_checking_changes_nothing_and_refuses_alike(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        first = proposed(here)
        before = audit_rows(here), get(here, DSO, first.agreement_id)
        check = {"validate_only": True, "request_id": ""}
        only = api.ProposeAgreementRequest(agreement=proposal().agreement, validate_only=True)
        assert not here.cpo.ProposeAgreement(only).HasField("agreement")
        assert not here.dso.AcceptAgreement(acceptance(first, **check)).HasField("agreement")
        assert not here.dso.EndAgreement(ending(first, **check)).HasField("agreement")
        assert reason_of(error_of(here.cpo.AcceptAgreement, acceptance(first, **check))) == "OWN_PROPOSAL"
        assert reason_of(error_of(here.stranger.ProposeAgreement, only)) == "NOT_A_PARTY"
        assert (audit_rows(here), get(here, DSO, first.agreement_id)) == before
        assert len(here.dso.ListAgreements(api.ListAgreementsRequest()).agreements) == 1


def test_lists_come_in_pages_newest_first_to_the_parties(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        made = [proposed(here, hub_id=f"hub-{i}", transformer_id=f"t-{i % 2}") for i in range(7)]
        foreign = proposed(here, DSO, cpo_party="other-cpo")
        here.dso.AcceptAgreement(acceptance(made[2]))
        here.dso.EndAgreement(ending(made[3]))
        seen, token, pages = [], "", 0
        while pages == 0 or token:
            answer = here.cpo.ListAgreements(api.ListAgreementsRequest(page_size=3, page_token=token))
            seen += answer.agreements
            token, pages = answer.next_page_token, pages + 1
        assert pages == 3
        assert [one.agreement_id for one in seen] == [one.agreement_id for one in reversed(made)]
        assert seen[0] == get(here, CPO, made[-1].agreement_id).agreement
        assert here.dso.ListAgreements(api.ListAgreementsRequest(page_size=1)).agreements[0] == foreign

        def listed(**fields: Any) -> list[str]:
            answer = here.cpo.ListAgreements(api.ListAgreementsRequest(**fields))
            return [one.hub_id for one in answer.agreements]

        assert listed(hub_id="hub-4") == ["hub-4"]
        assert listed(transformer_id="t-1") == ["hub-5", "hub-3", "hub-1"]
        assert listed(state=ACTIVE) == ["hub-2"]
        assert listed(state=ENDED) == ["hub-3"]
        assert listed(state=PROPOSED, transformer_id="t-0") == ["hub-6", "hub-4", "hub-0"]
        token = here.cpo.ListAgreements(api.ListAgreementsRequest(page_size=1)).next_page_token
        for request in (
            api.ListAgreementsRequest(page_token=token, hub_id="hub-4"),
            api.ListAgreementsRequest(page_token="x"),
            api.ListAgreementsRequest(page_size=1001),
            api.ListAgreementsRequest(state=9),  # type: ignore[arg-type]
        ):
            assert code_of(here.cpo.ListAgreements, request) is grpc.StatusCode.INVALID_ARGUMENT


def test_all_is_there_after_a_restart(tmp_path: Path, database_url: str) -> None:
    request = proposal(area_id="north")
    with running_capacity(tmp_path, database_url) as here:
        first = here.cpo.ProposeAgreement(request)
        active = here.dso.AcceptAgreement(acceptance(first.agreement)).agreement
        proposed(here, DSO, agreement_id=active.agreement_id, firm_kw=1.0, area_id="north")
        before = audit_rows(here), get(here, CPO, active.agreement_id)
    with running_capacity(tmp_path, database_url) as here:
        assert (audit_rows(here), get(here, CPO, active.agreement_id)) == before
        assert here.cpo.ProposeAgreement(request) == first
        assert here.agreements.active_terms(Caller(DSO), active.agreement_id).version == 1
        assert get(here, CPO, active.agreement_id, 2).agreement.firm_kw == 1.0


def test_no_call_rewrites_what_was_written(tmp_path: Path, database_url: str) -> None:
    with running_capacity(tmp_path, database_url) as here:
        rate(here, [50.0] * 8, [50.0] * 8)
        first = proposed(here)
        calls: list[tuple[str, str, Any]] = [
            (CPO, "ProposeAgreement", proposal(agreement_id=first.agreement_id, firm_kw=11.0)),
            (DSO, "AcceptAgreement", acceptance(first, version=2)),
            (DSO, "ProposeAgreement", proposal(agreement_id=first.agreement_id, firm_kw=12.0)),
            (CPO, "BookCapacity", booking_request(first, [1.0, 2.0])),
            (DSO, "BookCapacity", booking_request(first, (), [1.0, 2.0])),
            (CPO, "AcceptAgreement", acceptance(first, version=3)),
            (CPO, "ProposeAgreement", proposal(hub_id="hub-2")),
            (CPO, "AcceptAgreement", acceptance(first, version=3)),  # refused
            (STRANGER, "EndAgreement", ending(first)),  # refused
            (CPO, "GetAgreement", api.GetAgreementRequest(agreement_id=first.agreement_id)),
            (CPO, "ListAgreements", api.ListAgreementsRequest()),
            (CPO, "ListBookings", api.ListBookingsRequest()),
            (CPO, "ProposeAgreement", proposal(agreement_id=first.agreement_id, firm_kw=13.0)),
            (DSO, "EndAgreement", ending(first)),
            (DSO, "EndAgreement", ending(first)),  # refused
        ]
        history = [audit_rows(here)]
        for by, name, request in calls:
            try:
                answer = getattr(here.party(by), name)(request)
            except grpc.RpcError:
                answer = None
            if name == "BookCapacity":
                release = api.ReleaseBookingRequest(request_id=new_id(), booking_id=answer.booking.booking_id)
                here.cpo.ReleaseBooking(release)
            history.append(audit_rows(here))
        for before, after in pairwise(history):
            assert before.items() <= after.items()
        lines = get(here, DSO, first.agreement_id).events
        assert [(line.party, line.version) for line in lines] == [
            (CPO, 1), (CPO, 2), (DSO, 2), (DSO, 3), (CPO, 3), (CPO, 4), (DSO, 3),
        ]  # fmt: skip
        assert lines[0].event_time.ToNanoseconds() < lines[-1].event_time.ToNanoseconds()
        assert lines[-1].request_id == calls[-2][2].request_id


def test_terms_in_force_are_for_the_system_operator(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        waiting = proposed(here, hub_id="hub-2")
        active = agreed(here, valid_from_time=time_at(1), valid_until_time=time_at(3))
        found = here.agreements.active_terms(Caller(DSO), active.agreement_id)
        assert (found.hub_id, found.transformer_id, found.version) == (HUB, TRANSFORMER, 1)
        assert (found.terms.priority, found.terms.notice_s, found.terms.currency_code) == (3, 900.0, "EUR")
        grid = TimeGrid(float(START_S), float(STEP_S), 4)
        assert found.terms.firm_kw_on(grid).tolist() == [0.0, 10.0, 10.0, 0.0]
        assert found.terms.conditional_kw_on(grid).tolist() == [0.0, 20.0, 20.0, 0.0]
        halves = TimeGrid(START_S + STEP_S / 2, float(STEP_S), 4)
        assert found.terms.firm_kw_on(halves).tolist() == [0.0, 10.0, 0.0, 0.0]
        for instant, valid in ((0.99, False), (1, True), (2.99, True), (3, False)):
            assert found.terms.is_valid_at(START_S + instant * STEP_S) is valid
        for tenant_id in (CPO, STRANGER):
            with pytest.raises(ServiceError, match="no agreement"):
                here.agreements.active_terms(Caller(tenant_id), active.agreement_id)
        with pytest.raises(ServiceError) as caught:
            here.agreements.active_terms(Caller(DSO), waiting.agreement_id)
        assert caught.value.reason == "AGREEMENT_NOT_ACTIVE"


def test_hubs_are_visible_to_their_owner_and_to_parties_of_active_agreements(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        active = agreed(here, area_id="north")
        proposed(here, hub_id="hub-2")
        assert here.agreements.visible_hubs(Caller(CPO))(DSO, TRANSFORMER, HUB)
        assert here.agreements.visible_hubs(Caller(DSO))(DSO, "any", "other")
        for owner, transformer_id, hub_id in (
            (DSO, TRANSFORMER, "hub-2"), (DSO, "any", HUB), ("other-dso", TRANSFORMER, HUB),
        ):  # fmt: skip
            assert not here.agreements.visible_hubs(Caller(CPO))(owner, transformer_id, hub_id)
        assert not here.agreements.visible_hubs(Caller(STRANGER))(DSO, TRANSFORMER, HUB)
        assert not here.agreements.visible_hubs(Caller(CPO, areas=frozenset({"south"})))(DSO, TRANSFORMER, HUB)
        here.cpo.EndAgreement(ending(active))
        assert not here.agreements.visible_hubs(Caller(CPO))(DSO, TRANSFORMER, HUB)


def in_areas(*areas: str) -> CallerResolver:
    """Callers name their tenant, and may use these areas."""

    def resolve(metadata: Sequence[tuple[str, str | bytes]], peer: str) -> Caller:
        return Caller(str(dict(metadata)["evflex-tenant"]), areas=frozenset(areas))

    return resolve


def test_areas_hide_agreements(tmp_path: Path) -> None:
    with running_capacity(tmp_path) as here:
        north, south = agreed(here, area_id="north"), agreed(here, hub_id="hub-2", area_id="south")
    with running_capacity(tmp_path, resolve_caller=in_areas("south")) as here:
        listed = here.cpo.ListAgreements(api.ListAgreementsRequest()).agreements
        assert [one.agreement_id for one in listed] == [south.agreement_id]
        assert code_of(get, here, CPO, north.agreement_id) is NOT_FOUND
        assert code_of(here.cpo.EndAgreement, ending(north)) is NOT_FOUND
        error = error_of(here.cpo.ProposeAgreement, proposal(area_id="north", hub_id="hub-3"))
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.PERMISSION_DENIED, "AREA_NOT_ALLOWED")
