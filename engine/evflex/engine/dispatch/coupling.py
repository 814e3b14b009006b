"""What assets share: rows lower <= Σ x <= upper for every limit and reserve, and which assets each row adds up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import DispatchProblem, Fleet, LimitScope, PortfolioLimit
from evflex.engine.dispatch.reserves import ReserveRows
from evflex.engine.supply_tree import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Coupling:
    """Shared rows, and the signatures of assets: assets of one signature count in the same rows and see one price.

    Attributes:
        lower_kw: Least sum of each row, -inf where there is none, (L, T).
        upper_kw: Largest sum of each row, inf where there is none, (L, T).
        violation_price: Price of each kW outside for a step, (L,).
        member: Which signatures a row adds up, (S, L).
        signature: Signature of each asset, (n,).
    """

    lower_kw: FloatArray
    upper_kw: FloatArray
    violation_price: FloatArray
    member: BoolArray
    signature: NDArray[np.int32]

    def price(self, limit_price: FloatArray) -> FloatArray:
        """What the rows add to the price of each signature, (S, T), from their own prices (L, T)."""
        added: FloatArray = self.member.astype(np.float64) @ limit_price
        return added

    def price_range(self) -> tuple[FloatArray, FloatArray]:
        """Least and largest prices for which the dual bound is finite, (L, T) each: violation's cost bounds them."""
        worst = self.violation_price[:, None]
        return np.where(np.isfinite(self.lower_kw), -worst, 0.0), np.where(np.isfinite(self.upper_kw), worst, 0.0)

    def admissible(self, limit_price: FloatArray) -> FloatArray:
        """The nearest prices within that range."""
        return np.clip(limit_price, *self.price_range())

    def outside(self, rows_kw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Power above the upper and below the lower side of each row, (L, T) each."""
        return np.maximum(rows_kw - self.upper_kw, 0.0), np.maximum(self.lower_kw - rows_kw, 0.0)

    def violation_cost(self, above_kw: FloatArray, below_kw: FloatArray) -> float:
        """Money for what lies outside."""
        return float(self.violation_price @ (above_kw + below_kw).sum(axis=1))


def limits_worth(price: FloatArray, lower_kw: FloatArray, upper_kw: FloatArray) -> float:
    """What limits are worth at prices: Σ price·(upper where it is positive, else lower); all of one shape."""
    bound = np.where(price > 0.0, upper_kw, lower_kw)
    priced = price != 0.0
    return float((price[priced] * bound[priced]).sum())


def couple(problem: DispatchProblem, reserves: ReserveRows) -> Coupling:
    """Rows of all limits in the order of the problem, then those of reserves upward and downward, where sold."""
    steps, step_h = problem.grid.step_count, problem.grid.step_h
    none = np.full(steps, np.inf)
    lower = [limit.lower_kw for limit in problem.limits]
    upper = [limit.upper_kw for limit in problem.limits]
    price = [limit.violation_price_per_kwh * step_h for limit in problem.limits]
    if reserves.up is not None:
        lower, upper = [*lower, reserves.least_kw], [*upper, none]
        price.append(reserves.price_per_kwh * step_h)
    if reserves.down is not None:
        lower, upper = [*lower, -none], [*upper, reserves.most_kw]
        price.append(reserves.price_per_kwh * step_h)
    member, signature = _signatures(problem, reserves)
    shape = (len(lower), steps)
    return Coupling(
        lower_kw=np.array(lower).reshape(shape),
        upper_kw=np.array(upper).reshape(shape),
        violation_price=np.array(price, dtype=np.float64),
        member=member,
        signature=signature,
    )


def counts(limit: PortfolioLimit, fleet: Fleet) -> BoolArray:
    """Which assets a limit adds up, (n,)."""
    if limit.scope is LimitScope.FLEET:
        return np.ones(len(fleet), dtype=bool)
    index = fleet.group_index if limit.scope is LimitScope.GROUP else fleet.operator_index
    counted: BoolArray = index == limit.index
    return counted


def _signatures(problem: DispatchProblem, reserves: ReserveRows) -> tuple[BoolArray, NDArray[np.int32]]:
    """Rows of each signature, and the signature of each asset."""
    fleet, limits = problem.fleet, problem.limits
    parts: list[tuple[NDArray[np.int64], int]] = []
    for scope, index, count in (
        (LimitScope.GROUP, fleet.group_index, problem.group_count),
        (LimitScope.OPERATOR, fleet.operator_index, problem.operator_count),
    ):
        limited = sorted(limit.index for limit in limits if limit.scope is scope)
        if limited:
            # place 0 is for assets without a group, and for groups without a limit
            place = np.zeros(count + 1, dtype=np.int64)
            place[np.array(limited) + 1] = np.arange(1, len(limited) + 1)
            parts.append((place[index + 1], len(limited) + 1))
    parts += [(part.astype(np.int64), 2) for part in (reserves.up, reserves.down) if part is not None]
    rows = len(limits) + (reserves.up is not None) + (reserves.down is not None)
    n = len(fleet)
    if not parts:
        return np.ones((1, rows), dtype=bool), np.zeros(n, dtype=np.int32)
    key = np.zeros(n, dtype=np.int64)
    for values, size in parts:
        key = key * size + values
    kinds, example, signature = np.unique(key, return_index=True, return_inverse=True)
    member = np.zeros((max(len(kinds), 1), rows), dtype=bool)
    some = fleet.take(example)
    for row, limit in enumerate(limits):
        member[: len(kinds), row] = counts(limit, some)
    row = len(limits)
    for takes_part in (reserves.up, reserves.down):
        if takes_part is not None:
            member[: len(kinds), row] = takes_part[example]
            row += 1
    return member, signature.astype(np.int32)
