"""The RPC that the present thread serves: who calls, how long there is, and whether anyone still waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc

from evflex.server.caller import Caller

# gRPC tells some centuries where a client sets no deadline.
_NO_DEADLINE_S = 1e9

_current: ContextVar[Call] = ContextVar("evflex_call")


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC.

    Attributes:
        method: Full name, such as `/evflex.charging.v1.ChargingService/GetSchedule`.
        request_id: Identifier for logs and errors, chosen by the caller or made here.
        caller: Who calls.
        deadline_s: When the answer must be there, on the clock of :func:`time.monotonic`; None when open.
        ended: Set once the RPC is over, for whatever reason: nobody waits any more.
    """

    method: str
    request_id: str
    caller: Caller
    deadline_s: float | None
    ended: threading.Event = field(default_factory=threading.Event)
    _callbacks: list[Callable[[], None]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, context: grpc.ServicerContext, method: str, request_id: str, caller: Caller) -> Call:
        """The call behind a gRPC context."""
        remaining_s: float | None = context.time_remaining()
        if remaining_s is not None and remaining_s > _NO_DEADLINE_S:
            remaining_s = None
        deadline_s = None if remaining_s is None else time.monotonic() + remaining_s
        call = cls(method, request_id, caller, deadline_s)
        still_open: bool | None = context.add_callback(call._end)
        if not still_open:
            call._end()
        return call

    def remaining_s(self, default_s: float) -> float:
        """Seconds until the deadline, `default_s` where there is none."""
        return default_s if self.deadline_s is None else self.deadline_s - time.monotonic()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Run `callback` when the RPC is over, or now if it is."""
        with self._lock:
            if not self.ended.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not run `callback`, nor keep what it holds, if that is still to come."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def _end(self) -> None:
        with self._lock:
            self.ended.set()
            callbacks = list(self._callbacks)
            self._callbacks.clear()
        for callback in callbacks:
            callback()


def current_call() -> Call:
    """The call that the present thread serves.

    Raises:
        LookupError: No interceptor has entered one.
    """
    return _current.get()


@contextmanager
def entered(call: Call) -> Iterator[None]:
    """Make `call` the current one of this thread."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)
