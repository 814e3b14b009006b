"""Sessions of a batch whose need may be in danger; those for which it is certain that it is not are left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.batch_counts import END, POWER, START, WHO, Counts
from evflex.engine.activation.model import OPEN_END_MS
from evflex.engine.activation.prepared import PreparedRegistry
from evflex.engine.kernels import kernel

IntArray = NDArray[np.int64]
_W_MS_PER_WH = 3.6e6


def sessions_at_risk(prepared: PreparedRegistry, counts: Counts) -> IntArray:
    """Numbers of the open sessions from which upward sales, all added up, take more than there is to spare."""
    sessions = list(prepared.registry.sessions.values())
    needy = [k for k, s in enumerate(sessions) if s.has_need and s.end_ms == OPEN_END_MS]
    if not needy:
        return np.empty(0, dtype=np.int64)
    numbers = np.array(needy, dtype=np.int64)
    # known, because they have a need
    energy_wh = np.array([sessions[k].energy_wh for k in needy], dtype=np.float64)
    departure_ms = np.array([sessions[k].departure_ms for k in needy], dtype=np.int64)
    max_charge_w = np.array([sessions[k].max_charge_w for k in needy], dtype=np.float64)
    start_ms = prepared.session_ms[0, numbers]
    # a margin of one Wh for rounding: what is left here is judged exactly
    spare_w_ms = max_charge_w * (departure_ms - start_ms) - (energy_wh + 1.0) * _W_MS_PER_WH
    taken_w_ms = np.zeros(len(numbers))
    add_taken(prepared.session_sides[:, numbers], start_ms, departure_ms, counts.starts, counts.entries, taken_w_ms)
    return numbers[(taken_w_ms > 0.0) & (taken_w_ms > spare_w_ms)]


@kernel
def add_taken(
    sides: IntArray,
    begins: IntArray,
    departs: IntArray,
    starts: IntArray,
    entries: IntArray,
    taken: NDArray[np.float64],
) -> None:
    """Add up power times time of what counts upward and directly at either side until departure."""
    for s in range(sides.shape[1]):
        for side in range(2):
            bucket = 2 * sides[side, s]
            for j in range(starts[bucket], starts[bucket + 1]):
                overlap = min(entries[j, END], departs[s]) - max(entries[j, START], begins[s])
                if entries[j, WHO] & 1 and overlap > 0:
                    taken[s] += float(entries[j, POWER]) * overlap
