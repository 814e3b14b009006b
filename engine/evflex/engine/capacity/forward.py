"""Capacity step by step: firm first, conditional by the policy, and nothing that breaks a limit now or later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.day_limits import day_of
from evflex.engine.capacity.hub_use import serve, urgent_kw, wanted_kw
from evflex.engine.capacity.lookahead import WITHIN, LaterLoad, Limits, largest_loading
from evflex.engine.capacity.minimums import cars_that_charge, spread_cars, take_turns
from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.capacity.sharing import share
from evflex.engine.capacity.thermal import ThermalConstants, ageing_rate, targets
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# As BindingReason has them.
_LOADING_RATIO, _CONTINGENCY, _ROTATION = 1, 2, 8


@dataclass(frozen=True, slots=True)
class LoadedTransformer:
    """The transformer as the forward pass sees it.

    Attributes:
        step_h: Length of a step in hours.
        rated_kva: Rated power.
        ratio_limit: Largest loading ratio of each step, (T,).
        contingency: Whether a step is in N-1, (T,).
        base_kw: Load without hubs on each phase, (T, 3).
        base_kvar: As above, (T, 3).
        ambient_c: (T,).
        constants: Of the thermal model.
        start: State at the beginning.
        horizon: Steps to look ahead; what is decided in a step has no weight after them.
    """

    step_h: float
    rated_kva: float
    ratio_limit: FloatArray
    contingency: BoolArray
    base_kw: FloatArray
    base_kvar: FloatArray
    ambient_c: FloatArray
    constants: ThermalConstants
    start: ThermalState
    horizon: int


@dataclass(frozen=True, slots=True)
class Room:
    """What must stay possible in a step and after it.

    Attributes:
        hot_spot_c: Largest hot-spot in the step itself, (T,).
        later: Load that comes after it whatever is decided.
        limits: Limits for that.
    """

    hot_spot_c: FloatArray
    later: LaterLoad
    limits: Limits


@dataclass(frozen=True, slots=True)
class Pass:
    """What a forward pass gives.

    Attributes:
        firm_kw: Firm capacity honoured, (T, H).
        capacity_kw: Most that each hub may draw, (T, H).
        phase_kw: The same on each phase, (T, H, 3).
        used_kw: Expected use, (T, H).
        cars_served: Cars that can charge at once, (T, H).
        reason: Why a hub got less than it wanted, 0 where it did not, (T, H).
        firm_reason: What cut firm capacity, 0 where nothing did, (T,).
        car_kw: Power of each car, (T, S).
        loading_ratio: Of the most loaded phase, (T,).
    """

    firm_kw: FloatArray
    capacity_kw: FloatArray
    phase_kw: FloatArray
    used_kw: FloatArray
    cars_served: IntArray
    reason: IntArray
    firm_reason: IntArray
    car_kw: FloatArray
    loading_ratio: FloatArray


def allocate_forward(
    transformer: LoadedTransformer, hubs: PreparedHubs, policy: int, for_firm: Room, for_conditional: Room
) -> Pass:
    """Allocate step by step.

    Args:
        transformer: The transformer.
        hubs: The hubs.
        policy: An :class:`AllocationPolicy`.
        for_firm: What firm capacity must leave possible; its top-oil and life limits hold in the step itself, too.
        for_conditional: What conditional capacity must leave possible.
    """
    steps, count = hubs.firm_kw.shape
    out = Pass(
        np.zeros((steps, count)), np.zeros((steps, count)), np.zeros((steps, count, 3)), np.zeros((steps, count)),
        np.zeros((steps, count), dtype=np.int64), np.zeros((steps, count), dtype=np.int64),
        np.zeros(steps, dtype=np.int64), np.zeros(hubs.car_most_kw.shape), np.zeros(steps),
    )  # fmt: skip
    constants, start = transformer.constants, transformer.start
    _forward(
        policy, transformer.step_h, transformer.rated_kva, transformer.ratio_limit, transformer.contingency,
        transformer.base_kw, transformer.base_kvar, transformer.ambient_c, constants.values, constants.inner_count,
        constants.inner_h, constants.upgraded, transformer.horizon,
        np.array([start.top_oil_c, start.winding_gradient_c, start.oil_gradient_c]),
        for_firm.hot_spot_c, for_firm.limits.hot_spot_c, for_firm.limits.top_oil_c, for_firm.limits.life_h,
        for_firm.later.oil_target_c, for_firm.later.gradient_k,
        for_conditional.hot_spot_c, for_conditional.limits.hot_spot_c, for_conditional.limits.top_oil_c,
        for_conditional.limits.life_h, for_conditional.later.oil_target_c, for_conditional.later.gradient_k,
        hubs.firm_kw, hubs.right_kw, hubs.most_kw, hubs.limited_by, hubs.demand_kw, hubs.cars, hubs.waitable_kwh,
        hubs.may_insist, hubs.spares, hubs.noticed_kw, hubs.min_kw, hubs.least_kw, hubs.weight, hubs.rank,
        hubs.phase_share, hubs.on_phase, hubs.spread, hubs.first_car, hubs.car_needed_kwh, hubs.car_most_kw,
        hubs.car_reach_kwh, hubs.car_waitable_kwh,
        out.firm_kw, out.capacity_kw, out.phase_kw, out.used_kw, out.cars_served, out.reason, out.firm_reason,
        out.car_kw, out.loading_ratio,
    )  # fmt: skip
    return out


@inner_kernel
def _set_room(ratio: float, rated_kva: float, base_kw: FloatArray, base_kvar: FloatArray, room_kw: FloatArray) -> None:
    """Power that can come on each phase until its apparent power is a third of ratio times rated."""
    most_kva = ratio * rated_kva / 3.0
    for f in range(3):
        room_kw[f] = np.sqrt(max(0.0, most_kva * most_kva - base_kvar[f] * base_kvar[f])) - base_kw[f]
        if abs(base_kvar[f]) > most_kva:
            room_kw[f] = min(room_kw[f], 0.0)


@inner_kernel
def _cut_to_room(power_kw: FloatArray, t: int, phase_share: FloatArray, room_kw: FloatArray) -> bool:
    """Scale powers, hubs of a phase alike, until each phase holds them; whether that cut anything."""
    cut = False
    for f in range(3):
        total = 0.0
        for h in range(power_kw.shape[0]):
            total += power_kw[h] * phase_share[t, h, f]
        if total > max(0.0, room_kw[f]):
            cut = True
            factor = max(0.0, room_kw[f]) / total
            for h in range(power_kw.shape[0]):
                if phase_share[t, h, f] > 0.0:
                    power_kw[h] *= factor
    return cut


@inner_kernel
def _loading_of_phases(rated_kva: float, base_kw: FloatArray, base_kvar: FloatArray, hubs_kw: FloatArray) -> float:
    """Loading ratio of the most loaded phase with power of hubs on each, (3,)."""
    most = 0.0
    for f in range(3):
        most = max(most, np.hypot(base_kw[f] + hubs_kw[f], base_kvar[f]))
    return 3.0 * most / rated_kva


@inner_kernel
def _loading(
    rated_kva: float, base_kw: FloatArray, base_kvar: FloatArray, t: int, power_kw: FloatArray, phase_share: FloatArray
) -> float:
    """Loading ratio of the most loaded phase with hubs of shares of the phases."""
    most = 0.0
    for f in range(3):
        total = base_kw[f]
        for h in range(power_kw.shape[0]):
            total += power_kw[h] * phase_share[t, h, f]
        most = max(most, np.hypot(total, base_kvar[f]))
    return 3.0 * most / rated_kva


@kernel
def _forward(
    policy: int,
    step_h: float,
    rated_kva: float,
    ratio_limit: FloatArray,
    contingency: BoolArray,
    base_kw: FloatArray,
    base_kvar: FloatArray,
    ambient_c: FloatArray,
    constants: FloatArray,
    inner_count: int,
    inner_h: float,
    upgraded: bool,
    horizon: int,
    state: FloatArray,
    firm_hot_spot_c: FloatArray,
    base_hot_spot_limit_c: FloatArray,
    base_top_oil_limit_c: FloatArray,
    base_life_limit_h: FloatArray,
    base_oil_target_c: FloatArray,
    base_gradient_k: FloatArray,
    conditional_hot_spot_c: FloatArray,
    reserved_hot_spot_limit_c: FloatArray,
    reserved_top_oil_limit_c: FloatArray,
    reserved_life_limit_h: FloatArray,
    reserved_oil_target_c: FloatArray,
    reserved_gradient_k: FloatArray,
    reserved_kw: FloatArray,
    right_kw: FloatArray,
    most_kw: FloatArray,
    limited_by: IntArray,
    demand_kw: FloatArray,
    cars: IntArray,
    waitable_kwh: FloatArray,
    may_insist: BoolArray,
    spares: BoolArray,
    noticed_kw: FloatArray,
    min_kw: FloatArray,
    least_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    phase_share: FloatArray,
    on_phase: FloatArray,
    spread: BoolArray,
    first_car: IntArray,
    car_needed_kwh: FloatArray,
    car_most_kw: FloatArray,
    car_reach_kwh: FloatArray,
    car_waitable_kwh: FloatArray,
    firm_kw: FloatArray,
    capacity_kw: FloatArray,
    phase_kw: FloatArray,
    used_kw: FloatArray,
    cars_served: IntArray,
    reason: IntArray,
    firm_reason: IntArray,
    car_kw: FloatArray,
    loading_ratio: FloatArray,
) -> None:
    steps, count = firm_kw.shape
    steps_per_day = 24.0 / step_h
    backlog_kwh, car_left_kwh = np.zeros(count), car_needed_kwh.copy()
    credit_kwh, trial_credit_kwh = np.zeros(count), np.zeros(count)
    wanted, floor, most = np.empty(count), np.empty(count), np.empty(count)
    usable, shared, power = np.empty(count), np.empty(count), np.empty(count)
    waits = np.zeros(count, dtype=np.bool_)
    room, free, drawn = np.empty(3), np.empty(3), np.empty(3)
    top_oil, winding, gradient = state[0], state[1], state[2]
    lost_today_h, today = 0.0, 0
    for t in range(steps):
        if day_of(t, steps_per_day) != today:
            lost_today_h, today = 0.0, day_of(t, steps_per_day)
        by_loading = _CONTINGENCY if contingency[t] else _LOADING_RATIO

        # firm capacity: within the loading limit, then within what the base load after this step leaves
        firm = firm_kw[t]
        firm[:] = reserved_kw[t]
        most_ratio = ratio_limit[t]
        _set_room(most_ratio, rated_kva, base_kw[t], base_kvar[t], room)
        if _cut_to_room(firm, t, phase_share, room):
            firm_reason[t] = by_loading
        ratio, limited = largest_loading(
            constants, inner_count, inner_h, upgraded, steps_per_day, t,
            _loading(rated_kva, base_kw[t], base_kvar[t], t, firm, phase_share), top_oil, winding, gradient,
            lost_today_h, ambient_c, firm_hot_spot_c, base_top_oil_limit_c, base_hot_spot_limit_c, base_top_oil_limit_c,
            base_life_limit_h, base_oil_target_c, base_gradient_k, horizon,
        )  # fmt: skip
        by_transformer = by_loading
        if limited != WITHIN:
            firm_reason[t] = by_transformer = limited
            most_ratio = ratio
            _set_room(most_ratio, rated_kva, base_kw[t], base_kvar[t], room)
            _cut_to_room(firm, t, phase_share, room)

        # what each hub wants now, and would lose by waiting
        for h in range(count):
            wanted[h] = wanted_kw(
                h, t, step_h, backlog_kwh, demand_kw, cars, first_car, car_left_kwh, car_most_kw
            )  # fmt: skip
            urgent = urgent_kw(
                h, t, step_h, backlog_kwh, demand_kw, waitable_kwh, first_car, car_left_kwh, car_most_kw,
                car_waitable_kwh,
            )  # fmt: skip
            needs = max(wanted[h], min_kw[h]) if wanted[h] > least_kw[h] else 0.0
            noticed = min(noticed_kw[t, h], most_kw[t, h])
            usable[h] = max(min(needs, most_kw[t, h]), noticed)
            most[h] = max(0.0, usable[h] - firm[h])
            floor[h] = min(
                most[h], max(0.0, max(min(urgent, wanted[h]) if may_insist[t, h] else 0.0, noticed) - firm[h])
            )
            if spares[t]:
                most[h] = floor[h]
                usable[h] = max(usable[h] if floor[h] > 0.0 else 0.0, noticed)

        # conditional capacity: within the loading limit, then within what is reserved after this step
        for attempt in range(2):
            _set_room(most_ratio, rated_kva, base_kw[t], base_kvar[t], room)
            for f in range(3):
                free[f] = room[f]
                for h in range(count):
                    free[f] -= firm[h] * phase_share[t, h, f]
                # firm capacity stays where heat leaves no room for more
                room[f] -= min(0.0, free[f])
            share(policy, free, phase_share[t], floor, most, weight, rank, shared)
            trial_credit_kwh[:] = credit_kwh
            for h in range(count):
                power[h] = firm[h] + shared[h]
            if take_turns(t, step_h, room, min_kw, usable, phase_share, trial_credit_kwh, power, waits) > 0:
                _share_what_is_left(
                    policy, t, room, firm, most, weight, rank, phase_share, waits, power, free, shared
                )  # fmt: skip
            for f in range(3):
                drawn[f] = 0.0
                for h in range(count):
                    phase_kw[t, h, f] = power[h] * phase_share[t, h, f]
                    drawn[f] += phase_kw[t, h, f]
            for h in range(count):
                if not spread[h] or cars[t, h] <= 0 or power[h] == 0.0:
                    continue
                for f in range(3):
                    drawn[f] -= phase_kw[t, h, f]
                    free[f] = room[f] - drawn[f]
                power[h] = spread_cars(free, on_phase[h], cars[t, h], min_kw[h], power[h], phase_kw[t, h])
                for f in range(3):
                    drawn[f] += phase_kw[t, h, f]
            ratio = _loading_of_phases(rated_kva, base_kw[t], base_kvar[t], drawn)
            if attempt == 1:
                break
            most_ratio, limited = largest_loading(
                constants, inner_count, inner_h, upgraded, steps_per_day, t, ratio, top_oil, winding, gradient,
                lost_today_h, ambient_c, conditional_hot_spot_c, base_top_oil_limit_c, reserved_hot_spot_limit_c,
                reserved_top_oil_limit_c, reserved_life_limit_h, reserved_oil_target_c, reserved_gradient_k, horizon,
            )  # fmt: skip
            if limited == WITHIN:
                break
            by_transformer = limited

        # the hubs use what they got, and keep no more than they use or have a right to
        credit_kwh[:] = trial_credit_kwh
        for h in range(count):
            used_kw[t, h] = serve(
                h, t, step_h, power[h], min_kw[h], backlog_kwh, demand_kw, cars, first_car, car_left_kwh,
                car_most_kw, car_reach_kwh, car_kw,
            )  # fmt: skip
            cars_served[t, h] = cars_that_charge(power[h], min_kw[h], cars[t, h])
            if wanted[h] > used_kw[t, h] + least_kw[h]:
                reason[t, h] = by_transformer
                if waits[h] or used_kw[t, h] < power[h] - least_kw[h]:
                    reason[t, h] = _ROTATION
                elif power[h] >= most_kw[t, h] - least_kw[h]:
                    reason[t, h] = limited_by[t, h]
            right = min(firm[h], right_kw[t, h])
            kept = max(right if right >= min_kw[h] else 0.0, min(noticed_kw[t, h], most_kw[t, h]))
            if used_kw[t, h] > 0.0:
                kept = max(kept, used_kw[t, h], min_kw[h])
            if kept < power[h]:
                for f in range(3):
                    drawn[f] -= phase_kw[t, h, f]
                    free[f] = room[f] - drawn[f]
                    phase_kw[t, h, f] *= kept / power[h]
                power[h] = kept
                cars_served[t, h] = cars_that_charge(kept, min_kw[h], cars[t, h])
                if spread[h] and 0 < cars_served[t, h] <= cars[t, h]:
                    power[h] = spread_cars(free, on_phase[h], cars[t, h], min_kw[h], kept, phase_kw[t, h])
                    used_kw[t, h] = min(used_kw[t, h], power[h])
                for f in range(3):
                    drawn[f] += phase_kw[t, h, f]
            capacity_kw[t, h] = power[h]

        # and the transformer warms up as if they used all of it
        ratio = _loading_of_phases(rated_kva, base_kw[t], base_kvar[t], drawn)
        loading_ratio[t] = ratio
        rise, hot_spot_gradient = targets(constants[0], constants[1], constants[2], constants[3], constants[4], ratio)
        oil_target, winding_target = ambient_c[t] + rise, constants[5] * hot_spot_gradient
        gradient_target = winding_target - hot_spot_gradient
        for _ in range(inner_count):
            top_oil = oil_target + constants[6] * (top_oil - oil_target)
            winding = winding_target + constants[7] * (winding - winding_target)
            gradient = gradient_target + constants[8] * (gradient - gradient_target)
            if base_life_limit_h[0] < np.inf:
                lost_today_h += ageing_rate(top_oil + winding - gradient, upgraded) * inner_h


@inner_kernel
def _share_what_is_left(
    policy: int,
    t: int,
    room_kw: FloatArray,
    firm_kw: FloatArray,
    most_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    phase_share: FloatArray,
    waits: BoolArray,
    power_kw: FloatArray,
    free_kw: FloatArray,
    shared_kw: FloatArray,
) -> None:
    """Share what the hubs that wait leave between those that do not."""
    count = power_kw.shape[0]
    has_kw, may_kw = np.zeros(count), np.zeros(count)
    for f in range(3):
        free_kw[f] = room_kw[f]
    for h in range(count):
        if waits[h] or power_kw[h] == 0.0:
            continue
        has_kw[h] = max(0.0, power_kw[h] - firm_kw[h])
        may_kw[h] = max(most_kw[h], has_kw[h])
        for f in range(3):
            free_kw[f] -= (power_kw[h] - has_kw[h]) * phase_share[t, h, f]
    share(policy, free_kw, phase_share[t], has_kw, may_kw, weight, rank, shared_kw)
    for h in range(count):
        if may_kw[h] > 0.0:
            power_kw[h] += max(0.0, shared_kw[h] - has_kw[h])
