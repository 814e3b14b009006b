"""What is asked of a plan: prices, limits, reserves and options."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import duration_message
from evflex.client.steps import PerStep, per_step
from evflex.client.timegrid import TimeGrid
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from evflex.dispatch.v1 import plan_pb2

_PRICES = {"prices": "import_price_per_kwh", "export_prices": "export_price_per_kwh"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PortfolioLimit:
    """A limit on the sum of powers of several assets, kept as far as it can be.

    Attributes:
        violation_price_per_kwh: Price of each kWh above the import limit, below the export limit or off the target.
        group_id: Group or operator; empty for the whole fleet.
        max_import_kw: Largest import in kW; None is no limit.
        max_export_kw: Largest export in kW, a positive number; None is no limit.
        target_kw: Power to track in kW, instead of limits.
    """

    violation_price_per_kwh: float
    group_id: str = ""
    max_import_kw: PerStep | None = None
    max_export_kw: PerStep | None = None
    target_kw: PerStep | None = None

    def to_message(self) -> plan_pb2.PortfolioLimit:
        """Write a limit of the contract."""
        return plan_pb2.PortfolioLimit(
            group_id=self.group_id,
            max_import_kw=per_step(self.max_import_kw),
            max_export_kw=per_step(self.max_export_kw),
            target_kw=per_step(self.target_kw),
            violation_price_per_kwh=self.violation_price_per_kwh,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PortfolioReserve:
    """A reserve sold before, which the plan keeps deliverable.

    Without powers and a time axis it is a confirmed or activated commitment of the caller in the server's ledger, which
    knows the rest.

    Attributes:
        commitment_id: Commitment that sold it.
        product_id: Product of ``list_products``; may be empty for a commitment of the ledger.
        up_kw: More injection or less consumption in kW; None is none.
        down_kw: Less injection or more consumption in kW; None is none.
        time_grid: Time axis of the two; None is that of the plan.
    """

    commitment_id: str
    product_id: str = ""
    up_kw: PerStep | None = None
    down_kw: PerStep | None = None
    time_grid: TimeGrid | None = None

    def to_message(self, plan_grid: TimeGrid) -> plan_pb2.PortfolioReserve:
        """Write a reserve of the contract.

        Args:
            plan_grid: Time axis of the plan.
        """
        if self.up_kw is None and self.down_kw is None and self.time_grid is None:
            return plan_pb2.PortfolioReserve(commitment_id=self.commitment_id, product_id=self.product_id)
        return plan_pb2.PortfolioReserve(
            commitment_id=self.commitment_id,
            product_id=self.product_id,
            time_grid=(self.time_grid or plan_grid).to_message(),
            up_kw=per_step(self.up_kw),
            down_kw=per_step(self.down_kw),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PlanRequest:
    """A portfolio to plan; attributes as the parameters of ``EvflexClient.plan_portfolio``."""

    portfolio_id: str
    prices: PerStep
    start: pd.Timestamp | None = None
    step: timedelta | None = None
    export_prices: PerStep | None = None
    limits: Sequence[PortfolioLimit] = ()
    reserves: Sequence[PortfolioReserve | str] = ()
    relative_gap: float | None = None
    absolute_gap: float = 0.0
    time_limit: timedelta | None = None
    return_setpoints: bool = False
    portfolio_version: int | None = None
    validate_only: bool = False
    request_id: str = ""

    def to_message(self) -> pb.PlanPortfolioRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each field that cannot be written.
        """
        violations: list[Violation] = []
        message = pb.PlanPortfolioRequest(
            request_id=self.request_id or str(uuid.uuid4()),
            portfolio_id=self.portfolio_id,
            portfolio_version=self.portfolio_version,
            validate_only=self.validate_only,
            options=plan_pb2.PlanOptions(
                relative_gap=self.relative_gap,
                absolute_gap=self.absolute_gap,
                time_limit_duration=duration_message(self.time_limit),
                return_setpoints=self.return_setpoints,
            ),
        )
        for name, field_name in _PRICES.items():
            try:
                getattr(message, field_name).extend(per_step(getattr(self, name)))
            except (TypeError, ValueError) as error:
                violations.append(Violation(name, str(error)))
        try:
            grid = self._grid(len(message.import_price_per_kwh))
            message.time_grid.CopyFrom(grid.to_message())
            message.reserves.extend(reserve.to_message(grid) for reserve in self._reserves(violations))
        except (TypeError, ValueError) as error:
            violations.append(Violation("time_grid", str(error)))
        try:
            message.limits.extend(limit.to_message() for limit in self.limits)
        except (TypeError, ValueError) as error:
            violations.append(Violation("limits", str(error)))
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message

    def _reserves(self, violations: list[Violation]) -> list[PortfolioReserve]:
        if isinstance(self.reserves, str):  # would be taken for a list of letters
            violations.append(Violation("reserves", "must be a list of reserves or of identifiers of commitments"))
            return []
        return [PortfolioReserve(commitment_id=r) if isinstance(r, str) else r for r in self.reserves]

    def _grid(self, step_count: int) -> TimeGrid:
        if self.start is not None and self.step is not None:
            return TimeGrid(self.start, self.step, step_count)
        if self.start is not None or self.step is not None:
            raise ValueError("start and step belong together")
        if isinstance(self.prices, pd.Series) and isinstance(self.prices.index, pd.DatetimeIndex):
            return TimeGrid.from_index(self.prices.index)
        raise ValueError("give start and step, or prices as a Series with a time index")
