"""The ledger as it was written, and the proof that nobody changed it since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import audit_pb2
from evflex.client.activation.commitment import Commitment
from evflex.client.activation.conflict import ResolvedConflict
from evflex.client.activation.policy import ActivationPolicy
from evflex.client.activation.resource import Resource
from evflex.client.activation.session import Session
from evflex.client.errors import AuditError
from evflex.client.moments import timestamp

LedgerChange = Resource | Session | Commitment | ActivationPolicy | ResolvedConflict
"""What a line of the ledger is about."""

_FIRST_PREVIOUS_HASH = bytes(32)


def verify_audit(records: Iterable[AuditRecord]) -> None:
    """Check that lines of a ledger are what was written, without a gap.

    Each digest is computed anew: ``SHA-256(previous_hash, sequence, event_time in µs, length of tenant_id, tenant_id,
    event_sha256)``, numbers big-endian in 8, 8 and 4 bytes (``evflex.activation.v1.AuditRecord``). Of lines whose
    event is told, the event must be that of the digest. Where the first line is not the ledger's first one, what
    was before is taken on trust: put the last line of an earlier export before it.

    Args:
        records: Lines in order.

    Raises:
        AuditError: The chain is broken; ``sequence`` is the first line that shows it.
    """
    before: AuditRecord | None = None
    for record in records:
        problem = _sequence_problem(record, before) or _digest_problem(record)
        if problem:
            raise AuditError(record.sequence, problem)
        before = record


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A line of the ledger.

    Attributes:
        sequence: Counts from 1 without gaps.
        event_time: When it was written (UTC).
        tenant_id: Tenant that what changed belongs to; of a conflict the one whose commitment was suspended.
        previous_hash: Digest of the line before, 32 bytes.
        event_sha256: Digest of the event, 32 bytes.
        hash: Digest of this line, 32 bytes.
        event: What changed, as it was written; empty for lines of other tenants.
    """

    sequence: int
    event_time: pd.Timestamp
    tenant_id: str
    previous_hash: bytes
    event_sha256: bytes
    hash: bytes
    event: bytes

    @classmethod
    def from_message(cls, message: audit_pb2.AuditRecord) -> AuditRecord:
        """Read a line of the contract."""
        written = timestamp(message, "event_time")
        return cls(
            sequence=message.sequence,
            event_time=pd.Timestamp(0, tz="UTC") if written is None else written,
            tenant_id=message.tenant_id,
            previous_hash=message.previous_hash,
            event_sha256=message.event_sha256,
            hash=message.hash,
            event=message.event,
        )

    @property
    def change(self) -> LedgerChange | None:
        """The state that it led to; None for lines of other tenants.

        Raises:
            google.protobuf.message.DecodeError: The event is none.
        """
        event = audit_pb2.LedgerEvent.FromString(self.event)
        match event.WhichOneof("change"):
            case "resource":
                return Resource.from_message(event.resource)
            case "session":
                return Session.from_message(event.session)
            case "commitment":
                return Commitment.from_message(event.commitment)
            case "policy":
                return ActivationPolicy.from_message(event.policy)
            case "conflict":
                return ResolvedConflict.from_message(event.conflict)
            case _:
                return None

    def computed_hash(self) -> bytes:
        """Digest that this line must have."""
        tenant = self.tenant_id.encode()
        parts = (
            self.previous_hash,
            self.sequence.to_bytes(8, "big", signed=True),
            (self.event_time.as_unit("ns").value // 1000).to_bytes(8, "big", signed=True),
            len(tenant).to_bytes(4, "big"),
            tenant,
            self.event_sha256,
        )
        return hashlib.sha256(b"".join(parts)).digest()


class AuditExport:
    """Progress of one ``ExportAudit`` across lost connections."""

    def __init__(self, from_sequence: int, most_records: int) -> None:
        self._next = from_sequence
        self._left = most_records
        self._limited = most_records > 0

    @property
    def complete(self) -> bool:
        """Whether all lines that were wanted have come."""
        return self._limited and self._left == 0

    def request(self) -> pb.ExportAuditRequest:
        """Request that goes on after the last line."""
        return pb.ExportAuditRequest(from_sequence=self._next, most_records=self._left)

    def accept(self, message: pb.ExportAuditResponse) -> Iterator[AuditRecord]:
        """Take a message; its lines are returned."""
        for record in map(AuditRecord.from_message, message.records):
            self._next = record.sequence + 1
            self._left -= self._limited
            yield record


def _sequence_problem(record: AuditRecord, before: AuditRecord | None) -> str:
    if before is None:
        first = record.sequence == 1 and record.previous_hash != _FIRST_PREVIOUS_HASH
        return "is the first of the ledger but follows another" if first else ""
    if record.sequence != before.sequence + 1:
        return f"follows line {before.sequence}, so lines are missing or out of order"
    return "" if record.previous_hash == before.hash else f"does not follow line {before.sequence}: its digest differs"


def _digest_problem(record: AuditRecord) -> str:
    if record.event and hashlib.sha256(record.event).digest() != record.event_sha256:
        return "its event was changed"
    return "" if record.computed_hash() == record.hash else "its digest is not that of its fields"
