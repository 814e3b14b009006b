"""Debian's PostgreSQL for tests, which unlike PyPI's has the extension btree_gist: a server in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

# Nothing of it outlives the tests, so it need not be safe from power cuts.
_OPTIONS = "-c listen_addresses='' -c fsync=off -c max_connections=50 -c shared_buffers=16MB"
_URL_VARIABLE = "EVFLEX_TEST_POSTGRES_URL"


def why_no_postgres() -> str:
    """Why there can be no server here; empty where there can."""
    if os.environ.get(_URL_VARIABLE):
        return ""
    if _programs() is None:
        return f"needs Debian's package postgresql, or {_URL_VARIABLE}"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


@contextmanager
def debian_postgres() -> Iterator[str]:
    """URL of a server that runs meanwhile, or of the one that EVFLEX_TEST_POSTGRES_URL names."""
    named = os.environ.get(_URL_VARIABLE)
    if named:
        yield named
        return
    programs = _programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="evflex-pg-"))  # short, as names of sockets must be
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        _run(folder, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
        _start(folder, programs)
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            _run(folder, programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_ours() -> bool:
    """Whether servers are made here, so that they may be killed."""
    return not os.environ.get(_URL_VARIABLE)


def kill_and_restart(url: str) -> None:
    """Kill a server of :func:`debian_postgres` with all its processes, as a crash would, and start it again."""
    programs, folder = _programs(), Path(str(sa.make_url(url).query["host"]))
    assert programs is not None
    number = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    for process in (number, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    while any(map(_runs, (number, *map(int, children)))):
        time.sleep(0.01)
    # these name a process that is dead, but which nobody may have buried
    for lock in (folder / "data" / "postmaster.pid", *folder.glob(".s.PGSQL.*.lock")):
        lock.unlink(missing_ok=True)
    _start(folder, programs)


def new_database(server_url: str, name: str) -> str:
    """URL of an empty database on a server."""
    url = sa.make_url(server_url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def _start(folder: Path, programs: Path) -> None:
    options = f"{_OPTIONS} -c unix_socket_directories='{folder}'"
    _run(folder, programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def _programs() -> Path | None:
    """Folder of the newest version that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return found[-1].parent if found else None


def _account() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def _run(folder: Path, *command: str | Path) -> None:
    """Run a program, as the user postgres where we are root; its server must not inherit our pipes."""
    account = _account() if os.geteuid() == 0 else None
    output = folder / "output"
    with output.open("ab") as out:
        finished = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            check=False,
        )
    assert finished.returncode == 0, output.read_text(errors="replace")
