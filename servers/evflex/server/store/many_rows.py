"""Statements that write or find many rows at once, without what a table's own statements cost for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

Values = dict[str, object]
_PLACEHOLDERS = {"sqlite": "?", "postgresql": "%s"}


class ManyRows:
    """A statement that inserts rows into a table.

    It goes to the driver as it is: SQLAlchemy's own way of binding takes longer than SQLite takes to write the row.
    """

    def __init__(self, table: sa.Table, on_conflict: str = "") -> None:
        """Insert whole rows; `on_conflict` is the end of the statement, without parameters."""
        names = table.columns.keys()
        self._values_of: Final = itemgetter(*names)
        self._statements = {
            dialect: f"INSERT INTO {table.name} ({', '.join(names)})"
            f" VALUES ({', '.join([placeholder] * len(names))}) {on_conflict}"
            for dialect, placeholder in _PLACEHOLDERS.items()
        }

    def insert(self, connection: sa.Connection, rows: Sequence[Values]) -> None:
        """Write rows, each with a value for every column."""
        if rows:
            values = [self._values_of(row) for row in rows]
            connection.exec_driver_sql(self._statements[connection.dialect.name], values)


def select_in(connection: sa.Connection, query: str, values: Sequence[str]) -> sa.CursorResult[Any]:
    """Rows whose last column of a query, which ends in its name, is one of some values."""
    placeholder = _PLACEHOLDERS[connection.dialect.name]
    return connection.exec_driver_sql(f"{query} IN ({', '.join([placeholder] * len(values))})", tuple(values))


def insert_of(table: sa.Table) -> ManyRows:
    """Inserts rows that are new."""
    return ManyRows(table)


def insert_missing_of(table: sa.Table) -> ManyRows:
    """Inserts rows, and passes over those whose key is there."""
    return ManyRows(table, "ON CONFLICT DO NOTHING")


def upsert_of(table: sa.Table, *kept: str) -> ManyRows:
    """Inserts rows, or changes those whose key is there: all but their create time and what is `kept`."""
    key = table.primary_key.columns.keys()
    left = {*key, *kept, "version", "create_time_unix_us"}
    changes = ", ".join(
        f"{column.name} = excluded.{column.name}" for column in table.columns if column.name not in left
    )
    return ManyRows(
        table, f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET version = {table.name}.version + 1, {changes}"
    )
