"""Prometheus metrics of one server, on a port of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from evflex.server.settings import split_address

_RPC_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_GAP_BUCKETS = (0.0, 1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


@dataclass(slots=True)
class Metrics:
    """Counters and histograms; labels never name a tenant, a site or a session."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    rpcs: Counter = field(init=False)
    rpc_seconds: Histogram = field(init=False)
    solves: Counter = field(init=False)
    solve_seconds: Histogram = field(init=False)
    solve_gap: Histogram = field(init=False)
    solves_running: Gauge = field(init=False)
    solves_queued: Gauge = field(init=False)
    solves_rejected: Counter = field(init=False)
    watches: Gauge = field(init=False)
    watches_dropped: Counter = field(init=False)
    portfolio_bytes: Gauge = field(init=False)
    flow_steps: Counter = field(init=False)

    def __post_init__(self) -> None:
        """Register each metric."""
        own = self.registry
        self.rpcs = Counter("evflex_rpcs", "RPCs ended", ("method", "code"), registry=own)
        self.rpc_seconds = Histogram(
            "evflex_rpc_seconds", "Length of an RPC", ("method",), buckets=_RPC_BUCKETS_S, registry=own
        )
        self.solves = Counter("evflex_solves", "Solves ended", ("reason",), registry=own)
        self.solve_seconds = Histogram(
            "evflex_solve_seconds", "Length of a solve", buckets=_RPC_BUCKETS_S, registry=own
        )
        self.solve_gap = Histogram(
            "evflex_solve_relative_gap", "Proven relative gap of a solve", buckets=_GAP_BUCKETS, registry=own
        )
        self.solves_running = Gauge("evflex_solves_running", "Solves that run", registry=own)
        self.solves_queued = Gauge("evflex_solves_queued", "Solves that wait for a thread", registry=own)
        self.solves_rejected = Counter(
            "evflex_solves_rejected", "Solves refused or dropped unstarted", ("reason",), registry=own
        )
        self.watches = Gauge("evflex_watches", "Watches that run", registry=own)
        self.watches_dropped = Counter("evflex_watches_dropped", "Watchers dropped as too slow", registry=own)
        self.portfolio_bytes = Gauge(
            "evflex_portfolio_bytes", "Memory of portfolios that are used or coming in", registry=own
        )
        self.flow_steps = Counter("evflex_flow_steps", "Steps of power flows computed", registry=own)

    def solved(self, reason: str, duration_s: float, relative_gap: float) -> None:
        """Count a finished solve."""
        self.solves.labels(reason).inc()
        self.solve_seconds.observe(duration_s)
        self.solve_gap.observe(relative_gap)


class MetricsPort:
    """Serves the metrics of a registry over HTTP until closed."""

    def __init__(self, address: str, metrics: Metrics) -> None:
        """Listen on `address`, host:port; port 0 takes a free one."""
        host, port = split_address(address)
        self._server: WSGIServer
        self._thread: Thread
        self._server, self._thread = start_http_server(port, addr=host, registry=metrics.registry)

    @property
    def port(self) -> int:
        """The port that was taken."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
