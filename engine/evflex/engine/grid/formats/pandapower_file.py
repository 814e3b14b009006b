"""The tables of a network that pandapower wrote with ``to_json``: DataFrames as JSON, oriented "split"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evflex.engine.grid.formats.builder import NetworkBuilder
from evflex.engine.grid.formats.json_text import parse_json
from evflex.engine.grid.formats.table import Table
from evflex.engine.validation import Rules


@dataclass(frozen=True, slots=True)
class PandapowerFile:
    """A file, and what is being made of it.

    Attributes:
        file: Its name.
        objects: Tables and settings as JSON holds them.
        rules: Where faults go.
    """

    file: str
    objects: Mapping[str, object]
    rules: Rules

    def number(self, name: str, default: float) -> float:
        """A setting > 0 of the network."""
        value = self.objects.get(name, default)
        sound = isinstance(value, (int, float)) and not isinstance(value, bool) and 1e-6 <= value <= 1e9
        self.rules.check(sound, f"{self.file}: {name}", f"must be a number > 0, is {str(value)[:40]}")
        return float(value) if sound and isinstance(value, (int, float)) else default

    def rows(self, name: str) -> int:
        """Number of rows of a table, 0 where there is none."""
        return len(self.table(name))

    def table(self, name: str) -> Table:
        """A table, empty where there is none."""
        path = f"{self.file}: {name}"
        ids, columns = self._frame(self.objects.get(name), path)
        return Table(path, name, ids, columns, self.rules)

    def _frame(self, value: object, path: str) -> tuple[list[str], dict[str, list[object]]]:
        if value is None:
            return [], {}
        if not isinstance(value, dict) or value.get("_class") != "DataFrame":
            self.rules.check(False, path, "must be a DataFrame")
            return [], {}
        frame = value.get("_object")
        if isinstance(frame, str):
            frame = parse_json(frame, path)
        if not isinstance(frame, dict):
            self.rules.check(False, path, "must be a DataFrame oriented 'split'")
            return [], {}
        names, index, data = frame.get("columns"), frame.get("index"), frame.get("data")
        if not (isinstance(names, list) and isinstance(index, list) and isinstance(data, list)):
            self.rules.check(False, path, "must have columns, index and data, as orient 'split' has")
            return [], {}
        if len(index) != len(data) or not all(isinstance(row, list) and len(row) == len(names) for row in data):
            self.rules.check(False, path, "must have one entry of data for each row and column")
            return [], {}
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in index) or len(set(index)) != len(index):
            self.rules.check(False, path, "must have an index of whole numbers, each once")
            return [], {}
        ids = [str(i) for i in index]
        return ids, {str(name): [row[at] for row in data] for at, name in enumerate(names)}


@dataclass(slots=True)
class PandapowerNetwork:
    """A network in the making, and the buses by their index in the file.

    Attributes:
        source: The file.
        builder: The network.
        buses: Index of each bus in the builder.
        live: Whether a bus is in service.
        has_zero_sequence: Whether phases are told apart, for which elements need zero-sequence values.
    """

    source: PandapowerFile
    builder: NetworkBuilder
    buses: dict[str, int]
    live: list[bool]
    has_zero_sequence: bool


def open_file(files: Mapping[str, bytes]) -> PandapowerFile:
    """Read the file, which must be the only one.

    Raises:
        InvalidProblemError: When it is not a pandapower network.
    """
    rules = Rules()
    rules.check(len(files) == 1, "files", f"must be one JSON file, are {len(files)}: {', '.join(sorted(files)[:5])}")
    rules.raise_if_any()
    ((file, content),) = files.items()
    network = parse_json(content, file)
    objects = network.get("_object") if isinstance(network, dict) else None
    sound = isinstance(network, dict) and network.get("_class") == "pandapowerNet" and isinstance(objects, dict)
    rules.check(sound, file, "must be a network written by pandapower.to_json")
    rules.raise_if_any()
    assert isinstance(objects, dict)
    return PandapowerFile(file, objects, rules)
