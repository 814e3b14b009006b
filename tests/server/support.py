"""What the server's tests share: requests, a solver to put in the kernels' place, and servers on free ports."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.charging.v1 import charging_service_pb2_grpc, charging_session_pb2, tariff_pb2
from evflex.common.v1 import supply_node_pb2, time_grid_pb2
from evflex.engine import activation
from evflex.engine.activation import BatchConflicts, Columns, PreparedRegistry, Registry
from evflex.engine.capacity.allocation import Allocation, Rating
from evflex.engine.capacity.model import AllocationOptions, AllocationProblem, RatingProblem
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import LimitRows, Schedule, ScheduleFigures, SessionResults
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress, Setpoints
from evflex.engine.grid import (
    CongestionOptions,
    CongestionProblem,
    CongestionSearch,
    FlowOptions,
    NearestSolvable,
    Network,
    PowerFlow,
    PreparedGrid,
)
from evflex.engine.grid.formats import ImportedNetwork, NetworkFormat
from evflex.engine.load import LoadForecast, LoadForecastOptions, LoadForecastProblem
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from evflex.server.app import Server
from evflex.server.settings import Settings

START_S = 1_730_804_400


def site_request(sessions: int = 2, steps: int = 8, **fields: Any) -> api.OptimizeScheduleRequest:
    """A valid request: sessions of 7.4 kW that stay for all of a grid of quarter-hours."""
    request = api.OptimizeScheduleRequest(
        site_id="site-1",
        time_grid=time_grid_pb2.TimeGrid(
            start_time=Timestamp(seconds=START_S), step_duration=Duration(seconds=900), step_count=steps
        ),
        nodes=[supply_node_pb2.SupplyNode(node_id="root", max_import_kw=[50.0], fixed_load_kw=[1.0] * steps)],
        sessions=[
            charging_session_pb2.ChargingSession(
                session_id=f"session-{i}",
                evse_id=f"evse-{i}",
                arrival_time=Timestamp(seconds=START_S),
                departure_time=Timestamp(seconds=START_S + 900 * steps),
                energy_needed_kwh=5.0,
                max_charge_kw=7.4,
                min_charge_kw=1.4,
                charge_efficiency=0.92,
            )
            for i in range(sessions)
        ],
        tariff=tariff_pb2.Tariff(
            currency_code="EUR", import_price_per_kwh=[0.2 + 0.01 * (k % 7) for k in range(steps)]
        ),
    )
    for name, value in fields.items():
        if isinstance(value, Message):
            getattr(request, name).CopyFrom(value)
        else:
            setattr(request, name, value)
    return request


def one_by_one(*requests: api.OptimizeScheduleRequest) -> Iterator[api.OptimizeSchedulesRequest]:
    """A stream of messages with a site each."""
    return iter([api.OptimizeSchedulesRequest(site_requests=[request]) for request in requests])


def answers_of(stream: Iterable[api.OptimizeSchedulesResponse]) -> Iterator[api.SiteAnswer]:
    """The answers of a stream as they come, whatever message they come in."""
    for message in stream:
        yield from message.answers


def stored_request(site_id: str = "site-1", **fields: Any) -> api.OptimizeScheduleRequest:
    """A valid request whose plan is stored."""
    return site_request(site_id=site_id, store=True, request_id=str(uuid.uuid4()), **fields)


@dataclass
class FakeEngine:
    """Plans nothing, at once or when told to, and honours cancellation and the time limit as the kernels do.

    Attributes:
        hold: While set, solves wait until it is cleared through `release`, cancelled, or out of time.
        started: Counts solves that began.
        cancelled: Counts solves that ended by cancellation.
        time_limits_s: Time limit of each solve.
    """

    hold: bool = False
    release: threading.Event = field(default_factory=threading.Event)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    cancelled: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    started_count: int = 0
    time_limits_s: list[float] = field(default_factory=list)
    options: list[ScheduleOptions] = field(default_factory=list)
    warm_up_gate: threading.Event | None = None
    warm_up_error: Exception | None = None
    error: Exception | None = None

    def warm_up(self) -> None:
        if self.warm_up_gate is not None:
            self.warm_up_gate.wait()
        if self.warm_up_error is not None:
            raise self.warm_up_error

    def optimize_schedule(
        self, problem: ScheduleProblem, options: ScheduleOptions, cancel: threading.Event | None = None
    ) -> Schedule:
        rules = Rules()
        problem.validate(rules)
        options.validate(rules, problem)
        rules.raise_if_any()
        self.time_limits_s.append(options.time_limit_s)
        self.options.append(options)
        self.started_count += 1
        self.started.release()
        if self.error is not None:
            raise self.error
        stopped_by = StoppedBy.NOTHING
        if self.hold:
            stopped_by = self._wait(options.time_limit_s, cancel or threading.Event())
        return empty_plan(problem, stopped_by)

    def optimize_together(
        self, problems: Sequence[ScheduleProblem], options: Sequence[ScheduleOptions]
    ) -> list[Schedule | None]:
        return [None] * len(problems)

    def align_previous(
        self,
        session_ids: tuple[str, ...],
        grid: TimeGrid,
        previous_session_ids: tuple[str, ...],
        previous_grid: TimeGrid,
        previous_power_kw: FloatArray,
    ) -> FloatArray:
        return np.full((len(session_ids), grid.step_count), np.nan)

    def plan_portfolio(
        self,
        problem: DispatchProblem,
        options: PlanOptions,
        cancel: threading.Event,
        on_progress: Callable[[PlanProgress], None],
    ) -> FleetPlan:
        raise NotImplementedError

    def setpoints_from_arrays(self, arrays: Mapping[str, NDArray[np.generic]]) -> Setpoints:
        raise NotImplementedError

    def rate_transformer(self, problem: RatingProblem) -> Rating:
        raise NotImplementedError

    def allocate_capacity(
        self, problem: AllocationProblem, options: AllocationOptions, cancel: threading.Event
    ) -> Allocation:
        raise NotImplementedError

    def read_network(
        self, network_format: NetworkFormat, files: Mapping[str, bytes], three_phase: bool | None
    ) -> ImportedNetwork:
        raise NotImplementedError

    def prepare_grid(self, network: Network) -> PreparedGrid:
        raise NotImplementedError

    def run_power_flow(
        self, prepared: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray, options: FlowOptions
    ) -> PowerFlow:
        raise NotImplementedError

    def nearest_solvable(self, prepared: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> NearestSolvable | None:
        raise NotImplementedError

    def prepare_congestion(
        self, problem: CongestionProblem, options: CongestionOptions, prepared: PreparedGrid
    ) -> CongestionSearch:
        raise NotImplementedError

    def prepare_registry(self, registry: Registry) -> PreparedRegistry:
        return activation.prepare_registry(registry)

    def check_batch(self, prepared: PreparedRegistry, columns: Columns, most_conflicts: int) -> BatchConflicts:
        return activation.check_batch(prepared, columns, most_conflicts)

    def forecast_load(self, problem: LoadForecastProblem, options: LoadForecastOptions) -> LoadForecast:
        raise NotImplementedError

    def _wait(self, time_limit_s: float, cancel: threading.Event) -> StoppedBy:
        deadline_s = time.monotonic() + time_limit_s
        while not self.release.is_set():
            if cancel.wait(0.005):
                self.cancelled.release()
                return StoppedBy.CANCELLED
            if time.monotonic() > deadline_s:
                return StoppedBy.TIME
        return StoppedBy.NOTHING


def empty_plan(problem: ScheduleProblem, stopped_by: StoppedBy = StoppedBy.NOTHING) -> Schedule:
    """A plan in which row i has i + 1 kW in each step."""
    count, steps = len(problem.sessions), problem.grid.step_count
    zeros = np.zeros(count)
    none, nothing = np.empty(0, dtype=np.int64), np.empty(0)
    figures = ScheduleFigures(*[float(i) for i in range(13)])
    return Schedule(
        power_kw=np.repeat(np.arange(1.0, count + 1.0)[:, None], steps, axis=1),
        current_a=np.full((count, steps), 6.0),
        root_power_kw=np.arange(float(steps)),
        figures=figures,
        uncontrolled=figures,
        uncontrolled_power_kw=np.zeros((count, steps)),
        uncontrolled_root_power_kw=np.zeros(steps),
        sessions=SessionResults(
            zeros,
            zeros,
            zeros,
            zeros,
            zeros,
            zeros,
            zeros.astype(np.int64),
            np.full(count, -1, dtype=np.int64),
        ),
        binding_limits=LimitRows(
            np.array([0]), np.array([1]), np.array([0]), np.array([1]), np.array([50.0]), np.array([0.1])
        ),
        limit_violations=LimitRows(none, none, none, none, nothing, nothing),
        termination=Termination(
            TerminationReason.OPTIMAL, stopped_by, 1.0, 1.0, 0.0, 0.0, 0.001, "fake", "plans nothing"
        ),
    )


def settings_for(data_dir: Path, **values: Any) -> Settings:
    """Settings of a server on free ports with little patience."""
    defaults: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "metrics_listen": "",
        "data_dir": data_dir,
        "solve_threads": 2,
        "watch_poll_s": 0.05,
        "drain_grace_s": 5.0,
        "log_level": "error",
        "sqlite_synchronous": "NORMAL",
    }
    return Settings(**{**defaults, **values})


@dataclass(frozen=True)
class Running:
    """A server, its engine, and a channel to it."""

    server: Server
    engine: FakeEngine
    channel: Any

    @property
    def stub(self) -> Any:
        return stub_of(self.channel)


@contextmanager
def running(
    data_dir: Path,
    engine: FakeEngine | None = None,
    *,
    server_arguments: dict[str, Any] | None = None,
    **values: Any,
) -> Iterator[Running]:
    """A server in this process with `engine` in the kernels' place."""
    engine = engine or FakeEngine()
    server = Server(settings_for(data_dir, **values), engine=engine, **(server_arguments or {}))
    with server, open_channel(server.port) as channel:
        yield Running(server, engine, channel)


def stub_of(channel: Any) -> Any:
    """The service behind a channel; the stubs' types know less than the stubs can do."""
    return charging_service_pb2_grpc.ChargingServiceStub(channel)


def open_channel(port: int, **options: int) -> Any:
    """A channel with default limits, so that tests meet what a plain client meets."""
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1), *named])


def status_of(error: Any) -> status_pb2.Status:
    """The google.rpc.Status in the trailers of a failed call."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return status_pb2.Status.FromString(value)
    raise AssertionError(f"no details: {error}")


def violations_of(error: Any) -> dict[str, str]:
    """Field and rule of each violation."""
    detail = error_details_pb2.BadRequest()
    for packed in status_of(error).details:
        if packed.Unpack(detail):
            return {v.field: v.description for v in detail.field_violations}
    return {}


def reason_of(error: Any) -> str:
    """Reason of the ErrorInfo, whose domain must be ours."""
    detail = error_details_pb2.ErrorInfo()
    for packed in status_of(error).details:
        if packed.Unpack(detail):
            assert detail.domain == "evflex"
            return detail.reason
    raise AssertionError("no ErrorInfo")


def info_of(error: Any) -> dict[str, str]:
    """Metadata of the ErrorInfo."""
    detail = error_details_pb2.ErrorInfo()
    for packed in status_of(error).details:
        if packed.Unpack(detail):
            return dict(detail.metadata)
    return {}


def retry_delay_s(error: Any) -> float | None:
    """Delay of the RetryInfo, None where there is none."""
    detail = error_details_pb2.RetryInfo()
    for packed in status_of(error).details:
        if packed.Unpack(detail):
            return detail.retry_delay.ToNanoseconds() / 1e9
    return None


def until(condition: Any, timeout_s: float = 10.0) -> None:
    """Wait until `condition()` holds."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.002)
