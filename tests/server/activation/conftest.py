"""A server of the ledger with a vehicle at hand, a charge point and the site that it is behind; and its store alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.retention import Retention
from tests.server.activation.ledger_bench import Bench
from tests.server.activation.support import CHARGE_POINT, SITE, RunningLedger, register, resource, running_ledger
from tests.server.support import settings_for


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RunningLedger]:
    with running_ledger(tmp_path) as server:
        furnish(server)
        yield server


def furnish(server: RunningLedger) -> None:
    register(
        server.cpo, resource("ev"), resource("ev-2"), resource("cp", CHARGE_POINT, parent_id="site"),
        resource("cp-2", CHARGE_POINT, parent_id="site"), resource("site", SITE, up_w=15_000),
    )  # fmt: skip


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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def any_bench(tmp_path: Path, ledger_database_url: str) -> Iterator[Bench]:
    made = Bench(tmp_path, ledger_database_url)
    yield made
    made.close()
