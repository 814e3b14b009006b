"""A site of the demo from the user's own files: one day of sessions, prices, and a limit that matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.cli.demo.site import DemoSite
from evflex.cli.demo.tables import Prices, read_prices, read_sessions
from evflex.cli.faults import UsageError
from evflex.client import SupplyNode

STEP = pd.Timedelta(minutes=15)
DAY = pd.Timedelta(days=1)
LONGEST = pd.Timedelta(hours=36)
# 6 A at 230 V on one phase, below which a car does not charge.
MIN_CHARGE_KW = 1.38
# The limit taken where none is given: a part of the peak on arrival, and some room above even charging.
LIMIT_SHARE = 0.6
EVEN_SHARE = 1.1
# Usual sizes of chargers, and how much more than the average power of a session its charger must have.
CHARGER_SIZES_KW = (3.7, 7.4, 11.0, 22.0, 50.0, 150.0, 350.0)
CHARGER_ROOM = 1.05


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What may be said about the user's files.

    Attributes:
        date: Day to plan, as YYYY-MM-DD; None takes the one with most arrivals.
        time_zone: Zone of times that carry none, and of the times shown.
        price_zone: Zone whose local time of day prices keep in ``time_zone``; None keeps their instants.
        area: Price area, where the file has several.
        limit_kw: Limit of the site; None takes about 60 % of what uncontrolled cars would draw.
        max_charge_kw: Charging power where the sessions have none.
    """

    date: str | None = None
    time_zone: str = "UTC"
    price_zone: str | None = None
    area: str | None = None
    limit_kw: float | None = None
    max_charge_kw: float = 7.4


def site_from_files(sessions_path: Path, prices_path: Path, options: FileOptions) -> DemoSite:
    """One day of the user's sessions at the user's prices.

    Raises:
        UsageError: A file or an option cannot be used.
    """
    for zone in (options.time_zone, options.price_zone):
        _check_zone(zone)
    sessions = read_sessions(sessions_path, options.time_zone, options.max_charge_kw)
    prices = read_prices(prices_path, options.price_zone or options.time_zone, options.area)
    start = _day_start(sessions, sessions_path, options)
    day = sessions[(sessions["arrival_time"] >= start) & (sessions["arrival_time"] < start + DAY)]
    day = day.reset_index(drop=True)
    charger_note = _raise_chargers(day)
    day["min_charge_kw"] = np.minimum(MIN_CHARGE_KW, day["max_charge_kw"])
    end = min(max(day["departure_time"].max(), start + DAY), start + LONGEST).ceil(STEP)
    index = pd.date_range(start, end, freq=STEP, inclusive="left", name="time")
    prices, zone_note = _in_zone(prices, options)
    price, price_note = _aligned(prices, index, prices_path)
    unlimited_kw, even_kw = _peaks_kw(day, index)
    limit_kw = options.limit_kw
    limit_note = ""
    if limit_kw is None:
        limit_kw = 5.0 * np.ceil(max(LIMIT_SHARE * unlimited_kw, EVEN_SHARE * even_kw) / 5.0)
        limit_note = (
            f"No --limit-kw was given: taken is {limit_kw:g} kW, where these cars would draw up to "
            f"{unlimited_kw:.0f} kW when all charge on arrival, and {even_kw:.0f} kW when each is spread."
        )
    local = start.tz_convert(options.time_zone)
    window = f"{len(day)} sessions that arrive in the 24 h from {local:%Y-%m-%d %H:%M} ({options.time_zone})."
    return DemoSite(
        site_id=sessions_path.stem,
        title=f"{sessions_path.stem}, {local:%d %B %Y}, {len(day)} sessions",
        sessions=day,
        nodes=(SupplyNode("site", max_import_kw=limit_kw),),
        price_per_kwh=price,
        price_label="price",
        currency_code=prices.currency_code,
        emission_g_per_kwh=None,
        peak_price_per_kw=0.0,
        observed_peak_kw=0.0,
        time_zone=options.time_zone,
        notes=tuple(note for note in (window, price_note, zone_note, charger_note, limit_note) if note),
    )


def _raise_chargers(day: pd.DataFrame) -> str:
    """Give sessions that took more than their charger can deliver the next larger one, and say so."""
    needed_kw = (day["energy_needed_kwh"] / _stay_h(day)).to_numpy()
    sizes_kw = np.append(CHARGER_SIZES_KW, np.inf)
    larger = sizes_kw[np.searchsorted(sizes_kw, needed_kw * CHARGER_ROOM)]
    larger = np.where(np.isinf(larger), needed_kw * CHARGER_ROOM, larger)
    raised = needed_kw * CHARGER_ROOM > day["max_charge_kw"].to_numpy()
    day["max_charge_kw"] = np.where(raised, larger, day["max_charge_kw"])
    if not raised.any():
        return ""
    return f"{raised.sum()} sessions took more than their charger could: theirs is taken to be larger."


def _day_start(sessions: pd.DataFrame, path: Path, options: FileOptions) -> pd.Timestamp:
    """Start of the day to plan: at the hour of the day when fewest cars are plugged in."""
    arrival = sessions["arrival_time"].dt.tz_convert(options.time_zone)
    hour = pd.Timedelta(hours=_quietest_hour(sessions, options.time_zone))
    if options.date is None:
        days = (arrival - hour).dt.normalize()
        first = pd.Timestamp(days.value_counts().sort_index().idxmax())
    else:
        try:
            first = pd.Timestamp(options.date, tz=options.time_zone).normalize()
        except ValueError:
            raise UsageError(f"--date must be YYYY-MM-DD, is {options.date!r}") from None
    start = (first + hour).tz_convert("UTC")
    if not ((sessions["arrival_time"] >= start) & (sessions["arrival_time"] < start + DAY)).any():
        span = f"{arrival.iloc[0]:%Y-%m-%d} to {arrival.iloc[-1]:%Y-%m-%d}"
        raise UsageError(f"{path} has no session on {first:%Y-%m-%d}; it has sessions from {span}")
    return start


def _quietest_hour(sessions: pd.DataFrame, time_zone: str) -> int:
    arrival = sessions["arrival_time"].dt.tz_convert(time_zone).dt.hour.to_numpy()
    stay_h = _stay_h(sessions)
    hours = np.minimum(np.ceil(stay_h), 24).astype(int)
    plugged_in = np.zeros(24)
    for offset in range(int(hours.max()) + 1):
        np.add.at(plugged_in, (arrival[hours >= offset] + offset) % 24, 1.0)
    return int(np.argmin(plugged_in))


def _check_zone(zone: str | None) -> None:
    try:
        pd.Timestamp(0, tz=zone)
    except (KeyError, ValueError):
        raise UsageError(f"unknown time zone {zone!r}; an example is Europe/Copenhagen") from None


def _in_zone(prices: Prices, options: FileOptions) -> tuple[Prices, str]:
    """Prices moved from their local time of day to the same time of day where the sessions are."""
    if options.price_zone is None:
        return prices, ""
    wall = pd.DatetimeIndex(prices.per_kwh.index).tz_convert(options.price_zone).tz_localize(None)
    index = wall.tz_localize(options.time_zone, ambiguous="NaT", nonexistent="NaT").tz_convert("UTC")
    moved = pd.Series(prices.per_kwh.to_numpy(), index=index)[np.asarray(index.notna())]
    moved = moved[~moved.index.duplicated()].sort_index()
    note = f"Prices keep their local time of day: 08:00 in {options.price_zone} is 08:00 in {options.time_zone}."
    return replace(prices, per_kwh=moved), note


def _aligned(prices: Prices, index: pd.DatetimeIndex, path: Path) -> tuple[pd.Series, str]:
    """Prices on the time axis: of the same instants, else of the last days that cover its times of day."""
    same = _lookup(prices, index)
    if same is not None:
        return same, f"Prices of the same hours in {path.name}."
    last = prices.per_kwh.index[-1].normalize()
    days = int((last - index[0].normalize()) / DAY)
    for back in range(60):
        shifted = _lookup(prices, index + (days - back) * DAY)
        if shifted is not None:
            taken = shifted.index[0]
            shifted.index = index
            return shifted, (
                f"{path.name} does not cover these dates: prices of {taken:%Y-%m-%d} are used, by time of day (UTC)."
            )
    raise UsageError(f"{path} has no {len(index) * STEP / pd.Timedelta(hours=1):g} hours in a row without a gap")


def _lookup(prices: Prices, index: pd.DatetimeIndex) -> pd.Series | None:
    found = prices.per_kwh.reindex(index, method="ffill", tolerance=prices.step - pd.Timedelta(seconds=1))
    return None if found.isna().any() else found


def _peaks_kw(sessions: pd.DataFrame, index: pd.DatetimeIndex) -> tuple[float, float]:
    """Peaks without a limit: when all charge at full power from arrival, and when each charges evenly."""
    hours = sessions["energy_needed_kwh"] / sessions["max_charge_kw"]
    stay_h = _stay_h(sessions)
    full = sessions["arrival_time"] + pd.to_timedelta(np.minimum(hours, stay_h), unit="h")
    even_kw = np.minimum(sessions["energy_needed_kwh"] / stay_h, sessions["max_charge_kw"])
    moments = np.asarray(index.as_unit("ns").asi8)[:, None]
    after_arrival = moments >= _instants_ns(sessions["arrival_time"])
    on_arrival = (after_arrival & (moments < _instants_ns(full))) @ sessions["max_charge_kw"].to_numpy()
    evenly = (after_arrival & (moments < _instants_ns(sessions["departure_time"]))) @ np.asarray(even_kw)
    return float(on_arrival.max()), float(evenly.max())


def _instants_ns(times: pd.Series) -> NDArray[np.int64]:
    return np.asarray(pd.DatetimeIndex(times).as_unit("ns").asi8)


def _stay_h(sessions: pd.DataFrame) -> NDArray[np.float64]:
    stay = sessions["departure_time"] - sessions["arrival_time"]
    return stay.dt.total_seconds().to_numpy(dtype=np.float64) / np.float64(3600.0)
