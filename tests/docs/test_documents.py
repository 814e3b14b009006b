"""Every command and snippet of the documents runs, and prints what they show."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.serving import server_in_process
from tests.docs.markdown import LINK, anchors, blocks, commands

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNABLE = [path for path in DOCUMENTS if any(block.language in ("python", "console") for block in blocks(path))]
DOCUMENTED = {"127.0.0.1:50151": "server", "127.0.0.1:50152": "metrics"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("document", RUNNABLE, ids=named)
def test_what_a_document_shows_is_what_happens(document: Path, tmp_path: Path) -> None:
    with server_in_process(tmp_path / "data") as server:
        real = {"server": f"127.0.0.1:{server.port}", "metrics": f"127.0.0.1:{server.metrics_port}"}
        reader = Reader(tmp_path, {address: real[name] for address, name in DOCUMENTED.items()})
        reader.read(document)


class Reader:
    """Does what a document says, in one folder and one Python session."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        self._folder = folder
        self._addresses = addresses
        self._names: dict[str, Any] = {"__name__": "__main__"}

    def read(self, document: Path) -> None:
        printed = ""
        for block in blocks(document):
            place = f"{document.name}:{block.line}"
            if block.file:
                (self._folder / block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                printed = self._python(block.text, place)
            elif block.language == "text":
                compare(place, block.text, printed)
            elif block.language == "console":
                for command in commands(block.text):
                    output = self._console(command.line)
                    compare(f"{place}: {command.line}", command.expected, output)

    def _python(self, text: str, place: str) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(self._addressed(text), place, "exec", dont_inherit=True), self._names)
        return printed.getvalue()

    def _console(self, line: str) -> str:
        """Output of a command, with its exit code where it is not 0; a server only shows its settings."""
        serves = line.startswith("evflex serve") and "--show-settings" not in line
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "EVFLEX_SERVER": self._addresses["127.0.0.1:50151"],
            "COLUMNS": "120",
            "NO_COLOR": "1",
        }
        command = self._addressed(line) + (" --show-settings > /dev/null" if serves else "")
        ended = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self._folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        output = ended.stdout
        for documented, real in self._addresses.items():
            output = output.replace(real, documented)
        return output + (f"[exit code {ended.returncode}]\n" if ended.returncode else "")

    def _addressed(self, text: str) -> str:
        for documented, real in self._addresses.items():
            text = text.replace(documented, real)
        return text


def compare(place: str, expected: str, actual: str) -> None:
    """Compare as doctest does: `...` stands for anything."""
    same = doctest.OutputChecker().check_output(expected, actual, FLAGS)
    assert same, f"{place}\n--- shown\n{expected}\n--- happened\n{actual}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in links(document):
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), f"{named(document)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{named(document)} links to {target}"


def links(document: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if "://" not in target:
            yield target


def test_make_commands_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE) for name in line.split()}
    named_targets = {
        target
        for path in DOCUMENTS
        for target in re.findall(r"^\$? ?make (\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert named_targets
    assert named_targets <= targets


def test_no_block_is_left_unread() -> None:
    known = {"python", "console", "text", "json", "csv", "ini", "dockerfile", ""}
    assert {block.language for path in DOCUMENTS for block in blocks(path)} <= known


@pytest.mark.slow
def test_the_reference_follows_the_protos() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate_api.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"run: python docs/generate_api.py\n{ended.stderr}"


def test_the_picture_is_not_too_large() -> None:
    assert (ROOT / "docs" / "images" / "demo.png").stat().st_size < 300_000


def test_the_tools_that_the_documents_use_are_here() -> None:
    assert all(shutil.which(tool) for tool in ("bash", "curl", "sed", "grep", "head"))
