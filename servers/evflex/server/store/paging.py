"""Pages of stored things, newest first."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from evflex.server.store.database import Database


def newest_first(
    database: Database,
    query: sa.Select[Any],
    table: sa.Table,
    before_sequence: int | None,
    size: int,
    areas: frozenset[str] | None,
) -> list[sa.Row[Any]]:
    """At most `size` rows of a query on a table with areas and sequences, newest first.

    Args:
        database: Where the table is.
        query: What is wanted.
        table: Its table.
        before_sequence: Only rows stored before this one.
        size: Rows on the page.
        areas: Only rows of these; None means all.
    """
    if areas is not None:
        query = query.where(table.c.area_id.in_(sorted(areas)))
    if before_sequence is not None:
        query = query.where(table.c.sequence < before_sequence)
    with database.reading() as connection:
        return list(connection.execute(query.order_by(table.c.sequence.desc()).limit(size)).all())


def next_sequence(connection: sa.Connection, table: sa.Table) -> int:
    """Number of the row that is stored next; writers take turns, so no other gets it."""
    newest: int | None = connection.execute(sa.select(sa.func.max(table.c.sequence))).scalar()
    return (newest or 0) + 1
