"""Powers of 0 or at least one car's minimum: shares that do not reach it are pooled, and hubs take turns."""

from __future__ import annotations

from evflex.engine.capacity.hub_use import LEAST_KW
from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@inner_kernel
def cars_that_charge(power_kw: float, min_kw: float, cars: int) -> int:
    """Cars that can charge at once with a power; 0 where there is none, or neither minimum nor number is known."""
    if power_kw <= LEAST_KW:
        return 0
    if min_kw <= 0.0:
        return max(cars, 0)
    most = int(power_kw / min_kw + 1e-9)
    return most if cars < 0 else min(cars, most)


@inner_kernel
def take_turns(
    step_h: float,
    room_kw: FloatArray,
    min_kw: FloatArray,
    most_kw: FloatArray,
    phase_share: FloatArray,
    credit_kwh: FloatArray,
    power_kw: FloatArray,
    waits: BoolArray,
) -> int:
    """Raise hubs below the minimum of a car to it, those with most credit first, and set the others to 0.

    A hub earns the energy that its share would have been, and pays for what it gets; so over time each gets its share.

    Args:
        step_h: Length of a step in hours.
        room_kw: Power for all hubs on L1, L2, L3, (3,).
        min_kw: Least power of a car, (H,).
        most_kw: What a hub may and can use, at least the minimum where it can use anything, (H,).
        phase_share: (H, 3).
        credit_kwh: Of each hub; moved, (H,).
        power_kw: Share of each hub; replaced by what it gets, (H,).
        waits: Filled with whether it is another hub's turn, (H,).

    Returns:
        Number of hubs whose power changed.
    """
    count, changed = power_kw.shape[0], 0
    left_kw = room_kw.copy()
    for h in range(count):
        waits[h] = 0.0 < power_kw[h] < min_kw[h] - LEAST_KW
        if waits[h]:
            changed += 1
            credit_kwh[h] += power_kw[h] * step_h
            power_kw[h] = 0.0
        for f in range(3):
            left_kw[f] -= power_kw[h] * phase_share[h, f]
    for _ in range(changed):
        best = -1
        for h in range(count):
            if not waits[h] or most_kw[h] < min_kw[h] - LEAST_KW:
                continue
            if (best < 0 or credit_kwh[h] > credit_kwh[best]) and _fits(min_kw[h], phase_share[h], left_kw):
                best = h
        if best < 0:
            break
        waits[best] = False
        power_kw[best] = min_kw[best]
        credit_kwh[best] -= min_kw[best] * step_h
        for f in range(3):
            left_kw[f] -= min_kw[best] * phase_share[best, f]
    return changed


@inner_kernel
def begin_with_what_is_left(
    room_kw: FloatArray,
    min_kw: FloatArray,
    most_kw: FloatArray,
    rank: IntArray,
    phase_share: FloatArray,
    power_kw: FloatArray,
    waits: BoolArray,
) -> int:
    """Give the minimum of a car to hubs that have nothing, where the others leave so much; returns to how many.

    Arguments as of :func:`take_turns`; ``rank`` says who is first.
    """
    count, begun = power_kw.shape[0], 0
    left_kw = room_kw.copy()
    for h in range(count):
        for f in range(3):
            left_kw[f] -= power_kw[h] * phase_share[h, f]
    while True:
        best = -1
        for h in range(count):
            if power_kw[h] > 0.0 or min_kw[h] == 0.0 or most_kw[h] < max(min_kw[h] - LEAST_KW, LEAST_KW):
                continue
            if (best < 0 or rank[h] < rank[best]) and _fits(min_kw[h], phase_share[h], left_kw):
                best = h
        if best < 0:
            return begun
        begun += 1
        waits[best] = False
        power_kw[best] = min_kw[best]
        for f in range(3):
            left_kw[f] -= min_kw[best] * phase_share[best, f]


@inner_kernel
def _fits(power_kw: float, phase_share: FloatArray, left_kw: FloatArray) -> bool:
    """Whether a power of shares of the phases, (3,), fits what is left of each."""
    fits = True
    for f in range(3):
        fits &= power_kw * phase_share[f] <= left_kw[f] + LEAST_KW
    return fits


@inner_kernel
def spread_cars(
    room_kw: FloatArray,
    on_phase: FloatArray,
    cars: int,
    min_kw: float,
    power_kw: float,
    phase_kw: FloatArray,
) -> tuple[float, int]:
    """Put single-phase cars of a hub that charge, all of those connected or fewer, onto the phases with most room.

    Args:
        room_kw: Power for this hub on L1, L2, L3, (3,).
        on_phase: Phases of the hub, (3,).
        cars: Cars connected, spread over the phases in turn.
        min_kw: Least power of a car.
        power_kw: Power of the hub.
        phase_kw: Filled with the hub's power on each phase, (3,).

    Returns:
        Power that fits, at most ``power_kw``, 0 or at least the minimum, and the number of cars that charge with it.
    """
    phases = int(on_phase.sum())
    for charging in range(cars_that_charge(power_kw, min_kw, cars), 0, -1):
        each_kw = power_kw / charging
        place = 0
        for f in range(3):
            phase_kw[f] = 0.0
        for _ in range(charging):
            best, place = -1, 0
            for f in range(3):
                if on_phase[f] == 0.0:
                    continue
                on_this = (cars + phases - 1 - place) // phases
                place += 1
                has_one = phase_kw[f] + 0.5 * each_kw < on_this * each_kw
                if has_one and (best < 0 or room_kw[f] - phase_kw[f] > room_kw[best] - phase_kw[best]):
                    best = f
            phase_kw[best] += each_kw
        fitting = 1.0
        for f in range(3):
            if phase_kw[f] > 0.0:
                fitting = min(fitting, max(0.0, room_kw[f]) / phase_kw[f])
        if fitting * each_kw >= min_kw - LEAST_KW:
            for f in range(3):
                phase_kw[f] *= fitting
            return fitting * power_kw, charging
    for f in range(3):
        phase_kw[f] = 0.0
    return 0.0, 0


@inner_kernel
def keep_fewer(kept_kw: float, min_kw: float, charging: int, phase_kw: FloatArray) -> tuple[float, int]:
    """Lower a hub's power to what it keeps; of cars spread over phases those on the fullest phase stop, one by one.

    Args:
        kept_kw: Power that it keeps, below that of ``phase_kw``, 0 or at least the minimum.
        min_kw: Least power of a car.
        charging: Cars that charge, each with the same power.
        phase_kw: The hub's power on each phase; lowered, (3,).

    Returns:
        Power that is left, at most ``kept_kw``, and the number of cars that charge with it.
    """
    power_kw = phase_kw[0] + phase_kw[1] + phase_kw[2]
    each_kw = power_kw / charging
    while charging > 1 and charging * min_kw > kept_kw + LEAST_KW:
        fullest = 0
        for f in range(1, 3):
            if phase_kw[f] > phase_kw[fullest] + 0.5 * each_kw:
                fullest = f
        phase_kw[fullest] = max(0.0, phase_kw[fullest] - each_kw)
        charging -= 1
    power_kw = charging * each_kw
    factor = min(1.0, kept_kw / power_kw)
    for f in range(3):
        # a phase without cars holds the rest of a subtraction
        phase_kw[f] = phase_kw[f] * factor if phase_kw[f] > 0.5 * each_kw else 0.0
    return power_kw * factor, charging if kept_kw > LEAST_KW else 0
