"""Measured sessions at market prices, checked by code that shares nothing with the solver."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from bench.instances import data_folder
from bench.registry import Outcome, Setting, case
from bench.timing import shown
from evflex.engine.charging import optimize_schedule
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.datasets import acn_day, acn_days

_DAYS = 30
# Money and energy are compared to the accuracy of the solver.
_RATIO = 1e-6
_KWH = 1e-6


@case("real_days", "30 days of ACN sessions at DK2 prices", sizes=(_DAYS,), needs_data=True)
def real_days(setting: Setting) -> Outcome:
    outcome = Outcome()
    folder = data_folder()
    days = acn_days(_DAYS, folder)[: setting.pick(_DAYS, 2)]
    rows: dict[str, dict[str, float]] = {}
    seconds: list[float] = []
    broken: dict[str, list[str]] = {}
    dearer = shorter = 0
    optimize_schedule(*acn_day(days[0], folder=folder))
    for day in days:
        problem, options = acn_day(day, folder=folder)
        started = time.perf_counter()
        schedule = optimize_schedule(problem, options)
        seconds.append(time.perf_counter() - started)
        faults = check(problem, options, schedule)
        if faults:
            broken[f"{day}"] = faults[:5]
        plan, first = schedule.figures, schedule.uncontrolled
        shorter += plan.shortfall_kwh > first.shortfall_kwh + _KWH
        dearer += plan.total_cost > first.total_cost + _RATIO * abs(first.total_cost)
        rows[f"{day}"] = {
            "sessions": len(problem.sessions),
            "cost": plan.total_cost,
            "uncontrolled_cost": first.total_cost,
            "saving": 1.0 - plan.total_cost / first.total_cost,
            "shortfall_kwh": plan.shortfall_kwh,
            "uncontrolled_shortfall_kwh": first.shortfall_kwh,
            "gap": schedule.termination.relative_gap,
        }
    outcome.seconds["evflex"] = seconds
    savings = [row["saving"] for row in rows.values()]
    low, high = np.percentile(savings, [10, 90])
    spread = f"saving {min(savings):.1%} to {max(savings):.1%}, 10 % to 90 %: {low:.1%} to {high:.1%}"
    outcome.add(
        "limits", f"Days with a broken rule, of {len(days)}", len(broken), at_most=0, peer="independent checker"
    )
    outcome.add(
        "objective", "Days dearer than uncontrolled", dearer, at_most=0, peer=f"uncontrolled charging; {spread}"
    )
    outcome.add(
        "shortfall", "Days with more shortfall than uncontrolled", shorter, at_most=0, peer="uncontrolled charging"
    )
    outcome.add(
        "saving", "Median saving", median(savings), "%",
        peer=f"uncontrolled charging; a day takes {shown(median(seconds))}, the longest {shown(max(seconds))}",
    )  # fmt: skip
    outcome.details |= {"days": rows, "faults": broken}
    outcome.notes.append("Limit at 30 % of the chargers in use, 6 A minimum, least shortfall first, then least cost.")
    return outcome
