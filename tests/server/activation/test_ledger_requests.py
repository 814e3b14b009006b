"""Requests that the ledger's store remembers with their answers."""

from __future__ import annotations

import pytest

from evflex.server.errors import ServiceError
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.retention import Retention
from tests.server.activation.ledger_messages import DAY_US, NOW_US, request_key_of


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
