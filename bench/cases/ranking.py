"""Sites that cannot serve every wish: which one loses, beside a lexicographic program with integers."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from bench.registry import Outcome, Setting, case
from bench.timing import shown
from evflex.engine.charging import ScheduleOptions, ScheduleProblem, optimize_schedule
from tests.engine.charging.reference import figures, reference_milp
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.compare import differences
from tests.engine.charging.reference.generators import random_problem

_FEATURES = ("tree", "min", "agreement", "minimum_energy", "weights")
_SITES, _SESSIONS, _STEPS = 12, 6, 8
_LOST_KWH = 1e-3


@case("ranking", "Sites in which wishes must lose", sizes=(_SITES,))
def ranking(setting: Setting) -> Outcome:
    outcome = Outcome()
    ours_s: list[float] = []
    peer_s: list[float] = []
    wrong: dict[str, list[str]] = {}
    lost = np.zeros(3)
    for seed in range(setting.pick(_SITES)):
        problem, options = _crowded(seed)
        started = time.perf_counter()
        schedule = optimize_schedule(problem, options)
        ours_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        best = reference_milp.solve(problem, options)
        peer_s.append(time.perf_counter() - started)
        lost += np.array(best.ranks[1:4]) > _LOST_KWH
        faults = differences(problem, options, schedule)
        if faults:
            wrong[f"site {seed}"] = [*faults[:5], str(figures.ranks(Case(problem, options), schedule.power_kw))]
    outcome.seconds = {"evflex": ours_s, "lexicographic MILP": peer_s}
    outcome.add(
        "exact", f"Sites whose ranking differs from the lexicographic MILP, of {len(ours_s)}", len(wrong), at_most=0,
        peer=f"longest {shown(max(ours_s))} beside {shown(max(peer_s))}",
    )  # fmt: skip
    names = ("minimum energy", "connection agreement", "energy needed")
    outcome.details |= {
        "sites_where_it_loses": dict(zip(names, lost.astype(int).tolist(), strict=True)), "faults": wrong,
    }  # fmt: skip
    outcome.notes.append(
        "Wishes lose on: " + ", ".join(f"{n} {int(k)}" for n, k in zip(names, lost, strict=True)) + " sites."
    )
    return outcome


def _crowded(seed: int) -> tuple[ScheduleProblem, ScheduleOptions]:
    """A small tree under half of the limits that would serve everyone."""
    problem, options = random_problem(seed, _FEATURES, count=_SESSIONS, steps=_STEPS)
    nodes = problem.nodes
    halved = dataclasses.replace(
        nodes,
        max_import_kw=tuple(0.5 * values for values in nodes.max_import_kw),
        agreement_import_kw=tuple(0.5 * values for values in nodes.agreement_import_kw),
    )
    crowded = dataclasses.replace(problem, nodes=halved)
    return crowded, dataclasses.replace(options, relative_gap=1e-6, time_limit_s=30.0)
