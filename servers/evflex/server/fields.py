"""Rules that only the wire knows: identifiers, times and lengths, reported like the engine's own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import chain
from math import nan
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.common.v1 import time_grid_pb2
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules, Violation
from evflex.server.errors import invalid

MAX_ID_LENGTH = 256
# Years 1 to 9999, as google.protobuf.Timestamp has it.
MIN_TIMESTAMP_S = -62_135_596_800
MAX_TIMESTAMP_S = 253_402_300_799
MAX_DURATION_S = 315_576_000_000
NANOS = 1_000_000_000
Member = TypeVar("Member", bound=IntEnum)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_request_id(rules: Rules, request_id: str, *, required: bool, path: str = "request_id") -> None:
    """Report a request id that is no UUID, or is absent where it is required."""
    if request_id or required:
        rules.check(bool(_UUID.fullmatch(request_id)), path, "must be a UUID")


def check_id(rules: Rules, path: str, value: str, *, required: bool = False) -> None:
    """Report an identifier that is empty where required, too long, or holds control characters."""
    if value.isprintable() and len(value) <= MAX_ID_LENGTH and (value or not required):
        return
    if not value:
        rules.check(False, path, "must not be empty")
    elif len(value) > MAX_ID_LENGTH:
        rules.check(False, path, f"must have at most {MAX_ID_LENGTH} characters, has {len(value)}")
    else:
        rules.check(False, path, "must hold printable characters only")


def check_ids(rules: Rules, table: str, columns: Mapping[str, Sequence[str]]) -> None:
    """Report each identifier of a table's columns that is too long or holds control characters."""
    values = list(chain.from_iterable(columns.values()))
    joined = "".join(values)
    if joined.isprintable() and (len(joined) <= MAX_ID_LENGTH or max(map(len, values)) <= MAX_ID_LENGTH):
        return
    for column, column_values in columns.items():
        for i, value in enumerate(column_values):
            check_id(rules, f"{table}[{i}].{column}", value)


def check_currency(rules: Rules, path: str, code: str) -> None:
    """Report what is no currency of ISO 4217."""
    sound = len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()
    rules.check(sound, path, f"must be three capital letters (ISO 4217), is {code[:20]!r}")


def timestamp_s(rules: Rules, path: str, value: Timestamp) -> float:
    """Seconds since 1970-01-01 UTC; reports a time outside years 1 to 9999."""
    if not (MIN_TIMESTAMP_S <= value.seconds <= MAX_TIMESTAMP_S and 0 <= value.nanos < NANOS):
        rules.check(False, path, "must be a valid timestamp (years 1 to 9999, nanos 0 to 999 999 999)")
    return value.seconds + value.nanos * 1e-9


def duration_s(rules: Rules, path: str, value: Duration) -> float:
    """Seconds; reports a duration that protobuf does not allow."""
    seconds, nanos = value.seconds, value.nanos
    if abs(seconds) > MAX_DURATION_S or abs(nanos) >= NANOS or seconds * nanos < 0:
        rules.check(False, path, "must be a valid duration (up to 10 000 years, seconds and nanos of one sign)")
    return seconds + nanos * 1e-9


def known_member(rules: Rules, path: str, value: int, unspecified: Member) -> Member:
    """The enum's member; what "unspecified" means also stands for an unknown value, which is reported."""
    if not value:
        return unspecified
    kind = type(unspecified)
    try:
        return kind(value)
    except ValueError:
        rules.check(False, path, f"must be a known {kind.__name__}, is {value}")
        return unspecified


def read_grid(rules: Rules, path: str, message: Message) -> TimeGrid:
    """The `time_grid` of a message; reports its absence."""
    if not message.HasField("time_grid"):
        rules.check(False, path, "must be set")
        return TimeGrid(nan, nan, 0)
    grid: time_grid_pb2.TimeGrid = message.time_grid  # type: ignore[attr-defined]
    return decode_grid(rules, grid, path)


def decode_grid(rules: Rules, grid: time_grid_pb2.TimeGrid, path: str = "time_grid") -> TimeGrid:
    """The time axis; NaN stands for what is not set."""
    start_unix_s = timestamp_s(rules, f"{path}.start_time", grid.start_time) if grid.HasField("start_time") else nan
    step_s = duration_s(rules, f"{path}.step_duration", grid.step_duration)
    if start_unix_s + step_s * grid.step_count > MAX_TIMESTAMP_S:
        rules.check(False, path, "must end before the year 10000")
    return TimeGrid(start_unix_s, step_s, grid.step_count)


def sound_grid(rules: Rules, path: str, message: Message) -> TimeGrid | None:
    """The `time_grid` of a message, None where it breaks a rule, which is reported."""
    grid = read_grid(rules, path, message)
    found = Rules()
    sound = grid.validate(found, path)
    take_over(rules, found)
    return grid if sound else None


def take_over(rules: Rules, found: Rules) -> None:
    """Add faults that the engine found early, but for those of fields reported already."""
    rules.violations = merged(rules, found)


def refuse(rules: Rules) -> None:
    """Raise INVALID_ARGUMENT with all that was reported, if anything was."""
    if rules.violations:
        raise invalid(rules.violations)


def merged(wire: Rules, engine: Rules) -> list[Violation]:
    """All faults: the wire's, and of the engine's those that are not about a field reported already or below it."""
    reported = {violation.field for violation in wire.violations}
    return [*wire.violations, *(v for v in engine.violations if not _covered(v.field, reported))]


def _covered(field: str, reported: set[str]) -> bool:
    if not reported:
        return False
    if field in reported:
        return True
    return any(field[:i] in reported for i, letter in enumerate(field) if letter in ".[")
