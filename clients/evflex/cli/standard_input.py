"""Standard input as it comes, cut where a JSON value ends."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Iterator

from evflex.cli.faults import UsageError

_CHUNK_BYTES = 1 << 16
# a text of JSON, in which brackets do not count, or a bracket
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]')


def standard_input_values() -> Iterator[tuple[int, str]]:
    """Texts of whole lines that hold one or more JSON values; what is left at the end comes last, whole or not.

    Yields:
        Number of lines before, and text.

    Raises:
        UsageError: It is not text in UTF-8.
    """
    held: list[str] = []
    lines, depth = 0, 0
    for line in _lines():
        depth += sum(1 if token in "{[" else -1 for token in _TOKEN.findall(line) if token in "{}[]")
        held.append(line)
        if depth <= 0:
            yield lines, "".join(held)
            lines, depth = lines + len(held), 0
            held.clear()
    yield lines, "".join(held)


def _lines() -> Iterator[str]:
    held: list[str] = []
    try:
        for text in _chunks():
            *whole, rest = text.split("\n")
            for line in whole:
                held.append(f"{line}\n")
                yield "".join(held)
                held.clear()
            held.append(rest)
    except UnicodeDecodeError:
        raise UsageError("standard input is not text in UTF-8") from None
    yield "".join(held)


def _chunks() -> Iterator[str]:
    """Text as it comes.

    It is read past Python's own buffer, because a thread that waits inside it would keep the program from ending.
    """
    try:
        descriptor = sys.stdin.fileno()
    except io.UnsupportedOperation:
        yield sys.stdin.read()
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)
