"""Rating of transformers: temperatures, ageing, what the load breaks by itself, and what could come on top."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from evflex.engine.capacity.allocation import Rating
from evflex.engine.capacity.broken_limits import broken_limits, loading_caps
from evflex.engine.capacity.day_limits import Days
from evflex.engine.capacity.headroom import headroom_kva, highest_levels
from evflex.engine.capacity.model import RatingProblem
from evflex.engine.capacity.thermal import ThermalConstants, initial_state, simulate
from evflex.engine.capacity.transformer import ThermalState
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import Rules


def rate_transformer(problem: RatingProblem) -> Rating:
    """Temperatures, ageing and headroom of a transformer under its load.

    The headroom is what can be drawn jointly in all wanted steps: see :mod:`evflex.engine.capacity.headroom`. It is 0
    where nothing is wanted, in steps up to the last instant at which the load breaks a limit by itself, and in steps in
    which the load breaks the limit of loading.

    Raises:
        InvalidProblemError: The problem breaks a rule; every broken one is named.
    """
    rules = Rules()
    problem.validate(rules)
    rules.raise_if_any()
    transformer, base = problem.transformer, problem.base
    ratio = base.loading_kva / transformer.rated_kva
    start = initial_state(transformer, float(ratio[0]))
    temperatures = simulate(transformer, problem.grid.step_s, ratio, start)
    levels = _levels(problem, ratio, start)
    return Rating(
        loading_ratio=ratio,
        top_oil_c=temperatures.top_oil_c,
        hot_spot_c=temperatures.hot_spot_c,
        loss_of_life_h=temperatures.loss_of_life_h,
        headroom_n_kva=_headroom(problem, levels[0]),
        headroom_n1_kva=_headroom(problem, levels[1]),
        violations=broken_limits(
            problem.grid, transformer, base, problem.contingency, problem.n1_rated_kva, temperatures
        ),
        final_state=temperatures.final_state,
    )


def _levels(problem: RatingProblem, ratio: FloatArray, start: ThermalState) -> FloatArray:
    """Highest loading in the problem's condition and in N-1, (2, T)."""
    transformer = problem.transformer
    conditions = (problem.contingency, np.ones_like(problem.contingency))
    cap = np.stack([loading_caps(transformer, condition, problem.n1_rated_kva) for condition in conditions])
    constants = ThermalConstants.of(transformer.thermal, transformer.paper, problem.grid.step_s)
    days = Days.of(problem.grid)
    level = np.empty_like(cap)
    highest_levels(
        constants.values, constants.inner_count, constants.inner_h, constants.upgraded, transformer.max_hot_spot_c,
        transformer.max_top_oil_c, days.of_step, days.limits_h(transformer.max_loss_of_life_h_per_day),
        np.array(astuple(start)), ratio, np.ascontiguousarray(transformer.ambient_c), cap, problem.wanted, level,
    )  # fmt: skip
    return level


def _headroom(problem: RatingProblem, level: FloatArray) -> FloatArray:
    """Extra load that brings the transformer to its highest loading, (T,)."""
    return np.where(problem.wanted, headroom_kva(problem.base, problem.transformer.rated_kva, level), 0.0)
