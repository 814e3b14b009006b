"""Turns a request for a plan into the engine's model but for the fleet, and reports what only the wire gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from evflex.activation.v1.commitment_pb2 import Commitment
from evflex.dispatch.v1 import dispatch_service_pb2, plan_pb2
from evflex.engine.align import largest_overlapping
from evflex.engine.dispatch.model import (
    DispatchProblem,
    Fleet,
    LimitScope,
    PlanOptions,
    PortfolioLimit,
    Profiles,
    Reserve,
)
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules, Violation
from evflex.server.dispatch.commitment_reserve import commitment_reserve, names_commitment_alone
from evflex.server.dispatch.portfolio import PortfolioNames
from evflex.server.dispatch.products import Product, Products
from evflex.server.fields import check_id, check_request_id, duration_s, merged, read_grid, sound_grid, take_over

FloatArray = NDArray[np.float64]
_DEFAULTS = PlanOptions()


@dataclass(frozen=True, slots=True)
class DecodedPlan:
    """A request in the engine's terms.

    Attributes:
        problem: What is asked, of a fleet without assets.
        options: Options; the time limit is the caller's, or the default that was handed in.
        wire: Faults that the engine cannot see.
    """

    problem: DispatchProblem
    options: PlanOptions
    wire: Rules

    def violations(self) -> list[Violation]:
        """Every fault of the request, the wire's and the engine's."""
        rules = Rules()
        self.problem.validate(rules)
        self.options.validate(rules)
        return merged(self.wire, rules)


def check_plan_request(request: dispatch_service_pb2.PlanPortfolioRequest, rules: Rules) -> None:
    """Report what is wrong before the portfolio is known."""
    check_request_id(rules, request.request_id, required=not request.validate_only)
    check_id(rules, "portfolio_id", request.portfolio_id, required=True)


def decode_plan(
    request: dispatch_service_pb2.PlanPortfolioRequest,
    names: PortfolioNames,
    products: Products,
    commitments: Mapping[str, Commitment],
    default_time_limit_s: float,
) -> DecodedPlan:
    """Turn a request into the engine's model.

    Args:
        request: The request; within the server's limits.
        names: Of the portfolio.
        products: What reserves may refer to.
        commitments: Those of the caller that reserves name, as far as they were found.
        default_time_limit_s: Longest solve, which the request may shorten.
    """
    rules = Rules()
    grid = read_grid(rules, "time_grid", request)
    sound = grid.validate(Rules())
    import_price = np.array(request.import_price_per_kwh, dtype=np.float64)
    export_price = np.array(request.export_price_per_kwh, dtype=np.float64)
    if not len(export_price):
        # a fault of the import price is not told twice
        is_sound = len(import_price) == grid.step_count and bool(np.isfinite(import_price).all())
        export_price = import_price.copy() if is_sound else np.zeros(grid.step_count if sound else 0)
    problem = DispatchProblem(
        grid=grid,
        fleet=Fleet.of(0, {}),
        profiles=Profiles.none(grid.step_count if sound else 0),
        import_price_per_kwh=import_price,
        export_price_per_kwh=export_price,
        limits=_limits(rules, request.limits, grid, names) if sound else (),
        reserves=_reserves(rules, request.reserves, grid, products, commitments) if sound else (),
        group_count=len(names.groups),
        operator_count=len(names.operators),
    )
    return DecodedPlan(problem, _options(rules, request.options, default_time_limit_s), rules)


def _limits(
    rules: Rules, messages: Sequence[plan_pb2.PortfolioLimit], grid: TimeGrid, names: PortfolioNames
) -> tuple[PortfolioLimit, ...]:
    places: dict[str, tuple[LimitScope, int]] = {"": (LimitScope.FLEET, 0)}
    places |= {name: (LimitScope.GROUP, i) for i, name in enumerate(names.groups)}
    places |= {name: (LimitScope.OPERATOR, i) for i, name in enumerate(names.operators)}
    return tuple(_limit(rules, f"limits[{i}]", message, grid, places) for i, message in enumerate(messages))


def _limit(
    rules: Rules,
    path: str,
    message: plan_pb2.PortfolioLimit,
    grid: TimeGrid,
    places: Mapping[str, tuple[LimitScope, int]],
) -> PortfolioLimit:
    check_id(rules, f"{path}.group_id", message.group_id)
    known = message.group_id in places
    rules.check(known, f"{path}.group_id", "must be a group or an operator of the portfolio, or empty")
    scope, index = places.get(message.group_id, (LimitScope.FLEET, -1))
    most_import = _series(rules, f"{path}.max_import_kw", message.max_import_kw, grid, 0.0)
    most_export = _series(rules, f"{path}.max_export_kw", message.max_export_kw, grid, 0.0)
    target = _series(rules, f"{path}.target_kw", message.target_kw, grid, -inf)
    steps = grid.step_count
    if len(message.target_kw):
        both = bool(message.max_import_kw or message.max_export_kw)
        rules.check(not both, f"{path}.target_kw", "excludes max_import_kw and max_export_kw")
        lower = upper = np.zeros(steps) if target is None else target
    else:
        lower = np.full(steps, -inf) if most_export is None else -most_export
        upper = np.full(steps, inf) if most_import is None else most_import
    return PortfolioLimit(scope, index, lower, upper, message.violation_price_per_kwh)


def _reserves(
    rules: Rules,
    messages: Sequence[plan_pb2.PortfolioReserve],
    grid: TimeGrid,
    products: Products,
    commitments: Mapping[str, Commitment],
) -> tuple[Reserve, ...]:
    seen: set[str] = set()
    reserves, sold = [], Rules()
    for i, message in enumerate(messages):
        path = f"reserves[{i}]"
        check_id(rules, f"{path}.commitment_id", message.commitment_id, required=True)
        rules.check(message.commitment_id not in seen, f"{path}.commitment_id", "must be unique in the request")
        seen.add(message.commitment_id)
        if names_commitment_alone(message):
            reserves.append(commitment_reserve(sold, path, message, commitments, grid, products))
            continue
        product = products.find(message.product_id)
        if product is None:
            known = ", ".join(products.product_ids)
            rules.check(False, f"{path}.product_id", f"must be one of {known}")
        reserves.append(_reserve(rules, path, message, grid, product))
    take_over(rules, sold)  # of an identifier that cannot be, it is not said as well that it was not found
    return tuple(reserves)


def _reserve(
    rules: Rules, path: str, message: plan_pb2.PortfolioReserve, grid: TimeGrid, product: Product | None
) -> Reserve:
    if product is not None:
        if not product.is_sold_up:
            rules.check(not len(message.up_kw), f"{path}.up_kw", f"must be empty, {product.product_id} is downward")
        if not product.is_sold_down:
            rules.check(not len(message.down_kw), f"{path}.down_kw", f"must be empty, {product.product_id} is upward")
    own = sound_grid(rules, f"{path}.time_grid", message)
    endurance_s = 0.0 if product is None else product.endurance_s
    if own is None:
        return Reserve(np.zeros(grid.step_count), np.zeros(grid.step_count), endurance_s)
    up = _series(rules, f"{path}.up_kw", message.up_kw, own, 0.0)
    down = _series(rules, f"{path}.down_kw", message.down_kw, own, 0.0)
    return Reserve(_aligned(grid, own, up), _aligned(grid, own, down), endurance_s)


def _aligned(grid: TimeGrid, own: TimeGrid, values: FloatArray | None) -> FloatArray:
    return np.zeros(grid.step_count) if values is None else largest_overlapping(grid, own, values)


def _series(rules: Rules, path: str, values: Sequence[float], grid: TimeGrid, minimum: float) -> FloatArray | None:
    """Values of each step; None where there are none, or where they are wrong, which is reported."""
    array = np.array(values, dtype=np.float64)
    if not rules.array(path, array, (0, 1, grid.step_count), minimum=minimum) or not len(array):
        return None
    return np.broadcast_to(array, (grid.step_count,)).copy()


def _options(rules: Rules, options: plan_pb2.PlanOptions, default_time_limit_s: float) -> PlanOptions:
    time_limit_s = default_time_limit_s
    if options.HasField("time_limit_duration"):
        time_limit_s = duration_s(rules, "options.time_limit_duration", options.time_limit_duration)
    return PlanOptions(
        relative_gap=options.relative_gap if options.HasField("relative_gap") else _DEFAULTS.relative_gap,
        absolute_gap=options.absolute_gap,
        time_limit_s=min(time_limit_s, default_time_limit_s),
    )
