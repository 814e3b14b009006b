"""What the store of the activation ledger takes and gives: lines of its log, and the state that it led to."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from evflex.activation.v1.audit_pb2 import LedgerEvent, ResolvedConflict
from evflex.activation.v1.commitment_pb2 import Commitment
from evflex.activation.v1.policy_pb2 import ActivationPolicy
from evflex.activation.v1.resource_pb2 import Resource, Session
from evflex.server.store.activation_tables import activation_log


@dataclass(frozen=True, slots=True)
class Head:
    """Where the ledger ends.

    Attributes:
        sequence: Number of the last line, 0 where there is none.
        hash: Chain value of that line, 32 zero bytes where there is none.
    """

    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A change to be added to the ledger.

    Attributes:
        tenant_id: Tenant that what changed belongs to.
        area_id: Grid area of what changed.
        event: The change, which holds its sequence already: a commitment that of its first line, a conflict none, and
            the others that of this line.
    """

    tenant_id: str
    area_id: str
    event: LedgerEvent


@dataclass(frozen=True, slots=True)
class LogRow:
    """A line of the ledger.

    Attributes:
        sequence: Counts from 1 without gaps.
        tenant_id: Tenant that what changed belongs to.
        area_id: Grid area of what changed.
        kind: Number of the change in LedgerEvent.
        event: A serialized LedgerEvent.
        event_sha256: SHA-256 of that.
        previous_hash: Chain value of the line before.
        hash: Chain value of this line.
        event_time_unix_us: When it was written.
    """

    sequence: int
    tenant_id: str
    area_id: str
    kind: int
    event: bytes
    event_sha256: bytes
    previous_hash: bytes
    hash: bytes
    event_time_unix_us: int


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """A conflict that was decided.

    Attributes:
        sequence: Number of its line.
        area_id: Grid area of what it is about.
        conflict: The conflict.
    """

    sequence: int
    area_id: str
    conflict: ResolvedConflict


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What the ledger has led to, as far as anything still depends on it; each list in the order of sequences.

    Attributes:
        head: Where the ledger ends.
        resources: All resources.
        sessions: Sessions that are open, ended within a day, or share time with what a commitment may need.
        commitments: Commitments that are held, confirmed, activated or suspended.
        policies: All policies.
    """

    head: Head
    resources: list[Resource]
    sessions: list[Session]
    commitments: list[Commitment]
    policies: list[ActivationPolicy]


_KINDS = {field.name: field.number for field in LedgerEvent.DESCRIPTOR.oneofs_by_name["change"].fields}


def chained(head: Head, entries: Sequence[NewEvent], now_unix_us: int) -> list[LogRow]:
    """The lines that follow a head, chained as AuditRecord in audit.proto says.

    Raises:
        ValueError: An event without a change, or one that holds another sequence than it gets.
    """
    rows = []
    previous = head.hash
    for sequence, entry in enumerate(entries, head.sequence + 1):
        kind = _kind_of(entry.event, sequence)
        event = entry.event.SerializeToString()
        event_sha256 = sha256(event).digest()
        tenant = entry.tenant_id.encode()
        numbers = struct.pack(">QQI", sequence, now_unix_us, len(tenant))
        value = sha256(b"".join((previous, numbers, tenant, event_sha256))).digest()
        rows.append(
            LogRow(sequence, entry.tenant_id, entry.area_id, kind, event, event_sha256, previous, value, now_unix_us)
        )
        previous = value
    return rows


def lines_after(connection: sa.Connection, sequence: int, most: int | None = None) -> list[LogRow]:
    """The lines after one in their order; None means all, else so many at most."""
    table = activation_log.c
    query = sa.select(
        table.sequence, table.tenant_id, table.area_id, table.kind, table.event, table.event_sha256,
        table.previous_hash, table.hash, table.create_time_unix_us.label("event_time_unix_us"),
    ).where(table.sequence > sequence).order_by(table.sequence).limit(most)  # fmt: skip
    return [LogRow(**row._mapping) for row in connection.execute(query)]


def _kind_of(event: LedgerEvent, sequence: int) -> int:
    change = event.WhichOneof("change")
    if change is None:
        raise ValueError("an event without a change")
    if change != "conflict":
        held: int = getattr(event, change).sequence
        first_line = change == "commitment" and 0 < held <= sequence
        if held != sequence and not first_line:
            raise ValueError(f"the {change} on line {sequence} holds sequence {held}")
    return _KINDS[change]
