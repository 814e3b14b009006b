"""What the simplex of sessions solves, and where a solve stands: the basis and the point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evflex.engine.kernels import argsort, inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray

ByteArray = NDArray[np.int8]

# Powers (kW) and pivots below these count as none.
EPS, PIVOT = 1e-9, 1e-7
# Variables worth entering that are kept at a time.
CANDIDATES = 32
# Where a variable may go: up from 0, down from its upper bound, nowhere (basic, or fixed at 0).
RISE, FALL, STAY = 1, -1, 0


class SharedProblem(NamedTuple):
    """What the simplex reads; powers are mean powers in kW, sums over steps in kW-steps.

    Attributes:
        price: Cost of mean power, (T,).
        high: Largest power; 0 where absent, (n, T).
        first: First step of each session, (n,).
        last: One past its last step, (n,).
        wanted: Sum of power that meets the need, (n,).
        most: Largest sum of power, (n,).
        short_price: Cost of a kW-step of shortfall, (n,).
        value: Worth of a kW-step above the need, (n,).
        presence: Share of each step, (n, T).
        upper: Limits on instantaneous power; infinite where there is none, (groups, T).
        session_start: Row pointers of the session's groups, (n + 1,).
        group: Groups of each session.
        weight: Weight of the session in the group.
    """

    price: FloatArray
    high: FloatArray
    first: IntArray
    last: IntArray
    wanted: FloatArray
    most: FloatArray
    short_price: FloatArray
    value: FloatArray
    presence: FloatArray
    upper: FloatArray
    session_start: IntArray
    group: IntArray
    weight: FloatArray


class State(NamedTuple):
    """Basis and point.

    Attributes:
        x: Values, (n, T + 2).
        way: Which way each variable may go when it enters, (n, T + 2).
        key: Key variable of each session, (n,).
        slack: Room in each limit, (groups, T).
        place: Position of a limit among the tight ones, -1 otherwise, (groups, T).
        tight: Tight limits as (group, step), (capacity, 2).
        extra: Basic variables besides the keys as (session, variable), (capacity, 2).
        extras_of: Number of extras of each session, (n,).
        inverse: Inverse of the working basis, (capacity, capacity).
        dual: Prices of the tight limits (<= 0), (capacity,).
        price: The same where they belong, 0 elsewhere, (groups, T).
        candidate: Variables worth entering when last looked at, as (session, variable), (CANDIDATES, 2).
        size: [number of tight limits, number of candidates, session to look at next].
    """

    x: FloatArray
    way: ByteArray
    key: IntArray
    slack: FloatArray
    place: IntArray
    tight: IntArray
    extra: IntArray
    extras_of: IntArray
    inverse: FloatArray
    dual: FloatArray
    price: FloatArray
    candidate: IntArray
    size: IntArray


@inner_kernel
def row_sign(steps: int, v: int) -> float:
    """Coefficient of a variable in its session's row."""
    return -1.0 if v == steps + 1 else 1.0


@inner_kernel
def upper_bound(s: SharedProblem, i: int, v: int) -> float:
    """Upper bound of a variable."""
    steps = s.price.shape[0]
    if v < steps:
        return s.high[i, v]
    return s.wanted[i] if v == steps else max(0.0, s.most[i] - s.wanted[i])


@inner_kernel
def variable_cost(price: FloatArray, short_price: float, value: float, v: int) -> float:
    """Cost of a variable."""
    steps = price.shape[0]
    if v < steps:
        return price[v]
    return short_price if v == steps else -value


@kernel
def lagrangian_bound(s: SharedProblem, limit_dual: FloatArray) -> float:
    """Least cost of all sessions at prices of the limits (<= 0), plus what the limits are worth: a lower bound.

    Each session alone takes its steps in the order of price, which is exact: min Σ λ·x + short·u − value·v.
    """
    n, steps = s.high.shape
    total = 0.0
    for g in range(s.upper.shape[0]):
        for t in range(steps):
            if limit_dual[g, t] < 0.0:
                total += limit_dual[g, t] * s.upper[g, t]
    priced = np.empty(steps)
    for i in range(n):
        a, b = s.first[i], s.last[i]
        for t in range(a, b):
            priced[t] = s.price[t]
            worth = 0.0
            for k in range(s.session_start[i], s.session_start[i + 1]):
                worth += limit_dual[s.group[k], t] * s.weight[k]
            if worth != 0.0:
                priced[t] -= worth / s.presence[i, t]
        drawn = 0.0
        for t in argsort(priced[a:b]) + a:
            left = s.high[i, t]
            for goal, worth in ((s.wanted[i], s.short_price[i]), (s.most[i], s.value[i])):
                give = min(left, goal - drawn)
                if give > 0.0 and priced[t] < worth:
                    total += priced[t] * give
                    drawn += give
                    left -= give
        total += s.short_price[i] * max(0.0, s.wanted[i] - drawn) - s.value[i] * max(0.0, drawn - s.wanted[i])
    return total
