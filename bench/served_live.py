"""Tracking and watching in a process of their own: prints its port, and serves until its input ends."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import grpc

from evflex.capacity.v1 import capacity_service_pb2_grpc
from evflex.engine.capacity.tracking_warm_up import warm_up_tracking
from evflex.server.caller import Caller, caller_resolver
from evflex.server.capacity.agreements import ActiveTerms
from evflex.server.capacity.live import LiveCapacities
from evflex.server.capacity.live_rpcs import LiveRpcs, OwnHubsOnly
from evflex.server.interceptor import CallInterceptor
from evflex.server.log import make_log
from evflex.server.metrics import Metrics
from evflex.server.settings import Settings


class _NoAgreements:
    """All terms stand in the header."""

    def all_active_terms(self, caller: Caller, agreement_ids: Collection[str]) -> Mapping[str, ActiveTerms]:
        return {}


class _Servicer(LiveRpcs, capacity_service_pb2_grpc.CapacityServiceServicer):  # type: ignore[misc] # bytes are streamed
    """Tracking and watching only."""


def main(announce: Callable[[int], None], until: IO[str]) -> int:
    """Serve until `until` ends; `announce` hears the port once the kernels are warm."""
    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        settings = Settings(data_dir=Path(folder), log_level="error")
        metrics, log = Metrics(), make_log("error")
        live = LiveCapacities(settings, metrics)
        interceptor = CallInterceptor(caller_resolver(settings), log, metrics, settings.max_unary_answer_bytes)
        threads = settings.max_capacity_tracks + settings.max_capacity_watches
        server = grpc.server(ThreadPoolExecutor(threads), interceptors=[interceptor])
        servicer = _Servicer(settings, live, _NoAgreements(), OwnHubsOnly(), log)  # type: ignore[abstract]
        capacity_service_pb2_grpc.add_CapacityServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        warm_up_tracking()
        server.start()
        announce(port)
        until.read()
        live.close()
        server.stop(None).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(lambda port: print(port, flush=True), sys.stdin))
