"""`evflex forecast`: a network from a file or from the server, where it is congested as JSON."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import Message

from evflex.cli.call import RequestFile, ServerAddress, Tenant, Timeout, given, transport
from evflex.cli.faults import UsageError, reported
from evflex.cli.messages import pretty_parts, read_message
from evflex.client import InvalidRequestError, NetworkFormat
from evflex.client.congestion.congestion import Congestion
from evflex.client.congestion.congestion_forecast import ForecastStream
from evflex.client.congestion.network_files import NetworkImport
from evflex.client.congestion.operations import FORECAST_CONGESTION, IMPORT_NETWORK
from evflex.client.congestion.parts import read_parts
from evflex.client.operations import DEFAULT_ADDRESS
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_pb2
from evflex.congestion.v1 import congestion_service_pb2 as pb


@reported
def forecast(
    request: RequestFile = None,
    network: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Network to import first: a file, a folder or a zip archive.")
    ] = None,
    network_format: Annotated[
        NetworkFormat | None, typer.Option("--format", help="What the network is written in.", case_sensitive=False)
    ] = None,
    allow_refusals: Annotated[
        bool, typer.Option("--allow-refusals", help="Import the network without what is not understood.")
    ] = False,
    server: ServerAddress = DEFAULT_ADDRESS,
    tenant: Tenant = "",
    timeout: Timeout = None,
) -> None:
    """Forecast where and when a network is congested."""
    message = read_message(given(request), pb.ForecastCongestionRequest)
    message.request_id = message.request_id or str(uuid.uuid4())
    arriving = None if network is None else _arriving(network, network_format, message.network_id, allow_refusals)
    answer = _Answer(TimeGrid.from_message(message.time_grid))
    with transport(server, tenant) as channel:
        if arriving is not None:
            imported = channel.client_stream(IMPORT_NETWORK, arriving.messages, timeout)
            message.network_id = imported.network.network_id
        for _ in read_parts(channel, FORECAST_CONGESTION, message, answer, timeout):
            pass
    typer.echo(pretty_parts(answer.parts()))


class _Answer(ForecastStream):
    """Keeps the messages of a forecast, so that they can be shown as they are."""

    def begin(self) -> None:
        super().begin()
        self._congestions = congestion_pb2.CongestionChunk()
        self._values = congestion_pb2.WorstChunk()

    def accept(self, message: pb.ForecastCongestionResponse | pb.GetForecastResponse) -> Sequence[Congestion]:
        if message.HasField("congestions"):
            self._congestions.MergeFrom(message.congestions)
        elif message.HasField("worst"):
            self._values.MergeFrom(message.worst)
        return super().accept(message)

    def parts(self) -> dict[str, Message | Sequence[Message]]:
        """Parts of the answer by their names in the contract."""
        assert self.summary is not None  # else the stream were broken
        parts: dict[str, Message | Sequence[Message]] = {
            "summary": self.summary,
            "congestions": self._congestions.congestions,
        }
        if self._values.step_count:
            self._values.first_step, self._values.step_count = 0, self.summary.time_grid.step_count
            parts["worst"] = self._values
        return parts


def _arriving(
    network: Path, network_format: NetworkFormat | None, network_id: str, allow_refusals: bool
) -> NetworkImport:
    if network_format is None:
        raise UsageError(f"say what {network} is with --format: {', '.join(NetworkFormat)}")
    try:
        return NetworkImport.of(
            network, network_format, network_id=network_id, display_name=network.name, area_id="", three_phase=None,
            allow_refusals=allow_refusals, validate_only=False, request_id="",
        )  # fmt: skip
    except InvalidRequestError as error:
        raise UsageError(f"{network} cannot be used as a network: {error.violations[0].description}") from None
    except OSError as error:
        raise UsageError(f"cannot read {network}: {error.strerror or error}") from None
