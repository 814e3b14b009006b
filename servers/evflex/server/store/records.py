"""What stores of things that a request makes share: the answer of an earlier request, and deletion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from google.rpc import code_pb2

from evflex.server.errors import ServiceError, not_found
from evflex.server.store.requests import RequestKey, check_etag, common_values, find_request, log_request


class Record(Protocol):
    """A row that has a place and a version."""

    @property
    def area_id(self) -> str:
        """Grid area."""

    @property
    def etag(self) -> str:
        """Changes with every change."""


Row = TypeVar("Row")
Kept = TypeVar("Kept", bound=Record)


def earlier_answer(
    connection: sa.Connection, requests: sa.Table, key: RequestKey, what: str, find: Callable[[str], Row | None]
) -> Row | None:
    """The thing that an earlier request with this id and payload made, None where there is no such request.

    Args:
        connection: Reads.
        requests: Log of requests.
        key: The request.
        what: Name of the thing.
        find: Its row by identifier.

    Raises:
        ServiceError: The id was used for another payload, or the thing has been deleted.
    """
    request: sa.Row[Any] | None = find_request(connection, requests, key)
    if request is None:
        return None
    row = find(str(request.resource_id))
    if row is None:
        reason = f"{what.upper()}_DELETED"
        raise ServiceError(code_pb2.NOT_FOUND, reason, f"the {what} of this request_id has been deleted")
    return row


def row_to_delete(
    connection: sa.Connection, requests: sa.Table, key: RequestKey, what: str, name: str,
    find: Callable[[], Kept | None], etag: str, *, may_use_area: Callable[[str], bool], check_only: bool,
) -> Kept | None:  # fmt: skip
    """The row that a request deletes now; None where it did so before, or only checks.

    Args:
        connection: Writes.
        requests: Log of requests.
        key: The request.
        what: Name of the thing.
        name: Its identifier.
        find: Its row, None where the key's tenant has none.
        etag: When not empty, the etag that it must have.
        may_use_area: Tells of an area_id whether the caller may touch things there.
        check_only: Only raise what a deletion would raise.

    Raises:
        ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
    """
    if find_request(connection, requests, key) is not None:
        return None
    row = find()
    if row is None or not may_use_area(row.area_id):
        raise not_found(what, name)
    check_etag(what, etag, row.etag)
    return None if check_only else row


def log_deletion(
    connection: sa.Connection, requests: sa.Table, key: RequestKey, area_id: str, name: str, now_unix_us: int
) -> None:
    """Remember that a request deleted a thing."""
    common = common_values(key.tenant_id, area_id, now_unix_us)
    log_request(connection, requests, key, {**common, "resource_id": name, "answer": b""})
