"""The answer: a plan of a fleet as pandas objects, put together from the messages of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.errors import broken_stream
from evflex.client.moments import timestamp
from evflex.client.steps import by_time
from evflex.client.termination import Termination
from evflex.client.timegrid import TimeGrid
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from evflex.dispatch.v1 import plan_pb2

PlanAnswerT = TypeVar("PlanAnswerT", pb.PlanPortfolioResponse, pb.GetPlanResponse)


@dataclass(frozen=True, slots=True)
class PlanProgress:
    """How far a solve is.

    Attributes:
        iteration: Rounds done.
        objective: Best plan so far, in money.
        objective_bound: Proven lower bound so far.
        relative_gap: Gap of the two.
        elapsed_duration: Since the solve began.
        phase: What is being done.
    """

    iteration: int
    objective: float
    objective_bound: float
    relative_gap: float
    elapsed_duration: timedelta
    phase: str

    @classmethod
    def from_message(cls, message: plan_pb2.PlanProgress) -> PlanProgress:
        """Read progress of the contract."""
        return cls(
            iteration=message.iteration,
            objective=message.objective,
            objective_bound=message.objective_bound,
            relative_gap=message.relative_gap,
            elapsed_duration=message.elapsed_duration.ToTimedelta(),
            phase=message.phase,
        )


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """What the cost of a plan is made of, in its currency.

    Attributes:
        import_cost: Import price on what assets draw.
        export_revenue: Export price on what assets inject.
        discharge_cost: Wear of discharging.
        shortfall_cost: Price of shortfall.
        violation_cost: Price of limits and reserves exceeded.
        energy_value: Worth of energy above the needed.
    """

    import_cost: float
    export_revenue: float
    discharge_cost: float
    shortfall_cost: float
    violation_cost: float
    energy_value: float

    @classmethod
    def from_message(cls, message: plan_pb2.PlanFigures) -> PlanFigures:
        """Read figures of the contract."""
        return cls(**{field.name: getattr(message, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True, eq=False)
class FleetPlan:
    """The plan of a portfolio. Charging and import are positive; steps are in UTC.

    Attributes:
        plan_id: Identifier.
        portfolio_id: Portfolio that was planned.
        portfolio_version: Version of the portfolio that was planned.
        time_grid: Time axis.
        currency_code: ISO 4217 code of all money.
        asset_count: Assets planned.
        power_kw: Power of the fleet by step in kW.
        group_power_kw: Power of each group in kW; rows are steps, columns are groups.
        limits: Limits by ``group_id`` (empty for the fleet) and ``time``: ``power_kw``, ``price_per_kw_step`` (what one
            kW more would save in the step), ``above_kw`` and ``below_kw`` (violations).
        reserve_shortfalls: Reserves that cannot be delivered: time, commitment_id, step, up_kw, down_kw.
        setpoints_kw: Mean power of each asset in kW, rows are assets, columns are steps; None unless asked for.
        total_cost: Cost of the plan.
        figures: What it is made of.
        shortfall_kwh: Energy that assets lack at the end of their availability, battery-side.
        assets_short: Assets that lack energy.
        violation_kwh: Energy beyond limits.
        termination: How the solve ended.
        tenant_id: Owner.
        area_id: Grid area of the portfolio.
        etag: Changes with every change of the plan.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    plan_id: str
    portfolio_id: str
    portfolio_version: int
    time_grid: TimeGrid
    currency_code: str
    asset_count: int
    power_kw: pd.Series
    group_power_kw: pd.DataFrame
    limits: pd.DataFrame
    reserve_shortfalls: pd.DataFrame
    setpoints_kw: pd.DataFrame | None
    total_cost: float
    figures: PlanFigures
    shortfall_kwh: float
    assets_short: int
    violation_kwh: float
    termination: Termination
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @property
    def gap(self) -> float:
        """Proven relative gap: how much better any other plan can be at most, as a ratio."""
        return self.termination.relative_gap

    @classmethod
    def from_message(cls, message: plan_pb2.Plan, setpoints_kw: pd.DataFrame | None = None) -> FleetPlan:
        """Read a plan of the contract. Arrays that a listing leaves out are empty."""
        grid = TimeGrid.from_message(message.time_grid)
        index = grid.index
        return cls(
            plan_id=message.plan_id,
            portfolio_id=message.portfolio_id,
            portfolio_version=message.portfolio_version,
            time_grid=grid,
            currency_code=message.currency_code,
            asset_count=message.asset_count,
            power_kw=by_time(message.fleet_power_kw, index, "power_kw"),
            group_power_kw=_groups(message, index),
            limits=_limits(message.limits, index),
            reserve_shortfalls=_reserve_shortfalls(message.reserve_shortfalls, index),
            setpoints_kw=setpoints_kw,
            total_cost=message.total_cost,
            figures=PlanFigures.from_message(message.figures),
            shortfall_kwh=message.shortfall_kwh,
            assets_short=message.assets_short,
            violation_kwh=message.violation_kwh,
            termination=Termination.from_message(message.termination),
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


class PlanStream:
    """Puts a plan together from progress, summary and chunks.

    Attributes:
        summary: The summary, once it has come.
    """

    def __init__(self) -> None:
        self.summary: plan_pb2.PlanSummary | None = None
        self._chunks = 0
        self._asset_ids: list[str] = []
        self._power_kw: NDArray[np.float64] = np.empty((0, 0))

    def accept(self, message: pb.PlanPortfolioResponse | pb.GetPlanResponse) -> PlanProgress | None:
        """Take a message; progress is returned.

        Raises:
            ServerError: A chunk is out of order or has more assets than there are.
        """
        kind = message.WhichOneof("payload")
        if kind == "progress" and isinstance(message, pb.PlanPortfolioResponse):
            return PlanProgress.from_message(message.progress)
        if kind == "summary":
            self.summary = message.summary
            plan = message.summary.plan
            if message.summary.chunk_count:
                self._power_kw = np.empty((plan.asset_count, plan.time_grid.step_count))
        elif kind == "chunk":
            self._add(message.chunk)
        return None

    def plan(self) -> FleetPlan:
        """The plan, whole.

        Raises:
            ServerError: The stream ended before.
        """
        if self.summary is None or self._chunks != self.summary.chunk_count:
            raise broken_stream("ended before the plan was whole")
        plan = self.summary.plan
        return FleetPlan.from_message(plan, self.setpoints_kw() if self.summary.chunk_count else None)

    def setpoints_kw(self) -> pd.DataFrame:
        """Powers that have come, one row an asset."""
        assert self.summary is not None
        rows = self._power_kw[: len(self._asset_ids)]
        return setpoint_table(self._asset_ids, rows, TimeGrid.from_message(self.summary.plan.time_grid).index)

    def _add(self, chunk: plan_pb2.PlanChunk) -> None:
        first, count = len(self._asset_ids), len(chunk.asset_ids)
        if self.summary is None or chunk.chunk_index != self._chunks or first + count > len(self._power_kw):
            raise broken_stream("is out of order")
        self._power_kw[first : first + count] = np.asarray(chunk.power_kw).reshape(count, -1)
        self._asset_ids.extend(chunk.asset_ids)
        self._chunks += 1


class SetpointStream:
    """Powers of a stored plan part by part, over lost connections: what was read is passed over when it comes again."""

    def __init__(self) -> None:
        self._summary: plan_pb2.PlanSummary | None = None
        self._index = pd.DatetimeIndex([])
        self._chunks = 0

    @property
    def complete(self) -> bool:
        """Whether all parts have come."""
        return self._summary is not None and self._chunks == self._summary.chunk_count

    def accept(self, message: pb.GetPlanResponse) -> pd.DataFrame | None:
        """Take a message; a part that is new is returned.

        Raises:
            ServerError: A chunk is out of order.
        """
        kind = message.WhichOneof("payload")
        if kind == "summary":
            self._summary = message.summary
            self._index = TimeGrid.from_message(message.summary.plan.time_grid).index
        chunk = message.chunk
        if kind != "chunk" or chunk.chunk_index < self._chunks:
            return None
        if chunk.chunk_index > self._chunks:
            raise broken_stream("is out of order")
        self._chunks += 1
        power_kw = np.asarray(chunk.power_kw, dtype=np.float64).reshape(len(chunk.asset_ids), -1)
        return setpoint_table(list(chunk.asset_ids), power_kw, self._index)

    def check_ended(self) -> None:
        """Check the end of a stream.

        Raises:
            ServerError: Parts are missing.
        """
        if not self.complete:
            raise broken_stream("ended before the plan was whole")


def setpoint_table(asset_ids: list[str], power_kw: NDArray[np.float64], index: pd.DatetimeIndex) -> pd.DataFrame:
    """Powers of assets in kW; rows are assets, columns are steps. The array is not copied."""
    rows = pd.Index(asset_ids, name="asset_id", dtype=object)
    return pd.DataFrame(power_kw, index=rows, columns=index, copy=False)


def _groups(message: plan_pb2.Plan, index: pd.DatetimeIndex) -> pd.DataFrame:
    groups = pd.Index(list(message.groups), name="group_id", dtype=object)
    values = np.asarray(message.group_power_kw, dtype=np.float64)
    if not len(values):
        return pd.DataFrame(np.zeros((len(index), 0)), index=index, columns=groups[:0])
    return pd.DataFrame(values.reshape(len(groups), len(index)).T, index=index, columns=groups)


def _limits(limits: Sequence[plan_pb2.LimitOutcome], index: pd.DatetimeIndex) -> pd.DataFrame:
    columns = ("power_kw", "price_per_kw_step", "above_kw", "below_kw")
    rows = pd.MultiIndex.from_product([[limit.group_id for limit in limits], index], names=["group_id", "time"])
    table = {
        column: np.concatenate([_filled(getattr(limit, column), len(index)) for limit in limits] or [np.zeros(0)])
        for column in columns
    }
    return pd.DataFrame(table, index=rows)


def _filled(values: Sequence[float], length: int) -> NDArray[np.float64]:
    """Entries of a repeated field; zeros where it is empty."""
    return np.asarray(values, dtype=np.float64) if len(values) else np.zeros(length)


def _reserve_shortfalls(rows: Sequence[plan_pb2.ReserveShortfall], index: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "time": index[[row.step for row in rows]],
            "commitment_id": [row.commitment_id for row in rows],
            "step": [row.step for row in rows],
            "up_kw": [row.up_kw for row in rows],
            "down_kw": [row.down_kw for row in rows],
        }
    )
