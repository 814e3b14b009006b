"""What a plan is worth, how much any plan could be, and the second plan that the proof guides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.capacity.absorbable import served_by_firm_kwh
from evflex.engine.capacity.energy_bound import EnergyBound, bound_energy
from evflex.engine.capacity.forward import LoadedTransformer, Pass
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem, BindingReason
from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray, IntArray

_THERMAL = (BindingReason.HOT_SPOT, BindingReason.TOP_OIL, BindingReason.LOSS_OF_LIFE)
_BY_LOADING = (BindingReason.LOADING_RATIO, BindingReason.CONTINGENCY)
# A plan may use this much more than the program's solution in a step: rounding must not hold it back.
_SLACK_RATIO = 1e-6
_PRICE_TOLERANCE = 1e-6
# Where loss of life limits, the program is not exact: a little less than it uses lasts until the end of the day.
_PARTS_OF_LIFE = (1.0, 0.99, 0.97, 0.94, 0.9)
_MOST_WORTHS = 6
# Comparing every step with every later one takes too long above.
_MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Worth:
    """What serving a hub is worth: with LEAST_COST the compensation that it saves, else 1.

    Attributes:
        rank: Class of each hub, hubs of one worth, (H,).
        per_kwh: Of each hub, (H,).
        step_h: Length of a step in hours.
    """

    rank: IntArray
    per_kwh: FloatArray
    step_h: float

    def served(self, plan: Pass) -> float:
        """Worth of what a plan serves."""
        return float(self.per_kwh @ plan.used_kw.sum(axis=0)) * self.step_h


def worth_of(problem: AllocationProblem, hubs: PreparedHubs) -> Worth:
    """What the policy weighs."""
    if problem.policy == AllocationPolicy.LEAST_COST:
        price = np.array([hub.curtailment_price_per_kwh for hub in problem.hubs])
        return Worth(hubs.rank, price, problem.grid.step_h)
    return Worth(np.zeros_like(hubs.rank), np.ones(len(hubs.rank)), problem.grid.step_h)


def prove(
    problem: AllocationProblem,
    transformer: LoadedTransformer,
    hubs: PreparedHubs,
    plan: Pass,
    worth: Worth,
    budget: Budget,
) -> EnergyBound:
    """Bound the worth of all that any plan with the same firm capacity can serve."""
    # less than a car's minimum is of no use, and other hubs may have it
    firm_kw = np.where(plan.firm_kw >= hubs.min_kw, plan.firm_kw, 0.0)
    by_firm = float(worth.per_kwh @ served_by_firm_kwh(hubs, problem.grid.step_h, firm_kw))
    class_worth = np.zeros(int(worth.rank.max()) + 1)
    class_worth[worth.rank] = worth.per_kwh
    plan_kw = np.zeros((len(class_worth), problem.grid.step_count))
    np.add.at(plan_kw, worth.rank, np.maximum(0.0, plan.used_kw - firm_kw).T)
    conditional = bound_energy(
        problem.grid, transformer, problem.transformer, dataclasses.replace(hubs, rank=worth.rank), firm_kw,
        class_worth, plan_kw, worth.served(plan) - by_firm, budget,
    )  # fmt: skip
    return dataclasses.replace(conditional, value=conditional.value + by_firm)


def guides(
    transformer: LoadedTransformer,
    hubs: PreparedHubs,
    firm: Pass,
    plan: Pass,
    worth: Worth,
    bound: EnergyBound,
    limits_life: bool,
) -> Iterator[tuple[LoadedTransformer, PreparedHubs]]:
    """Transformers and hubs for further plans, which know what is scarce.

    First by the program's prices: where capacity has one, no more is handed out than the program uses, which saves heat
    for later steps. Then by the steps in which the transformer held hubs back in the plan, for hubs of at least each
    worth. In all of them hubs insist on what firm capacity and cheaper steps cannot serve later, where that is worth
    the price; in most they get no more than that, and the plan is topped up afterwards.
    """
    if plan.firm_kw.shape[0] > _MOST_STEPS:
        return
    everywhere = np.ones(plan.firm_kw.shape[0], dtype=np.bool_)
    dearest = worth.per_kwh.max(initial=0.0)
    if len(bound.power_kw) and (bound.price_per_kwh > _PRICE_TOLERANCE * dearest).any():
        priced = _priced(transformer, hubs, plan, worth, bound.price_per_kwh)
        for part in _PARTS_OF_LIFE if limits_life else (1.0,):
            ratio = _program_ratio(transformer, firm, plan, dearest, bound, part)
            yield dataclasses.replace(transformer, ratio_limit=ratio), priced
            yield dataclasses.replace(transformer, ratio_limit=ratio), dataclasses.replace(priced, spares=everywhere)
    held_back = np.isin(plan.reason, (*_THERMAL, *_BY_LOADING)).any(axis=1)
    if held_back.any():
        for least in np.unique(worth.per_kwh[worth.per_kwh > 0.0])[:_MOST_WORTHS]:
            priced = _priced(transformer, hubs, plan, worth, np.where(held_back, least, 0.0))
            yield transformer, priced
            yield transformer, dataclasses.replace(priced, spares=everywhere)


def _program_ratio(
    transformer: LoadedTransformer, firm: Pass, plan: Pass, dearest: float, bound: EnergyBound, part: float
) -> FloatArray:
    """Loading limit that holds a part of the program's power where capacity has a price, (T,)."""
    kvar = transformer.base_kvar.sum(axis=1)
    fixed_kw = transformer.base_kw.sum(axis=1) + plan.firm_kw.sum(axis=1)
    program_kva = np.hypot(fixed_kw + part * (1.0 + _SLACK_RATIO) * bound.power_kw, kvar)
    plan_kva = np.hypot(transformer.base_kw.sum(axis=1) + plan.capacity_kw.sum(axis=1), kvar)
    # of the most loaded phase, as uneven as it was
    ratio = plan.loading_ratio * program_kva / np.maximum(plan_kva, 1e-9)
    # firm capacity may be the most uneven part, and is not held back
    ratio = np.maximum(ratio, firm.loading_ratio * (1.0 + _SLACK_RATIO))
    priced = bound.price_per_kwh > _PRICE_TOLERANCE * dearest
    return np.where(priced, np.minimum(transformer.ratio_limit, ratio), transformer.ratio_limit)


def _priced(
    transformer: LoadedTransformer, hubs: PreparedHubs, plan: Pass, worth: Worth, price_per_kwh: FloatArray
) -> PreparedHubs:
    """Hubs that wait for firm capacity and cheaper steps, and insist only where that is worth the price."""
    waitable_kwh, car_waitable_kwh = np.empty_like(plan.firm_kw), np.empty_like(hubs.car_most_kw)
    usable = hubs.cars != 0
    _wait_for_cheaper(
        transformer.step_h, price_per_kwh, np.where(usable, plan.firm_kw, 0.0), np.where(usable, hubs.most_kw, 0.0),
        hubs.demand_kw, hubs.car_most_kw, waitable_kwh, car_waitable_kwh,
    )  # fmt: skip
    insist = worth.per_kwh[None, :] >= price_per_kwh[:, None] * (1.0 - _PRICE_TOLERANCE)
    return dataclasses.replace(
        hubs,
        may_insist=insist,
        waitable_kwh=waitable_kwh,
        car_waitable_kwh=car_waitable_kwh,
    )


@kernel
def _wait_for_cheaper(
    step_h: float,
    price_per_kwh: FloatArray,
    firm_kw: FloatArray,
    most_kw: FloatArray,
    demand_kw: FloatArray,
    car_most_kw: FloatArray,
    waitable_kwh: FloatArray,
    car_waitable_kwh: FloatArray,
) -> None:
    """What can wait after each step for firm capacity, and for conditional capacity that is cheaper than now."""
    steps, count = firm_kw.shape
    for t in range(steps):
        cheaper = price_per_kwh * (1.0 + _PRICE_TOLERANCE) + _PRICE_TOLERANCE < price_per_kwh[t]
        car_waitable_kwh[t] = 0.0
        for s in range(t + 1, steps):
            if cheaper[s]:
                for j in range(car_most_kw.shape[1]):
                    car_waitable_kwh[t, j] += car_most_kw[s, j] * step_h
        for h in range(count):
            waitable = 0.0
            for s in range(steps - 1, t, -1):
                capacity_kw = most_kw[s, h] if cheaper[s] else firm_kw[s, h]
                waitable = max(0.0, waitable) + (capacity_kw - demand_kw[s, h]) * step_h
            waitable_kwh[t, h] = waitable
