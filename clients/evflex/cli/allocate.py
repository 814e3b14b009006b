"""`evflex allocate`: a transformer and its hubs from a JSON file, the allocation on standard output."""

from __future__ import annotations

import uuid

import typer

from evflex.capacity.v1 import capacity_service_pb2
from evflex.cli.call import RequestFile, ServerAddress, Tenant, Timeout, given, transport
from evflex.cli.faults import reported
from evflex.cli.messages import pretty, read_message
from evflex.client.capacity.operations import ALLOCATE_CAPACITY
from evflex.client.operations import DEFAULT_ADDRESS


@reported
def allocate(
    request: RequestFile = None,
    server: ServerAddress = DEFAULT_ADDRESS,
    tenant: Tenant = "",
    timeout: Timeout = None,
) -> None:
    """Share the capacity of a transformer between charging hubs."""
    message = read_message(given(request), capacity_service_pb2.AllocateCapacityRequest)
    message.request_id = message.request_id or str(uuid.uuid4())
    with transport(server, tenant) as channel:
        typer.echo(pretty(channel.unary(ALLOCATE_CAPACITY, message, timeout)))
