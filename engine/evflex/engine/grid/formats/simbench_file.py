"""The CSV files of a SimBench grid: one a table, columns parted by ``;``, ``NULL`` where there is no value."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from evflex.engine.grid.formats.table import Table
from evflex.engine.validation import Rules

# tables that say nothing about one power flow
SILENT = frozenset({
    "LoadProfile", "RESProfile", "PowerPlantProfile", "StorageProfile", "StudyCases", "Measurement", "NodePFResult",
    "Substation", "Transformer3WType",
})  # fmt: skip
TABLES = (
    "Node", "Coordinates", "Line", "LineType", "DCLineType", "Transformer", "TransformerType", "Transformer3W",
    "Switch", "Load", "RES", "PowerPlant", "Storage", "Shunt", "ExternalNet",
)  # fmt: skip


def read_tables(files: Mapping[str, bytes], rules: Rules) -> tuple[dict[str, Table], list[str]]:
    """Tables by name, empty where there is no file, and the names of files that are no table of SimBench's.

    Files are told by the last part of their name, so that a folder may be packed whole.
    """
    tables: dict[str, Table] = {}
    others = []
    for path, content in files.items():
        base = path.rsplit("/", 1)[-1]
        name = base.removesuffix(".csv")
        if name in SILENT:
            continue
        if name == base or name not in TABLES:
            others.append(path)
        elif name in tables:
            rules.check(False, path, f"must be the only file named {base}")
        else:
            tables[name] = _table(path, name, content, rules)
    for name in TABLES:
        tables.setdefault(name, Table(f"{name}.csv", name, [], {}, rules, text=True))
    return tables, others


def _table(path: str, name: str, content: bytes, rules: Rules) -> Table:
    empty = Table(path, name, [], {}, rules, text=True)
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=";") if row]
    except (ValueError, csv.Error) as error:
        rules.check(False, path, f"must be CSV in UTF-8: {error}")
        return empty
    header = [column.strip() for column in rows[0]] if rows else []
    rules.check("id" in header, path, "must have a column 'id', parted by ';'")
    rules.check(len(set(header)) == len(header), path, "must have each column once")
    for at, row in enumerate(rows[1:], start=2):
        rules.check(len(row) == len(header), f"{path} row {at}", f"must have {len(header)} columns, has {len(row)}")
    if rules.violations:
        return empty
    columns: dict[str, list[object]] = {
        column: [row[at].strip() for row in rows[1:]] for at, column in enumerate(header)
    }
    ids = [str(one) for one in columns["id"]]
    seen: set[str] = set()
    for at, one in enumerate(ids):
        rules.check(
            bool(one) and one not in seen, f"{path} row {at + 2}.id", f"must be given and unique, is {one[:60]!r}"
        )
        seen.add(one)
    return Table(path, name, ids, columns, rules, text=True)
