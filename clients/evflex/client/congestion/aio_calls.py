"""Calls of the congestion service, asynchronous: the twin of :mod:`evflex.client.congestion.sync_calls`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing
from datetime import date

import pandas as pd

from evflex.client.congestion import operations
from evflex.client.congestion.aio_networks import AsyncNetworkCalls
from evflex.client.congestion.congestion import Congestion
from evflex.client.congestion.congestion_forecast import CongestionForecast, ForecastProgress, ForecastStream
from evflex.client.congestion.injections import Load
from evflex.client.congestion.limits import CongestionLimits, InjectionUncertainty
from evflex.client.congestion.load_forecast import Horizon, LoadForecast, LoadForecastRequest
from evflex.client.congestion.network import Network
from evflex.client.congestion.parts import read_parts_async
from evflex.client.congestion.requests import CongestionRequest, NetworkName
from evflex.client.errors import NotFoundError
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_service_pb2 as pb


class AsyncCongestionCalls(AsyncNetworkCalls):
    """Networks and where they are congested, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.congestion.sync_calls.CongestionCalls`.
    """

    async def forecast_load(
        self,
        history_kw: pd.DataFrame,
        horizon: Horizon,
        *,
        weather: pd.DataFrame | None = None,
        quantiles: Sequence[float] = (),
        holidays: Collection[date] = (),
        bus_ids: Sequence[str] = (),
        backtest_days: int | None = None,
        timeout_s: float | None = None,
    ) -> LoadForecast:
        """Forecast the load of meters from their history."""
        request = LoadForecastRequest(history_kw, horizon, weather, quantiles, holidays, bus_ids, backtest_days)
        message = await asyncio.to_thread(request.to_message)
        answer = await self._transport.unary(operations.FORECAST_LOAD, message, timeout_s)
        return LoadForecast.from_message(answer.forecast)

    async def forecast_congestion(
        self,
        network: NetworkName,
        injections: Load = None,
        *,
        time_grid: TimeGrid | None = None,
        uncertainty: InjectionUncertainty | None = None,
        limits: CongestionLimits | None = None,
        contingencies: str | Sequence[str] = "NONE",
        closable_branch_ids: Sequence[str] = (),
        relief_bus_ids: Sequence[str] = (),
        min_probability: float | None = None,
        return_relief: bool = True,
        return_worst: bool = False,
        store: bool = False,
        validate_only: bool = False,
        request_id: str = "",
        on_progress: Callable[[ForecastProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> CongestionForecast:
        """Forecast where and when a network is congested, in N and N-1."""
        asked = CongestionRequest(
            network, injections, time_grid, uncertainty, limits, contingencies, closable_branch_ids, relief_bus_ids,
            min_probability, return_relief, return_worst, store, validate_only, request_id,
        )  # fmt: skip
        request = await asyncio.to_thread(asked.to_message)
        stream = ForecastStream(TimeGrid.from_message(request.time_grid), on_progress)
        parts = read_parts_async(self._transport, operations.FORECAST_CONGESTION, request, stream, timeout_s)
        found = [congestion async for congestion in parts]
        return stream.forecast(found, await self._named_network(stream, network, timeout_s))

    async def iter_congestions(
        self,
        network: NetworkName,
        injections: Load = None,
        *,
        time_grid: TimeGrid | None = None,
        uncertainty: InjectionUncertainty | None = None,
        limits: CongestionLimits | None = None,
        contingencies: str | Sequence[str] = "NONE",
        closable_branch_ids: Sequence[str] = (),
        relief_bus_ids: Sequence[str] = (),
        min_probability: float | None = None,
        return_relief: bool = True,
        store: bool = False,
        request_id: str = "",
        on_progress: Callable[[ForecastProgress], None] | None = None,
        on_summary: Callable[[CongestionForecast], None] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Congestion]:
        """Forecast congestion and read what is found while the search goes on."""
        asked = CongestionRequest(
            network, injections, time_grid, uncertainty, limits, contingencies, closable_branch_ids, relief_bus_ids,
            min_probability, return_relief, store=store, request_id=request_id,
        )  # fmt: skip
        request = await asyncio.to_thread(asked.to_message)
        stream = ForecastStream(TimeGrid.from_message(request.time_grid), on_progress, on_summary)
        parts = read_parts_async(self._transport, operations.FORECAST_CONGESTION, request, stream, timeout_s)
        async with aclosing(parts):
            async for congestion in parts:
                yield congestion

    async def get_forecast(
        self, forecast_id: str, *, return_worst: bool = False, timeout_s: float | None = None
    ) -> CongestionForecast:
        """Fetch a stored forecast of congestion."""
        request = pb.GetForecastRequest(forecast_id=forecast_id, return_worst=return_worst)
        stream = ForecastStream()
        parts = read_parts_async(self._transport, operations.GET_FORECAST, request, stream, timeout_s)
        found = [congestion async for congestion in parts]
        return stream.forecast(found, await self._named_network(stream, None, timeout_s))

    async def list_forecasts(
        self, network_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[CongestionForecast]:
        """List stored forecasts, newest first, without congestions; further pages are fetched as they are needed."""
        request = pb.ListForecastsRequest(network_id=network_id, page_size=page_size)
        async for page in self._transport.pages(operations.LIST_FORECASTS, request, timeout_s):
            for message in page.forecasts:
                yield CongestionForecast.from_message(message)

    async def delete_forecast(
        self, forecast_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored forecast. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeleteForecastRequest(
            request_id=request_id or str(uuid.uuid4()), forecast_id=forecast_id, etag=etag
        )
        await self._transport.unary(operations.DELETE_FORECAST, request, timeout_s)

    async def _named_network(
        self, stream: ForecastStream, network: NetworkName | None, timeout_s: float | None
    ) -> Network | None:
        wanted = stream.wanted_network
        if wanted is None:
            return None
        if isinstance(network, Network) and wanted.is_met_by(network):
            return network
        try:
            fetched = await self.get_network(wanted.network_id, return_tables=True, timeout_s=timeout_s)
        except NotFoundError:
            return None
        return fetched if wanted.is_met_by(fetched) else None
