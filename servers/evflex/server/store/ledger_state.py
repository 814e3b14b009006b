"""Writes the present state that events of the activation ledger lead to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.rpc import code_pb2
from sqlalchemy.exc import IntegrityError

from evflex.activation.v1.audit_pb2 import ResolvedConflict
from evflex.activation.v1.commitment_pb2 import COMMITMENT_STATE_ACTIVATED, Commitment
from evflex.activation.v1.policy_pb2 import ActivationPolicy
from evflex.activation.v1.resource_pb2 import Resource, Session
from evflex.server.errors import ServiceError
from evflex.server.messages import unix_ms
from evflex.server.store.activation_tables import (
    activation_commitments,
    activation_conflicts,
    activation_exclusive_rights,
    activation_policies,
    activation_resources,
    activation_sessions,
)
from evflex.server.store.ledger_rows import NewEvent
from evflex.server.store.many_rows import ManyRows, Values, insert_of, upsert_of

_EXCLUSION_VIOLATION = "23P01"


def write_state(connection: sa.Connection, entries: Sequence[NewEvent], first_sequence: int, now_unix_us: int) -> None:
    """Bring the tables of the present state to where events lead.

    Args:
        connection: Writes.
        entries: Events in their order.
        first_sequence: Number of the first; the others follow.
        now_unix_us: When they are written.

    Raises:
        ServiceError: FAILED_PRECONDITION, EXCLUSIVE_RIGHT_TAKEN.
    """
    rows: dict[str, list[Values]] = defaultdict(list)
    exclusive: dict[str, Commitment] = {}
    for sequence, entry in enumerate(entries, first_sequence):
        change = entry.event.WhichOneof("change")
        assert change is not None
        message = getattr(entry.event, change)
        values = _STATE[change].values(message)
        if change == "conflict":
            values |= {"sequence": sequence, "tenant_id": entry.tenant_id, "area_id": entry.area_id, "etag": ""}
        else:
            values |= {
                "sequence": message.sequence, "tenant_id": message.tenant_id, "area_id": message.area_id,
                "etag": message.etag,
            }  # fmt: skip
        values |= {"version": 1, "create_time_unix_us": now_unix_us, "update_time_unix_us": now_unix_us}
        values["payload"] = message.SerializeToString()
        rows[change].append(values)
        if change == "commitment" and message.exclusive_group:
            exclusive[message.commitment_id] = message
    for change, many in rows.items():
        _STATE[change].rows.insert(connection, many)
    if exclusive:
        _write_rights(connection, list(exclusive.values()), now_unix_us)


def _write_rights(connection: sa.Connection, commitments: list[Commitment], now_unix_us: int) -> None:
    # rights that end are taken back before others are given, so that one can pass from hand to hand in a batch
    connection.execute(_DELETE_RIGHT, [{"commitment_id": commitment.commitment_id} for commitment in commitments])
    given: list[Values] = [
        {
            "commitment_id": commitment.commitment_id, "group_name": commitment.exclusive_group,
            "start_unix_ms": unix_ms(commitment.start_time), "end_unix_ms": unix_ms(commitment.end_time),
            "tenant_id": commitment.tenant_id, "area_id": commitment.area_id, "version": 1, "etag": commitment.etag,
            "create_time_unix_us": now_unix_us, "update_time_unix_us": now_unix_us,
        }
        for commitment in commitments
        if commitment.state == COMMITMENT_STATE_ACTIVATED
    ]  # fmt: skip
    try:
        _RIGHTS.insert(connection, given)
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", None) != _EXCLUSION_VIOLATION:
            raise
        raise ServiceError(
            code_pb2.FAILED_PRECONDITION, "EXCLUSIVE_RIGHT_TAKEN",
            "another commitment of the exclusive group is active at that time",
        ) from error  # fmt: skip


def _resource(message: Resource) -> Values:
    return {"resource_id": message.resource_id, "kind": message.kind, "parent_id": message.parent_id}


def _session(message: Session) -> Values:
    return {
        "session_id": message.session_id, "ev_resource_id": message.ev_resource_id,
        "charge_point_resource_id": message.charge_point_resource_id, "start_unix_ms": unix_ms(message.start_time),
        "end_unix_ms": unix_ms(message.end_time) if message.HasField("end_time") else None,
    }  # fmt: skip


def _commitment(message: Commitment) -> Values:
    return {
        "commitment_id": message.commitment_id, "state": message.state, "product_id": message.product_id,
        "start_unix_ms": unix_ms(message.start_time), "end_unix_ms": unix_ms(message.end_time),
    }  # fmt: skip


def _policy(message: ActivationPolicy) -> Values:
    return {"product_id": message.product_id}


def _conflict(message: ResolvedConflict) -> Values:
    return {
        "kept_tenant_id": message.kept_aggregator_id, "suspended_tenant_id": message.suspended_aggregator_id,
        "suspended_commitment_id": message.suspended_commitment_id,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind of change is kept: the columns of its own, and the rows."""

    values: Callable[[Any], Values]
    rows: ManyRows


_STATE = {
    "resource": _Kind(_resource, upsert_of(activation_resources)),
    "session": _Kind(_session, upsert_of(activation_sessions)),
    # what an index holds and never changes is left out, or each change would write the index again
    "commitment": _Kind(_commitment, upsert_of(activation_commitments, "tenant_id", "sequence")),
    "policy": _Kind(_policy, upsert_of(activation_policies)),
    "conflict": _Kind(_conflict, insert_of(activation_conflicts)),
}
_RIGHTS = insert_of(activation_exclusive_rights)
_DELETE_RIGHT = sa.text("DELETE FROM activation_exclusive_rights WHERE commitment_id = :commitment_id")
