"""What each policy splits, as programs for a general solver; shares no code with the kernel.

Lexicographic max-min by successive linear programs (HiGHS), the proportionally fair split by exponential cones (CVXPY
with Clarabel), classes by solving one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy
import numpy as np
from scipy.optimize import linprog

from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.supply_tree import FloatArray, IntArray

# Of the power to split: less than this is no room.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True)
class SharingCase:
    """Arguments of the kernel, named as there."""

    policy: AllocationPolicy
    free_kw: FloatArray
    phase_share: FloatArray
    floor_kw: FloatArray
    most_kw: FloatArray
    weight: FloatArray
    rank: IntArray

    @property
    def scale_kw(self) -> float:
        """Size of what is split, > 0."""
        return max(1e-6, float(np.maximum(self.free_kw, 0.0).max()))


def expected_kw(case: SharingCase) -> FloatArray:
    """What each hub gets, (H,): floors by the policy, then the rest by the policy on top."""
    floors = _split(case, np.zeros_like(case.most_kw), case.floor_kw)
    return _split(case, floors, case.most_kw)


def _split(case: SharingCase, lower: FloatArray, upper: FloatArray) -> FloatArray:
    if case.policy == AllocationPolicy.WEIGHTED_PROPORTIONAL_FAIR:
        return _most_log_utility(case, lower, upper)
    if case.policy == AllocationPolicy.PROPORTIONAL:
        return _lexicographic(case, upper, lower, upper)
    if case.policy == AllocationPolicy.MAX_MIN:
        return _lexicographic(case, np.ones_like(upper), lower, upper)
    power = lower.copy()
    for of_class in sorted(set(case.rank.tolist())):
        its_upper = np.where(case.rank == of_class, upper, power)
        power = _lexicographic(case, np.ones_like(upper), power, its_upper)
    return power


def _lexicographic(case: SharingCase, ratio: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Raise the smallest power / ratio as far as it goes, fix who cannot go further, and again."""
    count, free = len(lower), np.maximum(case.free_kw, 0.0)
    power, fixed = lower.copy(), upper - lower <= _NOTHING * case.scale_kw
    power[fixed] = upper[fixed]
    while not fixed.all():
        rows = np.zeros((count, count + 1))
        rows[np.arange(count), np.arange(count)] = -1.0
        rows[:, count] = ratio
        bounds = [(power[h], power[h]) if fixed[h] else (lower[h], upper[h]) for h in range(count)]
        capacity = np.hstack([case.phase_share.T, np.zeros((3, 1))])
        room = np.maximum(free, case.phase_share.T @ np.where(fixed, power, lower))
        level = _solve(
            np.append(np.zeros(count), -1.0),
            np.vstack([capacity, rows[~fixed]]),
            np.append(room, np.zeros(int((~fixed).sum()))),
            [*bounds, (0.0, None)],
        )[count]
        least = np.where(fixed, power, np.clip(level * ratio, lower, upper))
        stopped = False
        for h in np.flatnonzero(~fixed).tolist():
            objective = np.zeros(count)
            objective[h] = -1.0
            least_bounds = [(least[g], power[g] if fixed[g] else upper[g]) for g in range(count)]
            safe_room = np.maximum(room, case.phase_share.T @ least)
            best = _solve(objective, case.phase_share.T, safe_room, least_bounds)[h]
            if best <= level * ratio[h] + _NOTHING * case.scale_kw:
                fixed[h] = stopped = True
                power[h] = least[h]
        assert stopped, "somebody always stops"
    return power


def _most_log_utility(case: SharingCase, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Maximise the sum of weight x log of power, over those whom their phases leave room to rise."""
    scale, free = case.scale_kw, np.maximum(case.free_kw, 0.0)
    room = free - case.phase_share.T @ lower
    shut = (case.phase_share > 0.0) & (room <= _NOTHING * scale)
    rising = (upper - lower > _NOTHING * scale) & ~shut.any(axis=1)
    power = lower.copy()
    if not rising.any():
        return power
    weight = case.weight[rising] / case.weight[rising].sum()
    shares, low, high = case.phase_share[rising], lower[rising] / scale, upper[rising] / scale
    target, loaded = room / scale + shares.T @ low, shares.any(axis=0)
    y = cvxpy.Variable(len(weight))
    matrix = shares.T[loaded]
    _maximise(weight @ cvxpy.log(y), [matrix @ y <= target[loaded], y >= low, y <= high])
    best = np.asarray(y.value)
    for _ in range(2):
        # The cones leave the power at 1e-6 where the objective is flat; its second order around there sharpens it.
        growth = cvxpy.Variable(len(weight))
        near = cvxpy.multiply(best, 1.0 + growth)
        _maximise(weight @ (growth - 0.5 * growth**2), [matrix @ near <= target[loaded], near >= low, near <= high])
        best = best * (1.0 + np.asarray(growth.value))
    power[rising] = np.clip(best * scale, lower[rising], upper[rising])
    return power


def _maximise(objective: cvxpy.Expression, constraints: list[cvxpy.Constraint]) -> None:
    program = cvxpy.Problem(cvxpy.Maximize(objective), constraints)
    program.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-12, max_iter=500)  # type: ignore[no-untyped-call]
    assert program.status in (cvxpy.OPTIMAL, cvxpy.OPTIMAL_INACCURATE), program.status


def _solve(
    objective: FloatArray, matrix: FloatArray, right: FloatArray, bounds: list[tuple[float, float | None]]
) -> FloatArray:
    result = linprog(objective, A_ub=matrix, b_ub=right, bounds=bounds, method="highs-ds")
    assert result.status == 0, result.message
    return np.asarray(result.x)
