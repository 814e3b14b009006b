"""How the time grows with the number of sessions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.cases.ours import Planned
from bench.highs_peer import SUBSTITUTED, fastest_lp, linear_program, mode_options, solve
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown

_OURS = "evflex, with the 6 A minimum"
_PEER = "HiGHS' fastest LP, without"
_LARGE_CAP_S = 60.0
_GAP = 2e-4
# Small sites go to branch and bound for such a gap, which is another question.
_SMALL_GAP = 1e-3


@case("scale_10000", "10 000 sessions on one site", sizes=(10, 100, 1000, 10_000))
def scale_10000(setting: Setting) -> Outcome:
    outcome = Outcome()
    thousand = setting.site(1000)
    large = thousand.resample(setting.pick(10, 2) * thousand.count, 0)
    ours = {
        "evflex, 1000": Planned(thousand, thousand.options(_GAP, 120.0)),
        "evflex, 10000": Planned(large, large.options(_GAP, setting.seconds(120.0, 5.0))),
    }
    ours["evflex, 1000"]()
    timings = alternate(ours, setting.pick(3), setting.seconds(45.0))
    mode = _curves(setting, outcome)
    program = linear_program(large, explicit_shortfall=not mode.endswith(SUBSTITUTED))
    highs = solve(program, mode_options(mode), setting.seconds(_LARGE_CAP_S))
    outcome.seconds = timings | {"HiGHS LP, 10000": [highs.seconds]}
    typical = medians(outcome.seconds)
    reached = "" if highs.optimal else ", not finished"
    outcome.add(
        "time", "Time at 10 000 sessions, in times of 1000", typical["evflex, 10000"] / typical["evflex, 1000"], "×",
        at_most=12.0, peer=f"{shown(typical['evflex, 10000'])} and {shown(typical['evflex, 1000'])}; HiGHS LP without "
        f"the minimum {shown(highs.seconds)}{reached} ({mode})",
    )  # fmt: skip
    outcome.add("gap", "Gap at 10 000 sessions", ours["evflex, 10000"].gap, "%")
    outcome.details["method"] = {name: planned.schedule.termination.method for name, planned in ours.items()}
    outcome.notes += [
        "The 10 000 are drawn from the 1000 with energies and stays varied by a little, limit times ten.",
        "At 10 000 HiGHS is run once, in the mode that is fastest at 1000.",
    ]
    outcome.curves[_OURS].append((10_000, typical["evflex, 10000"]))
    if highs.optimal:
        outcome.curves[_PEER].append((10_000, highs.seconds))
    return outcome


def _curves(setting: Setting, outcome: Outcome) -> str:
    """Measure the smaller sizes of the picture; returns HiGHS' fastest mode at the largest of them."""
    mode = ""
    outcome.curves = {_OURS: [], _PEER: []}
    for size in (10, 100, 1000):
        site = setting.site(size)
        ours = Planned(site, site.options(_SMALL_GAP if size == 10 else _GAP))
        ours()
        mode, program, _ = fastest_lp(site)
        runs: dict[str, Callable[[], object]] = {_OURS: ours, _PEER: partial(solve, program, mode_options(mode))}
        for name, seconds in medians(alternate(runs, setting.pick(3), 20.0)).items():
            outcome.curves[name].append((size, seconds))
    return mode
