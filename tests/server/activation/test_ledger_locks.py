"""Turns of the ledger's store wait for what they share, and for nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from evflex.server.errors import ServiceError
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import Head
from evflex.server.store.ledger_turn import LedgerTurn
from evflex.server.store.retention import Retention
from tests.conftest import SOAK
from tests.server.activation.ledger_messages import (
    NOW_US,
    append,
    assert_chained,
    commitment,
    events,
    request_key_of,
    resource,
)
from tests.server.support import until


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
