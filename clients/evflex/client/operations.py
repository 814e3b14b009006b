"""What the synchronous and the asynchronous client share: the operations and the connection's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.client.errors import REQUEST_ID_KEY, EvflexError, FinishedCall, from_call
from evflex.client.retry import RetryPolicy

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

DEFAULT_ADDRESS = "127.0.0.1:50151"
CHARGING_SERVICE = "evflex.charging.v1.ChargingService"
MAX_ANSWER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Operation(Generic[RequestT, ResponseT]):
    """An RPC.

    Attributes:
        service: Full name of the service.
        name: Name of the RPC.
        request_type: Type of the request.
        response_type: Type of the answer.
        timeout_s: Default deadline; None is none.
    """

    service: str
    name: str
    request_type: type[RequestT]
    response_type: type[ResponseT]
    timeout_s: float | None

    @property
    def path(self) -> str:
        """Path of the RPC on the wire."""
        return f"/{self.service}/{self.name}"


OPTIMIZE_SCHEDULE = Operation(
    CHARGING_SERVICE, "OptimizeSchedule", pb.OptimizeScheduleRequest, pb.OptimizeScheduleResponse, 30.0
)
OPTIMIZE_SCHEDULES = Operation(
    CHARGING_SERVICE, "OptimizeSchedules", pb.OptimizeSchedulesRequest, pb.OptimizeSchedulesResponse, 600.0
)
GET_SCHEDULE = Operation(CHARGING_SERVICE, "GetSchedule", pb.GetScheduleRequest, pb.GetScheduleResponse, 10.0)
GET_LATEST_SCHEDULE = Operation(
    CHARGING_SERVICE, "GetLatestSchedule", pb.GetLatestScheduleRequest, pb.GetLatestScheduleResponse, 10.0
)
LIST_SCHEDULES = Operation(CHARGING_SERVICE, "ListSchedules", pb.ListSchedulesRequest, pb.ListSchedulesResponse, 10.0)
DELETE_SCHEDULE = Operation(
    CHARGING_SERVICE, "DeleteSchedule", pb.DeleteScheduleRequest, pb.DeleteScheduleResponse, 10.0
)
WATCH_SCHEDULES = Operation(
    CHARGING_SERVICE, "WatchSchedules", pb.WatchSchedulesRequest, pb.WatchSchedulesResponse, None
)


@dataclass(frozen=True, slots=True)
class Connection:
    """How a server is reached.

    Attributes:
        address: ``host:port``.
        credentials: TLS credentials; None connects without encryption.
        metadata: Sent with every call.
        retry: When a call is repeated.
    """

    address: str = DEFAULT_ADDRESS
    credentials: grpc.ChannelCredentials | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def channel_options(self) -> Sequence[tuple[str, int]]:
        """Options of the channel; a lost server is tried again sooner than by gRPC's default."""
        return (
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 5000),
        )

    def pairs(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Metadata as gRPC takes it, with the identifier under which the server logs the call."""
        return ((REQUEST_ID_KEY, request_id), *self.metadata.items())

    def error(self, call: FinishedCall, operation: str, request_id: str) -> EvflexError:
        """Exception for a failed call."""
        return from_call(call, server=self.address, operation=operation, request_id=request_id)
