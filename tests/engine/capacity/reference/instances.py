"""Random transformers, loads and limits."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from evflex.engine.capacity.batch import TransformerBatch
from evflex.engine.capacity.model import RatingProblem
from evflex.engine.capacity.transformer import (
    BaseLoad,
    Cooling,
    InsulationPaper,
    ThermalParameters,
    ThermalState,
    Transformer,
)
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid


def parameters(rng: np.random.Generator) -> ThermalParameters:
    """Those of a class, or of no class."""
    kind = int(rng.integers(6))
    if kind == 0:
        return ThermalParameters.of(Cooling.ONAN, distribution=True)
    if kind <= 4:
        return ThermalParameters.of(Cooling(kind))
    return ThermalParameters(
        top_oil_rise_k=rng.uniform(30, 70),
        hot_spot_gradient_k=rng.uniform(10, 35),
        loss_ratio=rng.uniform(2, 12),
        oil_exponent=rng.uniform(0.6, 1.1),
        winding_exponent=rng.uniform(1, 2),
        oil_time_constant_min=rng.uniform(60, 250),
        winding_time_constant_min=rng.uniform(0.8, 12),
        k11=rng.uniform(0.4, 1.1),
        k21=rng.uniform(1, 2.5),
        k22=rng.uniform(0.8, 2.2),
    )


def rating_problem(rng: np.random.Generator, steps: int | None = None, step_s: float | None = None) -> RatingProblem:
    """A problem whose load may break limits, with any phases, signs, windows, conditions and limits."""
    steps = steps or int(rng.integers(1, 60))
    step_s = step_s or float(rng.choice([300.0, 900.0, 900.0, 3600.0, 7 * 3600.0 + 90.0]))
    thermal = parameters(rng)
    rated = float(rng.uniform(100, 1000))
    shape = rng.uniform(-0.5, 0.9) + rng.uniform(0, 0.5) * np.sin(np.arange(steps)[:, None] / rng.uniform(2, 20))
    phase_kw = rated / 3 * (shape + rng.uniform(0, 0.2) * rng.standard_normal((steps, 3)))
    phase_kvar = rated / 3 * rng.choice([0.0, 0.2]) * rng.standard_normal((steps, 3))
    begin = int(rng.integers(steps))
    wanted = np.ones(steps, dtype=bool) if rng.random() < 0.5 else np.zeros(steps, dtype=bool)
    wanted[begin : begin + int(rng.integers(1, 30))] = True
    state = ThermalState(float(rng.uniform(0, 100)), float(rng.uniform(0, 50)), float(rng.choice([0.0, 20.0])))
    transformer = Transformer(
        rated,
        thermal,
        rng.uniform(-20, 35) + 5 * rng.standard_normal(steps),
        max_loading_ratio=float(rng.uniform(0.9, 2.0)),
        max_hot_spot_c=float(rng.uniform(85, 150)),
        max_top_oil_c=float(rng.uniform(70, 115)),
        max_loss_of_life_h_per_day=float(rng.choice([np.inf, np.inf, 1.0, 24.0, 100.0])),
        paper=InsulationPaper(int(rng.integers(1, 3))),
        initial_state=state if rng.random() < 0.4 else None,
    )
    contingency = rng.random(steps) < rng.choice([0.0, 0.0, 0.3])
    base = BaseLoad(phase_kw, phase_kvar, np.full(3, 230.0))
    return RatingProblem(
        TimeGrid(0.0, step_s, steps), transformer, base, contingency, rated * float(rng.uniform(0.6, 1.3)), wanted
    )


def batch_of(problems: list[RatingProblem], starts: list[ThermalState]) -> TransformerBatch:
    """Problems on one grid, with balanced load at unity power factor, as a batch."""
    transformers = [p.transformer for p in problems]

    def each(name: str) -> FloatArray:
        return np.array([getattr(t, name) for t in transformers])

    return TransformerBatch(
        grid=problems[0].grid,
        rated_kva=each("rated_kva"),
        thermal_parameters=np.array([astuple(t.thermal) for t in transformers]),
        upgraded=np.array([t.paper == InsulationPaper.THERMALLY_UPGRADED for t in transformers]),
        max_loading_ratio=each("max_loading_ratio"),
        n1_rated_kva=np.array([p.n1_rated_kva for p in problems]),
        max_hot_spot_c=each("max_hot_spot_c"),
        max_top_oil_c=each("max_top_oil_c"),
        max_loss_of_life_h_per_day=each("max_loss_of_life_h_per_day"),
        loading_ratio=np.stack([p.base.phase_kw.sum(axis=1) / p.transformer.rated_kva for p in problems], axis=1),
        ambient_c=np.stack([t.ambient_c for t in transformers], axis=1),
        contingency=np.stack([p.contingency for p in problems], axis=1),
        wanted=np.stack([p.wanted for p in problems], axis=1),
        initial_state=np.array([astuple(start) for start in starts]),
    )
