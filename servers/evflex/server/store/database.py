"""Connections to the database, and the schema in its newest version."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import alembic.command
import alembic.config
import sqlalchemy as sa
from google.rpc import code_pb2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from evflex.server.errors import ServiceError, busy
from evflex.server.settings import Settings

_BUSY_TIMEOUT_S = 10.0
_WAL_RETRY_S = 0.01
# Any constant of our own: the key of the advisory lock that makes writers take turns on PostgreSQL.
_WRITER_LOCK = 0x6576666C6578
_POSTGRES_STORAGE_FULL = {"53100", "53200"}
# Leaves a stricter setting, such as remote_apply, as it is.
_POSTGRES_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
)


class Database:
    """A database with a schema, for readers in parallel and writers in turn.

    Writers take turns, so what a writer reads stays true until it commits, and change numbers rise with commits.
    """

    def __init__(self, settings: Settings) -> None:
        """Open the database, create it where there is none, and bring its schema up to date.

        Raises:
            ServiceError: The database cannot be reached or written.
        """
        url = sa.make_url(settings.resolved_database_url)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        self._is_sqlite = url.get_backend_name() == "sqlite"
        self._retry_delay_s = settings.retry_delay_s
        self._turn = threading.Lock()
        if self._is_sqlite and url.database:
            Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._engine = sa.create_engine(
            url,
            pool_size=8,
            max_overflow=24,
            pool_timeout=_BUSY_TIMEOUT_S,
            pool_pre_ping=not self._is_sqlite,
        )
        if self._is_sqlite:
            self._prepare_sqlite(settings.sqlite_synchronous)
        with self.writing() as connection:
            _migrate(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one state of the database throughout."""
        with self._translated(), self._engine.connect() as connection:
            if not self._is_sqlite:
                connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The turn to write: commits at the end, or leaves no trace when an exception passes."""
        with self._translated(), self._turn, self._begun(evflex_writes=True) as connection:
            if not self._is_sqlite:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})"))
            yield connection

    @contextmanager
    def writing_durably(self) -> Iterator[sa.Connection]:
        """A transaction that no power cut undoes once it has committed, whatever the settings say.

        On SQLite it is the turn to write. On PostgreSQL many are under way at a time: whoever writes locks the rows
        that it relies on, and each statement sees what was committed before it.
        """
        if self._is_sqlite:
            with self._translated(), self._turn, self._begun(evflex_writes=True, evflex_durable=True) as connection:
                yield connection
        else:
            with self._translated(), self._begun(isolation_level="READ COMMITTED") as connection:
                connection.execute(sa.text(_POSTGRES_DURABLE))
                yield connection

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        self._engine.dispose()

    @contextmanager
    def _begun(self, **options: bool | str) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            connection = connection.execution_options(**options)
            with connection.begin():
                yield connection

    def _prepare_sqlite(self, synchronous: str) -> None:
        def on_connect(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # transactions are begun below, so that DDL is part of them
            connection.execute(f"PRAGMA busy_timeout = {int(1e3 * _BUSY_TIMEOUT_S)}")
            write_ahead(connection)
            connection.execute(f"PRAGMA synchronous = {synchronous}")

        def on_begin(connection: sa.Connection) -> None:
            options = connection.get_execution_options()
            if not options.get("evflex_writes", False):
                connection.exec_driver_sql("BEGIN")
                return
            # a connection keeps what its last writer asked for, so most find what they want
            wanted = "FULL" if options.get("evflex_durable", False) else synchronous
            if connection.info.setdefault("synchronous", synchronous) != wanted:
                connection.exec_driver_sql(f"PRAGMA synchronous = {wanted}")
                connection.info["synchronous"] = wanted
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        sa.event.listen(self._engine, "connect", on_connect)
        sa.event.listen(self._engine, "begin", on_begin)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn failures of the database into errors that a caller can act on."""
        try:
            yield
        except PoolTimeoutError as error:
            raise busy("STORAGE_BUSY", "all database connections are in use", self._retry_delay_s) from error
        except DBAPIError as error:
            if _is_full(error):
                raise ServiceError(
                    code_pb2.RESOURCE_EXHAUSTED,
                    "STORAGE_FULL",
                    "the server's disk is full; nothing was stored",
                ) from error
            if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.InternalError):
                raise busy("STORAGE_UNAVAILABLE", "the database cannot be used", self._retry_delay_s) from error
            raise


def write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; while others open the same new file SQLite refuses that at once, timeout or not."""
    deadline_s = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
        time.sleep(_WAL_RETRY_S)


def try_writer_lock(connection: sa.Connection) -> bool:
    """Whether this transaction is the only one that writes in turn until it ends; never waits."""
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.execute(sa.text(f"SELECT pg_try_advisory_xact_lock({_WRITER_LOCK})")).scalar())


def _migrate(connection: sa.Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def _is_full(error: DBAPIError) -> bool:
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return getattr(cause, "sqlstate", None) in _POSTGRES_STORAGE_FULL
