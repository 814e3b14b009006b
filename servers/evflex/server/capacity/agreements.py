"""Agreements between two parties: proposed by one, accepted by the other, ended by either."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from google.rpc import code_pb2

from evflex.capacity.v1 import agreement_pb2, capacity_service_pb2
from evflex.engine.validation import Rules
from evflex.server.caller import TENANT_RULE, Caller, is_tenant_id
from evflex.server.capacity import shown_agreement
from evflex.server.capacity.terms import Terms, packed_terms, read_terms, unpacked_terms
from evflex.server.errors import ServiceError, not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.store.agreements import AgreementAction, AgreementRow, AgreementState, EventRow, TermsRow
from evflex.server.store.bookings import BookingRow
from evflex.server.store.capacity import CapacityRows, CapacityStore, Change, ShownAgreement
from evflex.server.store.requests import check_etag, request_key

Row = TypeVar("Row", AgreementRow, BookingRow)


@dataclass(frozen=True, slots=True)
class ActiveTerms:
    """An active agreement with its terms in force.

    Attributes:
        agreement_id: Agreement.
        version: Version of the terms.
        hub_id: Hub.
        transformer_id: Transformer.
        terms: The terms; they say when they are valid.
    """

    agreement_id: str
    version: int
    hub_id: str
    transformer_id: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Agreements:
    """Keeps agreements. Who a party is, is always the caller that the server resolved, never what a message says.

    Attributes:
        store: Where they are kept.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    store: CapacityStore
    now_unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def propose(
        self, request: capacity_service_pb2.ProposeAgreementRequest, caller: Caller
    ) -> capacity_service_pb2.ProposeAgreementResponse:
        """Store a new agreement, or other terms for one; a proposal that waits is replaced by the new one.

        Raises:
            ServiceError: INVALID_ARGUMENT; PERMISSION_DENIED, the caller is no party of a new agreement; NOT_FOUND;
                FAILED_PRECONDITION, it has ended; ABORTED for another etag.
        """
        message = request.agreement
        _check_proposal(request)
        if not message.agreement_id:
            _check_proposer(message, caller)
        now_unix_us = self.now_unix_us()

        def change(rows: CapacityRows) -> Change:
            if message.agreement_id:
                row = visible(caller, rows.agreements.find(message.agreement_id), "agreement", message.agreement_id)
                _check_same_hub(row, message)
                _check_not_ended(row)
                check_etag("agreement", message.etag, row.etag)
                row = rows.agreements.change(row, now_unix_us, last_version=row.last_version + 1)
            else:
                row = rows.agreements.create(
                    (message.dso_party, message.cpo_party), message.area_id, message.hub_id, message.transformer_id,
                    now_unix_us,
                )  # fmt: skip
            terms = TermsRow(row.last_version, caller.tenant_id, packed_terms(message))
            rows.agreements.add_terms(row, terms, now_unix_us)
            _audit(rows, row, AgreementAction.PROPOSED, caller, terms.version, request.request_id)
            answer = capacity_service_pb2.ProposeAgreementResponse(agreement=shown_agreement.agreement(row, terms))
            return Change(row.agreement_id, row.area_id, answer.SerializeToString())

        answer = run_once(self.store, "ProposeAgreement", request, caller, now_unix_us, change)
        return capacity_service_pb2.ProposeAgreementResponse.FromString(answer)

    def accept(
        self, request: capacity_service_pb2.AcceptAgreementRequest, caller: Caller
    ) -> capacity_service_pb2.AcceptAgreementResponse:
        """Put the proposed version in force, in place of an earlier one.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION: another version is proposed or none, the
                caller has proposed it, the agreement has ended, or the hub has another agreement at the same time.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "agreement_id", request.agreement_id, required=True)
        rules.check(request.version >= 1, "version", f"must be >= 1, is {request.version}")
        refuse(rules)
        now_unix_us = self.now_unix_us()

        def change(rows: CapacityRows) -> Change:
            row = visible(caller, rows.agreements.find(request.agreement_id), "agreement", request.agreement_id)
            _check_not_ended(row)
            _check_pending(row, request.version)
            terms = rows.agreements.terms(row.agreement_id, request.version)
            assert terms is not None
            if terms.proposed_by == caller.tenant_id:
                raise _refused("OWN_PROPOSAL", "the other party must accept what the caller has proposed")
            _check_no_overlap(rows, row, unpacked_terms(terms.terms), caller)
            row = rows.agreements.change(row, now_unix_us, state=AgreementState.ACTIVE, active_version=request.version)
            _audit(rows, row, AgreementAction.ACCEPTED, caller, request.version, request.request_id)
            answer = capacity_service_pb2.AcceptAgreementResponse(agreement=shown_agreement.agreement(row, terms))
            return Change(row.agreement_id, row.area_id, answer.SerializeToString())

        answer = run_once(self.store, "AcceptAgreement", request, caller, now_unix_us, change)
        return capacity_service_pb2.AcceptAgreementResponse.FromString(answer)

    def end(
        self, request: capacity_service_pb2.EndAgreementRequest, caller: Caller
    ) -> capacity_service_pb2.EndAgreementResponse:
        """End an agreement or decline a first proposal, and release the bookings that are not over.

        Raises:
            ServiceError: INVALID_ARGUMENT; NOT_FOUND; FAILED_PRECONDITION, it has ended; ABORTED for another etag.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "agreement_id", request.agreement_id, required=True)
        refuse(rules)
        now_unix_us = self.now_unix_us()

        def change(rows: CapacityRows) -> Change:
            row = visible(caller, rows.agreements.find(request.agreement_id), "agreement", request.agreement_id)
            _check_not_ended(row)
            check_etag("agreement", request.etag, row.etag)
            version = row.shown_version
            row = rows.agreements.change(row, now_unix_us, state=AgreementState.ENDED)
            rows.bookings.release_open(row.agreement_id, now_unix_us)
            _audit(rows, row, AgreementAction.ENDED, caller, version, request.request_id)
            shown = _shown(rows, row, version)
            answer = capacity_service_pb2.EndAgreementResponse(agreement=shown)
            return Change(row.agreement_id, row.area_id, answer.SerializeToString())

        answer = run_once(self.store, "EndAgreement", request, caller, now_unix_us, change)
        return capacity_service_pb2.EndAgreementResponse.FromString(answer)

    def get(self, agreement_id: str, version: int, caller: Caller) -> capacity_service_pb2.GetAgreementResponse:
        """An agreement in a version, 0 for the one in force or the last, with its audit.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self.store.reading() as rows:
            row = visible(caller, rows.agreements.find(agreement_id), "agreement", agreement_id)
            return capacity_service_pb2.GetAgreementResponse(
                agreement=_shown(rows, row, version or row.shown_version),
                events=[shown_agreement.event(line) for line in rows.agreements.events(agreement_id)],
            )

    def page(
        self,
        request: capacity_service_pb2.ListAgreementsRequest,
        caller: Caller,
        before_sequence: int | None,
        size: int,
    ) -> list[ShownAgreement]:
        """Agreements that the caller is a party of, newest first."""
        return self.store.agreements_page(
            caller.tenant_id, before_sequence, size, caller.areas,
            hub_id=request.hub_id, transformer_id=request.transformer_id, state=request.state,
        )  # fmt: skip

    def all_active_terms(self, caller: Caller, agreement_ids: Collection[str]) -> dict[str, ActiveTerms]:
        """Terms in force of those of these agreements that the system operator may share or track by, in one read."""
        if not agreement_ids:
            return {}
        with self.store.reading() as rows:
            found = rows.agreements.active_among(caller.tenant_id, agreement_ids)
        return {
            row.agreement_id: ActiveTerms(
                row.agreement_id, row.active_version, row.hub_id, row.transformer_id, unpacked_terms(terms)
            )
            for row, terms in found
            if caller.may_use_area(row.area_id)
        }

    def visible_hubs(self, caller: Caller) -> Callable[[str, str, str], bool]:
        """A predicate of (owner, transformer_id, hub_id): whether the caller may watch the capacity of that hub.

        An owner may, and the charge point operator of an active agreement. It tells what was so when it was made.
        """
        with self.store.reading() as rows:
            active = rows.agreements.active_of_cpo(caller.tenant_id)
        seen = frozenset(
            (row.tenant_id, row.transformer_id, row.hub_id) for row in active if caller.may_use_area(row.area_id)
        )
        return lambda owner, transformer_id, hub_id: (
            owner == caller.tenant_id or (owner, transformer_id, hub_id) in seen
        )


_Request = (
    capacity_service_pb2.ProposeAgreementRequest
    | capacity_service_pb2.AcceptAgreementRequest
    | capacity_service_pb2.EndAgreementRequest
    | capacity_service_pb2.BookCapacityRequest
    | capacity_service_pb2.ReleaseBookingRequest
)


def run_once(
    store: CapacityStore,
    method: str,
    request: _Request,
    caller: Caller,
    now_unix_us: int,
    change: Callable[[CapacityRows], Change],
) -> bytes:
    """Answer of a request that changes something, once; an empty message where it is only to be checked."""
    if request.validate_only:
        store.check(change)
        return b""
    return store.once(request_key(caller.tenant_id, method, request.request_id, request), now_unix_us, change)


def visible(caller: Caller, row: Row | None, what: str, name: str) -> Row:
    """The row, unless the caller is no party or may not use its area: then there is no such thing.

    Raises:
        ServiceError: NOT_FOUND.
    """
    if row is None or caller.tenant_id not in row.parties or not caller.may_use_area(row.area_id):
        raise not_found(what, name)
    return row


def terms_in_force(rows: CapacityRows, row: AgreementRow) -> ActiveTerms:
    """Terms in force of an agreement.

    Raises:
        ServiceError: FAILED_PRECONDITION, it is not active.
    """
    if row.state != AgreementState.ACTIVE:
        raise _refused("AGREEMENT_NOT_ACTIVE", "the agreement is not active", state=AgreementState(row.state).name)
    terms = rows.agreements.terms(row.agreement_id, row.active_version)
    assert terms is not None
    return ActiveTerms(
        row.agreement_id, row.active_version, row.hub_id, row.transformer_id, unpacked_terms(terms.terms)
    )


def _check_proposal(request: capacity_service_pb2.ProposeAgreementRequest) -> None:
    rules, message = Rules(), request.agreement
    check_request_id(rules, request.request_id, required=not request.validate_only)
    rules.check(request.HasField("agreement"), "agreement", "must be set")
    refuse(rules)
    check_id(rules, "agreement.agreement_id", message.agreement_id)
    check_id(rules, "agreement.hub_id", message.hub_id, required=True)
    check_id(rules, "agreement.transformer_id", message.transformer_id, required=True)
    check_id(rules, "agreement.area_id", message.area_id)
    for name in ("dso_party", "cpo_party"):
        rules.check(is_tenant_id(getattr(message, name)), f"agreement.{name}", TENANT_RULE)
    rules.check(message.dso_party != message.cpo_party, "agreement.cpo_party", "must be another than dso_party")
    read_terms(rules, "agreement", message)
    refuse(rules)


def _check_proposer(message: agreement_pb2.Agreement, caller: Caller) -> None:
    if caller.tenant_id not in (message.dso_party, message.cpo_party):
        raise ServiceError(code_pb2.PERMISSION_DENIED, "NOT_A_PARTY", "the caller must be dso_party or cpo_party")
    if not caller.may_use_area(message.area_id):
        raise ServiceError(code_pb2.PERMISSION_DENIED, "AREA_NOT_ALLOWED", "the caller may not use this area_id")


def _check_same_hub(row: AgreementRow, message: agreement_pb2.Agreement) -> None:
    """Another version is about the same hub, between the same parties."""
    rules = Rules()
    stays = {
        "hub_id": row.hub_id, "transformer_id": row.transformer_id, "area_id": row.area_id,
        "dso_party": row.tenant_id, "cpo_party": row.cpo_party,
    }  # fmt: skip
    for name, value in stays.items():
        same = getattr(message, name) == value
        rules.check(same, f"agreement.{name}", f"must stay {value!r} in every version of an agreement")
    refuse(rules)


def _check_not_ended(row: AgreementRow) -> None:
    if row.state == AgreementState.ENDED:
        raise _refused("AGREEMENT_ENDED", "the agreement has ended")


def _check_pending(row: AgreementRow, version: int) -> None:
    pending = row.pending_version
    if not pending:
        raise _refused("NOTHING_PROPOSED", "no version waits to be accepted", active_version=str(row.active_version))
    if version != pending:
        raise _refused("VERSION_NOT_PROPOSED", f"version {pending} is proposed, not {version}", version=str(pending))


def _check_no_overlap(rows: CapacityRows, row: AgreementRow, terms: Terms, caller: Caller) -> None:
    """A hub has at most one agreement at a time, whoever operates it, or it would have its capacity twice."""
    for other, packed in rows.agreements.active_of_hub(row.tenant_id, row.hub_id):
        if other.agreement_id == row.agreement_id or not terms.overlaps(unpacked_terms(packed)):
            continue
        message = "the hub has another active agreement whose validity overlaps"
        if caller.tenant_id in other.parties:  # others may not know it
            raise _refused("AGREEMENT_OVERLAPS", f"{message}: {other.agreement_id}", agreement_id=other.agreement_id)
        raise _refused("AGREEMENT_OVERLAPS", message)


def _shown(rows: CapacityRows, row: AgreementRow, version: int) -> agreement_pb2.Agreement:
    terms = rows.agreements.terms(row.agreement_id, version)
    if terms is None:
        raise not_found("version", str(version))
    return shown_agreement.agreement(row, terms, rows.agreements.events(row.agreement_id))


def _audit(
    rows: CapacityRows, row: AgreementRow, action: AgreementAction, caller: Caller, version: int, request_id: str
) -> None:
    line = EventRow(int(action), caller.tenant_id, version, request_id.lower(), row.update_time_unix_us)
    rows.agreements.add_event(row, line)


def _refused(reason: str, message: str, **metadata: str) -> ServiceError:
    return ServiceError(code_pb2.FAILED_PRECONDITION, reason, message, metadata=metadata)
