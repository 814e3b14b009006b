"""The store of ratings, answered requests and their retention, and transactions that leave all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from evflex.engine.timegrid import TimeGrid
from evflex.server.errors import ServiceError
from evflex.server.store.capacity import CapacityRows, CapacityStore, Change
from evflex.server.store.database import Database
from evflex.server.store.ratings import NewRating, RatingRows, RatingStore
from evflex.server.store.requests import RequestKey
from evflex.server.store.retention import Retention
from evflex.server.store.tables import agreements, capacity_requests
from tests.server.capacity.support import new_id
from tests.server.support import START_S, settings_for

DAY_US = 86_400_000_000
NOW_US = START_S * 1_000_000


@pytest.fixture
def database(tmp_path: Path, database_url: str) -> Iterator[Database]:
    opened = Database(settings_for(tmp_path, database_url=database_url))
    yield opened
    opened.close()


def key_of(tenant_id: str = "dso", request_id: str = "", payload: str = "p") -> RequestKey:
    return RequestKey(tenant_id, request_id or new_id(), "RateTransformer", payload)


def rating(key: RequestKey, *headroom_kva: float, start_s: float = 0.0) -> NewRating:
    grid = TimeGrid(START_S + start_s, 900.0, len(headroom_kva))
    return NewRating(key, "north", "t", grid, np.array(headroom_kva), np.array(headroom_kva) / 2.0, b"whole", NOW_US)


def test_a_rating_is_stored_once_a_request(database: Database) -> None:
    store = RatingStore(database, Retention(30.0, 30.0))
    key = key_of()
    assert store.find_answer(key) is None
    first, own = store.save(rating(key, 1.0, 2.0))
    assert own
    assert (first.tenant_id, first.area_id, first.transformer_id, first.payload) == ("dso", "north", "t", b"whole")
    assert store.save(rating(key, 1.0, 2.0)) == (first, False)
    assert store.find_answer(key) == first
    with pytest.raises(ServiceError) as caught:
        store.save(rating(key_of(request_id=key.request_id, payload="q"), 1.0))
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_ratings_are_found_newest_first_where_they_share_time(database: Database) -> None:
    store = RatingStore(database, Retention(30.0, 30.0))
    made = [store.save(rating(key_of(), 1.0 + i, 2.0, start_s=900.0 * i))[0].rating_id for i in range(4)]
    store.save(rating(key_of("other"), 9.0, start_s=900.0))
    with database.reading() as connection:
        rows = RatingRows(connection)
        heads = rows.heads("dso", "t", TimeGrid(START_S + 900.0, 900.0, 1))
        assert [head.rating_id for head in heads] == [made[1], made[0]]
        newest = rows.headroom(heads)[0]
        assert newest.normal.grid == newest.contingency.grid == TimeGrid(START_S + 900.0, 900.0, 2)
        assert newest.normal.power_kw.tolist() == [2.0, 2.0]
        assert newest.contingency.power_kw.tolist() == [1.0, 1.0]
        assert rows.heads("dso", "other", TimeGrid(START_S + 900.0, 900.0, 1)) == []


def created(rows: CapacityRows) -> Change:
    row = rows.agreements.create(("dso", "cpo"), "north", "hub", "t", NOW_US)
    return Change(row.agreement_id, row.area_id, row.agreement_id.encode())


def count(database: Database, table: sa.Table) -> int:
    with database.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)


def test_a_change_is_made_once_and_only_when_it_succeeds(database: Database) -> None:
    store = CapacityStore(database, Retention(30.0, 30.0))

    def fails_half_way(rows: CapacityRows) -> Change:
        created(rows)
        raise KeyError

    with pytest.raises(KeyError):
        store.once(key_of(), NOW_US, fails_half_way)
    store.check(created)
    assert (count(database, agreements), count(database, capacity_requests)) == (0, 0)
    key = key_of()
    answer = store.once(key, NOW_US, created)
    assert store.once(key, NOW_US, created) == answer
    assert (count(database, agreements), count(database, capacity_requests)) == (1, 1)


def test_old_requests_are_forgotten_and_agreements_are_not(database: Database) -> None:
    retention = Retention(30.0, 30.0)
    store = CapacityStore(database, retention)
    for _ in range(5):
        store.once(key_of(), NOW_US, created)
    with database.writing() as connection:
        assert retention.prune(connection, NOW_US + 29 * DAY_US) == 0
        assert retention.prune(connection, NOW_US + 31 * DAY_US, most_rows=2) == 2
        assert retention.prune(connection, NOW_US + 31 * DAY_US) == 3
    assert (count(database, agreements), count(database, capacity_requests)) == (5, 0)
