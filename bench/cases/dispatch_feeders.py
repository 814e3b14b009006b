"""Fifty feeders: many limits that share no vehicle, and a fleet limit above them."""

from __future__ import annotations

from bench.cases.dispatch_sides import PRICES_NOTE, PlannedFleet, peer
from bench.fleets import FEEDERS, Coupling, Variant, feeder_problem, reference_problem
from bench.highs_dispatch_peer import solve_one_by_one
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown, timed

_COUNT = 100_000
_GAP, _NESTED_GAP, _NESTED_LIMIT_S = 1e-3, 5e-3, 120.0
_ONE, _MANY = "evflex, one limit", "evflex, 50 feeder limits"


@case("dispatch_feeders", "100 000 vehicles on 50 feeders", sizes=(_COUNT,), generated=True, domain="dispatch")
def dispatch_feeders(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        PRICES_NOTE,
        f"HiGHS solves the {FEEDERS} feeders one after the other, in its fastest mode for 1000 vehicles; building the "
        "arrays is not counted.",
    ])  # fmt: skip
    count = setting.pick(_COUNT, 8 * FEEDERS)
    feeders = Variant(coupling=Coupling.FEEDERS)
    many = PlannedFleet(reference_problem(count, 0, feeders), _GAP).warm(feeders)
    one = PlannedFleet(reference_problem(count), _GAP).warm(Variant())
    outcome.seconds = alternate({_ONE: one, _MANY: many}, setting.pick(3), setting.seconds(60.0))
    typical = medians(outcome.seconds)
    mode = peer(setting.pick(1000, 20), Variant()).mode
    answers = solve_one_by_one([feeder_problem(many.problem, group) for group in range(FEEDERS)], mode)
    highs_s = sum(answer.solve_s for answer in answers)
    outcome.seconds["HiGHS, feeder by feeder"] = [highs_s]
    outcome.seconds["HiGHS, building and passing"] = [sum(answer.construction_s for answer in answers)]
    above = _above(many, sum(answer.objective for answer in answers))
    outcome.add("gap", "Certified gap on 50 feeders", many.gap, "%", at_most=_GAP,
                peer=f"above HiGHS' optimum by {above:.3%}")  # fmt: skip
    outcome.add("time", "50 feeder limits in times of one limit", typical[_MANY] / typical[_ONE], "×", at_most=12.0,
                peer=f"{shown(typical[_MANY])} and {shown(typical[_ONE])}")  # fmt: skip
    outcome.add("highs", "Faster than HiGHS feeder by feeder", highs_s / typical[_MANY], "×", at_least=5.0,
                peer=f"{shown(typical[_MANY])} beside {shown(highs_s)} ({mode})")  # fmt: skip
    nested = Variant(coupling=Coupling.FEEDERS_AND_FLEET)
    # the solve is told a little less, so that the call as a whole stays within
    ours = PlannedFleet(reference_problem(count, 0, nested), _NESTED_GAP, time_limit_s=0.95 * _NESTED_LIMIT_S)
    seconds = timed(ours.warm(nested))
    outcome.seconds["evflex, fleet limit as well"] = [seconds]
    outcome.add("nested_gap", "Certified gap on 50 feeders with a fleet limit", ours.gap, "%", at_most=_NESTED_GAP)
    outcome.add("nested_time", "Time on 50 feeders with a fleet limit", seconds, "s", at_most=_NESTED_LIMIT_S)
    outcome.details |= {"one": one.told(), "feeders": many.told(), "feeders and fleet": ours.told()}
    return outcome


def _above(ours: PlannedFleet, optimum: float) -> float:
    """Distance of our objective from the optimum in the contract's measure."""
    return (ours.plan.termination.objective - optimum) / ours.plan.figures.scale
