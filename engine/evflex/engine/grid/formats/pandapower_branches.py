"""Lines, impedances and switches of pandapower networks.

- A line of length l and n parallel systems has ``r + jx = (r' + jx')·l/n`` and the admittance
  ``(g' + j·2πf·c')·l·n``, half of it at each end; in zero sequence the same of ``r0, x0, c0``, without conductance
  (pandapower, ``_calc_line_parameter``, ``_add_line_sc_impedance_zero``). It may carry ``max_i_ka·df·n``.
- An impedance is given in pu of its own ``sn_mva``; one that differs by direction is refused.
- Switches at a line or transformer open that end. Those between buses are branches: ideal, or with ``z_ohm`` of which
  r is twice x (``switch_rx_ratio``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from evflex.engine.grid.formats.builder import Branch
from evflex.engine.grid.formats.pandapower_file import PandapowerNetwork
from evflex.engine.grid.formats.table import Row
from evflex.engine.grid.network import BranchKind

_SWITCH_RX_RATIO = 2.0
_ENDS = {"l": ("line", "from_bus", "to_bus"), "t": ("trafo", "hv_bus", "lv_bus")}

# by table and index: the ends (0 from, 1 to) that an open switch cuts off
OpenEnds = Mapping[tuple[str, str], set[int]]


def open_ends(network: PandapowerNetwork) -> OpenEnds:
    """Ends of lines and transformers at which a switch is open."""
    tables = {}
    for kind, (name, from_column, to_column) in _ENDS.items():
        table = network.source.table(name)
        tables[kind] = {
            row.id: (row.whole(from_column), row.whole(to_column)) for row in table if table.has(from_column, to_column)
        }
    ends: dict[tuple[str, str], set[int]] = {}
    for row in network.source.table("switch"):
        kind = row.words("et")
        if kind not in _ENDS or row.flag("closed"):
            continue
        bus, element = row.whole("bus"), str(row.whole("element"))
        if not row.is_sound():
            continue
        sides = tables[kind].get(element)
        if sides is None:
            row.fault("element", f"must be the index of a {_ENDS[kind][0]}")
        elif bus not in sides:
            row.fault("bus", f"must be an end of {_ENDS[kind][0]} {element}")
        else:
            ends.setdefault((_ENDS[kind][0], element), set()).add(1 if bus == sides[1] else 0)
    return ends


def add_lines(network: PandapowerNetwork, ends: OpenEnds) -> None:
    """Add the lines."""
    builder, zero = network.builder, network.has_zero_sequence
    omega = 2.0 * math.pi * network.source.number("f_hz", 50.0)
    for row in network.source.table("line"):
        from_bus, to_bus = bus_of(network, row, "from_bus"), bus_of(network, row, "to_bus")
        length, parallel = row.number("length_km"), float(row.whole("parallel", 1))
        per_km = complex(row.number("r_ohm_per_km"), row.number("x_ohm_per_km"))
        farad, siemens = 1e-9 * row.number("c_nf_per_km", 0.0), 1e-6 * row.number("g_us_per_km", 0.0)
        rated_ka, factor = row.limit("max_i_ka"), row.number("df", 1.0, positive=True)
        in_service = row.flag("in_service", True)
        if row.is_sound() and (parallel < 1.0 or from_bus == to_bus):
            row.fault(
                *(("parallel", "must be >= 1") if parallel < 1.0 else ("to_bus", "must be another than from_bus"))
            )
        if not row.is_sound():
            continue
        base = builder.ohm(from_bus)
        series = per_km * (length / parallel / base)
        half = complex(siemens, omega * farad) * (0.5 * length * parallel * base)
        series0, half0 = 0j, 0j
        if zero:
            if not all(row.given(column) for column in ("r0_ohm_per_km", "x0_ohm_per_km", "c0_nf_per_km")):
                builder.refused.append(row.refusal("has no zero-sequence values (r0, x0 and c0 per km)"))
                continue
            series0 = complex(row.number("r0_ohm_per_km"), row.number("x0_ohm_per_km")) * (length / parallel / base)
            half0 = 1j * omega * 1e-9 * row.number("c0_nf_per_km") * (0.5 * length * parallel * base)
        if series == 0.0 or (zero and series0 == 0.0):
            builder.refused.append(row.refusal("has no impedance"))
            continue
        closed = _closed(network, ("line", row.id), from_bus, to_bus, in_service, ends)
        rated_a = 1000.0 * rated_ka * factor * parallel
        branch = Branch(
            f"line {row.id}", BranchKind.LINE, from_bus, to_bus, series, half, half, 1.0, 0.0, *closed,
            rated_a, rated_a, series0=series0, shunt0_from=half0, shunt0_to=half0,
        )  # fmt: skip
        builder.branches.append(branch)


def add_impedances(network: PandapowerNetwork) -> None:
    """Add the impedances, which have no rating."""
    builder = network.builder
    for row in network.source.table("impedance"):
        from_bus, to_bus = bus_of(network, row, "from_bus"), bus_of(network, row, "to_bus")
        scale = builder.base_kva / (1000.0 * row.number("sn_mva", positive=True))
        in_service = row.flag("in_service", True)
        parts = [_impedance(row, zero) for zero in (("", "0") if network.has_zero_sequence else ("",))]
        if row.is_sound() and from_bus == to_bus:
            row.fault("to_bus", "must be another than from_bus")
        if not row.is_sound():
            continue
        if any(part is None for part in parts):
            builder.refused.append(row.refusal("differs by direction, or lacks zero-sequence values"))
            continue
        series, shunt_from, shunt_to = parts[0] or (0j, 0j, 0j)
        series0, shunt0_from, shunt0_to = parts[-1] or (0j, 0j, 0j)
        if series == 0.0 or series0 == 0.0:
            builder.refused.append(row.refusal("has no impedance"))
            continue
        closed = in_service and network.live[from_bus] and network.live[to_bus]
        branch = Branch(
            f"impedance {row.id}", BranchKind.LINE, from_bus, to_bus, series * scale, shunt_from / scale,
            shunt_to / scale, 1.0, 0.0, closed, closed, series0=series0 * scale, shunt0_from=shunt0_from / scale,
            shunt0_to=shunt0_to / scale,
        )  # fmt: skip
        builder.branches.append(branch)


def add_switches(network: PandapowerNetwork) -> None:
    """Add the switches between buses."""
    builder = network.builder
    for row in network.source.table("switch"):
        if row.words("et") != "b":
            continue
        from_bus, to_bus = bus_of(network, row, "bus"), bus_of(network, row, "element")
        ohm = row.number("z_ohm", 0.0)
        closed = row.flag("closed")
        if row.is_sound() and from_bus == to_bus:
            row.fault("element", "must be another bus")
        if not row.is_sound():
            continue
        if builder.nominal_kv(from_bus) != builder.nominal_kv(to_bus):
            builder.refused.append(row.refusal("joins buses of different nominal voltage"))
            continue
        closed &= network.live[from_bus] and network.live[to_bus]
        series = ohm / builder.ohm(from_bus) * complex(_SWITCH_RX_RATIO, 1.0) / math.hypot(_SWITCH_RX_RATIO, 1.0)
        kind = BranchKind.SWITCH if series == 0.0 else BranchKind.LINE
        branch = Branch(
            f"switch {row.id}", kind, from_bus, to_bus, series, from_closed=closed, to_closed=closed, series0=series
        )
        builder.branches.append(branch)


def bus_of(network: PandapowerNetwork, row: Row, column: str) -> int:
    """Bus that a cell refers to; -1 with a fault where there is none."""
    return row.lookup(column, network.buses, "the index of a bus")


def _closed(
    network: PandapowerNetwork,
    element: tuple[str, str],
    from_bus: int,
    to_bus: int,
    in_service: bool,
    ends: OpenEnds,
) -> tuple[bool, bool]:
    cut = ends.get(element, set())
    return (
        in_service and 0 not in cut and network.live[from_bus],
        in_service and 1 not in cut and network.live[to_bus],
    )


def _impedance(row: Row, zero: str) -> tuple[complex, complex, complex] | None:
    """Series impedance and both shunts in pu, None where they differ by direction or are not given."""
    if not all(row.given(f"{name}{zero}_pu") for name in ("rft", "xft")):
        if not zero:
            row.number("rft_pu")
            row.number("xft_pu")
        return None
    series = complex(row.number(f"rft{zero}_pu"), row.number(f"xft{zero}_pu"))
    back = complex(row.number(f"rtf{zero}_pu", series.real), row.number(f"xtf{zero}_pu", series.imag))
    if series != back:
        return None
    shunt_from = complex(row.number(f"gf{zero}_pu", 0.0), row.number(f"bf{zero}_pu", 0.0))
    return series, shunt_from, complex(row.number(f"gt{zero}_pu", 0.0), row.number(f"bt{zero}_pu", 0.0))
