"""The store of the activation ledger: its chained log, the present state beside it, locks, requests and reads."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from evflex.activation.v1 import audit_pb2, commitment_pb2, policy_pb2, resource_pb2
from evflex.server.errors import ServiceError
from evflex.server.store.activation_tables import (
    activation_aggregators,
    activation_commitments,
    activation_exclusive_rights,
    activation_log,
    activation_requests,
)
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import Head, LogRow, NewEvent
from evflex.server.store.ledger_turn import LedgerTurn
from evflex.server.store.requests import RequestKey
from evflex.server.store.retention import Retention
from tests.conftest import SOAK
from tests.server.support import START_S, settings_for, until

NOW_US = START_S * 1_000_000
DAY_US = 86_400_000_000
HOUR_MS = 3_600_000
NOW_MS = START_S * 1_000

HELD = commitment_pb2.COMMITMENT_STATE_HELD
CONFIRMED = commitment_pb2.COMMITMENT_STATE_CONFIRMED
ACTIVATED = commitment_pb2.COMMITMENT_STATE_ACTIVATED
DELIVERED = commitment_pb2.COMMITMENT_STATE_DELIVERED
SUSPENDED = commitment_pb2.COMMITMENT_STATE_SUSPENDED


@pytest.fixture
def database(tmp_path: Path, ledger_database_url: str) -> Iterator[Database]:
    opened = Database(settings_for(tmp_path, database_url=ledger_database_url))
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> LedgerStore:
    return LedgerStore(database, Retention(30.0, 30.0))


@pytest.fixture
def postgres(tmp_path: Path, debian_postgres_database: str) -> Iterator[Database]:
    opened = Database(settings_for(tmp_path, database_url=debian_postgres_database))
    yield opened
    opened.close()


@pytest.fixture
def postgres_store(postgres: Database) -> LedgerStore:
    return LedgerStore(postgres, Retention(30.0, 30.0))


def resource(resource_id: str, tenant_id: str = "cpo", area_id: str = "north", kind: Any = 1) -> resource_pb2.Resource:
    return resource_pb2.Resource(
        resource_id=resource_id, kind=kind, parent_id="site", area_id=area_id, tenant_id=tenant_id, etag="e",
        aliases=[resource_pb2.Alias(scheme="vin", value="\N{GREEK SMALL LETTER ALPHA}")],
    )  # fmt: skip


def session(
    session_id: str, ev: str = "ev", charge_point: str = "cp", tenant_id: str = "cpo", end_ms: int | None = None
) -> resource_pb2.Session:
    made = resource_pb2.Session(
        session_id=session_id, ev_resource_id=ev, charge_point_resource_id=charge_point, tenant_id=tenant_id,
        area_id="north",
    )  # fmt: skip
    made.start_time.FromMilliseconds(NOW_MS - 1000 * HOUR_MS)
    if end_ms is not None:
        made.end_time.FromMilliseconds(end_ms)
    return made


def commitment(
    commitment_id: str, tenant_id: str = "agg", *, state: Any = HELD, sequence: int = 0, group: str = "",
    start_ms: int = NOW_MS, end_ms: int = NOW_MS + HOUR_MS, product_id: str = "afrr", area_id: str = "north",
) -> commitment_pb2.Commitment:  # fmt: skip
    made = commitment_pb2.Commitment(
        commitment_id=commitment_id, aggregator_id=tenant_id, tenant_id=tenant_id, product_id=product_id,
        direction="DIRECTION_UP", resource_id="ev", power_w=7_400, exclusive_group=group, state=state,
        sequence=sequence, area_id=area_id,
        etag=uuid.uuid4().hex,
    )  # fmt: skip
    made.start_time.FromMilliseconds(start_ms)
    made.end_time.FromMilliseconds(end_ms)
    return made


def policy(area_id: str, product_id: str, tenant_id: str = "tso") -> policy_pb2.ActivationPolicy:
    return policy_pb2.ActivationPolicy(
        area_id=area_id, product_id=product_id, kind="ACTIVATION_POLICY_KIND_NO_CASCADE", tenant_id=tenant_id
    )


def conflict(kept: str, suspended: str, suspended_commitment_id: str) -> audit_pb2.ResolvedConflict:
    return audit_pb2.ResolvedConflict(
        kept_aggregator_id=kept, suspended_aggregator_id=suspended, kept_commitment_id="kept",
        suspended_commitment_id=suspended_commitment_id, session_id="s",
    )  # fmt: skip


Change = (
    resource_pb2.Resource
    | resource_pb2.Session
    | commitment_pb2.Commitment
    | policy_pb2.ActivationPolicy
    | audit_pb2.ResolvedConflict
)
FIELDS: dict[type[object], str] = {
    resource_pb2.Resource: "resource",
    resource_pb2.Session: "session",
    commitment_pb2.Commitment: "commitment",
    policy_pb2.ActivationPolicy: "policy",
    audit_pb2.ResolvedConflict: "conflict",
}


def events(head: Head, changes: Iterable[Change], tenant_id: str = "who") -> list[NewEvent]:
    """Changes as a ledger hands them over: with their sequences set, a commitment's only where it is new."""
    made = []
    for sequence, change in enumerate(changes, head.sequence + 1):
        if not isinstance(change, audit_pb2.ResolvedConflict) and (
            not isinstance(change, commitment_pb2.Commitment) or change.sequence == 0
        ):
            change.sequence = sequence
        event = audit_pb2.LedgerEvent()
        getattr(event, FIELDS[type(change)]).CopyFrom(change)
        made.append(NewEvent(tenant_id, "north", event))
    return made


def append(store: LedgerStore, *changes: Change, now_unix_us: int = NOW_US) -> Head:
    with store.turn() as turn:
        turn.append(events(turn.lock_head(), changes), now_unix_us)
        return turn.lock_head()


def assert_chained(rows: Sequence[LogRow]) -> bytes:
    """What audit.proto says of a whole ledger; the last chain value."""
    previous = bytes(32)
    for sequence, row in enumerate(rows, 1):
        tenant = row.tenant_id.encode("utf-8")
        digest = hashlib.sha256(row.event).digest()
        value = hashlib.sha256(
            previous
            + sequence.to_bytes(8, "big")
            + row.event_time_unix_us.to_bytes(8, "big")
            + len(tenant).to_bytes(4, "big")
            + tenant
            + digest
        ).digest()
        assert (row.sequence, row.previous_hash, row.event_sha256, row.hash) == (sequence, previous, digest, value)
        previous = value
    return previous


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)


def test_what_is_appended_is_chained_and_read_back(store: LedgerStore) -> None:
    with store.turn() as turn:
        assert turn.lock_head() == Head(0, bytes(32))
    made: list[Change] = [
        resource("ev"), session("s"), commitment("c"), policy("north", ""), conflict("agg", "other", "d"),
    ]  # fmt: skip
    append(store, *made[:2])
    head = append(store, *made[2:], now_unix_us=NOW_US + 1)
    rows = list(store.audit(1))
    assert head == Head(5, assert_chained(rows))
    assert [(row.kind, row.tenant_id, row.area_id) for row in rows] == [(k, "who", "north") for k in range(1, 6)]
    assert [row.event_time_unix_us for row in rows] == [NOW_US] * 2 + [NOW_US + 1] * 3
    for row, change in zip(rows, made, strict=True):
        assert getattr(audit_pb2.LedgerEvent.FromString(row.event), FIELDS[type(change)]) == change
    assert store.resources_page(None, 9, None) == made[:1]
    assert (store.session("s"), store.commitment("c")) == tuple(made[1:3])
    with store.turn() as turn:
        assert turn.events_after(2) == rows[2:]
        assert turn.events_after(5) == []


def test_a_tenant_is_hashed_with_its_length_in_bytes(store: LedgerStore) -> None:
    with store.turn() as turn:
        turn.append(events(turn.lock_head(), [policy("", "")], "\N{GREEK SMALL LETTER OMEGA}"), NOW_US)
    assert_chained(list(store.audit(1)))


def test_the_present_state_is_that_of_the_last_change(store: LedgerStore, database: Database) -> None:
    held = commitment("c")
    append(store, held, resource("ev", area_id="south"), session("s"), policy("north", "", "first"))
    confirmed = commitment("c", sequence=held.sequence, state=CONFIRMED, end_ms=NOW_MS + 1)
    later: list[Change] = [
        confirmed,
        resource("ev", area_id="north"),
        session("s", end_ms=NOW_MS),
        policy("north", "", "second"),
    ]
    append(store, *later, now_unix_us=NOW_US + 1)
    assert [store.commitment("c"), *store.resources_page(None, 9, None), store.session("s")] == later[:3]
    assert store.policies_page(None, 9, None) == later[3:]
    assert store.resources_page(None, 9, frozenset({"south"})) == []
    with database.reading() as connection:
        row = connection.execute(sa.select(activation_commitments)).one()
    assert (row.sequence, row.state, row.end_unix_ms, row.version) == (1, CONFIRMED, NOW_MS + 1, 2)
    assert (row.create_time_unix_us, row.update_time_unix_us, row.etag) == (NOW_US, NOW_US + 1, confirmed.etag)


def test_several_changes_of_one_thing_in_a_batch_leave_the_last(store: LedgerStore) -> None:
    held = commitment("c", sequence=1)
    append(store, held, commitment("c", sequence=1, state=CONFIRMED), commitment("c", sequence=1, state=ACTIVATED))
    stored = store.commitment("c")
    assert stored is not None
    assert stored.state == ACTIVATED


def test_appends_of_one_turn_follow_each_other(store: LedgerStore) -> None:
    with store.turn() as turn:
        turn.append([], NOW_US)
        for name in ("a", "b"):
            turn.append(events(turn.lock_head(), [resource(name)]), NOW_US)
    assert_chained(list(store.audit(1)))
    assert [row.sequence for row in store.audit(1)] == [1, 2]


def test_a_turn_that_fails_leaves_nothing(store: LedgerStore, database: Database) -> None:
    key = request_key_of()

    def fail_half_way() -> None:
        with store.turn() as turn:
            turn.lock(["ev"], [("agg", "north")])
            turn.append(events(turn.lock_head(), [commitment("c", state=ACTIVATED, group="g")]), NOW_US)
            turn.log_requests([(key, "c", "north", b"answer")], NOW_US)
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    with store.turn() as turn:
        assert turn.lock_head() == Head(0, bytes(32))
    for table in (activation_log, activation_commitments, activation_exclusive_rights, activation_requests):
        assert count(database, table) == 0
    assert count(database, activation_aggregators) == 0


@pytest.mark.parametrize("change", ["resource", "session", "policy", "commitment", ""])
def test_an_event_with_another_sequence_is_refused(tmp_path: Path, change: str) -> None:
    database = Database(settings_for(tmp_path))
    store = LedgerStore(database, Retention(30.0, 30.0))
    event = audit_pb2.LedgerEvent()
    if change:
        getattr(event, change).sequence = 2
    with pytest.raises(ValueError, match=change or "without"), store.turn() as turn:
        turn.append([NewEvent("t", "north", event)], NOW_US)
    assert count(database, activation_log) == 0
    database.close()


def test_a_turn_is_durable_whatever_the_settings_say(tmp_path: Path) -> None:
    database = Database(settings_for(tmp_path, sqlite_synchronous="NORMAL"))
    query = sa.text("PRAGMA synchronous")
    for _ in range(2):
        with database.writing() as connection:
            assert connection.execute(query).scalar() == 1
        with database.writing_durably() as connection:
            assert connection.execute(query).scalar() == 2
    database.close()


@pytest.mark.postgres
def test_a_turn_is_durable_where_postgres_would_not_be(postgres: Database, debian_postgres_database: str) -> None:
    name = sa.make_url(debian_postgres_database).database
    with postgres.writing() as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    postgres.close()  # connections to come take the setting
    query = sa.text("SHOW synchronous_commit")
    with postgres.writing() as connection:
        assert connection.execute(query).scalar() == "off"
    with postgres.writing_durably() as connection:
        assert connection.execute(query).scalar() == "on"


# --- locks -------------------------------------------------------------------------------------


def is_free(database: Database, resource_ids: Sequence[str], caps: Sequence[tuple[str, str]], *, head: bool) -> bool:
    """Whether another turn could take locks without waiting."""
    try:
        with database.writing_durably() as connection:
            connection.execute(sa.text("SET LOCAL lock_timeout = '20ms'"))
            turn = LedgerTurn(connection, Retention(30.0, 30.0))
            turn.lock(resource_ids, caps)
            if head:
                turn.lock_head()
    except ServiceError as error:
        if error.reason != "STORAGE_UNAVAILABLE":
            raise
        return False
    return True


@pytest.mark.postgres
def test_turns_wait_for_what_they_share_and_for_nothing_else(postgres: Database, postgres_store: LedgerStore) -> None:
    append(postgres_store, *(resource(name) for name in "abc"))
    with postgres_store.turn() as turn:
        turn.lock(["b", "a", "absent"], [("agg", "north")])
        assert is_free(postgres, ["c"], [("agg", "south"), ("other", "north")], head=True)
        assert not is_free(postgres, ["c", "b"], [], head=False)
        assert not is_free(postgres, [], [("agg", "north")], head=False)
        turn.lock_head()
        assert is_free(postgres, ["c"], [], head=False)
        assert not is_free(postgres, [], [], head=True)
        turn.append(events(turn.lock_head(), [resource("d")]), NOW_US)
    assert is_free(postgres, ["a", "b", "c"], [("agg", "north")], head=True)


@pytest.mark.postgres
def test_who_waited_for_a_lock_sees_what_was_added_meanwhile(postgres: Database, postgres_store: LedgerStore) -> None:
    append(postgres_store, resource("a"))
    key = request_key_of()

    def follow() -> tuple[Head, int, bytes | ServiceError | None]:
        with postgres_store.turn() as turn:
            assert postgres_store.head() == 1
            turn.lock(["a"], [])
            head = turn.lock_head()
            return head, len(turn.events_after(1)), turn.find_requests([key]).get(key)

    def one_waits() -> bool:
        with postgres.reading() as connection:
            query = sa.text(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return connection.execute(query).scalar() == 1

    with ThreadPoolExecutor(1) as threads:
        with postgres_store.turn() as turn:
            turn.lock(["a"], [])
            waiting = threads.submit(follow)
            until(one_waits)
            turn.append(events(turn.lock_head(), [resource("b"), resource("c")]), NOW_US)
            turn.log_requests([(key, "b", "north", b"answer")], NOW_US)
        head, seen, answer = waiting.result(timeout=30)
    assert (head.sequence, seen, answer) == (3, 2, b"answer")


def test_threads_add_without_gaps_and_without_deadlocks(store: LedgerStore) -> None:
    names = [f"r{i}" for i in range(6)]
    append(store, *(resource(name) for name in names))
    turns = 500 if SOAK else 50

    def add(thread: int) -> int:
        generator = random.Random(thread)
        added = 0
        for turn_number in range(turns):
            with store.turn() as turn:
                wanted = generator.sample(names, 3)
                turn.lock(wanted, [(f"agg{i}", "north") for i in generator.sample(range(5), 2)])
                changes = [commitment(f"{thread}-{turn_number}-{i}") for i in range(generator.randint(1, 3))]
                turn.append(events(turn.lock_head(), changes), NOW_US)
                turn.log_requests([(request_key_of(), "c", "north", b"")], NOW_US)
            added += len(changes)
        return added

    with ThreadPoolExecutor(4) as threads:
        added = sum(threads.map(add, range(4)))
    rows = list(store.audit(1))
    assert len(rows) == len(names) + added
    with store.turn() as turn:
        assert turn.lock_head() == Head(len(rows), assert_chained(rows))
    assert len(store.load(NOW_US).commitments) == added


# --- exclusive rights --------------------------------------------------------------------------


def active(commitment_id: str, group: str = "g", tenant_id: str = "agg", start_h: int = 0) -> commitment_pb2.Commitment:
    start_ms = NOW_MS + start_h * HOUR_MS
    return commitment(
        commitment_id, tenant_id, state=ACTIVATED, group=group, start_ms=start_ms, end_ms=start_ms + HOUR_MS
    )


@pytest.mark.postgres
def test_postgres_itself_refuses_two_rights_at_once(postgres_store: LedgerStore) -> None:
    append(postgres_store, active("a"), active("b", start_h=1), active("c", "other"), active("d", tenant_id="other"))
    for again in (active("e"), active("f", start_h=1)):
        with pytest.raises(ServiceError) as caught:
            append(postgres_store, again)
        assert caught.value.reason == "EXCLUSIVE_RIGHT_TAKEN"
    assert len(list(postgres_store.audit(1))) == 4
    assert postgres_store.commitment("e") is None


@pytest.mark.postgres
def test_who_may_not_create_the_extension_does_without_it(tmp_path: Path, debian_postgres_database: str) -> None:
    role = f"plain_{uuid.uuid4().hex}"
    engine = sa.create_engine(debian_postgres_database)
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'"))
        connection.execute(sa.text(f"GRANT CREATE ON SCHEMA public TO {role}"))
    engine.dispose()
    url = sa.make_url(debian_postgres_database).set(username=role, password=role)
    database = Database(settings_for(tmp_path, database_url=url.render_as_string(hide_password=False)))
    append(LedgerStore(database, Retention(30.0, 30.0)), active("a"), active("b"))
    assert count(database, activation_exclusive_rights) == 2
    database.close()


def test_a_right_ends_with_the_activation_and_can_pass_on_in_one_batch(store: LedgerStore, database: Database) -> None:
    append(store, commitment("held", group="g"), commitment("free", state=ACTIVATED))
    assert count(database, activation_exclusive_rights) == 0
    append(store, active("a"))
    append(store, active("b"), commitment("a", sequence=3, state=DELIVERED, group="g"))
    with database.reading() as connection:
        rights = connection.execute(sa.select(activation_exclusive_rights)).all()
    assert [(row.commitment_id, row.tenant_id, row.group_name) for row in rights] == [("b", "agg", "g")]
    assert (rights[0].start_unix_ms, rights[0].end_unix_ms) == (NOW_MS, NOW_MS + HOUR_MS)


# --- loading and reading -----------------------------------------------------------------------


def random_change(generator: random.Random, made: dict[str, int]) -> Change:
    name = f"{generator.randrange(12)}"
    match generator.randrange(4):
        case 0:
            return resource(name, area_id=generator.choice("ns"))
        case 1:
            end = generator.choice([None, NOW_MS - 900 * HOUR_MS, NOW_MS - 300 * HOUR_MS, NOW_MS - HOUR_MS])
            return session(f"s{name}", end_ms=end)
        case 2:
            start_ms = NOW_MS - generator.choice([0, 500]) * HOUR_MS
            return commitment(
                f"c{name}", state=generator.randint(1, 8), sequence=made.get(f"c{name}", 0), start_ms=start_ms
            )
        case _:
            return policy(generator.choice(["", "n"]), generator.choice(["", "afrr"]))


@pytest.mark.parametrize("seed", range(40 if SOAK else 4))
def test_loading_gives_what_a_replay_of_the_log_gives(store: LedgerStore, seed: int) -> None:
    generator = random.Random(seed)
    made: dict[str, int] = {}
    for _ in range(12):
        with store.turn() as turn:
            changes = []
            first = turn.lock_head().sequence + 1
            for sequence in range(first, first + generator.randint(1, 9)):
                change = random_change(generator, made)
                if isinstance(change, commitment_pb2.Commitment):
                    made.setdefault(change.commitment_id, sequence)
                changes.append(change)
            turn.append(events(turn.lock_head(), changes), NOW_US)
    resources, sessions, commitments, policies = {}, {}, {}, {}
    for row in store.audit(1):
        event = audit_pb2.LedgerEvent.FromString(row.event)
        match event.WhichOneof("change"):
            case "resource":
                resources[event.resource.resource_id] = event.resource
            case "session":
                sessions[event.session.session_id] = event.session
            case "commitment":
                commitments[event.commitment.commitment_id] = event.commitment
            case "policy":
                policies[event.policy.area_id, event.policy.product_id] = event.policy
    standing = [c for c in commitments.values() if c.state in (HELD, CONFIRMED, ACTIVATED, SUSPENDED)]
    first_ms = min([c.start_time.ToMilliseconds() for c in standing] + [NOW_MS - 24 * HOUR_MS])
    needed = [s for s in sessions.values() if not s.HasField("end_time") or s.end_time.ToMilliseconds() > first_ms]

    state = store.load(NOW_US)
    with store.turn() as turn:
        assert state.head == turn.lock_head()
    for loaded, replayed in (
        (state.resources, resources.values()), (state.sessions, needed), (state.commitments, standing),
        (state.policies, policies.values()),
    ):  # fmt: skip
        assert loaded == sorted(replayed, key=lambda message: message.sequence)


def test_an_empty_ledger_is_loaded(store: LedgerStore) -> None:
    state = store.load(NOW_US)
    assert state.head == Head(0, bytes(32))
    assert (state.resources, state.sessions, state.commitments, state.policies) == ([], [], [], [])


def test_what_is_not_there_is_none(store: LedgerStore) -> None:
    for name in ("", "absent", "a\0b", "x" * 257):
        assert (store.session(name), store.commitment(name)) == (None, None)


def test_resources_come_in_pages(store: LedgerStore) -> None:
    append(store, resource("a"), resource("b", "other"), resource("c", area_id="south"), resource("d", kind=2))
    append(store, resource("a"))

    def ids(before: int | None = None, size: int = 9, areas: frozenset[str] | None = None, **filters: Any) -> str:
        page = store.resources_page(before, size, areas, **filters)
        return "".join(one.resource_id for one in page)

    assert ids() == "adcb"
    assert ids(size=2) == "ad"
    assert ids(before=4, size=2) == "cb"
    assert ids(areas=frozenset({"south", "west"})) == "c"
    assert (ids(area_id="south"), ids(kind=2), ids(tenant_id="other")) == ("c", "d", "b")


def test_sessions_are_those_of_who_opened_them_or_owns_a_side(store: LedgerStore) -> None:
    append(
        store, resource("ev", "fleet"), resource("cp", "site", kind=2), session("a", "ev", "cp", "emp"),
        session("b", "ev2", "cp", "emp"), session("c", "ev", "cp2", "other", end_ms=NOW_MS),
    )  # fmt: skip

    def ids(tenant_id: str, before: int | None = None, size: int = 9, **filters: Any) -> str:
        page = store.sessions_page(tenant_id, before, size, None, **filters)
        return "".join(one.session_id for one in page)

    assert [ids(tenant) for tenant in ("emp", "fleet", "site", "other", "none")] == ["ba", "ca", "ba", "c", ""]
    assert (ids("fleet", open_only=True), ids("emp", resource_id="ev"), ids("emp", resource_id="cp")) == (
        "a",
        "a",
        "ba",
    )
    assert (ids("emp", size=1), ids("emp", before=4)) == ("b", "a")
    assert store.sessions_page("emp", None, 9, frozenset({"south"})) == []


def test_commitments_are_those_of_the_aggregator(store: LedgerStore) -> None:
    append(
        store, commitment("a"), commitment("b", "other"), commitment("c", state=CONFIRMED, product_id="fcr"),
        commitment("d", end_ms=NOW_MS + 2 * HOUR_MS, area_id="south"),
    )  # fmt: skip
    append(store, commitment("a", sequence=1, state=SUSPENDED))

    def ids(before: int | None = None, size: int = 9, areas: frozenset[str] | None = None, **filters: Any) -> str:
        page = store.commitments_page("agg", before, size, areas, **filters)
        return "".join(one.commitment_id for one in page)

    assert (ids(), ids(size=2), ids(before=3)) == ("dca", "dc", "a")
    assert (ids(product_id="fcr"), ids(state=SUSPENDED), ids(areas=frozenset({"south"}))) == ("c", "a", "d")
    assert (ids(ends_after_unix_ms=NOW_MS + HOUR_MS), ids(ends_after_unix_ms=NOW_MS)) == ("d", "dca")


def test_policies_of_all_areas_are_shown_beside_those_of_an_area(store: LedgerStore) -> None:
    append(store, policy("", "afrr"), policy("north", ""), policy("south", ""))

    def areas(allowed: frozenset[str] | None) -> list[str]:
        return [one.area_id for one in store.policies_page(None, 9, allowed)]

    assert areas(None) == ["south", "north", ""]
    assert areas(frozenset({"north"})) == ["north", ""]


def test_conflicts_are_told_to_both_and_are_open_while_suspended(store: LedgerStore) -> None:
    append(
        store, commitment("a", state=SUSPENDED), conflict("kept", "agg", "a"), commitment("b", state=SUSPENDED),
        conflict("other", "agg", "b"),
    )  # fmt: skip

    def after(sequence: int, tenant_id: str, most: int = 9) -> list[int]:
        return [row.sequence for row in store.conflicts_after(sequence, tenant_id, most)]

    def still_open(tenant_id: str) -> list[str]:
        return [row.conflict.suspended_commitment_id for row in store.open_conflicts(tenant_id)]

    assert [after(0, tenant) for tenant in ("agg", "kept", "other", "none")] == [[2, 4], [2], [4], []]
    assert (after(2, "agg"), after(0, "agg", most=1)) == ([4], [2])
    assert store.conflicts_after(0, "kept")[0].conflict == conflict("kept", "agg", "a")
    assert (still_open("agg"), still_open("kept")) == (["a", "b"], ["a"])
    append(store, commitment("a", sequence=1, state=CONFIRMED))
    assert (still_open("agg"), still_open("kept")) == (["b"], [])


def test_the_log_is_read_from_a_place_on(store: LedgerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evflex.server.store.ledger_reads._LINES_AT_ONCE", 3)
    append(store, *(resource(f"r{i}") for i in range(10)))

    def lines(start: int, most: int | None = None) -> list[int]:
        return [row.sequence for row in store.audit(start, most)]

    assert lines(1) == list(range(1, 11))
    assert lines(8) == [8, 9, 10]
    assert lines(11) == []
    assert lines(2, 4) == [2, 3, 4, 5]
    assert lines(2, 3) == [2, 3, 4]
    assert lines(2, 0) == []


# --- requests ----------------------------------------------------------------------------------


def request_key_of(tenant_id: str = "agg", request_id: str = "", payload: str = "p") -> RequestKey:
    return RequestKey(tenant_id, request_id or str(uuid.uuid4()), "HoldCommitments", payload)


def test_requests_are_answered_once(store: LedgerStore) -> None:
    first, second, absent = (request_key_of() for _ in range(3))
    other_payload = request_key_of(request_id=second.request_id, payload="q")
    other_tenant = request_key_of("other", first.request_id)
    with store.turn() as turn:
        assert turn.find_requests([]) == {}
        assert turn.find_requests([first, second]) == {}
        turn.log_requests([(first, "a", "north", b"1"), (second, "b", "north", b"2")], NOW_US)
        assert turn.find_requests([first]) == {first: b"1"}
    with store.turn() as turn:
        found = turn.find_requests([first, second, absent, other_payload, other_tenant])
    refused = found.pop(other_payload)
    assert isinstance(refused, ServiceError)
    assert refused.reason == "REQUEST_ID_REUSED"
    assert found == {first: b"1", second: b"2"}


def test_old_requests_are_forgotten_by_those_to_come(database: Database) -> None:
    store = LedgerStore(database, Retention(30.0, 30.0))
    old, young = request_key_of(), request_key_of()
    with store.turn() as turn:
        turn.log_requests([(old, "a", "north", b"")], NOW_US)
    with store.turn() as turn:
        turn.log_requests([(young, "a", "north", b"")], NOW_US + 31 * DAY_US)
        assert turn.find_requests([old, young]) == {young: b""}


@pytest.mark.postgres
def test_a_turn_does_not_wait_for_other_writers_to_forget(postgres: Database, postgres_store: LedgerStore) -> None:
    key = request_key_of()
    with postgres.writing(), postgres_store.turn() as turn:
        turn.log_requests([(key, "a", "north", b"")], NOW_US)
    with postgres_store.turn() as turn:
        assert turn.find_requests([key]) == {key: b""}
