"""What happens in a step: what hubs want, how conditional capacity is shared, and what they use of it."""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.hub_use import use
from evflex.engine.capacity.minimums import (
    begin_with_what_is_left,
    cars_that_charge,
    keep_fewer,
    spread_cars,
    take_turns,
)
from evflex.engine.capacity.sharing import share
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@inner_kernel
def set_wants(
    t: int,
    step_h: float,
    backlog_kwh: FloatArray,
    demand_kw: FloatArray,
    cars: IntArray,
    waitable_kwh: FloatArray,
    may_insist: BoolArray,
    spares: bool,
    noticed_kw: FloatArray,
    most_kw: FloatArray,
    min_kw: FloatArray,
    least_kw: FloatArray,
    first_car: IntArray,
    car_left_kwh: FloatArray,
    car_most_kw: FloatArray,
    car_waitable_kwh: FloatArray,
    firm_kw: FloatArray,
    wanted_kw: FloatArray,
    usable_kw: FloatArray,
    extra_kw: FloatArray,
    floor_kw: FloatArray,
) -> None:
    """What each hub could use now, may use of that, and of this beyond firm capacity: at most, and without waiting."""
    for h in range(wanted_kw.shape[0]):
        # written out: each call here would count the references of a dozen arrays
        wanted_kw[h], urgent_kw = 0.0, 0.0
        if first_car[h + 1] == first_car[h]:
            wanted_kw[h] = backlog_kwh[h] / step_h + demand_kw[t, h] if cars[t, h] != 0 else 0.0
            urgent_kw = max(0.0, (backlog_kwh[h] - waitable_kwh[t, h]) / step_h + demand_kw[t, h])
        for j in range(first_car[h], first_car[h + 1]):
            wanted_kw[h] += min(car_most_kw[t, j], car_left_kwh[j] / step_h)
            late_kw = (car_left_kwh[j] - car_waitable_kwh[t, j]) / step_h
            urgent_kw += min(car_most_kw[t, j], max(0.0, late_kw))
        # an agreement that does not reach the minimum of a car is of no use
        may_kw = most_kw[t, h] if most_kw[t, h] >= min_kw[h] else 0.0
        needs_kw = max(wanted_kw[h], min_kw[h]) if wanted_kw[h] > least_kw[h] else 0.0
        noticed_now_kw = min(noticed_kw[t, h], may_kw)
        usable_kw[h] = max(min(needs_kw, may_kw), noticed_now_kw)
        extra_kw[h] = max(0.0, usable_kw[h] - firm_kw[h])
        insists_kw = min(urgent_kw, wanted_kw[h]) if may_insist[t, h] else 0.0
        floor_kw[h] = min(extra_kw[h], max(0.0, max(insists_kw, noticed_now_kw) - firm_kw[h]))
        if spares:
            extra_kw[h] = floor_kw[h]
            usable_kw[h] = max(usable_kw[h] if floor_kw[h] > 0.0 else 0.0, noticed_now_kw)


@inner_kernel
def share_step(
    policy: int,
    t: int,
    step_h: float,
    room_kw: FloatArray,
    free_kw: FloatArray,
    given_kw: FloatArray,
    floor_kw: FloatArray,
    extra_kw: FloatArray,
    usable_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    shares: FloatArray,
    on_phase: FloatArray,
    spread: BoolArray,
    cars: IntArray,
    min_kw: FloatArray,
    credit_kwh: FloatArray,
    waits: BoolArray,
    shared_kw: FloatArray,
    power_kw: FloatArray,
    phase_kw: FloatArray,
    cars_served: IntArray,
    drawn_kw: FloatArray,
) -> None:
    """Share the room on the phases: on top of what is given, 0 or at least a car's minimum, in whole cars."""
    count = power_kw.shape[0]
    for f in range(3):
        free_kw[f] = room_kw[f]
        for h in range(count):
            free_kw[f] -= given_kw[h] * shares[h, f]
        # firm capacity stays where heat leaves no room for more
        room_kw[f] -= min(0.0, free_kw[f])
    share(policy, free_kw, shares, floor_kw, extra_kw, weight, rank, shared_kw)
    for h in range(count):
        power_kw[h] = given_kw[h] + shared_kw[h]
    for stage in range(2 if min_kw.any() else 0):
        if stage == 0:
            changed = take_turns(step_h, room_kw, min_kw, usable_kw, shares, credit_kwh, power_kw, waits)
        else:
            changed = begin_with_what_is_left(room_kw, min_kw, usable_kw, rank, shares, power_kw, waits)
        if changed > 0:
            _share_what_is_left(
                policy, room_kw, given_kw, extra_kw, weight, rank, shares, waits, power_kw, free_kw, shared_kw
            )
    for f in range(3):
        drawn_kw[f] = 0.0
        for h in range(count):
            phase_kw[t, h, f] = power_kw[h] * shares[h, f]
            drawn_kw[f] += phase_kw[t, h, f]
    for h in range(count):
        cars_served[t, h] = cars_that_charge(power_kw[h], min_kw[h], cars[t, h])
        if not spread[h] or cars_served[t, h] == 0 or cars[t, h] <= 0:
            continue
        for f in range(3):
            drawn_kw[f] -= phase_kw[t, h, f]
            free_kw[f] = room_kw[f] - drawn_kw[f]
        power_kw[h], cars_served[t, h] = spread_cars(
            free_kw, on_phase[h], cars[t, h], min_kw[h], power_kw[h], phase_kw[t, h]
        )
        for f in range(3):
            drawn_kw[f] += phase_kw[t, h, f]


@inner_kernel
def _share_what_is_left(
    policy: int,
    room_kw: FloatArray,
    given_kw: FloatArray,
    most_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    shares: FloatArray,
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
        has_kw[h] = max(0.0, power_kw[h] - given_kw[h])
        may_kw[h] = max(most_kw[h], has_kw[h])
        for f in range(3):
            free_kw[f] -= (power_kw[h] - has_kw[h]) * shares[h, f]
    share(policy, free_kw, shares, has_kw, may_kw, weight, rank, shared_kw)
    for h in range(count):
        if may_kw[h] > 0.0:
            power_kw[h] += max(0.0, shared_kw[h] - has_kw[h])


@inner_kernel
def use_step(
    t: int,
    step_h: float,
    backlog_kwh: FloatArray,
    demand_kw: FloatArray,
    cars: IntArray,
    min_kw: FloatArray,
    least_kw: FloatArray,
    first_car: IntArray,
    car_left_kwh: FloatArray,
    car_most_kw: FloatArray,
    car_reach_kwh: FloatArray,
    right_kw: FloatArray,
    noticed_kw: FloatArray,
    most_kw: FloatArray,
    spread: BoolArray,
    firm_kw: FloatArray,
    power_kw: FloatArray,
    phase_kw: FloatArray,
    cars_served: IntArray,
    used_kw: FloatArray,
    car_kw: FloatArray,
    drawn_kw: FloatArray,
    given_kw: FloatArray,
    usable_kw: FloatArray,
    extra_kw: FloatArray,
    floor_kw: FloatArray,
    unused: BoolArray,
) -> bool:
    """Hubs use what they got, and keep no more than they use or have a right to; whether that leaves anything.

    A hub that leaves something is asked for no more than it keeps when the step is shared again.
    """
    left_over = False
    for h in range(power_kw.shape[0]):
        right = min(firm_kw[h], right_kw[t, h])
        right = max(right if right >= min_kw[h] else 0.0, min(noticed_kw[t, h], most_kw[t, h]))
        right = right if right >= min_kw[h] else 0.0
        got_kw = power_kw[h]
        used_kw[t, h] = use(
            h, t, step_h, got_kw, min_kw[h], backlog_kwh, demand_kw, cars, first_car, car_left_kwh, car_most_kw,
            car_reach_kwh, car_kw,
        )  # fmt: skip
        kept = max(right, used_kw[t, h], min_kw[h]) if used_kw[t, h] > least_kw[h] else right
        if kept >= got_kw:
            continue
        for _ in range(max(1, cars_served[t, h])):
            for f in range(3):
                drawn_kw[f] -= phase_kw[t, h, f]
            if spread[h] and cars_served[t, h] > 0 and cars[t, h] > 0:
                power_kw[h], cars_served[t, h] = keep_fewer(kept, min_kw[h], cars_served[t, h], phase_kw[t, h])
            else:
                for f in range(3):
                    phase_kw[t, h, f] *= kept / power_kw[h]
                power_kw[h] = kept
                cars_served[t, h] = cars_that_charge(kept, min_kw[h], cars[t, h])
            for f in range(3):
                drawn_kw[f] += phase_kw[t, h, f]
            if used_kw[t, h] <= power_kw[h]:
                break
            # whole cars on their phases may be left with less than the hub would use
            used_kw[t, h] = use(
                h, t, step_h, power_kw[h], min_kw[h], backlog_kwh, demand_kw, cars, first_car, car_left_kwh,
                car_most_kw, car_reach_kwh, car_kw,
            )  # fmt: skip
            kept = max(right, used_kw[t, h], min_kw[h]) if used_kw[t, h] > least_kw[h] else right
            if kept >= power_kw[h]:
                break
        if power_kw[h] < got_kw - least_kw[h]:
            left_over, unused[h] = True, True
            given_kw[h] = min(given_kw[h], power_kw[h])
            usable_kw[h] = power_kw[h]
            extra_kw[h] = power_kw[h] - given_kw[h]
            floor_kw[h] = min(floor_kw[h], extra_kw[h])
    return left_over
