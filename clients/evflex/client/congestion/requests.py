"""What is asked of a network: a power flow, or a forecast of congestion."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from evflex.client.congestion.injections import Load, load_axis, load_index, write_load
from evflex.client.congestion.limits import CongestionLimits, InjectionUncertainty
from evflex.client.congestion.network import Network
from evflex.client.congestion.tables import step_index
from evflex.client.enums import full_name
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_pb2, power_flow_pb2
from evflex.congestion.v1 import congestion_service_pb2 as pb

NetworkName = Network | str
"""A network, or its identifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerFlowOutputs:
    """What a power flow is to tell.

    Attributes:
        voltage: Voltages.
        voltage_angle: Angles of the voltages.
        branch_loading: Loadings of branches.
        branch_power: Active and reactive power at both ends of branches.
        branch_current: Currents at both ends of branches.
        voltage_unbalance: Unbalance of voltages, in a network of three phases.
    """

    voltage: bool = True
    voltage_angle: bool = False
    branch_loading: bool = True
    branch_power: bool = False
    branch_current: bool = False
    voltage_unbalance: bool = False

    def to_message(self) -> power_flow_pb2.PowerFlowOutputs:
        """Write outputs of the contract."""
        return power_flow_pb2.PowerFlowOutputs(
            voltage=self.voltage,
            voltage_angle=self.voltage_angle,
            branch_loading=self.branch_loading,
            branch_power=self.branch_power,
            branch_current=self.branch_current,
            voltage_unbalance=self.voltage_unbalance,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PowerFlowRequest:
    """A power flow to compute; attributes as the parameters of ``EvflexClient.run_power_flow``."""

    network: NetworkName
    injections: Load = None
    outputs: PowerFlowOutputs = PowerFlowOutputs()
    time_grid: TimeGrid | None = None

    def to_message(self) -> pb.RunPowerFlowRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each field that cannot be written.
        """
        violations: list[Violation] = []
        message = pb.RunPowerFlowRequest(network_id=network_id_of(self.network), outputs=self.outputs.to_message())
        write_load(message, self.injections, violations)
        try:
            grid = self._grid()
            if grid is not None:
                message.time_grid.CopyFrom(grid.to_message())
        except (TypeError, ValueError) as error:
            violations.append(Violation("time_grid", str(error)))
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message

    def index(self, step_count: int) -> pd.Index:
        """Rows of the answer: the start of each step (UTC), or its number where there is no time axis."""
        given = load_index(self.injections)
        if self._snapshot() and isinstance(given, pd.DatetimeIndex):
            return given.tz_convert("UTC").rename("time")
        return step_index(self._grid(), step_count)

    def _grid(self) -> TimeGrid | None:
        return None if self._snapshot() else load_axis(self.injections, self.time_grid)

    def _snapshot(self) -> bool:
        """Whether there is one instant, which makes no time axis and needs none."""
        index = load_index(self.injections)
        one = isinstance(index, pd.DatetimeIndex) and len(index) == 1 and index.tz is not None
        return one and self.time_grid is None


@dataclass(frozen=True, slots=True, eq=False)
class CongestionRequest:
    """Congestion to forecast; attributes as the parameters of ``EvflexClient.forecast_congestion``."""

    network: NetworkName
    injections: Load = None
    time_grid: TimeGrid | None = None
    uncertainty: InjectionUncertainty | None = None
    limits: CongestionLimits | None = None
    contingencies: str | Sequence[str] = "NONE"
    closable_branch_ids: Sequence[str] = ()
    relief_bus_ids: Sequence[str] = ()
    min_probability: float | None = None
    return_relief: bool = True
    return_worst: bool = False
    store: bool = False
    validate_only: bool = False
    request_id: str = ""

    def to_message(self) -> pb.ForecastCongestionRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each field that cannot be written.
        """
        violations: list[Violation] = []
        message = pb.ForecastCongestionRequest(
            request_id=self.request_id or str(uuid.uuid4()),
            network_id=network_id_of(self.network),
            relief_bus_ids=self.relief_bus_ids,
            min_probability=self.min_probability,
            return_relief=None if self.return_relief else False,
            return_worst=self.return_worst,
            store=self.store,
            validate_only=self.validate_only,
        )
        write_load(message, self.injections, violations)
        try:
            grid = load_axis(self.injections, self.time_grid)
            if grid is None:
                raise ValueError("give time_grid, or injections with a time index")
            message.time_grid.CopyFrom(grid.to_message())
        except (TypeError, ValueError) as error:
            violations.append(Violation("time_grid", str(error)))
        for name, write in (
            ("uncertainty", self._uncertainty),
            ("limits", self._limits),
            ("contingencies", self._which),
        ):
            try:
                write(message)
            except (TypeError, ValueError) as error:
                violations.append(Violation(name, str(error)))
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message

    def _uncertainty(self, message: pb.ForecastCongestionRequest) -> None:
        if self.uncertainty is not None:
            message.uncertainty.CopyFrom(self.uncertainty.to_message(self.injections))

    def _limits(self, message: pb.ForecastCongestionRequest) -> None:
        if self.limits is not None:
            message.limits.CopyFrom(self.limits.to_message())

    def _which(self, message: pb.ForecastCongestionRequest) -> None:
        given = self.contingencies
        listed = [] if isinstance(given, str) else [str(branch_id) for branch_id in given]
        selection = given if isinstance(given, str) else "LISTED" if listed else "NONE"
        prefix = "CONTINGENCY_SELECTION_"
        contingencies = congestion_pb2.Contingencies(
            selection=full_name(congestion_pb2.ContingencySelection, prefix, selection),
            branch_ids=listed,
            closable_branch_ids=[str(branch_id) for branch_id in self.closable_branch_ids],
        )
        message.contingencies.CopyFrom(contingencies)


def network_id_of(network: NetworkName) -> str:
    """Identifier of a network."""
    return network.network_id if isinstance(network, Network) else network
