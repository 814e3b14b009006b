"""Checks an allocation against its problem from the contract alone; shares no code with the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem, BindingReason
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.supply_tree import BoolArray, FloatArray
from tests.engine.capacity.reference.binding_checker import binding_faults
from tests.engine.capacity.reference.hub_checker import drawn_phase_kw, hub_faults, shares_drawn
from tests.engine.capacity.reference.twin import car_shares, cars_connected, excesses, phase_shares, start, stress

_TOLERANCE = 1e-6
# How much hubs may worsen a temperature (in K) or an ageing (in h) that the base load takes over its limit by itself.
_WORSENING = 0.1


def violations(problem: AllocationProblem, allocation: Allocation) -> list[str]:
    """Everything wrong with an allocation, in words; empty when nothing is.

    Args:
        problem: What was asked, valid.
        allocation: The answer.
    """
    wrong = list(_shape_faults(problem, allocation))
    if wrong:
        return wrong
    return [
        *_transformer_faults(problem, allocation), *_outcome_faults(problem, allocation),
        *_firm_faults(problem, allocation), *hub_faults(problem, allocation), *_sum_faults(problem, allocation),
        *binding_faults(problem, allocation),
    ]  # fmt: skip


def firm_kw(hub: Hub) -> FloatArray:
    """What a hub has a right to, (T,)."""
    return np.minimum(hub.firm_kw, hub.max_kw)


def _shape_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    hubs, steps = len(problem.hubs), problem.grid.step_count
    of_hub_and_step = ("capacity_kw", "power_kw", "evs_served")
    of_hub = ("wanted_kwh", "served_kwh", "compensation")
    of_step = ("loading_ratio", "top_oil_c", "hot_spot_c", "loss_of_life_h", "headroom_n_kva", "headroom_n1_kva")
    shapes: dict[str, tuple[int, ...]] = {"current_a": (hubs, steps, 3)}
    shapes |= dict.fromkeys(of_hub_and_step, (hubs, steps)) | dict.fromkeys(of_hub, (hubs,))
    shapes |= dict.fromkeys(of_step, (steps,))
    for name, shape in shapes.items():
        values = np.asarray(getattr(allocation, name))
        if values.shape != shape:
            yield f"{name}: shape {values.shape}, not {shape}"
        elif not np.isfinite(values).all():
            yield f"{name}: not finite"
    if allocation.binding.ndim != 2 or allocation.binding.shape[1] != 3:
        yield f"binding: shape {allocation.binding.shape}, not (n, 3)"
    expected = [(len(hub.sessions), steps) for hub in problem.hubs]
    found = [rows.shape for rows in allocation.session_power_kw]
    if found != expected:
        yield f"session_power_kw: shapes {found}, not {expected}"


def _transformer_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    """All hubs draw their capacity: no limit broken that the base load alone keeps, and what it breaks is reported."""
    nothing = np.zeros_like(allocation.capacity_kw)
    base = stress(problem, nothing)
    found = stress(problem, allocation.capacity_kw, shares=shares_drawn(problem, allocation))
    over_alone, over = excesses(problem, base), excesses(problem, found)
    allowed = np.maximum(base.phase_kva, found.phase_limit_kva[:, None])
    for k, f in np.argwhere(found.phase_kva > allowed * (1.0 + _TOLERANCE)).tolist():
        yield f"step {k}: phase {f + 1} carries {found.phase_kva[k, f]:.6g} of {found.phase_limit_kva[k]:.6g} kVA"
    for reason in (BindingReason.HOT_SPOT, BindingReason.TOP_OIL, BindingReason.LOSS_OF_LIFE):
        slack = np.where(over_alone[reason] > 0.0, over_alone[reason] + _WORSENING, 0.0) + _TOLERANCE
        for k in np.flatnonzero(over[reason] > slack).tolist():
            yield f"step {k}: {reason.name} broken by {over[reason][k]:.6g}"
    yield from _report_faults(problem, allocation, over_alone)
    for name, condition in (("headroom_n_kva", None), ("headroom_n1_kva", np.ones_like(problem.contingency))):
        yield from _headroom_faults(problem, allocation, name, condition)


def _report_faults(
    problem: AllocationProblem, allocation: Allocation, over_alone: dict[BindingReason, FloatArray]
) -> Iterator[str]:
    """Each limit that the base load breaks is reported with its excess, and no other."""
    told = {(row.reason, row.step): row for row in allocation.violations if row.hub < 0}
    for row in told.values():
        if row.reason not in over_alone or not 0 <= row.step < problem.grid.step_count:
            yield f"violation {row}: no limit of a transformer"
        elif over_alone[row.reason][row.step] <= -_TOLERANCE:
            yield f"violation {row}: the base load keeps it"
        elif row.reason != BindingReason.LOADING_RATIO and abs(
            row.excess - over_alone[row.reason][row.step]
        ) > 1e-6 * max(1.0, abs(row.excess)):
            yield f"violation {row}: the excess is {over_alone[row.reason][row.step]:.6g}"
    for reason, over in over_alone.items():
        broken = np.flatnonzero(over > _TOLERANCE).tolist()
        if reason == BindingReason.LOSS_OF_LIFE:  # one row a day is enough
            of_days = {over[step] for known, step in told if known == reason}
            broken = [k for k in broken if over[k] not in of_days]
        for k in broken:
            if (reason, k) not in told:
                yield f"step {k}: the base load breaks {reason.name} by {over[k]:.6g}, which is not reported"


def _headroom_faults(
    problem: AllocationProblem, allocation: Allocation, name: str, condition: BoolArray | None
) -> Iterator[str]:
    """What is called headroom can be drawn on top of all capacities, in all steps at once."""
    headroom = np.asarray(getattr(allocation, name))
    if (headroom < 0.0).any():
        yield f"{name}: negative"
    if not (headroom > 0.0).any():
        return
    kw = problem.base.phase_kw + drawn_phase_kw(problem, allocation).sum(axis=0)
    on_top = _with_base(problem, kw + headroom[:, None] / 3.0)
    alone = _with_base(problem, kw)
    nothing = np.zeros_like(allocation.capacity_kw)
    found, before = stress(on_top, nothing, condition), stress(alone, nothing, condition)
    if (found.phase_kva > np.maximum(before.phase_kva, found.phase_limit_kva[:, None]) * (1 + 1e-6)).any():
        yield f"{name}: a phase is overloaded with it"
    limits = problem.transformer
    for what, now, then, limit in (
        ("hot-spot", found.hot_spot_c, before.hot_spot_c, np.float64(limits.max_hot_spot_c)),
        ("top oil", found.top_oil_c, before.top_oil_c, np.float64(limits.max_top_oil_c)),
        ("loss of life", found.day_loss_h, before.day_loss_h, found.day_limit_h),
    ):
        if (now > np.maximum(limit, then + _WORSENING) + 1e-5).any():
            yield f"{name}: the {what} is over its limit with it"


def _with_base(problem: AllocationProblem, phase_kw: FloatArray) -> AllocationProblem:
    """The problem with other active power; the state at the start stays that of the problem."""
    transformer = replace(problem.transformer, initial_state=ThermalState(*start(problem)))
    return replace(problem, base=replace(problem.base, phase_kw=phase_kw), transformer=transformer)


def _outcome_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    """Temperatures, ageing and loading are those of all hubs drawing their capacity."""
    found = stress(problem, allocation.capacity_kw, shares=shares_drawn(problem, allocation))
    expected = {
        "loading_ratio": 3.0 * found.phase_kva.max(axis=-1) / problem.transformer.rated_kva,
        "top_oil_c": found.heat.top_oil_c[:, -1],
        "hot_spot_c": found.hot_spot_c,
        "loss_of_life_h": found.heat.loss_of_life_h,
    }
    for name, values in expected.items():
        stated = np.asarray(getattr(allocation, name))
        if not np.allclose(stated, values, rtol=1e-6, atol=1e-6):
            yield f"{name}: off by up to {np.abs(stated - values).max():.6g}"
    end = allocation.final_state
    stated_end = np.array([end.top_oil_c, end.winding_gradient_c, end.oil_gradient_c])
    if not np.allclose(stated_end, found.heat.final_state, rtol=1e-6, atol=1e-6):
        yield f"final_state: {stated_end.tolist()}, not {found.heat.final_state.tolist()}"


def _firm_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    """Firm rights are there, or cannot be, in the same proportion for hubs alike, and what lacks is reported."""
    firm = np.array([firm_kw(hub) for hub in problem.hubs])
    lacks = firm - allocation.capacity_kw
    told = {(row.hub, row.step): row for row in allocation.violations if row.hub >= 0}
    over = excesses(problem, stress(problem, firm, shares=car_shares(problem)))
    broken = {reason: values > -1e-4 for reason, values in over.items()}
    later = np.zeros(problem.grid.step_count, dtype=np.bool_)
    for reason, at in broken.items():
        # Heat comes later than load, so that a temperature is lowered by the firm capacity of any step before.
        thermal = reason in (BindingReason.HOT_SPOT, BindingReason.TOP_OIL)
        later |= np.logical_or.accumulate(at[::-1])[::-1] if thermal else at
    for h, k in np.argwhere(lacks > _TOLERANCE * np.maximum(1.0, firm)).tolist():
        row = told.get((h, k))
        hub = problem.hubs[h]
        # Fewer cars than all load the phases unevenly.
        some = hub.phases_per_ev == 1 and firm[h, k] < hub.min_kw_per_ev * cars_connected(problem, hub)[k]
        if not later[k] and not some:
            yield f"hub {h}, step {k}: has {allocation.capacity_kw[h, k]:.6g} of firm {firm[h, k]:.6g} kW for no reason"
        if row is None:
            yield f"hub {h}, step {k}: firm capacity lacks {lacks[h, k]:.6g} kW, which is not reported"
        elif abs(row.excess - lacks[h, k]) > 1e-5 * max(1.0, firm[h, k]):
            yield f"violation {row}: firm capacity lacks {lacks[h, k]:.6g} kW"
    for (h, k), row in told.items():
        if lacks[h, k] <= 0.0:
            yield f"violation {row}: firm capacity is there"
    yield from _proportion_faults(problem, allocation, firm)


def _proportion_faults(problem: AllocationProblem, allocation: Allocation, firm: FloatArray) -> Iterator[str]:
    shares = phase_shares(problem.hubs)
    plain = np.array([hub.min_kw_per_ev == 0.0 and hub.phases_per_ev != 1 for hub in problem.hubs])
    for kind in np.unique(shares, axis=0):
        alike = np.flatnonzero(plain & (shares == kind).all(axis=1))
        for k in range(problem.grid.step_count):
            with_firm = alike[firm[alike, k] > 1e-6]
            ratio = np.minimum(1.0, allocation.capacity_kw[with_firm, k] / firm[with_firm, k])
            if len(ratio) and ratio.max() - ratio.min() > 1e-4:
                yield f"step {k}: firm capacity is cut to {ratio.min():.6g} here and {ratio.max():.6g} there"


def _sum_faults(problem: AllocationProblem, allocation: Allocation) -> Iterator[str]:
    """Fairness and objective follow from the hubs' figures."""
    wants = allocation.wanted_kwh > 1e-9
    ratio = allocation.served_kwh[wants] / allocation.wanted_kwh[wants]
    squares = float((ratio**2).sum())
    expected = float(ratio.sum()) ** 2 / (len(ratio) * squares) if squares > 0.0 else 1.0
    if abs(allocation.fairness_index - expected) > 1e-6:
        yield f"fairness_index: {allocation.fairness_index:.9g}, not {expected:.9g}"
    curtailed = float((allocation.wanted_kwh - allocation.served_kwh).sum())
    cost = problem.policy == AllocationPolicy.LEAST_COST
    objective = float(allocation.compensation.sum()) if cost else curtailed
    if abs(allocation.termination.objective - objective) > 1e-6 * max(1.0, abs(objective)):
        yield f"objective: {allocation.termination.objective:.9g}, not {objective:.9g}"
