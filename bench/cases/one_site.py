"""One site with the 6 A minimum, and without one: gap and time beside HiGHS."""

from __future__ import annotations

from functools import partial
from statistics import fmean

from bench.cases.ours import Planned
from bench.highs_peer import Answer, Options, Program, fastest_lp, linear_program, mixed_program, mode_options, solve
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown, timed

_MILP_CAP_S = 60.0
_SUBSAMPLE_CAP_S = 5.0
# The solve is told a little less, so that the call as a whole stays within.
_SUBSAMPLE_TOLD_S = 4.75
_SUBSAMPLE_SIZES = (5, 10, 20, 50)
_SUBSAMPLES = 40
_OURS = "evflex"
# A vertex, so that the objective is exact.
_CROSSOVER = "interior point + crossover"


@case("lp_n1000", "1000 sessions with the 6 A minimum, beside HiGHS' linear program without it", sizes=(1000,))
def lp_n1000(setting: Setting) -> Outcome:
    outcome = Outcome()
    site = setting.site(1000)
    ours = Planned(site, site.options(2e-4))
    ours()
    mode, program, modes_s = fastest_lp(site)
    highs = partial(solve, program, mode_options(mode))
    outcome.seconds = alternate({_OURS: ours, "HiGHS LP": highs}, setting.pick(5), setting.seconds(60.0))
    typical = medians(outcome.seconds)
    lower = _optimum(program)
    outcome.add("gap", "Gap at N = 1000", ours.gap, "%", at_most=2e-4, peer=f"HiGHS LP optimum {lower:.6f}")
    outcome.add(
        "time", "Time at N = 1000, in times of HiGHS' fastest LP", typical[_OURS] / typical["HiGHS LP"], "×",
        at_most=1.15, peer=f"{shown(typical[_OURS])} beside HiGHS {shown(typical['HiGHS LP'])} ({mode})",
    )  # fmt: skip
    objective = ours.schedule.termination.objective
    outcome.details |= {"objective": objective, "above_lp_optimum": objective / lower - 1.0, "highs_modes_s": modes_s}
    outcome.notes.append(
        "Every mode of HiGHS is tried on two ways to write the program; the fastest is timed beside us."
    )
    return outcome


@case("milp_n100", "100 sessions with the 6 A minimum, beside HiGHS with binaries", sizes=(100,))
def milp_n100(setting: Setting) -> Outcome:
    outcome = Outcome()
    site = setting.site(100)
    ours = Planned(site, site.options(1e-4))
    ours()
    programs = {"semi-continuous": mixed_program(site, semi_continuous=True), "binaries": mixed_program(site)}
    cap_s = setting.seconds(_MILP_CAP_S)
    answers: list[tuple[str, Answer]] = []
    outcome.seconds["evflex"] = []
    for name, program in programs.items():
        outcome.seconds["evflex"] += alternate({_OURS: ours}, setting.pick(4))[_OURS]
        # a second way is never worth more time than the first took
        limit_s = min([cap_s, *(answer.seconds for _, answer in answers if answer.optimal)])
        answers.append((name, solve(program, _mip_options(1e-4), limit_s)))
        outcome.seconds[f"HiGHS MILP, {name}"] = [answers[-1][1].seconds]
    name, best = min(answers, key=lambda row: (not row[1].optimal, row[1].seconds))
    if best.optimal and best.seconds < 0.5 * cap_s:
        outcome.seconds["evflex"] += alternate({_OURS: ours}, setting.pick(4))[_OURS]
        again = solve(programs[name], _mip_options(1e-4), cap_s)
        outcome.seconds[f"HiGHS MILP, {name}"].append(again.seconds)
    typical = medians(outcome.seconds)
    highs_s = typical[f"HiGHS MILP, {name}"]
    outcome.add("gap", "Gap at N = 100", ours.gap, "%", at_most=1e-4, peer=f"HiGHS {best.gap:.4%}")
    outcome.add(
        "time", "Time at N = 100, in times of HiGHS' MILP", typical[_OURS] / highs_s, "×", at_most=0.01,
        peer=f"{shown(typical[_OURS])} beside HiGHS {shown(highs_s)} ({name}, to gap 1e-4)",
    )  # fmt: skip
    outcome.details |= {"highs_objective": best.objective, "objective": ours.schedule.termination.objective}
    if not best.optimal:
        outcome.notes.append(f"HiGHS was stopped after {cap_s:g} s, so the ratio is an upper bound.")
    outcome.notes.append("Two ways to write the program for HiGHS, shortfall substituted in both; the faster counts.")
    return outcome


@case("subsamples", "Small sites with the 6 A minimum, branch and bound included", sizes=_SUBSAMPLE_SIZES)
def subsamples(setting: Setting) -> Outcome:
    outcome = Outcome()
    whole = setting.site(1000)
    gaps: list[float] = []
    longest: list[float] = []
    highs_longest: list[float] = []
    for size in _SUBSAMPLE_SIZES:
        row: dict[str, object] = {}
        seconds: list[float] = []
        size_gaps: list[float] = []
        methods: list[str] = []
        highs_s: list[float] = []
        for k in range(setting.pick(_SUBSAMPLES)):
            site = whole.subsample(min(size, whole.count), k)
            ours = Planned(site, site.options(1e-3, _SUBSAMPLE_TOLD_S))
            seconds.append(timed(ours))
            size_gaps.append(ours.gap)
            methods.append(ours.schedule.termination.detail + ours.schedule.termination.method)
            if k % 10 == 0:
                program = mixed_program(site, semi_continuous=True)
                highs_s.append(solve(program, _mip_options(1e-3), setting.seconds(_SUBSAMPLE_CAP_S)).seconds)
        row["max_gap"], row["max_s"], row["mean_s"] = max(size_gaps), max(seconds), fmean(seconds)
        row["not_certified"] = sum(gap > 1e-3 for gap in size_gaps)
        row["branch_and_bound_share"] = fmean("branch and bound" in method for method in methods)
        row["highs_mean_s"], row["highs_max_s"] = fmean(highs_s), max(highs_s)
        outcome.details[f"{size} cars"] = row
        outcome.seconds[f"evflex, {size} cars"] = seconds
        outcome.seconds[f"HiGHS MILP, {size} cars"] = highs_s
        gaps += size_gaps
        longest += seconds
        highs_longest += highs_s
    outcome.add("gap", "Largest certified gap of all subsamples", max(gaps), "%", at_most=1e-3)
    outcome.add(
        "time", "Longest of all subsamples", max(longest), "s", at_most=5.0,
        peer=f"HiGHS MILP on every tenth: longest {shown(max(highs_longest))}, mean {shown(fmean(highs_longest))}; "
        f"our mean {shown(fmean(longest))}",
    )  # fmt: skip
    outcome.notes.append("Each subsample is planned once, cold; HiGHS has 5 s and stops at gap 1e-3.")
    return outcome


@case("no_minimum", "Without a minimum: HiGHS' objective", sizes=(10, 100, 1000))
def no_minimum(setting: Setting) -> Outcome:
    outcome = Outcome()
    for size in (10, 100, 1000):
        site = setting.site(size).without_minimum()
        ours = Planned(site, site.options(1e-7))
        ours()
        program = linear_program(site)
        optimum = _optimum(program)
        timings = alternate(
            {_OURS: ours, "HiGHS LP": partial(solve, program, mode_options(_CROSSOVER))}, setting.pick(3), 20.0
        )
        outcome.seconds |= {f"{name}, {size}": times for name, times in timings.items()}
        typical = medians(timings)
        broken = ours.broken()
        difference = float("inf") if broken else abs(site.cost(ours.schedule.power_kw) / optimum - 1.0)
        outcome.add(
            f"objective_{size}", f"Difference from HiGHS' objective, N = {size}", difference, "", at_most=1e-6,
            peer=f"HiGHS {optimum:.6f}; {shown(typical[_OURS])} beside {shown(typical['HiGHS LP'])} ({_CROSSOVER})",
        )  # fmt: skip
    return outcome


def _mip_options(gap: float) -> Options:
    return {"mip_rel_gap": gap}


def _optimum(program: Program) -> float:
    answer = solve(program, mode_options(_CROSSOVER))
    if not answer.optimal:
        raise RuntimeError("HiGHS did not solve the linear program")
    return answer.objective
