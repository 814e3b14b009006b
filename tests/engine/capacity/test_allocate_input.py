"""What is wrong with a problem is told by field, index and rule; what is absurd is refused before it is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evflex.engine.capacity import AllocationOptions, AllocationProblem, allocate_capacity
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError
from tests.engine.capacity.reference.hand import START_UNIX_S, car_hub, hub, problem_of

CARS = [(0.0, 1.0, 5.0, 11.0), (0.0, 2.0, 5.0, 11.0)]
ABSURD = 1e308


def sound() -> AllocationProblem:
    return problem_of([20.0, 20.0], [hub("a", [10.0, 10.0]), car_hub("b", 2, CARS)])


def with_hub(**changes: Any) -> AllocationProblem:
    problem = sound()
    return replace(problem, hubs=(replace(problem.hubs[0], **changes), problem.hubs[1]))


def with_cars(**changes: Any) -> AllocationProblem:
    problem = sound()
    cars = replace(problem.hubs[1].sessions, **changes)
    return replace(problem, hubs=(problem.hubs[0], replace(problem.hubs[1], sessions=cars)))


def with_transformer(**changes: Any) -> AllocationProblem:
    problem = sound()
    return replace(problem, transformer=replace(problem.transformer, **changes))


def with_base(**changes: Any) -> AllocationProblem:
    problem = sound()
    return replace(problem, base=replace(problem.base, **changes))


def pair(second: float) -> Any:
    return np.array([1.0, second])


INVALID = [
    (replace(sound(), grid=TimeGrid(START_UNIX_S, 0.0, 2)), "time_grid", "step_duration"),
    (replace(sound(), n1_rated_kva=0.0), "n1_rated_kva", "between 0.001 and 1e+09"),
    (replace(sound(), contingency=np.zeros(3, dtype=np.bool_)), "grid_condition", "length 2"),
    (replace(sound(), hubs=()), "hubs", "at least one"),
    (replace(sound(), hubs=(sound().hubs[0],) * 2), "hubs[1].hub_id", "unique"),
    (with_hub(hub_id=""), "hubs[0].hub_id", "empty"),
    (with_hub(phases_per_ev=2), "hubs[0].phases_per_ev", "0 (all) or 1"),
    (with_hub(demand_kw=np.zeros(3)), "hubs[0].demand_kw", "length 2"),
    (with_hub(connected_evs=np.array([1, -2])), "hubs[0].connected_evs[1]", ">= 0"),
    (with_hub(connected_evs=np.array([1])), "hubs[0].connected_evs", "length 2"),
    (with_hub(sessions=sound().hubs[1].sessions), "hubs[0].sessions", "empty"),
    (with_cars(session_ids=("x", "x")), "hubs[1].sessions[1].session_id", "unique"),
    (with_cars(session_ids=("x", "")), "hubs[1].sessions[1].session_id", "empty"),
    (with_cars(arrival_unix_s=pair(np.nan)), "hubs[1].sessions[1].arrival_time", "set"),
    (with_cars(departure_unix_s=START_UNIX_S + pair(-5.0)), "hubs[1].sessions[1].departure_time", "after"),
    (with_transformer(rated_kva=0.0), "transformer.rated_kva", "between 0.001 and 1e+09"),
    (with_transformer(max_loading_ratio=0.0), "transformer.max_loading_ratio", "> 0"),
    (with_transformer(ambient_c=pair(np.nan)), "ambient_c[1]", "finite"),
    (with_base(phase_kw=np.array([[1.0, 1.0, 1.0], [1.0, np.nan, 1.0]])), "loading.phase_kw", "within ±1e+09"),
    *((with_hub(**{name: value}), f"hubs[0].{name}", "1e+09")
      for name in ("max_kw", "weight") for value in (0.0, -1.0, np.nan, np.inf, ABSURD)),
    *((with_hub(**{name: value}), f"hubs[0].{name}", "1e+09")
      for name in ("min_kw_per_ev", "curtailment_price_per_kwh") for value in (-1.0, np.nan, np.inf, ABSURD)),
    *((with_hub(**{name: pair(value)}), f"hubs[0].{name}[1]", rule)
      for name in ("firm_kw", "conditional_kw", "noticed_kw", "demand_kw")
      for value, rule in ((-1.0, ">= 0"), (np.nan, "finite"), (np.inf, "finite"), (ABSURD, "1e+09"))),
    *((with_cars(**{name: pair(value)}), f"hubs[1].sessions[1].{name}", "1e+09")
      for name in ("energy_needed_kwh", "max_charge_kw") for value in (-1.0, np.nan, np.inf, ABSURD)),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "path", "rule"), INVALID)
def test_bad_input_is_named(problem: AllocationProblem, path: str, rule: str) -> None:
    with pytest.raises(InvalidProblemError) as caught:
        allocate_capacity(problem, AllocationOptions())
    told = [(fault.field, fault.description) for fault in caught.value.violations]
    assert any(path in field and rule in description for field, description in told) or any(
        path in field and rule in field for field, _ in told
    ), told


def test_every_fault_is_told_at_once() -> None:
    problem = replace(with_hub(max_kw=0.0, weight=0.0), n1_rated_kva=-1.0)
    with pytest.raises(InvalidProblemError) as caught:
        allocate_capacity(problem, AllocationOptions())
    assert caught.value.total == 3


@pytest.mark.parametrize("limit_s", [0.0, -1.0, np.nan, np.inf])
def test_a_time_limit_is_positive(limit_s: float) -> None:
    with pytest.raises(InvalidProblemError, match="time_limit_duration"):
        allocate_capacity(sound(), AllocationOptions(time_limit_s=limit_s))


@pytest.mark.parametrize("weight", [1e-9, 1e9])
@pytest.mark.parametrize("max_kw", [1e-6, 1e9])
def test_the_largest_and_smallest_that_are_allowed_are_planned(max_kw: float, weight: float) -> None:
    problem = with_hub(max_kw=max_kw, weight=weight, conditional_kw=np.full(2, max_kw), demand_kw=np.full(2, max_kw))
    plan = allocate_capacity(problem, AllocationOptions())
    assert np.isfinite(plan.served_kwh).all()
    assert plan.loading_ratio.max() <= 1.0 + 1e-6
