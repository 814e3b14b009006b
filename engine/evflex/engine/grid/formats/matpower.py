"""MATPOWER case files (``.m``, format version 2).

MATPOWER user's manual 8.0, chapter 3 and appendix B. Read are ``mpc.baseMVA``, ``mpc.bus``, ``mpc.gen``,
``mpc.branch``, and the statements that distribution cases end with
(:mod:`evflex.engine.grid.formats.matpower_text`). Costs are not.

- Buses are named by their number, branches ``branch 1``, ``branch 2`` … by their row.
- Reference buses are sources of the voltage that their first generator holds, at the bus's angle.
- Generators in service hold the voltage of PV buses; several add up, and the first one's setpoint holds, as all in one
  bus share it. At PQ buses they are loads drawn negatively. Limits of reactive power are not read.
- Branches are π with half of the charging at each end and an ideal transformer at the from side (manual, equation 3.2);
  ``TAP`` 0 is 1. ``RATE_A`` 0 means none.
- Out of service are branches of status 0, generators of status ≤ 0, and what stands at isolated buses (type 4).
"""

from __future__ import annotations

from collections.abc import Mapping

from evflex.engine.grid.formats.builder import Branch, NetworkBuilder
from evflex.engine.grid.formats.imported import ImportedNetwork, Refusal
from evflex.engine.grid.formats.matpower_text import CaseText, read_case_text
from evflex.engine.grid.formats.table import Table
from evflex.engine.grid.network import BranchKind
from evflex.engine.validation import Rules

_PQ, _PV, _REFERENCE, _ISOLATED = 1, 2, 3, 4
_COLUMNS = {
    "bus": ("bus_i", "type", "Pd", "Qd", "Gs", "Bs", "area", "Vm", "Va", "baseKV", "zone", "Vmax", "Vmin"),
    "gen": ("bus", "Pg", "Qg", "Qmax", "Qmin", "Vg", "mBase", "status"),
    "branch": ("fbus", "tbus", "r", "x", "b", "rateA", "rateB", "rateC", "ratio", "angle", "status"),
}
# fields that say nothing about power flow
_SILENT = frozenset({"gencost", "areas", "bus_name", "gentype", "genfuel", "gen_name", "branch_name"})


def read_matpower(files: Mapping[str, bytes]) -> ImportedNetwork:
    """Read the case file, which must be the only file.

    Raises:
        InvalidProblemError: When it is no case file of version 2, or breaks a rule.
    """
    rules = Rules()
    rules.check(len(files) == 1, "files", f"must be one case file, are {len(files)}: {', '.join(sorted(files)[:5])}")
    rules.raise_if_any()
    ((file, content),) = files.items()
    case = read_case_text(content.decode("utf-8", errors="replace"), rules, file)
    for name in _COLUMNS:
        rules.check(name in case.matrices, f"{file}: mpc.{name}", "must be given as a matrix")
    rules.check(case.version == "2", f"{file}: mpc.version", f"must be '2', is {case.version[:40]!r}")
    rules.check(1e-6 <= case.base_mva <= 1e9, f"{file}: mpc.baseMVA", f"must be a number > 0, is {case.base_mva}")
    rules.raise_if_any()

    builder = NetworkBuilder(base_kva=1000.0 * case.base_mva, phase_count=1)
    builder.refused.extend(case.refused)
    buses = _Buses(builder, _table(case, "bus", file, rules))
    rules.raise_if_any()
    _add_generators(builder, _table(case, "gen", file, rules), buses)
    _add_branches(builder, _table(case, "branch", file, rules), buses)
    rules.raise_if_any()
    for i in range(len(case.matrix_lines.get("dcline", []))):
        builder.refused.append(Refusal(f"dcline {i + 1}", "direct-current lines are not read"))
    if "gencost" in case.matrices:
        builder.notes.append("mpc.gencost: costs are not read")
    if others := sorted(set(case.other_fields) - _SILENT):
        builder.notes.append(f"not read: {', '.join('mpc.' + name for name in others[:20])}")
    return builder.build(file)


class _Buses:
    """The buses by number, and what they are."""

    def __init__(self, builder: NetworkBuilder, table: Table) -> None:
        self.index: dict[str, int] = {}
        self.kinds: list[int] = []
        self.voltage: list[tuple[float, float]] = []
        for row in table:
            number, kind, kv = row.whole("bus_i"), row.whole("type"), row.number("baseKV")
            if row.is_sound() and (kv < 0.0 or not _PQ <= kind <= _ISOLATED):
                row.fault("type" if kv >= 0.0 else "baseKV", "must be 1 to 4" if kv >= 0.0 else "must be >= 0")
            if str(number) in self.index:
                row.fault("bus_i", "must be unique")
            load = complex(row.number("Pd"), row.number("Qd"))
            shunt = complex(row.number("Gs"), row.number("Bs"))
            self.voltage.append((row.number("Vm", 1.0), row.number("Va", 0.0)))
            low, high = row.limit("Vmin"), row.limit("Vmax")
            if not row.is_sound():
                continue
            if kv == 0.0:
                builder.notes.append(f"{row.element}: has no base voltage, and gets 1 kV")
            bus = builder.add_bus(str(number), kv or 1.0, voltage_min_pu=low, voltage_max_pu=high)
            self.index[str(number)] = bus
            self.kinds.append(kind)
            if kind == _ISOLATED:
                builder.notes.append(f"{row.element}: is isolated; what stands there is out of service")
                continue
            builder.add_load(bus, 1000.0 * load)
            # given as power drawn at 1 pu; the susceptance as power injected
            builder.add_shunt(bus, 1000.0 * shunt / builder.base_kva)


def _add_generators(builder: NetworkBuilder, table: Table, buses: _Buses) -> None:
    held: dict[int, float] = {}
    for row in table:
        bus = row.lookup("bus", buses.index, "the number of a bus")
        in_service = row.number("status") > 0.0
        p_kw, q_kvar = 1000.0 * row.number("Pg"), 1000.0 * row.number("Qg")
        if not row.is_sound() or not in_service or buses.kinds[bus] == _ISOLATED:
            continue
        if buses.kinds[bus] == _PQ:
            builder.add_load(bus, -complex(p_kw, q_kvar))
            continue
        setpoint = row.number("Vg", positive=True)
        if not row.is_sound():
            continue
        first = held.setdefault(bus, setpoint)
        if first != setpoint:
            builder.notes.append(
                f"{row.element}: its setpoint {setpoint:g} gives way to {first:g} of the one before it"
            )
        if buses.kinds[bus] == _REFERENCE:
            builder.add_source(bus, first, buses.voltage[bus][1], row.element)
        else:
            builder.add_generator(bus, -p_kw, first, row.element)
    for number, bus in buses.index.items():
        if buses.kinds[bus] == _REFERENCE and bus not in held:
            builder.notes.append(f"bus {number}: a reference without generator in service holds the bus's own voltage")
            builder.add_source(bus, *buses.voltage[bus], f"bus {number}")


def _add_branches(builder: NetworkBuilder, table: Table, buses: _Buses) -> None:
    for row in table:
        from_bus = row.lookup("fbus", buses.index, "the number of a bus")
        to_bus = row.lookup("tbus", buses.index, "the number of a bus")
        series, half = complex(row.number("r"), row.number("x")), complex(0.0, row.number("b") / 2.0)
        ratio, shift, rated = row.number("ratio"), row.number("angle"), row.limit("rateA")
        if row.is_sound() and ratio < 0.0:
            row.fault("ratio", "must be >= 0")
        in_service = row.number("status") != 0.0
        if not row.is_sound():
            continue
        in_service &= _ISOLATED not in (buses.kinds[from_bus], buses.kinds[to_bus])
        wound = ratio != 0.0 or shift != 0.0 or builder.nominal_kv(from_bus) != builder.nominal_kv(to_bus)
        kind = BranchKind.TRANSFORMER if wound else BranchKind.LINE
        if series == 0.0:
            if wound or half != 0.0:
                builder.refused.append(row.refusal("has no impedance, and yet a tap or a charging"))
                continue
            kind, rated = BranchKind.SWITCH, float("nan")
            builder.notes.append(f"{row.element}: has no impedance, and is read as a switch")
        branch = Branch(
            f"branch {row.id}", kind, from_bus, to_bus, series, half, half, ratio or 1.0, shift, in_service, in_service,
            rated_kva=1000.0 * rated,
        )  # fmt: skip
        builder.branches.append(branch)


def _table(case: CaseText, name: str, file: str, rules: Rules) -> Table:
    matrix, columns = case.matrices[name], _COLUMNS[name]
    width = matrix.shape[1]
    rules.check(
        width >= len(columns) or matrix.shape[0] == 0, f"{file}: mpc.{name}",
        f"must have at least {len(columns)} columns, has {width}",
    )  # fmt: skip
    rules.raise_if_any()
    cells = {column: matrix[:, i].tolist() for i, column in enumerate(columns) if i < width}
    return Table(f"{file}: mpc.{name}", name, [str(i + 1) for i in range(matrix.shape[0])], cells, rules)
