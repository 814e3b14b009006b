"""One step of the control law: from the base load and the transformer's state to the capacity of each hub.

The order is that of safety, firm capacity, conditional capacity. The load that the transformer can carry for ever
bounds firm capacity. The load that it can carry until a silence would have put the hubs on firm capacity bounds all.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.capacity.model import BindingReason
from evflex.engine.capacity.tracking_limits import held_loading, lasting_loading
from evflex.engine.capacity.tracking_share import share_all, share_firm
from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

_AGREEMENT, _HUB_LIMIT = int(BindingReason.AGREEMENT), int(BindingReason.HUB_LIMIT)
_ROTATION, _RAMP, _CUT = int(BindingReason.ROTATION), int(BindingReason.RAMP), int(BindingReason.OPERATOR_CUT)
# A measured fall of the base load is believed with this time constant. Noise then widens nothing: the base follows its
# upper envelope, and half a minute is short beside the ramp of hubs and the thermal time constants.
_FALL_TIME_CONSTANT_S = 30.0
# What counts as a change or a lack; a watt is nothing to a car.
_TOLERANCE_KW = 1e-6


@kernel
def follow_base(measured_kw: FloatArray, measured_kvar: FloatArray, seconds: float, base: FloatArray) -> None:
    """Move the base load, rows of active and size of reactive power of L1, L2, L3, (2, 3): up at once, down slowly.

    Args:
        measured_kw: Active power without hubs, export negative, (3,).
        measured_kvar: Size of the reactive power, (3,).
        seconds: Since the last measurement; infinite before the first.
        base: Moved on.
    """
    keep = np.exp(-seconds / _FALL_TIME_CONSTANT_S)
    for f in range(3):
        base[0, f] = measured_kw[f] + max(base[0, f] - measured_kw[f], 0.0) * keep
        base[1, f] = measured_kvar[f] + max(base[1, f] - measured_kvar[f], 0.0) * keep


@kernel
def decide(
    policy: int,
    most_ratio: float,
    rated_kva: float,
    base: FloatArray,
    values: FloatArray,
    hold_keep: FloatArray,
    settling_keep: FloatArray,
    ambient_c: float,
    state: FloatArray,
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
    given_kw: FloatArray,
    target_kw: FloatArray,
    waits: BoolArray,
) -> tuple[int, int]:
    """Fill ``given_kw`` (firm capacity) and ``target_kw`` (all capacity) of each hub.

    Args:
        policy: An :class:`~evflex.engine.capacity.model.AllocationPolicy`.
        most_ratio: Largest load of a phase over rated power.
        rated_kva: Rated three-phase power.
        base: See :func:`follow_base`.
        values: See :class:`~evflex.engine.capacity.tracking_limits.ThermalOutlook`, as the next two.
        hold_keep: Of the time that a load is held.
        settling_keep: Of the time until nothing moves.
        ambient_c: Ambient temperature.
        state: Of the transformer, (3,).
        cut_kw: See :func:`~evflex.engine.capacity.tracking_share.share_all`, as all that follow.
        phase_share: Share of each hub on each phase.
        firm_kw: Firm capacity.
        extra_kw: What each hub can use beyond it.
        least_kw: Minimum of one car.
        weight: For the policy.
        rank: For the policy.
        seconds: Since the last step.
        now_s: Monotonic time.
        rotation_s: Length of a turn.
        credit_kwh: Moved on.
        turn_start_s: Moved on.
        entitled_kw: Moved on.
        given_kw: Filled, (H,).
        target_kw: Moved on, (H,).
        waits: Filled.

    Returns:
        What bounds all capacity, and what bounds firm capacity: HOT_SPOT, TOP_OIL, or 0 for the loading.
    """
    lasting_ratio, lasting_reason = lasting_loading(values, settling_keep, ambient_c, state, most_ratio)
    free_kw = np.empty(3)
    _free(base, rated_kva, lasting_ratio, free_kw)
    share_firm(free_kw, cut_kw, phase_share, firm_kw, rank, given_kw)
    reason = lasting_reason
    if lasting_reason != 0:
        after_ratio = loading(base, rated_kva, phase_share, given_kw)
        # else the base load is too much by itself
        if after_ratio <= lasting_ratio * (1.0 + 1e-9):
            held_ratio, reason = held_loading(
                values, hold_keep, settling_keep, ambient_c, state, lasting_ratio, after_ratio, most_ratio
            )  # fmt: skip
            _free(base, rated_kva, held_ratio, free_kw)
    share_all(
        policy, free_kw, cut_kw, phase_share, given_kw, extra_kw, least_kw, weight, rank, seconds, now_s, rotation_s,
        credit_kwh, turn_start_s, entitled_kw, target_kw, waits,
    )  # fmt: skip
    return reason, lasting_reason


@kernel
def release(
    target_kw: FloatArray, given_kw: FloatArray, least_kw: FloatArray, rise_kw: FloatArray, band_kw: FloatArray,
    allowed_kw: FloatArray, capacity_kw: FloatArray,
) -> None:  # fmt: skip
    """Move ``capacity_kw`` towards the target: down at once, up by the ramp and in steps of the dead band.

    The ramp is for what may be curtailed: firm capacity, and the minimum that a car needs to begin, are given at once.

    Args:
        target_kw: What each hub should have, (H,).
        given_kw: Firm part of it, (H,).
        least_kw: Minimum of one car, (H,).
        rise_kw: Most that the ramp allows since the last step, (H,).
        band_kw: Dead band, (H,).
        allowed_kw: How far the ramp has come, told or not, so that a rise that waits is not lost, (H,); moved on.
        capacity_kw: What each hub has been told, (H,); moved on.
    """
    for h in range(target_kw.shape[0]):
        at_once_kw = min(target_kw[h], max(given_kw[h], least_kw[h]))
        allowed_kw[h] = max(min(target_kw[h], allowed_kw[h] + rise_kw[h]), at_once_kw)
        rise = allowed_kw[h] - capacity_kw[h]
        begins = capacity_kw[h] == 0.0 or capacity_kw[h] < min(given_kw[h], target_kw[h]) - _TOLERANCE_KW
        if rise < 0.0 or (rise > 0.0 and (begins or rise >= band_kw[h])):
            capacity_kw[h] = allowed_kw[h]


@kernel
def explain(
    wanted_kw: FloatArray, ceiling_kw: FloatArray, max_kw: FloatArray, firm_kw: FloatArray, given_kw: FloatArray,
    target_kw: FloatArray, capacity_kw: FloatArray, band_kw: FloatArray, waits: BoolArray, cut_binds: bool,
    all_reason: int, firm_reason: int, reason: IntArray,
) -> None:  # fmt: skip
    """Fill ``reason``: why the capacity of each hub is less than it wants, 0 where it is not.

    Args:
        wanted_kw: Power wanted, (H,).
        ceiling_kw: Most by agreement and connection, 0 where no car could charge with it, (H,).
        max_kw: Of the connection, (H,).
        firm_kw: Firm capacity by right, (H,).
        given_kw: What of it is given, (H,).
        target_kw: What each hub should have, (H,).
        capacity_kw: What it has, (H,).
        band_kw: Dead band: being so little below the target is the reason only where the target is all that is wanted.
        waits: Whether it waits for its turn, (H,).
        cut_binds: Whether the operator's cut keeps hubs from more.
        all_reason: What else does.
        firm_reason: What keeps them from firm capacity.
        reason: Filled, (H,).
    """
    for h in range(wanted_kw.shape[0]):
        wanted = wanted_kw[h]
        if capacity_kw[h] >= wanted - _TOLERANCE_KW:
            reason[h] = 0
        elif target_kw[h] >= wanted - _TOLERANCE_KW or capacity_kw[h] < target_kw[h] - band_kw[h] - _TOLERANCE_KW:
            reason[h] = _RAMP
        elif target_kw[h] >= ceiling_kw[h] - _TOLERANCE_KW:
            reason[h] = _HUB_LIMIT if ceiling_kw[h] >= max_kw[h] else _AGREEMENT
        elif cut_binds:
            reason[h] = _CUT
        elif waits[h]:
            reason[h] = _ROTATION
        elif given_kw[h] < firm_kw[h] - _TOLERANCE_KW and target_kw[h] <= given_kw[h]:
            reason[h] = firm_reason
        else:
            reason[h] = all_reason


@kernel
def loading(base: FloatArray, rated_kva: float, phase_share: FloatArray, power_kw: FloatArray) -> float:
    """Load of the most loaded phase over rated power, with hubs that draw ``power_kw`` (H,), or less."""
    most_kva = 0.0
    for f in range(3):
        hubs_kw = 0.0
        for h in range(power_kw.shape[0]):
            hubs_kw += phase_share[h, f] * power_kw[h]
        active_kw = max(abs(base[0, f]), abs(base[0, f] + hubs_kw))
        most_kva = max(most_kva, np.sqrt(active_kw**2 + base[1, f] ** 2))
    return 3.0 * most_kva / rated_kva


@inner_kernel
def _free(base: FloatArray, rated_kva: float, ratio: float, free_kw: FloatArray) -> None:
    """Power at unity power factor that each phase can carry on top of the base load, >= 0."""
    phase_kva = ratio * rated_kva / 3.0
    for f in range(3):
        if base[1, f] >= phase_kva:
            free_kw[f] = 0.0
        else:
            free_kw[f] = max(np.sqrt(phase_kva**2 - base[1, f] ** 2) - base[0, f], 0.0)
