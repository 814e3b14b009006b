"""A ledger without a server: a keeper with its parts, a clock that is set, and faults that happen when told to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evflex.activation.v1 import audit_pb2
from evflex.server.activation.activating import Activating
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.policies import Policies
from evflex.server.activation.registering import Register
from evflex.server.activation.selling import Selling
from evflex.server.activation.sessions import Sessions
from evflex.server.activation.turn import Turn
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.errors import ServiceError
from evflex.server.log import make_log
from evflex.server.store.database import Database
from evflex.server.store.ledger import LedgerStore
from evflex.server.store.ledger_rows import Head, LedgerState
from evflex.server.store.retention import Retention
from tests.server.activation.live_support import (
    HELD,
    check_chain,
    check_state_is_that_of_the_log,
    read_tables,
    shape_of,
    sqlite_url,
)
from tests.server.support import START_S, settings_for

START_MS = START_S * 1_000
AGGREGATOR = Caller("agg")


class Bench:
    """A keeper with its parts, a clock that is set, and faults that happen when told to."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.settings = settings_for(folder, database_url=database_url, watch_poll_s=600.0, log_level="error")
        self.database_url = database_url or sqlite_url(folder)
        self.database = Database(self.settings)
        self.store = LedgerStore(self.database, Retention(30.0, 30.0))
        self.now_us = START_MS * 1_000
        self.keeper = self.new_keeper()
        self.register = Register(self.keeper)
        self.selling = Selling(self.keeper)
        self.activating = Activating(self.keeper)
        self.sessions = Sessions(self.keeper)
        self.policies = Policies(self.keeper)

    def new_keeper(self) -> LedgerKeeper:
        return LedgerKeeper(self.settings, self.store, lambda: self.now_us, make_log("error"))

    def close(self) -> None:
        self.keeper.close()
        self.database.close()

    def together(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """Let requests wait until all of them are there, so that they are judged together, or in two parts."""
        waiting = threading.Semaphore(0)
        requests = self.keeper._requests
        put = requests.put

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(requests, name)

            def put(self, request: Any) -> None:
                put(request)
                waiting.release()

        def outcome(work: Callable[[], Any]) -> Any:
            try:
                return work()
            except ServiceError as error:
                waiting.release()  # some are refused before they wait
                return error

        self.keeper._requests = Counted()  # type: ignore[assignment]
        try:
            with ThreadPoolExecutor(len(works)) as threads:
                with self.keeper._looking:
                    answers = [threads.submit(outcome, work) for work in works]
                    for _ in works:
                        waiting.acquire()
                return [answer.result() for answer in answers]
        finally:
            self.keeper._requests = requests


def replayed(bench: Bench) -> LedgerWorld:
    """A ledger that has lived through the whole log."""
    world = LedgerWorld(LedgerState(Head(0, bytes(32)), [], [], [], []))
    for line in bench.store.audit(1):
        world.apply(audit_pb2.LedgerEvent.FromString(line.event))
        world.position = line.sequence
    return world


def check_memory(bench: Bench) -> None:
    """Assert that memory is what the store leads to, both at once and line by line."""
    bench.keeper.look(lambda world: _check_world(bench, world))


def _check_world(bench: Bench, world: LedgerWorld) -> None:
    present = shape_of(world)
    assert present == shape_of(LedgerWorld(bench.store.load(bench.now_us)))
    assert present == shape_of(replayed(bench))
    held = {name: c for name, c in world.commitments.items() if c.state == HELD}
    assert present["open holds"] == Counter(c.aggregator_id for c in held.values())
    assert held.keys() <= {name for _, name in world._expiries}
    tables = read_tables(bench.database_url)
    check_chain(tables)
    check_state_is_that_of_the_log(tables)


class BrokenError(Exception):
    """Something that nobody expects."""


@contextmanager
def breaking_after(monkeypatch: pytest.MonkeyPatch, changes: int, error: Exception) -> Iterator[None]:
    """Let the next request break once it has written some changes."""
    left = [changes]
    put = Turn._log

    def log(self: Turn, *arguments: Any) -> None:
        put(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Turn, "_log", log)
        yield
