"""Calls of the congestion service, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date

import pandas as pd

from evflex.client.congestion import operations
from evflex.client.congestion.congestion import Congestion
from evflex.client.congestion.congestion_forecast import CongestionForecast, ForecastProgress, ForecastStream
from evflex.client.congestion.injections import Load
from evflex.client.congestion.limits import CongestionLimits, InjectionUncertainty
from evflex.client.congestion.load_forecast import Horizon, LoadForecast, LoadForecastRequest
from evflex.client.congestion.network import Network
from evflex.client.congestion.parts import read_parts
from evflex.client.congestion.requests import CongestionRequest, NetworkName
from evflex.client.congestion.sync_networks import NetworkCalls
from evflex.client.errors import NotFoundError
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_service_pb2 as pb


class CongestionCalls(NetworkCalls):
    """Networks and their congestion; the part of :class:`evflex.client.EvflexClient` for the congestion service."""

    def forecast_load(
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
        """Forecast the load of meters from their history.

        Args:
            history_kw: Mean power in kW; rows are steps by time, columns are meters, NaN was not measured. The time
                zone of the index is taken for local time, in which people live.
            horizon: How long the forecast goes on after the history, or its time axis.
            weather: Quantities as columns, rows by time over history and horizon; a row that is absent is missing.
            quantiles: Quantiles wanted, rising; none takes 0.1, 0.5 and 0.9.
            holidays: Days like a Sunday.
            bus_ids: Bus of each meter.
            backtest_days: Days at the end of the history on which the forecast is tried; None is 28.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule.
            LimitExceededError: There are more meters and steps than one answer holds.
        """
        request = LoadForecastRequest(history_kw, horizon, weather, quantiles, holidays, bus_ids, backtest_days)
        answer = self._transport.unary(operations.FORECAST_LOAD, request.to_message(), timeout_s)
        return LoadForecast.from_message(answer.forecast)

    def forecast_congestion(
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
        """Forecast where and when a network is congested, in N and N-1.

        Args:
            network: Network, or its identifier. One with tables names the columns of worst values without another call.
            injections: What is drawn, as in :meth:`run_power_flow`.
            time_grid: Time axis; None takes the time index of the injections.
            uncertainty: How uncertain the injections are; None is not at all.
            limits: Limits; None takes those of the network and of the contract.
            contingencies: ``NONE``, ``ALL_BRANCHES``, or the branches whose outage is looked at.
            closable_branch_ids: Open branches that may be closed to feed what an outage cuts off.
            relief_bus_ids: Buses where flexibility may be; none means all.
            min_probability: A limit that the expected injections keep is a congestion where it is broken with at least
                this probability; None is 0.05.
            return_relief: Whether the relief of each congestion is found.
            return_worst: Whether the forecast has the worst values of each element and step.
            store: Whether the server keeps the forecast.
            validate_only: Only check the request: the forecast is empty.
            request_id: UUID under which a repeated call gives the same forecast; drawn when empty.
            on_progress: Called with each message of progress.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such network.
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule.
        """
        request = CongestionRequest(
            network, injections, time_grid, uncertainty, limits, contingencies, closable_branch_ids, relief_bus_ids,
            min_probability, return_relief, return_worst, store, validate_only, request_id,
        ).to_message()  # fmt: skip
        stream = ForecastStream(TimeGrid.from_message(request.time_grid), on_progress)
        found = list(read_parts(self._transport, operations.FORECAST_CONGESTION, request, stream, timeout_s))
        return stream.forecast(found, self._named_network(stream, network, timeout_s))

    def iter_congestions(
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
    ) -> Iterator[Congestion]:
        """Forecast congestion and read what is found while the search goes on.

        Args:
            network: As in :meth:`forecast_congestion`, as the others.
            injections: What is drawn.
            time_grid: Time axis.
            uncertainty: How uncertain the injections are.
            limits: Limits.
            contingencies: Which outages are looked at.
            closable_branch_ids: Open branches that may be closed.
            relief_bus_ids: Buses where flexibility may be.
            min_probability: Least probability that is told where the expected injections keep the limit.
            return_relief: Whether the relief of each congestion is found.
            store: Whether the server keeps the forecast.
            request_id: UUID under which a repeated call gives the same forecast; drawn when empty.
            on_progress: Called with each message of progress.
            on_summary: Called after the last congestion, with the forecast without its congestions.
            timeout_s: Time for the whole stream.

        Yields:
            Congestions as they are found. When the server becomes unavailable it is asked again, and each is told once.

        Raises:
            EvflexError: As :meth:`forecast_congestion`.
        """
        request = CongestionRequest(
            network, injections, time_grid, uncertainty, limits, contingencies, closable_branch_ids, relief_bus_ids,
            min_probability, return_relief, store=store, request_id=request_id,
        ).to_message()  # fmt: skip
        stream = ForecastStream(TimeGrid.from_message(request.time_grid), on_progress, on_summary)
        yield from read_parts(self._transport, operations.FORECAST_CONGESTION, request, stream, timeout_s)

    def get_forecast(
        self, forecast_id: str, *, return_worst: bool = False, timeout_s: float | None = None
    ) -> CongestionForecast:
        """Fetch a stored forecast of congestion.

        Args:
            forecast_id: Identifier.
            return_worst: Whether it has the worst values of each element and step, where they were kept. Their columns
                are numbered where the network is no longer there.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such forecast.
        """
        request = pb.GetForecastRequest(forecast_id=forecast_id, return_worst=return_worst)
        stream = ForecastStream()
        found = list(read_parts(self._transport, operations.GET_FORECAST, request, stream, timeout_s))
        return stream.forecast(found, self._named_network(stream, None, timeout_s))

    def list_forecasts(
        self, network_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> Iterator[CongestionForecast]:
        """List stored forecasts, newest first, without congestions; further pages are fetched as they are needed.

        Args:
            network_id: Only of this network; empty means all.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListForecastsRequest(network_id=network_id, page_size=page_size)
        for page in self._transport.pages(operations.LIST_FORECASTS, request, timeout_s):
            yield from map(CongestionForecast.from_message, page.forecasts)

    def delete_forecast(
        self, forecast_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored forecast. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeleteForecastRequest(
            request_id=request_id or str(uuid.uuid4()), forecast_id=forecast_id, etag=etag
        )
        self._transport.unary(operations.DELETE_FORECAST, request, timeout_s)

    def _named_network(
        self, stream: ForecastStream, network: NetworkName | None, timeout_s: float | None
    ) -> Network | None:
        """The network whose tables name the columns of worst values; None where it is gone or not needed."""
        wanted = stream.wanted_network
        if wanted is None:
            return None
        if isinstance(network, Network) and wanted.is_met_by(network):
            return network
        try:
            fetched = self.get_network(wanted.network_id, return_tables=True, timeout_s=timeout_s)
        except NotFoundError:
            return None
        return fetched if wanted.is_met_by(fetched) else None
