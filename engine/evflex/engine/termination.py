"""How an optimisation ended and what it proved."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

SCALE_FLOOR = 1e-6


class TerminationReason(IntEnum):
    """Outcome of a solve; values as in the public contract."""

    OPTIMAL = 1
    FEASIBLE = 2
    NO_SOLUTION = 3


class StoppedBy(IntEnum):
    """What stopped a solve before the asked gap was reached; values as in the public contract."""

    NOTHING = 0
    TIME = 1
    ITERATIONS = 2
    CANCELLED = 3


@dataclass(frozen=True, slots=True)
class Termination:
    """Outcome, objective and proven bound of the emitted plan.

    Attributes:
        reason: Outcome.
        stopped_by: What stopped the solve early.
        objective: Objective of the emitted plan.
        objective_bound: Proven lower bound on the objective of any plan.
        absolute_gap: ``objective - objective_bound``.
        relative_gap: ``absolute_gap / max(sum of the absolute objective terms, 1e-6)``.
        solve_duration_s: Wall time of the solve in seconds.
        method: Method that produced plan and bound.
        detail: One line for a person.
    """

    reason: TerminationReason
    stopped_by: StoppedBy
    objective: float
    objective_bound: float
    absolute_gap: float
    relative_gap: float
    solve_duration_s: float
    method: str
    detail: str


def relative_gap(objective: float, bound: float, scale: float) -> float:
    """Gap as a share of ``scale``, the sum of the absolute objective terms; never negative."""
    return max(0.0, objective - bound) / max(scale, SCALE_FLOOR)
