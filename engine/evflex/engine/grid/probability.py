"""Probability that limits are broken: a fitted surrogate's exact one, corrected by what AC samples say of it.

Near its limit a value is replaced by a polynomial of second degree in one standard normal variable z, whose
direction is a combination of sensitivities. What is the probability that the polynomial passes 0 is known exactly,
and serves as control variate: ``P = P[s(z) > 0] + mean(1[AC passes] − 1[s(z) passes])`` over the same samples
(Glasserman, Monte Carlo Methods in Financial Engineering, 2003, 4.1). Only samples on which the two disagree carry
noise. A sample without a solution breaks low voltages and nothing else.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from evflex.engine.grid.congestion_model import CongestionKind
from evflex.engine.grid.counted_flows import CountedFlows
from evflex.engine.grid.uncertainty import BATCHES, Uncertainty
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Deviations from sensitivities at another step are this much too small at most.
_SCREEN = 1.3
# Slopes that are kept at once: 128 MiB.
_MOST_SLOPES = 16_777_216
# Beyond so many deviations an expected violation is certain.
_CERTAIN = 3.5
# More samples are drawn while an estimate's standard error is above 0.4 percentage points.
_GOOD_ERROR = 0.004


def near_probabilities(
    flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray, excess: FloatArray, uncertainty: Uncertainty,
    min_probability: float,
) -> FloatArray:  # fmt: skip
    """Probability that each limit is broken in each step of a contingency.

    Sensitivities are those of a few steps, the worst of each kind of limit; they say which values are so near their
    limit that the probability is in doubt, and of these only samples are computed.

    Args:
        flows: The network in its contingency.
        p_kw: Active power drawn as expected, (T, n) or (T, n, 3).
        q_kvar: Reactive power drawn.
        excess: Excess with these, (T, C).
        uncertainty: The deviations.
        min_probability: Probability from which one is of interest.

    Returns:
        Probabilities, (T, C); 0 and 1 where the limit is far, 0 where nothing is known.
    """
    probability: FloatArray = flows.limits.broken(excess).astype(np.float64)
    columns = np.flatnonzero(~np.isnan(excess).all(axis=0))
    steps = _telling_steps(flows, excess)
    if not len(columns) or not len(steps):
        return probability
    near, columns, slopes = _near(flows, p_kw, q_kvar, excess, columns, steps, uncertainty, min_probability)
    for t in np.flatnonzero(near.any(axis=1)).tolist():
        here = np.flatnonzero(near[t])
        estimate = _Estimate(flows, p_kw[t], q_kvar[t], uncertainty, t, columns[here], slopes[..., here])
        probability[t, columns[here]] = estimate.probability()
    return probability


def sampled_probabilities(flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray) -> FloatArray:
    """Share of samples, (K, T, n) or (K, T, n, 3), in which each limit is broken in each step, (T, C)."""
    samples, steps = p_kw.shape[:2]
    count = np.zeros((steps, len(flows.limits.limit)))
    at_once = max(1, flows.block_steps // steps)
    for first in range(0, samples, at_once):
        p, q = p_kw[first : first + at_once], q_kvar[first : first + at_once]
        excess = flows.excess(p.reshape(-1, *p.shape[2:]), q.reshape(-1, *q.shape[2:]))
        count += _passes(flows, excess, np.arange(excess.shape[1])).reshape(len(p), steps, -1).sum(axis=0)
    return count / samples


def tail_probability(constant: FloatArray, linear: FloatArray, square: FloatArray) -> FloatArray:
    """Probability that ``constant + linear · z + square · z²`` is above 0 for a standard normal z."""
    discriminant = linear * linear - 4.0 * constant * square
    half = -0.5 * (linear + np.where(linear < 0.0, -1.0, 1.0) * np.sqrt(np.maximum(discriminant, 0.0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = np.sort(np.stack([half / square, constant / half]), axis=0)
    between: FloatArray = ndtr(roots[1]) - ndtr(roots[0])
    outside = np.where(square > 0.0, 1.0 - between, between)
    # without a second root: on one side of the only one
    only = np.where(linear == 0.0, np.where(constant > 0.0, np.inf, -np.inf), constant / np.abs(_nonzero(linear)))
    return np.where(square == 0.0, ndtr(only), np.where(discriminant > 0.0, outside, (constant > 0.0) * 1.0))


def _nonzero(values: FloatArray) -> FloatArray:
    return np.where(values == 0.0, 1.0, values)


def _passes(flows: CountedFlows, excess: FloatArray, columns: IntArray) -> BoolArray:
    limits = flows.limits
    unsolved = np.isnan(excess).all(axis=1)
    passes: BoolArray = excess > 1e-9 * limits.limit[columns]
    if unsolved.any():
        passes[unsolved] = limits.kind[columns] == CongestionKind.UNDERVOLTAGE
    return passes


def _telling_steps(flows: CountedFlows, excess: FloatArray) -> IntArray:
    """The step of the largest excess of loading, of low and of high voltage."""
    m, n = flows.limits.branch_count, flows.limits.bus_count
    relative = np.where(np.isnan(excess), -np.inf, excess / flows.limits.scale)
    kinds = (relative[:, :m], relative[:, m : m + n], relative[:, m + n :])
    steps = [int(np.argmax(part.max(axis=1))) for part in kinds if np.isfinite(part).any()]
    return np.unique(np.array(steps, dtype=np.int64))


def _near(
    flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray, excess: FloatArray, columns: IntArray, steps: IntArray,
    uncertainty: Uncertainty, min_probability: float,
) -> tuple[BoolArray, IntArray, FloatArray]:  # fmt: skip
    """Which of some limits are within a few deviations of their value.

    Returns:
        Whether a limit is in a step, (T, c); columns of the c limits that are in any; and their slopes at the telling
        steps, by active and reactive power, (R, 2, J, c).
    """
    at = np.unravel_index(uncertainty.place, p_kw.shape[1:])

    def slopes(places: slice, wanted: IntArray) -> FloatArray:
        """At the telling steps by active and reactive power, (R, 2, J, c)."""
        some = tuple(index[places] for index in at)
        rows = [
            [flows.slopes(p_kw[t], q_kvar[t], some, wanted, reactive=reactive).excess for reactive in (False, True)]
            for t in steps
        ]
        return np.nan_to_num(np.array(rows))

    p_variance, q_variance = uncertainty.p_std_kw**2, uncertainty.q_std_kvar**2
    wanted = max(0.5, float(ndtri(1.0 - 0.5 * min_probability)))
    # the slopes of all limits may be too many to keep, so most limits are left out by their largest variance first
    at_once = max(1, _MOST_SLOPES // (2 * len(steps) * len(columns)))
    largest = np.zeros(len(columns))
    for first in range(0, len(at[0]), at_once):
        places = slice(first, first + at_once)
        of_places = slopes(places, columns)
        by_p, by_q = _effects(flows, columns, of_places)
        largest += np.einsum("j,jc->c", p_variance[:, places].max(axis=0), by_p)
        largest += np.einsum("j,jc->c", q_variance[:, places].max(axis=0), by_q)
    kept = np.flatnonzero(np.nanmax(excess[:, columns], axis=0) > -wanted * _SCREEN * np.sqrt(largest))
    columns = columns[kept]
    of_kept = of_places[..., kept] if at_once >= len(at[0]) else slopes(slice(None), columns)
    by_p, by_q = _effects(flows, columns, of_kept)
    deviation = _SCREEN * np.sqrt(p_variance @ by_p + q_variance @ by_q)
    near = (excess[:, columns] > -wanted * deviation) & (excess[:, columns] < _CERTAIN * deviation)
    return near, columns, of_kept


def _effects(flows: CountedFlows, columns: IntArray, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Squared slopes by active and by reactive power, (J, c): rather too large than too small."""
    by_p, by_q = (slopes**2).max(axis=0)
    # as a current turns against its voltage, the effects of active and reactive power change places
    turns = columns < flows.limits.branch_count
    both = by_p + by_q
    return np.where(turns, both, by_p), np.where(turns, both, by_q)


class _Estimate:
    """Probabilities of c limits in one step."""

    def __init__(
        self, flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray, uncertainty: Uncertainty, step: int,
        columns: IntArray, slopes: FloatArray,
    ) -> None:  # fmt: skip
        """Take the step's expected injections, and the slopes at R telling steps, (R, 2, J, c)."""
        self.flows = flows
        self.p_kw, self.q_kvar = p_kw, q_kvar
        self.uncertainty = uncertainty
        self.std = np.stack([uncertainty.p_std_kw[step], uncertainty.q_std_kvar[step]])
        self.columns = columns
        # what a deviation of 1 changes: (2R directions, 2, J, c), each of active or of reactive power alone
        by_deviation = slopes * self.std[..., None]
        self.directions = np.zeros((2 * len(slopes), *by_deviation.shape[1:]))
        self.directions[0::2, 0] = by_deviation[:, 0]
        self.directions[1::2, 1] = by_deviation[:, 1]

    def probability(self) -> FloatArray:
        """Draw batches until the error is small; limits whose error is drop out as they go."""
        out = np.zeros(len(self.columns))
        left = np.arange(len(out))
        values, predictors = np.empty((0, len(out))), np.empty((len(out), 0, len(self.directions)))
        for batches in range(1, BATCHES + 1):
            draws = self.uncertainty.draws[batches - 1]
            values = np.concatenate([values, self._sample(draws)[:, left]])
            predictors = np.concatenate([predictors, self._predictors(draws, left)], axis=1)
            if batches & (batches - 1):
                continue
            out[left], error = self._estimate(values, predictors, left)
            doubtful = error >= _GOOD_ERROR
            left, values, predictors = left[doubtful], values[:, doubtful], predictors[doubtful]
            if not len(left):
                break
        return out

    def _sample(self, draws: FloatArray) -> FloatArray:
        """AC excess of each sample, (K, c); a row of NaN where there is no solution."""
        out = np.empty((len(draws), len(self.columns)))
        for first in range(0, len(draws), self.flows.block_steps):
            part = draws[first : first + self.flows.block_steps] * self.std
            p = np.repeat(self.p_kw[None], len(part), axis=0)
            q = np.repeat(self.q_kvar[None], len(part), axis=0)
            p.reshape(len(part), -1)[:, self.uncertainty.place] += part[:, 0]
            q.reshape(len(part), -1)[:, self.uncertainty.place] += part[:, 1]
            out[first : first + len(part)] = self.flows.excess(p, q)[:, self.columns]
        return out

    def _predictors(self, draws: FloatArray, at: IntArray) -> FloatArray:
        """What each direction makes of each sample, (c, K, 2R)."""
        width, places = len(self.directions), draws.shape[2]
        out = np.empty((len(at), len(draws), width))
        for d in range(width):
            # a direction is of active or of reactive power alone
            weights = self.directions[d, d % 2][:, at]
            out[:, :, d] = (draws[:, d % 2].reshape(-1, places) @ weights).T
        return out

    def _estimate(self, values: FloatArray, predictors: FloatArray, at: IntArray) -> tuple[FloatArray, FloatArray]:
        """Probabilities, and their standard errors."""
        solved: BoolArray = np.asarray(~np.isnan(values).any(axis=1))
        known = np.where(solved[:, None], self._smooth(values, at), 0.0)
        z = self._variable(predictors, known, solved, at)
        powers = np.stack([np.ones_like(z), z, z * z], axis=-1)
        surrogate = _fit(powers, known, solved)
        predicted = (powers @ surrogate[:, :, None])[:, :, 0].T
        passes = _passes(self.flows, values, self.columns[at])
        difference = passes.astype(np.float64) - (predicted > 0.0)
        exact = tail_probability(*surrogate.T)
        error = difference.std(axis=0) / np.sqrt(len(values))
        return np.clip(exact + difference.mean(axis=0), 0.0, 1.0), error

    def _smooth(self, excess: FloatArray, at: IntArray) -> FloatArray:
        """Values of the sign of an excess that are smooth: of loadings, which turn at 0, that of their squares."""
        columns = self.columns[at]
        is_loading = columns < self.flows.limits.branch_count
        return np.where(is_loading, excess * (excess + 2.0 * self.flows.limits.limit[columns]), excess)

    def _variable(self, predictors: FloatArray, values: FloatArray, solved: BoolArray, at: IntArray) -> FloatArray:
        """The standard normal variable that explains each value best, (c, K)."""
        ones = np.ones((*predictors.shape[:2], 1))
        weights = _fit(np.concatenate([predictors, ones], axis=2), values, solved)[:, :-1]
        combined = np.einsum("cd,dpjc->cpj", weights, self.directions[..., at])
        deviation = np.sqrt((combined**2).sum(axis=(1, 2)))
        z: FloatArray = (predictors @ weights[:, :, None])[:, :, 0] / _nonzero(deviation)[:, None]
        return z


def _fit(terms: FloatArray, values: FloatArray, solved: BoolArray) -> FloatArray:
    """Least squares of each of c values, (K, c), on its terms, (c, K, d); of terms that are alike any mix."""
    scale = np.abs(terms).max(axis=1, keepdims=True)
    scaled = terms * solved[:, None] / _nonzero(scale)
    turned = scaled.transpose(0, 2, 1)
    inverse = np.linalg.pinv(turned @ scaled, rcond=1e-10, hermitian=True)
    weights: FloatArray = (inverse @ (turned @ values.T[:, :, None]))[:, :, 0]
    return weights / _nonzero(scale[:, 0])
