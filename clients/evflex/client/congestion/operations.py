"""The operations of the congestion service."""

from __future__ import annotations

from evflex.client.operations import Operation
from evflex.congestion.v1 import congestion_service_pb2 as pb

CONGESTION_SERVICE = "evflex.congestion.v1.CongestionService"

IMPORT_NETWORK = Operation(
    CONGESTION_SERVICE, "ImportNetwork", pb.ImportNetworkRequest, pb.ImportNetworkResponse, 600.0
)
GET_NETWORK = Operation(CONGESTION_SERVICE, "GetNetwork", pb.GetNetworkRequest, pb.GetNetworkResponse, 600.0)
LIST_NETWORKS = Operation(CONGESTION_SERVICE, "ListNetworks", pb.ListNetworksRequest, pb.ListNetworksResponse, 10.0)
DELETE_NETWORK = Operation(CONGESTION_SERVICE, "DeleteNetwork", pb.DeleteNetworkRequest, pb.DeleteNetworkResponse, 10.0)
FORECAST_LOAD = Operation(CONGESTION_SERVICE, "ForecastLoad", pb.ForecastLoadRequest, pb.ForecastLoadResponse, 30.0)
RUN_POWER_FLOW = Operation(CONGESTION_SERVICE, "RunPowerFlow", pb.RunPowerFlowRequest, pb.RunPowerFlowResponse, 600.0)
FORECAST_CONGESTION = Operation(
    CONGESTION_SERVICE, "ForecastCongestion", pb.ForecastCongestionRequest, pb.ForecastCongestionResponse, 600.0
)
GET_FORECAST = Operation(CONGESTION_SERVICE, "GetForecast", pb.GetForecastRequest, pb.GetForecastResponse, 600.0)
LIST_FORECASTS = Operation(CONGESTION_SERVICE, "ListForecasts", pb.ListForecastsRequest, pb.ListForecastsResponse, 10.0)
DELETE_FORECAST = Operation(
    CONGESTION_SERVICE, "DeleteForecast", pb.DeleteForecastRequest, pb.DeleteForecastResponse, 10.0
)
