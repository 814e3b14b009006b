"""Servers for the tests of the command line and of the documentation."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evflex.server.app import Server
from evflex.server.settings import Settings

EVFLEX = str(Path(sys.executable).with_name("evflex"))
READY_S = 120.0


@contextmanager
def server_in_process(folder: Path) -> Iterator[Server]:
    """A server of this process on free ports, ready to serve."""
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
        "data_dir": folder,
        "log_level": "error",
        "warm_up": False,
    }
    server = Server(Settings(**values))
    server.start()
    try:
        assert server.wait_until_serving(READY_S)
        yield server
    finally:
        server.stop(0.0)


@contextmanager
def server_process(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`evflex serve` as a process on a free port; killed at the end if it still runs.

    Yields:
        The process and its address, once it serves.
    """
    command = [EVFLEX, "serve", "--listen", "127.0.0.1:0", "--metrics-listen", "", "--data-dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--no-warm-up", *flags], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
    )  # fmt: skip
    assert process.stderr is not None
    events: queue.Queue[dict[str, Any]] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stderr, events), daemon=True)
    reader.start()
    try:
        port = 0
        while (event := events.get(timeout=READY_S))["event"] != "serving":
            port = event.get("port", port)
        yield process, f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def _read(lines: Any, events: queue.Queue[dict[str, Any]]) -> None:
    for line in lines:
        if line.startswith("{"):
            events.put(json.loads(line))
