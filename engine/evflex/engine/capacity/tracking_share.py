"""Capacity that hubs should have now: firm first, then conditional by the policy, and turns where shares are too small.

A hub gets nothing or at least the minimum of one car. Hubs whose firm and conditional share together stay below it
pool their shares: each collects what it was not given as credit (kWh), and who has most is served with its minimum
for a turn. What the pool leaves is shared again between those that are served, so nothing is lost.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.capacity.sharing import share
from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_PROPORTIONAL = int(AllocationPolicy.PROPORTIONAL)
# A turn is shortened until all that wait have had one within this time, but not below the least that a car needs.
_ALL_SERVED_WITHIN_S, _SHORTEST_TURN_S = 3000.0, 10.0
# Credit is bounded by so long without a turn, so that a hub that could not be served does not block others for hours.
_LONGEST_CREDIT_S = 3600.0
# Kept free, so that rounding in sums never overfills a phase; below a watt.
_ROUNDING = 1e-9


@kernel
def share_firm(
    free_kw: FloatArray, cut_kw: float, phase_share: FloatArray, firm_kw: FloatArray, rank: IntArray,
    given_kw: FloatArray,
) -> bool:  # fmt: skip
    """Fill ``given_kw`` with firm capacity, cut in the same proportion on each full phase; True when all is given.

    Args:
        free_kw: What L1, L2, L3 can carry, (3,).
        cut_kw: Most that all hubs together may draw; infinite for none.
        phase_share: Share of each hub on each phase, (H, 3).
        firm_kw: Firm capacity, (H,).
        rank: Of no effect here, (H,).
        given_kw: Filled, (H,).
    """
    hubs = firm_kw.shape[0]
    fits = True
    for f in range(3):
        total = 0.0
        for h in range(hubs):
            total += phase_share[h, f] * firm_kw[h]
        fits &= total <= max(free_kw[f], 0.0)
    given_kw[:] = firm_kw
    if not fits:
        share(_PROPORTIONAL, free_kw, phase_share, np.zeros(hubs), firm_kw, np.ones(hubs), rank, given_kw)
    total = given_kw.sum()
    if total > cut_kw:
        given_kw *= (1.0 - _ROUNDING) * cut_kw / total
        return False
    return fits


@kernel
def share_all(
    policy: int,
    free_kw: FloatArray,
    cut_kw: float,
    phase_share: FloatArray,
    firm_kw: FloatArray,
    extra_kw: FloatArray,
    least_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    seconds: float,
    now_s: float,
    rotation_s: float,
    credit_kwh: FloatArray,
    turn_start_s: FloatArray,
    entitled_kw: FloatArray,
    target_kw: FloatArray,
    waits: BoolArray,
) -> None:
    """Fill ``target_kw`` with 0 or at least ``least_kw`` of each hub.

    Args:
        policy: An :class:`AllocationPolicy`.
        free_kw: What L1, L2, L3 can carry besides the base load, (3,).
        cut_kw: Most that all hubs together may draw; infinite for none.
        phase_share: Share of each hub on each phase, (H, 3).
        firm_kw: Firm capacity that is given, (H,).
        extra_kw: What each hub can use beyond it, >= 0, (H,).
        least_kw: Minimum of one car, (H,).
        weight: See :func:`share`.
        rank: See :func:`share`.
        seconds: Time since this was called last.
        now_s: Monotonic time.
        rotation_s: Length of a turn.
        credit_kwh: What each hub that waits was not given, (H,); moved on.
        turn_start_s: When each hub's turn began, infinite for those that have none, (H,); moved on.
        entitled_kw: Share of each hub that waits for turns, 0 for the others, (H,); that of the last call on entry.
        target_kw: That of the last call on entry, (H,).
        waits: Filled: whether it is another hub's turn, (H,).
    """
    hubs = firm_kw.shape[0]
    extra = np.empty(hubs)
    _share_within(policy, free_kw, cut_kw, phase_share, firm_kw, np.zeros(hubs), extra_kw, weight, rank, extra)
    pooled = 0
    for h in range(hubs):
        most = _LONGEST_CREDIT_S / 3600.0 * least_kw[h]
        if entitled_kw[h] > 0.0:
            earned = (entitled_kw[h] - target_kw[h]) * seconds / 3600.0
            credit_kwh[h] = min(max(credit_kwh[h] + earned, -most), most)
        total = firm_kw[h] + extra[h]
        target_kw[h], entitled_kw[h], waits[h] = total, 0.0, False
        if total >= least_kw[h]:
            turn_start_s[h] = np.inf
            continue
        target_kw[h] = 0.0
        if total > 0.0 and firm_kw[h] + extra_kw[h] >= least_kw[h]:
            entitled_kw[h], waits[h] = total, True
            pooled += 1
        else:
            turn_start_s[h] = np.inf
    if pooled:
        _take_turns(
            pooled, free_kw, cut_kw, phase_share, least_kw, now_s, rotation_s, credit_kwh, turn_start_s, target_kw,
            waits,
        )  # fmt: skip
        _share_the_rest(
            policy, free_kw, cut_kw, phase_share, firm_kw, extra_kw, least_kw, weight, rank, entitled_kw, target_kw,
            waits,
        )  # fmt: skip


@kernel
def _share_within(
    policy: int, free_kw: FloatArray, cut_kw: float, phase_share: FloatArray, taken_kw: FloatArray,
    floor_kw: FloatArray, most_kw: FloatArray, weight: FloatArray, rank: IntArray, shared_kw: FloatArray,
) -> None:  # fmt: skip
    """Share by the policy what ``taken_kw`` leaves of the phases and of the cut, which is like one phase for all."""
    hubs = most_kw.shape[0]
    left_kw = free_kw.copy()
    for f in range(3):
        for h in range(hubs):
            left_kw[f] -= phase_share[h, f] * taken_kw[h]
        left_kw[f] -= _ROUNDING * abs(free_kw[f])
    share(policy, left_kw, phase_share, floor_kw, most_kw, weight, rank, shared_kw)
    cut_left_kw = (1.0 - _ROUNDING) * cut_kw - taken_kw.sum()
    if shared_kw.sum() > cut_left_kw:
        most = shared_kw.copy()
        even = np.full((hubs, 3), 1.0 / 3.0)
        each = np.full(3, max(cut_left_kw, 0.0) / 3.0)
        share(policy, each, even, np.minimum(floor_kw, most), most, weight, rank, shared_kw)


@inner_kernel
def _take_turns(
    pooled: int, free_kw: FloatArray, cut_kw: float, phase_share: FloatArray, least_kw: FloatArray, now_s: float,
    rotation_s: float, credit_kwh: FloatArray, turn_start_s: FloatArray, target_kw: FloatArray, waits: BoolArray,
) -> None:  # fmt: skip
    """Serve waiting hubs with their minimum where it fits: those whose turn lasts, then those with most credit."""
    hubs = least_kw.shape[0]
    left = np.empty(4)
    serving = 0
    for f in range(3):
        left[f] = free_kw[f] - _ROUNDING * abs(free_kw[f])
        for h in range(hubs):
            left[f] -= phase_share[h, f] * target_kw[h]
    left[3] = (1.0 - _ROUNDING) * cut_kw - target_kw.sum()
    for h in range(hubs):
        if waits[h] and turn_start_s[h] < np.inf:
            serving += 1
    turn_s = max(_SHORTEST_TURN_S, min(rotation_s, _ALL_SERVED_WITHIN_S * max(serving, 1) / pooled))
    for h in range(hubs):
        if waits[h] and now_s - turn_start_s[h] < turn_s and turn_start_s[h] < np.inf:
            _serve(h, left, phase_share, least_kw, target_kw, waits)
            if waits[h]:
                turn_start_s[h] = np.inf
    order = argsort(-credit_kwh / np.maximum(least_kw, _ROUNDING))
    for i in range(hubs):
        h = order[i]
        if waits[h]:
            _serve(h, left, phase_share, least_kw, target_kw, waits)
            turn_start_s[h] = np.inf if waits[h] else now_s


@inner_kernel
def _serve(
    h: int, left: FloatArray, phase_share: FloatArray, least_kw: FloatArray, target_kw: FloatArray, waits: BoolArray
) -> None:
    """Give a hub its minimum where that fits."""
    for f in range(3):
        if phase_share[h, f] > 0.0 and phase_share[h, f] * least_kw[h] > left[f]:
            return
    if least_kw[h] > left[3]:
        return
    for f in range(3):
        left[f] -= phase_share[h, f] * least_kw[h]
    left[3] -= least_kw[h]
    target_kw[h], waits[h] = least_kw[h], False


@inner_kernel
def _share_the_rest(
    policy: int, free_kw: FloatArray, cut_kw: float, phase_share: FloatArray, firm_kw: FloatArray, extra_kw: FloatArray,
    least_kw: FloatArray, weight: FloatArray, rank: IntArray, entitled_kw: FloatArray, target_kw: FloatArray,
    waits: BoolArray,
) -> None:  # fmt: skip
    """Share what is left between all that are not waiting, on top of what they have."""
    hubs = firm_kw.shape[0]
    taken, floor, most, shared = np.zeros(hubs), np.zeros(hubs), np.zeros(hubs), np.empty(hubs)
    for h in range(hubs):
        if waits[h]:
            continue
        if entitled_kw[h] > 0.0:
            floor[h], most[h] = target_kw[h], max(target_kw[h], firm_kw[h] + extra_kw[h])
        elif target_kw[h] > 0.0:
            taken[h], floor[h] = firm_kw[h], target_kw[h] - firm_kw[h]
            most[h] = max(extra_kw[h], floor[h])
        elif firm_kw[h] + extra_kw[h] >= least_kw[h]:
            most[h] = firm_kw[h] + extra_kw[h]
    _share_within(policy, free_kw, cut_kw, phase_share, taken, floor, most, weight, rank, shared)
    for h in range(hubs):
        total = taken[h] + shared[h]
        # what the floors' rounding takes away must not stop a hub
        total = least_kw[h] if target_kw[h] > 0.0 and total < least_kw[h] else total
        target_kw[h] = total if total >= least_kw[h] else 0.0
