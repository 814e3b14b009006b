"""A scripted server: each call of an RPC meets the next behaviour of its script."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from evflex.activation.v1 import activation_service_pb2_grpc
from evflex.capacity.v1 import capacity_service_pb2_grpc
from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.charging.v1 import charging_service_pb2_grpc
from evflex.congestion.v1 import congestion_service_pb2_grpc
from evflex.dispatch.v1 import dispatch_service_pb2_grpc

# the default of the real server
MAX_REQUEST_BYTES = 16 * 1024 * 1024

Behaviour = Callable[[Any, Any], Any]


class FakeServer(
    charging_service_pb2_grpc.ChargingServiceServicer,
    dispatch_service_pb2_grpc.DispatchServiceServicer,
    capacity_service_pb2_grpc.CapacityServiceServicer,
    congestion_service_pb2_grpc.CongestionServiceServicer,
    activation_service_pb2_grpc.ActivationServiceServicer,
):
    """Answers by script and keeps what it was asked.

    Attributes:
        calls: Name, request (a list for a stream) and metadata of each call.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self._script: dict[str, deque[Behaviour]] = {}
        self._server = grpc.server(
            ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", MAX_REQUEST_BYTES)]
        )
        charging_service_pb2_grpc.add_ChargingServiceServicer_to_server(self, self._server)
        dispatch_service_pb2_grpc.add_DispatchServiceServicer_to_server(self, self._server)
        capacity_service_pb2_grpc.add_CapacityServiceServicer_to_server(self, self._server)
        congestion_service_pb2_grpc.add_CongestionServiceServicer_to_server(self, self._server)
        activation_service_pb2_grpc.add_ActivationServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def on(self, rpc: str, *behaviours: Behaviour) -> None:
        """Let the next calls of ``rpc`` meet ``behaviours``, the last of them for ever."""
        self._script[rpc] = deque(behaviours)

    def asked(self, rpc: str) -> list[Any]:
        return [request for name, request, _ in self.calls if name == rpc]

    def OptimizeSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("OptimizeSchedule", request, context)

    def GetSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetSchedule", request, context)

    def GetLatestSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetLatestSchedule", request, context)

    def ListSchedules(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListSchedules", request, context)

    def DeleteSchedule(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeleteSchedule", request, context)

    def OptimizeSchedules(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("OptimizeSchedules", request_iterator, context)

    def WatchSchedules(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("WatchSchedules", request, context)

    def CreatePortfolio(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("CreatePortfolio", request_iterator, context)

    def UpdatePortfolio(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("UpdatePortfolio", request_iterator, context)

    def GetPortfolio(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetPortfolio", request, context)

    def ListPortfolios(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListPortfolios", request, context)

    def DeletePortfolio(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeletePortfolio", request, context)

    def ListPlans(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListPlans", request, context)

    def DeletePlan(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeletePlan", request, context)

    def ListProducts(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListProducts", request, context)

    def PlanPortfolio(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("PlanPortfolio", request, context)

    def GetPlan(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("GetPlan", request, context)

    def RateTransformer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("RateTransformer", request, context)

    def AllocateCapacity(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("AllocateCapacity", request, context)

    def GetAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetAllocation", request, context)

    def ListAllocations(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListAllocations", request, context)

    def DeleteAllocation(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeleteAllocation", request, context)

    def ProposeAgreement(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ProposeAgreement", request, context)

    def AcceptAgreement(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("AcceptAgreement", request, context)

    def EndAgreement(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("EndAgreement", request, context)

    def GetAgreement(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetAgreement", request, context)

    def ListAgreements(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListAgreements", request, context)

    def BookCapacity(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("BookCapacity", request, context)

    def ReleaseBooking(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ReleaseBooking", request, context)

    def ListBookings(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListBookings", request, context)

    def TrackCapacity(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("TrackCapacity", request_iterator, context)

    def WatchCapacity(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("WatchCapacity", request, context)

    def ListNetworks(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListNetworks", request, context)

    def DeleteNetwork(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeleteNetwork", request, context)

    def ForecastLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ForecastLoad", request, context)

    def ListForecasts(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListForecasts", request, context)

    def DeleteForecast(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeleteForecast", request, context)

    def ImportNetwork(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ImportNetwork", request_iterator, context)

    def GetNetwork(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("GetNetwork", request, context)

    def RunPowerFlow(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("RunPowerFlow", request, context)

    def ForecastCongestion(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("ForecastCongestion", request, context)

    def GetForecast(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("GetForecast", request, context)

    def RegisterResources(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("RegisterResources", request, context)

    def GetResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetResource", request, context)

    def ListResources(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListResources", request, context)

    def LinkAliases(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("LinkAliases", request, context)

    def UnlinkAliases(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("UnlinkAliases", request, context)

    def OpenSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("OpenSession", request, context)

    def CloseSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("CloseSession", request, context)

    def ListSessions(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListSessions", request, context)

    def CheckCommitments(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("CheckCommitments", request_iterator, context)

    def HoldCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("HoldCommitments", request, context)

    def ConfirmCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ConfirmCommitments", request, context)

    def ActivateCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ActivateCommitments", request, context)

    def CompleteCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("CompleteCommitments", request, context)

    def SettleCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("SettleCommitments", request, context)

    def ReleaseCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ReleaseCommitments", request, context)

    def ReallocateCommitment(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ReallocateCommitment", request, context)

    def GetCommitment(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetCommitment", request, context)

    def ListCommitments(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListCommitments", request, context)

    def WatchConflicts(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("WatchConflicts", request, context)

    def GetActivationPolicy(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("GetActivationPolicy", request, context)

    def ListActivationPolicies(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("ListActivationPolicies", request, context)

    def SetActivationPolicy(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("SetActivationPolicy", request, context)

    def DeleteActivationPolicy(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._meet("DeleteActivationPolicy", request, context)

    def ExportAudit(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield from self._meet("ExportAudit", request, context)

    def _meet(self, rpc: str, request: Any, context: Any) -> Any:
        kept: Any = request
        if not isinstance(request, Message):
            kept = []
            request = _kept(request, kept)
        self.calls.append((rpc, kept, dict(context.invocation_metadata())))
        script = self._script[rpc]
        behaviour = script.popleft() if len(script) > 1 else script[0]
        return behaviour(request, context)


def _kept(requests: Iterator[Any], into: list[Any]) -> Iterator[Any]:
    for request in requests:
        into.append(request)
        yield request


def answering(message: Message) -> Behaviour:
    return lambda _request, _context: message


def after_reading(message: Message) -> Behaviour:
    """Answer a stream of requests at its end."""

    def behaviour(requests: Any, _context: Any) -> Message:
        for _ in requests:
            pass
        return message

    return behaviour


def failing(code: grpc.StatusCode, message: str = "no", *details: Message, request_id: str = "") -> Behaviour:
    """Fail with a status and its details, before any answer of a stream."""

    def behaviour(_request: Any, context: Any) -> Any:
        abort(context, code, message, *details, request_id=request_id)

    return behaviour


def abort(context: Any, code: grpc.StatusCode, message: str, *details: Message, request_id: str = "") -> None:
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    rich = rpc_status.to_status(status)
    trailers = (*rich.trailing_metadata, ("x-request-id", request_id)) if request_id else rich.trailing_metadata
    context.set_trailing_metadata(trailers)
    context.abort(code, message)


def retry_after(seconds: float) -> Message:
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=int(seconds * 1e9)))


def sites_of(requests: Iterator[pb.OptimizeSchedulesRequest]) -> Iterator[pb.OptimizeScheduleRequest]:
    """Sites of a stream as they come, whatever message they come in."""
    for request in requests:
        yield from request.site_requests


def together(*answers: pb.SiteAnswer) -> pb.OptimizeSchedulesResponse:
    """A message of these answers."""
    return pb.OptimizeSchedulesResponse(answers=answers)


def summary(site: pb.OptimizeScheduleRequest, chunk_count: int = 0) -> pb.SiteAnswer:
    """First part of the answer for a site; whole when there are no chunks."""
    answer = pb.SiteAnswer(site_id=site.site_id, request_id=site.request_id)
    answer.summary.chunk_count = chunk_count
    schedule = answer.summary.schedule
    schedule.site_id = site.site_id
    schedule.time_grid.CopyFrom(site.time_grid)
    if not chunk_count:
        schedule.session_ids.extend(session.session_id for session in site.sessions)
        schedule.power_kw.extend([1.0] * (len(site.sessions) * site.time_grid.step_count))
    return answer


def chunk(site: pb.OptimizeScheduleRequest, index: int) -> pb.SiteAnswer:
    """The row of the ``index``-th session, its power equal to the index."""
    answer = pb.SiteAnswer(site_id=site.site_id, request_id=site.request_id)
    answer.chunk.chunk_index = index
    answer.chunk.session_ids.append(site.sessions[index].session_id)
    answer.chunk.evse_ids.append(site.sessions[index].evse_id)
    answer.chunk.power_kw.extend([float(index)] * site.time_grid.step_count)
    answer.chunk.session_results.add(session_id=site.sessions[index].session_id, delivered_kwh=index)
    return answer
