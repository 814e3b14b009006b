"""How an optimisation ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from evflex.common.v1 import termination_pb2


@dataclass(frozen=True, slots=True)
class Termination:
    """How the solve ended and what it proved.

    Attributes:
        reason: ``OPTIMAL``, ``FEASIBLE`` or ``NO_SOLUTION``.
        stopped_by: ``TIME``, ``ITERATIONS``, ``CANCELLED`` or ``UNSPECIFIED``.
        objective: Objective of the plan.
        objective_bound: Proven lower bound.
        absolute_gap: objective - objective_bound.
        relative_gap: Gap as a ratio of the sum of the absolute terms.
        solve_duration: Wall time of the solve.
        method: Method of plan and bound.
        detail: One line for a person.
    """

    reason: str
    stopped_by: str
    objective: float
    objective_bound: float
    absolute_gap: float
    relative_gap: float
    solve_duration: timedelta
    method: str
    detail: str

    @classmethod
    def from_message(cls, message: termination_pb2.Termination) -> Termination:
        """Read a termination of the contract."""
        reason = termination_pb2.TerminationReason.Name(message.reason)
        stopped_by = termination_pb2.StoppedBy.Name(message.stopped_by)
        return cls(
            reason=reason.removeprefix("TERMINATION_REASON_"),
            stopped_by=stopped_by.removeprefix("STOPPED_BY_"),
            objective=message.objective,
            objective_bound=message.objective_bound,
            absolute_gap=message.absolute_gap,
            relative_gap=message.relative_gap,
            solve_duration=message.solve_duration.ToTimedelta(),
            method=message.method,
            detail=message.detail,
        )
