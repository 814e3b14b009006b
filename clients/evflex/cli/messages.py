"""Protobuf messages as JSON text: read with helpful errors, written for people to read."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from evflex.cli.faults import UsageError
from evflex.cli.standard_input import standard_input_values

MessageT = TypeVar("MessageT", bound=Message)

_UNKNOWN_FIELD = re.compile(r'has no field named "(?P<field>[^"]*)" at "(?P<path>[^"]*)"')
_KNOWN_FIELD = re.compile(r"'([^']+)'")
_CAPITAL = re.compile(r"([A-Z])")
_LINE_WIDTH = 100


def read_text(source: str) -> str:
    """Text of a file.

    Raises:
        UsageError: The file cannot be read.
    """
    try:
        return Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from None


def read_messages(source: str, kind: type[MessageT]) -> Iterator[MessageT]:
    """Messages of a file of JSON objects, one after another; of standard input each as soon as it has come.

    Raises:
        UsageError: The text is no JSON, or is no message of this kind.
    """
    texts = standard_input_values() if source == "-" else iter([(0, read_text(source))])
    source = "standard input" if source == "-" else source
    decoder = json.JSONDecoder()
    for lines_before, text in texts:
        position = _skip_space(text, 0)
        while position < len(text):
            try:
                value, end = decoder.raw_decode(text, position)
            except json.JSONDecodeError as error:
                where = f"line {lines_before + error.lineno}, column {error.colno}"
                raise UsageError(f"{source} is no JSON: {error.msg} at {where}") from None
            yield _parse(value, kind, source)
            position = _skip_space(text, end)


def read_message(source: str, kind: type[MessageT]) -> MessageT:
    """The one message of a JSON file.

    Raises:
        UsageError: The text is no JSON, no message of this kind, or not one message.
    """
    messages = list(read_messages(source, kind))
    if len(messages) != 1:
        name = "standard input" if source == "-" else source
        raise UsageError(f"{name} must hold one JSON object, has {len(messages)}")
    return messages[0]


def compact(message: Message) -> str:
    """A message as JSON on one line, fields named as in the contract."""
    return json.dumps(_plain(message), ensure_ascii=False)


def pretty(message: Message) -> str:
    """A message as indented JSON in which each array of numbers stands on one line."""
    return _indented(_plain(message), "")


def pretty_parts(parts: Mapping[str, Message | Sequence[Message] | bool]) -> str:
    """An answer that came in several messages as one object of indented JSON, like :func:`pretty`.

    Args:
        parts: A message, several, or a flag, by the name of its field. A flag is shown also where it is false.
    """
    plain = {
        name: part if isinstance(part, bool) else _plain(part) if isinstance(part, Message) else list(map(_plain, part))
        for name, part in parts.items()
    }
    return _indented(plain, "")


def _plain(message: Message) -> object:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _indented(value: object, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    scalars = isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)
    if scalars or len(indent) + len(line) <= _LINE_WIDTH:
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        rows = [
            f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_indented(item, deeper)}" for key, item in value.items()
        ]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list):
        rows = [deeper + _indented(item, deeper) for item in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return line


def _parse(value: object, kind: type[MessageT], source: str) -> MessageT:
    if not isinstance(value, dict):
        raise UsageError(f"{source} must hold a JSON object, holds {json.dumps(value)[:40]}")
    try:
        return json_format.ParseDict(value, kind())
    except json_format.ParseError as error:
        raise UsageError(f"{source}: {_explained(str(error), kind)}") from None


def _explained(problem: str, kind: type[Message]) -> str:
    """Name an unknown field and the nearest known one; other problems are clear as they are."""
    unknown = _UNKNOWN_FIELD.search(problem)
    if unknown is None:
        return problem.rstrip(".")
    # the parser lists the names of the JSON mapping, the contract's own are those that the documents use
    known = [_CAPITAL.sub(r"_\1", name).lower() for name in _KNOWN_FIELD.findall(problem[unknown.end() :])]
    close = difflib.get_close_matches(unknown["field"], known, n=1)
    place = unknown["path"].partition(".")[2] or kind.DESCRIPTOR.name
    hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(known)}"
    return f'{place} has no field "{unknown["field"]}"; {hint}'


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
