"""From the chosen plan to the answer: who got what, at what cost, and which limit stood in the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

import numpy as np

from evflex.engine.charging.evaluation import Evaluation, Outcome, PartsEvaluation
from evflex.engine.charging.group_sums import sum_groups
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.relaxation import Relaxation
from evflex.engine.charging.schedule import LimitRows, LimitUnit, Schedule, SessionResults
from evflex.engine.charging.site import Site
from evflex.engine.supply_tree import ACTIVE, PHASE_COUNT, BoolArray, FloatArray, IntArray
from evflex.engine.termination import Termination

# A limit with a smaller price (objective per kWh or ampere-hour) does not bind; a smaller excess is rounding (kW or A).
_LEAST_PRICE = 1e-9
_LEAST_EXCESS = 1e-6


def build_schedule(
    site: Site,
    plan: Evaluation,
    uncontrolled: Evaluation,
    relaxation: Relaxation | None,
    termination: Termination,
) -> Schedule:
    """Answer of the solve, in the caller's order of sessions and nodes."""
    return Schedule(
        power_kw=plan.power_kw,
        current_a=current_a(site, plan.power_kw),
        root_power_kw=site.fixed_kw + plan.power_kw.sum(axis=0),
        figures=plan.figures,
        uncontrolled=uncontrolled.figures,
        uncontrolled_power_kw=uncontrolled.power_kw,
        uncontrolled_root_power_kw=site.fixed_kw + uncontrolled.power_kw.sum(axis=0),
        sessions=_session_results(site, plan, relaxation),
        binding_limits=_binding_limits(site, relaxation),
        limit_violations=_limit_violations(site, plan.power_kw),
        termination=termination,
    )


def build_schedules(
    site: Site,
    parts: Parts,
    node_start: IntArray,
    plan: PartsEvaluation,
    uncontrolled: PartsEvaluation,
    relaxation: Relaxation,
    terminations: Sequence[Termination],
) -> list[Schedule]:
    """Answers of the parts of a site, each in its own order of sessions and nodes.

    Args:
        site: The site.
        parts: Its parts.
        node_start: First node of each part, and the number of nodes. (parts + 1,).
        plan: Plans of all parts.
        uncontrolled: Uncontrolled charging.
        relaxation: Prices.
        terminations: Of each part.
    """
    root, plain_root = (parts.fixed_kw + parts.total(of.power_kw) for of in (plan, uncontrolled))
    current = current_a(site, plan.power_kw)
    figures, plain_figures = plan.figures_of_parts(), uncontrolled.figures_of_parts()
    results = _session_results(site, plan, relaxation)
    rows = [
        _split_rows(limit_rows, node_start)
        for limit_rows in (_binding_limits(site, relaxation), _limit_violations(site, plan.power_kw))
    ]
    schedules = []
    for k, termination in enumerate(terminations):
        own = slice(int(parts.session_start[k]), int(parts.session_start[k + 1]))
        columns = [getattr(results, column.name)[own] for column in fields(SessionResults)]
        # The last column holds nodes.
        columns[-1] = np.where(columns[-1] >= 0, columns[-1] - node_start[k], -1)
        schedule = Schedule(
            plan.power_kw[own], current[own], root[k], figures[k], plain_figures[k], uncontrolled.power_kw[own],
            plain_root[k], SessionResults(*columns), rows[0][k], rows[1][k], termination,
        )  # fmt: skip
        schedules.append(schedule)
    return schedules


def _split_rows(rows: LimitRows, node_start: IntArray) -> list[LimitRows]:
    """Rows of each part, in their order."""
    part = np.searchsorted(node_start, rows.node_index, side="right") - 1
    order = np.argsort(part, kind="stable")
    node = rows.node_index - node_start[part]
    first = np.searchsorted(part[order], np.arange(len(node_start))).tolist()
    return [
        LimitRows(node[own], rows.step[own], rows.phase[own], rows.unit[own], rows.limit[own], rows.amount[own])
        for own in (order[a:b] for a, b in pairwise(first))
    ]


def current_a(site: Site, power_kw: FloatArray) -> FloatArray:
    """Current of each active phase while present: 1000·P / (V·active phases·presence), (n, T)."""
    volts = site.tree.nominal_voltage_v[site.node] * PHASE_COUNT[site.problem.sessions.phases]
    return 1000.0 * instantaneous_kw(site, power_kw) / volts[:, None]


def instantaneous_kw(site: Site, power_kw: FloatArray) -> FloatArray:
    """Power while present, (n, T)."""
    share = np.where(site.presence > 0.0, site.presence, site.given_presence)
    return np.divide(power_kw, share, out=np.zeros_like(power_kw), where=share > 0.0)


def _session_results(site: Site, plan: Outcome, relaxation: Relaxation | None) -> SessionResults:
    """Energy cost and emissions of a step are shared in proportion to charging power."""
    sessions, tariff, step_h = site.problem.sessions, site.problem.tariff, site.step_h
    power = plan.power_kw
    total = power.sum(axis=0)
    root = site.fixed_kw + total
    earned = tariff.export_price_per_kwh if len(tariff.export_price_per_kwh) else np.zeros(site.step_count)
    intensity = (
        tariff.emission_intensity_g_per_kwh if len(tariff.emission_intensity_g_per_kwh) else np.zeros(site.step_count)
    )

    def money(net: FloatArray) -> FloatArray:
        return tariff.import_price_per_kwh * np.maximum(net, 0.0) - earned * np.maximum(-net, 0.0)

    def mean_rate(change: FloatArray, otherwise: FloatArray) -> FloatArray:
        # Where sessions cancel out, each pays the marginal rate.
        return np.divide(change, total, out=otherwise.copy(), where=np.abs(total) > 1e-9)

    importing = root > 0.0
    rate = mean_rate(money(root) - money(site.fixed_kw), np.where(importing, tariff.import_price_per_kwh, earned))
    kg = intensity / 1000.0 * (np.maximum(root, 0.0) - np.maximum(site.fixed_kw, 0.0))
    kg_rate = mean_rate(kg, np.where(importing, intensity / 1000.0, 0.0))
    emissions = step_h * (power @ kg_rate)
    charge = np.maximum(power, 0.0)
    surplus = np.minimum(np.maximum(-site.fixed_kw, 0.0), charge.sum(axis=0))
    share = np.divide(surplus, charge.sum(axis=0), out=np.zeros(site.step_count), where=charge.sum(axis=0) > 0.0)
    cost = step_h * (power @ rate) + tariff.emission_price_per_kg * emissions
    cost = cost + sessions.discharge_cost_per_kwh * step_h * np.maximum(-power, 0.0).sum(axis=1)
    cost = cost + site.options.start_cost * plan.starts
    return SessionResults(
        delivered_kwh=plan.delivered_kwh,
        shortfall_kwh=plan.shortfall_kwh,
        minimum_shortfall_kwh=plan.minimum_shortfall_kwh,
        cost=cost,
        emissions_kg=emissions,
        self_supplied_kwh=step_h * (charge @ share),
        starts=plan.starts,
        limiting_node_index=_limiting_nodes(site, plan, relaxation),
    )


def _limiting_nodes(site: Site, plan: Outcome, relaxation: Relaxation | None) -> IntArray:
    """Node whose limits cost the session most over its stay, where it is short; -1 elsewhere."""
    out = np.full(site.session_count, -1)
    short = np.flatnonzero((plan.shortfall_kwh > 1e-6) | (plan.minimum_shortfall_kwh > 1e-6))
    if not len(short) or relaxation is None:
        return out
    limits = site.limits
    price = np.maximum(relaxation.limit_price, 0.0) + np.maximum(relaxation.agreement_price, 0.0)
    if relaxation.blame is not None:
        # Wishes before cost are open: what took them counts, not what energy costs elsewhere.
        price = relaxation.blame
    for i in short:
        entries = slice(limits.session_start[i], limits.session_start[i + 1])
        present = site.presence[i] > 0.0
        blame = limits.weight[entries] * price[limits.group[entries]][:, present].sum(axis=1)
        if len(blame) and blame.max() > _LEAST_PRICE:
            out[i] = limits.node[limits.group[entries][int(blame.argmax())]]
    return out


def _binding_limits(site: Site, relaxation: Relaxation | None) -> LimitRows:
    """Limits with a price: dual per kW over the step's hours; per ampere-hour by V / 1000."""
    if relaxation is None:
        return _rows([])
    limits, tree = site.limits, site.tree
    own, agreement = relaxation.reported_price, relaxation.reported_agreement_price
    own = relaxation.limit_price if own is None else own
    agreement = relaxation.agreement_price if agreement is None else agreement
    parts = []
    for price, agreed in ((own, False), (agreement, True)):
        price = np.where(_given_up(site, agreed), 0.0, price)
        per_kwh = price / site.step_h
        g, t = np.nonzero(np.abs(per_kwh) > _LEAST_PRICE)
        node, phase = limits.node[g], limits.phase[g]
        imports = price[g, t] > 0.0
        unit = np.where(phase > 0, LimitUnit.CURRENT_A, np.where(imports, LimitUnit.IMPORT_KW, LimitUnit.EXPORT_KW))
        limit_kw = np.where(imports, tree.max_import_kw[node, t], tree.max_export_kw[node, t])
        if agreed:
            unit, limit_kw = np.full(len(g), LimitUnit.AGREEMENT_IMPORT_KW), tree.agreement_import_kw[node, t]
        limit = np.where(phase > 0, tree.max_current_a[node], limit_kw)
        amount = np.abs(per_kwh[g, t]) * np.where(phase > 0, tree.nominal_voltage_v[node] / 1000.0, 1.0)
        parts.append((node, t, phase, unit, limit, amount))
    return _rows(parts)


def _given_up(site: Site, agreed: bool) -> BoolArray:
    """Limits that fixed load alone exceeds and no session relieves: a little more of them changes nothing. (groups, T).

    Fixed load includes uncontrolled charging.
    """
    limits, tree = site.limits, site.tree
    total = (limits.phase == 0)[:, None]
    fixed = np.where(total, tree.fixed_kw[limits.node], tree.fixed_phase_kw[limits.node, limits.phase - 1])
    if site.given_kw.any():
        fixed += sum_groups(
            site.given_kw, site.given_presence, limits.session_start, limits.group, limits.weight, len(limits.node)
        )
    if agreed:
        return np.asarray((fixed > tree.agreement_import_kw[limits.node]) & (limits.agreement_kw >= 0.0))
    most = (tree.nominal_voltage_v * tree.max_current_a / 1000.0)[limits.node, None]
    upper = np.where(total, tree.max_import_kw[limits.node], most)
    lower = np.where(total, -tree.max_export_kw[limits.node], -most)
    return np.asarray(((fixed > upper) | (fixed < lower)) & (limits.relief_kw == 0.0))


def _limit_violations(site: Site, power_kw: FloatArray) -> LimitRows:
    """Every limit of the tree that instantaneous power, fixed load included, exceeds."""
    tree, phases = site.tree, site.problem.sessions.phases
    instantaneous = instantaneous_kw(site, power_kw)
    total = tree.fixed_kw + tree.total_below(site.node, instantaneous)
    parts = []
    for limit, sign, unit in (
        (tree.max_import_kw, 1.0, LimitUnit.IMPORT_KW),
        (tree.max_export_kw, -1.0, LimitUnit.EXPORT_KW),
        (tree.agreement_import_kw, 1.0, LimitUnit.AGREEMENT_IMPORT_KW),
    ):
        excess = sign * total - limit
        node, t = np.nonzero(excess > _LEAST_EXCESS)
        parts.append((node, t, np.zeros_like(t), np.full(len(t), unit), limit[node, t], excess[node, t]))
    limited = np.isfinite(tree.max_current_a)
    if limited.any():
        per_phase = ACTIVE[phases] / PHASE_COUNT[phases, None]
        for phase in range(3):
            kw = tree.fixed_phase_kw[:, phase]
            kw = kw + tree.total_below(site.node, instantaneous * per_phase[:, phase, None])
            excess = 1000.0 * np.abs(kw) / tree.nominal_voltage_v[:, None] - tree.max_current_a[:, None]
            node, t = np.nonzero(excess > _LEAST_EXCESS)
            limit_a = tree.max_current_a[node]
            parts.append(
                (
                    node,
                    t,
                    np.full(len(t), phase + 1),
                    np.full(len(t), LimitUnit.CURRENT_A),
                    limit_a,
                    excess[node, t],
                )
            )
    return _rows(parts)


def _rows(parts: list[tuple[IntArray, IntArray, IntArray, IntArray, FloatArray, FloatArray]]) -> LimitRows:
    whole = [np.concatenate([part[k] for part in parts]) if parts else np.empty(0, dtype=np.int64) for k in range(4)]
    real = [np.concatenate([part[k] for part in parts]) if parts else np.empty(0) for k in (4, 5)]
    return LimitRows(whole[0], whole[1], whole[2], whole[3], real[0], real[1])
