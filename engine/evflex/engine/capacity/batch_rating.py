"""Rating of many transformers at once."""

from __future__ import annotations

from functools import partial

import numpy as np

from evflex.engine.capacity.batch import BatchRating, BatchTemperatures, TransformerBatch
from evflex.engine.capacity.batch_simulation import simulate_batch
from evflex.engine.capacity.broken_limits import TOLERANCE
from evflex.engine.capacity.day_limits import Days
from evflex.engine.capacity.headroom import NO_HEADROOM, highest_levels
from evflex.engine.capacity.thermal import inner_steps
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.validation import Rules
from evflex.engine.workers import Workers

# Transformers that a thread takes at once; fewer than two of these stay on one thread.
_AT_ONCE = 64


def simulate_transformers(batch: TransformerBatch) -> BatchTemperatures:
    """Temperatures and ageing of transformers under their load.

    Raises:
        InvalidProblemError: The batch breaks a rule; every broken one is named.
    """
    _check(batch)
    return simulate_batch(batch)


def rate_transformers(batch: TransformerBatch) -> BatchRating:
    """Temperatures, ageing and headroom of transformers under their load, as :func:`rate_transformer` of each.

    Raises:
        InvalidProblemError: The batch breaks a rule; every broken one is named.
    """
    _check(batch)
    temperatures = simulate_batch(batch)
    n1_ratio = np.minimum(batch.n1_rated_kva / batch.rated_kva, batch.max_loading_ratio)
    normal = np.where(batch.contingency, n1_ratio, batch.max_loading_ratio)
    steps, n = batch.loading_ratio.shape
    headroom_n, headroom_n1 = np.empty((steps, n)), np.empty((steps, n))
    inner_count, kept = inner_steps(batch.thermal_parameters, batch.grid.step_s)
    constants = np.empty((n, 9))
    constants[:, :5], constants[:, 5], constants[:, 6:] = (
        batch.thermal_parameters[:, :5],
        batch.thermal_parameters[:, 8],
        kept.T,
    )
    days = Days.of(batch.grid)
    inner_h = batch.grid.step_s / 3600.0 / inner_count
    day_limit_h = batch.max_loss_of_life_h_per_day[:, None] * days.part
    start = np.ascontiguousarray(batch.initial_states().T)
    loading, ambient = np.ascontiguousarray(batch.loading_ratio), np.ascontiguousarray(batch.ambient_c)
    work = partial(
        _headrooms, constants, inner_count, inner_h, batch.upgraded, batch.max_hot_spot_c, batch.max_top_oil_c,
        days.of_step, day_limit_h, start, batch.rated_kva, loading, ambient, normal, n1_ratio,
        np.ascontiguousarray(batch.wanted), headroom_n, headroom_n1,
    )  # fmt: skip
    firsts = range(0, n, _AT_ONCE)
    with Workers(None if len(firsts) > 1 else 1) as workers:
        workers.each(lambda first: work(first, min(first + _AT_ONCE, n)), firsts)
    return BatchRating(temperatures, headroom_n, headroom_n1, _broken(batch, temperatures, normal, days))


def _check(batch: TransformerBatch) -> None:
    rules = Rules()
    batch.validate(rules)
    rules.raise_if_any()


def _broken(batch: TransformerBatch, temperatures: BatchTemperatures, cap: FloatArray, days: Days) -> BoolArray:
    """Whether the load breaks a limit by itself, (n,)."""
    broken = temperatures.max_hot_spot_c > batch.max_hot_spot_c + TOLERANCE
    broken |= temperatures.max_top_oil_c > batch.max_top_oil_c + TOLERANCE
    broken |= (np.abs(batch.loading_ratio) > cap * (1.0 + TOLERANCE)).any(axis=0)
    if np.isfinite(batch.max_loss_of_life_h_per_day).any():
        limit_h = days.part[:, None] * batch.max_loss_of_life_h_per_day
        broken |= (days.sums(temperatures.loss_of_life_h) > limit_h * (1.0 + TOLERANCE)).any(axis=0)
    return broken


@kernel
def _headrooms(
    constants: FloatArray,
    inner_count: IntArray,
    inner_h: FloatArray,
    upgraded: BoolArray,
    max_hot_spot_c: FloatArray,
    max_top_oil_c: FloatArray,
    day: IntArray,
    day_limit_h: FloatArray,
    start: FloatArray,
    rated_kva: FloatArray,
    loading_ratio: FloatArray,
    ambient_c: FloatArray,
    normal: FloatArray,
    n1_ratio: FloatArray,
    wanted: BoolArray,
    headroom_n_kva: FloatArray,
    headroom_n1_kva: FloatArray,
    begin: int,
    end: int,
) -> None:
    """Fill the headroom of transformers ``begin`` to ``end``; arrays over time are (T, n)."""
    steps = loading_ratio.shape[0]
    load, ambient, cap, level = np.empty(steps), np.empty(steps), np.empty((2, steps)), np.empty((2, steps))
    mine = np.empty(steps, dtype=np.bool_)
    for i in range(begin, end):
        for k in range(steps):
            load[k], ambient[k], mine[k] = abs(loading_ratio[k, i]), ambient_c[k, i], wanted[k, i]
            cap[0, k], cap[1, k] = normal[k, i], n1_ratio[i]
        highest_levels(
            constants[i], inner_count[i], inner_h[i], upgraded[i], max_hot_spot_c[i], max_top_oil_c[i], day,
            day_limit_h[i], start[i], load, ambient, cap, mine, level,
        )  # fmt: skip
        for k in range(steps):
            for row in range(2):
                extra = (level[row, k] - loading_ratio[k, i]) * rated_kva[i]
                extra = max(extra, 0.0) if mine[k] and level[row, k] != NO_HEADROOM else 0.0
                if row:
                    headroom_n1_kva[k, i] = extra
                else:
                    headroom_n_kva[k, i] = extra
