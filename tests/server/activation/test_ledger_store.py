"""The store of the activation ledger: its chained log, the present state beside it, and exclusive rights."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from evflex.activation.v1 import audit_pb2, commitment_pb2
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
from evflex.server.store.ledger_rows import Head, NewEvent
from evflex.server.store.retention import Retention
from tests.server.activation.ledger_messages import (
    ACTIVATED,
    CONFIRMED,
    DELIVERED,
    FIELDS,
    HOUR_MS,
    NOW_MS,
    NOW_US,
    Change,
    append,
    assert_chained,
    commitment,
    conflict,
    count,
    events,
    policy,
    request_key_of,
    resource,
    session,
)
from tests.server.support import settings_for


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
