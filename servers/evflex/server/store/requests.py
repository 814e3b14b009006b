"""Requests that were answered, so that a repeated one gets the same answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from google.rpc import code_pb2

from evflex.server.errors import ServiceError
from evflex.server.unique import new_hex


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a repeated request recognisable.

    Attributes:
        tenant_id: Whose request.
        request_id: UUID chosen by the caller, in lower case.
        method: Name of the RPC.
        payload_sha256: Digest of the request, as hexadecimal digits.
    """

    tenant_id: str
    request_id: str
    method: str
    payload_sha256: str

    def is_repeat_of(self, method: str, payload_sha256: str) -> bool:
        """Whether an earlier request with this id was the same one."""
        return (method, payload_sha256) == (self.method, self.payload_sha256)


def request_key(tenant_id: str, method: str, request_id: str, request: Message) -> RequestKey:
    """What makes a repeat of this request recognisable."""
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
    return RequestKey(tenant_id, request_id.lower(), method, digest)


def find_request(connection: sa.Connection, table: sa.Table, key: RequestKey) -> sa.Row[Any] | None:
    """Row of an earlier request with this id and payload, or None.

    Raises:
        ServiceError: ALREADY_EXISTS, the id was used for another payload.
    """
    query = sa.select(table).where(table.c.tenant_id == key.tenant_id, table.c.request_id == key.request_id)
    row = connection.execute(query).first()
    if row is not None and not key.is_repeat_of(row.method, row.payload_sha256):
        raise request_id_reused()
    return row


def request_id_reused() -> ServiceError:
    """ALREADY_EXISTS for an id that came with another payload."""
    return ServiceError(code_pb2.ALREADY_EXISTS, "REQUEST_ID_REUSED", "request_id was used before with another payload")


def log_request(connection: sa.Connection, table: sa.Table, key: RequestKey, values: dict[str, object]) -> None:
    """Remember that a request was answered with what `values` say."""
    row = {"request_id": key.request_id, "method": key.method, "payload_sha256": key.payload_sha256, **values}
    connection.execute(table.insert(), row)


def common_values(tenant_id: str, area_id: str, now_unix_us: int) -> dict[str, object]:
    """What every row of a thing that is new has."""
    return {
        "tenant_id": tenant_id,
        "area_id": area_id,
        "version": 1,
        "etag": new_etag(),
        "create_time_unix_us": now_unix_us,
        "update_time_unix_us": now_unix_us,
    }


def new_etag() -> str:
    """An etag that no other version has."""
    return new_hex()


def check_etag(what: str, asked: str, present: str) -> None:
    """Raise ABORTED where another etag was asked for."""
    if asked and asked != present:
        raise ServiceError(
            code_pb2.ABORTED, "ETAG_MISMATCH", f"the {what} has changed: its etag is another",
            metadata={"etag": present},
        )  # fmt: skip


def may_be_uuid(text: str) -> bool:
    """Whether the database can be asked: identifiers are UUIDs, other text may hold what no database takes."""
    return len(text) == 36 and text.isascii() and text.replace("-", "").isalnum()


def may_be_name(text: str) -> bool:
    """Whether the database can be asked for a name that a caller chose."""
    return 0 < len(text) <= 256 and "\0" not in text
