"""One step's power shared between hubs by a policy; the same kernel plans and tracks."""

from __future__ import annotations

from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import FloatArray, IntArray


@kernel
def share(
    policy: int,
    free_kw: FloatArray,
    phase_share: FloatArray,
    floor_kw: FloatArray,
    most_kw: FloatArray,
    weight: FloatArray,
    rank: IntArray,
    shared_kw: FloatArray,
) -> None:
    """Share the free power of three phases between hubs.

    Args:
        policy: An :class:`AllocationPolicy`.
        free_kw: Power free on L1, L2, L3, (3,); a negative one is no power.
        phase_share: Share of a hub's power on each phase, rows sum to 1, (H, 3).
        floor_kw: What a hub gets before others get more than theirs, 0 <= floor <= most, (H,).
        most_kw: What a hub can use, >= 0, (H,).
        weight: > 0, for WEIGHTED_PROPORTIONAL_FAIR, (H,).
        rank: Class of each hub for PRIORITY and LEAST_COST, 0 is served first, (H,).
        shared_kw: Filled with what each hub gets, (H,).
    """
