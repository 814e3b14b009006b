"""Calls of the activation service, asynchronous: the twin of :mod:`evflex.client.activation.sync_calls`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.activation import operations
from evflex.client.activation.aio_commitments import AsyncCommitmentCalls
from evflex.client.activation.aio_resources import AsyncResourceCalls
from evflex.client.activation.audit import AuditExport, AuditRecord
from evflex.client.activation.batch import CommitmentBatch
from evflex.client.activation.check import CheckAnswer, CommitmentCheck
from evflex.client.activation.enums import ActivationPolicyKind, ResourceKind
from evflex.client.activation.policy import ActivationPolicy, policy_deletion, policy_setting
from evflex.client.activation.watch import ConflictEvent, ConflictWatch
from evflex.client.aio_transport import AsyncTransport
from evflex.client.errors import EvflexError
from evflex.client.files import TableSource
from evflex.client.retry import resumable


class AsyncActivationCalls(AsyncResourceCalls, AsyncCommitmentCalls):
    """What is sold, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.activation.sync_calls.ActivationCalls`.
    """

    _transport: AsyncTransport

    async def check_commitments(
        self, commitments: TableSource, *, ignore_ledger: bool = False, timeout_s: float | None = None
    ) -> CommitmentCheck:
        """Check a batch of commitments among themselves and with the ledger; nothing is stored."""
        return (await _read_check(self._transport, CommitmentBatch.of(commitments, ignore_ledger), timeout_s)).check()

    async def watch_conflicts(
        self, resume_token: str = "", *, timeout_s: float | None = None
    ) -> AsyncIterator[ConflictEvent]:
        """Follow conflicts that appear at plug-in and concern the caller, across restarts of the server."""
        operation = operations.WATCH_CONFLICTS
        watch = ConflictWatch(resume_token)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.server_stream(operation, watch.request(), attempts.remaining_s())
                async with aclosing(answers):
                    async for message in answers:
                        attempts.succeeded()
                        yield watch.accept(message)
                return
            except EvflexError as error:
                await self._transport.pause(attempts, resumable(error))

    async def get_activation_policy(
        self, area_id: str = "", product_id: str = "", *, timeout_s: float | None = None
    ) -> ActivationPolicy:
        """Fetch the policy that holds for a product in an area; its ``version`` is 0 where none was set."""
        request = pb.GetActivationPolicyRequest(area_id=area_id, product_id=product_id)
        answer = await self._transport.unary(operations.GET_ACTIVATION_POLICY, request, timeout_s)
        return ActivationPolicy.from_message(answer.policy)

    async def list_activation_policies(
        self, *, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[ActivationPolicy]:
        """List policies, the one changed last first; further pages are fetched as they are needed."""
        request = pb.ListActivationPoliciesRequest(page_size=page_size)
        async for page in self._transport.pages(operations.LIST_ACTIVATION_POLICIES, request, timeout_s):
            for message in page.policies:
                yield ActivationPolicy.from_message(message)

    async def delete_activation_policy(
        self,
        *,
        area_id: str = "",
        product_id: str = "",
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> None:
        """Delete the policy of a product in an area; what holds without it holds then."""
        request = policy_deletion(area_id, product_id, etag, validate_only, request_id)
        await self._transport.unary(operations.DELETE_ACTIVATION_POLICY, request, timeout_s)

    async def set_activation_policy(
        self,
        kind: ActivationPolicyKind | str,
        *,
        area_id: str = "",
        product_id: str = "",
        sold_side: ResourceKind | str = "",
        aggregator_cap_kw: float | None = None,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> ActivationPolicy:
        """Set the policy of a product in an area; commitments that were held before stay."""
        request = policy_setting(
            kind, area_id, product_id, sold_side, aggregator_cap_kw, etag, validate_only, request_id
        )
        answer = await self._transport.unary(operations.SET_ACTIVATION_POLICY, request, timeout_s)
        return ActivationPolicy.from_message(answer.policy)

    async def export_audit(
        self, from_sequence: int = 0, most_records: int = 0, *, timeout_s: float | None = None
    ) -> AsyncIterator[AuditRecord]:
        """Read the ledger; :func:`evflex.client.verify_audit` checks what comes."""
        operation = operations.EXPORT_AUDIT
        export = AuditExport(from_sequence, most_records)
        attempts = self._transport.attempts(operation, timeout_s)
        while not export.complete:
            try:
                answers = self._transport.server_stream(operation, export.request(), attempts.remaining_s())
                async with aclosing(answers):
                    async for message in answers:
                        attempts.succeeded()
                        for record in export.accept(message):
                            yield record
                return
            except EvflexError as error:
                await self._transport.pause(attempts, error)


async def _read_check(transport: AsyncTransport, batch: CommitmentBatch, timeout_s: float | None) -> CheckAnswer:
    operation = operations.CHECK_COMMITMENTS
    answer = CheckAnswer()
    attempts = transport.attempts(operation, timeout_s)
    while True:
        answer.begin()
        try:
            async with aclosing(transport.stream(operation, batch.messages(), attempts.remaining_s())) as messages:
                async for message in messages:
                    answer.accept(message)
            answer.check_ended()
            return answer
        except EvflexError as error:
            await transport.pause(attempts, error)
