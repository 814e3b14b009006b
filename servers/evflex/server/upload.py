"""A stream of header, chunks and commit, read in order, with a digest of everything that came."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from google.rpc import code_pb2

from evflex.engine.validation import MAX_REPORTED, Rules
from evflex.server.errors import ServiceError, invalid_field
from evflex.server.fields import refuse
from evflex.server.wire import decoded

Header = TypeVar("Header", bound=Message)
Chunk = TypeVar("Chunk", bound=Message)
Header_co = TypeVar("Header_co", bound=Message, covariant=True)
Chunk_co = TypeVar("Chunk_co", bound=Message, covariant=True)


class UploadMessage(Protocol[Header_co, Chunk_co]):
    """A message of such a stream, such as CreatePortfolioRequest."""

    @property
    def header(self) -> Header_co:
        """First message."""

    @property
    def chunk(self) -> Chunk_co:
        """A message in between."""


class Upload(Generic[Header, Chunk]):
    """One client stream.

    Attributes:
        rules: Faults found so far; the stream is given up when there are as many as are told.
    """

    def __init__(self, messages: Iterator[UploadMessage[Header, Chunk]]) -> None:
        """Read `messages`."""
        self.rules = Rules()
        self._messages = messages
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Digest of all messages read, as hexadecimal digits."""
        return self._digest.hexdigest()

    def header(self) -> Header:
        """The first message.

        Raises:
            ServiceError: INVALID_ARGUMENT, it is no header.
        """
        for message in self._messages:
            if self._kind(message) == "header":
                return message.header
            break
        raise invalid_field("header", "must be the first message")

    def chunks(self) -> Iterator[tuple[str, Chunk]]:
        """The chunks up to the commit, each with its path.

        Raises:
            ServiceError: INVALID_ARGUMENT, the order is wrong, the stream ends before the commit, or there are as many
                faults as are told.
        """
        for count, message in enumerate(self._messages):
            kind = self._kind(message)
            if kind == "commit":
                self._end()
                return
            if kind == "header":
                raise invalid_field("header", "must come once")
            if kind is None:
                raise invalid_field("payload", "must be set")
            yield f"chunks[{count}]", message.chunk
            if len(self.rules.violations) >= MAX_REPORTED:
                refuse(self.rules)
        raise invalid_field("commit", "must be the last message; the stream ended without it, and nothing was changed")

    def _end(self) -> None:
        for _ in self._messages:
            raise invalid_field("commit", "must be the last message")

    def _kind(self, message: object) -> str | None:
        """Which payload a message has; also takes it into the digest."""
        whole = decoded(message)
        assert isinstance(whole, Message)
        serialized = whole.SerializeToString(deterministic=True)
        self._digest.update(len(serialized).to_bytes(8, "little"))
        self._digest.update(serialized)
        kind: str | None = whole.WhichOneof("payload")
        return kind


def without_silence(messages: Iterator[object], most_s: float) -> Iterator[Any]:
    """The messages of a stream as they come.

    Raises:
        ServiceError: DEADLINE_EXCEEDED, none came for `most_s`.
    """
    inbox: queue.Queue[object] = queue.Queue(1)
    over = threading.Event()

    def read() -> None:
        with suppress(Exception):  # gRPC raises here when the call is over
            for message in messages:
                if not _put(inbox, message, over):
                    return
        _put(inbox, _END, over)

    threading.Thread(target=read, name="upload-reader", daemon=True).start()
    try:
        while (message := _next(inbox, most_s)) is not _END:
            yield message
    finally:
        over.set()


_END = object()
_POLL_S = 0.1


def _next(inbox: queue.Queue[object], most_s: float) -> object:
    try:
        return inbox.get(timeout=most_s)
    except queue.Empty:
        message = f"no message came for {most_s:g} s, as long as max_upload_silence_s allows"
        raise ServiceError(code_pb2.DEADLINE_EXCEEDED, "UPLOAD_SILENT", message) from None


def _put(inbox: queue.Queue[object], message: object, over: threading.Event) -> bool:
    """Hand a message over; False when nobody takes any more."""
    while not over.is_set():
        try:
            inbox.put(message, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False
