"""power-grid-model networks in its JSON serialisation, version 1.0, lists with ``attributes`` included.

Its documentation ("Components", "Serialization") and source (``component/*.hpp``) are the definition. Buses are named
by the id of their node, branches ``line 5``, ``link 6``, ``transformer 7``, ``generic_branch 8`` by theirs.

- line: ``r1 + jx1``, ``2πf·c1·(tan1 + j)`` half at each end, f = 50 Hz; likewise in zero sequence. Rated by ``i_n``.
- link: a switch, closed where both ends are (power-grid-model has (1 + j)·10⁶ pu there). generic_branch: a π on the to
  side's base behind the ratio ``k·exp(jθ)``, rated by ``sn``; balanced only.
- transformer: :mod:`~evflex.engine.grid.formats.power_grid_model_transformer`.
- source: an ideal voltage ``u_ref`` at a bus ``source 9`` behind a branch of the same name, of ``1/sk`` with
  ``rx_ratio`` (defaults 10¹⁰ VA, 0.1), in zero sequence times ``z01_ratio`` (default 1).
- sym and asym load and gen: constant power, or constant impedance as a shunt; constant current is refused.
- shunt: ``g1 + jb1``; one with another ``g0 + jb0`` is refused where phases are told apart.
- Phases are told apart when there are asymmetric loads or generators.
- Sensors, faults and tap regulators are left out with a note; asym_line, three_winding_transformer and
  voltage_regulator are refused by element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from evflex.engine.grid.formats.builder import Branch, NetworkBuilder
from evflex.engine.grid.formats.imported import ImportedNetwork
from evflex.engine.grid.formats.json_text import parse_json
from evflex.engine.grid.formats.power_grid_model_transformer import add_transformer
from evflex.engine.grid.formats.table import Row, Table
from evflex.engine.grid.network import BranchKind
from evflex.engine.validation import Rules

BASE_KVA = 1000.0
_OMEGA = 2.0 * math.pi * 50.0
_DEFAULT_SOURCE = {"sk": 1e10, "rx_ratio": 0.1, "z01_ratio": 1.0}
_CONSTANT_POWER, _CONSTANT_IMPEDANCE = 0, 1
_REFUSED = {
    "asym_line": "lines by phases are not read",
    "three_winding_transformer": "three-winding transformers are not read",
    "voltage_regulator": "voltage regulators are not read",
}
_IGNORED = (
    "sym_voltage_sensor", "asym_voltage_sensor", "sym_power_sensor", "asym_power_sensor", "sym_current_sensor",
    "asym_current_sensor", "transformer_tap_regulator", "fault",
)  # fmt: skip
_READ = (
    "node", "line", "link", "generic_branch", "transformer", "source", "sym_load", "sym_gen", "asym_load", "asym_gen",
    "shunt",
)  # fmt: skip


def read_power_grid_model(files: Mapping[str, bytes], three_phase: bool | None) -> ImportedNetwork:
    """Read the network, which must be the only file.

    Raises:
        InvalidProblemError: When it is no input of power-grid-model, or breaks a rule.
    """
    rules = Rules()
    rules.check(len(files) == 1, "files", f"must be one JSON file, are {len(files)}: {', '.join(sorted(files)[:5])}")
    rules.raise_if_any()
    ((file, content),) = files.items()
    tables = _tables(parse_json(content, file), file, rules)
    rules.raise_if_any()
    if three_phase is None:
        three_phase = len(tables["asym_load"]) + len(tables["asym_gen"]) > 0
    builder = NetworkBuilder(BASE_KVA, 3 if three_phase else 1)
    nodes: dict[str, int] = {}
    for row in tables["node"]:
        kv = row.number("u_rated", positive=True) / 1000.0
        if row.id in nodes:
            row.fault("id", "must be unique")
        nodes[row.id] = builder.add_bus(row.id, kv)
    rules.raise_if_any()
    for name, add in (
        ("line", _add_line), ("link", _add_link), ("generic_branch", _add_generic_branch),
        ("transformer", add_transformer),
    ):  # fmt: skip
        for row in tables[name]:
            from_bus, to_bus = (row.lookup(column, nodes, "the id of a node") for column in ("from_node", "to_node"))
            closed = row.flag("from_status"), row.flag("to_status")
            if row.is_sound() and from_bus == to_bus:
                row.fault("to_node", "must be another than from_node")
            if row.is_sound():
                add(builder, row, from_bus, to_bus, closed)
    for name in ("source", "shunt", "sym_load", "sym_gen", "asym_load", "asym_gen"):
        for row in tables[name]:
            bus = row.lookup("node", nodes, "the id of a node")
            in_service = row.flag("status")
            if row.is_sound() and in_service:
                _add_appliance(builder, name, row, bus)
    for name, reason in _REFUSED.items():
        builder.refused.extend(row.refusal(reason) for row in tables[name])
    for name in _IGNORED:
        if len(tables[name]):
            builder.notes.append(f"{name}: not read, {len(tables[name])} of them")
    rules.raise_if_any()
    return builder.build(file)


def _tables(document: object, file: str, rules: Rules) -> dict[str, Table]:
    root = document if isinstance(document, dict) else {}
    data, attributes = root.get("data"), root.get("attributes", {})
    rules.check(root.get("version") == "1.0", f"{file}: version", "must be '1.0'")
    rules.check(root.get("type") == "input", f"{file}: type", "must be 'input'")
    rules.check(root.get("is_batch") is False, f"{file}: is_batch", "must be false")
    sound = isinstance(data, dict) and isinstance(attributes, dict)
    rules.check(sound, f"{file}: data", "must hold a list for each component, and attributes their names")
    if not sound or not isinstance(data, dict) or not isinstance(attributes, dict):
        return {}
    known = (*_READ, *_REFUSED, *_IGNORED)
    for name in data:
        rules.check(name in known, f"{file}: {str(name)[:60]}", "must be a component of power-grid-model")
    return {name: _table(data.get(name, []), attributes.get(name), f"{file}: {name}", name, rules) for name in known}


def _table(rows: object, attributes: object, path: str, name: str, rules: Rules) -> Table:
    """A component's table, of rows by name or, where ``attributes`` name the columns, of lists."""
    columns: dict[str, list[object]] = {}
    listed = rows if isinstance(rows, list) else []
    rules.check(isinstance(rows, list), path, "must be a list")
    names = [str(one) for one in attributes] if isinstance(attributes, list) else []
    for at, row in enumerate(listed):
        if isinstance(row, list) and len(row) == len(names) and names:
            cells = zip(names, row, strict=True)
        elif isinstance(row, dict):
            cells = zip(map(str, row), row.values(), strict=True)
        else:
            rules.check(False, f"{path}[{at}]", "must be an object, or a list as long as its attributes")
            continue
        for column, cell in cells:
            columns.setdefault(column, [None] * len(listed))[at] = cell
    ids = columns.get("id", [None] * len(listed))
    for at, one in enumerate(ids):
        rules.check(
            isinstance(one, int) and not isinstance(one, bool) and abs(one) < 2**53, f"{path}[{at}].id",
            "must be a whole number",
        )  # fmt: skip
    return Table(path, name, [str(one)[:20] for one in ids], columns, rules)


def _add_line(builder: NetworkBuilder, row: Row, from_bus: int, to_bus: int, closed: tuple[bool, bool]) -> None:
    base = builder.ohm(from_bus)
    three = builder.phase_count == 3
    if builder.nominal_kv(from_bus) != builder.nominal_kv(to_bus):
        row.fault("to_node", "must have the rated voltage of from_node")
    parts = []
    for sequence in "10" if three else "1":
        series = complex(row.number(f"r{sequence}"), row.number(f"x{sequence}")) / base
        shunt = _OMEGA * row.number(f"c{sequence}") * complex(row.number(f"tan{sequence}", 0.0), 1.0) * base
        parts.append((series, shunt / 2.0))
    rated_a = row.limit("i_n")
    if not row.is_sound():
        return
    if any(series == 0.0 for series, _ in parts):
        builder.refused.append(row.refusal("has no impedance"))
        return
    (series, half), (series0, half0) = parts[0], parts[-1]
    branch = Branch(
        f"line {row.id}", BranchKind.LINE, from_bus, to_bus, series, half, half, 1.0, 0.0, *closed, rated_a, rated_a,
        series0=series0, shunt0_from=half0, shunt0_to=half0,
    )  # fmt: skip
    builder.branches.append(branch)


def _add_link(builder: NetworkBuilder, row: Row, from_bus: int, to_bus: int, closed: tuple[bool, bool]) -> None:
    if builder.nominal_kv(from_bus) != builder.nominal_kv(to_bus):
        builder.refused.append(row.refusal("joins nodes of different rated voltage"))
        return
    builder.branches.append(
        Branch(
            f"link {row.id}", BranchKind.SWITCH, from_bus, to_bus, 0j, from_closed=all(closed), to_closed=all(closed)
        )
    )


def _add_generic_branch(
    builder: NetworkBuilder, row: Row, from_bus: int, to_bus: int, closed: tuple[bool, bool]
) -> None:
    if builder.phase_count == 3:
        builder.refused.append(row.refusal("has no zero sequence, and is read in balanced networks only"))
        return
    base = builder.ohm(to_bus)
    series = complex(row.number("r1"), row.number("x1")) / base
    half = complex(row.number("g1", 0.0), row.number("b1", 0.0)) * base / 2.0
    ratio, angle = row.number("k", 1.0, positive=True), math.degrees(row.number("theta", 0.0))
    rated_kva = row.limit("sn") / 1000.0
    if row.is_sound() and series == 0.0:
        builder.refused.append(row.refusal("has no impedance"))
    elif row.is_sound():
        kind = BranchKind.LINE if ratio == 1.0 and angle == 0.0 else BranchKind.TRANSFORMER
        if builder.nominal_kv(from_bus) != builder.nominal_kv(to_bus):
            kind = BranchKind.TRANSFORMER
        name = f"generic_branch {row.id}"
        builder.branches.append(
            Branch(name, kind, from_bus, to_bus, series, half, half, ratio, angle, *closed, rated_kva=rated_kva)
        )


def _add_appliance(builder: NetworkBuilder, name: str, row: Row, bus: int) -> None:
    if name == "source":
        _add_source(builder, row, bus)
    elif name == "shunt":
        admittance = complex(row.number("g1"), row.number("b1"))
        admittance0 = complex(row.number("g0", admittance.real), row.number("b0", admittance.imag))
        if not row.is_sound():
            return
        if builder.phase_count == 3 and admittance0 != admittance:
            builder.refused.append(row.refusal("has another admittance in zero sequence than in positive"))
        else:
            builder.add_shunt(bus, admittance * builder.ohm(bus))
    else:
        _add_load(builder, name, row, bus)


def _add_source(builder: NetworkBuilder, row: Row, bus: int) -> None:
    held, angle = row.number("u_ref", positive=True), math.degrees(row.number("u_ref_angle", 0.0))
    short_circuit = row.number("sk", _DEFAULT_SOURCE["sk"], positive=True)
    ratio = row.number("rx_ratio", _DEFAULT_SOURCE["rx_ratio"])
    zero = row.number("z01_ratio", _DEFAULT_SOURCE["z01_ratio"], positive=True)
    if not row.is_sound():
        return
    impedance = 1000.0 * BASE_KVA / short_circuit * complex(ratio, 1.0) / math.hypot(ratio, 1.0)
    name = f"source {row.id}"
    behind = builder.add_bus(name, builder.nominal_kv(bus))
    builder.add_source(behind, held, angle, row.element)
    builder.branches.append(
        Branch(name, BranchKind.SOURCE_IMPEDANCE, behind, bus, impedance, series0=impedance * zero)
    )  # fmt: skip


def _add_load(builder: NetworkBuilder, name: str, row: Row, bus: int) -> None:
    kind = row.whole("type")
    if not (row.given("p_specified") and row.given("q_specified")):
        builder.notes.append(f"{row.element}: specifies no power in full; what is missing is 0")
    if name.startswith("asym"):
        p, q = row.triple("p_specified", 0.0), row.triple("q_specified", 0.0)
    else:
        p, q = ((row.number(column, 0.0) / 3.0,) * 3 for column in ("p_specified", "q_specified"))
    sign = -0.001 if name.endswith("gen") else 0.001
    if not row.is_sound():
        return
    a, b, c = (sign * complex(p[phase], q[phase]) for phase in range(3))
    if kind == _CONSTANT_POWER:
        builder.add_phase_load(bus, (a, b, c))
    elif kind != _CONSTANT_IMPEDANCE:
        builder.refused.append(row.refusal("draws a constant current"))
    elif builder.phase_count == 3 and not a == b == c:
        builder.refused.append(row.refusal("is a constant impedance that differs by phases"))
    else:
        builder.add_shunt(bus, (a + b + c).conjugate() / builder.base_kva)
