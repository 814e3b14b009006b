"""OpenTelemetry traces, only where an endpoint is configured and the extra `otel` is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from evflex.server.settings import Settings

_FLUSH_S = 5.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A span around every RPC.

    Attributes:
        interceptor: Opens the spans.
        close: Sends what is left.
    """

    interceptor: grpc.ServerInterceptor[Any, Any]
    close: Callable[[], None]


def open_telemetry(settings: Settings) -> Telemetry | None:
    """Traces to `settings.otel_endpoint`, or None where that is empty.

    Raises:
        ModuleNotFoundError: The extra `otel` is not installed.
    """
    if not settings.otel_endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.grpc import server_interceptor
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("otel_endpoint needs the extra: pip install 'evflex[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": "evflex"}))
    exporter = OTLPSpanExporter(
        endpoint=settings.otel_endpoint, insecure=not settings.otel_endpoint.startswith("https")
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))

    def close() -> None:
        provider.force_flush(int(1e3 * _FLUSH_S))
        provider.shutdown()

    make_interceptor: Any = server_interceptor
    return Telemetry(make_interceptor(tracer_provider=provider), close)
