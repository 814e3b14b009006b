"""What a plan costs and achieves, recomputed from its powers alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.engine.charging.reference.case import AGREEMENT_KW, CURRENT_A, EMISSIONS, Case, FloatArray

# A power below this is no charging.
OFF_KW = 1e-9


def battery(case: Case, power: FloatArray) -> FloatArray:
    """Energy of each battery at the end of each step, relative to the start or arrival."""
    s = case.problem.sessions
    gain = np.maximum(power, 0.0) * s.charge_efficiency[:, None]
    loss = np.maximum(-power, 0.0) / s.discharge_efficiency[:, None]
    energy: FloatArray = np.cumsum((gain - loss) * case.dt, axis=1)
    return energy


def start_counts(case: Case, power: FloatArray) -> list[int]:
    """Starts of charging of each session."""
    counts = []
    for i in range(case.count):
        was_on, count = bool(case.problem.sessions.charging_now[i]), 0
        for t in range(case.steps):
            on = power[i, t] > OFF_KW
            count += on and not was_on
            was_on = on
        counts.append(count)
    return counts


@dataclass(frozen=True)
class RootFigures:
    """What the net power at the root costs and emits."""

    import_cost: float
    export_revenue: float
    peak_cost: float
    emission_cost: float
    emissions_kg: float
    peak_import_kw: float


def root_figures(case: Case, root_kw: FloatArray) -> RootFigures:
    """Figures of a net power at the root."""
    tariff = case.problem.tariff
    imported, exported = np.maximum(root_kw, 0.0), np.maximum(-root_kw, 0.0)
    peak = max((float(np.mean(imported[steps])) for steps in case.peak_blocks), default=0.0)
    kg = float(np.sum(imported * case.kg_per_kwh) * case.dt)
    return RootFigures(
        import_cost=float(np.sum(imported * case.import_price) * case.dt),
        export_revenue=float(np.sum(exported * case.export_price) * case.dt),
        peak_cost=tariff.peak_price_per_kw * max(0.0, peak - tariff.observed_peak_kw),
        emission_cost=tariff.emission_price_per_kg * kg,
        emissions_kg=kg,
        peak_import_kw=peak,
    )


def delivered(case: Case, power: FloatArray) -> FloatArray:
    """Battery energy of each session at departure or the grid's end."""
    return battery(case, power)[:, -1]


def shortfalls(case: Case, power: FloatArray) -> FloatArray:
    """Energy wanted and not delivered."""
    return np.maximum(0.0, case.needed - delivered(case, power))


def minimum_shortfalls(case: Case, power: FloatArray) -> FloatArray:
    """Energy missing at each session's minimum energy time; 0 asks for none."""
    states = np.concatenate([np.zeros((case.count, 1)), battery(case, power)], axis=1)
    reached = states[np.arange(case.count), case.minimum_steps]
    wanted = case.problem.sessions.minimum_energy_kwh
    short: FloatArray = np.where(wanted > 0, np.maximum(0.0, wanted - reached), 0.0)
    return short


def figures(case: Case, power: FloatArray) -> dict[str, float]:
    """Figures under the names of ``ScheduleFigures``."""
    options, s = case.options, case.problem.sessions
    root = root_figures(case, case.fixed[case.root] + power.sum(axis=0))
    end, short = delivered(case, power), shortfalls(case, power)
    discharged = np.maximum(-power, 0.0).sum(axis=1) * case.dt
    change = np.abs(power - case.previous)[~np.isnan(case.previous)]
    out = {
        "energy_cost": root.import_cost - root.export_revenue,
        "peak_cost": root.peak_cost,
        "emission_cost": root.emission_cost,
        "discharge_cost": float(discharged @ s.discharge_cost_per_kwh),
        "start_cost": options.start_cost * sum(start_counts(case, power)),
        "shortfall_cost": float(np.sum((case.price * short)[case.priced])),
        "energy_value": float(np.sum(case.value * np.maximum(0.0, end - case.needed))),
        "change_cost": float(change.sum() * case.dt * options.change_cost_per_kwh),
    }
    out["total_cost"] = sum(out.values()) - 2 * out["energy_value"]
    out["emissions_kg"] = root.emissions_kg
    out["peak_import_kw"] = root.peak_import_kw
    out["delivered_kwh"] = float(end.sum())
    out["shortfall_kwh"] = float(short.sum())
    return out


def objective_terms(case: Case, power: FloatArray) -> dict[str, float]:
    """Terms of the objective, fixed load's own cost subtracted; their sum is the objective.

    Charging cost and revenue are told apart step by step: what a step costs more than without our power, and
    what it earns.
    """
    plan = figures(case, power)
    fixed = case.fixed[case.root]
    with_power, alone = root_figures(case, fixed + power.sum(axis=0)), root_figures(case, fixed)
    terms = {
        "peak": with_power.peak_cost - alone.peak_cost,
        "discharge": plan["discharge_cost"],
        "start": plan["start_cost"],
        "shortfall": plan["shortfall_cost"],
        "value": -plan["energy_value"],
        "change": plan["change_cost"],
    }
    if case.options.objective == EMISSIONS:
        changes = _emissions_by_step(case, fixed + power.sum(axis=0)) - _emissions_by_step(case, fixed)
    else:
        changes = _energy_cost_by_step(case, fixed + power.sum(axis=0)) - _energy_cost_by_step(case, fixed)
        terms["emissions"] = with_power.emission_cost - alone.emission_cost
    terms["charging"] = float(changes[changes > 0].sum())
    terms["revenue"] = float(changes[changes < 0].sum())
    return terms


def _energy_cost_by_step(case: Case, root_kw: FloatArray) -> FloatArray:
    rate: FloatArray = np.where(root_kw > 0, case.import_price, case.export_price)
    return rate * root_kw * case.dt


def _emissions_by_step(case: Case, root_kw: FloatArray) -> FloatArray:
    return case.kg_per_kwh * np.maximum(root_kw, 0.0) * case.dt


def objective(case: Case, power: FloatArray) -> float:
    """What is minimised last."""
    return sum(objective_terms(case, power).values())


def excesses(case: Case, power: FloatArray) -> dict[tuple[int, int, int, int], tuple[float, float]]:
    """Limit and excess of every limit exceeded, by (node, step, phase, unit)."""
    out = {}
    for row in case.rows:
        excess = row.load(power) - row.limit
        if excess > 1e-9:
            out[row.node, row.step, row.phase, row.unit] = (row.limit, excess)
    return out


def ranks(case: Case, power: FloatArray) -> tuple[float, float, float, float, float]:
    """What is minimised, in order: safety excess, minimum energy, agreement, shortfall, objective.

    Excess counts in kWh; one of current as if all of it were at the node's nominal voltage.
    """
    weight = case.problem.sessions.shortfall_weight
    safety = agreement = 0.0
    for (node, _, _, unit), (_, excess) in excesses(case, power).items():
        if unit == AGREEMENT_KW:
            agreement += excess * case.dt
        else:
            kw = case.problem.nodes.nominal_voltage_v[node] / 1000.0 if unit == CURRENT_A else 1.0
            safety += excess * kw * case.dt
    return (
        float(safety),
        float(weight @ minimum_shortfalls(case, power)),
        agreement,
        float(np.sum((weight * shortfalls(case, power))[~case.priced])),
        objective(case, power),
    )
