"""A server with a rating to book against: prints its port, and serves until its input ends.

Its arguments are the URL of a database, empty for SQLite in a folder of its own, and the number of steps of 15 min that
a rating of 10 kVA of the transformer `transformer` of the system operator `dso` covers.
"""

from __future__ import annotations

import sys

import numpy as np

from bench.served import main
from evflex.engine.timegrid import TimeGrid
from evflex.server.settings import Settings
from evflex.server.store.database import Database
from evflex.server.store.ratings import NewRating, RatingStore
from evflex.server.store.requests import RequestKey
from evflex.server.store.retention import Retention

DSO, TRANSFORMER = "dso", "transformer"
START_S, STEP_S = 1_730_804_400, 900
HEADROOM_KW = 10.0


def rate(settings: Settings, steps: int) -> None:
    """Store the rating."""
    database = Database(settings)
    ratings = RatingStore(database, Retention(settings.change_retention_days, settings.request_retention_days))
    grid = TimeGrid(float(START_S), float(STEP_S), steps)
    headroom_kva = np.full(steps, HEADROOM_KW)
    key = RequestKey(DSO, "", "RateTransformer", "")
    ratings.save(NewRating(key, "", TRANSFORMER, grid, headroom_kva, headroom_kva, b"", 1_000_000 * START_S))
    database.close()


if __name__ == "__main__":
    url, count = sys.argv[1], int(sys.argv[2])
    sys.exit(
        main(
            lambda port: print(port, flush=True), sys.stdin, database_url=url, warm_up=False,
            prepare=lambda settings: rate(settings, count),
        )
    )  # fmt: skip
