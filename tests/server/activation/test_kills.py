"""A server, or its database, that is killed in the middle of work loses nothing that it has acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from evflex.server.activation.world import LedgerWorld
from tests.conftest import SOAK
from tests.postgres import debian_postgres, is_ours, kill_and_restart, why_no_postgres
from tests.server.activation.live_support import (
    CONFIRMED,
    EXPIRED,
    HOUR_MS,
    POINT,
    RELEASED,
    SITE,
    Client,
    check_tables,
    close_session,
    code_of,
    confirm,
    hold,
    live,
    now_ms,
    open_session,
    register,
    release,
    resource,
    sale,
    shape_of,
    sqlite_url,
    tomorrow_ms,
)

KILLS = 100 if SOAK else 3
POSTGRES_KILLS = 12 if SOAK else 1
THREADS = 6
LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
# Loads all that a server needs, and becomes one with each line that it reads: none but the first has to load anything.
_PROGRAM = """
import os, sys
from evflex.server.app import Server
from evflex.server.settings import Settings
folder, url = sys.argv[1:]
for _ in sys.stdin:
    process = os.fork()
    if not process:
        server = Server(Settings(listen="127.0.0.1:0", metrics_listen="", data_dir=folder, database_url=url,
                                 warm_up=False, log_level="error", solve_threads=1))
        print(os.getpid(), server.start(), flush=True)
        server.wait()
    os.waitpid(process, 0)
"""


class ServerProcess:
    """A server in a process of its own, which can be killed and started anew."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._number = 0
        self._mother = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder), database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )  # fmt: skip

    def start(self) -> int:
        """Serve; the port."""
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write("\n")
        self._mother.stdin.flush()
        self._number, port = map(int, self._mother.stdout.readline().split())
        return port

    def kill(self) -> None:
        os.kill(self._number, signal.SIGKILL)

    def close(self) -> None:
        """End it for good."""
        self._mother.kill()
        if self._number:
            with suppress(ProcessLookupError):
                self.kill()
        self._mother.communicate()


@dataclass
class Worker:
    """A thread that sells and plugs in, and knows what it was told.

    Attributes:
        told: State of each commitment as it was acknowledged last.
        plugged: Whether each session is open, as it was acknowledged last.
        in_flight: RPC, and request without an answer yet.
    """

    number: int
    seed: int
    told: dict[str, int] = field(default_factory=dict)
    plugged: dict[str, bool] = field(default_factory=dict)
    in_flight: tuple[str, Any] | None = None
    done: int = 0
    trouble: list[BaseException] = field(default_factory=list)

    def work(self, port: int, over: threading.Event) -> None:
        """Work until the server is lost."""
        rng = random.Random(self.seed + self.done)
        client = Client(port, f"tenant{self.number % 2}")
        try:
            while not over.is_set():
                rpc, request = self._next(rng)
                if not self.call(client, rpc, request):
                    return
        except BaseException as error:
            self.trouble.append(error)
        finally:
            client.close()

    def call(self, client: Client, rpc: str, request: Any) -> bool:
        """Make a request, and note what came of it; False when the server was lost."""
        self.in_flight = (rpc, request)
        try:
            answer = getattr(client, rpc)(request)
        except grpc.RpcError as error:
            if code_of(error) not in LOST:
                raise
            return False
        self.note(rpc, request, answer)
        self.in_flight = None
        self.done += 1
        return True

    def note(self, rpc: str, request: Any, answer: Any) -> None:
        if rpc in ("OpenSession", "CloseSession"):
            self.plugged[answer.session.session_id] = rpc == "OpenSession"
        else:
            for made in answer.commitments:
                self.told[made.commitment_id] = made.state

    def _next(self, rng: random.Random) -> tuple[str, Any]:
        open_now = [name for name, is_open in self.plugged.items() if is_open]
        held = [name for name, state in self.told.items() if state == 1]
        kind = rng.random()
        if kind < 0.15 and open_now:
            return "CloseSession", close_session(open_now[0])
        if kind < 0.3 and not open_now:
            name = f"s{self.number}-{self.seed}-{self.done}"
            return "OpenSession", open_session(name, f"ev{self.number}", f"cp{self.number}", now_ms())
        if kind < 0.5 and held:
            return "ConfirmCommitments", confirm(rng.choice(held))
        if kind < 0.7 and held:
            return "ReleaseCommitments", release(rng.choice(held))
        start_ms = _BASE_MS + rng.randrange(0, 2_000) * HOUR_MS
        name = rng.choice(["shared", "shared", f"cp{self.number}"])
        sales = [sale(name, start_ms, start_ms + HOUR_MS, rng.choice([300, 700])) for _ in range(rng.choice([1, 1, 2]))]
        return "HoldCommitments", hold(*sales, seconds=3_000.0)


_BASE_MS = tomorrow_ms()


def set_up(port: int) -> None:
    client = Client(port, "cpo")
    made = [resource("shared", SITE, up_w=1_000)]
    made += [resource(f"cp{i}", POINT, up_w=1_000, parent="shared") for i in range(THREADS)]
    made += [resource(f"ev{i}", up_w=1_000) for i in range(THREADS)]
    client.RegisterResources(register(*made))
    client.close()


def work_until(port: int, workers: list[Worker], strike: Any, rng: random.Random) -> None:
    """Let all work, and strike in the middle of it."""
    over = threading.Event()
    threads = [threading.Thread(target=worker.work, args=(port, over)) for worker in workers]
    before = sum(worker.done for worker in workers)
    for thread in threads:
        thread.start()
    wanted = before + rng.randrange(20, 120)
    while sum(worker.done for worker in workers) < wanted and any(thread.is_alive() for thread in threads):
        time.sleep(0.001)
    time.sleep(rng.random() * 0.02)  # so that it strikes at any point of a transaction
    strike()
    over.set()
    for thread in threads:
        thread.join()
    assert not [worker.trouble for worker in workers if worker.trouble]


def check_nothing_is_lost(database_url: str, workers: list[Worker]) -> Counter[str]:
    """Assert that what is stored is what was told, but for what was in flight; how requests in flight ended."""
    tables = check_tables(database_url)
    told: dict[str, int] = {}
    plugged: dict[str, bool] = {}
    in_doubt: dict[str, set[str]] = {}
    held_in_flight: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for worker in workers:
        told |= worker.told
        plugged |= worker.plugged
        if worker.in_flight is None:
            continue
        rpc, request = worker.in_flight
        if rpc in ("ConfirmCommitments", "ReleaseCommitments"):
            for name in request.commitment_ids:
                in_doubt[name] = {rpc}
                ended["stored" if tables.commitments[name].state != told[name] else "not stored"] += 1
        elif rpc == "HoldCommitments":
            held_in_flight[f"tenant{worker.number % 2}"] += len(request.commitments)
        else:
            in_doubt[request.session_id if rpc == "CloseSession" else request.session.session_id] = {rpc}
    outcome = {"ConfirmCommitments": CONFIRMED, "ReleaseCommitments": RELEASED}
    for name, state in told.items():
        stored = tables.commitments[name].state
        allowed = {state} | {outcome[rpc] for rpc in in_doubt.get(name, ())}
        assert stored in allowed, f"{name} is {stored}, was told to be {state}"
    unknown = Counter(c.tenant_id for name, c in tables.commitments.items() if name not in told)
    for name in set(tables.commitments) - set(told):
        assert tables.commitments[name].state not in (CONFIRMED, RELEASED, EXPIRED)
    assert all(count <= held_in_flight[tenant] for tenant, count in unknown.items()), (unknown, held_in_flight)
    for name, is_open in plugged.items():
        assert name in tables.sessions
        assert tables.sessions[name].HasField("end_time") != is_open or name in in_doubt
    for name in set(tables.sessions) - set(plugged):
        assert in_doubt.get(name) == {"OpenSession"}
    ended["holds stored"] += sum(unknown.values())
    return +ended


def repeat_what_was_in_flight(port: int, workers: list[Worker]) -> None:
    """Ask again what had no answer, twice: both get one answer, which then is what was told."""
    for worker in workers:
        if worker.in_flight is None:
            continue
        rpc, request = worker.in_flight
        client = Client(port, f"tenant{worker.number % 2}")
        first = getattr(client, rpc)(request)
        assert getattr(client, rpc)(request) == first
        worker.note(rpc, request, first)
        worker.in_flight = None
        client.close()


def kill_again_and_again(folder: Path, database_url: str, kills: int) -> None:
    rng = random.Random(kills)
    stored_at = database_url or sqlite_url(folder)
    workers = [Worker(i, seed=1_000 * i) for i in range(THREADS)]
    ended: Counter[str] = Counter()
    with closing(ServerProcess(folder, database_url)) as server:
        port = server.start()
        set_up(port)
        for _ in range(kills):
            work_until(port, workers, server.kill, rng)
            ended += check_nothing_is_lost(stored_at, workers)
            port = server.start()
            repeat_what_was_in_flight(port, workers)
            assert not check_nothing_is_lost(stored_at, workers)
        check_a_commitment_of_each(port, workers)
    done = sum(worker.done for worker in workers)
    print(f"{kills} kills, {done} acknowledged, in flight: {dict(ended)}")
    assert done >= 20 * kills


def check_a_commitment_of_each(port: int, workers: list[Worker]) -> None:
    for worker in workers:
        client = Client(port, f"tenant{worker.number % 2}")
        for name, state in list(worker.told.items())[-20:]:
            assert client.state_of(name) == state
        client.close()


@pytest.mark.timeout(3_000)
def test_killed_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, "", KILLS)


@pytest.mark.postgres
@pytest.mark.timeout(1_200)
def test_killed_server_keeps_what_it_acknowledged_on_postgres(tmp_path: Path, debian_postgres_database: str) -> None:
    kill_again_and_again(tmp_path, debian_postgres_database, POSTGRES_KILLS)


@pytest.mark.postgres
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(why_no_postgres()) or not is_ours(), reason="needs a PostgreSQL that may be killed")
def test_killed_database_is_gone_on_with(tmp_path: Path) -> None:
    rng = random.Random(1)
    workers = [Worker(i, seed=1_000 * i) for i in range(THREADS)]
    with debian_postgres() as url, live(tmp_path, url) as made:
        port = made.servers[0].port
        set_up(port)
        for _ in range(5 if SOAK else 1):
            work_until(port, workers, lambda: kill_and_restart(url), rng)
            check_nothing_is_lost(url, workers)
            repeat_what_was_in_flight(port, workers)
            assert not check_nothing_is_lost(url, workers)
        ledger = made.servers[0].ledger
        is_right = ledger.look(lambda world: shape_of(world) == shape_of(LedgerWorld(ledger.store.load(0))))
        assert is_right
