"""What happens around every RPC: admission, request id, errors, logs and metrics."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2
from grpc_status import rpc_status
from structlog.typing import FilteringBoundLogger

from evflex.server.caller import CallerResolver
from evflex.server.calls import Call, entered
from evflex.server.contract import required_scope
from evflex.server.errors import ServiceError
from evflex.server.log import places
from evflex.server.metrics import Metrics
from evflex.server.unique import new_uuid
from evflex.server.wire import decoded, lenient, serialized_unary

REQUEST_ID_KEY = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
# Infrastructure that any caller may ask, and that declares no scope because its contract is not ours.
EXEMPT_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.reflection.v1.ServerReflection",
    }
)


@dataclass(frozen=True, slots=True)
class CallInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Admits a call or refuses it, and accounts for how it ended.

    Attributes:
        resolve_caller: Says who calls.
        log: Receives one line a call.
        metrics: Counts calls.
        max_unary_answer_bytes: Largest answer of a unary RPC.
    """

    resolve_caller: CallerResolver
    log: FilteringBoundLogger
    metrics: Metrics
    max_unary_answer_bytes: int

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a method; called once a call, before its first message is read."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.strip("/").partition("/")[0] in EXEMPT_SERVICES:
            return handler
        parse = lenient(handler.request_deserializer or bytes)
        if handler.response_streaming:
            stream = self._streaming(method, handler.stream_stream or handler.unary_stream, handler.response_serializer)
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(stream, parse, None)
            return grpc.unary_stream_rpc_method_handler(stream, parse, None)
        single = self._unary(method, handler.stream_unary or handler.unary_unary)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(single, parse, None)
        return grpc.unary_unary_rpc_method_handler(single, parse, None)

    def _unary(self, method: str, behaviour: Any) -> Callable[[object, grpc.ServicerContext], bytes]:
        def handle(request: object, context: grpc.ServicerContext) -> bytes:
            with _Account(self, method, context) as account, entered(account.call):
                answer: Message = behaviour(_checked(request), context)
                return serialized_unary(method, answer, self.max_unary_answer_bytes)

        return handle

    def _streaming(
        self, method: str, behaviour: Any, serialize: Callable[[Any], bytes] | None
    ) -> Callable[[object, grpc.ServicerContext], Iterator[bytes]]:
        def handle(request: object, context: grpc.ServicerContext) -> Iterator[bytes]:
            with _Account(self, method, context) as account, entered(account.call):
                for answer in behaviour(_checked(request), context):
                    yield answer if isinstance(answer, bytes) or serialize is None else serialize(answer)

        return handle


def _checked(request: object) -> object:
    """A decoded request; messages of a request stream are checked where they are read."""
    return decoded(request)


class _Account:
    """Admits one call, and when it ends maps the error, logs and counts."""

    def __init__(self, rules: CallInterceptor, method: str, context: grpc.ServicerContext) -> None:
        self._rules = rules
        self._method = method
        self._context = context
        self._started = time.perf_counter()
        self.call: Call

    def __enter__(self) -> _Account:
        metadata = self._context.invocation_metadata() or ()
        request_id = _request_id(metadata)
        try:
            scope = required_scope(self._method)
            if not scope:
                raise ServiceError(
                    code_pb2.PERMISSION_DENIED, "SCOPE_NOT_DECLARED", "the method declares no required_scope"
                )
            caller = self._rules.resolve_caller(metadata, self._context.peer())
            caller.require_scope(scope)
        except ServiceError as refusal:
            self._abort(refusal, request_id)
        self._context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        self.call = Call.of(self._context, self._method, request_id, caller)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._record("OK", self.call.request_id)
        elif isinstance(error, GeneratorExit):
            self._record("CANCELLED", self.call.request_id)
        elif isinstance(error, ServiceError):
            self._abort(error, self.call.request_id)
        elif isinstance(error, Exception):
            if self.call.ended.is_set():
                self._abort(ServiceError(code_pb2.CANCELLED, "CANCELLED", "nobody waits"), self.call.request_id)
            self._rules.log.error(
                "unexpected error", method=self._method, request_id=self.call.request_id,
                exception=type(error).__name__, places=places(error),
            )  # fmt: skip
            hint = f"unexpected error; quote request id {self.call.request_id}"
            self._abort(ServiceError(code_pb2.INTERNAL, "INTERNAL", hint), self.call.request_id)

    def _abort(self, error: ServiceError, request_id: str) -> NoReturn:
        self._record(code_pb2.Code.DESCRIPTOR.values_by_number[error.code].name, request_id, reason=error.reason)
        status: Any = rpc_status.to_status(error.status(request_id))
        trailers = (*status.trailing_metadata, (REQUEST_ID_KEY, request_id))
        self._context.abort_with_status(status._replace(trailing_metadata=trailers))

    def _record(self, code: str, request_id: str, reason: str = "") -> None:
        duration_s = time.perf_counter() - self._started
        self._rules.metrics.rpcs.labels(self._method, code).inc()
        self._rules.metrics.rpc_seconds.labels(self._method).observe(duration_s)
        extra = {"reason": reason} if reason else {}
        self._rules.log.info(
            "rpc", method=self._method, request_id=request_id, code=code,
            duration_ms=round(1e3 * duration_s, 3), **extra,
        )  # fmt: skip


def _request_id(metadata: Any) -> str:
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return new_uuid()
