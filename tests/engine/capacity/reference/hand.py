"""Problems small enough to be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from evflex.engine.capacity.hub import Hub, HubSessions
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.capacity.transformer import BaseLoad, Cooling, ThermalParameters, Transformer
from evflex.engine.timegrid import TimeGrid

START_UNIX_S = 1_767_225_600.0
QUARTER_S, HOUR_S = 900.0, 3600.0
# Temperatures and loading that limit nothing.
NO_LIMITS = {"max_loading_ratio": 5.0, "max_hot_spot_c": 400.0, "max_top_oil_c": 400.0}


def hub(name: str, demand_kw: list[float], **terms: Any) -> Hub:
    """A hub on all phases, of 100 kW unless said otherwise."""
    return Hub.of_demand(name, np.array(demand_kw), **({"max_kw": 100.0} | terms))


def car_hub(name: str, steps: int, cars: list[tuple[float, float, float, float]], **terms: Any) -> Hub:
    """A hub of cars: arrival and departure in hours from the start, kWh and kW."""
    plain = hub(name, [0.0] * steps, **terms)
    columns = np.array(cars).T
    sessions = HubSessions(
        tuple(f"{name}-{i}" for i in range(len(cars))), START_UNIX_S + HOUR_S * columns[0],
        START_UNIX_S + HOUR_S * columns[1], columns[2], columns[3],
    )  # fmt: skip
    return replace(plain, demand_kw=np.empty(0), connected_evs=np.empty(0, dtype=np.int64), sessions=sessions)


def problem_of(
    base_kw: list[float],
    hubs: list[Hub],
    *,
    policy: AllocationPolicy = AllocationPolicy.MAX_MIN,
    step_s: float = HOUR_S,
    ambient_c: float = 0.0,
    contingency: list[int] | None = None,
    n1_rated_kva: float = 60.0,
    **limits: Any,
) -> AllocationProblem:
    """100 kVA that may be loaded fully and has no other limit, balanced base load, some steps in N-1."""
    steps = len(base_kw)
    values = NO_LIMITS | {"max_loading_ratio": 1.0} | limits
    transformer = Transformer(100.0, ThermalParameters.of(Cooling.ONAN), np.full(steps, ambient_c), **values)
    in_n1 = np.isin(np.arange(steps), contingency or [])
    return AllocationProblem(
        TimeGrid(START_UNIX_S, step_s, steps), transformer, BaseLoad.balanced(np.array(base_kw)), in_n1, n1_rated_kva,
        tuple(hubs), policy,
    )  # fmt: skip
