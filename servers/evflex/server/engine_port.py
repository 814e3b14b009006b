"""What the server needs of the engine, so that tests can put another solver in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evflex.engine import activation, capacity, charging, dispatch, grid, load
from evflex.engine.activation import BatchConflicts, Columns, PreparedRegistry, Registry
from evflex.engine.capacity.allocation import Allocation, Rating
from evflex.engine.capacity.model import AllocationOptions, AllocationProblem, RatingProblem
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress, Setpoints
from evflex.engine.grid import (
    CongestionOptions,
    CongestionProblem,
    CongestionSearch,
    FlowOptions,
    NearestSolvable,
    Network,
    PowerFlow,
    PreparedGrid,
)
from evflex.engine.grid.formats import ImportedNetwork, NetworkFormat, read_network
from evflex.engine.load import LoadForecast, LoadForecastOptions, LoadForecastProblem
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid


class ChargingEngine(Protocol):
    """Plans the charging of one site."""

    def warm_up(self) -> None:
        """Compile the kernels."""

    def optimize_schedule(
        self, problem: ScheduleProblem, options: ScheduleOptions, cancel: threading.Event | None = None
    ) -> Schedule:
        """Plan one site; see :func:`evflex.engine.charging.optimize_schedule`."""

    def optimize_together(
        self, problems: Sequence[ScheduleProblem], options: Sequence[ScheduleOptions]
    ) -> list[Schedule | None]:
        """Plan small sites at once, None for each to be planned alone; see the engine's function of that name."""

    def align_previous(
        self,
        session_ids: tuple[str, ...],
        grid: TimeGrid,
        previous_session_ids: tuple[str, ...],
        previous_grid: TimeGrid,
        previous_power_kw: FloatArray,
    ) -> FloatArray:
        """Lay a stored plan onto a new grid; NaN where it says nothing."""


class DispatchEngine(Protocol):
    """Plans portfolios."""

    def plan_portfolio(
        self,
        problem: DispatchProblem,
        options: PlanOptions,
        cancel: threading.Event,
        on_progress: Callable[[PlanProgress], None],
    ) -> FleetPlan:
        """Plan a portfolio; see :func:`evflex.engine.dispatch.plan_portfolio`."""

    def setpoints_from_arrays(self, arrays: Mapping[str, NDArray[np.generic]]) -> Setpoints:
        """Powers of assets from what :meth:`Setpoints.to_arrays` gave."""


class CapacityEngine(Protocol):
    """Rates transformers and shares their capacity."""

    def rate_transformer(self, problem: RatingProblem) -> Rating:
        """Rate a transformer; see :func:`evflex.engine.capacity.rate_transformer`."""

    def allocate_capacity(
        self, problem: AllocationProblem, options: AllocationOptions, cancel: threading.Event
    ) -> Allocation:
        """Share capacity between hubs; see :func:`evflex.engine.capacity.allocate_capacity`."""


class CongestionEngine(Protocol):
    """Reads networks, computes power flows, and forecasts load and congestion."""

    def read_network(
        self, network_format: NetworkFormat, files: Mapping[str, bytes], three_phase: bool | None
    ) -> ImportedNetwork:
        """Read a network from its files; see :func:`evflex.engine.grid.formats.read_network`."""

    def prepare_grid(self, network: Network) -> PreparedGrid:
        """Prepare a network for power flows; see :func:`evflex.engine.grid.prepare_grid`."""

    def run_power_flow(
        self, prepared: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray, options: FlowOptions
    ) -> PowerFlow:
        """Solve steps of a network; see :func:`evflex.engine.grid.run_power_flow`."""

    def nearest_solvable(self, prepared: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> NearestSolvable | None:
        """Largest share of a step that is solved; see :func:`evflex.engine.grid.nearest_solvable`."""

    def prepare_congestion(
        self, problem: CongestionProblem, options: CongestionOptions, prepared: PreparedGrid
    ) -> CongestionSearch:
        """Prepare a forecast of congestion; see :func:`evflex.engine.grid.prepare_congestion`."""

    def forecast_load(self, problem: LoadForecastProblem, options: LoadForecastOptions) -> LoadForecast:
        """Forecast the load of meters; see :func:`evflex.engine.load.forecast_load`."""


class ActivationEngine(Protocol):
    """Checks batches of commitments."""

    def prepare_registry(self, registry: Registry) -> PreparedRegistry:
        """Number everything that is registered; see :func:`evflex.engine.activation.prepare_registry`."""

    def check_batch(self, prepared: PreparedRegistry, columns: Columns, most_conflicts: int) -> BatchConflicts:
        """Find the conflicts of a batch; see :func:`evflex.engine.activation.check_batch`."""


class Engine(ChargingEngine, DispatchEngine, CapacityEngine, CongestionEngine, ActivationEngine, Protocol):
    """All that the server needs."""


class KernelEngine:
    """The engine itself."""

    def warm_up(self) -> None:
        """See :class:`ChargingEngine`."""
        charging.warm_up()
        dispatch.warm_up()
        capacity.warm_up()
        grid.warm_up()
        activation.warm_up()

    def prepare_registry(self, registry: Registry) -> PreparedRegistry:
        """See :class:`ActivationEngine`."""
        return activation.prepare_registry(registry)

    def check_batch(self, prepared: PreparedRegistry, columns: Columns, most_conflicts: int) -> BatchConflicts:
        """See :class:`ActivationEngine`."""
        return activation.check_batch(prepared, columns, most_conflicts)

    def plan_portfolio(
        self,
        problem: DispatchProblem,
        options: PlanOptions,
        cancel: threading.Event,
        on_progress: Callable[[PlanProgress], None],
    ) -> FleetPlan:
        """See :class:`DispatchEngine`."""
        return dispatch.plan_portfolio(problem, options, cancel, on_progress)

    def setpoints_from_arrays(self, arrays: Mapping[str, NDArray[np.generic]]) -> Setpoints:
        """See :class:`DispatchEngine`."""
        return dispatch.setpoints_from_arrays(dict(arrays))

    def rate_transformer(self, problem: RatingProblem) -> Rating:
        """See :class:`CapacityEngine`."""
        return capacity.rate_transformer(problem)

    def allocate_capacity(
        self, problem: AllocationProblem, options: AllocationOptions, cancel: threading.Event
    ) -> Allocation:
        """See :class:`CapacityEngine`."""
        return capacity.allocate_capacity(problem, options, cancel)

    def read_network(
        self, network_format: NetworkFormat, files: Mapping[str, bytes], three_phase: bool | None
    ) -> ImportedNetwork:
        """See :class:`CongestionEngine`."""
        return read_network(network_format, files, three_phase=three_phase)

    def prepare_grid(self, network: Network) -> PreparedGrid:
        """See :class:`CongestionEngine`."""
        return grid.prepare_grid(network)

    def run_power_flow(
        self, prepared: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray, options: FlowOptions
    ) -> PowerFlow:
        """See :class:`CongestionEngine`."""
        return grid.run_power_flow(prepared, p_kw, q_kvar, options)

    def nearest_solvable(self, prepared: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> NearestSolvable | None:
        """See :class:`CongestionEngine`."""
        return grid.nearest_solvable(prepared, p_kw, q_kvar)

    def prepare_congestion(
        self, problem: CongestionProblem, options: CongestionOptions, prepared: PreparedGrid
    ) -> CongestionSearch:
        """See :class:`CongestionEngine`."""
        return grid.prepare_congestion(problem, options, prepared)

    def forecast_load(self, problem: LoadForecastProblem, options: LoadForecastOptions) -> LoadForecast:
        """See :class:`CongestionEngine`."""
        return load.forecast_load(problem, options)

    def optimize_schedule(
        self, problem: ScheduleProblem, options: ScheduleOptions, cancel: threading.Event | None = None
    ) -> Schedule:
        """See :class:`ChargingEngine`."""
        return charging.optimize_schedule(problem, options, cancel)

    def optimize_together(
        self, problems: Sequence[ScheduleProblem], options: Sequence[ScheduleOptions]
    ) -> list[Schedule | None]:
        """See :class:`ChargingEngine`."""
        return charging.optimize_together(problems, options)

    def align_previous(
        self,
        session_ids: tuple[str, ...],
        grid: TimeGrid,
        previous_session_ids: tuple[str, ...],
        previous_grid: TimeGrid,
        previous_power_kw: FloatArray,
    ) -> FloatArray:
        """See :class:`ChargingEngine`."""
        return charging.align_previous(session_ids, grid, previous_session_ids, previous_grid, previous_power_kw)
