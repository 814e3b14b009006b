"""The one error type of the server, and how it looks on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from evflex.common.v1 import fault_pb2
from evflex.engine.validation import InvalidProblemError, Violation

ERROR_DOMAIN = "evflex"
MAX_VIOLATIONS = 100
# Details travel in trailers, of which clients accept 8 KiB unless told otherwise; the rest is for message and overhead.
DETAIL_BUDGET_BYTES = 6_400
_SHORTEST_DESCRIPTION = 24


class ServiceError(RuntimeError):
    """A refusal or failure that the caller is told about.

    Attributes:
        code: google.rpc.Code.
        reason: Constant for programs, such as `QUEUE_FULL`.
        message: One line for a developer; holds nothing that the caller did not send or may not know.
        violations: Broken rules, the first 100 of them.
        metadata: Figures for programs, such as the name of a limit.
        retry_delay_s: When a retry makes sense; None when it does not.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_delay_s: float | None = None,
    ) -> None:
        """Keep the first 100 violations."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.violations = tuple(violations[:MAX_VIOLATIONS])
        self.metadata = dict(metadata or {})
        self.retry_delay_s = retry_delay_s

    def status(self, request_id: str = "") -> status_pb2.Status:
        """The error as a google.rpc.Status with its details."""
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason, domain=ERROR_DOMAIN, metadata=self.metadata)
        ]
        if self.retry_delay_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(round(self.retry_delay_s * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if request_id:
            details.append(error_details_pb2.RequestInfo(request_id=request_id))
        if self.violations:
            details.append(_bad_request(self.violations))
        status = status_pb2.Status(code=self.code, message=self.message)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def fault(self) -> fault_pb2.Fault:
        """The error of one item inside a stream."""
        rows = [fault_pb2.FaultViolation(field=v.field, description=v.description) for v in self.violations]
        return fault_pb2.Fault(code=self.code, message=f"{self.reason}: {self.message}", violations=rows)


def invalid(violations: Sequence[Violation], total: int | None = None) -> ServiceError:
    """INVALID_ARGUMENT for broken rules, `total` of them where only the first are known."""
    total = len(violations) if total is None else total
    first = violations[0]
    more = f" (and {total - 1} more)" if total > 1 else ""
    return ServiceError(
        code_pb2.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        f"{_shortened(first.field, 200)}: {_shortened(first.description, 300)}{more}",
        violations=violations,
        metadata={"violation_count": str(total)},
    )


def invalid_field(field: str, description: str) -> ServiceError:
    """INVALID_ARGUMENT for one field."""
    return invalid([Violation(field, description)])


def invalid_problem(error: InvalidProblemError) -> ServiceError:
    """INVALID_ARGUMENT for what the engine refused."""
    return invalid(error.violations, error.total)


def not_found(what: str, name: str) -> ServiceError:
    """NOT_FOUND for a thing that the caller named."""
    return ServiceError(code_pb2.NOT_FOUND, "NOT_FOUND", f"no {what} {_shortened(name, 100)!r}")


def limit_exceeded(limit: str, value: float, most: float, advice: str = "") -> ServiceError:
    """RESOURCE_EXHAUSTED that names the limit."""
    tail = f"; {advice}" if advice else ""
    return ServiceError(
        code_pb2.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        f"{limit} is {most:g}, the request has {value:g}{tail}",
        metadata={"limit": limit, "maximum": f"{most:g}", "value": f"{value:g}"},
    )


def busy(reason: str, message: str, retry_delay_s: float) -> ServiceError:
    """UNAVAILABLE that invites a retry."""
    return ServiceError(code_pb2.UNAVAILABLE, reason, message, retry_delay_s=retry_delay_s)


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    """All violations, their descriptions shortened until they fit into a trailer."""
    longest = 1_000
    while True:
        rows = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_shortened(v.field, 120), description=_shortened(v.description, longest)
            )
            for v in violations
        ]
        detail = error_details_pb2.BadRequest(field_violations=rows)
        if detail.ByteSize() <= DETAIL_BUDGET_BYTES:
            return detail
        if longest <= _SHORTEST_DESCRIPTION:
            violations = violations[: len(violations) * 9 // 10]
        longest = max(_SHORTEST_DESCRIPTION, longest * 3 // 4)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
