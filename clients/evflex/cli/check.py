"""`evflex check`: whether commitments could be sold, from a hold or from a table; nothing is stored."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import Message

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.cli.call import RequestFile, ServerAddress, Tenant, Timeout, transport
from evflex.cli.faults import EXIT_REFUSED, UsageError, reported
from evflex.cli.messages import pretty_parts, read_message
from evflex.client import InvalidRequestError
from evflex.client.activation.batch import CommitmentBatch
from evflex.client.activation.operations import HOLD_COMMITMENTS
from evflex.client.activation.sync_calls import read_check
from evflex.client.operations import DEFAULT_ADDRESS
from evflex.client.transport import Transport

_Parts = Mapping[str, Message | Sequence[Message] | bool]


@reported
def check(
    request: RequestFile = None,
    commitments: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Commitments to check instead: Parquet or CSV, one row each."),
    ] = None,
    ignore_ledger: Annotated[
        bool, typer.Option("--ignore-ledger", help="Check the rows of --commitments among themselves only.")
    ] = False,
    server: ServerAddress = DEFAULT_ADDRESS,
    tenant: Tenant = "",
    timeout: Timeout = None,
) -> None:
    """Check whether commitments could be sold; exits with 1 where something stands against them."""
    if (request is None) == (commitments is None):
        raise UsageError("give either a hold with --request FILE, or a table with --commitments FILE")
    if commitments is None:
        if ignore_ledger:
            raise UsageError("--ignore-ledger goes with --commitments: a hold is always checked with the ledger")
        assert request is not None  # one of the two is there
        hold = read_message(request, pb.HoldCommitmentsRequest)
        with transport(server, tenant) as channel:
            clear, parts = _check_hold(channel, hold, timeout)
    else:
        batch = _batch(commitments, ignore_ledger)
        with transport(server, tenant) as channel:
            clear, parts = _check_batch(channel, batch, timeout)
    typer.echo(pretty_parts(parts))
    if not clear:
        raise typer.Exit(EXIT_REFUSED)


def _check_hold(channel: Transport, hold: pb.HoldCommitmentsRequest, timeout: float | None) -> tuple[bool, _Parts]:
    # an id of its own: a check is done anew each time, and must not stand in the way of the hold itself
    hold.request_id = str(uuid.uuid4())
    hold.validate_only = True
    answer = channel.unary(HOLD_COMMITMENTS, hold, timeout)
    return answer.granted, {"granted": answer.granted, "conflicts": answer.conflicts}


def _check_batch(channel: Transport, batch: CommitmentBatch, timeout: float | None) -> tuple[bool, _Parts]:
    answer = read_check(channel, batch, timeout)
    assert answer.summary is not None  # else the stream were broken
    return not answer.summary.conflict_count, {"summary": answer.summary, "conflicts": answer.conflicts}


def _batch(table: Path, ignore_ledger: bool) -> CommitmentBatch:
    try:
        return CommitmentBatch.of(table, ignore_ledger)
    except InvalidRequestError as error:
        rows = "".join(f"\n  {v.field.removeprefix('commitments.')}: {v.description}" for v in error.violations)
        raise UsageError(f"{table} cannot be used as commitments:{rows}") from None
    except OSError as error:
        raise UsageError(f"cannot read {table}: {error.strerror or error}") from None
    except (ImportError, ValueError) as error:
        raise UsageError(str(error)) from None
