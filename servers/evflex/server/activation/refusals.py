"""Refusals that several requests of the ledger share."""

from __future__ import annotations

from google.rpc import code_pb2

from evflex.server.errors import ServiceError


def refused(reason: str, message: str, **metadata: str) -> ServiceError:
    """FAILED_PRECONDITION: the ledger stands against it."""
    return ServiceError(code_pb2.FAILED_PRECONDITION, reason, message, metadata=metadata)


def not_owner(what: str, name: str) -> ServiceError:
    """PERMISSION_DENIED for a thing of another tenant that the caller may see."""
    message = f"the {what} {name[:100]!r} belongs to another tenant"
    return ServiceError(code_pb2.PERMISSION_DENIED, "NOT_OWNER", message)
