"""The same optimum as HiGHS' in every kind of coupling, and the 6 A minimum's gap."""

from __future__ import annotations

from bench.cases.dispatch_sides import PRICES_NOTE, PlannedFleet, peer, peer_optimum
from bench.fleets import Coupling, Variant, reference_problem
from bench.registry import Outcome, Setting, case
from bench.timing import shown, timed

_GAP = 1e-3
_SIZES = (1000, 10_000)
_KINDS = {
    "V1G": Variant(),
    "V2G": Variant(discharging=True),
    "feeder limits": Variant(coupling=Coupling.FEEDERS_AND_FLEET),
    "reserves": Variant(coupling=Coupling.RESERVES),
    "tracking": Variant(coupling=Coupling.TARGET),
}
_SEEDS = (0, 1, 2)
# Certified gap asked at each size.
_MINIMUM_GAPS = {1000: 1e-3, 10_000: 1e-3, 100_000: 5e-4}
# HiGHS' own tolerance, as a share of the objective.
_PEER_TOLERANCE = 1e-6


@case("dispatch_objective", "The objective beside HiGHS', for every coupling", sizes=_SIZES, generated=True,
      domain="dispatch")  # fmt: skip
def dispatch_objective(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        PRICES_NOTE,
        "The optimum lies between the proven bound and the objective; what is told is how far HiGHS' lies outside of "
        "it. HiGHS is told to stop after 400 s; where it did, there is no optimum to compare with.",
    ])  # fmt: skip
    for name, variant in _KINDS.items():
        for size in _SIZES:
            count = setting.pick(size, size // 200)
            ours = PlannedFleet(reference_problem(count, 0, variant), _GAP).warm(variant)
            seconds = timed(ours)
            # V1G is what the ratios are taken with, and there already
            answer = peer(count, variant) if variant == Variant() else None
            exact = answer.answer.objective if answer else peer_optimum(count, variant).objective
            highs_s = answer.answer.solve_s if answer else peer_optimum(count, variant).solve_s
            outcome.seconds |= {f"evflex, {name}, {size}": [seconds], f"HiGHS, {name}, {size}": [highs_s]}
            ended = ours.plan.termination
            # the scale of the contract's gap: the sum of the absolute terms
            scale = ours.plan.figures.scale
            outside = max(ended.objective_bound - exact, exact - ended.objective, 0.0) / scale
            said = f"ours {ended.objective:.6g}, HiGHS {exact:.6g}; {shown(seconds)} beside {shown(highs_s)}"
            outcome.add(f"inside_{_key(name)}_{size}", f"HiGHS' optimum outside of bound and objective, {name}, {size}",
                        outside, "%", at_most=_PEER_TOLERANCE, peer=said)  # fmt: skip
            outcome.add(f"gap_{_key(name)}_{size}", f"Certified gap, {name}, {size}", ours.gap, "%", at_most=_GAP,
                        peer=f"above HiGHS' optimum by {(ended.objective - exact) / scale:.2%}")  # fmt: skip
            outcome.details[f"{name}, {size}"] = ours.told() | {"highs": exact if answer is None else answer.seconds}
    return outcome


@case("dispatch_minimum", "The 6 A minimum in fleets", sizes=tuple(_MINIMUM_GAPS), generated=True, domain="dispatch")
def dispatch_minimum(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        PRICES_NOTE,
        f"Largest of {len(_SEEDS)} seeds. HiGHS' time is of the linear program without the minimum.",
    ])  # fmt: skip
    variant = Variant(minimum=True)
    for size, asked in _MINIMUM_GAPS.items():
        count = setting.pick(size, size // 500 + 5)
        gaps, seconds = [], []
        for seed in _SEEDS[: setting.pick(len(_SEEDS))]:
            ours = PlannedFleet(reference_problem(count, seed, variant), asked).warm(variant)
            seconds.append(timed(ours))
            gaps.append(ours.gap)
            outcome.details[f"{size}, seed {seed}"] = ours.told()
        outcome.seconds[f"evflex, {size}"] = seconds
        beside = ""
        if size <= 10_000:
            run = peer(count, Variant())
            outcome.seconds[f"HiGHS LP, {size}"] = [run.answer.solve_s]
            beside = f", HiGHS LP {shown(run.answer.solve_s)}"
        outcome.add(f"gap_{size}", f"Certified gap with the 6 A minimum, {size} vehicles", max(gaps), "%",
                    at_most=asked, peer=f"longest {shown(max(seconds))}{beside}")  # fmt: skip
    return outcome


def _key(name: str) -> str:
    return name.lower().replace(" ", "_")
