"""A server whose ledger stands in a database that is looked at afterwards: prints its port, and serves until its input
ends.

Its arguments are the URL of the database, and a file for the seconds that each commit took, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from bench.served import main
from evflex.engine.activation import warm_up


class TimedCommits:
    """Times every commit to SQLite from now on.

    Attributes:
        seconds: Of each commit.
    """

    def __init__(self) -> None:
        """Stand in the way of commits."""
        self.seconds: list[float] = []
        commit = SQLiteDialect_pysqlite.do_commit

        def timed(dialect: SQLiteDialect_pysqlite, connection: Any) -> None:
            is_writing = connection.in_transaction
            started_s = time.perf_counter()
            commit(dialect, connection)  # type: ignore[no-untyped-call]
            if is_writing:
                self.seconds.append(time.perf_counter() - started_s)

        SQLiteDialect_pysqlite.do_commit = timed  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    commits = TimedCommits()
    code = main(
        lambda port: print(port, flush=True), sys.stdin, database_url=sys.argv[1], warm_up=False,
        prepare=lambda _settings: warm_up(),
    )  # fmt: skip
    Path(sys.argv[2]).write_text(json.dumps(commits.seconds), encoding="utf-8")
    sys.exit(code)
