"""RPCs of CongestionService about networks: each in a few lines, on top of importer and store."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from evflex.congestion.v1 import congestion_service_pb2
from evflex.engine.validation import Rules
from evflex.server.calls import current_call
from evflex.server.congestion.encode_network import shown_network, table_chunks
from evflex.server.congestion.importing import NetworkImporter
from evflex.server.congestion.visible import visible_network
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.pages import check_page_size, page_of
from evflex.server.store.requests import request_key
from evflex.server.stream_places import StreamPlaces


class NetworkRpcs:
    """ImportNetwork, GetNetwork, ListNetworks and DeleteNetwork."""

    def __init__(self, importer: NetworkImporter, streams: StreamPlaces) -> None:
        """Serve with these parts."""
        self._importer = importer
        self._network_streams = streams

    def ImportNetwork(  # noqa: N802
        self, request_iterator: Iterator[congestion_service_pb2.ImportNetworkRequest], context: grpc.ServicerContext
    ) -> congestion_service_pb2.ImportNetworkResponse:
        """Take a network in."""
        with self._network_streams.taken(context):
            return self._importer.take(request_iterator, current_call())

    def GetNetwork(  # noqa: N802
        self, request: congestion_service_pb2.GetNetworkRequest, context: grpc.ServicerContext
    ) -> Iterator[congestion_service_pb2.GetNetworkResponse]:
        """Stream a network."""
        with self._network_streams.taken(context):
            row = visible_network(self._importer.store, current_call().caller, request.network_id)
            yield congestion_service_pb2.GetNetworkResponse(network=shown_network(row))
            if request.return_tables:
                for tables in table_chunks(self._importer.networks.network(row)):
                    yield congestion_service_pb2.GetNetworkResponse(tables=tables)

    def ListNetworks(  # noqa: N802
        self, request: congestion_service_pb2.ListNetworksRequest, context: grpc.ServicerContext
    ) -> congestion_service_pb2.ListNetworksResponse:
        """List networks, newest first."""
        rules = Rules()
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller, store = current_call().caller, self._importer.store
        rows, next_page_token = page_of(
            "ListNetworks",
            request.page_size,
            request.page_token,
            lambda before, size: store.page(caller.tenant_id, before, size, caller.areas),
        )
        return congestion_service_pb2.ListNetworksResponse(
            networks=[shown_network(row) for row in rows], next_page_token=next_page_token
        )

    def DeleteNetwork(  # noqa: N802
        self, request: congestion_service_pb2.DeleteNetworkRequest, context: grpc.ServicerContext
    ) -> congestion_service_pb2.DeleteNetworkResponse:
        """Delete a network."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "network_id", request.network_id, required=True)
        refuse(rules)
        caller = current_call().caller
        self._importer.store.delete(
            request_key(caller.tenant_id, "DeleteNetwork", request.request_id, request),
            request.network_id,
            request.etag,
            self._importer.now_unix_us(),
            may_use_area=caller.may_use_area,
            check_only=request.validate_only,
        )
        return congestion_service_pb2.DeleteNetworkResponse()
