"""Capacity step by step: firm first, conditional by the policy, and nothing that breaks a limit now or later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.day_limits import day_of
from evflex.engine.capacity.hub_use import settle
from evflex.engine.capacity.lookahead import WITHIN, LaterLoad, Limits, largest_loading
from evflex.engine.capacity.phase_room import cut_to_room, loading_of_hubs, loading_of_phases, set_room
from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.capacity.step import set_wants, share_step, use_step
from evflex.engine.capacity.thermal import ThermalConstants, ageing_rate, targets
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# As BindingReason has them.
_LOADING_RATIO, _CONTINGENCY, _ROTATION = 1, 2, 8
# Times that what hubs cannot use in a step is shared again.
_MOST_ROUNDS = 4


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
    credit_kwh, credit_after_kwh = np.zeros(count), np.zeros(count)
    wanted_kw, floor_kw, extra_kw, usable_kw = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    given_kw, power_kw, shared_kw, shares = np.empty(count), np.empty(count), np.empty(count), np.empty((count, 3))
    waits, unused = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    room_kw, free_kw, drawn_kw = np.empty(3), np.empty(3), np.empty(3)
    top_oil_c, winding_k, gradient_k = state[0], state[1], state[2]
    lost_today_h, today = 0.0, 0
    for t in range(steps):
        if day_of(t, steps_per_day) != today:
            lost_today_h, today = 0.0, day_of(t, steps_per_day)
        limited_by_loading = _CONTINGENCY if contingency[t] else _LOADING_RATIO
        shares[:] = phase_share[t]

        # firm capacity: within the loading limit, then within what the base load after this step leaves
        firm, ceiling, by_transformer = firm_kw[t], ratio_limit[t], limited_by_loading
        firm[:] = reserved_kw[t]
        set_room(ceiling, rated_kva, base_kw[t], base_kvar[t], room_kw)
        if cut_to_room(firm, shares, room_kw):
            firm_reason[t] = limited_by_loading
        allowed, limited = largest_loading(
            constants, inner_count, inner_h, upgraded, steps_per_day, t,
            loading_of_hubs(rated_kva, base_kw[t], base_kvar[t], firm, shares), top_oil_c, winding_k, gradient_k,
            lost_today_h, ambient_c, firm_hot_spot_c, base_top_oil_limit_c, base_hot_spot_limit_c, base_top_oil_limit_c,
            base_life_limit_h, base_oil_target_c, base_gradient_k, horizon,
        )  # fmt: skip
        if limited != WITHIN:
            ceiling, by_transformer = allowed, limited
            firm_reason[t] = limited
            set_room(ceiling, rated_kva, base_kw[t], base_kvar[t], room_kw)
            cut_to_room(firm, shares, room_kw)

        set_wants(
            t, step_h, backlog_kwh, demand_kw, cars, waitable_kwh, may_insist, spares[t], noticed_kw, most_kw, min_kw,
            least_kw, first_car, car_left_kwh, car_most_kw, car_waitable_kwh, firm, wanted_kw, usable_kw, extra_kw,
            floor_kw,
        )  # fmt: skip

        # conditional capacity: within the loading limit, then within what is reserved after this step; what hubs cannot
        # use of their share is shared again
        given_kw[:] = firm
        unused[:] = False
        within_heat, rounds = False, 0
        while True:
            set_room(ceiling, rated_kva, base_kw[t], base_kvar[t], room_kw)
            credit_after_kwh[:] = credit_kwh
            share_step(
                policy, t, step_h, room_kw, free_kw, given_kw, floor_kw, extra_kw, usable_kw, weight, rank, shares,
                on_phase, spread, cars, min_kw, credit_after_kwh, waits, shared_kw, power_kw, phase_kw, cars_served,
                drawn_kw,
            )  # fmt: skip
            if not within_heat:
                allowed, limited = largest_loading(
                    constants, inner_count, inner_h, upgraded, steps_per_day, t,
                    loading_of_phases(rated_kva, base_kw[t], base_kvar[t], drawn_kw), top_oil_c, winding_k, gradient_k,
                    lost_today_h, ambient_c, conditional_hot_spot_c, base_top_oil_limit_c, reserved_hot_spot_limit_c,
                    reserved_top_oil_limit_c, reserved_life_limit_h, reserved_oil_target_c, reserved_gradient_k,
                    horizon,
                )  # fmt: skip
                if limited != WITHIN:
                    ceiling, by_transformer, within_heat = allowed, limited, True
                    continue
            left_over = use_step(
                t, step_h, backlog_kwh, demand_kw, cars, min_kw, least_kw, first_car, car_left_kwh, car_most_kw,
                car_reach_kwh, right_kw, noticed_kw, most_kw, spread, firm, power_kw, phase_kw, cars_served, used_kw,
                car_kw, drawn_kw, given_kw, usable_kw, extra_kw, floor_kw, unused,
            )  # fmt: skip
            rounds += 1
            if not left_over or rounds > _MOST_ROUNDS:
                break

        credit_kwh[:] = credit_after_kwh
        for h in range(count):
            capacity_kw[t, h] = power_kw[h]
            settle(h, t, step_h, used_kw[t, h], backlog_kwh, demand_kw, first_car, car_left_kwh, car_kw)
            if wanted_kw[h] > used_kw[t, h] + least_kw[h]:
                reason[t, h] = by_transformer
                if power_kw[h] >= most_kw[t, h] - least_kw[h] or most_kw[t, h] < min_kw[h]:
                    reason[t, h] = limited_by[t, h]
                elif waits[h] or unused[h]:
                    reason[t, h] = _ROTATION

        # and the transformer warms up as if they used all of it
        loading_ratio[t] = loading_of_phases(rated_kva, base_kw[t], base_kvar[t], drawn_kw)
        rise_k, hot_spot_gradient_k = targets(
            constants[0], constants[1], constants[2], constants[3], constants[4], loading_ratio[t]
        )
        oil_target_c, winding_target_k = ambient_c[t] + rise_k, constants[5] * hot_spot_gradient_k
        gradient_target_k = winding_target_k - hot_spot_gradient_k
        for _ in range(inner_count):
            top_oil_c = oil_target_c + constants[6] * (top_oil_c - oil_target_c)
            winding_k = winding_target_k + constants[7] * (winding_k - winding_target_k)
            gradient_k = gradient_target_k + constants[8] * (gradient_k - gradient_target_k)
            if base_life_limit_h[0] < np.inf:
                lost_today_h += ageing_rate(top_oil_c + winding_k - gradient_k, upgraded) * inner_h
