"""What SQLite makes of a batch: what is sold above a headroom, and who sells both sides of a session, by a query.

Rows of sales are told by `part`, twice the number of the resource, one more for sales downward.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.activation_worlds import Plugged, Sales
from bench.instances import IntArray

# Part, start, end and largest excess of a run of instants.
Run = tuple[int, int, int, int]
Triple = tuple[int, int, int]

# Every row from an instant to the next: with the window's own frame, rows of one instant have one level.
_LEVELS = """
SELECT part, at, until, level - limit_w FROM (
  SELECT l.part AS part, l.limit_w AS limit_w, e.at AS at,
    SUM(e.power) OVER line AS level, LEAD(e.at) OVER line AS until
  FROM {parts} AS l CROSS JOIN events AS e ON e.part = l.part
  WINDOW line AS (PARTITION BY l.part ORDER BY e.at))
WHERE level > limit_w AND until > at
"""
# Only where something is sold above the headroom at the start of a sale; all of which are seen.
_SELF_JOIN = """
SELECT DISTINCT l.part AS part, l.limit_w AS limit_w FROM limits AS l CROSS JOIN sales AS a ON a.part = l.part
WHERE l.limit_w < (
  SELECT SUM(b.power) FROM sales AS b
  WHERE b.part = a.part AND b.start <= a.start AND b.start > a.start - {longest} AND b.finish > a.start)
"""
_SUMS = """
SELECT l.part AS part, l.limit_w AS limit_w FROM limits AS l
WHERE l.limit_w < (SELECT SUM(power) FROM sales AS a WHERE a.part = l.part)
"""
WAYS = ("window over all", "window where sums exceed", "self-join")
_SESSIONS_FIRST = """
SELECT ev.sale, cp.sale, s.session FROM sessions AS s
CROSS JOIN ev_sales AS ev ON ev.part = s.vehicle AND ev.start < s.finish AND ev.start > s.start - {longest}
  AND ev.finish > s.start
CROSS JOIN cp_sales AS cp ON cp.part = s.point AND cp.start < min(s.finish, ev.finish)
  AND cp.start > max(s.start, ev.start) - {longest} AND cp.finish > max(s.start, ev.start)
"""
_SALES_FIRST = """
SELECT ev.sale, cp.sale, s.session FROM ev_sales AS ev
CROSS JOIN sessions_of AS s ON s.vehicle = ev.part AND s.start < ev.finish AND s.start > ev.start - {longest_session}
  AND s.finish > ev.start
CROSS JOIN cp_sales AS cp ON cp.part = s.point AND cp.start < min(s.finish, ev.finish)
  AND cp.start > max(s.start, ev.start) - {longest} AND cp.finish > max(s.start, ev.start)
"""
_JOINS = {"sessions first": _SESSIONS_FIRST, "sales first": _SALES_FIRST}
JOINS = tuple(_JOINS)
# Large enough for all of it, so that nothing is read twice.
_PRAGMAS = ("cache_size = -4000000", "mmap_size = 8000000000", "temp_store = MEMORY", "locking_mode = EXCLUSIVE")


@dataclass(frozen=True, slots=True)
class SqliteSales:
    """Sales and headrooms in tables that hold their rows in the order in which the query reads them."""

    connection: sqlite3.Connection
    longest_ms: int

    def runs(self, way: str) -> list[Run]:
        """Maximal runs above the headroom, in the order of parts and time.

        Args:
            way: One of ``WAYS``.
        """
        parts = {WAYS[0]: "limits", WAYS[1]: f"({_SUMS})", WAYS[2]: f"({_SELF_JOIN.format(longest=self.longest_ms)})"}
        return _joined(self.connection.execute(_LEVELS.format(parts=parts[way])))


@dataclass(frozen=True, slots=True)
class SqliteSessions:
    """Sessions, and sales of vehicles and of charge points, each with all columns in the order of its key."""

    connection: sqlite3.Connection
    longest_ms: int
    longest_session_ms: int

    def cross_sales(self, join: str) -> list[Triple]:
        """Sale of the vehicle, sale of the charge point and session, in any order.

        Args:
            join: One of ``JOINS``.
        """
        query = _JOINS[join].format(longest=self.longest_ms, longest_session=self.longest_session_ms)
        return self.connection.execute(query).fetchall()


@contextmanager
def sqlite_sales(sales: Sales, headroom_w: IntArray, path: Path | None = None) -> Iterator[SqliteSales]:
    """Load a batch.

    Args:
        sales: The batch.
        headroom_w: Upward and downward headroom of each resource, (2, resources).
        path: File of the database; None for one in memory.
    """
    part = 2 * sales.name + sales.direction - 1
    with _opened(path) as connection:
        connection.executescript(
            "CREATE TABLE limits (part INTEGER PRIMARY KEY, limit_w INTEGER);"
            "CREATE TABLE events (part INTEGER, at INTEGER, power INTEGER, sale INTEGER,"
            " PRIMARY KEY (part, at, power, sale)) WITHOUT ROWID;"
            "CREATE TABLE sales (part INTEGER, start INTEGER, finish INTEGER, power INTEGER, sale INTEGER,"
            " PRIMARY KEY (part, start, finish, power, sale)) WITHOUT ROWID;"
        )
        number = np.arange(len(sales))
        starts = np.stack([part, sales.start_ms, sales.power_w, number])
        ends = np.stack([part, sales.end_ms, -sales.power_w, number])
        _fill(connection, "events", np.concatenate([starts, ends], axis=1))
        _fill(connection, "sales", np.stack([part, sales.start_ms, sales.end_ms, sales.power_w, number]))
        _fill(connection, "limits", np.stack([np.arange(headroom_w.size), headroom_w.T.ravel()]))
        connection.execute("ANALYZE")
        yield SqliteSales(connection, int((sales.end_ms - sales.start_ms).max(initial=0)))


@contextmanager
def sqlite_sessions(plugged: Plugged, sales: Sales, path: Path | None = None) -> Iterator[SqliteSessions]:
    """Load sessions and a batch of sales.

    Args:
        plugged: The sessions.
        sales: Sales of their sides.
        path: File of the database; None for one in memory.
    """
    is_vehicle = sales.name < int(plugged.point.min())
    with _opened(path) as connection:
        for table in ("ev_sales", "cp_sales"):
            connection.execute(
                f"CREATE TABLE {table} (part INTEGER, start INTEGER, finish INTEGER, sale INTEGER,"
                " PRIMARY KEY (part, start, finish, sale)) WITHOUT ROWID"
            )
        columns = "(vehicle INTEGER, point INTEGER, start INTEGER, finish INTEGER, session INTEGER"
        connection.execute(f"CREATE TABLE sessions {columns}, PRIMARY KEY (vehicle, start, session)) WITHOUT ROWID")
        connection.execute("CREATE VIEW sessions_of AS SELECT * FROM sessions")
        rows = np.stack([sales.name, sales.start_ms, sales.end_ms, np.arange(len(sales))])
        _fill(connection, "ev_sales", rows[:, is_vehicle])
        _fill(connection, "cp_sales", rows[:, ~is_vehicle])
        numbers = np.arange(len(plugged.vehicle))
        _fill(
            connection, "sessions",
            np.stack([plugged.vehicle, plugged.point, plugged.start_ms, plugged.end_ms, numbers]),
        )  # fmt: skip
        connection.execute("ANALYZE")
        longest_ms = int((sales.end_ms - sales.start_ms).max(initial=0))
        yield SqliteSessions(connection, longest_ms, int((plugged.end_ms - plugged.start_ms).max(initial=0)))


def _joined(stretches: Iterable[Run]) -> list[Run]:
    """Stretches that touch as one run, with the largest excess."""
    runs: list[Run] = []
    for part, start, end, excess in stretches:
        if runs and runs[-1][0] == part and runs[-1][2] == start:
            runs[-1] = (part, runs[-1][1], end, max(runs[-1][3], excess))
        else:
            runs.append((part, start, end, excess))
    return runs


def _fill(connection: sqlite3.Connection, table: str, columns: IntArray) -> None:
    # in the order of the key, in which the rows are written one behind the other
    order = np.lexsort(columns[::-1])
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
    connection.commit()


@contextmanager
def _opened(path: Path | None) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:" if path is None else path)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        yield connection
    finally:
        connection.close()
