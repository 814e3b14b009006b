"""Sums of the ageing rate over the inner steps of a planning step from a few of them, with a proven error.

Within a planning step the hot-spot is θ(j) = c + A p^j + B q^j - C r^j, j = 1 … N, so the ageing rate f(j) = exp(g(j))
is smooth, and Gauss' quadrature for the measure that has weight 1 at 1, …, N (whose polynomials are Gram's) gives
Σ f(j) from n nodes, exact for polynomials of degree below 2n.

The error. With t = (j - middle) / h, h = (N - 1) / 2, the part of g in t has coefficients of at most those of

    G(t) = s u(t) / (1 - c s u(t)),   u(t) = (e^(Λt) - 1) / Λ,
    s = κ (|A| p^middle λ_p h + |B| q^middle λ_q h + |C| r^middle λ_r h),

where λ = -ln of a factor, Λ the largest λ h, and κ the derivative of g by the temperature: ln 2 / 6 per K with c = 0
for normal paper; 15000 / T² with c = T / 15000 for upgraded paper at absolute temperature T in the middle. So
f / f(middle) has coefficients of at most those F_k of exp(G). Its mean is at least exp(-(G(1) + G(-1)) / 2) by Jensen's
inequality. The relative error is at most Σ_{k ≥ 2n} F_k ε_k over that mean, where ε_k is the error for t^k. All of it
rises with s, so each number of nodes has a largest s, its reach, up to which it is right to ``RELATIVE_ERROR``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp

import numpy as np

from evflex.engine.supply_tree import FloatArray, IntArray

RELATIVE_ERROR = 5e-10
# Hot-spots in the middle of a step for which the reach is proven for upgraded paper; else every inner step counts.
LEAST_PROVEN_C, LARGEST_PROVEN_C = -73.0, 500.0
_CURVATURE = (LARGEST_PROVEN_C + 273.0) / 15_000.0
_NODE_COUNTS = (4, 5, 6, 7, 9)
_TERMS, _LARGEST_REACH, _LAMBDA_STEP = 80, 4.0, 0.05
# Beyond, gradients settle within a step, and few nodes are proven for next to nothing.
_LARGEST_LAMBDA, _NEVER = 3.0, -1.0


@dataclass(frozen=True, slots=True)
class AgeingSums:
    """Nodes and weights, few nodes first; the last choice is every inner step with weight 1.

    Attributes:
        node: Where each node stands, in inner steps from the planning step's start, (n,).
        weight: Weight of each node; those of a choice sum to the number of inner steps, (n,).
        first: First node of each choice, and the end of the last, (choices + 1,).
        reach: Largest s that a choice is proven for; infinite for the last, (choices,).
    """

    node: FloatArray
    weight: FloatArray
    first: IntArray
    reach: FloatArray


def ageing_sums(inner_count: int, largest_lambda: float) -> AgeingSums:
    """Choices for a number of inner steps and the largest λ h (Λ) that occurs, on which only the reach depends."""
    return _ageing_sums(inner_count, ceil(largest_lambda / _LAMBDA_STEP) * _LAMBDA_STEP)


@lru_cache(maxsize=64)
def _ageing_sums(inner_count: int, largest_lambda: float) -> AgeingSums:
    nodes, weights, reaches = [], [], []
    for count in _NODE_COUNTS:
        if 5 * count <= 3 * inner_count:
            node, weight = _gram(inner_count, count)
            nodes.append(node)
            weights.append(weight)
            proven = largest_lambda <= _LARGEST_LAMBDA
            reaches.append(_reach(inner_count, count, node, weight, largest_lambda) if proven else _NEVER)
    nodes.append(np.arange(1.0, inner_count + 1.0))
    weights.append(np.ones(inner_count))
    first = np.cumsum([0, *map(len, nodes)])
    return AgeingSums(np.concatenate(nodes), np.concatenate(weights), first, np.array([*reaches, np.inf]))


def _gram(inner_count: int, count: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights from the recurrence of Gram's polynomials (Golub and Welsch, 1969)."""
    k = np.arange(1.0, count)
    beside = np.sqrt(k**2 * (inner_count**2 - k**2) / (4.0 * (4.0 * k**2 - 1.0)))
    values, vectors = np.linalg.eigh(np.diag(beside, 1) + np.diag(beside, -1))
    return values + (inner_count + 1.0) / 2.0, inner_count * vectors[0] ** 2


def _reach(inner_count: int, count: int, node: FloatArray, weight: FloatArray, largest_lambda: float) -> float:
    """Largest s for which the error is proven to be small enough, by bisection."""
    middle, half = (inner_count + 1.0) / 2.0, (inner_count - 1.0) / 2.0
    order = np.arange(_TERMS)[:, None]
    true = (((np.arange(1, inner_count + 1) - middle) / half) ** order).mean(axis=1)
    error = np.abs(true - (((node - middle) / half) ** order) @ weight / inner_count)
    low, high = 0.0, _LARGEST_REACH
    for _ in range(40):
        s = 0.5 * (low + high)
        low, high = (s, high) if _error_bound(s, largest_lambda, error, 2 * count) <= RELATIVE_ERROR else (low, s)
    return low


def _error_bound(s: float, largest_lambda: float, error: FloatArray, degree: int) -> float:
    """The bound of the module's description."""
    outer = _exponent(s, largest_lambda, 2.0)
    if not 0.0 <= outer < 100.0:
        return np.inf
    inner = np.zeros(_TERMS)
    inner[1] = s
    for k in range(2, _TERMS):
        inner[k] = inner[k - 1] * largest_lambda / k
    exponent = inner.copy()
    for k in range(2, _TERMS):
        exponent[k] += _CURVATURE * inner[1:k] @ exponent[k - 1 : 0 : -1]
    terms = np.zeros(_TERMS)
    terms[0] = 1.0
    for k in range(1, _TERMS):
        terms[k] = (np.arange(1, k + 1) * exponent[1 : k + 1]) @ terms[k - 1 :: -1] / k
    # beyond the last term, by Cauchy's inequality on the circle |t| = 2
    rest = exp(outer) * 2.0 ** (1 - _TERMS)
    mean = exp(-0.5 * (_exponent(s, largest_lambda, 1.0) + _exponent(s, largest_lambda, -1.0)))
    return float((terms[degree:] @ error[degree:] + rest) / mean)


def _exponent(s: float, largest_lambda: float, t: float) -> float:
    """G(t); infinite where it has a pole before."""
    u = s * (exp(largest_lambda * t) - 1.0) / largest_lambda
    return u / (1.0 - _CURVATURE * u) if _CURVATURE * u < 1.0 else np.inf
