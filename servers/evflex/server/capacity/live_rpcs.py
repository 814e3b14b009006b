"""RPCs of CapacityService in real time: tracking and watching."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
from structlog.typing import FilteringBoundLogger

from evflex.capacity.v1 import capacity_service_pb2, tracking_pb2
from evflex.engine.validation import Rules
from evflex.server.calls import current_call
from evflex.server.capacity.capacity_watcher import MaySee
from evflex.server.capacity.hub_terms import AgreementTerms
from evflex.server.capacity.live import LiveCapacities
from evflex.server.capacity.planning_rpcs import HubVisibility
from evflex.server.capacity.tracking import TrackStream
from evflex.server.capacity.watch import CapacityWatch
from evflex.server.errors import busy, limit_exceeded
from evflex.server.fields import check_id, refuse
from evflex.server.settings import Settings


class LiveRpcs:
    """The part of CapacityService that lives in real time."""

    def __init__(
        self,
        settings: Settings,
        live: LiveCapacities,
        agreements: AgreementTerms,
        visibility: HubVisibility,
        log: FilteringBoundLogger,
    ) -> None:
        """Serve with these parts."""
        self._live_settings = settings
        self._live = live
        self._live_agreements = agreements
        self._live_visibility = visibility
        self._live_log = log
        self._track_places = threading.Semaphore(settings.max_capacity_tracks)

    def TrackCapacity(  # noqa: N802
        self, request_iterator: Iterator[tracking_pb2.TrackCapacityRequest], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Track a transformer; hands out TrackCapacityResponse messages, serialized."""
        settings = self._live_settings
        if not self._track_places.acquire(blocking=False):
            limit = f"max_capacity_tracks is {settings.max_capacity_tracks}"
            raise busy("TOO_MANY_STREAMS", limit, settings.retry_delay_s)
        try:
            stream = TrackStream(
                settings, self._live, self._live_agreements, current_call(), request_iterator, self._live_log
            )
            yield from stream.answers()
        finally:
            self._track_places.release()

    def WatchCapacity(  # noqa: N802
        self, request: capacity_service_pb2.WatchCapacityRequest, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Stream what hubs may draw, then every change; hands out WatchCapacityResponse messages, serialized."""
        most = self._live_settings.max_watched_hubs
        if len(request.hub_ids) > most:
            raise limit_exceeded("max_watched_hubs", len(request.hub_ids), most)
        rules = Rules()
        for i, hub_id in enumerate(request.hub_ids):
            check_id(rules, f"hub_ids[{i}]", hub_id, required=True)
        refuse(rules)
        call = current_call()

        def look_up() -> MaySee:
            return self._live_visibility.visible_hubs(call.caller)

        watch = CapacityWatch(self._live_settings, self._live, look_up)
        watcher, hubs, plans = self._live.open_watch(call.caller, frozenset(request.hub_ids), look_up(), context.cancel)
        call.on_end(watcher.close)
        try:
            yield from watch.events(watcher, hubs, plans, request.resume_token)
        finally:
            self._live.leave(watcher)
