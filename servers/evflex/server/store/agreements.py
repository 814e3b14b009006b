"""Stored agreements: a head that changes, and terms and audit to which is only ever added."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import sqlalchemy as sa

from evflex.server.store.paging import next_sequence
from evflex.server.store.requests import common_values, may_be_uuid, new_etag
from evflex.server.store.tables import agreement_events, agreement_versions, agreements


class AgreementState(IntEnum):
    """Life of an agreement; values as in the public contract."""

    PROPOSED = 1
    ACTIVE = 2
    ENDED = 3


class AgreementAction(IntEnum):
    """What a party did; values as in the public contract."""

    PROPOSED = 1
    ACCEPTED = 2
    ENDED = 3


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Head of an agreement; `tenant_id` is the system operator."""

    agreement_id: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    cpo_party: str
    hub_id: str
    transformer_id: str
    state: int
    active_version: int
    last_version: int

    @property
    def parties(self) -> tuple[str, str]:
        """System operator and charge point operator."""
        return self.tenant_id, self.cpo_party

    @property
    def shown_version(self) -> int:
        """Version of the terms in force, or the last where none is."""
        return self.active_version if self.state == AgreementState.ACTIVE else self.last_version

    @property
    def pending_version(self) -> int:
        """Version that is proposed and not accepted yet, 0 where there is none."""
        waits = self.state != AgreementState.ENDED and self.last_version > self.active_version
        return self.last_version if waits else 0


@dataclass(frozen=True, slots=True)
class TermsRow:
    """A version of an agreement's terms."""

    version: int
    proposed_by: str
    terms: bytes


@dataclass(frozen=True, slots=True)
class EventRow:
    """A line of an agreement's audit."""

    action: int
    party: str
    version: int
    request_id: str
    create_time_unix_us: int


class AgreementRows:
    """Agreements as one transaction sees and changes them."""

    def __init__(self, connection: sa.Connection) -> None:
        """Work in the transaction of `connection`."""
        self._connection = connection

    def find(self, agreement_id: str) -> AgreementRow | None:
        """Head of an agreement."""
        if not may_be_uuid(agreement_id):
            return None
        query = sa.select(agreements).where(agreements.c.agreement_id == agreement_id)
        row = self._connection.execute(query).first()
        return None if row is None else AgreementRow(**row._mapping)

    def terms(self, agreement_id: str, version: int) -> TermsRow | None:
        """A version of its terms."""
        table = agreement_versions.c
        query = sa.select(table.version, table.proposed_by, table.terms).where(
            table.agreement_id == agreement_id, table.version == version
        )
        row = self._connection.execute(query).first()
        return None if row is None else TermsRow(**row._mapping)

    def events(self, agreement_id: str) -> list[EventRow]:
        """Its audit, oldest first."""
        table = agreement_events.c
        query = (
            sa.select(table.action, table.party, table.version, table.request_id, table.create_time_unix_us)
            .where(table.agreement_id == agreement_id)
            .order_by(table.event_index)
        )
        return [EventRow(**row._mapping) for row in self._connection.execute(query)]

    def active_of_hub(self, tenant_id: str, hub_id: str) -> list[tuple[AgreementRow, bytes]]:
        """Active agreements of a system operator's hub, each with its terms in force."""
        query = sa.select(agreements, agreement_versions.c.terms).join(agreement_versions, _IN_FORCE)
        query = query.where(
            agreements.c.tenant_id == tenant_id,
            agreements.c.hub_id == hub_id,
            agreements.c.state == int(AgreementState.ACTIVE),
        )
        return [(_head(row), row.terms) for row in self._connection.execute(query)]

    def active_among(self, tenant_id: str, agreement_ids: Collection[str]) -> list[tuple[AgreementRow, bytes]]:
        """Those of some agreements that are a system operator's and active, each with its terms in force."""
        query = sa.select(agreements, agreement_versions.c.terms).join(agreement_versions, _IN_FORCE)
        query = query.where(
            agreements.c.agreement_id.in_([name for name in agreement_ids if may_be_uuid(name)]),
            agreements.c.tenant_id == tenant_id,
            agreements.c.state == int(AgreementState.ACTIVE),
        )
        return [(_head(row), row.terms) for row in self._connection.execute(query)]

    def active_of_cpo(self, cpo_party: str) -> list[AgreementRow]:
        """Active agreements of a charge point operator."""
        query = sa.select(agreements).where(
            agreements.c.cpo_party == cpo_party, agreements.c.state == int(AgreementState.ACTIVE)
        )
        return [AgreementRow(**row._mapping) for row in self._connection.execute(query)]

    def create(
        self, parties: tuple[str, str], area_id: str, hub_id: str, transformer_id: str, now_unix_us: int
    ) -> AgreementRow:
        """Store the head of an agreement whose version 1 is proposed; its terms are added next."""
        dso_party, cpo_party = parties
        values: dict[str, Any] = {
            **common_values(dso_party, area_id, now_unix_us),
            "agreement_id": str(uuid.uuid4()), "sequence": next_sequence(self._connection, agreements),
            "cpo_party": cpo_party, "hub_id": hub_id, "transformer_id": transformer_id,
            "state": int(AgreementState.PROPOSED), "active_version": 0, "last_version": 1,
        }  # fmt: skip
        self._connection.execute(agreements.insert(), values)
        return AgreementRow(**values)

    def change(
        self,
        row: AgreementRow,
        now_unix_us: int,
        *,
        state: AgreementState | None = None,
        active_version: int | None = None,
        last_version: int | None = None,
    ) -> AgreementRow:
        """Change a head; what is not given stays."""
        changed = replace(
            row,
            version=row.version + 1,
            etag=new_etag(),
            update_time_unix_us=now_unix_us,
            state=row.state if state is None else int(state),
            active_version=row.active_version if active_version is None else active_version,
            last_version=row.last_version if last_version is None else last_version,
        )
        values = {name: getattr(changed, name) for name in _CHANGING}
        query = agreements.update().where(agreements.c.agreement_id == row.agreement_id)
        self._connection.execute(query.values(values))
        return changed

    def add_terms(self, row: AgreementRow, terms: TermsRow, now_unix_us: int) -> None:
        """Add a version of the terms."""
        values = {
            **common_values(row.tenant_id, row.area_id, now_unix_us),
            "agreement_id": row.agreement_id, "version": terms.version, "proposed_by": terms.proposed_by,
            "terms": terms.terms,
        }  # fmt: skip
        self._connection.execute(agreement_versions.insert(), values)

    def add_event(self, row: AgreementRow, event: EventRow) -> None:
        """Add a line to the audit."""
        table = agreement_events.c
        last = sa.select(sa.func.max(table.event_index)).where(table.agreement_id == row.agreement_id)
        values = {
            **common_values(row.tenant_id, row.area_id, event.create_time_unix_us),
            "agreement_id": row.agreement_id, "event_index": (self._connection.execute(last).scalar() or 0) + 1,
            "action": event.action, "party": event.party, "version": event.version, "request_id": event.request_id,
        }  # fmt: skip
        self._connection.execute(agreement_events.insert(), values)


def agreements_of(party: str, *, hub_id: str = "", transformer_id: str = "", state: int = 0) -> sa.Select[Any]:
    """Query of a party's agreements, each with its shown terms; empty arguments mean all. Rows are for `shown_row`."""
    query = sa.select(agreements, agreement_versions.c.proposed_by, agreement_versions.c.terms)
    query = query.join(agreement_versions, _SHOWN).where(
        sa.or_(agreements.c.tenant_id == party, agreements.c.cpo_party == party)
    )
    if hub_id:
        query = query.where(agreements.c.hub_id == hub_id)
    if transformer_id:
        query = query.where(agreements.c.transformer_id == transformer_id)
    if state:
        query = query.where(agreements.c.state == state)
    return query


def shown_row(row: sa.Row[Any]) -> tuple[AgreementRow, TermsRow]:
    """Head and terms of a row of `agreements_of`."""
    head = _head(row)
    return head, TermsRow(head.shown_version, row.proposed_by, row.terms)


_CHANGING = ("version", "etag", "update_time_unix_us", "state", "active_version", "last_version")
_IN_FORCE = sa.and_(
    agreement_versions.c.agreement_id == agreements.c.agreement_id,
    agreement_versions.c.version == agreements.c.active_version,
)
_SHOWN = sa.and_(
    agreement_versions.c.agreement_id == agreements.c.agreement_id,
    agreement_versions.c.version
    == sa.case(
        (agreements.c.state == int(AgreementState.ACTIVE), agreements.c.active_version),
        else_=agreements.c.last_version,
    ),
)
_HEAD: Iterable[str] = tuple(column.name for column in agreements.c)


def _head(row: sa.Row[Any]) -> AgreementRow:
    return AgreementRow(**{name: row._mapping[name] for name in _HEAD})
