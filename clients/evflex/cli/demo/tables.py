"""Reads tables of sessions and prices whose columns are named in one of the usual ways."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evflex.cli.faults import UsageError

_ARRIVAL = ("arrival_time", "arrival", "connect_utc", "connect", "connection_time", "plug_in", "start_plugin",
            "start_time", "start")  # fmt: skip
_DEPARTURE = ("departure_time", "departure", "disconnect_utc", "disconnect", "disconnect_time", "plug_out",
              "end_plugout", "end_time", "end")  # fmt: skip
_ENERGY = ("energy_needed_kwh", "kwh", "kwh_delivered", "energy_kwh", "el_kwh", "energy")
_SESSION = ("session_id", "session", "id")
_EVSE = ("evse_id", "evse", "station", "station_id", "charger_id", "charge_point")
_POWER = ("max_charge_kw", "max_power_kw", "max_kw", "power_kw")
_TIME = ("time_utc", "hour_utc", "time", "timestamp", "datetime", "hour", "start_time", "start", "date")
_AREA = ("area", "zone", "price_area", "bidding_zone")
_DAY_FIRST = re.compile(r"^\d{1,2}[./]\d{1,2}[./]\d{4}")
_CURRENCY = re.compile(r"(?<![a-z])(eur|dkk|sek|nok|gbp|usd|chf|pln)(?![a-z])")
_UTC = re.compile(r"(?<![a-z])utc(?![a-z])")
_PER_MWH, _PER_KWH = "mwh", "kwh"


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Prices of a file.

    Attributes:
        per_kwh: Price of each kWh by the start of its step (UTC).
        currency_code: ISO 4217 code.
        step: Length of a step.
    """

    per_kwh: pd.Series
    currency_code: str
    step: pd.Timedelta


def read_sessions(path: Path, time_zone: str, default_charge_kw: float) -> pd.DataFrame:
    """Sessions of a CSV file with arrival, departure and energy, in order of arrival.

    Args:
        path: File.
        time_zone: Zone of times that carry none.
        default_charge_kw: Charging power where the file has none.

    Raises:
        UsageError: The file cannot be read, lacks a column, or holds no usable session.
    """
    table = read_table(path)
    arrival = _column(table, path, "arrival", _ARRIVAL)
    departure = _column(table, path, "departure", _DEPARTURE)
    energy = _column(table, path, "energy in kWh", _ENERGY)
    session, evse, power = (_find(table.columns, names) for names in (_SESSION, _EVSE, _POWER))
    sessions = pd.DataFrame(
        {
            "arrival_time": _times(table[arrival], path, time_zone),
            "departure_time": _times(table[departure], path, time_zone),
            "energy_needed_kwh": pd.to_numeric(table[energy], errors="coerce"),
            "max_charge_kw": pd.to_numeric(table[power], errors="coerce") if power else default_charge_kw,
            "evse_id": table[evse].astype(str) if evse else "",
        }
    )
    sessions["max_charge_kw"] = sessions["max_charge_kw"].fillna(default_charge_kw)
    usable = (sessions["departure_time"] > sessions["arrival_time"]) & (sessions["energy_needed_kwh"] > 0.0)
    sessions["session_id"] = table[session].astype(str) if session else [f"row-{i + 2}" for i in range(len(table))]
    sessions = sessions[usable].sort_values("arrival_time", kind="stable", ignore_index=True)
    if sessions.empty:
        raise UsageError(f"{path} has no session with an energy above 0 and a departure after its arrival")
    if sessions["session_id"].duplicated().any():
        sessions["session_id"] = [f"row-{i + 1}" for i in range(len(sessions))]
    return sessions


def read_prices(path: Path, time_zone: str, area: str | None) -> Prices:
    """Prices of a CSV file with a time and a price per MWh or kWh.

    Args:
        path: File.
        time_zone: Zone of times that carry none.
        area: Price area to take, where the file has several.

    Raises:
        UsageError: The file cannot be read, lacks a column, or has several areas and none was named.
    """
    table = read_table(path)
    table = _of_area(table, path, area)
    time = _column(table, path, "time", _TIME)
    priced = [name for name in table.columns if _PER_MWH in name.lower() or _PER_KWH in name.lower()]
    if not priced:
        known = ", ".join(table.columns)
        raise UsageError(
            f"{path} has no price column: its name must end in mwh or kwh, such as eur_mwh; it has {known}"
        )
    price = priced[0]
    index = pd.DatetimeIndex(_times(table[time], path, time_zone))
    values = pd.Series(pd.to_numeric(table[price], errors="coerce").to_numpy(dtype=float), index=index)
    values = values[values.notna().to_numpy() & np.asarray(index.notna())].sort_index()
    values = values[~values.index.duplicated()]
    if len(values) < 2:
        raise UsageError(f"{path} has fewer than two prices in column {price!r}")
    currency = _CURRENCY.search(price.lower().replace("_", " "))
    step = values.index.to_series().diff().median()
    scale = 1000.0 if _PER_MWH in price.lower() else 1.0
    return Prices(values / scale, currency[1].upper() if currency else "EUR", step)


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file, separated by commas or by semicolons with decimal commas.

    Raises:
        UsageError: The file cannot be read or is no table.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            semicolons = head.count(";") > head.count(",")
            return pd.read_csv(file, sep=";" if semicolons else ",", decimal="," if semicolons else ".")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path} is no CSV table in UTF-8: {error}") from None


def _of_area(table: pd.DataFrame, path: Path, area: str | None) -> pd.DataFrame:
    column = _find(table.columns, _AREA)
    if column is None:
        return table
    areas = sorted(table[column].astype(str).unique())
    if area is None and len(areas) > 1:
        raise UsageError(f"{path} has prices of several areas, name one with --area: {', '.join(areas)}")
    if area is not None and area not in areas:
        raise UsageError(f"{path} has no area {area!r}; it has {', '.join(areas)}")
    return table if area is None else table[table[column].astype(str) == area]


def _column(table: pd.DataFrame, path: Path, meaning: str, names: tuple[str, ...]) -> str:
    found = _find(table.columns, names)
    if found is None:
        known = ", ".join(map(str, table.columns))
        raise UsageError(f"{path} has no column for the {meaning}: name it {names[0]}; the columns are {known}")
    return found


def _find(columns: Iterable[str], names: tuple[str, ...]) -> str | None:
    plain = {re.sub(r"[^a-z0-9]", "", str(column).lower()): column for column in columns}
    wanted = [re.sub(r"[^a-z0-9]", "", name) for name in names]
    return next((plain[name] for name in wanted if name in plain), None)


def _times(values: pd.Series, path: Path, time_zone: str) -> pd.Series:
    sample = str(values.iloc[0]) if len(values) else ""
    try:
        parsed = pd.to_datetime(values, dayfirst=bool(_DAY_FIRST.match(sample)), format="mixed")
        if parsed.dt.tz is None:
            zone = "UTC" if _UTC.search(str(values.name).lower()) else time_zone
            parsed = parsed.dt.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: column {values.name!r} holds no times: {error}") from None
    return parsed.dt.tz_convert("UTC")
