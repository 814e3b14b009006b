"""Messages of a ledger as its store takes them, and what is always true of what it stored."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from evflex.activation.v1 import audit_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import Head, LogRow, NewEvent
from evflex.server.store.requests import RequestKey
from tests.server.support import START_S

NOW_US = START_S * 1_000_000
DAY_US = 86_400_000_000
HOUR_MS = 3_600_000
NOW_MS = START_S * 1_000
HELD = commitment_pb2.COMMITMENT_STATE_HELD
CONFIRMED = commitment_pb2.COMMITMENT_STATE_CONFIRMED
ACTIVATED = commitment_pb2.COMMITMENT_STATE_ACTIVATED
DELIVERED = commitment_pb2.COMMITMENT_STATE_DELIVERED
SUSPENDED = commitment_pb2.COMMITMENT_STATE_SUSPENDED


def resource(resource_id: str, tenant_id: str = "cpo", area_id: str = "north", kind: Any = 1) -> resource_pb2.Resource:
    return resource_pb2.Resource(
        resource_id=resource_id, kind=kind, parent_id="site", area_id=area_id, tenant_id=tenant_id, etag="e",
        aliases=[resource_pb2.Alias(scheme="vin", value="\N{GREEK SMALL LETTER ALPHA}")],
    )  # fmt: skip


def session(
    session_id: str, ev: str = "ev", charge_point: str = "cp", tenant_id: str = "cpo", end_ms: int | None = None
) -> resource_pb2.Session:
    made = resource_pb2.Session(
        session_id=session_id, ev_resource_id=ev, charge_point_resource_id=charge_point, tenant_id=tenant_id,
        area_id="north",
    )  # fmt: skip
    made.start_time.FromMilliseconds(NOW_MS - 1000 * HOUR_MS)
    if end_ms is not None:
        made.end_time.FromMilliseconds(end_ms)
    return made


def commitment(
    commitment_id: str, tenant_id: str = "agg", *, state: Any = HELD, sequence: int = 0, group: str = "",
    start_ms: int = NOW_MS, end_ms: int = NOW_MS + HOUR_MS, product_id: str = "afrr", area_id: str = "north",
) -> commitment_pb2.Commitment:  # fmt: skip
    made = commitment_pb2.Commitment(
        commitment_id=commitment_id, aggregator_id=tenant_id, tenant_id=tenant_id, product_id=product_id,
        direction="DIRECTION_UP", resource_id="ev", power_w=7_400, exclusive_group=group, state=state,
        sequence=sequence, area_id=area_id,
        etag=uuid.uuid4().hex,
    )  # fmt: skip
    made.start_time.FromMilliseconds(start_ms)
    made.end_time.FromMilliseconds(end_ms)
    return made


def policy(area_id: str, product_id: str, tenant_id: str = "tso") -> policy_pb2.ActivationPolicy:
    return policy_pb2.ActivationPolicy(
        area_id=area_id, product_id=product_id, kind="ACTIVATION_POLICY_KIND_NO_CASCADE", tenant_id=tenant_id
    )


def conflict(kept: str, suspended: str, suspended_commitment_id: str) -> audit_pb2.ResolvedConflict:
    return audit_pb2.ResolvedConflict(
        kept_aggregator_id=kept, suspended_aggregator_id=suspended, kept_commitment_id="kept",
        suspended_commitment_id=suspended_commitment_id, session_id="s",
    )  # fmt: skip


Change = (
    resource_pb2.Resource
    | resource_pb2.Session
    | commitment_pb2.Commitment
    | policy_pb2.ActivationPolicy
    | audit_pb2.ResolvedConflict
)
FIELDS: dict[type[object], str] = {
    resource_pb2.Resource: "resource",
    resource_pb2.Session: "session",
    commitment_pb2.Commitment: "commitment",
    policy_pb2.ActivationPolicy: "policy",
    audit_pb2.ResolvedConflict: "conflict",
}


def events(head: Head, changes: Iterable[Change], tenant_id: str = "who") -> list[NewEvent]:
    """Changes as a ledger hands them over: with their sequences set, a commitment's only where it is new."""
    made = []
    for sequence, change in enumerate(changes, head.sequence + 1):
        if not isinstance(change, audit_pb2.ResolvedConflict) and (
            not isinstance(change, commitment_pb2.Commitment) or change.sequence == 0
        ):
            change.sequence = sequence
        event = audit_pb2.LedgerEvent()
        getattr(event, FIELDS[type(change)]).CopyFrom(change)
        made.append(NewEvent(tenant_id, "north", event))
    return made


def append(store: LedgerStore, *changes: Change, now_unix_us: int = NOW_US) -> Head:
    with store.turn() as turn:
        turn.append(events(turn.lock_head(), changes), now_unix_us)
        return turn.lock_head()


def assert_chained(rows: Sequence[LogRow]) -> bytes:
    """What audit.proto says of a whole ledger; the last chain value."""
    previous = bytes(32)
    for sequence, row in enumerate(rows, 1):
        tenant = row.tenant_id.encode("utf-8")
        digest = hashlib.sha256(row.event).digest()
        value = hashlib.sha256(
            previous
            + sequence.to_bytes(8, "big")
            + row.event_time_unix_us.to_bytes(8, "big")
            + len(tenant).to_bytes(4, "big")
            + tenant
            + digest
        ).digest()
        assert (row.sequence, row.previous_hash, row.event_sha256, row.hash) == (sequence, previous, digest, value)
        previous = value
    return previous


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)


def request_key_of(tenant_id: str = "agg", request_id: str = "", payload: str = "p") -> RequestKey:
    return RequestKey(tenant_id, request_id or str(uuid.uuid4()), "HoldCommitments", payload)
