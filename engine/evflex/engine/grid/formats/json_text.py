"""JSON that others wrote: whatever is wrong with it becomes a fault of the file."""

from __future__ import annotations

import json

from evflex.engine.validation import InvalidProblemError, Violation


def parse_json(content: bytes | str, path: str) -> object:
    """Parse UTF-8 JSON, in which NaN and Infinity are allowed, as Python writes them.

    Raises:
        InvalidProblemError: When it is none, or nested too deep, or holds a number of thousands of digits.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        parsed: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidProblemError([Violation(path, f"must be JSON in UTF-8: {str(error)[:200]}")]) from None
    return parsed
