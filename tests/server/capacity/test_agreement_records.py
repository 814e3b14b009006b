"""What is kept of agreements: one answer a request, lists, an audit that is only ever added to, and who sees what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from evflex.capacity.v1 import agreement_pb2
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.engine.timegrid import TimeGrid
from evflex.server.caller import Caller, CallerResolver
from tests.server.capacity.support import (
    CPO,
    DSO,
    HUB,
    STEP_S,
    STRANGER,
    TRANSFORMER,
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
from tests.server.support import START_S, info_of, reason_of

NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
PROPOSED = agreement_pb2.AGREEMENT_STATE_PROPOSED
ACTIVE = agreement_pb2.AGREEMENT_STATE_ACTIVE
ENDED = agreement_pb2.AGREEMENT_STATE_ENDED


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
        assert terms_in_force(here, DSO, active).version == 1
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
        found = terms_in_force(here, DSO, active)
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
            assert not terms_in_force(here, tenant_id, active)
        assert not terms_in_force(here, DSO, waiting)


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
