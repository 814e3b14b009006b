"""Costs of starts, and whole amperes."""

from __future__ import annotations

from bench.cases.ours import Planned
from bench.highs_peer import mixed_program, solve
from bench.registry import Outcome, Setting, case
from bench.timing import medians, shown, timed

_START_COST = 0.05
_STARTS_GAP = 3e-3
# Asked seconds by size; the solve is told a little less, so that the call as a whole stays within.
_STARTS_LIMIT_S = {100: 1.0, 1000: 15.0}
_KEPT_BACK_RATIO = 0.05
_QUANTUM_CAP_S = 10.0


@case("starts", "Each start costs 0.05", sizes=(100, 1000))
def starts(setting: Setting) -> Outcome:
    outcome = Outcome()
    for size, limit_s in _STARTS_LIMIT_S.items():
        site = setting.site(size)
        told_s = limit_s * (1.0 - _KEPT_BACK_RATIO)
        ours = Planned(site, site.options(_STARTS_GAP, told_s, start_cost=_START_COST))
        ours()
        program = mixed_program(site, start_cost=_START_COST)
        gaps, seconds = [], []
        for _ in range(setting.pick(3 if size == 100 else 1)):
            seconds.append(timed(ours))
            gaps.append(ours.gap)
        highs = solve(program, {"mip_rel_gap": _STARTS_GAP}, setting.seconds(limit_s))
        outcome.seconds[f"evflex, {size}"] = seconds
        outcome.seconds[f"HiGHS MILP, {size}"] = [highs.seconds]
        said = f"HiGHS after {shown(highs.seconds)}: " + (
            f"gap {highs.gap:.2%}" if highs.gap < 10.0 else "no useful plan"
        )
        outcome.add(f"gap_{size}", f"Gap with start costs, N = {size}", max(gaps), "%", at_most=_STARTS_GAP, peer=said)
        outcome.add(
            f"time_{size}", f"Time with start costs, N = {size}", max(seconds), "s", at_most=limit_s,
            peer=f"the same limit; HiGHS' objective {highs.objective:.4f}, ours "
            f"{ours.schedule.termination.objective:.4f}",
        )  # fmt: skip
        outcome.details[f"{size}"] = {
            "objective": ours.schedule.termination.objective, "method": ours.schedule.termination.method,
            "detail": ours.schedule.termination.detail, "highs_objective": finite(highs.objective),
            "highs_bound": finite(highs.bound),
        }  # fmt: skip
    return outcome


@case("quantum", "Currents in steps of 1 A", sizes=(100,))
def quantum(setting: Setting) -> Outcome:
    outcome = Outcome()
    site = setting.site(100)
    ours = Planned(site, site.options(5e-3, setting.seconds(30.0, 5.0), current_quantum_a=1.0))
    ours()
    outcome.seconds["evflex"] = [timed(ours) for _ in range(setting.pick(3))]
    cap_s = setting.seconds(_QUANTUM_CAP_S)
    highs = solve(mixed_program(site, quantum_a=1.0), {"mip_rel_gap": 5e-3}, cap_s)
    outcome.seconds["HiGHS MILP"] = [highs.seconds]
    typical = medians(outcome.seconds)
    outcome.add(
        "gap", "Certified gap with a quantum of 1 A, N = 100", ours.gap, "%", at_most=5e-3,
        peer=f"{shown(typical['evflex'])}; HiGHS with integers {'' if highs.gap > 10 else f'gap {highs.gap:.2%} '}"
        f"after {shown(highs.seconds)}",
    )  # fmt: skip
    outcome.details |= {
        "objective": ours.schedule.termination.objective, "highs_objective": finite(highs.objective),
        "method": ours.schedule.termination.method,
    }  # fmt: skip
    return outcome


def finite(value: float) -> float | None:
    """A number that JSON can hold."""
    return value if abs(value) < 1e30 else None
