"""The durable activation ledger: an append-only log with a chain of digests, and the present state beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from evflex.server.store.database import Database
from evflex.server.store.ledger_reads import LedgerReads
from evflex.server.store.ledger_turn import LedgerTurn
from evflex.server.store.retention import Retention


class LedgerStore(LedgerReads):
    """Keeps what the ledger decided, and decides nothing itself."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        super().__init__(database)
        self._retention = retention

    @contextmanager
    def turn(self) -> Iterator[LedgerTurn]:
        """A transaction for the changes of one or many requests: all of it is durable at the end, or nothing is left.

        Raises:
            ServiceError: The database is full or cannot be used; nothing was stored, unless the connection broke while
                it committed.
        """
        with self._database.writing_durably() as connection:
            yield LedgerTurn(connection, self._retention)
