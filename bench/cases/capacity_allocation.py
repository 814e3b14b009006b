"""Capacity of 200 hubs over a day by each policy, beside a linear program of all hubs without temperatures."""

from __future__ import annotations

import numpy as np

from bench.highs_allocation_peer import MODES, allocation_program, solve_allocation
from bench.instances import START_UNIX_S
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown
from evflex.engine.capacity import (
    AllocationOptions,
    AllocationPolicy,
    AllocationProblem,
    BaseLoad,
    Cooling,
    Hub,
    ThermalParameters,
    Transformer,
    allocate_capacity,
)
from evflex.engine.timegrid import TimeGrid

_HUBS, _STEPS, _STEP_S = 200, 96, 900.0
_ASKED_S = 0.1
_RATED_KVA, _N1_KVA = 630.0, 500.0


@case("capacity_allocation", "Allocation of capacity over a day", sizes=(_HUBS,), generated=True, domain="capacity")
def capacity_allocation(setting: Setting) -> Outcome:
    count = setting.pick(_HUBS, 10)
    outcome = Outcome(notes=[
        f"{_HUBS} hubs behind {_RATED_KVA:g} kVA want twice of what it has in the evening, an hour of it in N-1; "
        "prices of curtailment from 0 to 0.40, priorities from 0 to 3, weights from 1 to 3.",
        "The peer serves most energy under the loading limits, as one linear program with a power for each hub and "
        "step and rows for what has been wanted; it knows no temperatures, no policy, and is timed without building.",
    ])  # fmt: skip
    problems = {policy: _problem(count, policy) for policy in AllocationPolicy}
    runs = {policy.name: _Run(problem) for policy, problem in problems.items()}
    program = allocation_program(problems[AllocationPolicy.MAX_MIN])
    for run in runs.values():
        run()
    tried = {mode: solve_allocation(program, options) for mode, options in MODES.items()}
    fastest = min(tried, key=lambda mode: tried[mode].seconds)
    outcome.seconds = alternate(runs, setting.pick(15), 30.0)
    outcome.seconds[f"HiGHS, {fastest}"] = [
        solve_allocation(program, MODES[fastest]).seconds for _ in range(setting.pick(5))
    ]
    typical = medians(outcome.seconds)
    peer_s = typical[f"HiGHS, {fastest}"]
    for name, run in runs.items():
        outcome.add(
            name.lower(), f"{_HUBS} hubs × {_STEPS} steps, {name}", typical[name], "s", at_most=_ASKED_S,
            peer=f"gap {run.gap:.1e}; linear program in HiGHS ({fastest}) {shown(peer_s)}",
        )  # fmt: skip
    served = float(runs[AllocationPolicy.MAX_MIN.name].served_kwh)
    outcome.add(
        "energy", "Energy served over that of the program without temperatures", served / tried[fastest].energy_kwh, "%"
    )
    return outcome


class _Run:
    """Allocates as often as it is called, and keeps what came out."""

    def __init__(self, problem: AllocationProblem) -> None:
        self._problem = problem
        self.gap, self.served_kwh = np.inf, 0.0

    def __call__(self) -> None:
        plan = allocate_capacity(self._problem, AllocationOptions())
        self.gap, self.served_kwh = plan.termination.relative_gap, float(plan.served_kwh.sum())


def _problem(count: int, policy: AllocationPolicy) -> AllocationProblem:
    """Seeded hubs on a transformer with a morning and an evening peak."""
    rng = np.random.default_rng(20_261)
    hour = np.arange(_STEPS) * _STEP_S / 3600.0
    base_kw = 250.0 + 200.0 * np.exp(-(((hour - 19.0) / 2.0) ** 2)) + 60.0 * np.exp(-(((hour - 8.0) / 1.5) ** 2))
    hubs = []
    for h in range(count):
        wave = np.exp(-(((hour - 18.0 - rng.normal()) / 3.0) ** 2))
        demand_kw = np.maximum(rng.normal(600.0 / count * wave, 5.0), 0.0)
        hubs.append(
            Hub.of_demand(
                f"hub-{h}", demand_kw, max_kw=800.0 / count, firm_kw=30.0 / count, weight=1.0 + h % 3,
                priority=h % 4, curtailment_price_per_kwh=0.1 * (h % 5),
            )
        )  # fmt: skip
    transformer = Transformer(_RATED_KVA, ThermalParameters.of(Cooling.ONAN, distribution=True), np.full(_STEPS, 10.0))
    contingency = np.zeros(_STEPS, dtype=np.bool_)
    contingency[76:80] = True
    return AllocationProblem(
        TimeGrid(float(START_UNIX_S), _STEP_S, _STEPS), transformer, BaseLoad.balanced(base_kw, 0.2 * base_kw),
        contingency, _N1_KVA, tuple(hubs), policy,
    )  # fmt: skip
