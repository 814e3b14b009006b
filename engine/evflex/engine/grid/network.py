"""A network as every importer gives it: buses, two-port branches, sources, generators and loads, in per unit.

One pu of power is ``base_kva`` (of all three phases together), one pu of voltage is the bus's ``nominal_kv``, so one
pu of impedance at a bus is ``nominal_kv² · 1000 / base_kva`` ohm. Positive power is consumption. Whether a bus is
reached by a source is no rule of the model: what is not is an island, and a power flow reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


class BranchKind(IntEnum):
    """What a branch is; values as in the public contract."""

    LINE = 1
    TRANSFORMER = 2
    # without impedance: closed, its buses are one
    SWITCH = 3
    # stands for what lies behind a source, and has no rating
    SOURCE_IMPEDANCE = 4


class ZeroSequence(IntEnum):
    """Where zero-sequence current can flow through a branch; seen from its sides, as windings and earthing make it."""

    # a line, or YNyn: from one side to the other
    THROUGH = 1
    # Dyn: the to side is earthed through the branch, the from side is open
    TO_EARTH = 2
    # YNd: the from side is earthed through the branch, the to side is open
    FROM_EARTH = 3
    # Yyn, Dd, Yy …: open on both sides
    BLOCKED = 4


@dataclass(frozen=True, slots=True)
class Buses:
    """The buses, n of them.

    Attributes:
        bus_ids: Unique, not empty.
        nominal_kv: Nominal voltage, line to line, (n,), > 0.
        shunt_g_pu: Conductance of shunts and constant-impedance loads, (n,); positive consumes.
        shunt_b_pu: Susceptance, (n,); positive is capacitive, so produces reactive power.
        voltage_min_pu: Lowest voltage allowed, (n,), NaN where the file has none.
        voltage_max_pu: Highest voltage allowed, (n,), NaN where the file has none.
        x: Abscissa on a map, longitude or plane, (n,), NaN where unknown.
        y: Ordinate, (n,), NaN where unknown.
    """

    bus_ids: tuple[str, ...]
    nominal_kv: FloatArray
    shunt_g_pu: FloatArray
    shunt_b_pu: FloatArray
    voltage_min_pu: FloatArray
    voltage_max_pu: FloatArray
    x: FloatArray
    y: FloatArray


@dataclass(frozen=True, slots=True)
class Branches:
    """The branches, m of them: an ideal transformer at the from side, then a π of series impedance and two shunts.

    With ``y = 1 / (r + jx)``, ``t = ratio · exp(j·shift)``, and the shunts ``s_f``, ``s_t`` (both on the to side of the
    ideal transformer): ``Y_ff = (y + s_f) / |t|²``, ``Y_ft = −y / conj(t)``, ``Y_tf = −y / t``, ``Y_tt = y + s_t``.
    In zero sequence the same holds without the shift, with the parameters ``…0…`` and the path that
    ``zero_sequence`` names; its parameters are NaN in a network that is balanced.

    Attributes:
        branch_ids: Unique, not empty.
        kinds: :class:`BranchKind`, (m,).
        from_bus: Index into buses, (m,); of a transformer its high-voltage side, as a rule.
        to_bus: Index into buses, (m,), another than ``from_bus``.
        r_pu: Series resistance on the to side's base, (m,); 0 for a switch. Parallel lines are one branch.
        x_pu: Series reactance, (m,); r and x are not both 0, except for a switch.
        g_from_pu: Shunt conductance at the from side, (m,).
        b_from_pu: Shunt susceptance at the from side, (m,).
        g_to_pu: Shunt conductance at the to side, (m,).
        b_to_pu: Shunt susceptance at the to side, (m,).
        ratio: Off-nominal turns ratio at the from side, (m,), > 0; 1 for a line.
        shift_deg: Angle by which the from side leads the to side, (m,).
        from_closed: Whether the from end is connected, (m,). A branch open at one end is charged by the other.
        to_closed: Whether the to end is connected, (m,).
        rated_from_a: Rated current of the from side, (m,), > 0, NaN where it has none.
        rated_to_a: Rated current of the to side, (m,), > 0, NaN where it has none.
        rated_kva: Rated apparent power of either end, (m,), > 0, NaN where it has none. Loading is the largest of
            what a branch's ratings give.
        zero_sequence: :class:`ZeroSequence`, (m,).
        r0_pu: Zero-sequence series resistance, (m,).
        x0_pu: Zero-sequence series reactance, (m,).
        g0_from_pu: Zero-sequence shunt conductance at the from side, (m,).
        b0_from_pu: Zero-sequence shunt susceptance at the from side, (m,).
        g0_to_pu: Zero-sequence shunt conductance at the to side, (m,).
        b0_to_pu: Zero-sequence shunt susceptance at the to side, (m,).
    """

    branch_ids: tuple[str, ...]
    kinds: IntArray
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    g_from_pu: FloatArray
    b_from_pu: FloatArray
    g_to_pu: FloatArray
    b_to_pu: FloatArray
    ratio: FloatArray
    shift_deg: FloatArray
    from_closed: BoolArray
    to_closed: BoolArray
    rated_from_a: FloatArray
    rated_to_a: FloatArray
    rated_kva: FloatArray
    zero_sequence: IntArray
    r0_pu: FloatArray
    x0_pu: FloatArray
    g0_from_pu: FloatArray
    b0_from_pu: FloatArray
    g0_to_pu: FloatArray
    b0_to_pu: FloatArray


@dataclass(frozen=True, slots=True)
class Sources:
    """Buses whose voltage is given and which supply whatever is drawn (slack buses), at least one.

    Attributes:
        bus: Index into buses, (k,), each at most once.
        voltage_pu: Magnitude, (k,), > 0.
        angle_deg: Angle, (k,).
    """

    bus: IntArray
    voltage_pu: FloatArray
    angle_deg: FloatArray


@dataclass(frozen=True, slots=True)
class Generators:
    """Generators that hold the voltage of their bus (PV buses), g of them, one a bus and none at a source.

    Attributes:
        bus: Index into buses, (g,).
        p_kw: Active power, (g,); production is negative.
        voltage_pu: Voltage held, (g,), > 0. Limits of reactive power are not enforced.
    """

    bus: IntArray
    p_kw: FloatArray
    voltage_pu: FloatArray


@dataclass(frozen=True, slots=True)
class Network:
    """A network.

    Attributes:
        base_kva: Power of 1 pu, > 0.
        phase_count: 1 for a balanced network, of which one phase stands for all; 3 for phases of their own.
        buses: The buses.
        branches: The branches.
        sources: The sources.
        generators: The generators that hold a voltage; none where ``phase_count`` is 3.
        load_p_kw: Active power that the file's loads and generators draw at each bus: (n,), or (n, 3) by phase.
        load_q_kvar: Reactive power, of the same shape; positive is inductive.
    """

    base_kva: float
    phase_count: int
    buses: Buses
    branches: Branches
    sources: Sources
    generators: Generators
    load_p_kw: FloatArray
    load_q_kvar: FloatArray

    @property
    def bus_count(self) -> int:
        """Number of buses."""
        return len(self.buses.bus_ids)

    @property
    def branch_count(self) -> int:
        """Number of branches."""
        return len(self.branches.branch_ids)

    @property
    def base_current_a(self) -> FloatArray:
        """Current of 1 pu at each bus, (n,): base_kva / (√3 · nominal_kv)."""
        return self.base_kva / (np.sqrt(3.0) * self.buses.nominal_kv)
