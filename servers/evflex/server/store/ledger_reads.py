"""What is read of the activation ledger beside its turns: its state as a whole, single things, pages, and the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from evflex.activation.v1.audit_pb2 import ResolvedConflict
from evflex.activation.v1.commitment_pb2 import (
    COMMITMENT_STATE_ACTIVATED,
    COMMITMENT_STATE_CONFIRMED,
    COMMITMENT_STATE_HELD,
    COMMITMENT_STATE_SUSPENDED,
    Commitment,
)
from evflex.activation.v1.policy_pb2 import ActivationPolicy
from evflex.activation.v1.resource_pb2 import Resource, Session
from evflex.server.store.activation_tables import (
    activation_commitments,
    activation_conflicts,
    activation_head,
    activation_policies,
    activation_resources,
    activation_sessions,
)
from evflex.server.store.database import Database
from evflex.server.store.ledger_rows import ConflictRow, Head, LedgerState, LogRow, lines_after
from evflex.server.store.paging import newest_first
from evflex.server.store.requests import may_be_name

_DAY_MS = 86_400_000
_OPEN_STATES = (
    COMMITMENT_STATE_HELD, COMMITMENT_STATE_CONFIRMED, COMMITMENT_STATE_ACTIVATED, COMMITMENT_STATE_SUSPENDED,
)  # fmt: skip
# Lines that are in memory at a time when the log is read; a large pool takes some hundred kilobytes.
_LINES_AT_ONCE = 200
# Less than any database takes in one statement.
_NAMES_AT_ONCE = 1_000


class LedgerReads:
    """The ledger of all tenants as it is read; who may see what is for the caller of these methods to check."""

    def __init__(self, database: Database) -> None:
        """Read from `database`."""
        self._database = database

    def load(self, now_unix_us: int) -> LedgerState:
        """One state of the ledger, with all that what is to come can depend on."""
        with self._database.reading() as connection:
            head = connection.execute(sa.select(activation_head.c.sequence, activation_head.c.hash)).one()
            resources = _payloads(connection, activation_resources)
            table = activation_commitments.c
            query = (
                sa.select(table.payload, table.start_unix_ms)
                .where(table.state.in_(_OPEN_STATES))
                .order_by(table.sequence)
            )
            rows = connection.execute(query).all()
            needed_from_ms = min((row[1] for row in rows), default=now_unix_us // 1_000)
            needed_from_ms = min(needed_from_ms, now_unix_us // 1_000 - _DAY_MS)
            end = activation_sessions.c.end_unix_ms
            # not in order: SQLite would rather read all there ever were than sort these
            query = sa.select(activation_sessions.c.payload).where(sa.or_(end.is_(None), end > needed_from_ms))
            sessions = [Session.FromString(row[0]) for row in connection.execute(query)]
            policies = _payloads(connection, activation_policies)
        return LedgerState(
            Head(head[0], bytes(head[1])),
            [Resource.FromString(payload) for payload in resources],
            sorted(sessions, key=lambda session: session.sequence),
            [Commitment.FromString(row[0]) for row in rows],
            [ActivationPolicy.FromString(payload) for payload in policies],
        )

    def head(self) -> int:
        """Number of the last line."""
        with self._database.reading() as connection:
            sequence: int = connection.execute(sa.select(activation_head.c.sequence)).scalar_one()
        return sequence

    def session(self, session_id: str) -> Session | None:
        """A session."""
        payload = self._payload(activation_sessions, activation_sessions.c.session_id, session_id)
        return None if payload is None else Session.FromString(payload)

    def session_names(self, names: Sequence[str]) -> set[str]:
        """Those of some names that sessions have, or had."""
        found: set[str] = set()
        table = activation_sessions.c
        with self._database.reading() as connection:
            for first in range(0, len(names), _NAMES_AT_ONCE):
                some = names[first : first + _NAMES_AT_ONCE]
                query = sa.select(table.session_id).where(table.session_id.in_(some))
                found.update(connection.execute(query).scalars())
        return found

    def commitment(self, commitment_id: str) -> Commitment | None:
        """A commitment."""
        payload = self._payload(activation_commitments, activation_commitments.c.commitment_id, commitment_id)
        return None if payload is None else Commitment.FromString(payload)

    def resources_page(
        self,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
        *,
        area_id: str = "",
        kind: int = 0,
        tenant_id: str = "",
    ) -> list[Resource]:
        """At most `size` resources, the one changed last first; those changed before `before_sequence` if given.

        Args:
            before_sequence: Only those of a lower sequence.
            size: Resources on the page.
            areas: Only in these; None means all.
            area_id: Only in this area; empty means all.
            kind: Only of this kind; 0 means all.
            tenant_id: Only those that this tenant registered; empty means all.
        """
        table = activation_resources
        query = sa.select(table.c.payload)
        if area_id:
            query = query.where(table.c.area_id == area_id)
        if kind:
            query = query.where(table.c.kind == kind)
        if tenant_id:
            query = query.where(table.c.tenant_id == tenant_id)
        return [Resource.FromString(row[0]) for row in self._page(query, table, before_sequence, size, areas)]

    def sessions_page(
        self,
        tenant_id: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
        *,
        resource_id: str = "",
        open_only: bool = False,
    ) -> list[Session]:
        """At most `size` sessions that a tenant opened, or whose vehicle or charge point it registered.

        Args:
            tenant_id: The tenant.
            before_sequence: Only those of a lower sequence.
            size: Sessions on the page, the one changed last first.
            areas: Only in these; None means all.
            resource_id: Only of this vehicle or charge point; empty means all.
            open_only: Only those that are open.
        """
        table = activation_sessions
        sides = (table.c.ev_resource_id, table.c.charge_point_resource_id)
        own = sa.select(activation_resources.c.resource_id).where(activation_resources.c.tenant_id == tenant_id)
        query = sa.select(table.c.payload)
        query = query.where(sa.or_(table.c.tenant_id == tenant_id, *(side.in_(own) for side in sides)))
        if resource_id:
            query = query.where(sa.or_(*(side == resource_id for side in sides)))
        if open_only:
            query = query.where(table.c.end_unix_ms.is_(None))
        return [Session.FromString(row[0]) for row in self._page(query, table, before_sequence, size, areas)]

    def commitments_page(
        self,
        tenant_id: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
        *,
        product_id: str = "",
        state: int = 0,
        ends_after_unix_ms: int | None = None,
    ) -> list[Commitment]:
        """At most `size` commitments of an aggregator, the one held last first.

        Args:
            tenant_id: The aggregator.
            before_sequence: Only those of a lower sequence.
            size: Commitments on the page.
            areas: Only in these; None means all.
            product_id: Only of this product; empty means all.
            state: Only in this state; 0 means all.
            ends_after_unix_ms: Only those that end after this; None means all.
        """
        table = activation_commitments
        query = sa.select(table.c.payload).where(table.c.tenant_id == tenant_id)
        if product_id:
            query = query.where(table.c.product_id == product_id)
        if state:
            query = query.where(table.c.state == state)
        if ends_after_unix_ms is not None:
            query = query.where(table.c.end_unix_ms > ends_after_unix_ms)
        return [Commitment.FromString(row[0]) for row in self._page(query, table, before_sequence, size, areas)]

    def policies_page(
        self, before_sequence: int | None, size: int, areas: frozenset[str] | None
    ) -> list[ActivationPolicy]:
        """At most `size` policies, the one changed last first: those in `areas`, and those of all areas."""
        areas = None if areas is None else areas | {""}
        query = sa.select(activation_policies.c.payload)
        rows = self._page(query, activation_policies, before_sequence, size, areas)
        return [ActivationPolicy.FromString(row[0]) for row in rows]

    def conflicts_after(self, sequence: int, tenant_id: str, most: int = 1_000) -> list[ConflictRow]:
        """The first `most` conflicts after a line that an aggregator is part of, in the order of their lines."""
        query = _conflicts_of(tenant_id).where(activation_conflicts.c.sequence > sequence)
        return self._conflicts(query.limit(most))

    def open_conflicts(self, tenant_id: str) -> list[ConflictRow]:
        """Conflicts that an aggregator is part of and whose commitment is still suspended, in the order of lines."""
        table = activation_commitments.c
        suspended = sa.select(table.commitment_id).where(table.state == COMMITMENT_STATE_SUSPENDED)
        query = _conflicts_of(tenant_id).where(activation_conflicts.c.suspended_commitment_id.in_(suspended))
        return self._conflicts(query)

    def audit(self, from_sequence: int, most: int | None = None) -> Iterator[LogRow]:
        """Lines of the ledger in their order, read some at a time, so that no transaction waits for the caller.

        Args:
            from_sequence: Number of the first.
            most: Lines at most; None means all that there are when their turn comes.
        """
        after, left = from_sequence - 1, most
        while left is None or left > 0:
            size = _LINES_AT_ONCE if left is None else min(left, _LINES_AT_ONCE)
            with self._database.reading() as connection:
                rows = lines_after(connection, after, size)
            yield from rows
            if len(rows) < size:
                return
            after = rows[-1].sequence
            left = None if left is None else left - size

    def _payload(self, table: sa.Table, key: sa.Column[Any], name: str) -> bytes | None:
        if not may_be_name(name):
            return None
        with self._database.reading() as connection:
            payload = connection.execute(sa.select(table.c.payload).where(key == name)).scalar()
        return None if payload is None else bytes(payload)

    def _page(
        self,
        query: sa.Select[Any],
        table: sa.Table,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
    ) -> list[sa.Row[Any]]:
        return newest_first(self._database, query, table, before_sequence, size, areas)

    def _conflicts(self, query: sa.Select[Any]) -> list[ConflictRow]:
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [ConflictRow(row.sequence, row.area_id, ResolvedConflict.FromString(row.payload)) for row in rows]


def _conflicts_of(tenant_id: str) -> sa.Select[Any]:
    table = activation_conflicts.c
    mine = sa.or_(table.kept_tenant_id == tenant_id, table.suspended_tenant_id == tenant_id)
    return sa.select(table.sequence, table.area_id, table.payload).where(mine).order_by(table.sequence)


def _payloads(connection: sa.Connection, table: sa.Table) -> list[bytes]:
    query = sa.select(table.c.payload).order_by(table.c.sequence)
    return list(connection.execute(query).scalars())
