"""What the tests of agreements and bookings share: a server of these alone, its parties, and requests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.capacity.v1 import agreement_pb2, capacity_service_pb2_grpc
from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.common.v1 import time_grid_pb2
from evflex.engine.timegrid import TimeGrid
from evflex.server.caller import Caller, CallerResolver, caller_resolver
from evflex.server.capacity.agreement_rpcs import AgreementRpcs
from evflex.server.capacity.agreements import Agreements
from evflex.server.capacity.booking_rpcs import BookingRpcs
from evflex.server.capacity.bookings import Bookings
from evflex.server.interceptor import CallInterceptor
from evflex.server.log import make_log
from evflex.server.metrics import Metrics
from evflex.server.store.capacity import CapacityStore
from evflex.server.store.database import Database
from evflex.server.store.ratings import NewRating, RatingStore
from evflex.server.store.requests import RequestKey
from evflex.server.store.retention import Retention
from evflex.server.store.tables import agreement_events, agreement_versions
from tests.server.support import START_S, open_channel, settings_for

DSO, CPO, STRANGER = "dso", "cpo", "stranger"
HUB, TRANSFORMER = "hub-1", "transformer-1"
STEP_S = 900


class RpcsServicer(AgreementRpcs, BookingRpcs, capacity_service_pb2_grpc.CapacityServiceServicer):
    """Agreements and bookings only."""

    def __init__(self, agreements: Agreements, bookings: Bookings) -> None:
        AgreementRpcs.__init__(self, agreements)
        BookingRpcs.__init__(self, bookings)


@dataclass
class Clock:
    """A clock that tests set."""

    unix_us: int = START_S * 1_000_000

    def __call__(self) -> int:
        self.unix_us += 1
        return self.unix_us


@dataclass(frozen=True)
class Party:
    """A caller: each RPC under its tenant."""

    stub: Any
    tenant_id: str

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        method = getattr(self.stub, name)
        return lambda request: method(request, metadata=(("evflex-tenant", self.tenant_id),), timeout=60.0)


@dataclass(frozen=True)
class RunningCapacity:
    """A server with its parts, and a party a tenant."""

    database: Database
    agreements: Agreements
    bookings: Bookings
    ratings: RatingStore
    clock: Clock
    channel: Any
    parties: dict[str, Party] = field(default_factory=dict)

    def party(self, tenant_id: str) -> Party:
        stub: Any = capacity_service_pb2_grpc.CapacityServiceStub(self.channel)
        return self.parties.setdefault(tenant_id, Party(stub, tenant_id))

    @property
    def dso(self) -> Party:
        return self.party(DSO)

    @property
    def cpo(self) -> Party:
        return self.party(CPO)

    @property
    def stranger(self) -> Party:
        return self.party(STRANGER)


@contextmanager
def running_capacity(
    data_dir: Path, database_url: str = "", *, resolve_caller: CallerResolver | None = None, **values: Any
) -> Iterator[RunningCapacity]:
    """A server of agreements and bookings behind the interceptor."""
    settings = settings_for(data_dir, database_url=database_url, **values)
    database = Database(settings)
    retention = Retention(settings.change_retention_days, settings.request_retention_days)
    store, clock = CapacityStore(database, retention), Clock()
    agreements, bookings = Agreements(store, clock), Bookings(store, settings, clock)
    interceptor = CallInterceptor(
        resolve_caller or caller_resolver(settings), make_log("error"), Metrics(), settings.max_unary_answer_bytes
    )
    servicer = RpcsServicer(agreements, bookings)  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(16), interceptors=[interceptor])
    capacity_service_pb2_grpc.add_CapacityServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with open_channel(port) as channel:
            yield RunningCapacity(database, agreements, bookings, RatingStore(database, retention), clock, channel)
    finally:
        server.stop(None).wait()
        database.close()


def new_id() -> str:
    return str(uuid.uuid4())


def time_at(step: float) -> Timestamp:
    """Time of a step of 15 min after the start."""
    return Timestamp(seconds=START_S + round(step * STEP_S))


def terms(**fields: Any) -> agreement_pb2.Agreement:
    """An agreement between DSO and CPO on 10 kW firm and 20 kW conditional capacity."""
    values: dict[str, Any] = {
        "hub_id": HUB, "transformer_id": TRANSFORMER, "dso_party": DSO, "cpo_party": CPO, "firm_kw": 10.0,
        "conditional_kw": 20.0, "priority": 3, "notice_duration": Duration(seconds=900),
        "curtailment_price_per_kwh": 0.25, "currency_code": "EUR",
    }  # fmt: skip
    return agreement_pb2.Agreement(**{**values, **fields})


def proposal(**fields: Any) -> api.ProposeAgreementRequest:
    return api.ProposeAgreementRequest(request_id=new_id(), agreement=terms(**fields))


def acceptance(agreement: agreement_pb2.Agreement, **fields: Any) -> api.AcceptAgreementRequest:
    values = {"request_id": new_id(), "agreement_id": agreement.agreement_id, "version": agreement.version}
    return api.AcceptAgreementRequest(**{**values, **fields})


def ending(agreement: agreement_pb2.Agreement, **fields: Any) -> api.EndAgreementRequest:
    return api.EndAgreementRequest(**{"request_id": new_id(), "agreement_id": agreement.agreement_id, **fields})


def proposed(here: RunningCapacity, by: str = CPO, **fields: Any) -> agreement_pb2.Agreement:
    return here.party(by).ProposeAgreement(proposal(**fields)).agreement  # type: ignore[no-any-return]


def agreed(here: RunningCapacity, by: str = CPO, **fields: Any) -> agreement_pb2.Agreement:
    """An active agreement that `by` has proposed."""
    first = proposed(here, by, **fields)
    other = next(party for party in (first.dso_party, first.cpo_party) if party != by)
    return here.party(other).AcceptAgreement(acceptance(first)).agreement  # type: ignore[no-any-return]


def booking_request(
    agreement: agreement_pb2.Agreement,
    firm_kw: Sequence[float] = (),
    conditional_kw: Sequence[float] = (),
    *,
    first_step: float = 0,
    step_s: int = STEP_S,
    **fields: Any,
) -> api.BookCapacityRequest:
    """A booking that begins with a step of 15 min after the start."""
    grid = time_grid_pb2.TimeGrid(
        start_time=time_at(first_step),
        step_duration=Duration(seconds=step_s),
        step_count=len(firm_kw) or len(conditional_kw),
    )
    values: dict[str, Any] = {
        "request_id": new_id(), "hub_id": agreement.hub_id, "agreement_id": agreement.agreement_id, "time_grid": grid,
        "firm_kw": firm_kw, "conditional_kw": conditional_kw,
    }  # fmt: skip
    return api.BookCapacityRequest(**{**values, **fields})


def rate(
    here: RunningCapacity,
    headroom_n_kva: Sequence[float],
    headroom_n1_kva: Sequence[float],
    *,
    first_step: int = 0,
    transformer_id: str = TRANSFORMER,
    tenant_id: str = DSO,
) -> None:
    """Store a rating of steps of 15 min."""
    save_rating(here.ratings, headroom_n_kva, headroom_n1_kva, first_step, transformer_id, tenant_id)


def save_rating(
    ratings: RatingStore,
    headroom_n_kva: Sequence[float],
    headroom_n1_kva: Sequence[float],
    first_step: int,
    transformer_id: str,
    tenant_id: str,
) -> None:
    key = RequestKey(tenant_id, new_id(), "RateTransformer", new_id())
    grid = TimeGrid(START_S + float(first_step * STEP_S), float(STEP_S), len(headroom_n_kva))
    ratings.save(
        NewRating(key, "", transformer_id, grid, np.array(headroom_n_kva), np.array(headroom_n1_kva), b"", START_S)
    )


def code_of(call: Callable[..., object], *arguments: object) -> grpc.StatusCode:
    return error_of(call, *arguments).code()  # type: ignore[no-any-return]


def error_of(call: Callable[..., object], *arguments: object) -> Any:
    """The error that a call must end with."""
    try:
        call(*arguments)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def get(here: RunningCapacity, by: str, agreement_id: str, version: int = 0) -> Any:
    return here.party(by).GetAgreement(api.GetAgreementRequest(agreement_id=agreement_id, version=version))


def audit_rows(here: RunningCapacity) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Every row of terms and audit by its key, bit by bit."""
    rows: dict[tuple[object, ...], tuple[object, ...]] = {}
    with here.database.reading() as connection:
        for table in (agreement_versions, agreement_events):
            for row in connection.execute(sa.select(table)):
                rows[(table.name, *(row._mapping[column] for column in table.primary_key))] = tuple(row)
    return rows


def terms_in_force(here: RunningCapacity, by: str, agreement: agreement_pb2.Agreement) -> Any:
    """Terms by which a caller may share the transformer, None where there are none."""
    return here.agreements.all_active_terms(Caller(by), [agreement.agreement_id]).get(agreement.agreement_id)
