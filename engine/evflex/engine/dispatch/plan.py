"""The answer: a fleet's plan, what it costs, and the powers of its assets on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.termination import Termination


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """Figures of a plan in money; ``total = import + discharge + shortfall + violation - export revenue - value``."""

    import_cost: float
    export_revenue: float
    discharge_cost: float
    shortfall_cost: float
    violation_cost: float
    energy_value: float

    @property
    def total_cost(self) -> float:
        """What is minimised."""
        spent = self.import_cost + self.discharge_cost + self.shortfall_cost + self.violation_cost
        return spent - self.export_revenue - self.energy_value

    @property
    def scale(self) -> float:
        """Sum of the absolute terms, which gaps refer to."""
        earned = abs(self.export_revenue) + self.energy_value
        return abs(self.import_cost) + self.discharge_cost + self.shortfall_cost + self.violation_cost + earned


@dataclass(frozen=True, slots=True)
class PlanProgress:
    """How far a solve is.

    Attributes:
        iteration: Rounds done.
        objective: Best plan so far; infinite where there is none.
        objective_bound: Proven lower bound so far.
        relative_gap: Gap of the two.
        elapsed_s: Seconds since the solve began.
        phase: What is being done, one word or two.
    """

    iteration: int
    objective: float
    objective_bound: float
    relative_gap: float
    elapsed_s: float
    phase: str


class Setpoints(Protocol):
    """Powers of single assets, computed where they are asked for: all of a million are a gigabyte."""

    def power_kw(self, rows: IntArray) -> FloatArray:
        """Mean powers of some rows of the fleet, (len(rows), T)."""

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything that the powers are computed from; :func:`setpoints_from_arrays` is the way back."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """A plan of a fleet.

    Attributes:
        fleet_power_kw: Sum of the powers of all assets, (T,).
        group_power_kw: The same for each group, (groups, T).
        limit_power_kw: The same for each limit of the problem, (limits, T).
        limit_price_per_kw_step: What one kW more of the limit would save in a step; positive where import is held back,
            negative where export is; (limits, T).
        limit_above_kw: Power above the upper limit, (limits, T).
        limit_below_kw: Power below the lower limit, (limits, T).
        reserve_missing_up_kw: Upward reserve that is not deliverable, (reserves, T).
        reserve_missing_down_kw: Downward reserve that is not deliverable, (reserves, T).
        figures: What the plan costs.
        shortfall_kwh: Missing at the end of availability, battery-side, over all assets.
        assets_short: Assets that lack more than 1e-6 kWh.
        violation_kwh: Energy beyond limits.
        termination: Outcome and proven gap.
        setpoints: Powers of single assets.
    """

    fleet_power_kw: FloatArray
    group_power_kw: FloatArray
    limit_power_kw: FloatArray
    limit_price_per_kw_step: FloatArray
    limit_above_kw: FloatArray
    limit_below_kw: FloatArray
    reserve_missing_up_kw: FloatArray
    reserve_missing_down_kw: FloatArray
    figures: PlanFigures
    shortfall_kwh: float
    assets_short: int
    violation_kwh: float
    termination: Termination
    setpoints: Setpoints
