"""Calls of the activation service, synchronous."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.client.activation import operations
from evflex.client.activation.audit import AuditExport, AuditRecord
from evflex.client.activation.batch import CommitmentBatch
from evflex.client.activation.check import CheckAnswer, CommitmentCheck
from evflex.client.activation.enums import ActivationPolicyKind, ResourceKind
from evflex.client.activation.policy import ActivationPolicy, policy_deletion, policy_setting
from evflex.client.activation.sync_commitments import CommitmentCalls
from evflex.client.activation.sync_resources import ResourceCalls
from evflex.client.activation.watch import ConflictEvent, ConflictWatch
from evflex.client.errors import EvflexError
from evflex.client.files import TableSource
from evflex.client.retry import resumable
from evflex.client.transport import Transport


class ActivationCalls(ResourceCalls, CommitmentCalls):
    """What is sold; the part of :class:`evflex.client.EvflexClient` for the activation service."""

    _transport: Transport

    def check_commitments(
        self, commitments: TableSource, *, ignore_ledger: bool = False, timeout_s: float | None = None
    ) -> CommitmentCheck:
        """Check a batch of commitments among themselves and with the ledger; nothing is stored.

        Args:
            commitments: Table, or a Parquet or CSV file, with one row a commitment, by default up to 1 000 000.
                ``resource_id``, ``product_id``, ``direction`` (``UP``, ``DOWN``), ``start_time``, ``end_time`` (with a
                time zone, in whole milliseconds) and ``power_kw`` (sent in whole W, rounded down) are required.
                ``aggregator_id``, ``energy_kwh`` (missing is full power), ``exclusive_group``, ``co_delivery_group``
                and ``counter_activation_declared`` may be absent. Rows with the same ``pool`` are one commitment;
                missing, 0 or empty stands alone.
            ignore_ledger: Check the rows among themselves only.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The rows break rules; a column that cannot be read is told before anything is sent.
            ImportError: pyarrow is missing for a Parquet file.
            OSError: The file cannot be read.
        """
        return read_check(self._transport, CommitmentBatch.of(commitments, ignore_ledger), timeout_s).check()

    def watch_conflicts(self, resume_token: str = "", *, timeout_s: float | None = None) -> Iterator[ConflictEvent]:
        """Follow conflicts that appear at plug-in and concern the caller, across restarts of the server.

        Args:
            resume_token: Token of an earlier event after which to go on; empty begins with those whose commitment is
                still suspended.
            timeout_s: Time for the whole watch; None watches until the caller stops reading.

        Yields:
            Events, heartbeats included. A watch that was ended because it read too slowly goes on by itself.

        Raises:
            EvflexError: The watch failed for good.
        """
        operation = operations.WATCH_CONFLICTS
        watch = ConflictWatch(resume_token)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.server_stream(operation, watch.request(), attempts.remaining_s())
                with closing(answers):
                    for message in answers:
                        attempts.succeeded()
                        yield watch.accept(message)
                return
            except EvflexError as error:
                self._transport.pause(attempts, resumable(error))

    def get_activation_policy(
        self, area_id: str = "", product_id: str = "", *, timeout_s: float | None = None
    ) -> ActivationPolicy:
        """Fetch the policy that holds for a product in an area; its ``version`` is 0 where none was set.

        Args:
            area_id: Area.
            product_id: Product.
            timeout_s: Time for all attempts.
        """
        request = pb.GetActivationPolicyRequest(area_id=area_id, product_id=product_id)
        answer = self._transport.unary(operations.GET_ACTIVATION_POLICY, request, timeout_s)
        return ActivationPolicy.from_message(answer.policy)

    def list_activation_policies(
        self, *, page_size: int = 0, timeout_s: float | None = None
    ) -> Iterator[ActivationPolicy]:
        """List policies, the one changed last first; further pages are fetched as they are needed.

        Args:
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListActivationPoliciesRequest(page_size=page_size)
        for page in self._transport.pages(operations.LIST_ACTIVATION_POLICIES, request, timeout_s):
            yield from map(ActivationPolicy.from_message, page.policies)

    def set_activation_policy(
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
        """Set the policy of a product in an area; commitments that were held before stay.

        Args:
            kind: Remedy; empty is none, also where a less specific policy has one.
            area_id: Area; empty for all.
            product_id: Product; empty for all.
            sold_side: ``EV`` or ``CHARGE_POINT``, what may be sold with ONE_SIDE.
            aggregator_cap_kw: Most in kW that one aggregator may have committed at once in the area, in each direction;
                sent in whole W, rounded down. Only without a product.
            etag: When not empty, set it only if the stored one is the same.
            validate_only: Only check: the policy is empty.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The policy breaks rules.
            ConflictError: The etag differs.
        """
        request = policy_setting(
            kind, area_id, product_id, sold_side, aggregator_cap_kw, etag, validate_only, request_id
        )
        answer = self._transport.unary(operations.SET_ACTIVATION_POLICY, request, timeout_s)
        return ActivationPolicy.from_message(answer.policy)

    def delete_activation_policy(
        self,
        *,
        area_id: str = "",
        product_id: str = "",
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> None:
        """Delete the policy of a product in an area; what holds without it holds then.

        Args:
            area_id: Area; empty for that of all.
            product_id: Product; empty for that of all.
            etag: When not empty, delete it only if the stored one is the same.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such policy.
            ConflictError: The etag differs.
        """
        request = policy_deletion(area_id, product_id, etag, validate_only, request_id)
        self._transport.unary(operations.DELETE_ACTIVATION_POLICY, request, timeout_s)

    def export_audit(
        self, from_sequence: int = 0, most_records: int = 0, *, timeout_s: float | None = None
    ) -> Iterator[AuditRecord]:
        """Read the ledger; :func:`evflex.client.verify_audit` checks what comes.

        Args:
            from_sequence: First line wanted; 0 means the first.
            most_records: Most lines wanted; 0 means all that there are now.
            timeout_s: Time for the whole export.

        Yields:
            Lines in order, of other tenants their digests alone. When the server becomes unavailable, it goes on after
            the last.

        Raises:
            EvflexError: The export failed for good.
        """
        operation = operations.EXPORT_AUDIT
        export = AuditExport(from_sequence, most_records)
        attempts = self._transport.attempts(operation, timeout_s)
        while not export.complete:
            try:
                answers = self._transport.server_stream(operation, export.request(), attempts.remaining_s())
                with closing(answers):
                    for message in answers:
                        attempts.succeeded()
                        yield from export.accept(message)
                return
            except EvflexError as error:
                self._transport.pause(attempts, error)


def read_check(transport: Transport, batch: CommitmentBatch, timeout_s: float | None) -> CheckAnswer:
    """Send a batch and read what it came to, again where that helps.

    Args:
        transport: Channel.
        batch: Commitments.
        timeout_s: Time for all attempts; None takes the operation's default.

    Raises:
        EvflexError: The call failed for good.
    """
    operation = operations.CHECK_COMMITMENTS
    answer = CheckAnswer()
    attempts = transport.attempts(operation, timeout_s)
    while True:
        answer.begin()
        try:
            with closing(transport.stream(operation, batch.messages(), attempts.remaining_s())) as messages:
                for message in messages:
                    answer.accept(message)
            answer.check_ended()
            return answer
        except EvflexError as error:
            transport.pause(attempts, error)
