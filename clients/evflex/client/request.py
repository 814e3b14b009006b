"""What is asked: a site with its sessions, electrical tree, tariff and options."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.charging.v1 import charging_service_pb2, schedule_options_pb2, tariff_pb2
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import duration_message
from evflex.client.sessions import add_sessions
from evflex.client.steps import PerStep, per_step
from evflex.client.supply import SupplyNode, node_messages
from evflex.client.timegrid import TimeGrid

Flags = Sequence[bool] | NDArray[np.bool_] | pd.Series
"""One truth value a step."""


@dataclass(frozen=True, slots=True, eq=False)
class Tariff:
    """Prices and emission intensity at the root, per step.

    Attributes:
        import_price_per_kwh: Price of each kWh imported, all taxes in. A Series with a time index also fixes
            the time grid.
        currency_code: ISO 4217 code of all money.
        export_price_per_kwh: Earned by each kWh exported; None earns nothing.
        peak_price_per_kw: Price of each kW by which the import peak rises above ``observed_peak_kw``.
        observed_peak_kw: Peak import that is paid already.
        peak_window: Steps that count for the peak; None is all.
        peak_averaging_duration: Span over which import is averaged; None is one step.
        emission_intensity_g_per_kwh: Emissions of each kWh imported; None is none.
        emission_price_per_kg: Price of each kg of CO2 equivalent.
    """

    import_price_per_kwh: PerStep
    currency_code: str = "EUR"
    export_price_per_kwh: PerStep | None = None
    peak_price_per_kw: float = 0.0
    observed_peak_kw: float = 0.0
    peak_window: Flags | None = None
    peak_averaging_duration: timedelta | None = None
    emission_intensity_g_per_kwh: PerStep | None = None
    emission_price_per_kg: float = 0.0

    def to_message(self) -> tariff_pb2.Tariff:
        """Write a tariff of the contract."""
        return tariff_pb2.Tariff(
            currency_code=self.currency_code,
            import_price_per_kwh=per_step(self.import_price_per_kwh),
            export_price_per_kwh=per_step(self.export_price_per_kwh),
            peak_price_per_kw=self.peak_price_per_kw,
            observed_peak_kw=self.observed_peak_kw,
            peak_window=_flags(self.peak_window),
            peak_averaging_duration=duration_message(self.peak_averaging_duration),
            emission_intensity_g_per_kwh=per_step(self.emission_intensity_g_per_kwh),
            emission_price_per_kg=self.emission_price_per_kg,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleOptions:
    """What a schedule is optimised for; None takes the server's default.

    Attributes:
        time_limit: Wall time of the solve.
        relative_gap: Asked relative gap.
        absolute_gap: Asked gap in the unit of the objective.
        objective: ``COST`` or ``EMISSIONS``.
        shortfall_price_per_kwh: Price of each kWh of shortfall; None: the least shortfall comes first, then
            cost.
        start_cost: Cost of each start of charging.
        max_starts_per_session: Most starts of one session.
        min_run_duration: Shortest run of charging once started.
        departure_margin: Energy is wanted this long before departure.
        control_enabled: Whether a step is controlled; None is all.
        departure_beyond_horizon: ``FULL`` or ``PRO_RATA``.
        terminal_value_per_kwh: Worth of battery energy above the need of a session that stays beyond the
            grid.
        previous_schedule_id: Stored schedule from which the new one should not differ without reason.
        change_cost_per_kwh: Cost of each kWh by which it differs.
        return_currents: Whether currents are returned too.
        current_quantum_a: Step in A of the current that charge points can be set to.
    """

    time_limit: timedelta | None = None
    relative_gap: float | None = None
    absolute_gap: float = 0.0
    objective: str = "COST"
    shortfall_price_per_kwh: float | None = None
    start_cost: float = 0.0
    max_starts_per_session: int | None = None
    min_run_duration: timedelta | None = None
    departure_margin: timedelta | None = None
    control_enabled: Flags | None = None
    departure_beyond_horizon: str = "FULL"
    terminal_value_per_kwh: float = 0.0
    previous_schedule_id: str = ""
    change_cost_per_kwh: float = 0.0
    return_currents: bool = False
    current_quantum_a: float = 0.0

    def to_message(self) -> schedule_options_pb2.ScheduleOptions:
        """Write options of the contract.

        Raises:
            ValueError: ``objective`` or ``departure_beyond_horizon`` is unknown.
        """
        return schedule_options_pb2.ScheduleOptions(
            time_limit_duration=duration_message(self.time_limit),
            relative_gap=self.relative_gap,
            absolute_gap=self.absolute_gap,
            objective=f"SCHEDULE_OBJECTIVE_{self.objective}",
            shortfall_price_per_kwh=self.shortfall_price_per_kwh,
            start_cost=self.start_cost,
            max_starts_per_session=self.max_starts_per_session,
            min_run_duration=duration_message(self.min_run_duration),
            departure_margin_duration=duration_message(self.departure_margin),
            control_enabled=_flags(self.control_enabled),
            departure_beyond_horizon=f"DEPARTURE_BEYOND_HORIZON_{self.departure_beyond_horizon}",
            terminal_value_per_kwh=self.terminal_value_per_kwh,
            previous_schedule_id=self.previous_schedule_id,
            change_cost_per_kwh=self.change_cost_per_kwh,
            return_currents=self.return_currents,
            current_quantum_a=self.current_quantum_a,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ScheduleRequest:
    """One site to plan.

    Attributes:
        site_id: Site.
        sessions: One row a session; columns as in :func:`evflex.client.sessions.add_sessions`.
        tariff: Tariff, or a Series of import prices per kWh (EUR) with a time index.
        nodes: Electrical tree: dataclasses, or a table with their fields as columns.
        time_grid: Time axis; None takes the index of the import price.
        options: Options.
        store: Whether the server stores the schedule.
        validate_only: Only check the request.
        area_id: Grid area of the site.
        request_id: UUID under which a repeated call gives the same answer; drawn when not given.
    """

    site_id: str
    sessions: pd.DataFrame
    tariff: Tariff | pd.Series
    nodes: Sequence[SupplyNode] | pd.DataFrame = (SupplyNode("site"),)
    time_grid: TimeGrid | None = None
    options: ScheduleOptions = field(default_factory=ScheduleOptions)
    store: bool = False
    validate_only: bool = False
    area_id: str = ""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def to_message(self) -> charging_service_pb2.OptimizeScheduleRequest:
        """Write a request of the contract.

        Only what a message cannot express is checked here; the rules of the contract are the server's.

        Raises:
            InvalidRequestError: Naming each column or field that cannot be written.
        """
        violations: list[Violation] = []
        message = charging_service_pb2.OptimizeScheduleRequest(
            request_id=self.request_id,
            site_id=self.site_id,
            store=self.store,
            validate_only=self.validate_only,
            area_id=self.area_id,
        )
        add_sessions(message, self.sessions, violations)
        tariff = Tariff(self.tariff) if isinstance(self.tariff, pd.Series) else self.tariff
        try:
            message.time_grid.CopyFrom(self._grid(tariff).to_message())
        except (TypeError, ValueError) as error:
            violations.append(Violation("time_grid", str(error)))
        try:
            message.tariff.CopyFrom(tariff.to_message())
        except (TypeError, ValueError) as error:
            violations.append(Violation("tariff", str(error)))
        try:
            message.nodes.extend(node_messages(self.nodes))
        except (TypeError, ValueError) as error:
            violations.append(Violation("nodes", str(error)))
        try:
            message.options.CopyFrom(self.options.to_message())
        except (TypeError, ValueError) as error:
            violations.append(Violation("options", str(error)))
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return message

    def _grid(self, tariff: Tariff) -> TimeGrid:
        if self.time_grid is not None:
            return self.time_grid
        price = tariff.import_price_per_kwh
        if isinstance(price, pd.Series) and isinstance(price.index, pd.DatetimeIndex):
            return TimeGrid.from_index(price.index)
        raise ValueError("give time_grid, or import prices as a Series with a time index")


def _flags(values: Flags | None) -> list[bool]:
    flags: list[bool] = [] if values is None else np.asarray(values, dtype=np.bool_).tolist()
    return flags
