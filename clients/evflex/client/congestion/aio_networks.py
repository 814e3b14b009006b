"""Calls about networks and power flows, asynchronous: the twin of :mod:`evflex.client.congestion.sync_networks`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from evflex.client.aio_transport import AsyncTransport
from evflex.client.congestion import operations
from evflex.client.congestion.enums import NetworkFormat
from evflex.client.congestion.injections import Load
from evflex.client.congestion.network import Network, NetworkStream
from evflex.client.congestion.network_files import NetworkImport, NetworkSource
from evflex.client.congestion.pandapower_net import pandapower_files
from evflex.client.congestion.parts import read_parts_async
from evflex.client.congestion.power_flow import (
    PowerFlow,
    PowerFlowProgress,
    PowerFlowSteps,
    PowerFlowStream,
    PowerFlowSummary,
    PowerFlowWhole,
)
from evflex.client.congestion.requests import NetworkName, PowerFlowOutputs, PowerFlowRequest
from evflex.client.congestion.sync_networks import DEFAULT_OUTPUTS
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_service_pb2 as pb

if TYPE_CHECKING:
    from pandapower import pandapowerNet


class AsyncNetworkCalls:
    """Networks and their power flows, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.congestion.sync_networks.NetworkCalls`.
    """

    _transport: AsyncTransport

    async def import_network(
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
        """Import a network from its files."""
        arriving = await asyncio.to_thread(
            NetworkImport.of, source, network_format, network_id=network_id, display_name=display_name,
            area_id=area_id, three_phase=three_phase, allow_refusals=allow_refusals, validate_only=validate_only,
            request_id=request_id,
        )  # fmt: skip
        answer = await self._transport.client_stream(operations.IMPORT_NETWORK, arriving.messages, timeout_s)
        return Network.from_message(answer.network)

    async def import_pandapower(
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
        """Import a pandapower network. Buses are named by their index, branches ``line 3``, ``trafo 0`` by theirs."""
        files = await asyncio.to_thread(pandapower_files, net)
        return await self.import_network(
            files, NetworkFormat.PANDAPOWER, network_id=network_id,
            display_name=str(net.name or "") if display_name is None else display_name, area_id=area_id,
            three_phase=three_phase, allow_refusals=allow_refusals, validate_only=validate_only, request_id=request_id,
            timeout_s=timeout_s,
        )  # fmt: skip

    async def get_network(
        self, network_id: str, *, return_tables: bool = False, timeout_s: float | None = None
    ) -> Network:
        """Fetch a network."""
        request = pb.GetNetworkRequest(network_id=network_id, return_tables=return_tables)
        stream = NetworkStream(with_tables=return_tables)
        async for _ in read_parts_async(self._transport, operations.GET_NETWORK, request, stream, timeout_s):
            pass
        return stream.network()

    async def list_networks(self, *, page_size: int = 0, timeout_s: float | None = None) -> AsyncIterator[Network]:
        """List networks, newest first; further pages are fetched as they are needed."""
        request = pb.ListNetworksRequest(page_size=page_size)
        async for page in self._transport.pages(operations.LIST_NETWORKS, request, timeout_s):
            for message in page.networks:
                yield Network.from_message(message)

    async def delete_network(
        self, network_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a network; its forecasts stay."""
        request = pb.DeleteNetworkRequest(request_id=request_id or str(uuid.uuid4()), network_id=network_id, etag=etag)
        await self._transport.unary(operations.DELETE_NETWORK, request, timeout_s)

    async def run_power_flow(
        self,
        network: NetworkName,
        injections: Load = None,
        *,
        outputs: PowerFlowOutputs = DEFAULT_OUTPUTS,
        time_grid: TimeGrid | None = None,
        on_progress: Callable[[PowerFlowProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> PowerFlow:
        """Compute power flows, one a step."""
        request = PowerFlowRequest(network, injections, outputs, time_grid)
        stream = PowerFlowStream(request.index, on_progress)
        whole = PowerFlowWhole(stream)
        message = await asyncio.to_thread(request.to_message)
        async for part in read_parts_async(self._transport, operations.RUN_POWER_FLOW, message, stream, timeout_s):
            whole.add(part)
        return whole.power_flow()

    async def iter_power_flow(
        self,
        network: NetworkName,
        injections: Load = None,
        *,
        outputs: PowerFlowOutputs = DEFAULT_OUTPUTS,
        time_grid: TimeGrid | None = None,
        on_progress: Callable[[PowerFlowProgress], None] | None = None,
        on_summary: Callable[[PowerFlowSummary], None] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[PowerFlowSteps]:
        """Compute power flows and read them in parts as they are solved, for horizons that are larger than memory."""
        request = PowerFlowRequest(network, injections, outputs, time_grid)
        stream = PowerFlowStream(request.index, on_progress, on_summary)
        message = await asyncio.to_thread(request.to_message)
        parts = read_parts_async(self._transport, operations.RUN_POWER_FLOW, message, stream, timeout_s)
        async with aclosing(parts):
            async for part in parts:
                yield part
