"""Agreements and bookings in a process of their own: prints its port, and serves until its input ends.

Its arguments are the URL of a database, empty for SQLite in a folder of its own, and the number of steps of 15 min that
a rating of 10 kVA of the transformer `transformer` of the system operator `dso` covers.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import grpc
import numpy as np

from evflex.capacity.v1 import capacity_service_pb2_grpc
from evflex.engine.timegrid import TimeGrid
from evflex.server.caller import caller_resolver
from evflex.server.capacity.agreement_rpcs import AgreementRpcs
from evflex.server.capacity.agreements import Agreements
from evflex.server.capacity.booking_rpcs import BookingRpcs
from evflex.server.capacity.bookings import Bookings
from evflex.server.interceptor import CallInterceptor
from evflex.server.log import make_log
from evflex.server.metrics import Metrics
from evflex.server.settings import Settings
from evflex.server.store.capacity import CapacityStore
from evflex.server.store.database import Database
from evflex.server.store.ratings import NewRating, RatingStore
from evflex.server.store.requests import RequestKey
from evflex.server.store.retention import Retention

DSO, TRANSFORMER = "dso", "transformer"
START_S, STEP_S = 1_730_804_400, 900
HEADROOM_KW = 10.0
_THREADS = 16


class _Servicer(AgreementRpcs, BookingRpcs, capacity_service_pb2_grpc.CapacityServiceServicer):
    """Agreements and bookings only."""

    def __init__(self, agreements: Agreements, bookings: Bookings) -> None:
        AgreementRpcs.__init__(self, agreements)
        BookingRpcs.__init__(self, bookings)


def main(database_url: str, steps: int, announce: Callable[[int], None], until: IO[str]) -> int:
    """Serve until `until` ends; `announce` hears the port."""
    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        settings = Settings(data_dir=Path(folder), database_url=database_url, log_level="error")
        database = Database(settings)
        retention = Retention(settings.change_retention_days, settings.request_retention_days)
        _rate(RatingStore(database, retention), steps)
        store = CapacityStore(database, retention)
        interceptor = CallInterceptor(
            caller_resolver(settings), make_log("error"), Metrics(), settings.max_unary_answer_bytes
        )
        server = grpc.server(ThreadPoolExecutor(_THREADS), interceptors=[interceptor])
        servicer = _Servicer(Agreements(store), Bookings(store, settings))  # type: ignore[abstract]
        capacity_service_pb2_grpc.add_CapacityServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        announce(port)
        until.read()
        server.stop(None).wait()
        database.close()
    return 0


def _rate(ratings: RatingStore, steps: int) -> None:
    grid = TimeGrid(float(START_S), float(STEP_S), steps)
    headroom_kva = np.full(steps, HEADROOM_KW)
    key = RequestKey(DSO, "", "RateTransformer", "")
    ratings.save(NewRating(key, "", TRANSFORMER, grid, headroom_kva, headroom_kva, b"", 1_000_000 * START_S))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), lambda port: print(port, flush=True), sys.stdin))
