"""Many watches of one hub each, in a process of their own: `python -m bench.capacity_watchers PORT COUNT`.

It prints a line when every watch has its snapshot. For each line that it reads, it waits until every watch has seen a
change since, and prints when each did, in nanoseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import IO

import grpc.aio

from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.capacity.v1 import capacity_service_pb2_grpc

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Watchers:
    """The process, seen from outside."""

    process: subprocess.Popen[str]

    def seen_ns(self) -> list[int]:
        """When each watch saw the change that was made since the last call."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        times: list[int] = json.loads(self.process.stdout.readline())
        return times


@contextmanager
def watchers(port: int, count: int) -> Iterator[Watchers]:
    """Start watching `hub-0` and so on, and stop at the end."""
    command = [sys.executable, "-m", "bench.capacity_watchers", str(port), str(count)]
    root = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("the watchers did not start")
            yield Watchers(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=_START_S)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(slots=True)
class _Seen:
    """When each watch saw its last change."""

    times_ns: list[int]
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    missing: int = 0

    def expect(self) -> None:
        self.times_ns[:] = [0] * len(self.times_ns)
        self.missing = len(self.times_ns)
        self.complete.clear()

    def note(self, watch: int) -> None:
        if self.times_ns[watch] == 0:
            self.times_ns[watch] = monotonic_ns()
            self.missing -= 1
            if not self.missing:
                self.complete.set()


async def _watch(stub: capacity_service_pb2_grpc.CapacityServiceStub, watch: int, begun: _Seen, seen: _Seen) -> None:
    call = stub.WatchCapacity(api.WatchCapacityRequest(hub_ids=[f"hub-{watch}"]))
    async for event in call:  # type: ignore[attr-defined]
        if event.kind == api.CAPACITY_EVENT_KIND_SNAPSHOT_COMPLETE:
            begun.note(watch)
        elif event.kind == api.CAPACITY_EVENT_KIND_CHANGED:
            seen.note(watch)


async def _main(port: int, count: int, commands: IO[str]) -> None:
    begun, seen = _Seen([0] * count), _Seen([0] * count)
    begun.expect()
    seen.expect()
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in commands:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = capacity_service_pb2_grpc.CapacityServiceStub(channel)
        tasks = [asyncio.create_task(_watch(stub, i, begun, seen)) for i in range(count)]
        await asyncio.wait_for(begun.complete.wait(), _START_S)
        print("ready", flush=True)
        threading.Thread(target=read, daemon=True).start()
        while await lines.get():
            await asyncio.wait_for(seen.complete.wait(), _START_S)
            print(json.dumps(seen.times_ns), flush=True)
            seen.expect()
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), sys.stdin))
