"""How the time grows with the number of sessions."""

from __future__ import annotations

import time
from functools import partial

from bench.cases.ours import Planned
from bench.highs_peer import LP_MODES, fastest_lp, linear_program, mode_options, solve
from bench.instances import Site
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown

_LARGE_MODE = "interior point"
_LARGE_CAP_S = 60.0
_GAP = 2e-4
# Small sites go to branch and bound for such a gap, which is another question.
_SMALL_GAP = 1e-3


@case("scale_10000", "10 000 sessions on one site", sizes=(10, 100, 1000, 10_000))
def scale_10000(setting: Setting) -> Outcome:
    outcome = Outcome()
    thousand = setting.site(1000)
    large = thousand.resample(setting.pick(10, 2) * thousand.count, 0)
    ours_thousand = Planned(thousand, thousand.options(_GAP, 120.0))
    ours_large = Planned(large, large.options(_GAP, setting.seconds(120.0, 5.0)))
    ours_thousand()
    rounds = setting.pick(2)
    timings = alternate({"evflex, 1000": ours_thousand, "evflex, 10000": ours_large}, rounds, setting.seconds(60.0))
    timings["evflex, 1000"] += alternate({"": ours_thousand}, setting.pick(3))[""]
    program = linear_program(large)
    started = time.perf_counter()
    highs = solve(program, LP_MODES[_LARGE_MODE], setting.seconds(_LARGE_CAP_S))
    timings["HiGHS LP, 10000"] = [time.perf_counter() - started]
    outcome.seconds = timings
    typical = medians(timings)
    reached = "" if highs.optimal else ", not finished"
    outcome.add(
        "time", "Time at 10 000 sessions, in times of 1000", typical["evflex, 10000"] / typical["evflex, 1000"], "×",
        at_most=12.0, peer=f"{shown(typical['evflex, 10000'])} and {shown(typical['evflex, 1000'])}; HiGHS LP without "
        f"the minimum {shown(highs.seconds)}{reached} ({_LARGE_MODE})",
    )  # fmt: skip
    outcome.add("gap", "Gap at 10 000 sessions", ours_large.gap, "%")
    outcome.details["method"] = ours_large.schedule.termination.method
    outcome.notes.append(
        "The 10 000 are drawn from the 1000 with energies and stays varied by a little, limit times ten."
    )
    _curve(setting, outcome, typical, highs.seconds if highs.optimal else None)
    return outcome


def _curve(setting: Setting, outcome: Outcome, typical: dict[str, float], highs_large_s: float | None) -> None:
    """Points of the picture: the small sizes are measured here."""
    ours: list[tuple[int, float]] = []
    peer: list[tuple[int, float]] = []
    for size in (10, 100, 1000):
        site: Site = setting.site(size)
        planned = Planned(site, site.options(_SMALL_GAP if size == 10 else _GAP))
        planned()
        mode, program, _ = fastest_lp(site)
        highs = partial(solve, program, mode_options(mode))
        measured = medians(alternate({"evflex": planned, "HiGHS": highs}, setting.pick(3), 20.0))
        ours.append((size, measured["evflex"]))
        peer.append((size, measured["HiGHS"]))
    ours.append((10_000, typical["evflex, 10000"]))
    if highs_large_s is not None:
        peer.append((10_000, highs_large_s))
    outcome.curves = {"evflex, with the 6 A minimum": ours, "HiGHS' fastest LP, without": peer}
