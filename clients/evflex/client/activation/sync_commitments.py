"""Calls about commitments, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.activation import operations
from evflex.client.activation.commitment import Allocation, Commitment
from evflex.client.activation.requests import (
    CommitmentChange,
    Hold,
    commitments_of,
    commitments_query,
    completion,
    holding,
    reallocation,
)
from evflex.client.transport import Transport


class CommitmentCalls:
    """Flexibility that is sold: held, confirmed, called, metered and paid."""

    _transport: Transport

    def hold_commitments(
        self,
        commitments: Sequence[Commitment],
        hold_duration: timedelta | None = None,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Hold:
        """Hold commitments, all of them or none. A refused hold is an answer with its conflicts, no error.

        Args:
            commitments: 1 to 1000, judged in this order.
            hold_duration: How long they are held; None is 5 min.
            validate_only: Only check whether they could be held.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The commitments break rules; a time without a time zone, or one that is no whole
                millisecond, is told before anything is sent.
            LimitExceededError: The caller has too many open holds.
        """
        request = holding(commitments, hold_duration, validate_only, request_id)
        return Hold.from_message(self._transport.unary(operations.HOLD_COMMITMENTS, request, timeout_s))

    def confirm_commitments(
        self,
        commitment_ids: Sequence[str],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CommitmentChange:
        """Confirm holds before they expire, and suspended commitments that nothing stands against any more.

        Args:
            commitment_ids: Commitments of the caller, all of which are confirmed or none.
            validate_only: Only check whether they could be confirmed.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
            ConflictError: One has expired or is in another state; ``reason`` is HOLD_EXPIRED or WRONG_STATE.
        """
        request = pb.ConfirmCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()), commitment_ids=commitment_ids, validate_only=validate_only
        )
        answer = self._transport.unary(operations.CONFIRM_COMMITMENTS, request, timeout_s)
        return CommitmentChange.of(answer.confirmed, answer.commitments, answer.conflicts)

    def activate_commitments(
        self,
        commitment_ids: Sequence[str],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CommitmentChange:
        """Call confirmed commitments that are not over.

        Args:
            commitment_ids: Commitments of the caller, all of which are activated or none.
            validate_only: Only check whether they could be activated.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
            ConflictError: One is in another state.
        """
        request = pb.ActivateCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()), commitment_ids=commitment_ids, validate_only=validate_only
        )
        answer = self._transport.unary(operations.ACTIVATE_COMMITMENTS, request, timeout_s)
        return CommitmentChange.of(answer.activated, answer.commitments, answer.conflicts)

    def complete_commitments(
        self,
        delivered_kwh: Mapping[str, float],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Commitment, ...]:
        """Tell what was metered; what is left of the commitments' time is free again.

        Args:
            delivered_kwh: Energy in kWh (>= 0) that each delivered in its direction; sent in whole Wh, rounded down.
            validate_only: Only check: nothing is returned.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
            ConflictError: One is neither activated, nor confirmed and over.
        """
        request = completion(delivered_kwh, validate_only, request_id)
        answer = self._transport.unary(operations.COMPLETE_COMMITMENTS, request, timeout_s)
        return commitments_of(answer.commitments)

    def settle_commitments(
        self,
        commitment_ids: Sequence[str],
        settlement_id: str,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Commitment, ...]:
        """Close delivered commitments as paid, all of them or none.

        Args:
            commitment_ids: Commitments of the caller.
            settlement_id: What they are settled under.
            validate_only: Only check: nothing is returned.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
            ConflictError: One is not delivered.
        """
        request = pb.SettleCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()),
            commitment_ids=commitment_ids,
            settlement_id=settlement_id,
            validate_only=validate_only,
        )
        answer = self._transport.unary(operations.SETTLE_COMMITMENTS, request, timeout_s)
        return commitments_of(answer.commitments)

    def release_commitments(
        self,
        commitment_ids: Sequence[str],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Commitment, ...]:
        """Give back holds and suspended commitments, all of them or none.

        Args:
            commitment_ids: Commitments of the caller.
            validate_only: Only check: nothing is returned.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
            ConflictError: One is confirmed, or further.
        """
        request = pb.ReleaseCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()), commitment_ids=commitment_ids, validate_only=validate_only
        )
        answer = self._transport.unary(operations.RELEASE_COMMITMENTS, request, timeout_s)
        return commitments_of(answer.commitments)

    def reallocate_commitment(
        self,
        commitment_id: str,
        allocation: Allocation,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CommitmentChange:
        """Give a pool other resources in one step; where something stands against it, it stays as it was.

        Args:
            commitment_id: Commitment of the caller, held, confirmed or activated.
            allocation: Power in kW by resource, of the same power together; sent in whole W, rounded down.
            etag: When not empty, change it only if the stored one is the same.
            validate_only: Only check whether it could be done.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
            ConflictError: It is in another state, or the etag differs.
        """
        request = reallocation(commitment_id, allocation, etag, validate_only, request_id)
        answer = self._transport.unary(operations.REALLOCATE_COMMITMENT, request, timeout_s)
        return CommitmentChange.of_reallocation(answer)

    def get_commitment(self, commitment_id: str, *, timeout_s: float | None = None) -> Commitment:
        """Fetch a commitment of the caller.

        Args:
            commitment_id: Commitment.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such commitment of the caller.
        """
        request = pb.GetCommitmentRequest(commitment_id=commitment_id)
        answer = self._transport.unary(operations.GET_COMMITMENT, request, timeout_s)
        return Commitment.from_message(answer.commitment)

    def list_commitments(
        self,
        product_id: str = "",
        *,
        state: str = "",
        from_time: datetime | None = None,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[Commitment]:
        """List commitments of the caller, the one held last first; further pages are fetched as they are needed.

        Args:
            product_id: Only of this product; empty means all.
            state: Only in this state, for example ``HELD``; empty means all.
            from_time: Only those that end after this; None means all.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.

        Raises:
            InvalidRequestError: The state is unknown, or the time has no time zone.
        """
        request = commitments_query(product_id, state, from_time, page_size)
        for page in self._transport.pages(operations.LIST_COMMITMENTS, request, timeout_s):
            yield from map(Commitment.from_message, page.commitments)
