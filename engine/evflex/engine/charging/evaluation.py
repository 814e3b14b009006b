"""What a plan costs, emits and leaves undone: the one place where the objective of a plan is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.charging.model import ScheduleObjective
from evflex.engine.charging.peak import highest_average_kw, peak_blocks
from evflex.engine.charging.schedule import ScheduleFigures
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching import charging_before
from evflex.engine.charging.uncontrolled import NOTHING_KW
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray, IntArray

# Wishes that rank before cost are equal when they differ by less (kWh).
RANK_TOLERANCE_KWH = 1e-6
# Solvers keep limits to this tolerance (kW).
LIMIT_TOLERANCE_KW = 1e-6


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A plan and what it amounts to.

    Attributes:
        power_kw: Net mean power, uncontrolled steps included. (n, T).
        figures: As reported.
        objective: Total cost (or kilograms) less that of the fixed load alone.
        scale: Sum of the absolute objective terms; the gap is relative to it.
        ranks: Wishes before cost, first the most important, each in kWh, smaller is better: safety excess that could
            be relieved, weighted minimum energy, agreement excess, weighted shortfall without a price.
        delivered_kwh: (n,).
        shortfall_kwh: (n,).
        minimum_shortfall_kwh: (n,).
        starts: (n,).
    """

    power_kw: FloatArray
    figures: ScheduleFigures
    objective: float
    scale: float
    ranks: tuple[float, float, float, float]
    delivered_kwh: FloatArray
    shortfall_kwh: FloatArray
    minimum_shortfall_kwh: FloatArray
    starts: IntArray

    def ranks_before(self, other: Evaluation) -> bool:
        """Whether this plan meets the wishes before cost better than ``other``."""
        for mine, theirs in zip(self.ranks, other.ranks, strict=True):
            if abs(mine - theirs) > RANK_TOLERANCE_KWH:
                return mine < theirs
        return False

    def better_than(self, other: Evaluation) -> bool:
        """Whether this plan ranks before ``other``, or costs less at the same rank."""
        if self.ranks_before(other) or other.ranks_before(self):
            return self.ranks_before(other)
        return self.objective < other.objective


def evaluate(site: Site, power_kw: FloatArray) -> Evaluation:
    """Figures, objective and rank of a plan.

    Args:
        site: The site.
        power_kw: Net mean power, uncontrolled steps included. (n, T).
    """
    sessions, tariff, options = site.problem.sessions, site.problem.tariff, site.options
    step_h = site.step_h
    charge, discharge = np.maximum(power_kw, 0.0), np.maximum(-power_kw, 0.0)
    battery_kwh = step_h * (
        charge * sessions.charge_efficiency[:, None] - discharge / sessions.discharge_efficiency[:, None]
    )
    delivered = battery_kwh.sum(axis=1)
    shortfall = np.maximum(site.need_kwh - delivered, 0.0)
    shortfall[shortfall < 1e-9] = 0.0
    counted = np.arange(site.step_count)[None, :] < site.minimum_steps[:, None]
    minimum_shortfall = np.maximum(site.minimum_kwh - (battery_kwh * counted).sum(axis=1), 0.0)
    # A minimum of nothing asks for nothing, even of a battery that was discharged.
    minimum_shortfall[(minimum_shortfall < 1e-9) | (site.minimum_kwh <= 0.0)] = 0.0
    starts = count_starts(site, power_kw)

    root = site.fixed_kw + power_kw.sum(axis=0)
    plan, alone = _RootCost.of(site, root), _RootCost.of(site, site.fixed_kw)
    price = np.where(np.isnan(site.shortfall_price_per_kwh), 0.0, site.shortfall_price_per_kwh)
    shortfall_cost = float(price @ shortfall)
    discharge_cost = float(sessions.discharge_cost_per_kwh @ discharge.sum(axis=1)) * step_h
    start_cost = options.start_cost * float(starts.sum())
    energy_value = float(site.value_per_kwh @ np.maximum(delivered - site.need_kwh, 0.0))
    change_cost = 0.0
    if options.previous_power_kw.size and options.change_cost_per_kwh > 0.0:
        change_cost = (
            options.change_cost_per_kwh * step_h * float(np.nansum(np.abs(power_kw - options.previous_power_kw)))
        )

    own_terms = discharge_cost + start_cost + shortfall_cost + change_cost
    steps_difference = plan.energy_by_step - alone.energy_by_step
    kg_difference = plan.emissions_kg - alone.emissions_kg
    if options.objective == ScheduleObjective.EMISSIONS:
        root_terms = float(np.abs(plan.kg_by_step - alone.kg_by_step).sum())
        root_change = kg_difference
    else:
        root_terms = float(np.abs(steps_difference).sum()) + tariff.emission_price_per_kg * abs(kg_difference)
        root_change = float(steps_difference.sum()) + tariff.emission_price_per_kg * kg_difference
    peak_change = plan.peak_cost - alone.peak_cost
    emission_cost = tariff.emission_price_per_kg * plan.emissions_kg
    figures = ScheduleFigures(
        energy_cost=plan.energy_cost,
        peak_cost=plan.peak_cost,
        emission_cost=emission_cost,
        discharge_cost=discharge_cost,
        start_cost=start_cost,
        shortfall_cost=shortfall_cost,
        energy_value=energy_value,
        change_cost=change_cost,
        total_cost=plan.energy_cost + plan.peak_cost + emission_cost + own_terms - energy_value,
        emissions_kg=plan.emissions_kg,
        peak_import_kw=plan.peak_import_kw,
        delivered_kwh=float(delivered.sum()),
        shortfall_kwh=float(shortfall.sum()),
    )
    weight = sessions.shortfall_weight
    unpriced = np.isnan(site.shortfall_price_per_kwh)
    relief, agreement = _excess_kwh(site, power_kw)
    return Evaluation(
        power_kw=power_kw,
        figures=figures,
        objective=root_change + peak_change + own_terms - energy_value,
        scale=root_terms + abs(peak_change) + own_terms + energy_value,
        ranks=(relief, float(weight @ minimum_shortfall), agreement, float((weight * unpriced) @ shortfall)),
        delivered_kwh=delivered,
        shortfall_kwh=shortfall,
        minimum_shortfall_kwh=minimum_shortfall,
        starts=starts,
    )


def fixed_load_objective(site: Site) -> float:
    """What the fixed load alone adds to total cost (or kilograms)."""
    alone = _RootCost.of(site, site.fixed_kw)
    if site.options.objective == ScheduleObjective.EMISSIONS:
        return alone.emissions_kg + alone.peak_cost
    return alone.energy_cost + alone.peak_cost + site.problem.tariff.emission_price_per_kg * alone.emissions_kg


def count_starts(site: Site, power_kw: FloatArray) -> IntArray:
    """Steps in which charging is on and was off just before. (n,)."""
    on = power_kw > NOTHING_KW
    before = charging_before(site)
    before[:, 1:] |= on[:, :-1]
    return np.asarray((on & ~before).sum(axis=1), dtype=np.int64)


def group_power_kw(site: Site, power_kw: FloatArray) -> FloatArray:
    """Instantaneous controlled power that each limit sees, (groups, T)."""
    limits = site.limits
    out = np.zeros(limits.upper_kw.shape)
    _sum_groups(power_kw, site.presence, limits.session_start, limits.group, limits.weight, out)
    return out


@kernel
def _sum_groups(
    power: FloatArray,
    presence: FloatArray,
    session_start: IntArray,
    group: IntArray,
    weight: FloatArray,
    out: FloatArray,
) -> None:
    """Add the instantaneous power of every session to its groups."""
    for i in range(power.shape[0]):
        for k in range(session_start[i], session_start[i + 1]):
            for t in range(power.shape[1]):
                if power[i, t] != 0.0 and presence[i, t] > 0.0:
                    out[group[k], t] += weight[k] * power[i, t] / presence[i, t]


def keeps_limits(site: Site, power_kw: FloatArray) -> bool:
    """Whether controlled power keeps the safety limits; agreements may give way."""
    load, limits = group_power_kw(site, power_kw), site.limits
    # What fixed load alone exceeds may be relieved, never made worse.
    return bool(
        (load <= limits.upper_kw + LIMIT_TOLERANCE_KW).all() and (load >= limits.lower_kw - LIMIT_TOLERANCE_KW).all()
    )


def _excess_kwh(site: Site, power_kw: FloatArray) -> tuple[float, float]:
    """Safety excess that could be relieved, and agreement excess, each summed over groups and steps in kWh."""
    limits = site.limits
    relievable = bool(limits.relief_kw.any())
    agreed = bool(np.isfinite(limits.agreement_kw).any())
    if not (relievable or agreed):
        return 0.0, 0.0
    load = group_power_kw(site, power_kw)
    over = np.where(limits.relief_kw > 0.0, load + limits.relief_kw, 0.0)
    under = np.where(limits.relief_kw < 0.0, -limits.relief_kw - load, 0.0)
    relief = float(np.maximum(over, 0.0).sum() + np.maximum(under, 0.0).sum())
    agreement = float(np.maximum(load - limits.agreement_kw, 0.0).sum())
    return relief * site.step_h, agreement * site.step_h


@dataclass(frozen=True, slots=True)
class _RootCost:
    """Cost and emissions of net power at the root."""

    energy_by_step: FloatArray
    kg_by_step: FloatArray
    energy_cost: float
    emissions_kg: float
    peak_import_kw: float
    peak_cost: float

    @classmethod
    def of(cls, site: Site, root_kw: FloatArray) -> _RootCost:
        tariff = site.problem.tariff
        imports, exports = np.maximum(root_kw, 0.0), np.maximum(-root_kw, 0.0)
        energy = tariff.import_price_per_kwh * imports
        if len(tariff.export_price_per_kwh):
            energy = energy - tariff.export_price_per_kwh * exports
        energy = energy * site.step_h
        kg = np.zeros(site.step_count)
        if len(tariff.emission_intensity_g_per_kwh):
            kg = tariff.emission_intensity_g_per_kwh * imports * (site.step_h / 1000.0)
        peak = highest_average_kw(imports, peak_blocks(site.problem))
        return cls(
            energy, kg, float(energy.sum()), float(kg.sum()), peak,
            tariff.peak_price_per_kw * max(0.0, peak - tariff.observed_peak_kw),
        )  # fmt: skip
