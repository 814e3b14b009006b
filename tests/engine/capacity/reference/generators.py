"""Random allocation problems from a seed: small ones for the optimum, whole days for everything else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from evflex.engine.capacity.hub import ANY_COUNT, Hub, HubSessions, default_min_kw_per_ev
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.capacity.transformer import BaseLoad, Cooling, InsulationPaper, ThermalParameters, Transformer
from evflex.engine.supply_tree import FloatArray, PhaseConnection
from evflex.engine.timegrid import TimeGrid
from tests.engine.capacity.reference.twin import excesses, stress

_START_UNIX_S = 1_767_225_600.0
_SINGLE_PHASES = (PhaseConnection.L1, PhaseConnection.L2, PhaseConnection.L3)


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a random problem looks like; None leaves it to chance.

    Attributes:
        hubs: Number of hubs.
        steps: Number of steps.
        step_s: Length of a step.
        policy: How conditional capacity is split.
        sessions: Share of hubs with cars one by one; the others have demand per step.
        minimum_power: Whether cars have a least power.
        single_phase: Share of hubs on one phase, and of three-phase hubs with single-phase cars.
        contingency: Share of days with hours in N-1.
        tightness: What all hubs want at once over the rated power: 0.3 is loose, 3 is tight.
        thermal_limits: Whether temperatures or loss of life limit before the loading ratio does.
        firm_share: Largest firm capacity of all hubs together over rated power.
        feasible: Scale base load and firm capacity down until the transformer carries both.
    """

    hubs: int | None = None
    steps: int = 96
    step_s: float = 900.0
    policy: AllocationPolicy | None = None
    sessions: float = 0.5
    minimum_power: bool | None = None
    single_phase: float = 0.2
    contingency: float = 0.3
    tightness: float | None = None
    thermal_limits: bool | None = None
    firm_share: float = 0.3
    feasible: bool = True


def small_problem(seed: int, knobs: Knobs | None = None) -> AllocationProblem:
    """2 to 5 hubs, 12 to 24 steps of 15 minutes to an hour, no least power unless asked for: for the optimum."""
    rng = np.random.default_rng([seed, 1])
    chosen = knobs or Knobs(
        hubs=int(rng.integers(2, 6)), steps=int(rng.integers(12, 25)),
        step_s=float(rng.choice([900.0, 1800.0, 3600.0])), minimum_power=False, tightness=float(rng.uniform(0.8, 2.5)),
    )  # fmt: skip
    return random_problem(seed, chosen)


def day_problem(seed: int, knobs: Knobs | None = None) -> AllocationProblem:
    """A day of quarter hours with 2 to 200 hubs."""
    rng = np.random.default_rng([seed, 2])
    return random_problem(seed, knobs or Knobs(hubs=round(10.0 ** rng.uniform(0.3, 2.3))))


def random_problem(seed: int, knobs: Knobs) -> AllocationProblem:
    """A problem as ``knobs`` say, the rest by chance; valid."""
    rng = np.random.default_rng([seed, 3])
    rated = float(rng.choice([100.0, 250.0, 400.0, 630.0, 1000.0]))
    grid = TimeGrid(_START_UNIX_S + 86_400.0 * int(rng.integers(0, 365)), knobs.step_s, knobs.steps)
    hour: FloatArray = (np.arange(knobs.steps, dtype=np.float64) + 0.5) * knobs.step_s / 3600.0 % 24.0
    if knobs.steps * knobs.step_s < 86_400.0:  # a part of a day: from noon on, so that the evening is in it
        hour = (hour + 12.0) % 24.0
    transformer = _transformer(rng, rated, hour, knobs)
    contingency = np.zeros(knobs.steps, dtype=np.bool_)
    if rng.random() < knobs.contingency:
        first = int(rng.integers(0, knobs.steps))
        contingency[first : first + max(1, round(rng.uniform(0.05, 0.3) * knobs.steps))] = True
    n1_rated_kva = rated * float(rng.uniform(0.6, 1.0)) * min(1.0, transformer.max_loading_ratio)
    hubs = _hubs(rng, rated, grid, hour, knobs)
    policy = AllocationPolicy(int(rng.integers(1, 6))) if knobs.policy is None else knobs.policy
    problem = AllocationProblem(
        grid, transformer, _base_load(rng, rated, hour), contingency, n1_rated_kva, hubs, policy
    )
    return _carried(problem) if knobs.feasible else problem


def firm_is_carried(problem: AllocationProblem) -> bool:
    """Whether base load and all firm capacity together keep every limit."""
    firm = np.array([np.minimum(hub.firm_kw, hub.max_kw) for hub in problem.hubs])
    return all(bool((over <= 0.0).all()) for over in excesses(problem, stress(problem, firm)).values())


def _carried(problem: AllocationProblem) -> AllocationProblem:
    """The same with less base load and firm capacity, where they were too much."""
    while not firm_is_carried(problem):
        base = problem.base
        problem = replace(
            problem,
            base=BaseLoad(base.phase_kw * 0.93, base.phase_kvar * 0.93, base.voltage_v),
            hubs=tuple(_with_firm(hub, hub.firm_kw * 0.85) for hub in problem.hubs),
            transformer=replace(problem.transformer, ambient_c=problem.transformer.ambient_c - 0.5),
        )
    return problem


def _with_firm(hub: Hub, firm: FloatArray) -> Hub:
    """A firm capacity below the least power of a car is of no use: there is none then."""
    return replace(hub, firm_kw=np.where(firm < hub.min_kw_per_ev, 0.0, firm))


def _transformer(rng: np.random.Generator, rated: float, hour: FloatArray, knobs: Knobs) -> Transformer:
    cooling = rng.choice([None, *Cooling])
    thermal = ThermalParameters.of(Cooling(cooling or Cooling.ONAN), distribution=cooling is None)
    mean = float(rng.choice([-10.0, 5.0, 15.0, 25.0, 32.0]))
    ambient = mean - rng.uniform(2.0, 7.0) * np.cos((hour - 3.0) / 24.0 * 2.0 * np.pi)
    hot = bool(rng.random() < 0.7) if knobs.thermal_limits is None else knobs.thermal_limits
    return Transformer(
        rated, thermal, ambient,
        max_loading_ratio=float(rng.uniform(1.3, 1.8) if hot else rng.uniform(0.8, 1.2)),
        max_hot_spot_c=float(rng.uniform(95.0, 115.0) if hot else 140.0),
        max_top_oil_c=float(rng.uniform(75.0, 100.0) if hot else 115.0),
        max_loss_of_life_h_per_day=float(rng.uniform(4.0, 24.0)) if hot and rng.random() < 0.5 else inf,
        paper=InsulationPaper(int(rng.integers(1, 3))),
    )  # fmt: skip


def _base_load(rng: np.random.Generator, rated: float, hour: FloatArray) -> BaseLoad:
    """Households with a morning and a higher evening peak, some photovoltaics at noon, uneven phases."""
    evening = np.exp(-(((hour - rng.uniform(17.5, 20.0)) / 2.0) ** 2))
    morning = np.exp(-(((hour - 7.5) / 1.5) ** 2))
    load = rng.uniform(0.4, 0.8) * (0.35 + 0.25 * morning + 0.65 * evening) * rng.normal(1.0, 0.04, len(hour))
    sun = np.maximum(0.0, np.cos((hour - 13.0) / 12.0 * np.pi)) ** 1.5 * rng.choice([0.0, 0.3, 1.0]) * rng.random()
    split = 1.0 / 3.0 + rng.uniform(-0.04, 0.04, 3) * rng.choice([0.0, 1.0])
    kw = rated * (load - sun)[:, None] * (split / split.sum())
    kvar = rated * np.abs(load)[:, None] * (split / split.sum()) * rng.uniform(0.0, 0.4)
    return BaseLoad(kw, kvar, rng.uniform(225.0, 236.0, 3))


def _hubs(rng: np.random.Generator, rated: float, grid: TimeGrid, hour: FloatArray, knobs: Knobs) -> tuple[Hub, ...]:
    count = knobs.hubs or int(rng.integers(2, 21))
    tightness = float(rng.uniform(0.3, 3.0)) if knobs.tightness is None else knobs.tightness
    least = bool(rng.random() < 0.5) if knobs.minimum_power is None else knobs.minimum_power
    size = rng.dirichlet(np.full(count, 3.0))
    return tuple(
        _hub(rng, h, float(size[h]) * tightness * rated, float(size[h]) * rated * knobs.firm_share, least, grid, hour,
             knobs)
        for h in range(count)
    )  # fmt: skip


def _hub(
    rng: np.random.Generator, h: int, peak_kw: float, firm_kw: float, least: bool, grid: TimeGrid, hour: FloatArray,
    knobs: Knobs,
) -> Hub:  # fmt: skip
    """A hub that wants about ``peak_kw`` when it wants most."""
    phases = PhaseConnection.L1_L2_L3
    if rng.random() < knobs.single_phase:
        phases = _SINGLE_PHASES[h % 3]
    per_ev = 1 if rng.random() < knobs.single_phase else 0
    minimum = default_min_kw_per_ev(phases, per_ev) if least else 0.0
    max_kw = max(peak_kw * float(rng.uniform(0.7, 1.5)), minimum * 1.5, 1.0)
    firm = np.full(grid.step_count, min(float(rng.choice([0.0, 0.5, 1.0])) * firm_kw, max_kw))
    if rng.random() < 0.3:  # firm by day only
        firm[(hour < 7.0) | (hour > 22.0)] = 0.0
    with_cars = rng.random() < knobs.sessions
    demand, connected = np.empty(0), np.empty(0, dtype=np.int64)
    if not with_cars:
        wave = np.exp(-(((hour - rng.uniform(8.0, 20.0)) / rng.uniform(1.5, 4.0)) ** 2))
        demand = peak_kw * wave * rng.uniform(0.5, 1.3, grid.step_count)
        connected = np.full(grid.step_count, ANY_COUNT, dtype=np.int64)
        if rng.random() < 0.5:
            connected = np.maximum(np.ceil(demand / 7.0), rng.random(grid.step_count) < 0.7).astype(np.int64)
    return _with_firm(
        Hub(
            f"hub-{h}", demand, connected,
            _cars(rng, h, peak_kw, minimum, grid) if with_cars else HubSessions.none(),
            max_kw, minimum, phases, per_ev, float(10.0 ** rng.uniform(-0.5, 0.5)), firm,
            np.full(grid.step_count, max(0.0, max_kw * float(rng.choice([0.6, 1.0, 1.2])) - float(firm.max()))),
            int(rng.integers(0, 3)), float(rng.choice([0.0, 0.1, 0.25, 0.4])), np.zeros(grid.step_count),
        ),
        firm,
    )  # fmt: skip


def _cars(rng: np.random.Generator, h: int, peak_kw: float, minimum: float, grid: TimeGrid) -> HubSessions:
    """Cars that together want ``peak_kw`` or so when most are there; some come before the grid or stay behind it."""
    span_s = grid.step_s * grid.step_count
    power = max(minimum, float(rng.choice([3.7, 7.4, 11.0, 22.0])))
    count = max(1, min(40, round(peak_kw / power * 2.0)))
    power = max(power, peak_kw * 2.0 / count) if count == 40 else power
    arrival = grid.start_unix_s + rng.uniform(-0.1, 0.9, count) * span_s
    departure = arrival + rng.uniform(0.05, 0.6, count) * span_s
    departure = np.maximum(departure, grid.start_unix_s + grid.step_s * rng.uniform(0.5, 2.0, count))
    needed = power * (departure - arrival) / 3600.0 * rng.uniform(0.1, 1.0, count)
    ids = tuple(f"car-{h}-{i}" for i in range(count))
    return HubSessions(ids, arrival, departure, needed, np.full(count, power))
