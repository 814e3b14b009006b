"""The RPCs that the installed contract knows, found by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

import evflex
from evflex.cli.faults import UsageError
from evflex.client.operations import Operation


def find(name: str) -> MethodDescriptor:
    """The RPC called ``SERVICE/METHOD``; the service may be given without its package.

    Raises:
        UsageError: There is none; the message suggests the nearest.
    """
    methods = {f"{method.containing_service.full_name}/{method.name}": method for method in known()}
    short = {f"{method.containing_service.name}/{method.name}": method for method in methods.values()}
    wanted = name.strip("/")
    for table in (methods, short):
        if wanted in table:
            return table[wanted]
    lower = {key.lower(): key for key in (*short, *methods)}
    close = difflib.get_close_matches(wanted.lower(), lower, n=3, cutoff=0.5)
    if not close:
        close = [key.lower() for key in short if key.partition("/")[2].lower() == wanted.lower()]
    hint = "did you mean" if close else "known are"
    candidates = [lower[key] for key in close] or list(short)
    raise UsageError(f"there is no RPC {name!r}; {hint} {', '.join(candidates)}?".replace("known are", "known are:"))


def known() -> list[MethodDescriptor]:
    """All RPCs: those of the contract, and the health check."""
    return [method for service in _services() for method in service.methods]


def operation(method: MethodDescriptor) -> Operation[Message, Message]:
    """An RPC as the client calls it, without a deadline."""
    return Operation(
        service=method.containing_service.full_name,
        name=method.name,
        request_type=message_factory.GetMessageClass(method.input_type),
        response_type=message_factory.GetMessageClass(method.output_type),
        timeout_s=None,
    )


def _services() -> Iterator[ServiceDescriptor]:
    for name in sorted(_modules()):
        yield from importlib.import_module(name).DESCRIPTOR.services_by_name.values()
    yield health_pb2.DESCRIPTOR.services_by_name["Health"]  # type: ignore[misc]


def _modules() -> set[str]:
    """Generated modules with services, wherever the portions of the namespace package lie."""
    return {
        f"evflex.{path.parent.parent.name}.{path.parent.name}.{path.stem}"
        for portion in evflex.__path__
        for path in Path(portion).glob("*/v[0-9]*/*_service_pb2.py")
    }
