"""Loads, generators, shunts and sources of pandapower networks.

- ``load``, ``sgen``, ``storage``, ``motor``, ``ward`` and the asymmetric ones draw or inject constant power, by
  ``scaling``; their constant-impedance share (``const_z_…_percent``, and ``pz``, ``qz`` of a ward) is a shunt. A load
  with a constant-current share is refused. (pandapower spreads the shares of a bus's loads over all that stands there;
  here each keeps its own.)
- ``shunt``: ``(p − jq)·step·(kv/vn_kv)²`` in pu of the network's power.
- ``gen`` holds a voltage, or is a source at the angle 0 where ``slack`` is set. Limits of reactive power are not
  enforced. Where phases are told apart ``gen`` is refused.
- ``ext_grid`` is a source. Where phases are told apart, ``runpp_3ph`` holds the positive sequence at its bus and lets
  its short-circuit impedance act in the others; here it acts in zero sequence, by a branch ``ext_grid i`` from a bus of
  the same name, whose impedance in positive and negative sequence is a millionth of a pu. Without the data the source
  holds all sequences.
"""

from __future__ import annotations

import math

from evflex.engine.grid.formats.builder import Branch
from evflex.engine.grid.formats.pandapower_branches import bus_of
from evflex.engine.grid.formats.pandapower_file import PandapowerNetwork
from evflex.engine.grid.formats.table import Row
from evflex.engine.grid.network import BranchKind

# IEC 60909 voltage factor that runpp_3ph uses
_VOLTAGE_FACTOR = 1.1
_STIFF_PU = 1e-6j
_PHASES = ("a", "b", "c")


def add_injections(network: PandapowerNetwork) -> None:
    """Add whatever draws or injects a power of its own."""
    for name, sign in (("load", 1.0), ("sgen", -1.0), ("storage", 1.0)):
        for row in network.source.table(name):
            _add_power(network, row, sign)
    for name, sign in (("asymmetric_load", 1.0), ("asymmetric_sgen", -1.0)):
        for row in network.source.table(name):
            _add_asymmetric(network, row, sign)
    for row in network.source.table("motor"):
        _add_motor(network, row)
    for row in network.source.table("ward"):
        bus, live = _place(network, row)
        drawn = complex(row.number("ps_mw"), row.number("qs_mvar"))
        shunt = complex(row.number("pz_mw"), -row.number("qz_mvar"))
        if row.is_sound() and live:
            network.builder.add_load(bus, 1000.0 * drawn)
            network.builder.add_shunt(bus, 1000.0 * shunt / network.builder.base_kva)
    for row in network.source.table("shunt"):
        _add_shunt(network, row)


def add_sources(network: PandapowerNetwork) -> None:
    """Add external grids, and generators that hold a voltage."""
    builder = network.builder
    for row in network.source.table("ext_grid"):
        bus, live = _place(network, row)
        held, angle = row.number("vm_pu", positive=True), row.number("va_degree", 0.0)
        if not row.is_sound() or not live:
            continue
        if network.has_zero_sequence:
            bus = _source_bus(network, row, bus)
        builder.add_source(bus, held, angle, row.element)
    for row in network.source.table("gen"):
        bus, live = _place(network, row)
        held = row.number("vm_pu", positive=True)
        p_kw = 1000.0 * row.number("p_mw") * row.number("scaling", 1.0)
        if not row.is_sound() or not live:
            continue
        if network.has_zero_sequence:
            builder.refused.append(row.refusal("holds a voltage, which is not read where phases are told apart"))
        elif row.flag("slack", False):
            builder.add_source(bus, held, 0.0, row.element)
        else:
            builder.add_generator(bus, -p_kw, held, row.element)


def _add_power(network: PandapowerNetwork, row: Row, sign: float) -> None:
    bus, live = _place(network, row)
    scale = 1000.0 * sign * row.number("scaling", 1.0)
    p_kw, q_kvar = scale * row.number("p_mw"), scale * row.number("q_mvar", 0.0)
    # 2.x has one share for both powers
    impedance = [row.number(f"const_z_{power}_percent", row.number("const_z_percent", 0.0)) for power in "pq"]
    current = [row.number(f"const_i_{power}_percent", row.number("const_i_percent", 0.0)) for power in "pq"]
    connection = row.words("type", "") if row.given("type") else ""
    if not row.is_sound() or not live:
        return
    if any(current):
        network.builder.refused.append(row.refusal("draws a constant current in part"))
        return
    if network.has_zero_sequence and connection == "delta":
        network.builder.refused.append(row.refusal("is connected in delta"))
        return
    p_shunt, q_shunt = p_kw * impedance[0] / 100.0, q_kvar * impedance[1] / 100.0
    network.builder.add_load(bus, complex(p_kw - p_shunt, q_kvar - q_shunt))
    network.builder.add_shunt(bus, complex(p_shunt, -q_shunt) / network.builder.base_kva)


def _add_asymmetric(network: PandapowerNetwork, row: Row, sign: float) -> None:
    bus, live = _place(network, row)
    scale = 1000.0 * sign * row.number("scaling", 1.0)
    a, b, c = (
        scale * complex(row.number(f"p_{phase}_mw", 0.0), row.number(f"q_{phase}_mvar", 0.0)) for phase in _PHASES
    )
    connection = row.words("type", "wye")
    if not row.is_sound() or not live:
        return
    if network.has_zero_sequence and connection == "delta":
        network.builder.refused.append(row.refusal("is connected in delta"))
        return
    network.builder.add_phase_load(bus, (a, b, c))


def _add_motor(network: PandapowerNetwork, row: Row) -> None:
    bus, live = _place(network, row)
    share = row.number("loading_percent", 100.0) / 100.0 * row.number("scaling", 1.0)
    efficiency, cos_phi = row.number("efficiency_percent", positive=True), row.number("cos_phi", positive=True)
    p_kw = 1e5 * row.number("pn_mech_mw") / efficiency * share
    if row.is_sound() and cos_phi > 1.0:
        row.fault("cos_phi", "must be <= 1")
    if row.is_sound() and live:
        network.builder.add_load(bus, complex(p_kw, abs(p_kw) * math.sqrt(1.0 / cos_phi**2 - 1.0)))


def _add_shunt(network: PandapowerNetwork, row: Row) -> None:
    builder = network.builder
    bus, live = _place(network, row)
    steps = row.number("step", 1.0)
    drawn = complex(row.number("p_mw"), -row.number("q_mvar"))
    table = row.flag("step_dependency_table", False)
    if not row.is_sound() or not live:
        return
    rated_kv = row.number("vn_kv", builder.nominal_kv(bus), positive=True)
    if table:
        builder.refused.append(row.refusal("depends on its step by a table of characteristics, which is not read"))
    elif row.is_sound():
        builder.add_shunt(bus, 1000.0 * drawn * steps / builder.base_kva * (builder.nominal_kv(bus) / rated_kv) ** 2)


def _source_bus(network: PandapowerNetwork, row: Row, bus: int) -> int:
    """The bus at which a source stands: behind its zero-sequence impedance, where that is given."""
    builder = network.builder
    if not all(row.given(column) for column in ("s_sc_max_mva", "rx_max", "x0x_max", "r0x0_max")):
        builder.notes.append(f"{row.element}: has no short-circuit data, and holds all sequences of the voltage")
        return bus
    short_circuit, ratio = row.number("s_sc_max_mva", positive=True), row.number("rx_max")
    x = _VOLTAGE_FACTOR * builder.base_kva / (1000.0 * short_circuit) / math.hypot(ratio, 1.0)
    x0 = x * row.number("x0x_max")
    impedance0 = complex(x0 * row.number("r0x0_max"), x0)
    if not row.is_sound() or impedance0 == 0.0:
        return bus
    name = f"ext_grid {row.id}"
    source = builder.add_bus(name, builder.nominal_kv(bus))
    builder.branches.append(Branch(name, BranchKind.SOURCE_IMPEDANCE, source, bus, _STIFF_PU, series0=impedance0))
    builder.notes.append(f"{row.element}: its short-circuit impedance acts in zero sequence only")
    return source


def _place(network: PandapowerNetwork, row: Row) -> tuple[int, bool]:
    """The bus of an element, and whether both are in service."""
    bus = bus_of(network, row, "bus")
    return bus, row.flag("in_service", True) and bus >= 0 and network.live[bus]
