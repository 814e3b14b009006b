"""RPCs of agreements, each in a few lines."""

from __future__ import annotations

import grpc

from evflex.capacity.v1 import agreement_pb2, capacity_service_pb2
from evflex.engine.validation import Rules
from evflex.server.calls import current_call
from evflex.server.capacity import shown_agreement
from evflex.server.capacity.agreements import Agreements
from evflex.server.fields import check_id, refuse
from evflex.server.pages import check_page_size, page_of


class AgreementRpcs:
    """The part of CapacityService that is about agreements."""

    def __init__(self, agreements: Agreements) -> None:
        """Serve these agreements."""
        self._agreements = agreements

    def ProposeAgreement(  # noqa: N802
        self, request: capacity_service_pb2.ProposeAgreementRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.ProposeAgreementResponse:
        """Propose an agreement, or other terms for one."""
        return self._agreements.propose(request, current_call().caller)

    def AcceptAgreement(  # noqa: N802
        self, request: capacity_service_pb2.AcceptAgreementRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.AcceptAgreementResponse:
        """Accept the proposed version."""
        return self._agreements.accept(request, current_call().caller)

    def EndAgreement(  # noqa: N802
        self, request: capacity_service_pb2.EndAgreementRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.EndAgreementResponse:
        """End an agreement, or decline a proposal."""
        return self._agreements.end(request, current_call().caller)

    def GetAgreement(  # noqa: N802
        self, request: capacity_service_pb2.GetAgreementRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.GetAgreementResponse:
        """Return an agreement with its audit."""
        rules = Rules()
        check_id(rules, "agreement_id", request.agreement_id, required=True)
        rules.check(request.version >= 0, "version", f"must be >= 0, is {request.version}")
        refuse(rules)
        return self._agreements.get(request.agreement_id, request.version, current_call().caller)

    def ListAgreements(  # noqa: N802
        self, request: capacity_service_pb2.ListAgreementsRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.ListAgreementsResponse:
        """List the caller's agreements, newest first."""
        rules = Rules()
        check_id(rules, "hub_id", request.hub_id)
        check_id(rules, "transformer_id", request.transformer_id)
        known = request.state in agreement_pb2.AgreementState.values()
        rules.check(known, "state", f"must be one of the known values, is {request.state}")
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListAgreements {request.hub_id}\0{request.transformer_id}\0{request.state}",
            request.page_size,
            request.page_token,
            lambda before, size: self._agreements.page(request, caller, before, size),
        )
        return capacity_service_pb2.ListAgreementsResponse(
            agreements=[shown_agreement.agreement(row.row, row.terms) for row in rows],
            next_page_token=next_page_token,
        )
