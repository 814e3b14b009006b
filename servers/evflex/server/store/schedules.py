"""Stored schedules: saved once a request, read by identifier, site or page, and deleted."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from google.rpc import code_pb2

from evflex.server.errors import ServiceError, not_found
from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first
from evflex.server.store.records import row_to_delete
from evflex.server.store.requests import RequestKey, common_values, find_request, log_request, may_be_uuid
from evflex.server.store.retention import Retention, prune_blocks
from evflex.server.store.tables import changes, schedule_requests, schedules


class ChangeKind(IntEnum):
    """What a change did."""

    STORED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be stored.

    Attributes:
        key: The request that made it.
        area_id: Grid area, may be empty.
        site_id: Site.
        summary: Message without rows and arrays per step.
        payload: Whole message, compressed.
        create_time_unix_us: When it was made, microseconds since 1970-01-01 UTC.
    """

    key: RequestKey
    area_id: str
    site_id: str
    summary: bytes
    payload: bytes
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A row of the store; `payload` is empty where only the summary was asked for."""

    schedule_id: str
    tenant_id: str
    area_id: str
    site_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    supersedes_schedule_id: str
    summary: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the change log."""

    sequence: int
    tenant_id: str
    area_id: str
    kind: ChangeKind
    site_id: str
    schedule_id: str
    create_time_unix_us: int


_MOST_AT_START = 20_000
_HEAD = [column for column in schedules.c if column.name != "payload"]


class ScheduleStore:
    """Schedules of all tenants; every query names the tenant."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def prune(self, now_unix_us: int) -> int:
        """Forget what is too old, a bounded number of rows; returns how many were deleted."""
        with self._database.writing() as connection:
            pruned = self._retention.prune(connection, now_unix_us, _MOST_AT_START)
            return pruned + prune_blocks(connection, now_unix_us)

    def save(self, news: Sequence[NewSchedule]) -> list[StoredSchedule | ServiceError]:
        """Store schedules in one transaction: all that can be stored, or none when the database fails.

        Returns:
            For each schedule its row, the row of an earlier request with the same id and payload, or why it was not
            stored.
        """
        with self._database.writing() as connection:
            saved = [_save_one(connection, new) for new in news]
            if news:
                self._retention.prune(connection, news[-1].create_time_unix_us)
            return saved

    def find_answer(self, key: RequestKey) -> StoredSchedule | None:
        """The schedule that an earlier request with this id and payload got.

        Raises:
            ServiceError: The id was used for another payload, or the schedule has been deleted.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)

    def get(self, tenant_id: str, schedule_id: str) -> StoredSchedule:
        """A schedule.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self._database.reading() as connection:
            row = _find(connection, tenant_id, schedule_id)
        if row is None:
            raise not_found("schedule", schedule_id)
        return row

    def get_latest(self, tenant_id: str, site_id: str) -> StoredSchedule:
        """The schedule of a site that was stored last.

        Raises:
            ServiceError: NOT_FOUND.
        """
        query = sa.select(schedules).where(schedules.c.tenant_id == tenant_id, schedules.c.site_id == site_id)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(schedules.c.sequence.desc()).limit(1)).first()
        if row is None:
            raise not_found("schedule of site", site_id)
        return _stored(row)

    def page(
        self,
        tenant_id: str,
        site_id: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
    ) -> list[StoredSchedule]:
        """At most `size` schedules, newest first, without payloads; those stored before `before_sequence` if given."""
        query = sa.select(*_HEAD).where(schedules.c.tenant_id == tenant_id)
        if site_id:
            query = query.where(schedules.c.site_id == site_id)
        rows = newest_first(self._database, query, schedules, before_sequence, size, areas)
        return [_stored(row) for row in rows]

    def latest_of_sites(self, tenant_id: str, site_ids: frozenset[str]) -> tuple[list[tuple[str, str]], int]:
        """Site and identifier of each site's latest schedule, and the change number up to which this is true.

        Args:
            tenant_id: Owner.
            site_ids: Sites wanted; empty means all.
        """
        newest = (
            sa.select(schedules.c.site_id, sa.func.max(schedules.c.sequence).label("sequence"))
            .where(schedules.c.tenant_id == tenant_id)
            .group_by(schedules.c.site_id)
            .subquery()
        )
        query = (
            sa.select(schedules.c.site_id, schedules.c.schedule_id)
            .join(newest, schedules.c.sequence == newest.c.sequence)
            .order_by(schedules.c.site_id)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            sequence = connection.execute(sa.select(sa.func.max(changes.c.sequence))).scalar() or 0
        wanted = [(row.site_id, row.schedule_id) for row in rows if not site_ids or row.site_id in site_ids]
        return wanted, sequence

    def delete(
        self,
        key: RequestKey,
        schedule_id: str,
        etag: str,
        now_unix_us: int,
        *,
        may_use_area: Callable[[str], bool],
        check_only: bool,
    ) -> None:
        """Delete a schedule; repeating the request succeeds without effect.

        Args:
            key: The request.
            schedule_id: What to delete.
            etag: When not empty, the etag that the schedule must have.
            now_unix_us: Time of the change, microseconds since 1970-01-01 UTC.
            may_use_area: Tells of an area_id whether the caller may touch things there.
            check_only: Only raise what a deletion would raise.

        Raises:
            ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
        """
        with self._database.writing() as connection:
            row = row_to_delete(
                connection, schedule_requests, key, "schedule", schedule_id,
                lambda: _find(connection, key.tenant_id, schedule_id), etag,
                may_use_area=may_use_area, check_only=check_only,
            )  # fmt: skip
            if row is None:
                return
            connection.execute(schedules.delete().where(schedules.c.schedule_id == schedule_id))
            common = common_values(key.tenant_id, row.area_id, now_unix_us)
            _log_change(connection, ChangeKind.DELETED, row.site_id, schedule_id, common)
            _log_request(connection, key, schedule_id, common)
            self._retention.prune(connection, now_unix_us)

    def first_sequence(self) -> int:
        """Number of the oldest change that is kept, 0 where there is none."""
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.min(changes.c.sequence))).scalar() or 0

    def last_sequence(self) -> int:
        """Number of the newest change, 0 where there is none."""
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.func.max(changes.c.sequence))).scalar() or 0

    def changes_after(self, sequence: int, most: int) -> list[Change]:
        """At most `most` changes of all tenants after `sequence`, oldest first."""
        query = sa.select(changes).where(changes.c.sequence > sequence).order_by(changes.c.sequence).limit(most)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Change(
                row.sequence, row.tenant_id, row.area_id, ChangeKind(row.kind), row.site_id, row.schedule_id,
                row.create_time_unix_us,
            )
            for row in rows
        ]  # fmt: skip


def _save_one(connection: sa.Connection, new: NewSchedule) -> StoredSchedule | ServiceError:
    try:
        earlier = _find_answer(connection, new.key)
    except ServiceError as conflict:
        return conflict
    if earlier is not None:
        return earlier
    tenant_id = new.key.tenant_id
    supersedes = connection.execute(
        sa.select(schedules.c.schedule_id)
        .where(schedules.c.tenant_id == tenant_id, schedules.c.site_id == new.site_id)
        .order_by(schedules.c.sequence.desc())
        .limit(1)
    ).scalar()
    schedule_id = str(uuid.uuid4())
    common = common_values(tenant_id, new.area_id, new.create_time_unix_us)
    row: dict[str, Any] = {
        **common,
        "schedule_id": schedule_id,
        "sequence": _log_change(connection, ChangeKind.STORED, new.site_id, schedule_id, common),
        "site_id": new.site_id,
        "supersedes_schedule_id": supersedes or "",
        "summary": new.summary,
        "payload": new.payload,
    }
    connection.execute(schedules.insert(), row)
    _log_request(connection, new.key, schedule_id, common)
    return StoredSchedule(**row)


def _find_answer(connection: sa.Connection, key: RequestKey) -> StoredSchedule | None:
    request = find_request(connection, schedule_requests, key)
    if request is None:
        return None
    schedule_id = str(request.schedule_id)
    row = _find(connection, key.tenant_id, schedule_id)
    if row is None:
        raise ServiceError(code_pb2.NOT_FOUND, "SCHEDULE_DELETED", "the schedule of this request_id has been deleted")
    return row


def _find(connection: sa.Connection, tenant_id: str, schedule_id: str) -> StoredSchedule | None:
    if not may_be_uuid(schedule_id):
        return None
    query = sa.select(schedules).where(schedules.c.tenant_id == tenant_id, schedules.c.schedule_id == schedule_id)
    row = connection.execute(query).first()
    return None if row is None else _stored(row)


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredSchedule:
    values: dict[str, Any] = {"payload": b"", **row._mapping}
    return StoredSchedule(**values)


def _log_change(
    connection: sa.Connection, kind: ChangeKind, site_id: str, schedule_id: str, common: dict[str, object]
) -> int:
    row = {**common, "kind": int(kind), "site_id": site_id, "schedule_id": schedule_id}
    (sequence,) = connection.execute(changes.insert().returning(changes.c.sequence), row).one()
    return int(sequence)


def _log_request(connection: sa.Connection, key: RequestKey, schedule_id: str, common: dict[str, object]) -> None:
    log_request(connection, schedule_requests, key, {**common, "schedule_id": schedule_id})
