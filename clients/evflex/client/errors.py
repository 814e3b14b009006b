"""What can go wrong when calling the server: a small tree of exceptions that say whether to try again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a field of a request breaks.

    Attributes:
        field: Path of the field, for example ``sessions[3].max_charge_kw``.
        description: The rule, and the value that broke it.
    """

    field: str
    description: str


class EvflexError(Exception):
    """A call that failed.

    Attributes:
        message: One line for a developer.
        server: Address of the server; empty when the request was refused before it was sent.
        operation: Name of the RPC.
        code: Name of the gRPC status code, for example ``UNAVAILABLE``.
        retryable: Whether the same call may succeed later without a change.
        request_id: Identifier under which the server logged the call; empty when it gave none.
        reason: Name of the cause, for example ``CAPACITY_TAKEN``; empty when the server gave none.
        facts: What the server tells about it, by name, for example ``left_kw``.
    """

    retryable = False
    reason = ""
    facts: Mapping[str, str] = MappingProxyType({})

    def __init__(self, message: str, *, code: str, server: str = "", operation: str = "", request_id: str = "") -> None:
        self.message = message
        self.server = server
        self.operation = operation
        self.code = code
        self.request_id = request_id
        super().__init__(message)

    def __str__(self) -> str:
        """Message first, then where it comes from."""
        origin = " ".join(part for part in (self.operation, f"at {self.server}" if self.server else "") if part)
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} [{self.code}{', ' + origin if origin else ''}{request}]"


class InvalidRequestError(EvflexError):
    """The request breaks rules; the first 100 are listed.

    Attributes:
        violations: Broken rules by field.
    """

    violations: tuple[Violation, ...] = ()

    @classmethod
    def before_sending(cls, violations: list[Violation]) -> InvalidRequestError:
        """Fault found while a request was encoded, so that no server was asked."""
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        error = cls(f"{first.field}: {first.description}{more}", code="INVALID_ARGUMENT")
        error.violations = tuple(violations)
        return error


class NotFoundError(EvflexError):
    """Nothing is stored under this identifier."""


class AlreadyExistsError(EvflexError):
    """The request_id was used before with another payload."""


class ConflictError(EvflexError):
    """The stored thing is not in the expected state, for example its etag has changed."""


class NotPermittedError(EvflexError):
    """The caller is unknown or lacks the scope that the RPC requires."""


class LimitExceededError(EvflexError):
    """A limit of the server was exceeded; the message names it and what to use instead."""


class UnavailableError(EvflexError):
    """The server cannot be reached, is going down or its queue is full.

    Attributes:
        retry_after_s: How long the server asks to wait; None when it did not say.
    """

    retryable = True
    retry_after_s: float | None = None


class DeadlineExceededError(EvflexError):
    """No answer came before the deadline. Calling again with more time may succeed."""


class CallCancelledError(EvflexError):
    """The call was cancelled."""


class UnsupportedError(EvflexError):
    """The server does not know this RPC."""


class ServerError(EvflexError):
    """The server failed; its log has the cause under the request_id."""


class AuditError(EvflexError):
    """A ledger is not what was written: a line is missing, was changed, or does not follow the one before.

    Attributes:
        sequence: Line at which it shows.
    """

    def __init__(self, sequence: int, problem: str) -> None:
        self.sequence = sequence
        super().__init__(f"line {sequence}: {problem}", code="DATA_LOSS")


_BY_CODE: dict[grpc.StatusCode, type[EvflexError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.PERMISSION_DENIED: NotPermittedError,
    grpc.StatusCode.UNAUTHENTICATED: NotPermittedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}


# What grpc.aio tells, in place of the server's own status, when a call ends while a message is being sent.
_ENDED_WHILE_SENDING = "Internal error from Core"


class FinishedCall(Protocol):
    """What a failed call of either gRPC flavour tells."""

    def code(self) -> grpc.StatusCode:
        """Status code."""

    def details(self) -> str | None:
        """Message of the status."""

    def trailing_metadata(self) -> object:
        """Pairs of key and value, or None."""


def from_call(call: FinishedCall, *, server: str, operation: str, request_id: str = "") -> EvflexError:
    """Translate a failed gRPC call into an exception of this module.

    Args:
        call: The ``RpcError`` of a synchronous or asynchronous call.
        server: Address of the server.
        operation: Name of the RPC.
        request_id: Identifier sent with the call; one that the server names is taken instead.
    """
    metadata = _metadata(call.trailing_metadata())
    code = call.code()
    if code is grpc.StatusCode.INTERNAL and call.details() == _ENDED_WHILE_SENDING:
        code = grpc.StatusCode.UNAVAILABLE
    kind = _BY_CODE.get(code, ServerError)
    error = kind(
        call.details() or "no message",
        code=code.name,
        server=server,
        operation=operation,
        request_id=_text(metadata.get(REQUEST_ID_KEY)) or request_id,
    )
    _add_details(error, metadata.get(_DETAILS_KEY))
    return error


def broken_stream(what: str) -> ServerError:
    """Error of a stream of answers that breaks the contract.

    Args:
        what: What is wrong with it, as the end of a sentence.
    """
    return ServerError(f"the server's stream {what}", code="INTERNAL")


def _add_details(error: EvflexError, packed: str | bytes | None) -> None:
    """Read cause, violations, retry delay and request id out of a packed ``google.rpc.Status``."""
    if not isinstance(packed, bytes):
        return
    status = status_pb2.Status()
    try:
        status.ParseFromString(packed)
    except DecodeError:
        return
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        retry_info = error_details_pb2.RetryInfo()
        request_info = error_details_pb2.RequestInfo()
        error_info = error_details_pb2.ErrorInfo()
        if detail.Unpack(bad_request) and isinstance(error, InvalidRequestError):
            error.violations += tuple(Violation(v.field, v.description) for v in bad_request.field_violations)
        elif detail.Unpack(retry_info) and isinstance(error, UnavailableError):
            error.retry_after_s = retry_info.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(request_info):
            error.request_id = request_info.request_id or error.request_id
        elif detail.Unpack(error_info):
            error.reason, error.facts = error_info.reason, dict(error_info.metadata)


def _metadata(pairs: object) -> dict[str, str | bytes]:
    if pairs is None:
        return {}
    return {key: value for key, value in pairs}  # type: ignore[attr-defined]  # noqa: C416 - aio.Metadata has no items()


def _text(value: str | bytes | None) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value or ""
