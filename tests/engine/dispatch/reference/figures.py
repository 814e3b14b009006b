"""What a plan costs and sums up to, recomputed from the powers of its assets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evflex.engine.dispatch.plan import PlanFigures
from tests.engine.dispatch.reference.case import Assets, Case, FloatArray

SHORT_KWH = 1e-6
# Rounding decides on which side of SHORT_KWH a shortfall lies that is about as large.
_ABOUT_KWH = 1e-7


@dataclass
class Tally:
    """Sums over the assets added so far.

    Attributes:
        fleet_power_kw: (T,).
        group_power_kw: (groups, T).
        limit_power_kw: (limits, T).
        reserve_up_kw: What those that take part can give upward, (T,).
        reserve_down_kw: The same downward, (T,).
        shortfall_kwh: Missing in total.
        least_short: Assets that are short for certain.
        most_short: Assets that may be.
    """

    case: Case
    import_cost: float = 0.0
    export_revenue: float = 0.0
    discharge_cost: float = 0.0
    shortfall_cost: float = 0.0
    energy_value: float = 0.0
    shortfall_kwh: float = 0.0
    least_short: int = 0
    most_short: int = 0
    fleet_power_kw: FloatArray = field(init=False)
    group_power_kw: FloatArray = field(init=False)
    limit_power_kw: FloatArray = field(init=False)
    reserve_up_kw: FloatArray = field(init=False)
    reserve_down_kw: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        problem, steps = self.case.problem, self.case.steps
        self.fleet_power_kw, self.reserve_up_kw, self.reserve_down_kw = np.zeros((3, steps))
        self.group_power_kw = np.zeros((problem.group_count, steps))
        self.limit_power_kw = np.zeros((len(problem.limits), steps))

    def add(self, assets: Assets, power_kw: FloatArray) -> None:
        """Add some assets with their powers."""
        case, problem = self.case, self.case.problem
        drawn = np.maximum(power_kw, 0.0) * case.dt
        injected = np.maximum(-power_kw, 0.0) * case.dt
        self.import_cost += float((drawn @ problem.import_price_per_kwh).sum())
        self.export_revenue += float((injected @ problem.export_price_per_kwh).sum())
        self.discharge_cost += float(injected.sum(axis=1) @ assets.wear_per_kwh)
        over = np.where(assets.has_state, assets.state_kwh(power_kw, case.dt)[:, -1] - assets.needed_kwh, 0.0)
        short = np.maximum(-over, 0.0)
        self.shortfall_cost += float(short @ assets.shortfall_price_per_kwh)
        self.energy_value += float(np.maximum(over, 0.0) @ assets.value_per_kwh)
        self.shortfall_kwh += float(short.sum())
        self.least_short += int((short > SHORT_KWH + _ABOUT_KWH).sum())
        self.most_short += int((short > SHORT_KWH - _ABOUT_KWH).sum())
        self.fleet_power_kw += power_kw.sum(axis=0)
        group = problem.fleet.group_index[assets.rows]
        np.add.at(self.group_power_kw, group[group >= 0], power_kw[group >= 0])
        for i, limit in enumerate(problem.limits):
            self.limit_power_kw[i] += power_kw[case.members(limit, assets.rows)].sum(axis=0)
        self.reserve_up_kw += (power_kw + assets.discharge_most_kw)[assets.takes_up].sum(axis=0)
        self.reserve_down_kw += (assets.charge_most_kw - power_kw)[assets.takes_down].sum(axis=0)

    @property
    def above_kw(self) -> FloatArray:
        """Power above upper limits, (limits, T)."""
        upper = [limit.upper_kw for limit in self.case.problem.limits]
        return np.maximum(self.limit_power_kw - np.array(upper).reshape(self.limit_power_kw.shape), 0.0)

    @property
    def below_kw(self) -> FloatArray:
        """Power below lower limits, (limits, T)."""
        lower = [limit.lower_kw for limit in self.case.problem.limits]
        return np.maximum(np.array(lower).reshape(self.limit_power_kw.shape) - self.limit_power_kw, 0.0)

    @property
    def violation_kwh(self) -> float:
        """Energy beyond limits."""
        return float((self.above_kw + self.below_kw).sum()) * self.case.dt

    @property
    def missing_up_kw(self) -> FloatArray:
        """Upward reserve that cannot be given, (T,)."""
        return np.where(self.case.up_kw > 0.0, np.maximum(self.case.up_kw - self.reserve_up_kw, 0.0), 0.0)

    @property
    def missing_down_kw(self) -> FloatArray:
        """Downward reserve that cannot be given, (T,)."""
        return np.where(self.case.down_kw > 0.0, np.maximum(self.case.down_kw - self.reserve_down_kw, 0.0), 0.0)

    @property
    def figures(self) -> PlanFigures:
        """What all this costs."""
        case = self.case
        price = np.array([limit.violation_price_per_kwh for limit in case.problem.limits])
        beyond = float(price @ (self.above_kw + self.below_kw).sum(axis=1)) * case.dt
        missing = float((self.missing_up_kw + self.missing_down_kw).sum()) * case.dt
        return PlanFigures(
            import_cost=self.import_cost,
            export_revenue=self.export_revenue,
            discharge_cost=self.discharge_cost,
            shortfall_cost=self.shortfall_cost,
            violation_cost=beyond + missing * case.reserve_price,
            energy_value=self.energy_value,
        )


def attributed(sold_kw: FloatArray, missing_kw: float) -> FloatArray:
    """Which commitments miss how much of a call of all: later ones of the request first, (reserves,)."""
    part = np.zeros(len(sold_kw))
    for r in reversed(range(len(sold_kw))):
        part[r] = min(float(sold_kw[r]), missing_kw)
        missing_kw -= part[r]
    return part
