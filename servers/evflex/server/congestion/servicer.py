"""CongestionService: networks, power flows and forecasts, each from its own part."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from evflex.congestion.v1 import congestion_service_pb2, congestion_service_pb2_grpc
from evflex.server.calls import current_call
from evflex.server.congestion.flows import FlowRunner
from evflex.server.congestion.forecast_rpcs import ForecastRpcs
from evflex.server.congestion.forecasting import CongestionForecaster
from evflex.server.congestion.importing import NetworkImporter
from evflex.server.congestion.load import LoadForecaster
from evflex.server.congestion.network_rpcs import NetworkRpcs
from evflex.server.congestion.visible import visible_network
from evflex.server.stream_places import StreamPlaces


class CongestionServicer(NetworkRpcs, ForecastRpcs, congestion_service_pb2_grpc.CongestionServiceServicer):
    """All RPCs; generated code stands last, because its methods refuse."""

    def __init__(
        self, importer: NetworkImporter, flows: FlowRunner, load: LoadForecaster, congestion: CongestionForecaster
    ) -> None:
        """Serve with these parts."""
        self._streams = StreamPlaces("max_congestion_streams", importer.settings)
        NetworkRpcs.__init__(self, importer, self._streams)
        ForecastRpcs.__init__(self, congestion.store, self._streams, importer.now_unix_us)
        self._flows = flows
        self._load = load
        self._congestion = congestion

    def RunPowerFlow(  # type: ignore[override]  # noqa: N802
        self, request: congestion_service_pb2.RunPowerFlowRequest, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Compute power flows; hands out RunPowerFlowResponse messages, serialized."""
        call = current_call()
        with self._streams.taken(context):
            row = visible_network(self._importer.store, call.caller, request.network_id)
            yield from self._flows.run(request, row, call)

    def ForecastLoad(  # noqa: N802
        self, request: congestion_service_pb2.ForecastLoadRequest, context: grpc.ServicerContext
    ) -> congestion_service_pb2.ForecastLoadResponse:
        """Forecast the load of meters."""
        forecast = self._load.forecast(request, current_call())
        return congestion_service_pb2.ForecastLoadResponse(forecast=forecast)

    def ForecastCongestion(  # noqa: N802
        self, request: congestion_service_pb2.ForecastCongestionRequest, context: grpc.ServicerContext
    ) -> Iterator[congestion_service_pb2.ForecastCongestionResponse]:
        """Forecast congestion."""
        call = current_call()
        with self._streams.taken(context):
            row = visible_network(self._importer.store, call.caller, request.network_id)
            yield from self._congestion.forecast(request, row, call)
