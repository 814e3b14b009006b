"""What comes out: ratings and allocations."""

from __future__ import annotations

from dataclasses import dataclass

from evflex.engine.capacity.model import BindingReason
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import Termination


@dataclass(frozen=True, slots=True)
class CapacityViolation:
    """A limit that the load without hubs breaks by itself, or a firm capacity that cannot be honoured.

    Attributes:
        step: Step.
        reason: What is broken.
        limit: Ratio, kVA, °C or hours; kW for a firm capacity.
        excess: By how much, in the same unit.
        hub: Index of the hub whose firm capacity is not honoured, -1 for the transformer's own limits.
        phase: 1 to 3 for L1 to L3 where a loading is broken, else 0.
    """

    step: int
    reason: BindingReason
    limit: float
    excess: float
    hub: int = -1
    phase: int = 0


@dataclass(frozen=True, slots=True)
class Rating:
    """Temperatures, ageing and headroom of a transformer under its load.

    Attributes:
        loading_ratio: Of the most loaded phase, (T,).
        top_oil_c: At the end of each step, (T,).
        hot_spot_c: Largest within each step, (T,).
        loss_of_life_h: In each step, (T,).
        headroom_n_kva: Extra load at unity power factor on balanced phases, jointly usable in all wanted steps, each
            in its own condition, (T,).
        headroom_n1_kva: The same with every step in N-1, (T,).
        violations: Limits that the load breaks by itself.
        final_state: At the end of the last step.
    """

    loading_ratio: FloatArray
    top_oil_c: FloatArray
    hot_spot_c: FloatArray
    loss_of_life_h: FloatArray
    headroom_n_kva: FloatArray
    headroom_n1_kva: FloatArray
    violations: tuple[CapacityViolation, ...]
    final_state: ThermalState


@dataclass(frozen=True, slots=True)
class Allocation:
    """Capacity of hubs over a horizon.

    Attributes:
        capacity_kw: Most that each hub may draw, 0 or at least the minimum of one car, (H, T).
        power_kw: Expected use, at most the capacity, (H, T).
        current_a: Current of L1, L2, L3 at the capacity, (H, T, 3).
        evs_served: Cars that can charge at the same time, (H, T).
        wanted_kwh: Energy wanted, as far as agreement and connection can carry it, (H,).
        served_kwh: Energy served, (H,).
        compensation: Money for what is curtailed, (H,).
        session_power_kw: Power of each car, one array (n, T) a hub.
        loading_ratio: Of the most loaded phase, all hubs drawing their capacity, (T,).
        top_oil_c: At the end of each step, (T,).
        hot_spot_c: Largest within each step, (T,).
        loss_of_life_h: In each step, (T,).
        headroom_n_kva: What could come on top of all capacities, (T,).
        headroom_n1_kva: The same with every step in N-1, (T,).
        final_state: At the end of the last step.
        fairness_index: Jain's index of served over wanted.
        binding: Rows of step, hub and :class:`BindingReason`, by step, then hub, (n, 3).
        violations: What could not be kept.
        termination: Outcome; the objective is curtailed energy in kWh, with LEAST_COST the compensation.
    """

    capacity_kw: FloatArray
    power_kw: FloatArray
    current_a: FloatArray
    evs_served: IntArray
    wanted_kwh: FloatArray
    served_kwh: FloatArray
    compensation: FloatArray
    session_power_kw: tuple[FloatArray, ...]
    loading_ratio: FloatArray
    top_oil_c: FloatArray
    hot_spot_c: FloatArray
    loss_of_life_h: FloatArray
    headroom_n_kva: FloatArray
    headroom_n1_kva: FloatArray
    final_state: ThermalState
    fairness_index: float
    binding: IntArray
    violations: tuple[CapacityViolation, ...]
    termination: Termination

    @property
    def curtailed_kwh(self) -> FloatArray:
        """Energy wanted and not served, (H,)."""
        return self.wanted_kwh - self.served_kwh
