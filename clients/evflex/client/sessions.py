"""A table of sessions as messages of the contract, column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from evflex.charging.v1 import charging_service_pb2
from evflex.client.columns import faulty_columns, instants_ns, numbers, with_id_column
from evflex.client.errors import Violation
from evflex.client.moments import duration_message
from evflex.client.supply import PHASE_CONNECTIONS

TEXT_COLUMNS = ("session_id", "evse_id", "node_id")
TIME_COLUMNS = ("arrival_time", "departure_time", "minimum_energy_time")
NUMBER_COLUMNS = (
    "energy_needed_kwh", "minimum_energy_kwh", "energy_headroom_kwh", "energy_available_kwh", "max_charge_kw",
    "min_charge_kw", "max_discharge_kw", "min_discharge_kw", "charge_efficiency", "discharge_efficiency",
    "discharge_cost_per_kwh", "shortfall_price_per_kwh", "energy_value_per_kwh", "shortfall_weight",
    "max_ramp_kw_per_step", "max_cycles",
)  # fmt: skip
STATE_COLUMNS = ("state.delivered_kwh", "state.charging_now", "state.run_duration")
REQUIRED_COLUMNS = ("session_id", "arrival_time", "departure_time", "energy_needed_kwh", "max_charge_kw")
COLUMNS = (*TEXT_COLUMNS, *TIME_COLUMNS, *NUMBER_COLUMNS, "phases", *STATE_COLUMNS)

_Value = TypeVar("_Value")
Column = Sequence[object]


def add_sessions(
    message: charging_service_pb2.OptimizeScheduleRequest, frame: pd.DataFrame, violations: list[Violation]
) -> None:
    """Write a table with one row a session into a request.

    Columns are named as the fields of ``evflex.charging.v1.ChargingSession``; those of the state are
    written ``state.delivered_kwh``. Optional columns may be absent, and NaN, NaT or None in one means that
    the field is not set. The index serves as ``session_id`` when it has that name.

    Args:
        message: Receives the sessions; unchanged when anything is wrong.
        frame: Sessions. Times need a time zone.
        violations: Receives what is wrong with the table.
    """
    columns = read_columns(frame, REQUIRED_COLUMNS, COLUMNS, "sessions", violations)
    if columns is None:
        return
    states = {name.removeprefix("state."): columns.pop(name) for name in STATE_COLUMNS if name in columns}
    if states:
        columns["state"] = list(rows(states))
    # added in place, because a list of finished messages would be copied
    add = message.sessions.add
    for row in rows(columns):
        add(**row)


def read_columns(
    frame: pd.DataFrame, required: Sequence[str], known: Sequence[str], table: str, violations: list[Violation]
) -> dict[str, Column] | None:
    """Values of a table of sessions by column, None where a value is missing; None when anything is wrong.

    Args:
        frame: Sessions; the index serves as ``session_id`` when it has that name.
        required: Columns that must be there.
        known: Columns that may be there, of those of :func:`add_sessions`.
        table: Name of the table in the violations.
        violations: Receives what is wrong with the table.
    """
    given = with_id_column(frame, "session_id")
    faults = faulty_columns(given, required, known, table)
    columns: dict[str, Column] = {}
    if not faults:
        for name in given.columns:
            try:
                columns[name] = _column(name, given[name])
            except (TypeError, ValueError) as error:
                faults.append(Violation(f"{table}.{name}", str(error)))
    violations += faults
    return None if faults else columns


def rows(columns: dict[str, Column]) -> Iterator[dict[str, object]]:
    """Keyword arguments of each row; protobuf takes None as not set, and a dict as a message."""
    names = tuple(columns)
    return (dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _column(name: str, values: pd.Series) -> Column:
    if name in TEXT_COLUMNS:
        return _texts(values)
    if name in TIME_COLUMNS:
        return _times(values)
    if name == "phases":
        return _phases(values)
    if name == "state.charging_now":
        return _flags(values)
    if name == "state.run_duration":
        return _durations(values)
    return _numbers(values)


def _texts(values: pd.Series) -> Column:
    return _without([str(value) for value in values.tolist()], values.isna().to_numpy())


def _numbers(values: pd.Series) -> Column:
    given = numbers(values)
    return _without(given.tolist(), np.isnan(given))


def _times(values: pd.Series) -> Column:
    instants, missing = instants_ns(values)
    seconds, nanos = np.divmod(instants, 1_000_000_000)
    stamps = [Timestamp(seconds=s, nanos=n) for s, n in zip(seconds.tolist(), nanos.tolist(), strict=True)]
    return _without(stamps, missing)


def _durations(values: pd.Series) -> Column:
    missing = values.isna().to_numpy()
    lengths = pd.to_timedelta(values).fillna(pd.Timedelta(0))
    return _without([duration_message(length.to_pytimedelta()) for length in lengths], missing)


def _phases(values: pd.Series) -> Column:
    given = values.tolist()
    unknown = {value for value in given if isinstance(value, str)} - PHASE_CONNECTIONS.keys()
    if unknown:
        short = ", ".join(key for key in PHASE_CONNECTIONS if 0 < len(key) < 10)
        raise ValueError(f"unknown phases {min(unknown)!r}; known are {short}")
    numbers = [PHASE_CONNECTIONS[value] if isinstance(value, str) else value for value in given]
    return _without(numbers, values.isna().to_numpy())


def _flags(values: pd.Series) -> Column:
    missing = values.isna().to_numpy()
    return _without([bool(value) for value in values.tolist()], missing)


def _without(values: list[_Value], missing: NDArray[np.bool_]) -> list[_Value | None]:
    if not missing.any():
        return list(values)
    return [None if gone else value for value, gone in zip(values, missing.tolist(), strict=True)]
