"""Many small sites planned at once: they become the parts of one site, and each kernel is called once for all of them.

A site of ten sessions takes the kernels a few hundred microseconds, and the calls around them several times as long.
Sites of the same time axis, tariff and options share those calls here. Each gets the very plan that
:func:`evflex.engine.charging.optimize_schedule` makes of it alone, or none where that takes more than the relaxation,
its repair and the settling of ties.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from math import inf

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.evaluation import (
    COST_ROUNDING,
    RANK_TOLERANCE_KWH,
    PartsEvaluation,
    evaluate_parts,
    fixed_load_objectives,
    group_power_kw,
    kept_groups,
)
from evflex.engine.charging.feasibility import broken_sessions, tidy
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem, Sessions
from evflex.engine.charging.parts import Parts
from evflex.engine.charging.relaxation import (
    LEVEL_TOLERANCE_KWH,
    SAMPLE_FROM,
    Relaxation,
    is_shared_problem,
    priced_relaxation,
    shared_problem,
    unpriced_shortfall,
)
from evflex.engine.charging.repair import repair_minimums
from evflex.engine.charging.repairable import Repairable, has_minimums, repairable
from evflex.engine.charging.report import build_schedules
from evflex.engine.charging.schedule import Schedule
from evflex.engine.charging.session_problem import SharedProblem, lagrangian_bound
from evflex.engine.charging.session_simplex import solve_shared
from evflex.engine.charging.site import Site, build_site, controlled_first_kw
from evflex.engine.charging.tie_break import TIE_TOLERANCE, Movable, movable, move_earlier, save_starts, saves_starts
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import DEFAULT_VOLTAGE_V, BoolArray, FloatArray, IntArray, SupplyNodes
from evflex.engine.termination import SCALE_FLOOR, StoppedBy, Termination, TerminationReason, relative_gap
from evflex.engine.validation import Rules

# So many sites become one: arrays over all their sessions and steps should stay in the processor's caches.
_AT_ONCE = 64
_NO_LIMIT = np.empty(0)
_METHOD = "relaxation and repair"


def optimize_together(problems: Sequence[ScheduleProblem], options: Sequence[ScheduleOptions]) -> list[Schedule | None]:
    """Plan small sites, those of equal time axis, tariff and options at once.

    Args:
        problems: The sites.
        options: Of each; time limits do not count, since all sites together take milliseconds.

    Returns:
        Of each site the plan of :func:`evflex.engine.charging.optimize_schedule`; None where the site must be planned
        alone: it is large, needs more than this, breaks a rule, or its gap stays open.
    """
    alike: dict[Hashable, list[int]] = {}
    for k, (problem, own) in enumerate(zip(problems, options, strict=True)):
        if _may_join(problem, own):
            alike.setdefault(_kind(problem, own), []).append(k)
    schedules: list[Schedule | None] = [None] * len(problems)
    for members in chain.from_iterable(_batches(of_one_kind) for of_one_kind in alike.values()):
        planned = _plan([problems[k] for k in members], options[members[0]])
        for k, schedule in zip(members, planned, strict=True):
            schedules[k] = schedule
    return schedules


def _batches(members: list[int]) -> Iterator[list[int]]:
    for first in range(0, len(members), _AT_ONCE):
        yield members[first : first + _AT_ONCE]


def _may_join(problem: ScheduleProblem, options: ScheduleOptions) -> bool:
    """Whether a site is small and simple enough, as far as a quick look tells."""
    return (
        0 < len(problem.sessions) < SAMPLE_FROM
        and 0.0 < options.time_limit_s < inf
        and problem.tariff.peak_price_per_kw == 0.0
        and options.start_cost == 0.0
        and options.max_starts_per_session is None
        and options.min_run_s == 0.0
        and options.departure_margin_s == 0.0
        and options.current_quantum_a == 0.0
        and not options.previous_power_kw.size
        and not len(options.control_enabled)
        and "" not in problem.nodes.node_ids
        and "" not in problem.sessions.session_ids
        and problem.nodes.parent_node_ids.count("") == 1
    )


def _kind(problem: ScheduleProblem, options: ScheduleOptions) -> Hashable:
    """What sites that are planned at once have in common."""
    tariff = problem.tariff
    return (
        problem.grid, tariff.currency_code, tariff.import_price_per_kwh.tobytes(),
        tariff.export_price_per_kwh.tobytes(), tariff.emission_intensity_g_per_kwh.tobytes(),
        tariff.emission_price_per_kg, tariff.observed_peak_kw, tariff.peak_averaging_s, tariff.peak_window.tobytes(),
        options.relative_gap, options.absolute_gap, options.objective, options.shortfall_price_per_kwh,
        options.departure_beyond_horizon, options.terminal_value_per_kwh, options.change_cost_per_kwh,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Forest:
    """Sites as one.

    Attributes:
        site: All of them, below a root without limits.
        parts: Where each begins.
        node_start: First node of each site among the nodes of all. (parts + 1,).
    """

    site: Site
    parts: Parts
    node_start: IntArray


def _plan(problems: Sequence[ScheduleProblem], options: ScheduleOptions) -> list[Schedule | None]:
    """Plan sites of one kind, None for those that must be planned alone."""
    budget = Budget(options.time_limit_s)
    merged, rules = _merged(problems), Rules()
    merged.validate(rules)
    options.validate(rules, merged)
    if rules.violations:
        return [None] * len(problems)
    forest = _forest(problems, merged, options)
    simple = _simple_parts(forest)
    if not simple.any():
        return [None] * len(problems)
    if not simple.all():
        planned = iter(_plan([p for p, joins in zip(problems, simple, strict=True) if joins], options))
        return [next(planned) if joins else None for joins in simple]
    return _solve(forest, budget)


def _merged(problems: Sequence[ScheduleProblem]) -> ScheduleProblem:
    """One problem of all sites: each keeps its tree, whose root hangs below a root of no limits."""
    nodes = [problem.nodes for problem in problems]
    node_ids = [f"{k}/{node_id}" for k, own in enumerate(nodes) for node_id in own.node_ids]
    parents = [f"{k}/{parent}" if parent else "root" for k, own in enumerate(nodes) for parent in own.parent_node_ids]
    roots = [f"{k}/{own.node_ids[own.parent_node_ids.index('')]}" for k, own in enumerate(nodes)]

    def rows(name: str) -> tuple[FloatArray, ...]:
        return (_NO_LIMIT, *chain.from_iterable(getattr(own, name) for own in nodes))

    columns: dict[str, object] = {}
    for column in fields(Sessions):
        of_each = [getattr(problem.sessions, column.name) for problem in problems]
        is_text = column.name.endswith("_ids")
        columns[column.name] = tuple(chain.from_iterable(of_each)) if is_text else np.concatenate(of_each)
    columns["session_ids"] = tuple(
        f"{k}/{session_id}" for k, problem in enumerate(problems) for session_id in problem.sessions.session_ids
    )
    columns["node_ids"] = tuple(
        f"{k}/{node_id}" if node_id else root
        for k, (problem, root) in enumerate(zip(problems, roots, strict=True))
        for node_id in problem.sessions.node_ids
    )
    supply = SupplyNodes(
        ("root", *node_ids),
        ("", *parents),
        rows("max_import_kw"),
        rows("max_export_kw"),
        rows("agreement_import_kw"),
        np.concatenate([[np.inf], *(own.max_current_a for own in nodes)]),
        np.concatenate([[DEFAULT_VOLTAGE_V], *(own.nominal_voltage_v for own in nodes)]),
        rows("fixed_load_kw"),
        np.concatenate([np.zeros(1, dtype=np.int64), *(own.fixed_load_phases for own in nodes)]),
    )
    return replace(problems[0], nodes=supply, sessions=Sessions(**columns))  # type: ignore[arg-type]


def _forest(problems: Sequence[ScheduleProblem], merged: ScheduleProblem, options: ScheduleOptions) -> _Forest:
    site = build_site(merged, options, np.zeros(len(merged.sessions)))
    node_start = _starts(len(problem.nodes.node_ids) for problem in problems) + 1
    session_start = _starts(len(problem.sessions) for problem in problems)
    roots = node_start[:-1] + [problem.nodes.parent_node_ids.index("") for problem in problems]
    group_start = np.searchsorted(site.limits.node, node_start)
    return _Forest(site, Parts(session_start, group_start, site.tree.fixed_kw[roots]), node_start)


def _starts(counts: Iterable[int]) -> IntArray:
    return np.cumsum([0, *counts])


def _simple_parts(forest: _Forest) -> BoolArray:
    """Parts that the simplex of sessions solves, (parts,)."""
    site, parts = forest.site, forest.parts
    if is_shared_problem(site) and not (parts.fixed_kw < 0.0).any():
        return np.ones(len(parts), dtype=np.bool_)
    sessions = site.problem.sessions
    more = (site.max_discharge_kw > 0.0) | (site.minimum_kwh > 0.0) | np.isfinite(sessions.max_ramp_kw_per_step)
    simple: BoolArray = parts.highest(more.astype(np.float64)) == 0.0
    relieved = parts.total_of_groups(np.abs(site.limits.relief_kw).sum(axis=1)) > 0.0
    return simple & ~relieved & (parts.fixed_kw >= 0.0).all(axis=1)


def _solve(forest: _Forest, budget: Budget) -> list[Schedule | None]:
    """What ``optimize_schedule`` does of a site with a minimum and nothing else, for all parts at once."""
    site, parts = forest.site, forest.parts
    first_kw = controlled_first_kw(site)
    first = evaluate_parts(site, parts, first_kw)
    settled = _keeping(forest, first_kw)

    relaxation, bound, solved = _relax(forest)
    power = np.array(relaxation.power_kw)
    if has_minimums(site):
        load = group_power_kw(site, power)
        repair_each(repairable(site, parts, relaxation), parts.session_start, parts.group_start, power, load)
    power = tidy(site, power)
    plan = evaluate_parts(site, parts, power)
    order = _rank_order(plan, first)
    cheaper = first.objective - plan.objective > COST_ROUNDING * first.scale
    better = (order < 0) | ((order == 0) & cheaper)
    settled &= solved & better & _keeping(forest, power) & _gap_met(forest, plan, bound)
    if settled.any():
        plan = _settle_ties(forest, relaxation, plan)
    ends = _terminations(forest, plan, bound, budget)
    schedules = build_schedules(site, parts, forest.node_start, plan, first, relaxation, ends)
    return [schedule if done else None for schedule, done in zip(schedules, settled, strict=True)]


def _relax(forest: _Forest) -> tuple[Relaxation, FloatArray, BoolArray]:
    """The relaxation of all parts, the bound of each, and which were solved."""
    site, parts = forest.site, forest.parts
    shared = shared_problem(site)
    power, dual = np.zeros(site.presence.shape), np.zeros(site.limits.upper_kw.shape)
    bound, solved = np.zeros(len(parts)), np.zeros(len(parts), dtype=np.bool_)
    relax_each(shared, parts.session_start, parts.group_start, power, dual, bound, solved)
    solved &= parts.highest(unpriced_shortfall(site, shared, power).astype(np.float64)) == 0.0
    bound += parts.fixed_kw @ site.import_rate * site.step_h - fixed_load_objectives(site, parts)
    return priced_relaxation(site, shared, power, dual, -np.inf), bound, solved


@kernel
def relax_each(
    s: SharedProblem,
    session_start: IntArray,
    group_start: IntArray,
    power: FloatArray,
    limit_dual: FloatArray,
    bound: FloatArray,
    solved: BoolArray,
) -> None:
    """Solve the relaxation of each part: power (n, T), prices (groups, T), and of each part its bound and success."""
    for part in range(len(session_start) - 1):
        a, b, g, h = session_start[part], session_start[part + 1], group_start[part], group_start[part + 1]
        k, m = s.session_start[a], s.session_start[b]
        own = SharedProblem(
            s.price, s.high[a:b], s.first[a:b], s.last[a:b], s.wanted[a:b], s.most[a:b], s.short_price[a:b],
            s.value[a:b], s.presence[a:b], s.upper[g:h], s.session_start[a : b + 1] - k, s.group[k:m] - g,
            s.weight[k:m],
        )  # fmt: skip
        guess = np.zeros(own.upper.shape)
        pivots = solve_shared(own, guess, power[a:b], limit_dual[g:h])
        solved[part] = pivots >= 0
        bound[part] = lagrangian_bound(own, limit_dual[g:h])


@kernel
def repair_each(
    s: Repairable, session_start: IntArray, group_start: IntArray, power: FloatArray, load: FloatArray
) -> None:
    """Repair the minimums of each part, in place; see :func:`repair_minimums`."""
    for part in range(len(session_start) - 1):
        a, b, g, h = session_start[part], session_start[part + 1], group_start[part], group_start[part + 1]
        k, m = s.session_start[a], s.session_start[b]
        own = Repairable(
            s.price[a:b], s.free_price[a:b], s.movable[a:b], s.low[a:b], s.high[a:b], s.first[a:b], s.last[a:b],
            s.wanted[a:b], s.most[a:b], s.short_price[a:b], s.value[a:b], s.early_steps[a:b], s.early_wanted[a:b],
            s.presence[a:b], s.upper[g:h], s.session_start[a : b + 1] - k, s.group[k:m] - g, s.weight[k:m],
            s.overload_price[a:b],
        )  # fmt: skip
        repair_minimums(own, power[a:b], load[g:h])


@kernel
def settle_each(
    s: Movable, session_start: IntArray, group_start: IntArray, save: bool, power: FloatArray, load: FloatArray
) -> None:
    """Settle the ties of each part, in place; see :func:`move_earlier` and :func:`save_starts`."""
    for part in range(len(session_start) - 1):
        a, b, g, h = session_start[part], session_start[part + 1], group_start[part], group_start[part + 1]
        k, m = s.session_start[a], s.session_start[b]
        own = Movable(
            s.sessions[a:b], s.price[a:b], s.low[a:b], s.high[a:b], s.quantum[a:b], s.presence[a:b], s.upper[g:h],
            s.session_start[a : b + 1] - k, s.group[k:m] - g, s.weight[k:m], s.before[a:b], s.keep_pattern,
        )  # fmt: skip
        move_earlier(own, power[a:b], load[g:h])
        if save:
            save_starts(own, power[a:b], load[g:h])


def _keeping(forest: _Forest, power_kw: FloatArray) -> BoolArray:
    """Parts whose plan keeps every rule, (parts,)."""
    site, parts = forest.site, forest.parts
    broken = parts.highest(broken_sessions(site, power_kw).astype(np.float64)) > 0.0
    exceeded = ~kept_groups(site, group_power_kw(site, power_kw))
    return np.asarray(~broken & (parts.total_of_groups(exceeded.astype(np.float64)) == 0.0))


def _rank_order(plan: PartsEvaluation, other: PartsEvaluation) -> IntArray:
    """-1 for parts in which a plan ranks before the other, 1 where it ranks behind, 0 elsewhere, (parts,)."""
    difference = plan.ranks - other.ranks
    differs = np.abs(difference) > RANK_TOLERANCE_KWH
    decisive = np.take_along_axis(difference, differs.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(differs.any(axis=1), np.sign(decisive), 0.0).astype(np.int64)


def _gap_met(forest: _Forest, plan: PartsEvaluation, bound: FloatArray) -> BoolArray:
    """Parts whose wishes before cost and asked gap are proven, (parts,)."""
    options = forest.site.options
    gap = plan.objective - bound
    reached = (plan.ranks <= LEVEL_TOLERANCE_KWH * np.maximum(1.0, plan.ranks)).all(axis=1)
    met = (gap <= options.absolute_gap) | (gap <= options.relative_gap * np.maximum(plan.scale, SCALE_FLOOR))
    return np.asarray(reached & met)


def _settle_ties(forest: _Forest, relaxation: Relaxation, plan: PartsEvaluation) -> PartsEvaluation:
    """Plans that charge earlier and start less often where they cost the same."""
    site, parts = forest.site, forest.parts
    load = group_power_kw(site, plan.power_kw)
    power = plan.power_kw.copy()
    what = movable(site, relaxation.free_price, load)
    settle_each(what, parts.session_start, parts.group_start, saves_starts(site), power, load)
    moved = evaluate_parts(site, parts, power)
    dearer = moved.objective - plan.objective > TIE_TOLERANCE * plan.scale
    taken = _keeping(forest, power) & ~dearer & (_rank_order(plan, moved) >= 0)
    if taken.all():
        return moved
    return evaluate_parts(
        site, parts, np.where(parts.to_sessions(taken.astype(np.float64))[:, None] > 0.0, power, plan.power_kw)
    )


def _terminations(forest: _Forest, plan: PartsEvaluation, bound: FloatArray, budget: Budget) -> list[Termination]:
    """How each part ended; its time is its share of the time of all."""
    parts, steps = forest.parts, forest.site.step_count
    # A bound above the plan is rounding of the solver.
    bound = np.minimum(bound, plan.objective)
    share_s = budget.elapsed_s / len(parts)
    counts = np.diff(parts.session_start).tolist(), np.diff(parts.group_start).tolist()
    rows = zip(plan.objective.tolist(), bound.tolist(), plan.scale.tolist(), *counts, strict=True)
    return [
        Termination(
            reason=TerminationReason.OPTIMAL,
            stopped_by=StoppedBy.NOTHING,
            objective=objective,
            objective_bound=least,
            absolute_gap=objective - least,
            relative_gap=relative_gap(objective, least, scale),
            solve_duration_s=share_s,
            method=_METHOD,
            detail=f"{sessions} sessions x {steps} steps, {groups} limits; tried: {_METHOD}",
        )
        for objective, least, scale, sessions, groups in rows
    ]
