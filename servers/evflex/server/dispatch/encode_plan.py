"""Turns the engine's plan into messages: progress, a summary, and what a list shows of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from evflex.dispatch.v1 import dispatch_service_pb2, plan_pb2
from evflex.engine.dispatch.model import DispatchProblem, LimitScope, PortfolioLimit
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress
from evflex.server.dispatch.portfolio import PortfolioNames
from evflex.server.messages import set_termination
from evflex.server.store.plans import NewPlan
from evflex.server.store.requests import RequestKey
from evflex.server.wire import packed_doubles

_Plan = plan_pb2.Plan
# What is missing of a reserve and is less than a watt is rounding.
_LEAST_KW = 1e-3
_COMPRESSION_LEVEL = 1
_ARRAYS = ("fleet_power_kw", "groups", "group_power_kw", "limits", "reserve_shortfalls")
_FIGURES = (
    "import_cost", "export_revenue", "discharge_cost", "shortfall_cost", "violation_cost", "energy_value",
)  # fmt: skip


def encode_plan(
    request: dispatch_service_pb2.PlanPortfolioRequest,
    names: PortfolioNames,
    version: int,
    problem: DispatchProblem,
    plan: FleetPlan,
) -> plan_pb2.Plan:
    """The plan without what only a stored plan has, and without the powers of single assets."""
    message = _Plan(
        portfolio_id=names.portfolio_id,
        portfolio_version=version,
        time_grid=request.time_grid,
        currency_code=names.currency_code,
        asset_count=len(problem.fleet),
        groups=names.groups,
        total_cost=plan.figures.total_cost,
        shortfall_kwh=plan.shortfall_kwh,
        assets_short=plan.assets_short,
        violation_kwh=plan.violation_kwh,
    )
    message.MergeFromString(
        packed_doubles(_Plan.FLEET_POWER_KW_FIELD_NUMBER, plan.fleet_power_kw)
        + packed_doubles(_Plan.GROUP_POWER_KW_FIELD_NUMBER, plan.group_power_kw)
    )
    for name in _FIGURES:
        setattr(message.figures, name, getattr(plan.figures, name))
    for i, limit in enumerate(problem.limits):
        _add_limit(message, limit, names, plan, i)
    _add_shortfalls(message, [reserve.commitment_id for reserve in request.reserves], plan)
    set_termination(message.termination, plan.termination)
    return message


def new_plan(key: RequestKey, names: PortfolioNames, message: plan_pb2.Plan, create_time_unix_us: int) -> NewPlan:
    """A plan ready to be stored."""
    summary = _Plan()
    summary.CopyFrom(message)
    for name in _ARRAYS:
        summary.ClearField(name)
    return NewPlan(
        key=key,
        area_id=names.area_id,
        portfolio_id=names.portfolio_id,
        summary=summary.SerializeToString(),
        payload=zlib.compress(message.SerializeToString(), _COMPRESSION_LEVEL),
        create_time_unix_us=create_time_unix_us,
    )


def progress_message(progress: PlanProgress) -> bytes:
    """Progress as a PlanPortfolioResponse, serialized."""
    message = plan_pb2.PlanProgress(
        iteration=progress.iteration,
        objective=progress.objective,
        objective_bound=progress.objective_bound,
        relative_gap=progress.relative_gap,
        phase=progress.phase,
    )
    message.elapsed_duration.FromNanoseconds(round(progress.elapsed_s * 1e9))
    return dispatch_service_pb2.PlanPortfolioResponse(progress=message).SerializeToString()


def _add_limit(message: plan_pb2.Plan, limit: PortfolioLimit, names: PortfolioNames, plan: FleetPlan, i: int) -> None:
    outcome = message.limits.add(group_id=_limit_name(limit, names))
    fields = [
        packed_doubles(plan_pb2.LimitOutcome.POWER_KW_FIELD_NUMBER, plan.limit_power_kw[i]),
        packed_doubles(plan_pb2.LimitOutcome.PRICE_PER_KW_STEP_FIELD_NUMBER, plan.limit_price_per_kw_step[i]),
    ]
    if np.isfinite(limit.upper_kw).any():
        fields.append(packed_doubles(plan_pb2.LimitOutcome.ABOVE_KW_FIELD_NUMBER, plan.limit_above_kw[i]))
    if np.isfinite(limit.lower_kw).any():
        fields.append(packed_doubles(plan_pb2.LimitOutcome.BELOW_KW_FIELD_NUMBER, plan.limit_below_kw[i]))
    outcome.MergeFromString(b"".join(fields))


def _limit_name(limit: PortfolioLimit, names: PortfolioNames) -> str:
    if limit.scope == LimitScope.FLEET:
        return ""
    return (names.groups if limit.scope == LimitScope.GROUP else names.operators)[limit.index]


def _add_shortfalls(message: plan_pb2.Plan, commitment_ids: Sequence[str], plan: FleetPlan) -> None:
    up, down = plan.reserve_missing_up_kw, plan.reserve_missing_down_kw
    for i, step in np.argwhere((up > _LEAST_KW) | (down > _LEAST_KW)).tolist():
        message.reserve_shortfalls.add(
            commitment_id=commitment_ids[i], step=step, up_kw=up[i, step], down_kw=down[i, step]
        )
