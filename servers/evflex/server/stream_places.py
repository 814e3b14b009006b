"""How many streams of a service may run at the same time, and how long one whose caller sets no deadline."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from evflex.server.calls import current_call
from evflex.server.errors import busy
from evflex.server.settings import Settings


class StreamPlaces:
    """Places for streams."""

    def __init__(self, limit: str, settings: Settings) -> None:
        """Have as many places as the setting named `limit` says."""
        self._limit = limit
        self._settings = settings
        self._most: int = getattr(settings, limit)
        self._places = threading.Semaphore(self._most)

    @contextmanager
    def taken(self, context: grpc.ServicerContext) -> Iterator[None]:
        """A place among the streams, and an end to those whose caller sets no deadline and neither sends nor reads.

        Raises:
            ServiceError: UNAVAILABLE, all places are taken.
        """
        if not self._places.acquire(blocking=False):
            raise busy("TOO_MANY_STREAMS", f"{self._limit} is {self._most}", self._settings.retry_delay_s)
        late = threading.Timer(self._settings.stream_default_deadline_s, context.cancel)
        late.daemon = True
        try:
            if current_call().deadline_s is None:
                late.start()
            yield
        finally:
            late.cancel()
            self._places.release()
