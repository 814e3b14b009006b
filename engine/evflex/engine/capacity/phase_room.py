"""Room on the three phases of a transformer, and how loaded they make it."""

from __future__ import annotations

import numpy as np

from evflex.engine.kernels import inner_kernel
from evflex.engine.supply_tree import FloatArray


@inner_kernel
def set_room(ratio: float, rated_kva: float, base_kw: FloatArray, base_kvar: FloatArray, room_kw: FloatArray) -> None:
    """Power that can come on each phase until its apparent power is a third of ratio times rated."""
    most_kva = ratio * rated_kva / 3.0
    for f in range(3):
        room_kw[f] = np.sqrt(max(0.0, most_kva * most_kva - base_kvar[f] * base_kvar[f])) - base_kw[f]
        if abs(base_kvar[f]) > most_kva:
            room_kw[f] = min(room_kw[f], 0.0)


@inner_kernel
def cut_to_room(power_kw: FloatArray, phase_share: FloatArray, room_kw: FloatArray) -> bool:
    """Scale powers, hubs of a phase alike, until each phase holds them; whether that cut anything."""
    cut = False
    for f in range(3):
        total = 0.0
        for h in range(power_kw.shape[0]):
            total += power_kw[h] * phase_share[h, f]
        if total > max(0.0, room_kw[f]):
            cut = True
            factor = max(0.0, room_kw[f]) / total
            for h in range(power_kw.shape[0]):
                if phase_share[h, f] > 0.0:
                    power_kw[h] *= factor
    return cut


@inner_kernel
def loading_of_phases(rated_kva: float, base_kw: FloatArray, base_kvar: FloatArray, hubs_kw: FloatArray) -> float:
    """Loading ratio of the most loaded phase with power of hubs on each, (3,)."""
    most = 0.0
    for f in range(3):
        most = max(most, np.hypot(base_kw[f] + hubs_kw[f], base_kvar[f]))
    return 3.0 * most / rated_kva


@inner_kernel
def loading_of_hubs(
    rated_kva: float, base_kw: FloatArray, base_kvar: FloatArray, power_kw: FloatArray, phase_share: FloatArray
) -> float:
    """Loading ratio of the most loaded phase with hubs of shares of the phases."""
    most = 0.0
    for f in range(3):
        total = base_kw[f]
        for h in range(power_kw.shape[0]):
            total += power_kw[h] * phase_share[h, f]
        most = max(most, np.hypot(total, base_kvar[f]))
    return 3.0 * most / rated_kva
