"""Both sides of the dispatch cases: our plan, audited, and HiGHS, run once a process and shared between cases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from bench.dispatch_audit import Audit, audit
from bench.fleets import Variant, reference_problem
from bench.highs_dispatch_peer import (
    DISPATCH_MODES,
    EXACT_MODE,
    LOOSE_MODES,
    DispatchAnswer,
    available,
    dispatch_program,
    solve_dispatch,
    try_modes,
)
from evflex.engine.dispatch import DispatchProblem, FleetPlan, PlanOptions, plan_portfolio

# Modes are tried at the first size, and go on to the next while they take less than so many times the best.
_FIRST_SIZE, _LADDER = 1000, (1000, 5000, 10_000)
_PATIENCE = 1.5
PEER_LIMIT_S = 400.0
PRICES_NOTE = (
    "A kWh beyond a limit costs 2.0. Here the worth of energy is credited on what exceeds the need only, and a kWh of "
    "shortfall costs the contract's default, ten times the dearest price; where all needs can be delivered the optimal "
    "powers are those of a credit on all energy."
)
PEER_NOTE = (
    "HiGHS is timed without the building of its arrays and runs once: every mode at 1000 cars, each goes on to the "
    "next size while it is within 1.5 times the fastest. It solves to its own tolerances; what it takes when told to "
    "stop at 1e-4 stands beside."
)


class PlannedFleet:
    """Plans a portfolio as often as it is called, and keeps the last plan."""

    def __init__(self, problem: DispatchProblem, relative_gap: float, *, time_limit_s: float = 300.0) -> None:
        self.problem = problem
        self.options = PlanOptions(relative_gap=relative_gap, time_limit_s=time_limit_s)
        self._last: FleetPlan | None = None
        self._audit: Audit | None = None

    def __call__(self) -> FleetPlan:
        # so that at most one plan of a million is held
        self._last = self._audit = None
        self._last = plan_portfolio(self.problem, self.options)
        return self._last

    @property
    def plan(self) -> FleetPlan:
        """The last plan."""
        return self._last or self()

    @property
    def audit(self) -> Audit:
        """What an independent reading of its powers finds."""
        if self._audit is None:
            self._audit = audit(self.problem, self.plan)
        return self._audit

    @property
    def gap(self) -> float:
        """Certified relative gap of the last plan; infinite where its powers break a rule."""
        return math.inf if self.audit.faults else self.plan.termination.relative_gap

    def warm(self, variant: Variant) -> PlannedFleet:
        """Compile what the solver will need, on a small fleet of the same kind."""
        plan_portfolio(reference_problem(300, 0, variant), self.options)
        return self

    def told(self) -> dict[str, object]:
        """What is worth keeping of the last plan."""
        ended = self.plan.termination
        return {
            "objective": ended.objective, "objective_bound": ended.objective_bound, "method": ended.method,
            "relative_gap": ended.relative_gap, "detail": ended.detail, "faults": list(self.audit.faults),
            "shortfall_kwh": self.plan.shortfall_kwh, "violation_kwh": self.plan.violation_kwh,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class PeerRun:
    """HiGHS on one problem.

    Attributes:
        mode: The fastest to HiGHS' own tolerances.
        answer: Of the fastest mode.
        seconds: Solve time of every mode that ended in time.
        loose_seconds: The same of modes that are told to stop at 1e-4.
    """

    mode: str
    answer: DispatchAnswer
    seconds: dict[str, float]
    loose_seconds: dict[str, float]

    @property
    def loose_s(self) -> float:
        """Of the fastest mode that is told to stop at 1e-4; infinite where none ends."""
        return min(self.loose_seconds.values(), default=math.inf)


@cache
def peer(count: int, variant: Variant, seed: int = 0) -> PeerRun:
    """HiGHS in its fastest mode on the reference fleet.

    Raises:
        RuntimeError: No mode ended.
    """
    smaller = peer(max(size for size in _LADDER if size < count), variant, seed) if count > _FIRST_SIZE else None
    program = dispatch_program(reference_problem(count, seed, variant))
    modes = _carried_on(available(DISPATCH_MODES), smaller.seconds if smaller else {})
    answers = try_modes(program, modes, PEER_LIMIT_S, patience=_PATIENCE)
    if not answers:
        raise RuntimeError(f"HiGHS solved the fleet's program in no mode within {PEER_LIMIT_S:g} s")
    mode = min(answers, key=lambda name: answers[name].solve_s)
    # all of these at every size: first-order methods come into their own on large fleets
    loose = try_modes(program, available(LOOSE_MODES), PEER_LIMIT_S, patience=_PATIENCE)
    seconds, loose_seconds = ({name: row.solve_s for name, row in rows.items()} for rows in (answers, loose))
    return PeerRun(mode, answers[mode], seconds, loose_seconds)


def _carried_on(modes: tuple[str, ...], seconds: dict[str, float]) -> tuple[str, ...]:
    """Modes that are worth a try at the next size; all where none was tried."""
    allowed_s = _PATIENCE * min(seconds.values(), default=0.0)
    return tuple(mode for mode in modes if not seconds or seconds.get(mode, math.inf) <= allowed_s)


@cache
def peer_optimum(count: int, variant: Variant, seed: int = 0) -> DispatchAnswer:
    """HiGHS in its exact mode on the reference fleet: for the optimum, whatever the time."""
    return solve_dispatch(dispatch_program(reference_problem(count, seed, variant)), EXACT_MODE, PEER_LIMIT_S)
