"""RPCs of commitments, each in a few lines."""

from __future__ import annotations

import grpc

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import commitment_pb2
from evflex.engine.validation import Rules
from evflex.server.activation.activating import Activating
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.own_commitments import own_of
from evflex.server.activation.selling import Selling
from evflex.server.calls import current_call
from evflex.server.fields import check_id, refuse, timestamp_s
from evflex.server.messages import unix_ms
from evflex.server.pages import check_page_size, page_of


class CommitmentRpcs:
    """The part of ActivationService that is about what is sold."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        """Serve a ledger."""
        self._keeper = keeper
        self._selling = Selling(keeper)
        self._activating = Activating(keeper)

    def HoldCommitments(  # noqa: N802
        self, request: api.HoldCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.HoldCommitmentsResponse:
        """Hold commitments."""
        return self._selling.hold(request, current_call().caller)

    def ConfirmCommitments(  # noqa: N802
        self, request: api.ConfirmCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.ConfirmCommitmentsResponse:
        """Confirm holds."""
        return self._selling.confirm(request, current_call().caller)

    def ActivateCommitments(  # noqa: N802
        self, request: api.ActivateCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.ActivateCommitmentsResponse:
        """Call confirmed commitments."""
        return self._activating.activate(request, current_call().caller)

    def CompleteCommitments(  # noqa: N802
        self, request: api.CompleteCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.CompleteCommitmentsResponse:
        """Take in what was metered."""
        return self._activating.complete(request, current_call().caller)

    def SettleCommitments(  # noqa: N802
        self, request: api.SettleCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.SettleCommitmentsResponse:
        """Close delivered commitments."""
        return self._activating.settle(request, current_call().caller)

    def ReleaseCommitments(  # noqa: N802
        self, request: api.ReleaseCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.ReleaseCommitmentsResponse:
        """Give commitments back."""
        return self._selling.release(request, current_call().caller)

    def ReallocateCommitment(  # noqa: N802
        self, request: api.ReallocateCommitmentRequest, context: grpc.ServicerContext
    ) -> api.ReallocateCommitmentResponse:
        """Give a pool other resources."""
        return self._selling.reallocate(request, current_call().caller)

    def GetCommitment(  # noqa: N802
        self, request: api.GetCommitmentRequest, context: grpc.ServicerContext
    ) -> api.GetCommitmentResponse:
        """Return a commitment."""
        rules = Rules()
        check_id(rules, "commitment_id", request.commitment_id, required=True)
        refuse(rules)
        name = request.commitment_id
        message = own_of(current_call().caller, name, self._keeper.store.commitment(name))
        return api.GetCommitmentResponse(commitment=message)

    def ListCommitments(  # noqa: N802
        self, request: api.ListCommitmentsRequest, context: grpc.ServicerContext
    ) -> api.ListCommitmentsResponse:
        """List commitments, the one held last first."""
        rules = Rules()
        check_id(rules, "product_id", request.product_id)
        known = request.state in commitment_pb2.CommitmentState.values()
        rules.check(known, "state", f"must be a known CommitmentState, is {request.state}")
        timestamp_s(rules, "from_time", request.from_time)
        from_ms = unix_ms(request.from_time) if request.HasField("from_time") else None
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListCommitments {request.product_id}\0{request.state}\0{from_ms}",
            request.page_size,
            request.page_token,
            lambda before, size: self._keeper.store.commitments_page(
                caller.tenant_id, before, size, caller.areas, product_id=request.product_id, state=request.state,
                ends_after_unix_ms=from_ms,
            ),
        )  # fmt: skip
        return api.ListCommitmentsResponse(commitments=rows, next_page_token=next_page_token)
