"""SimBench grids as a folder of CSV files.

SimBench documentation (2020), "Data format": units are kV, MW, Mvar, MVA, A, Ω/km, µS/km and km. Buses are named by the
id of their node; branches by their id, behind the name of their table where another table has the same.

- Node: ``vmR``, limits ``vmMin`` and ``vmMax``, the place of ``coordID``; auxiliary nodes are nodes like others.
- Line: ``(r + jx)·length``, ``j·b·length`` half at each end, rated ``iMax`` of its type.
- Transformer: :mod:`~evflex.engine.grid.formats.transformer_pi`, with ``vkr = pCu/sR``. **Taps count as the data say**:
  a step changes the voltage of ``tapside`` by ``dVm`` percent and turns it by ``dVa`` degrees, ``tappos − tapNeutr``
  steps.
  (simbench's own conversion to pandapower leaves the tap changer without a type, so that taps have no effect there.)
  Controllers (``autoTap``) are not run. Without ``tapable`` a tap has no effect.
- Switch: joins two nodes where ``cond`` is 1.
- Load, Storage draw, RES and PowerPlant with ``calc_type`` pq inject constant power; pvm holds the voltage ``vmSetp``
  of its node; vavm, and ExternalNet with it, is a source of ``vmSetp`` and ``vaSetp``; a Ward is a load
  and a shunt.
- Shunt: ``(p0 − jq0)·step·(kv/vmR)²``.
- Refused by element: three-winding transformers, direct-current lines, extended wards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evflex.engine.grid.formats.builder import Branch, NetworkBuilder
from evflex.engine.grid.formats.imported import ImportedNetwork
from evflex.engine.grid.formats.simbench_file import read_tables
from evflex.engine.grid.formats.table import Row, Table
from evflex.engine.grid.formats.transformer_pi import RatingPlate, transformer_branch
from evflex.engine.grid.network import BranchKind
from evflex.engine.validation import Rules

BASE_KVA = 1000.0
_CALCULATION = {"pq": "pq", "pvm": "pvm", "vavm": "vavm", "ward": "ward", "xward": "xward"}


@dataclass(slots=True)
class _Grid:
    tables: dict[str, Table]
    builder: NetworkBuilder
    nodes: dict[str, int]
    setpoint: list[tuple[float, float]]
    taken: set[str]

    def end(self, row: Row, column: str) -> int:
        return row.lookup(column, self.nodes, "the id of a node")

    def branch_id(self, table: str, row: Row) -> str:
        name = row.id if row.id not in self.taken else f"{table} {row.id}"
        self.taken.add(name)
        return name


def read_simbench(files: Mapping[str, bytes], _three_phase: bool | None) -> ImportedNetwork:
    """Read the files of a folder.

    Raises:
        InvalidProblemError: When they are none of SimBench, or break a rule.
    """
    rules = Rules()
    tables, others = read_tables(files, rules)
    rules.check(len(tables["Node"]) > 0 or bool(rules.violations), "files", "must hold Node.csv with at least one node")
    rules.raise_if_any()
    grid = _Grid(tables, NetworkBuilder(BASE_KVA, 1), {}, [], set())
    _add_nodes(grid)
    rules.raise_if_any()
    _add_lines(grid)
    _add_transformers(grid)
    _add_switches(grid)
    for name, powers, sign in (
        ("Load", ("pLoad", "qLoad"), 1.0), ("Storage", ("pStor", "qStor"), 1.0), ("RES", ("pRES", "qRES"), -1.0),
        ("PowerPlant", ("pPP", "qPP"), -1.0), ("ExternalNet", ("pExtNet", "qExtNet"), -1.0),
    ):  # fmt: skip
        for row in tables[name]:
            _add_injection(grid, row, powers, sign, "vavm" if name == "ExternalNet" else "pq")
    for row in tables["Shunt"]:
        _add_shunt(grid, row)
    for row in tables["Transformer3W"]:
        grid.builder.refused.append(row.refusal("three-winding transformers are not read"))
    if others:
        grid.builder.notes.append(f"not read: {', '.join(sorted(others)[:20])}")
    rules.raise_if_any()
    return grid.builder.build("SimBench")


def _add_nodes(grid: _Grid) -> None:
    places = {row.id: (row.number("x"), row.number("y")) for row in grid.tables["Coordinates"]}
    for row in grid.tables["Node"]:
        x, y = places.get(row.words("coordID", ""), (math.nan, math.nan))
        bus = grid.builder.add_bus(
            row.id, row.number("vmR", positive=True), voltage_min_pu=row.limit("vmMin"),
            voltage_max_pu=row.limit("vmMax"), x=x, y=y,
        )  # fmt: skip
        grid.nodes[row.id] = bus
        grid.setpoint.append((row.number("vmSetp", math.nan), row.number("vaSetp", 0.0)))


def _add_lines(grid: _Grid) -> None:
    types = {row.id: row for row in grid.tables["LineType"]}
    direct = {row.id for row in grid.tables["DCLineType"]}
    for row in grid.tables["Line"]:
        if row.words("type") in direct:
            grid.builder.refused.append(row.refusal("is a direct-current line"))
            continue
        a, b = grid.end(row, "nodeA"), grid.end(row, "nodeB")
        kind = types.get(row.words("type"))
        if kind is None:
            row.fault("type", "must be the id of a LineType")
            continue
        length = row.number("length", positive=True)
        per_km, charging = complex(kind.number("r"), kind.number("x")), kind.number("b", 0.0)
        rated_a = kind.limit("iMax")
        if row.is_sound() and a == b:
            row.fault("nodeB", "must be another than nodeA")
        if not (row.is_sound() and kind.is_sound()):
            continue
        if per_km == 0.0:
            grid.builder.refused.append(row.refusal("has no impedance"))
            continue
        base = grid.builder.ohm(a)
        half = 0.5e-6j * charging * length * base
        name = grid.branch_id("Line", row)
        grid.builder.branches.append(
            Branch(
                name,
                BranchKind.LINE,
                a,
                b,
                per_km * length / base,
                half,
                half,
                rated_from_a=rated_a,
                rated_to_a=rated_a,
            )
        )


def _add_transformers(grid: _Grid) -> None:
    types = {row.id: row for row in grid.tables["TransformerType"]}
    for row in grid.tables["Transformer"]:
        hv, lv = grid.end(row, "nodeHV"), grid.end(row, "nodeLV")
        kind = types.get(row.words("type"))
        if kind is None:
            row.fault("type", "must be the id of a TransformerType")
            continue
        rated = kind.number("sR", positive=True)
        voltages = [kind.number("vmHV", positive=True), kind.number("vmLV", positive=True)]
        tapped, turned = _tap(grid, row, kind, voltages)
        if row.is_sound() and hv == lv:
            row.fault("nodeLV", "must be another than nodeHV")
        plate = RatingPlate(
            rated, voltages[0], voltages[1], tapped[0], tapped[1], kind.number("va0", 0.0) + turned,
            kind.number("vmImp"), 0.1 * kind.number("pCu") / rated, kind.number("pFe", 0.0),
            kind.number("iNoLoad", 0.0),
        )  # fmt: skip
        if not (row.is_sound() and kind.is_sound()):
            continue
        branch = transformer_branch(grid.builder, grid.branch_id("Transformer", row), hv, lv, plate)
        if branch is None:
            grid.builder.refused.append(row.refusal("has a short-circuit voltage that is 0 or below its real part"))
        else:
            grid.builder.branches.append(branch)


def _tap(grid: _Grid, row: Row, kind: Row, voltages: list[float]) -> tuple[list[float], float]:
    """Voltages of both sides as the tap leaves them, and the angle in degrees that it adds."""
    steps = row.number("tappos", 0.0) - kind.number("tapNeutr", 0.0)
    side = kind.words("tapside", "HV").upper()
    percent, degree = kind.number("dVm", 0.0), kind.number("dVa", 0.0)
    tapable = kind.flag("tapable", True)
    if row.flag("autoTap", False):
        grid.builder.notes.append(f"{row.element}: its tap controller is not run")
    if side not in ("HV", "LV"):
        kind.fault("tapside", "must be HV or LV")
    if not (row.is_sound() and kind.is_sound()) or steps == 0.0:
        return voltages, 0.0
    if not tapable:
        grid.builder.notes.append(
            f"{row.element}: stands at {steps:+g} steps without effect, as its type is not tapable"
        )
        return voltages, 0.0
    factor = 1.0 + steps * percent / 100.0
    if factor <= 0.0:
        row.fault("tappos", "must leave a voltage > 0")
    if side == "HV":
        return [voltages[0] * factor, voltages[1]], steps * degree
    return [voltages[0], voltages[1] * factor], -steps * degree


def _add_switches(grid: _Grid) -> None:
    for row in grid.tables["Switch"]:
        a, b, closed = grid.end(row, "nodeA"), grid.end(row, "nodeB"), row.flag("cond")
        if row.is_sound() and a == b:
            row.fault("nodeB", "must be another than nodeA")
        if not row.is_sound():
            continue
        if grid.builder.nominal_kv(a) != grid.builder.nominal_kv(b):
            grid.builder.refused.append(row.refusal("joins nodes of different rated voltage"))
            continue
        name = grid.branch_id("Switch", row)
        grid.builder.branches.append(Branch(name, BranchKind.SWITCH, a, b, 0j, from_closed=closed, to_closed=closed))


def _add_injection(grid: _Grid, row: Row, powers: tuple[str, str], sign: float, default: str) -> None:
    builder = grid.builder
    bus = grid.end(row, "node")
    calculation = _CALCULATION.get(row.words("calc_type", default).lower())
    if calculation is None:
        row.fault("calc_type", f"must be one of {', '.join(_CALCULATION)}")
    p, q = (1000.0 * row.number(power, 0.0) for power in powers)
    if not row.is_sound():
        return
    held, angle = grid.setpoint[bus]
    external = default == "vavm"
    if calculation in ("pvm", "vavm") and not held > 0.0:
        builder.refused.append(row.refusal("holds a voltage, and its node has no vmSetp"))
    elif calculation == "vavm":
        builder.add_source(bus, held, angle, row.element)
    elif calculation == "ward":
        shunt = 1000.0 * complex(row.number("pWardShunt", 0.0), -row.number("qWardShunt", 0.0))
        if row.is_sound():
            builder.add_load(bus, complex(p, q))
            builder.add_shunt(bus, shunt / builder.base_kva)
    elif calculation == "xward" or external:
        builder.refused.append(row.refusal(f"is an external net of calc_type {calculation}, which is not read"))
    elif calculation == "pvm":
        builder.add_generator(bus, sign * p, held, row.element)
    else:
        builder.add_load(bus, sign * complex(p, q))


def _add_shunt(grid: _Grid, row: Row) -> None:
    bus = grid.end(row, "node")
    drawn = 1000.0 * complex(row.number("p0"), -row.number("q0")) * row.number("step", 1.0)
    if row.is_sound():
        kv = grid.builder.nominal_kv(bus)
        rated_kv = row.number("vmR", kv, positive=True)
        if row.is_sound():
            grid.builder.add_shunt(bus, drawn / grid.builder.base_kva * (kv / rated_kv) ** 2)
