"""Shares a transformer's capacity between hubs over a horizon: the public function."""

from __future__ import annotations

import dataclasses
import threading
from itertools import islice

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.broken_limits import loading_caps
from evflex.engine.capacity.energy_bound import EnergyBound
from evflex.engine.capacity.forward import LoadedTransformer, Pass, Room, allocate_forward
from evflex.engine.capacity.guide import Worth, guides, prove, worth_of
from evflex.engine.capacity.limits import later_load, limits_for, memory_steps
from evflex.engine.capacity.model import AllocationOptions, AllocationProblem, BindingReason
from evflex.engine.capacity.outcome import outcome
from evflex.engine.capacity.prepared import PreparedHubs, prepare_hubs
from evflex.engine.capacity.thermal import ThermalConstants, initial_state
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.validation import Rules

_THERMAL = (BindingReason.HOT_SPOT, BindingReason.TOP_OIL, BindingReason.LOSS_OF_LIFE)
# Halvings of the cap on the hot-spot that spreads the loss of life of a day.
_LIFE_HALVINGS = 12
# Passes that look for a better plan: hubs times steps of all of them together.
_MOST_WORK, _LEAST_TRIES = 60_000, 2
# A plan this near to the bound needs no better one.
_GOOD_ENOUGH = 1e-4
_MOST_TOP_UPS = 4
# Working out a plan again may lose so much of it.
_ROUNDING = 1e-6


def allocate_capacity(
    problem: AllocationProblem, options: AllocationOptions, cancel: threading.Event | None = None
) -> Allocation:
    """Share capacity: transformer safety, then firm capacity, then conditional capacity by the policy.

    1. Firm capacity alone, step by step; it is cut only where the transformer cannot carry it.
    2. Everything, step by step: conditional capacity as far as this step's limits allow, and as far as firm capacity
       of all later steps stays possible. Where a day's loss of life limits, a cap on the hot-spot spreads it.
    3. A linear program that contains every plan proves how much more energy any plan could serve. Where that is more,
       the program's prices guide a second plan. The better one is topped up with what it leaves, so that no hub is held
       back without a limit that binds.

    Args:
        problem: What is shared.
        options: Limits of the solve.
        cancel: Ends the proof when set; the allocation itself takes milliseconds.

    Raises:
        InvalidProblemError: The problem breaks a rule; every fault is named.
    """
    rules = Rules()
    problem.validate(rules)
    options.validate(rules)
    rules.raise_if_any()
    budget = Budget(options.time_limit_s, cancel or threading.Event())
    hubs, transformer = prepare_hubs(problem), _loaded(problem)
    nothing = np.zeros(problem.grid.step_count, dtype=np.bool_)
    base = _room(problem, transformer, problem.base.loading_kva / transformer.rated_kva, nothing)
    firm = allocate_forward(transformer, _firm_only(hubs), int(problem.policy), base, base)
    reserved = dataclasses.replace(
        _room(problem, transformer, firm.loading_ratio, np.isin(firm.firm_reason, _THERMAL)), hot_spot_c=base.hot_spot_c
    )
    plan = _allocate(problem, transformer, hubs, base, reserved)
    worth = worth_of(problem, hubs)
    bound = prove(problem, transformer, hubs, plan, worth, budget)
    best = _guided(problem, transformer, hubs, base, reserved, firm, plan, worth, bound)
    best = _topped_up(problem, transformer, hubs, base, best)
    if worth.served(best) < worth.served(plan) * (1.0 - _ROUNDING):
        best = plan
    return outcome(problem, transformer, hubs, best, worth, bound, budget)


def _loaded(problem: AllocationProblem) -> LoadedTransformer:
    transformer, grid = problem.transformer, problem.grid
    return LoadedTransformer(
        step_h=grid.step_h,
        rated_kva=transformer.rated_kva,
        ratio_limit=loading_caps(transformer, problem.contingency, problem.n1_rated_kva),
        contingency=problem.contingency,
        base_kw=np.ascontiguousarray(problem.base.phase_kw),
        base_kvar=np.ascontiguousarray(problem.base.phase_kvar),
        ambient_c=transformer.ambient_c,
        constants=ThermalConstants.of(transformer.thermal, transformer.paper, grid.step_s),
        start=initial_state(transformer, float(problem.base.loading_kva[0]) / transformer.rated_kva),
        horizon=memory_steps(transformer, grid),
    )


def _room(
    problem: AllocationProblem, transformer: LoadedTransformer, loading_ratio: FloatArray, gives_way: BoolArray
) -> Room:
    """Room above a load that comes anyway."""
    limits = limits_for(problem.transformer, problem.grid, loading_ratio, transformer.start, gives_way)
    return Room(limits.hot_spot_c, later_load(problem.transformer, loading_ratio), limits)


def _guided(
    problem: AllocationProblem,
    transformer: LoadedTransformer,
    hubs: PreparedHubs,
    base: Room,
    reserved: Room,
    firm: Pass,
    plan: Pass,
    worth: Worth,
    bound: EnergyBound,
) -> Pass:
    """The best of a plan and those that know what is scarce, until one is near the bound."""
    limits_life = bool(np.isfinite(problem.transformer.max_loss_of_life_h_per_day))
    tries = max(_LEAST_TRIES, _MOST_WORK // plan.capacity_kw.size)
    best = plan
    for guided_transformer, guided_hubs in islice(
        guides(transformer, hubs, firm, plan, worth, bound, limits_life), tries
    ):
        guided = allocate_forward(guided_transformer, guided_hubs, int(problem.policy), base, reserved)
        if worth.served(guided) > worth.served(best):
            # what a guide holds back is no reason to lack firm capacity
            best = dataclasses.replace(guided, firm_reason=plan.firm_reason)
        if worth.served(best) >= bound.value * (1.0 - _GOOD_ENOUGH):
            break
    return best


def _topped_up(
    problem: AllocationProblem, transformer: LoadedTransformer, hubs: PreparedHubs, base: Room, plan: Pass
) -> Pass:
    """The plan with what it leaves, until that is nothing: what is used early is not used later, which leaves room."""
    for _ in range(_MOST_TOP_UPS):
        before = plan.loading_ratio
        plan = _top_up(problem, transformer, hubs, base, plan)
        if np.abs(plan.loading_ratio - before).max() <= _ROUNDING:
            break
    return plan


def _top_up(
    problem: AllocationProblem, transformer: LoadedTransformer, hubs: PreparedHubs, base: Room, plan: Pass
) -> Pass:
    """The plan, and on top of it, step by step, what it leaves: as if all that it gives were firm."""
    has = plan.capacity_kw[:, :, None] > 0.0
    share = np.divide(plan.phase_kw, plan.capacity_kw[:, :, None], out=hubs.phase_share.copy(), where=has)
    given = dataclasses.replace(hubs, firm_kw=plan.capacity_kw, right_kw=plan.firm_kw, phase_share=share)
    nothing = np.zeros(problem.grid.step_count, dtype=np.bool_)
    reserved = dataclasses.replace(_room(problem, transformer, plan.loading_ratio, nothing), hot_spot_c=base.hot_spot_c)
    topped_up = allocate_forward(transformer, given, int(problem.policy), base, reserved)
    return dataclasses.replace(topped_up, firm_kw=plan.firm_kw, firm_reason=plan.firm_reason)


def _firm_only(hubs: PreparedHubs) -> PreparedHubs:
    """The hubs without conditional capacity; all firm capacity is reserved, also less than a car's minimum."""
    none = np.zeros_like(hubs.noticed_kw)
    return dataclasses.replace(hubs, most_kw=hubs.firm_kw, min_kw=np.zeros_like(hubs.min_kw), noticed_kw=none)


def _allocate(
    problem: AllocationProblem, transformer: LoadedTransformer, hubs: PreparedHubs, base: Room, reserved: Room
) -> Pass:
    """The forward pass; where loss of life limits it, with the cap on the hot-spot under which most is served."""
    policy = int(problem.policy)
    plan = allocate_forward(transformer, hubs, policy, base, reserved)
    if not (plan.reason == BindingReason.LOSS_OF_LIFE).any():
        return plan
    lower_c, upper_c = float(problem.transformer.ambient_c.min()), float(base.hot_spot_c.max())
    for _ in range(_LIFE_HALVINGS):
        cap_c = 0.5 * (lower_c + upper_c)
        capped = dataclasses.replace(reserved, hot_spot_c=np.minimum(base.hot_spot_c, cap_c))
        trial = allocate_forward(transformer, hubs, policy, base, capped)
        if trial.used_kw.sum() > plan.used_kw.sum():
            plan = trial
        if (trial.reason == BindingReason.LOSS_OF_LIFE).any():
            upper_c = cap_c
        else:
            lower_c = cap_c
    return plan
