"""The answer: a schedule with its figures as pandas objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from google.rpc import code_pb2

from evflex.charging.v1 import schedule_pb2
from evflex.client.errors import Violation
from evflex.client.moments import timestamp
from evflex.client.steps import by_time
from evflex.client.termination import Termination
from evflex.client.timegrid import TimeGrid
from evflex.common.v1 import fault_pb2, supply_node_pb2


@dataclass(frozen=True, slots=True)
class ScheduleFigures:
    """Figures of a plan: money in the schedule's currency, energies battery-side.

    Attributes:
        total_cost: energy + peak + emission + discharge + start + shortfall + change cost - energy_value.
        energy_cost: Import cost less export revenue at the root, fixed load included.
        peak_cost: Peak price times the import peak above the observed one.
        emission_cost: Emission price times emissions.
        discharge_cost: Wear of discharging.
        start_cost: Cost of starts.
        shortfall_cost: Priced shortfall.
        energy_value: Worth of energy above needs.
        change_cost: Cost of the difference from the previous schedule.
        emissions_kg: kg of CO2 equivalent of the net import.
        peak_import_kw: Largest averaged import at the root in the peak window.
        delivered_kwh: Delivered to all sessions, net of discharging.
        shortfall_kwh: Wanted and not delivered.
    """

    total_cost: float
    energy_cost: float
    peak_cost: float
    emission_cost: float
    discharge_cost: float
    start_cost: float
    shortfall_cost: float
    energy_value: float
    change_cost: float
    emissions_kg: float
    peak_import_kw: float
    delivered_kwh: float
    shortfall_kwh: float

    @classmethod
    def from_message(cls, message: schedule_pb2.Schedule | schedule_pb2.ScheduleFigures) -> ScheduleFigures:
        """Read figures from the schedule itself or from its uncontrolled twin."""
        return cls(**{field.name: getattr(message, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """The plan of one site. Charging and import are positive.

    Attributes:
        site_id: Site.
        schedule_id: Identifier; empty when the schedule was not stored.
        time_grid: Time axis.
        power_kw: Mean power in kW; rows are steps (UTC), columns are sessions.
        current_a: Current of each active phase in A, shaped like ``power_kw``; None unless asked for.
        root_power_kw: Net power at the root in kW, fixed load included.
        uncontrolled_root_power_kw: The same under uncontrolled charging.
        sessions: Outcome of each session, indexed by session_id.
        figures: Figures of the plan.
        uncontrolled: Figures of uncontrolled charging: full power on arrival, under the same limits.
        binding_limits: Limits with a shadow price: time, node_id, step, phase, unit, limit, shadow_price.
        limit_violations: Limits exceeded: time, node_id, step, phase, unit, limit, excess.
        termination: How the solve ended.
        currency_code: ISO 4217 code of all money.
        create_time: When the schedule was made (UTC).
        valid_until_time: Until when its setpoints hold (UTC).
        update_time: Last change in the store (UTC).
        supersedes_schedule_id: Schedule of the site stored before; empty when there was none.
        etag: Changes whenever the stored schedule does.
        area_id: Grid area of the site.
        tenant_id: Owner.
    """

    site_id: str
    schedule_id: str
    time_grid: TimeGrid
    power_kw: pd.DataFrame
    current_a: pd.DataFrame | None
    root_power_kw: pd.Series
    uncontrolled_root_power_kw: pd.Series
    sessions: pd.DataFrame
    figures: ScheduleFigures
    uncontrolled: ScheduleFigures
    binding_limits: pd.DataFrame
    limit_violations: pd.DataFrame
    termination: Termination
    currency_code: str
    create_time: pd.Timestamp | None
    valid_until_time: pd.Timestamp | None
    update_time: pd.Timestamp | None
    supersedes_schedule_id: str
    etag: str
    area_id: str
    tenant_id: str

    @classmethod
    def from_message(cls, message: schedule_pb2.Schedule) -> Schedule:
        """Read a schedule of the contract. Arrays that a listing leaves out are empty."""
        grid = TimeGrid.from_message(message.time_grid)
        index = grid.index
        return cls(
            site_id=message.site_id,
            schedule_id=message.schedule_id,
            time_grid=grid,
            power_kw=_matrix(message.power_kw, message.session_ids, index),
            current_a=_matrix(message.current_a, message.session_ids, index) if message.current_a else None,
            root_power_kw=by_time(message.root_power_kw, index, "root_power_kw"),
            uncontrolled_root_power_kw=by_time(message.uncontrolled_root_power_kw, index, "uncontrolled_root_power_kw"),
            sessions=_sessions(message),
            figures=ScheduleFigures.from_message(message),
            uncontrolled=ScheduleFigures.from_message(message.uncontrolled),
            binding_limits=_limits(message.binding_limits, "shadow_price", index),
            limit_violations=_limits(message.limit_violations, "excess", index),
            termination=Termination.from_message(message.termination),
            currency_code=message.currency_code,
            create_time=timestamp(message, "create_time"),
            valid_until_time=timestamp(message, "valid_until_time"),
            update_time=timestamp(message, "update_time"),
            supersedes_schedule_id=message.supersedes_schedule_id,
            etag=message.etag,
            area_id=message.area_id,
            tenant_id=message.tenant_id,
        )


@dataclass(frozen=True, slots=True)
class SiteFault:
    """Why one site of a stream has no schedule; the others are not affected.

    Attributes:
        site_id: Site.
        request_id: Identifier of the site's request.
        code: Name of the gRPC status code.
        message: One line for a developer.
        violations: Broken rules, for an invalid request.
    """

    site_id: str
    request_id: str
    code: str
    message: str
    violations: tuple[Violation, ...] = ()

    @classmethod
    def from_message(cls, site_id: str, request_id: str, message: fault_pb2.Fault) -> SiteFault:
        """Read a fault of the contract."""
        names: dict[int, str] = {value: name for name, value in code_pb2.Code.items()}
        return cls(
            site_id=site_id,
            request_id=request_id,
            code=names.get(message.code, str(message.code)),
            message=message.message,
            violations=tuple(Violation(v.field, v.description) for v in message.violations),
        )


def _matrix(flat: Sequence[float], session_ids: Sequence[str], index: pd.DatetimeIndex) -> pd.DataFrame:
    values = np.asarray(flat, dtype=np.float64)
    columns = pd.Index(list(session_ids), name="session_id", dtype=object)
    if not len(values):
        return pd.DataFrame(np.zeros((len(index), 0)), index=index, columns=columns[:0])
    return pd.DataFrame(values.reshape(len(columns), len(index)).T, index=index, columns=columns)


def _sessions(message: schedule_pb2.Schedule) -> pd.DataFrame:
    columns = [
        "delivered_kwh", "shortfall_kwh", "minimum_shortfall_kwh", "cost", "emissions_kg",
        "self_supplied_kwh", "starts", "limiting_node_id",
    ]  # fmt: skip
    rows = [[getattr(result, column) for column in columns] for result in message.session_results]
    index = pd.Index([result.session_id for result in message.session_results], name="session_id", dtype=object)
    frame = pd.DataFrame(rows, index=index, columns=columns)
    evse_ids = list(message.evse_ids)
    frame.insert(0, "evse_id", evse_ids if len(evse_ids) == len(frame) else [""] * len(frame))
    return frame


def _limits(
    rows: Sequence[schedule_pb2.BindingLimit] | Sequence[schedule_pb2.LimitViolation],
    amount: str,
    index: pd.DatetimeIndex,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "time": index[[row.step for row in rows]],
            "node_id": [row.node_id for row in rows],
            "step": [row.step for row in rows],
            "phase": [supply_node_pb2.Phase.Name(row.phase).removeprefix("PHASE_") for row in rows],
            "unit": [schedule_pb2.LimitUnit.Name(row.unit).removeprefix("LIMIT_UNIT_") for row in rows],
            "limit": [row.limit for row in rows],
            amount: [getattr(row, amount) for row in rows],
        }
    )
