"""Calls about commitments, asynchronous: the twin of :mod:`evflex.client.activation.sync_commitments`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
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
from evflex.client.aio_transport import AsyncTransport


class AsyncCommitmentCalls:
    """Flexibility that is sold, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.activation.sync_commitments.CommitmentCalls`.
    """

    _transport: AsyncTransport

    async def hold_commitments(
        self,
        commitments: Sequence[Commitment],
        hold_duration: timedelta | None = None,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Hold:
        """Hold commitments, all of them or none. A refused hold is an answer with its conflicts, no error."""
        request = holding(commitments, hold_duration, validate_only, request_id)
        return Hold.from_message(await self._transport.unary(operations.HOLD_COMMITMENTS, request, timeout_s))

    async def confirm_commitments(
        self,
        commitment_ids: Sequence[str],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CommitmentChange:
        """Confirm holds before they expire, and suspended commitments that nothing stands against any more."""
        request = pb.ConfirmCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()), commitment_ids=commitment_ids, validate_only=validate_only
        )
        answer = await self._transport.unary(operations.CONFIRM_COMMITMENTS, request, timeout_s)
        return CommitmentChange.of(answer.confirmed, answer.commitments, answer.conflicts)

    async def activate_commitments(
        self,
        commitment_ids: Sequence[str],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CommitmentChange:
        """Call confirmed commitments that are not over."""
        request = pb.ActivateCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()), commitment_ids=commitment_ids, validate_only=validate_only
        )
        answer = await self._transport.unary(operations.ACTIVATE_COMMITMENTS, request, timeout_s)
        return CommitmentChange.of(answer.activated, answer.commitments, answer.conflicts)

    async def complete_commitments(
        self,
        delivered_kwh: Mapping[str, float],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Commitment, ...]:
        """Tell what was metered; what is left of the commitments' time is free again."""
        request = completion(delivered_kwh, validate_only, request_id)
        answer = await self._transport.unary(operations.COMPLETE_COMMITMENTS, request, timeout_s)
        return commitments_of(answer.commitments)

    async def settle_commitments(
        self,
        commitment_ids: Sequence[str],
        settlement_id: str,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Commitment, ...]:
        """Close delivered commitments as paid, all of them or none."""
        request = pb.SettleCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()),
            commitment_ids=commitment_ids,
            settlement_id=settlement_id,
            validate_only=validate_only,
        )
        answer = await self._transport.unary(operations.SETTLE_COMMITMENTS, request, timeout_s)
        return commitments_of(answer.commitments)

    async def release_commitments(
        self,
        commitment_ids: Sequence[str],
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> tuple[Commitment, ...]:
        """Give back holds and suspended commitments, all of them or none."""
        request = pb.ReleaseCommitmentsRequest(
            request_id=request_id or str(uuid.uuid4()), commitment_ids=commitment_ids, validate_only=validate_only
        )
        answer = await self._transport.unary(operations.RELEASE_COMMITMENTS, request, timeout_s)
        return commitments_of(answer.commitments)

    async def reallocate_commitment(
        self,
        commitment_id: str,
        allocation: Allocation,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> CommitmentChange:
        """Give a pool other resources in one step; where something stands against it, it stays as it was."""
        request = reallocation(commitment_id, allocation, etag, validate_only, request_id)
        answer = await self._transport.unary(operations.REALLOCATE_COMMITMENT, request, timeout_s)
        return CommitmentChange.of_reallocation(answer)

    async def get_commitment(self, commitment_id: str, *, timeout_s: float | None = None) -> Commitment:
        """Fetch a commitment of the caller."""
        request = pb.GetCommitmentRequest(commitment_id=commitment_id)
        answer = await self._transport.unary(operations.GET_COMMITMENT, request, timeout_s)
        return Commitment.from_message(answer.commitment)

    async def list_commitments(
        self,
        product_id: str = "",
        *,
        state: str = "",
        from_time: datetime | None = None,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Commitment]:
        """List commitments of the caller, the one held last first; further pages are fetched as they are needed."""
        request = commitments_query(product_id, state, from_time, page_size)
        async for page in self._transport.pages(operations.LIST_COMMITMENTS, request, timeout_s):
            for message in page.commitments:
                yield Commitment.from_message(message)
