"""RPCs of CongestionService about stored forecasts: each in a few lines, on top of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc

from evflex.congestion.v1 import congestion_service_pb2
from evflex.engine.validation import Rules
from evflex.server.calls import current_call
from evflex.server.congestion.stored_forecast import shown_forecast, stored_chunks
from evflex.server.congestion.visible import visible_forecast
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.pages import check_page_size, page_of
from evflex.server.store.forecasts import ForecastStore
from evflex.server.store.requests import request_key
from evflex.server.stream_places import StreamPlaces


class ForecastRpcs:
    """GetForecast, ListForecasts and DeleteForecast."""

    def __init__(self, store: ForecastStore, streams: StreamPlaces, now_unix_us: Callable[[], int]) -> None:
        """Serve with these parts."""
        self._forecasts = store
        self._forecast_streams = streams
        self._forecast_clock = now_unix_us

    def GetForecast(  # noqa: N802
        self, request: congestion_service_pb2.GetForecastRequest, context: grpc.ServicerContext
    ) -> Iterator[congestion_service_pb2.GetForecastResponse]:
        """Stream a stored forecast."""
        with self._forecast_streams.taken(context):
            row = visible_forecast(self._forecasts, current_call().caller, request.forecast_id)
            yield congestion_service_pb2.GetForecastResponse(summary=shown_forecast(row))
            yield from stored_chunks(self._forecasts.blocks(row), return_worst=request.return_worst)

    def ListForecasts(  # noqa: N802
        self, request: congestion_service_pb2.ListForecastsRequest, context: grpc.ServicerContext
    ) -> congestion_service_pb2.ListForecastsResponse:
        """List stored forecasts, newest first."""
        rules = Rules()
        check_id(rules, "network_id", request.network_id)
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListForecasts {request.network_id}",
            request.page_size,
            request.page_token,
            lambda before, size: self._forecasts.page(caller.tenant_id, request.network_id, before, size, caller.areas),
        )
        return congestion_service_pb2.ListForecastsResponse(
            forecasts=[shown_forecast(row) for row in rows], next_page_token=next_page_token
        )

    def DeleteForecast(  # noqa: N802
        self, request: congestion_service_pb2.DeleteForecastRequest, context: grpc.ServicerContext
    ) -> congestion_service_pb2.DeleteForecastResponse:
        """Delete a stored forecast."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "forecast_id", request.forecast_id, required=True)
        refuse(rules)
        caller = current_call().caller
        self._forecasts.delete(
            request_key(caller.tenant_id, "DeleteForecast", request.request_id, request),
            request.forecast_id,
            request.etag,
            self._forecast_clock(),
            may_use_area=caller.may_use_area,
            check_only=request.validate_only,
        )
        return congestion_service_pb2.DeleteForecastResponse()
