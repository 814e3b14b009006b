"""pandapower networks (``to_json`` of 3.x; files of 2.x are read by the same rules where their columns are the same).

What pandapower 3.5 computes from these tables is the definition (pandapower documentation, "Electric elements"; modules
``build_bus``, ``build_branch``, ``pd2ppc_zero``), with angles of transformers, and its defaults for the rest
(``trafo_model="t"``, ``trafo_loading="current"``). Buses are named by their index, branches ``line 3``, ``trafo 0``,
``impedance 0``, ``switch 5`` by theirs.

- Buses with ``geo`` (2.x: ``bus_geodata``); what stands at a bus out of service is out of service, and a line that ends
  there is open at that end. All stay in the network.
- Branches: :mod:`~evflex.engine.grid.formats.pandapower_branches` (lines, impedances, switches) and
  :mod:`~evflex.engine.grid.formats.pandapower_transformers`.
- Loads, generators, shunts and sources: :mod:`~evflex.engine.grid.formats.pandapower_injections`.
- Phases are told apart when there are asymmetric loads or generators; lines, transformers and impedances then need
  their zero-sequence values.
- Refused by element: three-winding transformers, extended wards, converters, FACTS and whatever runs on direct current.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from evflex.engine.grid.formats.builder import NetworkBuilder
from evflex.engine.grid.formats.imported import ImportedNetwork
from evflex.engine.grid.formats.json_text import parse_json
from evflex.engine.grid.formats.pandapower_branches import add_impedances, add_lines, add_switches, open_ends
from evflex.engine.grid.formats.pandapower_file import PandapowerFile, PandapowerNetwork, open_file
from evflex.engine.grid.formats.pandapower_injections import add_injections, add_sources
from evflex.engine.grid.formats.pandapower_transformers import add_transformers
from evflex.engine.grid.formats.table import Row
from evflex.engine.validation import InvalidProblemError

_REFUSED = {
    "trafo3w": "three-winding transformers are not read",
    "xward": "extended wards are not read",
    "dcline": "direct-current lines are not read",
    "svc": "static var compensators are not read",
    "tcsc": "thyristor-controlled series capacitors are not read",
    "ssc": "static synchronous compensators are not read",
    "vsc": "converters are not read",
    "vsc_stacked": "converters are not read",
    "vsc_bipolar": "converters are not read",
    "b2b_vsc": "converters are not read",
    "bus_dc": "direct current is not read",
    "line_dc": "direct current is not read",
    "load_dc": "direct current is not read",
    "source_dc": "direct current is not read",
}


def read_pandapower(files: Mapping[str, bytes], three_phase: bool | None) -> ImportedNetwork:
    """Read the network, which must be the only file.

    Raises:
        InvalidProblemError: When it is no pandapower network, or breaks a rule.
    """
    source = open_file(files)
    if three_phase is None:
        three_phase = source.rows("asymmetric_load") + source.rows("asymmetric_sgen") > 0
    base_kva = 1000.0 * source.number("sn_mva", 1.0)
    builder = NetworkBuilder(base_kva, 3 if three_phase else 1)
    network = PandapowerNetwork(source, builder, {}, [], three_phase)
    _add_buses(network)
    source.rules.raise_if_any()
    ends = open_ends(network)
    add_lines(network, ends)
    add_transformers(network, ends)
    add_impedances(network)
    add_switches(network)
    add_injections(network)
    add_sources(network)
    _refuse_others(network)
    source.rules.raise_if_any()
    return builder.build(source.file)


def _add_buses(network: PandapowerNetwork) -> None:
    places = _geodata(network.source)
    for row in network.source.table("bus"):
        kv = row.number("vn_kv", positive=True)
        low, high = row.limit("min_vm_pu"), row.limit("max_vm_pu")
        live = row.flag("in_service", True)
        x, y = places.get(row.id, (math.nan, math.nan)) if not row.given("geo") else _point(row)
        bus = network.builder.add_bus(row.id, kv, voltage_min_pu=low, voltage_max_pu=high, x=x, y=y)
        network.buses[row.id] = bus
        network.live.append(live)


def _point(row: Row) -> tuple[float, float]:
    """Coordinates of a GeoJSON point; a place that is not understood is no reason to refuse a bus."""
    try:
        point = parse_json(row.words("geo"), row.element)
    except InvalidProblemError:
        return math.nan, math.nan
    coordinates = point.get("coordinates") if isinstance(point, dict) else None
    if isinstance(coordinates, list) and len(coordinates) >= 2:
        x, y = coordinates[0], coordinates[1]
        if isinstance(x, (int, float)) and isinstance(y, (int, float)) and max(abs(x), abs(y)) < 1e9:
            return float(x), float(y)
    return math.nan, math.nan


def _geodata(source: PandapowerFile) -> dict[str, tuple[float, float]]:
    return {row.id: (row.number("x", math.nan), row.number("y", math.nan)) for row in source.table("bus_geodata")}


def _refuse_others(network: PandapowerNetwork) -> None:
    source, builder = network.source, network.builder
    for name, reason in _REFUSED.items():
        for row in source.table(name):
            if row.flag("in_service", True):
                builder.refused.append(row.refusal(reason))
    controllers = source.rows("controller")
    if controllers:
        builder.notes.append(f"controllers are not run: {controllers} of them")
