"""Collects buses, branches and what stands at them into a :class:`Network`, in per unit of the network's base."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import numpy as np

from evflex.engine.grid.formats.imported import ImportedNetwork, Refusal
from evflex.engine.grid.network import Branches, BranchKind, Buses, Generators, Network, Sources, ZeroSequence
from evflex.engine.grid.network_rules import validate_network
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.validation import InvalidProblemError, Violation

NO_VALUE = math.nan
_ENTRY = re.compile(r"^(buses|branches)\[(\d+)\]\.")


@dataclass(slots=True)
class Branch:
    """A branch as in :class:`evflex.engine.grid.network.Branches`, with what most of them share as default.

    ``series`` is r + jx on the to side's base, ``shunt_…`` are g + jb; of the zero sequence likewise.
    """

    branch_id: str
    kind: BranchKind
    from_bus: int
    to_bus: int
    series: complex
    shunt_from: complex = 0j
    shunt_to: complex = 0j
    ratio: float = 1.0
    shift_deg: float = 0.0
    from_closed: bool = True
    to_closed: bool = True
    rated_from_a: float = NO_VALUE
    rated_to_a: float = NO_VALUE
    rated_kva: float = NO_VALUE
    zero_sequence: ZeroSequence = ZeroSequence.THROUGH
    series0: complex = 0j
    shunt0_from: complex = 0j
    shunt0_to: complex = 0j


@dataclass(slots=True)
class NetworkBuilder:
    """A network in the making.

    Attributes:
        base_kva: Power of 1 pu.
        phase_count: 1 or 3; a load of one shape is turned into the other.
        refused: Elements left out so far.
        notes: Decisions so far.
        branches: Branches so far.
    """

    base_kva: float
    phase_count: int
    refused: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    _buses: list[tuple[str, float, float, float, float, float]] = field(default_factory=list)
    _load: list[list[complex]] = field(default_factory=list)
    _shunt: list[complex] = field(default_factory=list)
    _sources: dict[int, tuple[float, float]] = field(default_factory=dict)
    _generators: dict[int, tuple[float, float]] = field(default_factory=dict)

    def add_bus(
        self,
        bus_id: str,
        nominal_kv: float,
        *,
        voltage_min_pu: float = NO_VALUE,
        voltage_max_pu: float = NO_VALUE,
        x: float = NO_VALUE,
        y: float = NO_VALUE,
    ) -> int:
        """Add a bus; its index. Limits that leave no band but one voltage are dropped, with a note."""
        if voltage_min_pu == voltage_max_pu:
            self.notes.append(f"bus {bus_id}: its voltage limits are one value, {voltage_min_pu:g}, and are not read")
            voltage_min_pu = voltage_max_pu = NO_VALUE
        self._buses.append((bus_id, nominal_kv, voltage_min_pu, voltage_max_pu, x, y))
        self._load.append([0j, 0j, 0j])
        self._shunt.append(0j)
        return len(self._buses) - 1

    def nominal_kv(self, bus: int) -> float:
        """Nominal voltage of a bus."""
        return self._buses[bus][1]

    def ohm(self, bus: int) -> float:
        """Impedance of 1 pu at a bus."""
        kv = self.nominal_kv(bus)
        return kv * kv * 1000.0 / self.base_kva

    def add_load(self, bus: int, power_kva: complex) -> None:
        """Add a load that draws p + jq, of all phases alike."""
        self.add_phase_load(bus, (power_kva / 3.0, power_kva / 3.0, power_kva / 3.0))

    def add_phase_load(self, bus: int, power_kva: tuple[complex, complex, complex]) -> None:
        """Add a load by phases, each p + jq."""
        for phase in range(3):
            self._load[bus][phase] += power_kva[phase]

    def add_shunt(self, bus: int, admittance_pu: complex) -> None:
        """Add a shunt of g + jb at a bus."""
        self._shunt[bus] += admittance_pu

    def add_source(self, bus: int, voltage_pu: float, angle_deg: float, element: str) -> None:
        """Add a source; a second one at the same bus must agree with the first."""
        if self._sources.setdefault(bus, (voltage_pu, angle_deg)) != (voltage_pu, angle_deg):
            self.refused.append(Refusal(element, "holds another voltage than the source before it at the same bus"))

    def add_generator(self, bus: int, p_kw: float, voltage_pu: float, element: str) -> None:
        """Add a generator that holds a voltage; a second one at the same bus adds its power and must agree."""
        p_before, held = self._generators.get(bus, (0.0, voltage_pu))
        if held != voltage_pu:
            self.refused.append(Refusal(element, "holds another voltage than the generator before it at the same bus"))
            return
        self._generators[bus] = (p_before + p_kw, voltage_pu)

    def build(self, file: str) -> ImportedNetwork:
        """The network, checked.

        Raises:
            InvalidProblemError: When it breaks a rule, told by the element of ``file``.
        """
        for bus in [bus for bus in self._generators if bus in self._sources]:
            p_kw, _ = self._generators.pop(bus)
            self.add_load(bus, complex(p_kw, 0.0))
        network = self._network()
        try:
            validate_network(network)
        except InvalidProblemError as error:
            raise InvalidProblemError([self._told(file, violation) for violation in error.violations]) from None
        return ImportedNetwork(network, tuple(self.refused), tuple(self.notes))

    def _network(self) -> Network:
        load = np.array(self._load, dtype=np.complex128).reshape(-1, 3)
        if self.phase_count == 1:
            load = load.sum(axis=1)
        shunt = np.array(self._shunt, dtype=np.complex128)
        ids, *values = zip(*self._buses, strict=True) if self._buses else ((), (), (), (), (), ())
        buses = [np.array(column, dtype=np.float64) for column in values]
        return Network(
            self.base_kva,
            self.phase_count,
            Buses(tuple(ids), buses[0], shunt.real.copy(), shunt.imag.copy(), *buses[1:]),
            self._branch_columns(),
            Sources(
                np.array(list(self._sources), dtype=np.int64),
                np.array([held for held, _ in self._sources.values()], dtype=np.float64),
                np.array([angle for _, angle in self._sources.values()], dtype=np.float64),
            ),
            Generators(
                np.array(list(self._generators), dtype=np.int64),
                np.array([p for p, _ in self._generators.values()], dtype=np.float64),
                np.array([held for _, held in self._generators.values()], dtype=np.float64),
            ),
            load.real.copy(),
            load.imag.copy(),
        )

    def _branch_columns(self) -> Branches:
        rows = self.branches

        def real(name: str) -> FloatArray:
            return np.array([getattr(row, name) for row in rows], dtype=np.float64)

        def parts(name: str) -> tuple[FloatArray, FloatArray]:
            values = np.array([getattr(row, name) for row in rows], dtype=np.complex128)
            if "0" not in name or self.phase_count == 3:
                return values.real.copy(), values.imag.copy()
            return np.full(len(rows), np.nan), np.full(len(rows), np.nan)

        def whole(name: str) -> IntArray:
            return np.array([getattr(row, name) for row in rows], dtype=np.int64)

        def flag(name: str) -> BoolArray:
            return np.array([getattr(row, name) for row in rows], dtype=np.bool_)

        return Branches(
            tuple(row.branch_id for row in rows), whole("kind"), whole("from_bus"), whole("to_bus"),
            *parts("series"), *parts("shunt_from"), *parts("shunt_to"), real("ratio"), real("shift_deg"),
            flag("from_closed"), flag("to_closed"), real("rated_from_a"), real("rated_to_a"), real("rated_kva"),
            whole("zero_sequence"), *parts("series0"), *parts("shunt0_from"), *parts("shunt0_to"),
        )  # fmt: skip

    def _told(self, file: str, violation: Violation) -> Violation:
        entry = _ENTRY.match(violation.field)
        if entry is None:
            return Violation(f"{file}: {violation.field}", violation.description)
        at = int(entry[2])
        element = self._buses[at][0] if entry[1] == "buses" else self.branches[at].branch_id
        return Violation(f"{file}: {entry[1]}[{element}].{violation.field[entry.end() :]}", violation.description)
