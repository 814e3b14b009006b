"""What a network must keep, told by element."""

from __future__ import annotations

import numpy as np

from evflex.engine.grid.network import BranchKind, Network, ZeroSequence
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.validation import Rules

MAX_BUSES = 100_000
_PHASE_COUNTS = (1, 3)


def validate_network(network: Network) -> None:
    """Check each rule of a network.

    Raises:
        InvalidProblemError: With every rule broken, by element and field.
    """
    rules = Rules()
    counted = _counts(rules, network)
    if counted:
        _buses(rules, network)
        _branches(rules, network)
        _zero_sequence(rules, network)
        _sources(rules, network)
        _generators(rules, network)
        _loads(rules, network)
    rules.raise_if_any()


def _counts(rules: Rules, network: Network) -> bool:
    n = network.bus_count
    rules.check(0 < n <= MAX_BUSES, "buses", f"must hold 1 to {MAX_BUSES} buses, holds {n}")
    rules.check(np.isfinite(network.base_kva) and network.base_kva > 0.0, "base_kva", "must be finite and > 0")
    rules.check(network.phase_count in _PHASE_COUNTS, "phase_count", "must be 1 or 3")
    for table, path, count in (
        (network.buses, "buses", n),
        (network.branches, "branches", network.branch_count),
        (network.sources, "sources", network.sources.bus.shape[0]),
        (network.generators, "generators", network.generators.bus.shape[0]),
    ):
        for name in table.__dataclass_fields__:
            rules.length(f"{path}.{name}", len(getattr(table, name)), (count,))
    return not rules.violations


def _buses(rules: Rules, network: Network) -> None:
    buses = network.buses
    rules.identifiers("buses", "bus_id", buses.bus_ids)
    _positive(rules, "buses", "nominal_kv", buses.nominal_kv)
    _finite(rules, "buses", "shunt_g_pu", buses.shunt_g_pu)
    _finite(rules, "buses", "shunt_b_pu", buses.shunt_b_pu)
    _positive(rules, "buses", "voltage_min_pu", buses.voltage_min_pu, optional=True)
    _positive(rules, "buses", "voltage_max_pu", buses.voltage_max_pu, optional=True)
    crossed = buses.voltage_min_pu >= buses.voltage_max_pu
    rules.rows("buses", "voltage_min_pu", crossed, "must lie below voltage_max_pu", buses.voltage_min_pu)


def _branches(rules: Rules, network: Network) -> None:
    branches, n = network.branches, network.bus_count
    rules.identifiers("branches", "branch_id", branches.branch_ids)
    known = _is_one_of(branches.kinds, BranchKind)
    rules.rows("branches", "kind", ~known, "must be a kind of branch", branches.kinds)
    _index(rules, "branches", "from_bus", branches.from_bus, n)
    _index(rules, "branches", "to_bus", branches.to_bus, n)
    loop = branches.from_bus == branches.to_bus
    rules.rows("branches", "to_bus", loop, "must be another than from_bus", branches.to_bus)
    for name in ("r_pu", "x_pu", "g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu", "shift_deg"):
        _finite(rules, "branches", name, getattr(branches, name))
    switch = branches.kinds == BranchKind.SWITCH
    nothing = (branches.r_pu == 0.0) & (branches.x_pu == 0.0)
    rules.rows(
        "branches", "x_pu", ~switch & nothing, "must not be zero together with r_pu (join the buses by a switch)",
        branches.x_pu,
    )  # fmt: skip
    rules.rows("branches", "r_pu", switch & ~nothing, "must be zero together with x_pu in a switch", branches.r_pu)
    levels = network.buses.nominal_kv
    if not rules.violations:
        across = switch & (levels[branches.from_bus] != levels[branches.to_bus])
        rules.rows("branches", "to_bus", across, "must have the voltage level of from_bus in a switch", branches.to_bus)
    _positive(rules, "branches", "ratio", branches.ratio)
    for name in ("rated_from_a", "rated_to_a", "rated_kva"):
        _positive(rules, "branches", name, getattr(branches, name), optional=True)


def _zero_sequence(rules: Rules, network: Network) -> None:
    branches = network.branches
    known = _is_one_of(branches.zero_sequence, ZeroSequence)
    rules.rows("branches", "zero_sequence", ~known, "must be a path of zero sequence", branches.zero_sequence)
    if network.phase_count == 1:
        return
    for name in ("r0_pu", "x0_pu", "g0_from_pu", "b0_from_pu", "g0_to_pu", "b0_to_pu"):
        _finite(rules, "branches", name, getattr(branches, name))
    used = (branches.kinds != BranchKind.SWITCH) & (branches.zero_sequence != ZeroSequence.BLOCKED)
    nothing = used & (branches.r0_pu == 0.0) & (branches.x0_pu == 0.0)
    rules.rows("branches", "x0_pu", nothing, "must not be zero together with r0_pu", branches.x0_pu)


def _sources(rules: Rules, network: Network) -> None:
    sources = network.sources
    rules.check(sources.bus.shape[0] > 0, "sources", "must hold at least one source")
    _index(rules, "sources", "bus", sources.bus, network.bus_count)
    _once(rules, "sources", sources.bus)
    _positive(rules, "sources", "voltage_pu", sources.voltage_pu)
    _finite(rules, "sources", "angle_deg", sources.angle_deg)


def _generators(rules: Rules, network: Network) -> None:
    generators = network.generators
    _index(rules, "generators", "bus", generators.bus, network.bus_count)
    _once(rules, "generators", generators.bus)
    at_source = np.isin(generators.bus, network.sources.bus)
    rules.rows("generators", "bus", at_source, "must not be the bus of a source", generators.bus)
    _finite(rules, "generators", "p_kw", generators.p_kw)
    _positive(rules, "generators", "voltage_pu", generators.voltage_pu)
    rules.check(
        network.phase_count == 1 or generators.bus.shape[0] == 0,
        "generators", "must be empty in a network of three phases: no generator may hold a voltage there",
    )  # fmt: skip


def _loads(rules: Rules, network: Network) -> None:
    shape = (network.bus_count,) if network.phase_count == 1 else (network.bus_count, 3)
    for name in ("load_p_kw", "load_q_kvar"):
        values = getattr(network, name)
        if values.shape != shape:
            rules.check(False, name, f"must have shape {shape}, has {values.shape}")
        else:
            rules.rows(name, "value", ~np.isfinite(values).reshape(shape[0], -1).all(axis=1), "must be finite", values)


def _is_one_of(values: IntArray, allowed: type[BranchKind] | type[ZeroSequence]) -> BoolArray:
    return np.isin(values, [int(member) for member in allowed])


def _once(rules: Rules, table: str, bus: IntArray) -> None:
    seen: set[int] = set()
    for i, b in enumerate(bus.tolist()):
        rules.check(b not in seen, f"{table}[{i}].bus", f"must not be the bus of another of the {table}, is {b}")
        seen.add(b)


def _index(rules: Rules, table: str, column: str, values: IntArray, count: int) -> None:
    rules.rows(table, column, (values < 0) | (values >= count), f"must be an index below {count}", values)


def _finite(rules: Rules, table: str, column: str, values: FloatArray) -> None:
    rules.rows(table, column, ~np.isfinite(values), "must be finite", values)


def _positive(rules: Rules, table: str, column: str, values: FloatArray, *, optional: bool = False) -> None:
    bad = ~(np.isfinite(values) & (values > 0.0))
    if optional:
        bad &= ~np.isnan(values)
    rules.rows(table, column, bad, "must be finite and > 0", values)
