"""A server in a process of its own: `python -m bench.served` prints its port and serves until its input ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import grpc

from evflex.charging.v1 import charging_service_pb2 as api

if TYPE_CHECKING:
    from evflex.server.settings import Settings

_SERVICE = "/evflex.charging.v1.ChargingService"
_MOST_BYTES = 64 << 20
_START_S = 180.0
_CALL_S = 300.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs.

    Attributes:
        channel: To it.
        pid: Its process.
        port: Its port on this machine.
    """

    channel: grpc.Channel
    pid: int
    port: int

    def plan(self, request: bytes) -> bytes:
        """One OptimizeSchedule, bytes in and out, so that only the server translates."""
        call = self.channel.unary_unary(f"{_SERVICE}/OptimizeSchedule", _same, _same)
        answer: bytes = call(request, timeout=_CALL_S)
        return answer

    def plan_many(self, requests: Sequence[bytes]) -> list[bytes]:
        """One OptimizeSchedules with all sites in some messages, bytes in and out."""
        call = self.channel.stream_stream(f"{_SERVICE}/OptimizeSchedules", _same, _same)
        return list(call(iter(requests), timeout=_CALL_S))

    def peak_bytes(self) -> int:
        """Most memory that the server has ever held (VmHWM)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
        raise RuntimeError("the system does not tell a process' peak memory")


@contextmanager
def served(module: str = "bench.served", *arguments: str) -> Iterator[Served]:
    """Start a server with its default settings on a free port, and stop it at the end.

    Args:
        module: What to run: it prints its port, and serves until its input ends.
        arguments: For it.

    Raises:
        RuntimeError: It does not come up.
    """
    command = [sys.executable, "-m", module, *arguments]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise RuntimeError("the server did not start")
            options = [("grpc.max_receive_message_length", _MOST_BYTES)]
            port = int(line)
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                yield Served(channel, process.pid, port)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=15.0)
            except subprocess.TimeoutExpired:
                process.kill()


def stream_messages(requests: Sequence[api.OptimizeScheduleRequest], sites_per_message: int) -> list[bytes]:
    """The messages of an OptimizeSchedules stream, as bytes."""
    return [
        api.OptimizeSchedulesRequest(site_requests=requests[first : first + sites_per_message]).SerializeToString()
        for first in range(0, len(requests), sites_per_message)
    ]


def _same(data: bytes) -> bytes:
    return data


def main(
    announce: Callable[[int], None],
    until: IO[str],
    *,
    database_url: str = "",
    prepare: Callable[[Settings], None] | None = None,
    warm_up: bool = True,
) -> int:
    """Serve until `until` ends; `announce` hears the port once the kernels are warm, `prepare` the settings before."""
    from evflex.server.app import Server
    from evflex.server.collector import calm_collector
    from evflex.server.settings import Settings

    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        settings = Settings(
            listen="127.0.0.1:0", metrics_listen="", data_dir=Path(folder), database_url=database_url,
            log_level="error", warm_up=warm_up,
        )  # fmt: skip
        if prepare is not None:
            prepare(settings)
        with Server(settings) as server:
            if not server.wait_until_serving(_START_S):
                return 1
            calm_collector()  # as `evflex serve` does
            announce(server.port)
            until.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(lambda port: print(port, flush=True), sys.stdin))
