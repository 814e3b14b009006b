"""How much more EV energy conditional agreements let through than firm limits, on a week of measured data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench import residential_hubs
from bench.instances import data_folder
from bench.registry import Outcome, Setting, case
from bench.residential_hubs import N1_KVA, RATED_KVA, firm_only, residential_week
from bench.timing import alternate
from evflex.engine.capacity import Allocation, AllocationOptions, allocate_capacity
from tests.engine.capacity.reference.checker import violations

_MORE = 1.3
# Other ratings in N-1, over rated power, beside the one of the figure.
_OTHER_RATIOS = (0.76, 0.78, 0.8)


@case(
    "capacity_residential", "Conditional agreements on a residential transformer", sizes=(2,), needs_data=True,
    domain="capacity",
)  # fmt: skip
def capacity_residential(setting: Setting) -> Outcome:
    problem = residential_week(data_folder())
    without = firm_only(problem)
    firm_kw = float(problem.hubs[0].firm_kw[0])
    outcome = Outcome(notes=[
        f"A week of January with the sessions of 24 garages in Trondheim as two hubs, {residential_hubs.CAR_KW:g} kW a "
        f"car, and 25 measured households scaled so that their peak of the year is 70 % of {RATED_KVA:g} kVA.",
        f"Firm capacity is what a connection without conditions has for ever: {N1_KVA:g} kVA in N-1 less the peak of "
        f"the year, {firm_kw:.3g} kW for each hub. The more N-1 leaves, the less conditional capacity adds.",
    ])  # fmt: skip
    runs: dict[str, Callable[[], Allocation]] = {
        "conditional": lambda: allocate_capacity(problem, AllocationOptions()),
        "firm only": lambda: allocate_capacity(without, AllocationOptions()),
    }
    for run in runs.values():
        run()
    outcome.seconds = alternate(runs, setting.pick(5))
    more, firm = runs["conditional"](), runs["firm only"]()
    served, by_firm = float(more.served_kwh.sum()), float(firm.served_kwh.sum())
    outcome.add(
        "energy", "EV energy let through over that of firm limits alone", served / by_firm, "×", at_least=_MORE,
        peer=f"{served:.0f} kWh beside {by_firm:.0f} kWh, of {more.wanted_kwh.sum():.0f} kWh wanted",
    )  # fmt: skip
    broken = len(violations(problem, more)) + len(violations(without, firm))
    outcome.add("limits", "Rules broken in both plans", broken, at_most=0, peer="independent checker")
    ratios = _OTHER_RATIOS[: setting.pick(3)]
    others = ", ".join(f"{ratio:g} × rated {_more_energy(ratio * RATED_KVA):.2f} ×" for ratio in ratios)
    outcome.notes.append(f"With other ratings in N-1 the figure is: {others}.")
    base_kw = problem.base.phase_kw.sum(axis=1)
    outcome.details["week"] = {
        "hours": (np.arange(len(base_kw)) * problem.grid.step_h).tolist(),
        "households": base_kw.tolist(),
        "with firm limits": (base_kw + firm.power_kw.sum(axis=0)).tolist(),
        "with conditional agreements": (base_kw + more.power_kw.sum(axis=0)).tolist(),
    }
    return outcome


def _more_energy(n1_rated_kva: float) -> float:
    """Energy with conditional agreements over that with firm limits."""
    problem = residential_week(data_folder(), n1_rated_kva)
    more, firm = (allocate_capacity(each, AllocationOptions()) for each in (problem, firm_only(problem)))
    return float(more.served_kwh.sum() / firm.served_kwh.sum())
