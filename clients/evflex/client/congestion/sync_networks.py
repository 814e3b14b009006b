"""Calls about networks and their power flows, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from evflex.client.congestion import operations
from evflex.client.congestion.enums import NetworkFormat
from evflex.client.congestion.injections import Load
from evflex.client.congestion.network import Network, NetworkStream
from evflex.client.congestion.network_files import NetworkImport, NetworkSource
from evflex.client.congestion.pandapower_net import pandapower_files
from evflex.client.congestion.parts import read_parts
from evflex.client.congestion.power_flow import (
    PowerFlow,
    PowerFlowProgress,
    PowerFlowSteps,
    PowerFlowStream,
    PowerFlowSummary,
    PowerFlowWhole,
)
from evflex.client.congestion.requests import NetworkName, PowerFlowOutputs, PowerFlowRequest
from evflex.client.timegrid import TimeGrid
from evflex.client.transport import Transport
from evflex.congestion.v1 import congestion_service_pb2 as pb

if TYPE_CHECKING:
    from pandapower import pandapowerNet

DEFAULT_OUTPUTS = PowerFlowOutputs()


class NetworkCalls:
    """Networks and their power flows; a part of :class:`evflex.client.congestion.sync_calls.CongestionCalls`."""

    _transport: Transport

    def import_network(
        self,
        source: NetworkSource,
        network_format: NetworkFormat | str,
        *,
        network_id: str = "",
        display_name: str = "",
        area_id: str = "",
        three_phase: bool | None = None,
        allow_refusals: bool = False,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Network:
        """Import a network from its files.

        Args:
            source: A file, an archive (zip or gzip), a folder, several of these, or contents by file name.
            network_format: What the files are.
            network_id: Identifier; empty lets the server choose.
            display_name: Name for people.
            area_id: Grid area.
            three_phase: Whether phases are computed apart; None is where the files tell them apart.
            allow_refusals: Whether elements that are not understood are left out and told in ``refusals``. Else each of
                them is a fault, and nothing is imported.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The files break rules; ``violations`` names file, element and rule.
            AlreadyExistsError: There is a network with this ``network_id``.
            OSError: A file cannot be read.
        """
        arriving = NetworkImport.of(
            source, network_format, network_id=network_id, display_name=display_name, area_id=area_id,
            three_phase=three_phase, allow_refusals=allow_refusals, validate_only=validate_only, request_id=request_id,
        )  # fmt: skip
        answer = self._transport.client_stream(operations.IMPORT_NETWORK, arriving.messages, timeout_s)
        return Network.from_message(answer.network)

    def import_pandapower(
        self,
        net: pandapowerNet,
        *,
        network_id: str = "",
        display_name: str | None = None,
        area_id: str = "",
        three_phase: bool | None = None,
        allow_refusals: bool = False,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Network:
        """Import a pandapower network. Buses are named by their index, branches ``line 3``, ``trafo 0`` by theirs.

        Args:
            net: Network; it is not changed.
            network_id: Identifier; empty lets the server choose.
            display_name: Name for people; None is the network's own.
            area_id: Grid area.
            three_phase: Whether phases are computed apart; None is where there are asymmetric loads or generators.
            allow_refusals: As in :meth:`import_network`.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            ImportError: pandapower is missing.
            InvalidRequestError: The network breaks rules; ``violations`` names element and rule.
            AlreadyExistsError: There is a network with this ``network_id``.
        """
        return self.import_network(
            pandapower_files(net), NetworkFormat.PANDAPOWER, network_id=network_id,
            display_name=str(net.name or "") if display_name is None else display_name, area_id=area_id,
            three_phase=three_phase, allow_refusals=allow_refusals, validate_only=validate_only, request_id=request_id,
            timeout_s=timeout_s,
        )  # fmt: skip

    def get_network(self, network_id: str, *, return_tables: bool = False, timeout_s: float | None = None) -> Network:
        """Fetch a network.

        Args:
            network_id: Identifier.
            return_tables: Whether the network has its buses, branches, sources and generators.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such network.
        """
        request = pb.GetNetworkRequest(network_id=network_id, return_tables=return_tables)
        stream = NetworkStream(with_tables=return_tables)
        for _ in read_parts(self._transport, operations.GET_NETWORK, request, stream, timeout_s):
            pass
        return stream.network()

    def list_networks(self, *, page_size: int = 0, timeout_s: float | None = None) -> Iterator[Network]:
        """List networks, newest first; further pages are fetched as they are needed.

        Args:
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListNetworksRequest(page_size=page_size)
        for page in self._transport.pages(operations.LIST_NETWORKS, request, timeout_s):
            yield from map(Network.from_message, page.networks)

    def delete_network(
        self, network_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a network; its forecasts stay. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeleteNetworkRequest(request_id=request_id or str(uuid.uuid4()), network_id=network_id, etag=etag)
        self._transport.unary(operations.DELETE_NETWORK, request, timeout_s)

    def run_power_flow(
        self,
        network: NetworkName,
        injections: Load = None,
        *,
        outputs: PowerFlowOutputs = DEFAULT_OUTPUTS,
        time_grid: TimeGrid | None = None,
        on_progress: Callable[[PowerFlowProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> PowerFlow:
        """Compute power flows, one a step.

        Args:
            network: Network, or its identifier.
            injections: What is drawn: :class:`Injections`, :class:`ProfiledInjections`, or a table of active power in
                kW whose rows are steps and whose columns are buses. None is what the network's file brings.
            outputs: What is to be told.
            time_grid: Time axis; None takes the time index of the injections, or counts steps where there is none.
            on_progress: Called with each message of progress.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such network.
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule.
            LimitExceededError: The request is larger than a message; :class:`ProfiledInjections` are smaller.
        """
        request = PowerFlowRequest(network, injections, outputs, time_grid)
        stream = PowerFlowStream(request.index, on_progress)
        whole = PowerFlowWhole(stream)
        message = request.to_message()
        for part in read_parts(self._transport, operations.RUN_POWER_FLOW, message, stream, timeout_s):
            whole.add(part)
        return whole.power_flow()

    def iter_power_flow(
        self,
        network: NetworkName,
        injections: Load = None,
        *,
        outputs: PowerFlowOutputs = DEFAULT_OUTPUTS,
        time_grid: TimeGrid | None = None,
        on_progress: Callable[[PowerFlowProgress], None] | None = None,
        on_summary: Callable[[PowerFlowSummary], None] | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[PowerFlowSteps]:
        """Compute power flows and read them in parts as they are solved, for horizons that are larger than memory.

        Args:
            network: As in :meth:`run_power_flow`, as the others.
            injections: What is drawn.
            outputs: What is to be told.
            time_grid: Time axis.
            on_progress: Called with each message of progress.
            on_summary: Called after the last part with losses and the steps that are not solved.
            timeout_s: Time for the whole stream.

        Yields:
            Some steps, in their order. When the server becomes unavailable, it goes on after the last.

        Raises:
            EvflexError: As :meth:`run_power_flow`.
        """
        request = PowerFlowRequest(network, injections, outputs, time_grid)
        stream = PowerFlowStream(request.index, on_progress, on_summary)
        yield from read_parts(self._transport, operations.RUN_POWER_FLOW, request.to_message(), stream, timeout_s)
