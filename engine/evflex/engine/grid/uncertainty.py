"""Injections that are uncertain: where, by how much, and samples drawn of them once for all contingencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from evflex.engine.grid.congestion_model import CongestionOptions, CongestionProblem
from evflex.engine.supply_tree import FloatArray, IntArray

# So many batches of samples are drawn at most for one step.
BATCHES = 16


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Independent normal deviations at J places: a bus, or a phase of a bus.

    Attributes:
        place: Index of each place among the buses, or among buses × phases, row by row, (J,).
        p_std_kw: Standard deviations of active power, (T, J).
        q_std_kvar: Standard deviations of reactive power, (T, J).
        draws: Standard normal samples of active and of reactive power, (BATCHES, K, 2, J); each batch is a Latin
            hypercube (McKay, Beckman and Conover, Technometrics 21, 1979).
    """

    place: IntArray
    p_std_kw: FloatArray
    q_std_kvar: FloatArray
    draws: FloatArray

    def of_steps(self, steps: slice) -> Uncertainty:
        """The deviations of some steps."""
        return Uncertainty(self.place, self.p_std_kw[steps], self.q_std_kvar[steps], self.draws)


def uncertainty_of(problem: CongestionProblem, options: CongestionOptions) -> Uncertainty | None:
    """The deviations of a problem; None where all is certain, or samples are given."""
    p_std, q_std = problem.p_std_kw, problem.q_std_kvar
    if p_std is None and q_std is None:
        return None
    p_std = np.zeros_like(problem.p_kw) if p_std is None else p_std
    q_std = np.zeros_like(problem.p_kw) if q_std is None else q_std
    steps = problem.grid.step_count
    p_std, q_std = p_std.reshape(steps, -1), q_std.reshape(steps, -1)
    place = np.flatnonzero(((p_std > 0.0) | (q_std > 0.0)).any(axis=0))
    if not len(place):
        return None
    random = np.random.default_rng(options.seed)
    draws = np.stack([_hypercube(random, options.sample_count, 2 * len(place)) for _ in range(BATCHES)])
    shape = (BATCHES, options.sample_count, 2, len(place))
    return Uncertainty(place, p_std[:, place], q_std[:, place], draws.reshape(shape))


def _hypercube(random: np.random.Generator, count: int, width: int) -> FloatArray:
    """Standard normal samples, (count, width), one in each of ``count`` equally likely strata of each column."""
    strata = random.permuted(np.tile(np.arange(count)[:, None], (1, width)), axis=0)
    samples: FloatArray = ndtri((strata + random.random((count, width))) / count)
    return samples
