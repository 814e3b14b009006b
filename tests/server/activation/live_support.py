"""What tests of a living ledger share: requests, servers on one database, and a check that trusts none of our code."""

from __future__ import annotations

import hashlib
import struct
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import sqlalchemy as sa

from evflex.activation.v1 import (
    activation_service_pb2 as api,
)
from evflex.activation.v1 import (
    activation_service_pb2_grpc,
    audit_pb2,
    commitment_pb2,
    policy_pb2,
    resource_pb2,
)
from evflex.engine.activation.model import Direction
from evflex.server.activation.world import LedgerWorld
from evflex.server.app import Server
from tests.server.support import FakeEngine, open_channel, settings_for

HOUR_MS = 3_600_000
EV, POINT, SITE = 1, 2, 3
UP, DOWN = 1, 2
HELD = commitment_pb2.COMMITMENT_STATE_HELD
CONFIRMED = commitment_pb2.COMMITMENT_STATE_CONFIRMED
ACTIVATED = commitment_pb2.COMMITMENT_STATE_ACTIVATED
RELEASED = commitment_pb2.COMMITMENT_STATE_RELEASED
EXPIRED = commitment_pb2.COMMITMENT_STATE_EXPIRED
SUSPENDED = commitment_pb2.COMMITMENT_STATE_SUSPENDED
COUNTING = (HELD, CONFIRMED, ACTIVATED)


def new_request_id() -> str:
    return str(uuid.uuid4())


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def tomorrow_ms() -> int:
    """A full hour about a day ahead."""
    return (now_ms() // HOUR_MS + 24) * HOUR_MS


def resource(
    resource_id: str,
    kind: int = EV,
    up_w: int | None = None,
    down_w: int | None = None,
    parent: str = "",
    aliases: Iterable[str] = (),
) -> resource_pb2.Resource:
    made = resource_pb2.Resource(resource_id=resource_id, kind=kind, parent_id=parent, area_id="north")  # type: ignore[arg-type]
    if up_w is not None:
        made.up_headroom_w = up_w
    if down_w is not None:
        made.down_headroom_w = down_w
    for alias in aliases:
        made.aliases.add(scheme="vin", value=alias)
    return made


def sale(
    of: str | dict[str, int], start_ms: int, end_ms: int, power_w: int = 1_000, direction: int = UP, **fields: Any
) -> commitment_pb2.Commitment:
    """A commitment to be held: of a resource, or of a pool as resources and their powers."""
    values: dict[str, Any] = {"product_id": "afrr", "direction": direction, "power_w": power_w, **fields}
    made = commitment_pb2.Commitment(**values)
    if isinstance(of, str):
        made.resource_id = of
    else:
        made.power_w = sum(of.values())
        for name, row_w in of.items():
            made.allocation.add(resource_id=name, power_w=row_w)
    made.start_time.FromMilliseconds(start_ms)
    made.end_time.FromMilliseconds(end_ms)
    return made


def register(*resources: resource_pb2.Resource, validate_only: bool = False) -> api.RegisterResourcesRequest:
    return api.RegisterResourcesRequest(request_id=new_request_id(), resources=resources, validate_only=validate_only)


def hold(
    *commitments: commitment_pb2.Commitment, seconds: float | None = None, validate_only: bool = False
) -> api.HoldCommitmentsRequest:
    request = api.HoldCommitmentsRequest(
        request_id=new_request_id(), commitments=commitments, validate_only=validate_only
    )
    if seconds is not None:
        request.hold_duration.FromMilliseconds(round(1e3 * seconds))
    return request


def confirm(*names: str, validate_only: bool = False) -> api.ConfirmCommitmentsRequest:
    return api.ConfirmCommitmentsRequest(request_id=new_request_id(), commitment_ids=names, validate_only=validate_only)


def release(*names: str, validate_only: bool = False) -> api.ReleaseCommitmentsRequest:
    return api.ReleaseCommitmentsRequest(request_id=new_request_id(), commitment_ids=names, validate_only=validate_only)


def activate(*names: str, validate_only: bool = False) -> api.ActivateCommitmentsRequest:
    return api.ActivateCommitmentsRequest(
        request_id=new_request_id(), commitment_ids=names, validate_only=validate_only
    )


def open_session(
    session_id: str, ev: str, point: str, start_ms: int, validate_only: bool = False
) -> api.OpenSessionRequest:
    session = resource_pb2.Session(session_id=session_id, ev_resource_id=ev, charge_point_resource_id=point)
    session.start_time.FromMilliseconds(start_ms)
    return api.OpenSessionRequest(request_id=new_request_id(), session=session, validate_only=validate_only)


def close_session(session_id: str, validate_only: bool = False) -> api.CloseSessionRequest:
    return api.CloseSessionRequest(request_id=new_request_id(), session_id=session_id, validate_only=validate_only)


def set_policy(
    kind: int = 0, product_id: str = "", area_id: str = "north", cap_w: int | None = None, sold_side: int = 0
) -> api.SetActivationPolicyRequest:
    policy = policy_pb2.ActivationPolicy(area_id=area_id, product_id=product_id, kind=kind, sold_side=sold_side)  # type: ignore[arg-type]
    if cap_w is not None:
        policy.aggregator_cap_w = cap_w
    return api.SetActivationPolicyRequest(request_id=new_request_id(), policy=policy)


class Client:
    """A tenant at a server."""

    def __init__(self, port: int, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self._channel = open_channel(port)
        self._stub: Any = activation_service_pb2_grpc.ActivationServiceStub(self._channel)

    def __getattr__(self, rpc: str) -> Any:
        """Call an RPC by its name."""
        method = getattr(self._stub, rpc)
        return lambda request, timeout=60.0: method(
            request, metadata=[("evflex-tenant", self.tenant_id)], timeout=timeout
        )

    def state_of(self, commitment_id: str) -> int:
        answer = self.GetCommitment(api.GetCommitmentRequest(commitment_id=commitment_id))
        state: int = answer.commitment.state
        return state

    def close(self) -> None:
        self._channel.close()


@dataclass(frozen=True)
class Live:
    """Servers on one database, and where that is."""

    servers: Sequence[Server]
    database_url: str
    clients: ExitStack

    def client(self, tenant_id: str, server: int = 0) -> Client:
        """A tenant at one of the servers; they are taken in turn."""
        made = Client(self.servers[server % len(self.servers)].port, tenant_id)
        self.clients.callback(made.close)
        return made


@contextmanager
def live(folder: Path, database_url: str = "", servers: int = 1, **values: Any) -> Iterator[Live]:
    """Servers of this process that share a database."""
    with ExitStack() as stack:
        started = []
        for _ in range(servers):
            server = Server(settings_for(folder, database_url=database_url, **values), engine=FakeEngine())
            started.append(stack.enter_context(server))
        yield Live(started, database_url or sqlite_url(folder), stack.enter_context(ExitStack()))


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'evflex.sqlite3'}"


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code


def shape_of(world: LedgerWorld) -> dict[str, Any]:
    """All that later answers can depend on."""
    ledger, registry = world.ledger, world.ledger.registry
    return {
        "position": world.position,
        "commitments": ledger.commitments(),
        "timelines": {
            (str(place), direction): load.steps()
            for place, book in ledger._books.items()
            for direction in Direction
            if (load := book.load(direction)) is not None and load.steps()
        },
        "members": {str(place): (set(book.members), set(book.direct)) for place, book in ledger._books.items()},
        "groups": {
            (str(place), group): {name: sorted(pieces) for name, pieces in members.items()}
            for place, book in ledger._books.items()
            for group, members in book._groups.items()
        },
        "naming": ledger._naming,
        "under NO_CASCADE": ledger._under_no_cascade,
        "active": world.active._active,
        "open holds": +world.open_holds,
        "messages": world.commitments,
        "resources": world.resources,
        "sessions": world.sessions,
        "policies": world.policies,
        "registry": (registry.resources, registry.sessions, registry.policies),
        "things": {name: registry.thing(name) for name in registry.resources},
        "ancestors": {name: set(registry.ancestors(registry.thing(name).thing_id)) for name in registry.resources},
        "sessions of": {
            name: registry.sessions_of(registry.thing(name), 0, 1 << 61) for name in registry.resources
        },
    }  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """What is stored, read with plain SQL."""

    commitments: dict[str, commitment_pb2.Commitment]
    resources: dict[str, resource_pb2.Resource]
    sessions: dict[str, resource_pb2.Session]
    policies: list[policy_pb2.ActivationPolicy]
    rights: set[str]
    lines: list[Any]
    head: tuple[int, bytes]


def read_tables(database_url: str) -> Tables:
    """One state of the tables."""
    engine = sa.create_engine(database_url)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        else:
            connection.exec_driver_sql("BEGIN")

        def payloads(table: str) -> list[bytes]:
            return [bytes(row[0]) for row in connection.execute(sa.text(f"SELECT payload FROM {table}"))]

        commitments = [commitment_pb2.Commitment.FromString(p) for p in payloads("activation_commitments")]
        resources = [resource_pb2.Resource.FromString(p) for p in payloads("activation_resources")]
        sessions = [resource_pb2.Session.FromString(p) for p in payloads("activation_sessions")]
        policies = [policy_pb2.ActivationPolicy.FromString(p) for p in payloads("activation_policies")]
        rights = {
            row[0] for row in connection.execute(sa.text("SELECT commitment_id FROM activation_exclusive_rights"))
        }
        lines = list(connection.execute(sa.text("SELECT * FROM activation_log ORDER BY sequence")))
        head = connection.execute(sa.text("SELECT sequence, hash FROM activation_head")).one()
    engine.dispose()
    return Tables(
        {c.commitment_id: c for c in commitments}, {r.resource_id: r for r in resources},
        {s.session_id: s for s in sessions}, [p for p in policies if not p.deleted], rights, lines,
        (head[0], bytes(head[1])),
    )  # fmt: skip


def check_tables(database_url: str) -> Tables:
    """Assert that what is stored is whole and sold once; returns it."""
    tables = read_tables(database_url)
    check_chain(tables)
    check_state_is_that_of_the_log(tables)
    check_sums(tables)
    return tables


def check_chain(tables: Tables) -> None:
    """Assert that each line follows from the one before, as audit.proto says, and that the head is the last."""
    previous, number = bytes(32), 0
    for number, line in enumerate(tables.lines, 1):
        assert line.sequence == number
        assert bytes(line.event_sha256) == hashlib.sha256(line.event).digest()
        assert bytes(line.previous_hash) == previous
        tenant = line.tenant_id.encode()
        text = previous + struct.pack(">QQI", line.sequence, line.create_time_unix_us, len(tenant)) + tenant
        previous = hashlib.sha256(text + line.event_sha256).digest()
        assert bytes(line.hash) == previous
    assert tables.head == (number, previous)


def check_state_is_that_of_the_log(tables: Tables) -> None:
    """Assert that the present state is what the last line about each thing says."""
    last: dict[str, dict[str, Any]] = defaultdict(dict)
    for line in tables.lines:
        event = audit_pb2.LedgerEvent.FromString(line.event)
        kind = event.WhichOneof("change")
        assert kind is not None
        message = getattr(event, kind)
        if kind in ("commitment", "resource", "session"):
            last[kind][getattr(message, f"{kind}_id")] = message
    assert last["commitment"] == tables.commitments
    assert last["resource"] == tables.resources
    assert last["session"] == tables.sessions
    active = {c.commitment_id for c in tables.commitments.values() if c.exclusive_group and c.state == ACTIVATED}
    assert tables.rights == active


def check_sums(tables: Tables) -> None:
    """Assert, instant by instant, that no headroom and no cap is exceeded and no vehicle sold with its charge point.

    Knows neither aliases, nor the policies SESSION and SAME_AGGREGATOR.
    """
    counting = [c for c in tables.commitments.values() if c.state in COUNTING]
    edges = {edge for c in counting for _, _, start, end in _rows(c) for edge in (start, end)}
    for session in tables.sessions.values():
        edges.update(_time_of(session))
    begins, ends = defaultdict(list), defaultdict(list)
    for c in counting:
        for name, power_w, start, end in _rows(c):
            begins[start].append((c.commitment_id, name, power_w))
            ends[end].append((c.commitment_id, name, power_w))
    running: set[tuple[str, str, int]] = set()
    for instant in sorted(edges):
        running.difference_update(ends[instant])
        running.update(begins[instant])
        _check_instant(tables, instant, running)


def _check_instant(tables: Tables, instant: int, running: Iterable[tuple[str, str, int]]) -> None:
    load: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    sold: set[str] = set()
    plugged = {s.session_id: s for s in tables.sessions.values() if _is_in(s, instant)}
    for commitment_id, name, power_w in running:
        commitment = tables.commitments[commitment_id]
        places, area_id = _places_of(tables, name, plugged)
        sold.add(name)
        if places:
            places.add(f"cap of {commitment.aggregator_id} in {area_id}")
        for place in places:
            load[place, commitment.direction][commitment_id] += power_w
    for (place, direction), of in load.items():
        limit_w = _limit_w(tables, place, direction)
        if limit_w is not None:
            level_w = _level_w(tables, of)
            assert level_w <= limit_w, f"{level_w} W of {limit_w} W are sold at {place} at {instant}: {dict(of)}"
    for session in plugged.values():
        sides = {session.ev_resource_id, session.charge_point_resource_id}
        assert not sides <= sold, f"both sides of {session.session_id} are sold at {instant}"


def _level_w(tables: Tables, of: dict[str, int]) -> int:
    groups: dict[tuple[str, str, str], int] = defaultdict(int)
    total = 0
    for commitment_id, power_w in of.items():
        c = tables.commitments[commitment_id]
        if c.exclusive_group or c.co_delivery_group:
            key = (c.aggregator_id, c.exclusive_group, c.co_delivery_group)
            groups[key] = max(groups[key], power_w)
        else:
            total += power_w
    return total + sum(groups.values())


def _places_of(tables: Tables, name: str, plugged: dict[str, resource_pb2.Session]) -> tuple[set[str], str]:
    """Where a row counts while some vehicles are plugged in, and the area of its cap."""
    session = tables.sessions.get(name)
    if session is not None:
        area_id = tables.resources[session.charge_point_resource_id].area_id
        if name not in plugged:
            return set(), area_id
        direct = [session.ev_resource_id, session.charge_point_resource_id]
    else:
        area_id = tables.resources[name].area_id
        direct = [name]
        direct += [there.charge_point_resource_id for there in plugged.values() if there.ev_resource_id == name]
    places = set()
    for place in direct:
        while place:
            places.add(place)
            place = tables.resources[place].parent_id
    return places, area_id


def _limit_w(tables: Tables, place: str, direction: int) -> int | None:
    if place in tables.resources:
        field = "up_headroom_w" if direction == UP else "down_headroom_w"
        found = tables.resources[place]
        return getattr(found, field) if found.HasField(field) else None
    area_id = place.rpartition(" ")[2]
    for area in (area_id, ""):
        for policy in tables.policies:
            if policy.area_id == area and not policy.product_id and policy.HasField("aggregator_cap_w"):
                return policy.aggregator_cap_w
    return None


def _rows(commitment: commitment_pb2.Commitment) -> list[tuple[str, int, int, int]]:
    start, end = commitment.start_time.ToMilliseconds(), commitment.end_time.ToMilliseconds()
    if commitment.resource_id:
        return [(commitment.resource_id, commitment.power_w, start, end)]
    rows = []
    for row in commitment.allocation:
        row_end = row.truncated_time.ToMilliseconds() if row.HasField("truncated_time") else end
        rows.append((row.resource_id, row.power_w, start, row_end))
    return rows


def _time_of(session: resource_pb2.Session) -> tuple[int, int]:
    end = session.end_time.ToMilliseconds() if session.HasField("end_time") else 1 << 60
    return session.start_time.ToMilliseconds(), end


def _is_in(session: resource_pb2.Session, instant: int) -> bool:
    start, end = _time_of(session)
    return start <= instant < end
