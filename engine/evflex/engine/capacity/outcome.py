"""Turns a forward pass into an allocation: energies, currents, fairness, reasons, and what the transformer does."""

from __future__ import annotations

import dataclasses

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.capacity.allocation import Allocation, CapacityViolation, Rating
from evflex.engine.capacity.broken_limits import broken_limits
from evflex.engine.capacity.energy_bound import EnergyBound
from evflex.engine.capacity.forward import LoadedTransformer, Pass
from evflex.engine.capacity.guide import Worth
from evflex.engine.capacity.hub_use import use_of_capacity
from evflex.engine.capacity.model import AllocationProblem, BindingReason, RatingProblem
from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.capacity.rating import rate_transformer
from evflex.engine.capacity.thermal import simulate
from evflex.engine.supply_tree import FloatArray
from evflex.engine.termination import StoppedBy, Termination, TerminationReason, relative_gap

# The gap at which an allocation is called optimal.
_OPTIMAL_GAP = 1e-4
# Firm capacity that lacks less than this is honoured.
_FIRM_TOLERANCE_KW = 1e-6


def outcome(
    problem: AllocationProblem,
    transformer: LoadedTransformer,
    hubs: PreparedHubs,
    plan: Pass,
    worth: Worth,
    bound: EnergyBound,
    budget: Budget,
) -> Allocation:
    """The allocation that a pass found."""
    served_kwh = plan.used_kw.sum(axis=0) * transformer.step_h
    # cars are served in a sensible order, which at times serves more within a limit than without
    unlimited_kw = use_of_capacity(hubs, transformer.step_h, hubs.most_kw)
    wanted_kwh = np.maximum(served_kwh, unlimited_kw.sum(axis=0) * transformer.step_h)
    loaded = _rate_loaded(problem, transformer, plan)
    curtailed_kwh = wanted_kwh - served_kwh
    price = np.array([hub.curtailment_price_per_kwh for hub in problem.hubs])
    step, hub = np.nonzero(plan.reason)
    return Allocation(
        capacity_kw=np.ascontiguousarray(plan.capacity_kw.T),
        power_kw=np.ascontiguousarray(plan.used_kw.T),
        current_a=np.ascontiguousarray(1000.0 * plan.phase_kw.transpose(1, 0, 2) / problem.base.voltage_v),
        evs_served=np.ascontiguousarray(plan.cars_served.T),
        wanted_kwh=wanted_kwh,
        served_kwh=served_kwh,
        compensation=curtailed_kwh * price,
        session_power_kw=tuple(
            np.ascontiguousarray(plan.car_kw[:, begin:end].T)
            for begin, end in zip(hubs.first_car[:-1], hubs.first_car[1:], strict=True)
        ),
        loading_ratio=loaded.loading_ratio,
        top_oil_c=loaded.top_oil_c,
        hot_spot_c=loaded.hot_spot_c,
        loss_of_life_h=loaded.loss_of_life_h,
        headroom_n_kva=loaded.headroom_n_kva,
        headroom_n1_kva=loaded.headroom_n1_kva,
        final_state=loaded.final_state,
        fairness_index=_fairness_index(wanted_kwh, served_kwh),
        binding=np.stack([step, hub, plan.reason[step, hub]], axis=1).astype(np.int64),
        violations=(
            *_broken_by_base(problem, transformer),
            *_unhonoured(hubs, plan),
        ),
        termination=_termination(worth, wanted_kwh, served_kwh, bound, budget),
    )


def _rate_loaded(problem: AllocationProblem, transformer: LoadedTransformer, plan: Pass) -> Rating:
    """The transformer with all hubs drawing their capacity."""
    return rate_transformer(
        RatingProblem(
            problem.grid,
            dataclasses.replace(problem.transformer, initial_state=transformer.start),
            dataclasses.replace(problem.base, phase_kw=problem.base.phase_kw + plan.phase_kw.sum(axis=1)),
            problem.contingency,
            problem.n1_rated_kva,
            np.ones(problem.grid.step_count, dtype=np.bool_),
        )
    )


def _broken_by_base(problem: AllocationProblem, transformer: LoadedTransformer) -> tuple[CapacityViolation, ...]:
    """Limits that the load without hubs breaks by itself."""
    ratio = problem.base.loading_kva / transformer.rated_kva
    alone = simulate(problem.transformer, problem.grid.step_s, ratio, transformer.start)
    return broken_limits(
        problem.grid, problem.transformer, problem.base, problem.contingency, problem.n1_rated_kva, alone
    )


def _fairness_index(wanted_kwh: FloatArray, served_kwh: FloatArray) -> float:
    """Jain's index (Jain, Chiu and Hawe 1984) of the share served, over hubs that want something; 1 is equal."""
    wanting = wanted_kwh > 0.0
    share = served_kwh[wanting] / wanted_kwh[wanting]
    squares = float(share @ share)
    return float(share.sum()) ** 2 / (len(share) * squares) if squares > 0.0 else 1.0


def _unhonoured(hubs: PreparedHubs, plan: Pass) -> list[CapacityViolation]:
    """Firm capacity that the transformer cannot carry; less than a car's minimum is of no use by itself."""
    usable_kw = np.where(hubs.firm_kw >= hubs.min_kw, hubs.firm_kw, 0.0)
    lacking_kw = usable_kw - plan.capacity_kw
    reason = np.where(plan.firm_reason[:, None] > 0, plan.firm_reason[:, None], plan.reason)
    return [
        CapacityViolation(
            step, BindingReason(int(reason[step, hub]) or BindingReason.LOADING_RATIO), float(usable_kw[step, hub]),
            float(lacking_kw[step, hub]), hub,
        )
        for step, hub in np.argwhere(lacking_kw > _FIRM_TOLERANCE_KW).tolist()
    ]  # fmt: skip


def _termination(
    worth: Worth, wanted_kwh: FloatArray, served_kwh: FloatArray, bound: EnergyBound, budget: Budget
) -> Termination:
    """The objective is the worth of what is not served; the gap is relative to that of all that is wanted."""
    all_wanted = float(worth.per_kwh @ wanted_kwh)
    objective = all_wanted - float(worth.per_kwh @ served_kwh)
    objective_bound = min(objective, max(0.0, all_wanted - bound.value))
    gap = relative_gap(objective, objective_bound, all_wanted)
    if gap <= _OPTIMAL_GAP:
        reason, stopped_by = TerminationReason.OPTIMAL, StoppedBy.NOTHING
    else:
        reason, stopped_by = TerminationReason.FEASIBLE, StoppedBy.ITERATIONS
        if budget.cancel.is_set():
            stopped_by = StoppedBy.CANCELLED
        elif budget.spent:
            stopped_by = StoppedBy.TIME
    return Termination(
        reason=reason,
        stopped_by=stopped_by,
        objective=objective,
        objective_bound=objective_bound,
        absolute_gap=objective - objective_bound,
        relative_gap=gap,
        solve_duration_s=budget.elapsed_s,
        method="forward filling",
        detail=f"step by step with look-ahead; bound by {bound.rounds} linear programs",
    )
