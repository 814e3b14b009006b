"""ChargingService: each RPC in a few lines, on top of planner, store and watches."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import grpc
from structlog.typing import FilteringBoundLogger

from evflex.charging.v1 import charging_service_pb2, charging_service_pb2_grpc, schedule_pb2
from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.calls import current_call
from evflex.server.charging import stored
from evflex.server.charging.planner import Planner
from evflex.server.charging.site_stream import SiteStream
from evflex.server.charging.watch import PartsCache, Watch
from evflex.server.charging.watch_hub import WatchHub
from evflex.server.errors import busy, limit_exceeded, not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.pages import check_page_size, page_of
from evflex.server.store.requests import request_key
from evflex.server.store.schedules import StoredSchedule


class ChargingServicer(charging_service_pb2_grpc.ChargingServiceServicer):
    """Translates between the wire and the planner, the store and the watches."""

    def __init__(self, planner: Planner, hub: WatchHub, draining: threading.Event, log: FilteringBoundLogger) -> None:
        """Serve with these parts; streams end once `draining` is set."""
        self._planner = planner
        self._store = planner.store
        self._settings = planner.settings
        self._hub = hub
        self._cache = PartsCache(planner.store)
        self._draining = draining
        self._log = log
        self._stream_places = threading.Semaphore(self._settings.max_streams)

    def OptimizeSchedule(  # noqa: N802
        self, request: charging_service_pb2.OptimizeScheduleRequest, context: grpc.ServicerContext
    ) -> charging_service_pb2.OptimizeScheduleResponse:
        """Plan one site."""
        answer = charging_service_pb2.OptimizeScheduleResponse()
        answer.schedule.SetInParent()
        self._planner.plan_one(request, answer.schedule, current_call())
        if request.store:
            self._hub.wake()
        return answer

    def OptimizeSchedules(  # type: ignore[override]  # noqa: N802
        self,
        request_iterator: Iterator[charging_service_pb2.OptimizeSchedulesRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[bytes]:
        """Plan many sites, each answered when it is done; hands out OptimizeSchedulesResponse messages, serialized."""
        settings = self._settings
        if not self._stream_places.acquire(blocking=False):
            raise busy("TOO_MANY_STREAMS", f"max_streams is {settings.max_streams}", settings.retry_delay_s)
        try:
            stream = SiteStream(
                self._planner, current_call(), request_iterator, self._draining, self._hub.wake, self._log
            )
            yield from stream.answers()
        finally:
            self._stream_places.release()

    def GetSchedule(  # noqa: N802
        self, request: charging_service_pb2.GetScheduleRequest, context: grpc.ServicerContext
    ) -> charging_service_pb2.GetScheduleResponse:
        """Return a stored schedule."""
        rules = Rules()
        check_id(rules, "schedule_id", request.schedule_id, required=True)
        refuse(rules)
        caller = current_call().caller
        row = _visible(caller, self._store.get(caller.tenant_id, request.schedule_id), request.schedule_id)
        return charging_service_pb2.GetScheduleResponse(schedule=_with_rows(row, request.session_ids))

    def GetLatestSchedule(  # noqa: N802
        self, request: charging_service_pb2.GetLatestScheduleRequest, context: grpc.ServicerContext
    ) -> charging_service_pb2.GetLatestScheduleResponse:
        """Return the schedule of a site that was stored last."""
        rules = Rules()
        check_id(rules, "site_id", request.site_id, required=True)
        refuse(rules)
        caller = current_call().caller
        row = _visible(caller, self._store.get_latest(caller.tenant_id, request.site_id), request.site_id)
        return charging_service_pb2.GetLatestScheduleResponse(schedule=_with_rows(row, request.session_ids))

    def ListSchedules(  # noqa: N802
        self, request: charging_service_pb2.ListSchedulesRequest, context: grpc.ServicerContext
    ) -> charging_service_pb2.ListSchedulesResponse:
        """List stored schedules, newest first."""
        rules = Rules()
        check_id(rules, "site_id", request.site_id)
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListSchedules {request.site_id}",
            request.page_size,
            request.page_token,
            lambda before, size: self._store.page(caller.tenant_id, request.site_id, before, size, caller.areas),
        )
        return charging_service_pb2.ListSchedulesResponse(
            schedules=[stored.summary(row) for row in rows], next_page_token=next_page_token
        )

    def DeleteSchedule(  # noqa: N802
        self, request: charging_service_pb2.DeleteScheduleRequest, context: grpc.ServicerContext
    ) -> charging_service_pb2.DeleteScheduleResponse:
        """Delete a stored schedule."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "schedule_id", request.schedule_id, required=True)
        refuse(rules)
        caller = current_call().caller
        key = request_key(caller.tenant_id, "DeleteSchedule", request.request_id, request)
        self._store.delete(
            key,
            request.schedule_id,
            request.etag,
            self._planner.now_unix_us(),
            may_use_area=caller.may_use_area,
            check_only=request.validate_only,
        )
        self._hub.wake()
        return charging_service_pb2.DeleteScheduleResponse()

    def WatchSchedules(  # noqa: N802
        self, request: charging_service_pb2.WatchSchedulesRequest, context: grpc.ServicerContext
    ) -> Iterator[charging_service_pb2.WatchSchedulesResponse]:
        """Stream the latest schedule of each site, then every change."""
        most = self._settings.max_watched_sites
        if len(request.site_ids) > most:
            raise limit_exceeded("max_watched_sites", len(request.site_ids), most)
        rules = Rules()
        for i, site_id in enumerate(request.site_ids):
            check_id(rules, f"site_ids[{i}]", site_id, required=True)
        refuse(rules)
        call = current_call()
        site_ids = frozenset(request.site_ids)
        watch = Watch(self._settings, self._store, self._hub, self._cache, call.caller, site_ids)
        watcher = self._hub.open(call.caller, site_ids, context.cancel)
        call.on_end(watcher.close)
        try:
            yield from watch.events(watcher, request.resume_token)
        finally:
            self._hub.leave(watcher)


def _visible(caller: Caller, row: StoredSchedule, name: str) -> StoredSchedule:
    """The row, unless the caller may not use its area: then there is no such schedule."""
    if not caller.may_use_area(row.area_id):
        raise not_found("schedule", name)
    return row


def _with_rows(row: StoredSchedule, session_ids: Sequence[str]) -> schedule_pb2.Schedule:
    schedule = stored.whole(row)
    if session_ids:
        stored.keep_rows(schedule, session_ids)
    return schedule
