"""Holds over gRPC, each on the disk before it is answered: how long one takes, and how many there are in a second."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.ledger_clients import Held, hold, hold_requests, register_vehicles
from bench.registry import Outcome, Setting, case
from bench.served import served
from bench.timing import shown
from evflex.activation.v1 import activation_service_pb2 as api

_PER_SECOND, _CLIENTS = 200, 64
_RATE_S, _TURNS_S = 20.0, 10.0
_MOST_HOLDS = 60_000
# Commitments of a request, where an aggregator holds several at once.
_ROWS = 10
_ASKED_S, _ASKED_PER_S = 0.015, 2_000.0
_CAPACITY_OF_PEER_W = 11_000


@dataclass(frozen=True, slots=True)
class _Load:
    """Holds of one server.

    Attributes:
        held: What the clients saw.
        missing: Granted commitments that are not in the database, or not in its log.
        commits_s: Seconds of each commit.
    """

    held: Held
    missing: int
    commits_s: list[float]


@case("activation_served", "Holds over gRPC, on the disk when answered", sizes=(_CLIENTS,), generated=True,
      domain="activation")  # fmt: skip
def activation_served(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "The server is a process of its own with default settings and SQLite on the disk (WAL, synchronous FULL); the "
        "clients are another process on the same processors. Each hold is a row of a vehicle of its own, with an id of "
        f"its own. First {_PER_SECOND} holds a second at random instants, whether or not earlier ones are answered, "
        f"timed from when each was due; then {_CLIENTS} clients, each of whom holds again when the last hold is "
        f"answered, and the same with {_ROWS} commitments a request. Beside them the holds of single rows by one "
        "thread straight into SQLite: what is sold is summed up, and each hold is one transaction.",
    ])  # fmt: skip
    rate = _load(setting, "rate", _PER_SECOND, setting.seconds(_RATE_S))
    turns = _load(setting, "turns", setting.pick(_MOST_HOLDS, 2_000), setting.seconds(_TURNS_S))
    together = _load(setting, "turns", setting.pick(_MOST_HOLDS, 2_000) // _ROWS, setting.seconds(_TURNS_S), _ROWS)
    naive_s = _naive(setting.pick(4_000, 50))
    typical_s, slow_s = np.percentile(rate.held.latency_s, [50, 99])
    commit_s, slow_commit_s = np.percentile(rate.commits_s, [50, 99])
    naive_typical_s, naive_slow_s = np.percentile(naive_s, [50, 99])
    outcome.add(
        "hold", f"One hold at {_PER_SECOND} a second, 99th percentile", slow_s, "s", at_most=_ASKED_S,
        peer=f"median {shown(typical_s)}, longest {shown(max(rate.held.latency_s))}; of which the commit "
        f"{shown(commit_s)} in the median and {shown(slow_commit_s)}",
    )  # fmt: skip
    per_s = len(turns.held.latency_s) / turns.held.elapsed_s
    typical_s, slow_s = np.percentile(turns.held.latency_s, [50, 99])
    outcome.add(
        "throughput", f"Holds a second of {_CLIENTS} clients", per_s, at_least=_ASKED_PER_S,
        peer=f"median {shown(typical_s)}, 99th percentile {shown(slow_s)}; "
        f"{len(turns.held.latency_s) / max(1, len(turns.commits_s)):.0f} holds a commit, which takes "
        f"{shown(float(np.median(turns.commits_s)))}",
    )  # fmt: skip
    typical_s, slow_s = np.percentile(together.held.latency_s, [50, 99])
    outcome.add(
        "together", f"The same, {_ROWS} commitments a request",
        _ROWS * len(together.held.latency_s) / together.held.elapsed_s,
        peer=f"median {shown(typical_s)}, 99th percentile {shown(slow_s)}",
    )  # fmt: skip
    outcome.add(
        "naive", "The same straight into SQLite, one commit each, holds a second", len(naive_s) / sum(naive_s),
        peer=f"median {shown(naive_typical_s)}, 99th percentile {shown(naive_slow_s)}",
    )  # fmt: skip
    outcome.add("refused", "Holds that were not granted",
                _refused(rate) + _refused(turns) + _refused(together, _ROWS), at_most=0)  # fmt: skip
    outcome.add("missing", "Granted holds that are not in the database",
                rate.missing + turns.missing + together.missing, at_most=0)  # fmt: skip
    outcome.seconds = {
        f"hold, {_PER_SECOND} a second": rate.held.latency_s, f"hold, {_CLIENTS} clients": turns.held.latency_s,
        f"commit, {_PER_SECOND} a second": rate.commits_s, f"commit, {_CLIENTS} clients": turns.commits_s,
        "hold straight into SQLite": naive_s,
    }  # fmt: skip
    return outcome


def _load(setting: Setting, how: str, amount: int, seconds: float, rows: int = 1) -> _Load:
    """Start a server, hold, stop it, and look into its database."""
    warm = setting.pick(200, 20)
    count = warm + (round(amount * seconds) if how == "rate" else amount)
    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        database, commits = Path(folder) / "evflex.sqlite", Path(folder) / "commits.json"
        with served("bench.served_ledger", f"sqlite:///{database}", str(commits)) as server:
            register_vehicles(server.channel, warm + (count - warm) * rows)
            warmed = hold(server.port, "turns", _CLIENTS, warm, 5.0)
            held = hold(server.port, how, _CLIENTS, amount, seconds, first=warm, rows=rows)
        commits_s: list[float] = json.loads(commits.read_text(encoding="utf-8"))
        return _Load(held, _missing(database, [*warmed.granted, *held.granted]), commits_s[-_commits(database, warm) :])


def _commits(database: Path, warm: int) -> int:
    """Number of transactions in which holds were written, but for the first."""
    with sqlite3.connect(database) as connection:
        query = "SELECT COUNT(DISTINCT create_time_unix_us) FROM activation_commitments WHERE sequence > ("
        query += "SELECT MIN(sequence) FROM activation_commitments) + ?"
        return int(connection.execute(query, [warm]).fetchone()[0])


def _missing(database: Path, granted: list[str]) -> int:
    """How many commitments are not both stored and in the log."""
    with sqlite3.connect(database) as connection:
        stored = {row[0] for row in connection.execute("SELECT commitment_id FROM activation_commitments")}
        logged = connection.execute("SELECT COUNT(*) FROM activation_log WHERE kind = 3").fetchone()[0]
    return sum(name not in stored for name in granted) + max(0, len(granted) - int(logged))


def _refused(load: _Load, rows: int = 1) -> int:
    return rows * len(load.held.latency_s) - len(load.held.granted)


def _naive(count: int) -> list[float]:
    """Seconds of each hold by one thread, without a server: what is sold, the headroom, a row, a commit."""
    requests = [api.HoldCommitmentsRequest.FromString(data) for data in hold_requests(0, count)]
    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        connection = sqlite3.connect(Path(folder) / "ledger.sqlite", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE held (commitment_id TEXT PRIMARY KEY, resource_id TEXT, start INTEGER, finish INTEGER,"
            " power INTEGER, request_id TEXT UNIQUE, payload BLOB)"
        )
        connection.execute("CREATE INDEX held_by_resource ON held (resource_id, start, finish, power)")
        seconds = []
        for request in requests:
            started_s = time.perf_counter()
            wanted = request.commitments[0]
            begins, ends = wanted.start_time.ToMilliseconds(), wanted.end_time.ToMilliseconds()
            connection.execute("BEGIN IMMEDIATE")
            query = "SELECT COALESCE(SUM(power), 0) FROM held WHERE resource_id = ? AND start < ? AND finish > ?"
            sold_w = connection.execute(query, (wanted.resource_id, ends, begins)).fetchone()[0]
            if sold_w + wanted.power_w <= _CAPACITY_OF_PEER_W:
                row = (
                    str(uuid.uuid4()), wanted.resource_id, begins, ends, wanted.power_w, request.request_id,
                    wanted.SerializeToString(),
                )  # fmt: skip
                connection.execute("INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
            seconds.append(time.perf_counter() - started_s)
        connection.close()
    return seconds
