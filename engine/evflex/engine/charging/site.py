"""From the caller's problem to the arrays that kernels read: presence, limits on controlled power, step prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.charging.group_sums import sum_groups
from evflex.engine.charging.model import (
    DepartureBeyondHorizon,
    ScheduleObjective,
    ScheduleOptions,
    ScheduleProblem,
)
from evflex.engine.charging.uncontrolled import first_come_first_served
from evflex.engine.supply_tree import ACTIVE, PHASE_COUNT, FloatArray, IntArray, SupplyTree, build_tree

# A limit that the sum of all chargers stays this far below cannot bind (kW).
_SLACK_KW = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on controlled power, one row a *group*: a node's total power, or the power of one of its phases.

    A limit sees instantaneous power: mean power over presence, p / f, times the session's weight in the group (1 in a
    total; 1 / (active phases) in each active phase).

    Attributes:
        node: Node of each group. Shape (groups,).
        phase: 0 for total power, 1..3 for a phase. Shape (groups,).
        upper_kw: Most that sessions may draw, fixed load subtracted; infinite where it cannot bind. (groups, T).
        lower_kw: Least that sessions must draw (<= 0). (groups, T).
        relief_kw: What fixed load alone exceeds the upper (> 0) or the lower (< 0) limit by, where sessions can
            relieve it. (groups, T).
        agreement_kw: Most that sessions may draw under the connection agreement; infinite where it cannot bind,
            negative where fixed load alone exceeds it and sessions can relieve it. (groups, T).
        session_start: Row pointers into ``group`` and ``weight``. Shape (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
    """

    node: IntArray
    phase: IntArray
    upper_kw: FloatArray
    lower_kw: FloatArray
    relief_kw: FloatArray
    agreement_kw: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray

    @property
    def drawable_kw(self) -> FloatArray:
        """Most that sessions that only charge may draw, agreements kept, (groups, T)."""
        return np.maximum(np.minimum(self.upper_kw, self.agreement_kw), 0.0)


@dataclass(frozen=True, slots=True)
class Site:
    """One site as kernels read it. Arrays over sessions have shape (n,), over steps (T,), over both (n, T).

    Attributes:
        problem: What it was made from.
        options: What it was made with.
        tree: Electrical tree.
        node: Node of each session.
        step_h: Length of a step in hours.
        presence: Share of the step in which the session is present and controlled.
        given_kw: Uncontrolled charging in steps without control, mean power.
        given_presence: Share of the step in which the session is present and not controlled.
        need_kwh: Needed energy within the grid, ``given_kw`` included.
        ceiling_kwh: Most that the battery takes.
        floor_kwh: Least that the battery may hold (<= 0).
        minimum_kwh: Minimum energy.
        minimum_steps: Number of leading steps whose energy counts for it.
        max_charge_kw: Largest charging power, on the quantum.
        min_charge_kw: Smallest charging power, on the quantum.
        max_discharge_kw: Largest discharging power, on the quantum.
        min_discharge_kw: Smallest discharging power, on the quantum.
        quantum_kw: Step of the settable power; 0: any power.
        value_per_kwh: Worth of energy above the need.
        shortfall_price_per_kwh: NaN where shortfall has no price and ranks before cost.
        import_rate: Objective per kWh imported: price and emissions. (T,).
        export_rate: Objective earned per kWh exported. (T,).
        fixed_kw: Fixed load at the root. (T,).
        limits: Limits on controlled power.
    """

    problem: ScheduleProblem
    options: ScheduleOptions
    tree: SupplyTree
    node: IntArray
    step_h: float
    presence: FloatArray
    given_kw: FloatArray
    given_presence: FloatArray
    need_kwh: FloatArray
    ceiling_kwh: FloatArray
    floor_kwh: FloatArray
    minimum_kwh: FloatArray
    minimum_steps: IntArray
    max_charge_kw: FloatArray
    min_charge_kw: FloatArray
    max_discharge_kw: FloatArray
    min_discharge_kw: FloatArray
    quantum_kw: FloatArray
    value_per_kwh: FloatArray
    shortfall_price_per_kwh: FloatArray
    import_rate: FloatArray
    export_rate: FloatArray
    fixed_kw: FloatArray
    limits: Limits

    @property
    def session_count(self) -> int:
        """Number of sessions."""
        return int(self.presence.shape[0])

    @property
    def step_count(self) -> int:
        """Number of steps."""
        return int(self.presence.shape[1])


def build_site(problem: ScheduleProblem, options: ScheduleOptions, margin_s: FloatArray) -> Site:
    """Resolve a validated problem.

    Args:
        problem: Validated problem.
        options: Validated options.
        margin_s: Seconds before departure by which each session's energy is wanted. Shape (n,).
    """
    grid, sessions = problem.grid, problem.sessions
    tree = build_tree(problem.nodes, grid.step_count)
    node = _node_index(tree, sessions.node_ids)
    leave = np.maximum(sessions.departure_unix_s - margin_s, sessions.arrival_unix_s)
    presence = grid.presence_ratio(sessions.arrival_unix_s, leave)

    voltage_v = tree.nominal_voltage_v[node]
    quantum = options.current_quantum_a * voltage_v * PHASE_COUNT[sessions.phases] / 1000.0
    max_charge, min_charge = _on_quantum(sessions.max_charge_kw, sessions.min_charge_kw, quantum)
    max_discharge, min_discharge = _on_quantum(sessions.max_discharge_kw, sessions.min_discharge_kw, quantum)

    need = _need_within_grid(problem, options)
    weights = _Weights.of(tree, node, sessions.phases)
    control = options.control_enabled
    given = np.zeros_like(presence)
    given_presence = given
    if len(control) and not control.all():
        # A departure margin is for what is planned; uncontrolled charging knows none.
        given_presence = grid.presence_ratio(sessions.arrival_unix_s, sessions.departure_unix_s) * ~control
        presence = presence * control
        bounds = _Bounds.of(tree, weights, given_presence, max_charge, np.zeros_like(max_discharge), given, given)
        given = first_come_first_served(
            service_order(problem), given_presence, need / (sessions.charge_efficiency * grid.step_h),
            max_charge, min_charge, quantum, bounds.drawable_kw,
            weights.session_start, weights.group, weights.weight,
        )  # fmt: skip
    bounds = _Bounds.of(tree, weights, presence, max_charge, max_discharge, given, given_presence)

    price = options.shortfall_price_per_kwh
    shortfall_price = sessions.shortfall_price_per_kwh
    if price is not None:
        shortfall_price = np.where(np.isnan(shortfall_price), price, shortfall_price)
    beyond = sessions.departure_unix_s > grid.end_unix_s
    import_rate, export_rate = _rates(problem, options)
    return Site(
        problem=problem,
        options=options,
        tree=tree,
        node=node,
        step_h=grid.step_h,
        presence=presence,
        given_kw=given,
        given_presence=given_presence,
        need_kwh=need,
        ceiling_kwh=sessions.energy_headroom_kwh,
        floor_kwh=-(sessions.energy_available_kwh + sessions.delivered_kwh),
        minimum_kwh=sessions.minimum_energy_kwh,
        minimum_steps=_minimum_steps(problem),
        max_charge_kw=max_charge,
        min_charge_kw=min_charge,
        max_discharge_kw=max_discharge,
        min_discharge_kw=min_discharge,
        quantum_kw=quantum,
        value_per_kwh=sessions.energy_value_per_kwh + options.terminal_value_per_kwh * beyond,
        shortfall_price_per_kwh=shortfall_price,
        import_rate=import_rate,
        export_rate=export_rate,
        fixed_kw=tree.fixed_kw[tree.root],
        limits=Limits(
            weights.node,
            weights.phase,
            bounds.upper_kw,
            bounds.lower_kw,
            bounds.relief_kw,
            bounds.agreement_kw,
            weights.session_start,
            weights.group,
            weights.weight,
        ),
    )


def uncontrolled_kw(site: Site) -> FloatArray:
    """Uncontrolled charging, first come, first served: in every step, without departure margins. (n, T)."""
    grid, sessions = site.problem.grid, site.problem.sessions
    limits, presence, upper = site.limits, site.presence, site.limits.drawable_kw
    if site.options.departure_margin_s > 0.0 or site.given_presence.any():
        presence = grid.presence_ratio(sessions.arrival_unix_s, sessions.departure_unix_s)
        weights = _Weights.of(site.tree, site.node, sessions.phases)
        none = np.zeros_like(presence)
        nothing = np.zeros(len(sessions))
        upper = _Bounds.of(site.tree, weights, presence, site.max_charge_kw, nothing, none, none).drawable_kw
    return _served(site, presence, site.need_kwh, upper, limits)


def controlled_first_kw(site: Site) -> FloatArray:
    """First come, first served in the controlled steps, after what uncontrolled steps give. (n, T)."""
    given_kwh = site.problem.sessions.charge_efficiency * site.step_h * site.given_kw.sum(axis=1)
    return _served(site, site.presence, site.need_kwh - given_kwh, site.limits.drawable_kw, site.limits)


def _served(site: Site, presence: FloatArray, need_kwh: FloatArray, upper_kw: FloatArray, limits: Limits) -> FloatArray:
    return first_come_first_served(
        service_order(site.problem), presence, need_kwh / (site.problem.sessions.charge_efficiency * site.step_h),
        site.max_charge_kw, site.min_charge_kw, site.quantum_kw, upper_kw, limits.session_start, limits.group,
        limits.weight,
    )  # fmt: skip


def service_order(problem: ScheduleProblem) -> IntArray:
    """Sessions by (arrival, order in the request)."""
    return np.argsort(problem.sessions.arrival_unix_s, kind="stable")


def _node_index(tree: SupplyTree, node_ids: tuple[str, ...]) -> IntArray:
    index = {node_id: i for i, node_id in enumerate(tree.node_ids)}
    index[""] = tree.root
    return np.array([index[node_id] for node_id in node_ids], dtype=np.int64)


def _on_quantum(largest: FloatArray, smallest: FloatArray, quantum: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Largest and smallest power rounded inwards to whole quanta; a charger between two quanta cannot charge."""
    smallest = np.minimum(smallest, largest)
    if not quantum.any():
        return largest, smallest
    step = np.where(quantum > 0.0, quantum, 1.0)
    top = np.floor(largest / step + 1e-9) * step
    bottom = np.ceil(smallest / step - 1e-9) * step
    return np.where(bottom > top + 1e-9, 0.0, top), np.where(bottom > top + 1e-9, 0.0, bottom)


def _need_within_grid(problem: ScheduleProblem, options: ScheduleOptions) -> FloatArray:
    grid, sessions = problem.grid, problem.sessions
    need = sessions.energy_needed_kwh
    if options.departure_beyond_horizon != DepartureBeyondHorizon.PRO_RATA:
        return need
    begin = np.maximum(sessions.arrival_unix_s, grid.start_unix_s)
    stay = sessions.departure_unix_s - begin
    within = np.clip(grid.end_unix_s - begin, 0.0, np.maximum(stay, 0.0))
    return np.where(sessions.departure_unix_s > grid.end_unix_s, need * within / np.maximum(stay, 1e-9), need)


def _minimum_steps(problem: ScheduleProblem) -> IntArray:
    grid, sessions = problem.grid, problem.sessions
    due = np.where(sessions.minimum_energy_unix_s >= sessions.departure_unix_s, np.inf, sessions.minimum_energy_unix_s)
    steps = np.floor((due - grid.start_unix_s) / grid.step_s + 1e-9)
    return np.clip(steps, 0, grid.step_count).astype(np.int64)


def _rates(problem: ScheduleProblem, options: ScheduleOptions) -> tuple[FloatArray, FloatArray]:
    """Objective per kWh imported and earned per kWh exported, (T,) each."""
    tariff, steps = problem.tariff, problem.grid.step_count
    none = np.zeros(steps)
    kg_per_kwh = tariff.emission_intensity_g_per_kwh / 1000.0 if len(tariff.emission_intensity_g_per_kwh) else none
    if options.objective == ScheduleObjective.EMISSIONS:
        return kg_per_kwh, none
    export = tariff.export_price_per_kwh if len(tariff.export_price_per_kwh) else none
    return tariff.import_price_per_kwh + tariff.emission_price_per_kg * kg_per_kwh, export


@dataclass(frozen=True, slots=True)
class _Weights:
    """Which group sees which session, and with what weight."""

    node: IntArray
    phase: IntArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray

    def total_kw(self, power_kw: FloatArray, presence: FloatArray) -> FloatArray:
        """Instantaneous power that each group sees, (groups, T)."""
        return sum_groups(power_kw, presence, self.session_start, self.group, self.weight, len(self.node))

    @classmethod
    def of(cls, tree: SupplyTree, node: IntArray, phases: IntArray) -> _Weights:
        has_kw = (
            np.isfinite(tree.max_import_kw).any(axis=1)
            | np.isfinite(tree.max_export_kw).any(axis=1)
            | np.isfinite(tree.agreement_import_kw).any(axis=1)
        )
        has_phases = np.isfinite(tree.max_current_a)
        # Node by node, so that the limits of a part of the tree stand together.
        group_node, group_phase = np.nonzero(np.column_stack([has_kw, has_phases, has_phases, has_phases]))
        below = tree.subtree_matrix()
        share = np.column_stack([np.ones(len(phases)), ACTIVE[phases] / PHASE_COUNT[phases, None]])
        dense = below[group_node][:, node] * share[:, group_phase].T
        # Of one layout, contiguous: kernels are compiled anew for every other.
        session, group = (np.ascontiguousarray(column) for column in np.nonzero(dense.T))
        start = np.searchsorted(session, np.arange(len(phases) + 1))
        return cls(group_node, group_phase, start, group, dense[group, session])


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Bounds on the sum of controlled instantaneous power in each group and step."""

    upper_kw: FloatArray
    lower_kw: FloatArray
    relief_kw: FloatArray
    agreement_kw: FloatArray

    @property
    def drawable_kw(self) -> FloatArray:
        """Most that sessions that only charge may draw, agreements kept, (groups, T)."""
        return np.maximum(np.minimum(self.upper_kw, self.agreement_kw), 0.0)

    @classmethod
    def of(
        cls,
        tree: SupplyTree,
        weights: _Weights,
        presence: FloatArray,
        max_charge: FloatArray,
        max_discharge: FloatArray,
        given: FloatArray,
        given_presence: FloatArray,
    ) -> _Bounds:
        node, phase, total = weights.node, weights.phase, weights.phase == 0
        phase_limit = (tree.nominal_voltage_v * tree.max_current_a / 1000.0)[node, None]
        upper = np.where(total[:, None], tree.max_import_kw[node], phase_limit)
        lower = np.where(total[:, None], -tree.max_export_kw[node], -phase_limit)
        fixed = np.where(total[:, None], tree.fixed_kw[node], tree.fixed_phase_kw[node, phase - 1])
        if given.any():
            fixed = fixed + weights.total_kw(given, given_presence)
        agreement = np.where(total[:, None], tree.agreement_import_kw[node], np.inf) - fixed

        present = (presence > 0.0).astype(np.float64)
        most = weights.total_kw(present * max_charge[:, None], present)
        least = -weights.total_kw(present * max_discharge[:, None], present)
        upper, lower = upper - fixed, lower - fixed
        relief = np.where((upper < 0.0) & (least < 0.0), -upper, 0.0)
        relief = np.where((lower > 0.0) & (most > 0.0), -lower, relief)
        upper, lower = np.maximum(upper, 0.0), np.minimum(lower, 0.0)
        agreement = np.where(least < 0.0, agreement, np.maximum(agreement, 0.0))
        return cls(
            np.where(most <= upper + _SLACK_KW, np.inf, upper),
            np.where(least >= lower - _SLACK_KW, -np.inf, lower),
            relief,
            np.where((most <= agreement + _SLACK_KW) | (agreement >= upper), np.inf, agreement),
        )
