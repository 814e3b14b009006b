"""What a plan costs, emits and leaves undone: the one place where the objective of a plan is computed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from evflex.engine.charging.group_sums import sum_groups
from evflex.engine.charging.model import ScheduleObjective
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.peak import highest_average_kw, peak_blocks
from evflex.engine.charging.schedule import ScheduleFigures
from evflex.engine.charging.site import Site
from evflex.engine.charging.uncontrolled import NOTHING_KW
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Wishes that rank before cost are equal when they differ by less (kWh).
RANK_TOLERANCE_KWH = 1e-6
# Costs are equal when they differ by less than this share of the gap's scale: the rounding of sums.
COST_ROUNDING = 1e-12
# Solvers keep limits to this tolerance (kW).
LIMIT_TOLERANCE_KW = 1e-6


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan and what it means to each session.

    Attributes:
        power_kw: Net mean power, uncontrolled steps included. (n, T).
        delivered_kwh: (n,).
        shortfall_kwh: (n,).
        minimum_shortfall_kwh: (n,).
        starts: (n,).
    """

    power_kw: FloatArray
    delivered_kwh: FloatArray
    shortfall_kwh: FloatArray
    minimum_shortfall_kwh: FloatArray
    starts: IntArray


@dataclass(frozen=True, slots=True)
class Evaluation(Outcome):
    """A plan and what it amounts to.

    Attributes:
        figures: As reported.
        objective: Total cost (or kilograms) less that of the fixed load alone.
        scale: Sum of the absolute objective terms; the gap is relative to it.
        ranks: Wishes before cost, first the most important, each in kWh, smaller is better: safety excess that could
            be relieved, weighted minimum energy, agreement excess, weighted shortfall without a price.
    """

    figures: ScheduleFigures
    objective: float
    scale: float
    ranks: tuple[float, float, float, float]

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
        return other.objective - self.objective > COST_ROUNDING * other.scale


@dataclass(frozen=True, slots=True)
class PartsEvaluation(Outcome):
    """A plan of several parts; the attributes are those of :class:`Evaluation`, with an entry a part.

    Attributes:
        figures: Columns of :class:`ScheduleFigures` by name, (parts,) each.
        objective: (parts,).
        scale: (parts,).
        ranks: (parts, 4).
    """

    figures: dict[str, FloatArray]
    objective: FloatArray
    scale: FloatArray
    ranks: FloatArray

    def figures_of_parts(self) -> list[ScheduleFigures]:
        """Figures of each part."""
        columns = (self.figures[field.name].tolist() for field in fields(ScheduleFigures))
        return [ScheduleFigures(*row) for row in zip(*columns, strict=True)]


def evaluate(site: Site, power_kw: FloatArray) -> Evaluation:
    """Figures, objective and rank of a plan.

    Args:
        site: The site.
        power_kw: Net mean power, uncontrolled steps included. (n, T).
    """
    of = evaluate_parts(site, Parts.whole(site), power_kw)
    relief, minimum, agreement, shortfall = of.ranks[0].tolist()
    return Evaluation(
        of.power_kw, of.delivered_kwh, of.shortfall_kwh, of.minimum_shortfall_kwh, of.starts,
        of.figures_of_parts()[0], float(of.objective[0]), float(of.scale[0]), (relief, minimum, agreement, shortfall),
    )  # fmt: skip


def evaluate_parts(site: Site, parts: Parts, power_kw: FloatArray) -> PartsEvaluation:
    """Figures, objective and rank of a plan, for each part of a site.

    Args:
        site: The site.
        parts: Its parts.
        power_kw: Net mean power, uncontrolled steps included. (n, T).
    """
    sessions, tariff, options = site.problem.sessions, site.problem.tariff, site.options
    step_h = site.step_h
    n = site.session_count
    delivered, early, discharged = np.empty(n), np.empty(n), np.empty(n)
    sum_sessions(
        np.ascontiguousarray(power_kw), sessions.charge_efficiency, sessions.discharge_efficiency, site.minimum_steps,
        step_h, delivered, early, discharged,
    )  # fmt: skip
    shortfall = np.maximum(site.need_kwh - delivered, 0.0)
    shortfall[shortfall < 1e-9] = 0.0
    minimum_shortfall = np.maximum(site.minimum_kwh - early, 0.0)
    # A minimum of nothing asks for nothing, even of a battery that was discharged.
    minimum_shortfall[(minimum_shortfall < 1e-9) | (site.minimum_kwh <= 0.0)] = 0.0
    starts = count_starts(site, power_kw)

    plan = _RootCost.of(site, parts.fixed_kw + parts.total(power_kw))
    alone = _RootCost.of(site, parts.fixed_kw)
    price = np.where(np.isnan(site.shortfall_price_per_kwh), 0.0, site.shortfall_price_per_kwh)
    shortfall_cost = parts.total(price * shortfall)
    discharge_cost = parts.total(sessions.discharge_cost_per_kwh * discharged)
    start_cost = options.start_cost * parts.total(starts.astype(np.float64))
    energy_value = parts.total(site.value_per_kwh * np.maximum(delivered - site.need_kwh, 0.0))
    change_cost = np.zeros(len(parts))
    if options.previous_power_kw.size and options.change_cost_per_kwh > 0.0:
        changed = np.nansum(np.abs(power_kw - options.previous_power_kw), axis=1)
        change_cost = options.change_cost_per_kwh * step_h * parts.total(changed)

    own_terms = discharge_cost + start_cost + shortfall_cost + change_cost
    kg_difference = plan.emissions_kg - alone.emissions_kg
    if options.objective == ScheduleObjective.EMISSIONS:
        root_terms = np.abs(plan.kg_by_step - alone.kg_by_step).sum(axis=1)
        root_change = kg_difference
    else:
        steps_difference = plan.energy_by_step - alone.energy_by_step
        root_terms = np.abs(steps_difference).sum(axis=1) + tariff.emission_price_per_kg * np.abs(kg_difference)
        root_change = steps_difference.sum(axis=1) + tariff.emission_price_per_kg * kg_difference
    peak_change = plan.peak_cost - alone.peak_cost
    emission_cost = tariff.emission_price_per_kg * plan.emissions_kg
    figures = {
        "energy_cost": plan.energy_cost,
        "peak_cost": plan.peak_cost,
        "emission_cost": emission_cost,
        "discharge_cost": discharge_cost,
        "start_cost": start_cost,
        "shortfall_cost": shortfall_cost,
        "energy_value": energy_value,
        "change_cost": change_cost,
        "total_cost": plan.energy_cost + plan.peak_cost + emission_cost + own_terms - energy_value,
        "emissions_kg": plan.emissions_kg,
        "peak_import_kw": plan.peak_import_kw,
        "delivered_kwh": parts.total(delivered),
        "shortfall_kwh": parts.total(shortfall),
    }
    weight = sessions.shortfall_weight
    unpriced = np.isnan(site.shortfall_price_per_kwh)
    relief, agreement = _excess_kwh(site, parts, power_kw)
    ranks = (relief, parts.total(weight * minimum_shortfall), agreement, parts.total(weight * unpriced * shortfall))
    return PartsEvaluation(
        power_kw=power_kw,
        delivered_kwh=delivered,
        shortfall_kwh=shortfall,
        minimum_shortfall_kwh=minimum_shortfall,
        starts=starts,
        figures=figures,
        objective=root_change + peak_change + own_terms - energy_value,
        scale=root_terms + np.abs(peak_change) + own_terms + energy_value,
        ranks=np.stack(ranks, axis=1),
    )


def fixed_load_objective(site: Site) -> float:
    """What the fixed load alone adds to total cost (or kilograms)."""
    return float(fixed_load_objectives(site, Parts.whole(site))[0])


def fixed_load_objectives(site: Site, parts: Parts) -> FloatArray:
    """The same for each part, (parts,)."""
    alone = _RootCost.of(site, parts.fixed_kw)
    if site.options.objective == ScheduleObjective.EMISSIONS:
        return alone.emissions_kg + alone.peak_cost
    return alone.energy_cost + alone.peak_cost + site.problem.tariff.emission_price_per_kg * alone.emissions_kg


@kernel
def sum_sessions(
    power: FloatArray,
    charge_efficiency: FloatArray,
    discharge_efficiency: FloatArray,
    minimum_steps: IntArray,
    step_h: float,
    delivered: FloatArray,
    early: FloatArray,
    discharged: FloatArray,
) -> None:
    """Energies of each session.

    Args:
        power: Net mean power, (n, T).
        charge_efficiency: (n,).
        discharge_efficiency: (n,).
        minimum_steps: Leading steps that count for ``early``, (n,).
        step_h: Length of a step.
        delivered: Written: battery-side kWh over all steps, Σ η_c·p⁺·Δt − p⁻·Δt/η_d. (n,).
        early: Written: the same over the leading steps. (n,).
        discharged: Written: grid-side kWh discharged. (n,).
    """
    for i in range(power.shape[0]):
        stored, first, drawn = 0.0, 0.0, 0.0
        for t in range(power.shape[1]):
            if t == minimum_steps[i]:
                first = stored
            p = power[i, t]
            if p > 0.0:
                stored += p * charge_efficiency[i] * step_h
            elif p < 0.0:
                stored += p / discharge_efficiency[i] * step_h
                drawn -= p * step_h
        delivered[i], discharged[i] = stored, drawn
        early[i] = stored if minimum_steps[i] >= power.shape[1] else first


def count_starts(site: Site, power_kw: FloatArray) -> IntArray:
    """Steps in which charging is on and was off just before. (n,)."""
    starts = np.zeros(len(power_kw), dtype=np.int64)
    add_starts(np.ascontiguousarray(power_kw), site.given_kw, site.problem.sessions.charging_now, starts)
    return starts


@kernel
def add_starts(power: FloatArray, given: FloatArray, charging_now: BoolArray, starts: IntArray) -> None:
    """Add the starts of each session to ``starts`` (n,); power and what is given without control are (n, T)."""
    for i in range(power.shape[0]):
        was_on = charging_now[i]
        for t in range(power.shape[1]):
            on = power[i, t] > NOTHING_KW
            starts[i] += on and not was_on
            was_on = on or given[i, t] > 0.0


def group_power_kw(site: Site, power_kw: FloatArray) -> FloatArray:
    """Instantaneous controlled power that each limit sees, (groups, T)."""
    limits = site.limits
    return sum_groups(power_kw, site.presence, limits.session_start, limits.group, limits.weight, len(limits.node))


def keeps_limits(site: Site, power_kw: FloatArray) -> bool:
    """Whether controlled power keeps the safety limits; agreements may give way."""
    return bool(kept_groups(site, group_power_kw(site, power_kw)).all())


def kept_groups(site: Site, load_kw: FloatArray) -> BoolArray:
    """Whether each group keeps its safety limits at a load (groups, T); (groups,)."""
    limits = site.limits
    # What fixed load alone exceeds may be relieved, never made worse.
    kept = (load_kw <= limits.upper_kw + LIMIT_TOLERANCE_KW) & (load_kw >= limits.lower_kw - LIMIT_TOLERANCE_KW)
    return np.asarray(kept.all(axis=1))


def _excess_kwh(site: Site, parts: Parts, power_kw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Safety excess that could be relieved, and agreement excess, over all groups and steps in kWh, (parts,) each."""
    limits, none = site.limits, np.zeros(len(parts))
    relievable = bool(limits.relief_kw.any())
    agreed = bool(np.isfinite(limits.agreement_kw).any())
    if not (relievable or agreed):
        return none, none
    load = group_power_kw(site, power_kw)
    over = np.where(limits.relief_kw > 0.0, load + limits.relief_kw, 0.0)
    under = np.where(limits.relief_kw < 0.0, -limits.relief_kw - load, 0.0)
    relief = (np.maximum(over, 0.0) + np.maximum(under, 0.0)).sum(axis=1)
    agreement = np.maximum(load - limits.agreement_kw, 0.0).sum(axis=1)
    return parts.total_of_groups(relief) * site.step_h, parts.total_of_groups(agreement) * site.step_h


@dataclass(frozen=True, slots=True)
class _RootCost:
    """Cost and emissions of net power at each part's grid connection; (parts, T) by step, (parts,) in total."""

    energy_by_step: FloatArray
    kg_by_step: FloatArray
    energy_cost: FloatArray
    emissions_kg: FloatArray
    peak_import_kw: FloatArray
    peak_cost: FloatArray

    @classmethod
    def of(cls, site: Site, root_kw: FloatArray) -> _RootCost:
        tariff = site.problem.tariff
        imports, exports = np.maximum(root_kw, 0.0), np.maximum(-root_kw, 0.0)
        energy = tariff.import_price_per_kwh * imports
        if len(tariff.export_price_per_kwh):
            energy = energy - tariff.export_price_per_kwh * exports
        energy = energy * site.step_h
        kg = np.zeros_like(imports)
        if len(tariff.emission_intensity_g_per_kwh):
            kg = tariff.emission_intensity_g_per_kwh * imports * (site.step_h / 1000.0)
        peak = highest_average_kw(imports, peak_blocks(site.problem))
        return cls(
            energy, kg, energy.sum(axis=1), kg.sum(axis=1), peak,
            tariff.peak_price_per_kw * np.maximum(0.0, peak - tariff.observed_peak_kw),
        )  # fmt: skip
