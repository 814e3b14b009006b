"""A server put together, started, drained and stopped."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sqlalchemy.engine import make_url
from structlog.typing import FilteringBoundLogger

from evflex.activation.v1 import activation_service_pb2, activation_service_pb2_grpc
from evflex.capacity.v1 import capacity_service_pb2, capacity_service_pb2_grpc
from evflex.charging.v1 import charging_service_pb2, charging_service_pb2_grpc
from evflex.congestion.v1 import congestion_service_pb2, congestion_service_pb2_grpc
from evflex.dispatch.v1 import dispatch_service_pb2, dispatch_service_pb2_grpc
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.servicer import ActivationServicer
from evflex.server.activation.sold import SoldFromLedger
from evflex.server.caller import CallerResolver, caller_resolver
from evflex.server.capacity.agreements import Agreements
from evflex.server.capacity.bookings import Bookings
from evflex.server.capacity.live import LiveCapacities
from evflex.server.capacity.planner import CapacityPlanner
from evflex.server.capacity.servicer import CapacityServicer
from evflex.server.charging.planner import Planner
from evflex.server.charging.servicer import ChargingServicer
from evflex.server.charging.watch_hub import WatchHub
from evflex.server.congestion.flows import FlowRunner
from evflex.server.congestion.forecasting import CongestionForecaster
from evflex.server.congestion.importing import NetworkImporter
from evflex.server.congestion.load import LoadForecaster
from evflex.server.congestion.prepared_networks import PreparedNetworks
from evflex.server.congestion.servicer import CongestionServicer
from evflex.server.dispatch.compaction import Compaction
from evflex.server.dispatch.keeper import Keeper
from evflex.server.dispatch.memory import PortfolioMemory
from evflex.server.dispatch.planner import PortfolioPlanner
from evflex.server.dispatch.products import known_products
from evflex.server.dispatch.residents import Residents
from evflex.server.dispatch.servicer import DispatchServicer
from evflex.server.dispatch.sold_commitments import SoldCommitments
from evflex.server.engine_port import Engine, KernelEngine
from evflex.server.errors import ServiceError
from evflex.server.interceptor import CallInterceptor
from evflex.server.log import make_log, places
from evflex.server.metrics import Metrics, MetricsPort
from evflex.server.settings import Settings, is_loopback, split_address
from evflex.server.solve_pool import SolvePool
from evflex.server.store.allocations import AllocationStore
from evflex.server.store.capacity import CapacityStore
from evflex.server.store.database import Database
from evflex.server.store.forecasts import ForecastStore
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.networks import NetworkStore
from evflex.server.store.plans import PlanStore
from evflex.server.store.portfolios import PortfolioStore
from evflex.server.store.ratings import RatingStore
from evflex.server.store.retention import Retention
from evflex.server.store.schedules import ScheduleStore
from evflex.server.telemetry import open_telemetry
from evflex.server.warm_up import warm_up

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_HEALTH_THREADS = 16
_POOL_CLOSE_S = 5.0


class InsecureListenError(ValueError):
    """The address can be reached from other machines, and insecure listening is not allowed."""


class Server:
    """A gRPC server of all services, with its pool, store and metrics.

    A context manager: entering starts, leaving stops without grace.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        engine: Engine | None = None,
        commitments: SoldCommitments | None = None,
        resolve_caller: CallerResolver | None = None,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        """Put the parts together; nothing is opened yet.

        Args:
            settings: All that can be set.
            engine: Another solver in place of the kernels.
            commitments: Another ledger for plans to look into.
            resolve_caller: Another way to tell who calls.
            log: Another logger.

        Raises:
            InsecureListenError: `settings.listen` is not loopback, and `allow_insecure` is not set.
        """
        host, _ = split_address(settings.listen)
        if not is_loopback(host) and not settings.allow_insecure:
            raise InsecureListenError(
                f"{settings.listen} can be reached from other machines without encryption or authentication; "
                "listen on 127.0.0.1, or set allow_insecure"
            )
        self.settings = settings
        self.metrics = Metrics()
        self.log = log or make_log(settings.log_level)
        self._engine = engine or KernelEngine()
        self._commitments = commitments
        self._resolve_caller = resolve_caller or caller_resolver(settings)
        self._health = health.HealthServicer(
            experimental_non_blocking=True, experimental_thread_pool=ThreadPoolExecutor(_HEALTH_THREADS)
        )
        self._draining = threading.Event()
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._stopping = threading.Lock()
        self._failed = False
        self._metrics_port: MetricsPort | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """Port of the API, known once started."""
        return self._port

    @property
    def metrics_port(self) -> int:
        """Port of the metrics, 0 where they are off."""
        return self._metrics_port.port if self._metrics_port else 0

    @property
    def failed(self) -> bool:
        """Whether the kernels could not be warmed up."""
        return self._failed

    def start(self) -> int:
        """Open the store and the ports, and begin to warm up; health reports SERVING when that is done.

        Returns:
            The port of the API.

        Raises:
            OSError: A port is taken, or the store cannot be opened.
        """
        settings = self.settings
        self._telemetry = open_telemetry(settings)
        self._database = _open_database(settings)
        retention = Retention(settings.change_retention_days, settings.request_retention_days)
        store = ScheduleStore(self._database, retention)
        self._prune(store)
        self.pool = SolvePool(
            settings.solve_threads, settings.solve_queue_limit, settings.retry_delay_s, self.metrics, self.log
        )
        self._hub = WatchHub(store, settings, self.metrics, self.log)
        planner = Planner(settings, self._engine, self.pool, store, self.metrics)
        charging = ChargingServicer(planner, self._hub, self._draining, self.log)
        self.live = LiveCapacities(settings, self.metrics)
        self.ledger = LedgerKeeper(settings, LedgerStore(self._database, retention), _now_unix_us, self.log)
        self._grpc = self._build(
            charging,
            self._dispatch_servicer(retention),
            self._capacity_servicer(retention),
            self._congestion_servicer(retention),
            ActivationServicer(settings, self._engine, self.pool, self.ledger),
        )
        self._set_health(_NOT_SERVING)
        try:
            self._port = self._grpc.add_insecure_port(settings.listen)
        except RuntimeError:
            self._port = 0
        if self._port == 0:
            self._close_parts()
            raise OSError(f"cannot listen on {settings.listen}; is the port taken?")
        try:
            if settings.metrics_listen:
                self._metrics_port = MetricsPort(settings.metrics_listen, self.metrics)
        except OSError as error:
            self._close_parts()
            raise OSError(f"cannot listen on {settings.metrics_listen} for metrics: {error.strerror}") from error
        self._grpc.start()
        self.log.info("listening", port=self._port, metrics_port=self.metrics_port)
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()
        return self._port

    def wait_until_serving(self, timeout_s: float | None = None) -> bool:
        """Wait for the warm-up; False when it failed or `timeout_s` passed."""
        return self._ready.wait(timeout_s) and not self._failed

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has stopped; False when `timeout_s` passed before."""
        return self._stopped.wait(timeout_s)

    def stop(self, grace_s: float | None = None) -> None:
        """Drain and stop: report NOT_SERVING, take no new RPCs, give running ones `grace_s`, cut off the rest, flush.

        May be called again, also from another thread: a shorter grace then replaces the first.
        """
        grace_s = self.settings.drain_grace_s if grace_s is None else grace_s
        self._draining.set()
        self._health.enter_graceful_shutdown()
        over = self._grpc.stop(grace_s)
        self._hub.close()
        self.live.close()
        self.ledger.drain()
        over.wait()
        with self._stopping:
            if not self._stopped.is_set():
                self._close_parts()
                self.log.info("stopped")
                self._stopped.set()

    def __enter__(self) -> Server:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop without grace."""
        self.stop(0.0)

    def _prune(self, store: ScheduleStore) -> None:
        try:
            deleted = store.prune(_now_unix_us())
        except ServiceError as error:  # a full disk, say: reading still works
            self.log.warning("old rows were not deleted", reason=error.reason)
        else:
            self.log.info("old rows deleted", rows=deleted)

    def _dispatch_servicer(self, retention: Retention) -> DispatchServicer:
        settings = self.settings
        portfolios = PortfolioStore(self._database, retention)
        residents = self.residents = Residents(portfolios, PortfolioMemory(settings.max_portfolio_memory_bytes))
        self.metrics.portfolio_bytes.set_function(lambda: residents.memory.used_bytes)
        self.compaction = Compaction(portfolios, residents, _now_unix_us, self.log)
        plans = PlanStore(self._database, retention)
        planner = PortfolioPlanner(
            settings,
            self._engine,
            self.pool,
            residents,
            plans,
            known_products(),
            self._commitments or SoldFromLedger(self.ledger),
            self.metrics,
        )
        return DispatchServicer(Keeper(settings, portfolios, residents, self.compaction), planner)

    def _capacity_servicer(self, retention: Retention) -> CapacityServicer:
        settings = self.settings
        store = CapacityStore(self._database, retention)
        agreements, bookings = Agreements(store), Bookings(store, settings)
        planner = CapacityPlanner(
            settings, self._engine, self.pool, AllocationStore(self._database, retention),
            RatingStore(self._database, retention), agreements, self.live, self.metrics,
        )  # fmt: skip
        return CapacityServicer(settings, planner, self.live, agreements, bookings, agreements, self.log)

    def _congestion_servicer(self, retention: Retention) -> CongestionServicer:
        settings = self.settings
        store = NetworkStore(self._database, retention)
        networks = PreparedNetworks(store, self._engine, settings.max_prepared_networks)
        importer = NetworkImporter(
            settings, self._engine, self.pool, store, networks, _now_unix_us
        )  # fmt: skip
        flows = FlowRunner(settings, self._engine, self.pool, networks, self.metrics)
        load = LoadForecaster(settings, self._engine, self.pool)
        forecasts = ForecastStore(self._database, retention)
        congestion = CongestionForecaster(
            settings, self._engine, self.pool, networks, forecasts, self.metrics, importer.now_unix_us
        )
        return CongestionServicer(importer, flows, load, congestion)

    def _build(
        self,
        charging: ChargingServicer,
        dispatch: DispatchServicer,
        capacity: CapacityServicer,
        congestion: CongestionServicer,
        activation: ActivationServicer,
    ) -> grpc.Server:
        settings = self.settings
        streams = settings.max_streams + settings.max_dispatch_streams + settings.max_capacity_tracks
        streams += settings.max_congestion_streams + settings.max_activation_streams
        threads = settings.rpc_threads + streams + settings.max_watches + settings.max_capacity_watches
        threads += settings.max_conflict_watches
        interceptors: list[grpc.ServerInterceptor[Any, Any]] = [
            CallInterceptor(self._resolve_caller, self.log, self.metrics, settings.max_unary_answer_bytes)
        ]
        if self._telemetry:
            interceptors.insert(0, self._telemetry.interceptor)
        server = grpc.server(
            # threads are made as needed; a stream keeps one for its whole length
            ThreadPoolExecutor(threads, thread_name_prefix="rpc"),
            interceptors=interceptors,
            maximum_concurrent_rpcs=threads,
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", int(settings.reuse_port)),
            ],
        )
        charging_service_pb2_grpc.add_ChargingServiceServicer_to_server(charging, server)
        dispatch_service_pb2_grpc.add_DispatchServiceServicer_to_server(dispatch, server)
        capacity_service_pb2_grpc.add_CapacityServiceServicer_to_server(capacity, server)
        congestion_service_pb2_grpc.add_CongestionServiceServicer_to_server(congestion, server)
        activation_service_pb2_grpc.add_ActivationServiceServicer_to_server(activation, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*_service_names(), health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _warm_up(self) -> None:
        started = time.perf_counter()
        try:
            if self.settings.warm_up:
                warm_up(self._engine)
        except Exception as error:
            self.log.error("warm-up failed", exception=type(error).__name__, places=places(error))
            self._failed = True
        else:
            self._set_health(_SERVING)  # without effect once draining
            self.log.info("serving", warm_up_s=round(time.perf_counter() - started, 3))
        self._ready.set()

    def _set_health(self, status: int) -> None:
        for name in (health.OVERALL_HEALTH, *_service_names()):
            self._health.set(name, status)

    def _close_parts(self) -> None:
        if not self.pool.close(_POOL_CLOSE_S):
            self.log.warning("a solve did not stop when told to")
        self.compaction.close()
        self.ledger.close()
        self._database.close()
        if self._metrics_port is not None:
            self._metrics_port.close()
        if self._telemetry:
            self._telemetry.close()


def _now_unix_us() -> int:
    return time.time_ns() // 1_000


def _open_database(settings: Settings) -> Database:
    try:
        return Database(settings)
    except ServiceError as error:
        where = make_url(settings.resolved_database_url).render_as_string(hide_password=True)
        raise OSError(f"cannot open the store {where}: {error.message} ({error.__cause__})") from error


def _service_names() -> tuple[str, ...]:
    return (
        charging_service_pb2.DESCRIPTOR.services_by_name["ChargingService"].full_name,
        dispatch_service_pb2.DESCRIPTOR.services_by_name["DispatchService"].full_name,
        capacity_service_pb2.DESCRIPTOR.services_by_name["CapacityService"].full_name,
        congestion_service_pb2.DESCRIPTOR.services_by_name["CongestionService"].full_name,
        activation_service_pb2.DESCRIPTOR.services_by_name["ActivationService"].full_name,
    )
