"""Takes a Markdown file apart into what can be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"<!-- file: (\S+) -->\s*\Z")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands behind the fence.
        text: Content.
        file: Name that a comment above it gives, for a file to be written; else empty.
        line: Line of the fence in the document.
    """

    language: str
    text: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and the output shown below it."""

    line: str
    expected: str


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        above = _FILE.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], above[1] if above else "", line))
    return found


def commands(text: str) -> Iterator[Command]:
    """Commands of a console block: lines that begin with `$ `, each with the output that follows."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        yield Command(line, expected)


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as code forges make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
