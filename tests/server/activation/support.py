"""What the tests of the ledger's service share: a server of it alone, its parties, and requests."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import activation_service_pb2_grpc, audit_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.common.v1 import direction_pb2
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.servicer import ActivationServicer
from evflex.server.caller import CallerResolver, caller_resolver
from evflex.server.interceptor import CallInterceptor
from evflex.server.log import make_log
from evflex.server.metrics import Metrics
from evflex.server.solve_pool import SolvePool
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.retention import Retention
from tests.server.support import START_S, FakeEngine, open_channel, reason_of, settings_for

START_MS = START_S * 1_000
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
CPO, AGG, RIVAL, STRANGER = "cpo", "agg", "rival", "stranger"
UP, DOWN = direction_pb2.DIRECTION_UP, direction_pb2.DIRECTION_DOWN
EV, CHARGE_POINT, SITE = (
    resource_pb2.RESOURCE_KIND_EV, resource_pb2.RESOURCE_KIND_CHARGE_POINT, resource_pb2.RESOURCE_KIND_SITE,
)  # fmt: skip
HELD, CONFIRMED, ACTIVATED, DELIVERED, SETTLED, RELEASED, EXPIRED, SUSPENDED = (
    commitment_pb2.CommitmentState.values()[1:]
)  # fmt: skip
ONE_SIDE, SESSION, SAME_AGGREGATOR, NO_CASCADE = policy_pb2.ActivationPolicyKind.values()[1:]
_PATIENCE_S = 60.0


@dataclass
class Clock:
    """A clock that stands still until a test sets it."""

    unix_us: int = START_MS * 1_000

    def __call__(self) -> int:
        return self.unix_us

    def set_ms(self, after_start_ms: int) -> None:
        """Set it to so long after the start."""
        self.unix_us = (START_MS + after_start_ms) * 1_000


@dataclass(frozen=True)
class Party:
    """A caller: each RPC under its tenant."""

    stub: Any
    tenant_id: str

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        method = getattr(self.stub, name)
        return lambda request: method(request, metadata=(("evflex-tenant", self.tenant_id),), timeout=_PATIENCE_S)


@dataclass(frozen=True)
class RunningLedger:
    """A server with its parts, and a party a tenant."""

    keeper: LedgerKeeper
    clock: Clock
    channel: Any
    parties: dict[str, Party] = field(default_factory=dict)

    def party(self, tenant_id: str) -> Party:
        stub: Any = activation_service_pb2_grpc.ActivationServiceStub(self.channel)
        return self.parties.setdefault(tenant_id, Party(stub, tenant_id))

    @property
    def cpo(self) -> Party:
        return self.party(CPO)

    @property
    def agg(self) -> Party:
        return self.party(AGG)

    @property
    def rival(self) -> Party:
        return self.party(RIVAL)

    @property
    def stranger(self) -> Party:
        return self.party(STRANGER)


@contextmanager
def running_ledger(
    data_dir: Path,
    database_url: str = "",
    *,
    clock: Clock | None = None,
    resolve_caller: CallerResolver | None = None,
    **values: Any,
) -> Iterator[RunningLedger]:
    """A server of the ledger behind the interceptor; where no other clock is given, it begins at the start."""
    settings = settings_for(data_dir, database_url=database_url, **values)
    database = Database(settings)
    clock, log, metrics = clock or Clock(), make_log("critical"), Metrics()
    store = LedgerStore(database, Retention(settings.change_retention_days, settings.request_retention_days))
    keeper = LedgerKeeper(settings, store, clock, log)
    pool = SolvePool(settings.solve_threads, settings.solve_queue_limit, settings.retry_delay_s, metrics, log)
    interceptor = CallInterceptor(
        resolve_caller or caller_resolver(settings), log, metrics, settings.max_unary_answer_bytes
    )
    threads = ThreadPoolExecutor(32)
    server = grpc.server(threads, interceptors=[interceptor])
    servicer = ActivationServicer(settings, FakeEngine(), pool, keeper)
    activation_service_pb2_grpc.add_ActivationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with open_channel(port) as channel:
            yield RunningLedger(keeper, clock, channel)
    finally:
        keeper.drain()
        server.stop(None).wait()
        keeper.close()
        threads.shutdown()  # a watch may still be reading
        pool.close(5.0)
        database.close()


def new_id() -> str:
    return str(uuid.uuid4())


def at(after_start_ms: int) -> Timestamp:
    """So long after the start."""
    return time_of(START_MS + after_start_ms)


def time_of(unix_ms: int) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(unix_ms)
    return made


def after_start_ms(time: Timestamp) -> int:
    return time.ToMilliseconds() - START_MS


def resource(resource_id: str, kind: Any = EV, up_w: int | None = 10_000, **fields: Any) -> resource_pb2.Resource:
    """A resource with as much upward as downward."""
    values: dict[str, Any] = {"resource_id": resource_id, "kind": kind, "area_id": "north"}
    if up_w is not None:
        values |= {"up_headroom_w": up_w, "down_headroom_w": up_w}
    return resource_pb2.Resource(**(values | fields))


def alias(value: str, scheme: str = "vin") -> resource_pb2.Alias:
    return resource_pb2.Alias(scheme=scheme, value=value)


def register(party: Party, *resources: resource_pb2.Resource, **fields: Any) -> list[resource_pb2.Resource]:
    request = api.RegisterResourcesRequest(**{"request_id": new_id(), "resources": resources, **fields})
    return list(party.RegisterResources(request).resources)


def link(party: Party, resource_id: str, *aliases: resource_pb2.Alias, **fields: Any) -> Any:
    request = {"request_id": new_id(), "resource_id": resource_id, "aliases": aliases, **fields}
    return party.LinkAliases(api.LinkAliasesRequest(**request))


def unlink(party: Party, resource_id: str, *aliases: resource_pb2.Alias, **fields: Any) -> Any:
    request = {"request_id": new_id(), "resource_id": resource_id, "aliases": aliases, **fields}
    return party.UnlinkAliases(api.UnlinkAliasesRequest(**request))


def plug_in(
    party: Party, ev: str, charge_point: str, session_id: str = "", start_ms: int = 0, *, validate_only: bool = False,
    **fields: Any,
) -> api.OpenSessionResponse:  # fmt: skip
    session = resource_pb2.Session(
        session_id=session_id, ev_resource_id=ev, charge_point_resource_id=charge_point, start_time=at(start_ms),
        **fields,
    )  # fmt: skip
    request = api.OpenSessionRequest(request_id=new_id(), session=session, validate_only=validate_only)
    return party.OpenSession(request)  # type: ignore[no-any-return]


def unplug(party: Party, session_id: str, end_ms: int | None = None, **fields: Any) -> api.CloseSessionResponse:
    request = api.CloseSessionRequest(request_id=new_id(), session_id=session_id, **fields)
    if end_ms is not None:
        request.end_time.CopyFrom(at(end_ms))
    return party.CloseSession(request)  # type: ignore[no-any-return]


def sale(
    resource_id: str = "ev", power_w: int = 10_000, start_ms: int = 0, end_ms: int = HOUR_MS, direction: Any = UP,
    **fields: Any,
) -> commitment_pb2.Commitment:  # fmt: skip
    """A commitment of one resource, an hour from the start."""
    values: dict[str, Any] = {
        "product_id": "afrr", "direction": direction, "resource_id": resource_id, "power_w": power_w,
        "start_time": at(start_ms), "end_time": at(end_ms),
    }  # fmt: skip
    return commitment_pb2.Commitment(**(values | fields))


def row(resource_id: str, power_w: int) -> commitment_pb2.AllocationRow:
    return commitment_pb2.AllocationRow(resource_id=resource_id, power_w=power_w)


def pool(powers_w: dict[str, int], **fields: Any) -> commitment_pb2.Commitment:
    """A commitment of several resources."""
    rows = [row(name, power_w) for name, power_w in powers_w.items()]
    return sale("", sum(powers_w.values()), allocation=rows, **fields)


def hold_request(*sales: commitment_pb2.Commitment, **fields: Any) -> api.HoldCommitmentsRequest:
    return api.HoldCommitmentsRequest(**{"request_id": new_id(), "commitments": sales, **fields})


def hold(party: Party, *sales: commitment_pb2.Commitment, **fields: Any) -> api.HoldCommitmentsResponse:
    return party.HoldCommitments(hold_request(*sales, **fields))  # type: ignore[no-any-return]


def held(party: Party, *sales: commitment_pb2.Commitment, **fields: Any) -> list[commitment_pb2.Commitment]:
    answer = hold(party, *sales, **fields)
    assert answer.granted, answer.conflicts
    return list(answer.commitments)


def confirm(party: Party, *names: str, **fields: Any) -> api.ConfirmCommitmentsResponse:
    return party.ConfirmCommitments(named(api.ConfirmCommitmentsRequest, names, **fields))  # type: ignore[no-any-return]


def sold(party: Party, *sales: commitment_pb2.Commitment) -> list[commitment_pb2.Commitment]:
    """Confirmed commitments."""
    answer = confirm(party, *(one.commitment_id for one in held(party, *sales)))
    assert answer.confirmed, answer.conflicts
    return list(answer.commitments)


def activate(party: Party, *names: str, **fields: Any) -> api.ActivateCommitmentsResponse:
    return party.ActivateCommitments(named(api.ActivateCommitmentsRequest, names, **fields))  # type: ignore[no-any-return]


def called(party: Party, *sales: commitment_pb2.Commitment) -> list[commitment_pb2.Commitment]:
    """Activated commitments."""
    answer = activate(party, *(one.commitment_id for one in sold(party, *sales)))
    assert answer.activated, answer.conflicts
    return list(answer.commitments)


def complete(party: Party, *names: str, energy_wh: int = 5, **fields: Any) -> list[commitment_pb2.Commitment]:
    deliveries = [api.Delivery(commitment_id=name, delivered_energy_wh=energy_wh) for name in names]
    request = api.CompleteCommitmentsRequest(**{"request_id": new_id(), "deliveries": deliveries, **fields})
    return list(party.CompleteCommitments(request).commitments)


def settle(party: Party, *names: str, **fields: Any) -> list[commitment_pb2.Commitment]:
    request = named(api.SettleCommitmentsRequest, names, **({"settlement_id": "invoice-1"} | fields))
    return list(party.SettleCommitments(request).commitments)


def release(party: Party, *names: str, **fields: Any) -> list[commitment_pb2.Commitment]:
    return list(party.ReleaseCommitments(named(api.ReleaseCommitmentsRequest, names, **fields)).commitments)


def reallocate(party: Party, name: str, powers_w: dict[str, int], **fields: Any) -> api.ReallocateCommitmentResponse:
    rows = [row(resource_id, power_w) for resource_id, power_w in powers_w.items()]
    request = {"request_id": new_id(), "commitment_id": name, "allocation": rows, **fields}
    return party.ReallocateCommitment(api.ReallocateCommitmentRequest(**request))  # type: ignore[no-any-return]


def named(request: Any, names: Sequence[str], **fields: Any) -> Any:
    return request(**{"request_id": new_id(), "commitment_ids": names, **fields})


def get(party: Party, name: str) -> commitment_pb2.Commitment:
    return party.GetCommitment(api.GetCommitmentRequest(commitment_id=name)).commitment  # type: ignore[no-any-return]


def state(party: Party, name: str) -> Any:
    return get(party, name).state


def set_policy(party: Party, kind: Any = 0, area_id: str = "", product_id: str = "", **fields: Any) -> Any:
    policy = policy_pb2.ActivationPolicy(area_id=area_id, product_id=product_id, kind=kind, **fields)
    request = api.SetActivationPolicyRequest(request_id=new_id(), policy=policy)
    return party.SetActivationPolicy(request).policy


def delete_policy(party: Party, area_id: str = "", product_id: str = "", **fields: Any) -> None:
    request = {"request_id": new_id(), "area_id": area_id, "product_id": product_id, **fields}
    party.DeleteActivationPolicy(api.DeleteActivationPolicyRequest(**request))


def kinds(answer: Any) -> list[str]:
    """Kinds of the conflicts of a refusal, which must be one."""
    assert answer.conflicts
    assert not any(getattr(answer, flag, False) for flag in ("granted", "confirmed", "activated", "reallocated"))
    return [kind_of(conflict) for conflict in answer.conflicts]


def kind_of(conflict: commitment_pb2.Conflict) -> str:
    return commitment_pb2.ConflictKind.Name(conflict.kind).removeprefix("CONFLICT_KIND_")


def audit(party: Party, **fields: Any) -> list[audit_pb2.AuditRecord]:
    return [record for message in party.ExportAudit(api.ExportAuditRequest(**fields)) for record in message.records]


def error_of(call: Callable[..., object], *arguments: Any, **fields: Any) -> Any:
    """The error that a call must end with."""
    try:
        call(*arguments, **fields)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def refusal_of(call: Callable[..., object], *arguments: Any, **fields: Any) -> tuple[str, str]:
    """Code and reason of the error that a call must end with."""
    error = error_of(call, *arguments, **fields)
    return error.code().name, reason_of(error)


def each_at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What calls give, or the errors that they end with, that wait for one another to begin."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        ready.wait()
        try:
            return call()
        except grpc.RpcError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))
