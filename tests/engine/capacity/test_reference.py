"""The references themselves: temperatures against the standard's example, optima worked out by hand, sound problems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.capacity.transformer import BaseLoad, Cooling, ThermalParameters, ThermalState, Transformer
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from tests.conftest import SOAK
from tests.engine.capacity.reference.builders import allocation_of
from tests.engine.capacity.reference.checker import violations
from tests.engine.capacity.reference.generators import day_problem, firm_is_carried, small_problem
from tests.engine.capacity.reference.nonlinear_optimum import optimum
from tests.engine.capacity.reference.twin import heat

# Settled at rated load and 20 °C, with ONAN: the hot-spot is 98 °C.
SETTLED = ThermalState(72.0, 52.0, 26.0)


def problem_of(base_kw: list[float], hubs: list[Hub], step_s: float = 3600.0, **limits: float) -> AllocationProblem:
    """100 kVA at 20 °C, settled at rated load, balanced base load."""
    steps = len(base_kw)
    wide = {"max_loading_ratio": 5.0, "max_hot_spot_c": 400.0, "max_top_oil_c": 400.0}
    transformer = Transformer(100.0, ThermalParameters.of(Cooling.ONAN), np.full(steps, 20.0), initial_state=SETTLED)
    transformer = replace(transformer, **(wide | limits))  # type: ignore[arg-type]
    return AllocationProblem(
        TimeGrid(0.0, step_s, steps), transformer, BaseLoad.balanced(np.array(base_kw)),
        np.zeros(steps, dtype=np.bool_), 100.0, tuple(hubs),
    )  # fmt: skip


def hub(name: str, demand: list[float], **terms: float) -> Hub:
    """A hub on all phases of 100 kW."""
    return Hub.of_demand(name, np.array(demand), max_kw=100.0, **terms)  # type: ignore[arg-type]


def test_twin_follows_the_load_steps_of_the_standard() -> None:
    """IEC 60076-7, annex C: six load steps and the temperatures at their ends."""
    ends = np.array([190, 365, 500, 705, 730, 745]) // 5
    ratio: FloatArray = np.repeat([1.0, 0.6, 1.5, 0.3, 2.1, 0.0], np.diff(ends, prepend=0))
    thermal = ThermalParameters(38.3, 20.3, 1000.0, 0.8, 1.3, 150.0, 7.0, 0.5, 2.0, 2.0)
    transformer = Transformer(
        100.0, thermal, np.full(149, 25.6), initial_state=ThermalState(38.3, 0.0, 0.0)
    )  # fmt: skip
    problem = replace(
        problem_of([0.0] * 149, [hub("a", [0.0] * 149)], step_s=300.0), transformer=transformer
    )  # fmt: skip
    found = heat(problem, ratio)
    assert found.top_oil_c[ends - 1, -1] == pytest.approx([61.9, 44.4, 89.2, 35.0, 67.9, 60.3], abs=1.5)
    assert found.hot_spot_c[ends - 1, -1] == pytest.approx([83.8, 54.0, 127.0, 37.5, 138.6, 75.3], abs=1.5)


def test_optimum_serves_all_that_fits_and_waits_with_the_rest() -> None:
    """60, 30 and 60 kW are free, 50 wanted in each step: 20 kWh wait for the last step, 10 of them in vain."""
    best = optimum(problem_of([40.0, 70.0, 40.0], [hub("a", [50.0] * 3)], max_loading_ratio=1.0))
    assert best.power_kw[0] == pytest.approx([50.0, 30.0, 60.0], abs=0.2)


def test_optimum_holds_firm_capacity_that_nobody_uses() -> None:
    """Of 60 kW, 25 stay with a hub that wants nothing."""
    hubs = [hub("a", [0.0, 0.0], firm_kw=25.0), hub("b", [80.0, 80.0])]
    best = optimum(problem_of([40.0, 40.0], hubs, max_loading_ratio=1.0))
    assert best.served_kwh == pytest.approx([0.0, 70.0], rel=1e-3)
    with pytest.raises(ValueError, match="firm"):
        optimum(problem_of([40.0, 80.0], hubs, max_loading_ratio=1.0))


@pytest.mark.parametrize(
    "limits", [{"max_hot_spot_c": 98.0}, {"max_top_oil_c": 72.0}, {"max_loss_of_life_h_per_day": 24.0}]
)
def test_optimum_goes_to_rated_load_where_heat_allows_just_that(limits: dict[str, float]) -> None:
    """One step of a day, settled at rated load: 60 kW on top of 40 keep it there."""
    problem = problem_of([40.0], [hub("a", [90.0])], step_s=86_400.0, **limits)
    assert optimum(problem).total_kwh == pytest.approx(60.0 * 24.0, rel=1e-3)


@pytest.mark.parametrize(
    ("policy", "served"), [(AllocationPolicy.LEAST_COST, [0.0, 60.0]), (AllocationPolicy.PRIORITY, [50.0, 10.0])]
)
def test_optimum_follows_price_and_priority(policy: AllocationPolicy, served: list[float]) -> None:
    """60 kWh between a hub of priority 1 at 0.1 a kWh and one of priority 0 at 0.2."""
    hubs = [
        hub("a", [50.0], priority=1, curtailment_price_per_kwh=0.1),
        hub("b", [70.0], priority=0, curtailment_price_per_kwh=0.2),
    ]
    best = optimum(replace(problem_of([40.0], hubs, max_loading_ratio=1.0), policy=policy))
    assert best.served_kwh == pytest.approx(served, abs=0.1)  # within the gap


@pytest.mark.parametrize("seed", range(100 if SOAK else 12))
def test_generated_problems_are_sound_and_their_optima_keep_every_limit(seed: int) -> None:
    """Valid, firm capacity carried, the same again from the same seed; the optimum breaks no limit."""
    problem = small_problem(seed)
    rules = Rules()
    problem.validate(rules)
    assert rules.violations == []
    assert firm_is_carried(problem)
    assert small_problem(seed).base.phase_kw.tolist() == problem.base.phase_kw.tolist()
    best = optimum(problem)
    faults = violations(problem, allocation_of(problem, best.power_kw, capacity_kw=best.capacity_kw))
    assert not [fault for fault in faults if "broken" in fault or "carries" in fault or "firm" in fault]
    assert not [
        fault for fault in faults if "more than was wanted" in fault or "served" in fault.split("evs_served")[0]
    ]


@pytest.mark.parametrize("seed", range(300 if SOAK else 10))
def test_generated_days_are_sound(seed: int) -> None:
    """Valid, and the transformer carries base load and firm capacity."""
    problem = day_problem(seed)
    rules = Rules()
    problem.validate(rules)
    assert rules.violations == []
    assert firm_is_carried(problem)
