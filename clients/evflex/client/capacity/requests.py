"""What is asked of a transformer: its rating, or its capacity shared between hubs."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.capacity.axis import time_axis
from evflex.client.capacity.enums import AllocationPolicy, policy_name
from evflex.client.capacity.hub import Hub
from evflex.client.capacity.loading import ForecastLoading, Loading, conditions
from evflex.client.capacity.transformer import Transformer
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import duration_message
from evflex.client.request import Flags
from evflex.client.timegrid import TimeGrid


@dataclass(frozen=True, slots=True, eq=False)
class RatingRequest:
    """A transformer to rate; attributes as the parameters of ``EvflexClient.rate_transformer``."""

    transformer: Transformer
    loading: Loading
    time_grid: TimeGrid | None = None
    contingency: bool | Flags | None = None
    n1_rated_kva: float | None = None
    risk_quantile: float | None = None
    wanted: Flags | None = None
    store: bool = False
    validate_only: bool = False
    area_id: str = ""
    request_id: str = ""

    def to_message(self) -> pb.RateTransformerRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each field that cannot be written.
        """
        violations: list[Violation] = []
        message = pb.RateTransformerRequest(
            request_id=self.request_id or str(uuid.uuid4()),
            n1_rated_kva=self.n1_rated_kva,
            risk_quantile=self.risk_quantile,
            wanted=[] if self.wanted is None else np.asarray(self.wanted, dtype=np.bool_).tolist(),
            store=self.store,
            validate_only=self.validate_only,
            area_id=self.area_id,
        )
        _write_situation(message, self, (), violations)
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message


@dataclass(frozen=True, slots=True, eq=False)
class AllocationRequest:
    """Hubs to share a transformer; attributes as the parameters of ``EvflexClient.allocate_capacity``."""

    transformer: Transformer
    loading: Loading
    hubs: Sequence[Hub]
    policy: AllocationPolicy | str = AllocationPolicy.MAX_MIN
    time_grid: TimeGrid | None = None
    contingency: bool | Flags | None = None
    n1_rated_kva: float | None = None
    risk_quantile: float | None = None
    time_limit: timedelta | None = None
    store: bool = False
    previous_allocation_id: str = ""
    validate_only: bool = False
    area_id: str = ""
    request_id: str = ""

    def to_message(self) -> pb.AllocateCapacityRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each field or column that cannot be written.
        """
        violations: list[Violation] = []
        message = pb.AllocateCapacityRequest(
            request_id=self.request_id or str(uuid.uuid4()),
            n1_rated_kva=self.n1_rated_kva,
            risk_quantile=self.risk_quantile,
            time_limit_duration=duration_message(self.time_limit),
            store=self.store,
            previous_allocation_id=self.previous_allocation_id,
            validate_only=self.validate_only,
            area_id=self.area_id,
        )
        try:
            message.policy = policy_name(self.policy)  # type: ignore[assignment]
        except ValueError as error:
            violations.append(Violation("policy", str(error)))
        demands = tuple(hub.demand_kw for hub in self.hubs)
        step_count = _write_situation(message, self, demands, violations)
        for i, hub in enumerate(self.hubs):
            hub.write(message.hubs.add(), step_count, f"hubs[{i}]", violations)
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message


def _write_situation(
    message: pb.RateTransformerRequest | pb.AllocateCapacityRequest,
    request: RatingRequest | AllocationRequest,
    demands: Sequence[object],
    violations: list[Violation],
) -> int:
    """Write time axis, transformer, condition and loading.

    Returns:
        Number of steps; 0 where there is no time axis.
    """
    message.grid_condition.extend(conditions(request.contingency))
    try:
        message.transformer.CopyFrom(request.transformer.to_message())
    except (TypeError, ValueError) as error:
        violations.append(Violation("transformer", str(error)))
    forecast = request.loading.load_kw if isinstance(request.loading, ForecastLoading) else None
    try:
        grid = time_axis(request.time_grid, forecast, *demands, request.transformer.ambient_c)
        message.time_grid.CopyFrom(grid.to_message())
    except (TypeError, ValueError) as error:
        violations.append(Violation("time_grid", str(error)))
        return 0
    try:
        message.loading.CopyFrom(request.loading.to_message(grid))
    except (TypeError, ValueError) as error:
        violations.append(Violation("loading", str(error)))
    return grid.step_count
