"""`evflex schedule` and `evflex call`: a request from a JSON file, the answer on standard output."""

from __future__ import annotations

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
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Time to wait for the answer.")
]
# At a terminal a lost server is better told soon than retried for long.
RETRY = RetryPolicy(max_attempts=3)


@reported
def schedule(request: RequestFile = None, server: ServerAddress = DEFAULT_ADDRESS, timeout: Timeout = None) -> None:
    """Plan the charging of one site."""
    message = read_message(given(request), charging_service_pb2.OptimizeScheduleRequest)
    with transport(server) as channel:
        typer.echo(pretty(channel.unary(OPTIMIZE_SCHEDULE, message, timeout)))


@reported
def call(
    rpc: Annotated[str | None, typer.Argument(metavar="SERVICE/METHOD", help="RPC; without it all are listed.")] = None,
    request: RequestFile = None,
    server: ServerAddress = DEFAULT_ADDRESS,
    timeout: Timeout = None,
) -> None:
    """Call any RPC.

    A stream of requests is a file of JSON objects; a stream of answers is printed as JSON lines.
    """
    if rpc is None:
        _list()
        return
    method = rpcs.find(rpc)
    operation = rpcs.operation(method)
    with transport(server) as channel:
        if method.client_streaming:
            messages = list(read_messages(given(request), operation.request_type))
            if not method.server_streaming:
                typer.echo(pretty(channel.client_stream(operation, lambda: iter(messages), timeout)))
                return
            answers = channel.stream(operation, iter(messages), timeout)
        else:
            message = read_message(request, operation.request_type) if request else operation.request_type()
            if not method.server_streaming:
                typer.echo(pretty(channel.unary(operation, message, 30.0 if timeout is None else timeout)))
                return
            answers = channel.server_stream(operation, message, timeout)
        _print_lines(answers)


def transport(server: str) -> Transport:
    """A connection to the server that was named.

    Raises:
        UsageError: The address has no port.
    """
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise UsageError(f"--server must be HOST:PORT, for example {DEFAULT_ADDRESS}, is {server!r}")
    return Transport(Connection(server, retry=RETRY))


def given(request: str | None) -> str:
    """The request that a command cannot do without.

    Raises:
        UsageError: There is none.
    """
    if request is None:
        raise UsageError("give the request with --request FILE, or --request - for standard input")
    return request


def _print_lines(answers: Iterator[Message]) -> None:
    for answer in answers:
        print(compact(answer), flush=True)  # noqa: T201 - each line is seen at once


def _list() -> None:
    for method in rpcs.known():
        request = f"{'stream ' * method.client_streaming}{method.input_type.name}"
        answer = f"{'stream ' * method.server_streaming}{method.output_type.name}"
        typer.echo(f"{method.containing_service.name}/{method.name}  ({request}) -> ({answer})")
