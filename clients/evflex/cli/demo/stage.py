"""What every chapter needs to run: a folder for its files and a bar that shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from evflex.cli.faults import UsageError


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A folder that files are written to; made if need be.

    Raises:
        UsageError: It cannot be made, or a file in it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None


def progress_bar(console: Console) -> Progress:
    """A bar with what is being done and for how long."""
    return Progress(TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn(), console=console)


def print_written(console: Console, files: list[Path]) -> None:
    """Name the files that were written."""
    console.print("Written: " + ", ".join(map(str, files)), highlight=False, soft_wrap=True)
