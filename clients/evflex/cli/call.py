"""`evflex schedule` and `evflex call`: a request from a JSON file, the answer on standard output."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Annotated

import typer
from google.protobuf.message import Message

from evflex.charging.v1 import charging_service_pb2
from evflex.cli import rpcs
from evflex.cli.faults import UsageError, reported
from evflex.cli.messages import compact, pretty, read_message, read_messages
from evflex.client.operations import DEFAULT_ADDRESS, OPTIMIZE_SCHEDULE, Connection
from evflex.client.retry import RetryPolicy
from evflex.client.transport import Transport

RequestFile = Annotated[
    str | None,
    typer.Option("--request", metavar="FILE", help="Request in protobuf JSON; - is standard input."),
]
ServerAddress = Annotated[
    str, typer.Option("--server", metavar="HOST:PORT", envvar="EVFLEX_SERVER", help="Server to call.")
]
Tenant = Annotated[
    str,
    typer.Option("--tenant", metavar="NAME", envvar="EVFLEX_TENANT", help="Party to act for; a trusting server asks."),
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Time to wait for the answer.")
]
TENANT_KEY = "evflex-tenant"
# At a terminal a lost server is better told soon than retried for long.
RETRY = RetryPolicy(max_attempts=3)


@reported
def schedule(
    request: RequestFile = None,
    server: ServerAddress = DEFAULT_ADDRESS,
    tenant: Tenant = "",
    timeout: Timeout = None,
) -> None:
    """Plan the charging of one site."""
    message = read_message(given(request), charging_service_pb2.OptimizeScheduleRequest)
    with transport(server, tenant) as channel:
        typer.echo(pretty(channel.unary(OPTIMIZE_SCHEDULE, message, timeout)))


@reported
def call(
    rpc: Annotated[str | None, typer.Argument(metavar="SERVICE/METHOD", help="RPC; without it all are listed.")] = None,
    request: RequestFile = None,
    server: ServerAddress = DEFAULT_ADDRESS,
    tenant: Tenant = "",
    timeout: Timeout = None,
) -> None:
    """Call any RPC.

    A stream of requests is a file of JSON objects; a stream of answers is printed as JSON lines. Where both are streams
    and the request is standard input, each object is sent as soon as it has come.
    """
    if rpc is None:
        _list()
        return
    method = rpcs.find(rpc)
    operation = rpcs.operation(method)
    with transport(server, tenant) as channel:
        if method.client_streaming and method.server_streaming:
            requests = Requests(given(request), operation.request_type)
            _print_lines(channel.stream(operation, iter(requests), timeout))
            requests.raise_fault()
            return
        if method.client_streaming:
            messages = list(read_messages(given(request), operation.request_type))
            typer.echo(pretty(channel.client_stream(operation, lambda: iter(messages), timeout)))
        else:
            message = read_message(request, operation.request_type) if request else operation.request_type()
            _identify(message)
            if not method.server_streaming:
                typer.echo(pretty(channel.unary(operation, message, 30.0 if timeout is None else timeout)))
                return
            _print_lines(channel.server_stream(operation, message, timeout))


def _identify(message: Message) -> None:
    """Draw the identifier of a request that has a place for one and brings none: each run is a request of its own."""
    if "request_id" in message.DESCRIPTOR.fields_by_name and not message.request_id:  # type: ignore[attr-defined]
        message.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]


def transport(server: str, tenant: str = "") -> Transport:
    """A connection to the server that was named, for a party where one is.

    Raises:
        UsageError: The address has no port.
    """
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UsageError(f"--server must be HOST:PORT, for example {DEFAULT_ADDRESS}, is {server!r}")
    return Transport(Connection(server, metadata={TENANT_KEY: tenant} if tenant else {}, retry=RETRY))


def given(request: str | None) -> str:
    """The request that a command cannot do without.

    Raises:
        UsageError: There is none.
    """
    if request is None:
        raise UsageError("give the request with --request FILE, or --request - for standard input")
    return request


class Requests:
    """Requests of a stream: those of a file are checked before the first is sent, those of standard input one by one.

    gRPC pulls them in a thread of its own, where an error would be lost; so it ends the stream and is kept.
    """

    def __init__(self, source: str, kind: type[Message]) -> None:
        self._fault: UsageError | None = None
        messages = read_messages(source, kind)
        self._messages = messages if source == "-" else iter(list(messages))

    def __iter__(self) -> Iterator[Message]:
        try:
            yield from self._messages
        except UsageError as error:
            self._fault = error

    def raise_fault(self) -> None:
        """Tell what was wrong with a request, if anything.

        Raises:
            UsageError: It could not be read.
        """
        if self._fault is not None:
            raise self._fault


def _print_lines(answers: Iterator[Message]) -> None:
    for answer in answers:
        print(compact(answer), flush=True)  # noqa: T201 - each line is seen at once


def _list() -> None:
    for method in rpcs.known():
        request = f"{'stream ' * method.client_streaming}{method.input_type.name}"
        answer = f"{'stream ' * method.server_streaming}{method.output_type.name}"
        typer.echo(f"{method.containing_service.name}/{method.name}  ({request}) -> ({answer})")
