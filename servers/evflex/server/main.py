"""Runs a server until it is told to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from evflex.server.app import Server
from evflex.server.collector import calm_collector
from evflex.server.settings import Settings


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain: stop accepting, finish what runs, flush.

    A second signal ends the grace and cuts off what still runs.

    Returns:
        Exit code: 0 after a drain, 1 when the kernels could not be warmed up.
    """
    server = Server(settings)
    signals = threading.Semaphore(0)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        signals.release()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        calmed = False
        while not signals.acquire(timeout=0.2):
            if not calmed and server.wait_until_serving(0.0):
                calm_collector()
                calmed = True
            if server.failed:
                server.stop(0.0)
                return 1
        drain = threading.Thread(target=server.stop, args=(settings.drain_grace_s,), name="drain")
        drain.start()
        while drain.is_alive():
            drain.join(timeout=0.1)
            if signals.acquire(blocking=False):
                server.stop(0.0)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0
