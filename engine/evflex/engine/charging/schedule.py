"""The answer: a plan, its figures, and why it is as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import Termination


class LimitUnit(IntEnum):
    """Kind and unit of a limit; values as in the public contract."""

    IMPORT_KW = 1
    EXPORT_KW = 2
    AGREEMENT_IMPORT_KW = 3
    CURRENT_A = 4


@dataclass(frozen=True, slots=True)
class ScheduleFigures:
    """Figures of a plan; money in the tariff's currency, energies battery-side.

    ``total_cost = energy + peak + emission + discharge + start + shortfall + change - energy_value``.
    """

    energy_cost: float
    peak_cost: float
    emission_cost: float
    discharge_cost: float
    start_cost: float
    shortfall_cost: float
    energy_value: float
    change_cost: float
    total_cost: float
    emissions_kg: float
    peak_import_kw: float
    delivered_kwh: float
    shortfall_kwh: float


@dataclass(frozen=True, slots=True)
class SessionResults:
    """Outcome of each session, columns of length n.

    Attributes:
        delivered_kwh: Battery-side, at departure or the grid's end.
        shortfall_kwh: max(0, needed - delivered).
        minimum_shortfall_kwh: Missing at the minimum energy's time.
        cost: Energy, emission, wear and start cost of the session.
        emissions_kg: Share in the site's emissions.
        self_supplied_kwh: Grid-side energy charged from the site's own surplus.
        starts: Starts of charging.
        limiting_node_index: Node that caused the shortfall, -1 where none did.
    """

    delivered_kwh: FloatArray
    shortfall_kwh: FloatArray
    minimum_shortfall_kwh: FloatArray
    cost: FloatArray
    emissions_kg: FloatArray
    self_supplied_kwh: FloatArray
    starts: IntArray
    limiting_node_index: IntArray


@dataclass(frozen=True, slots=True)
class LimitRows:
    """Limits that bind or are exceeded, columns of equal length.

    Attributes:
        node_index: Node in the caller's order.
        step: Step of the grid.
        phase: 1..3 for a current limit, 0 otherwise.
        unit: :class:`LimitUnit` values.
        limit: In kW or A.
        amount: Shadow price per kWh or ampere-hour of a binding limit; excess in kW or A of an exceeded one.
    """

    node_index: IntArray
    step: IntArray
    phase: IntArray
    unit: IntArray
    limit: FloatArray
    amount: FloatArray


@dataclass(frozen=True, slots=True)
class Schedule:
    """A charging plan.

    Attributes:
        power_kw: Mean power of each step, charging positive. Shape (sessions, steps).
        current_a: Current of each active phase while present. Shape (sessions, steps).
        root_power_kw: Net power at the root, fixed load included. Shape (steps,).
        figures: Figures of the plan.
        uncontrolled: Figures of uncontrolled charging.
        uncontrolled_power_kw: Uncontrolled charging. Shape (sessions, steps).
        uncontrolled_root_power_kw: Net power at the root under uncontrolled charging. Shape (steps,).
        sessions: Outcome of each session.
        binding_limits: Limits with a shadow price.
        limit_violations: Limits exceeded.
        termination: How the solve ended.
    """

    power_kw: FloatArray
    current_a: FloatArray
    root_power_kw: FloatArray
    figures: ScheduleFigures
    uncontrolled: ScheduleFigures
    uncontrolled_power_kw: FloatArray
    uncontrolled_root_power_kw: FloatArray
    sessions: SessionResults
    binding_limits: LimitRows
    limit_violations: LimitRows
    termination: Termination
