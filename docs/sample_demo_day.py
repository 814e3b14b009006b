"""Draws the sample data of `evflex demo` from the published distributions; see the note beside the data.

    python docs/sample_demo_day.py FOLDER

FOLDER holds the distributions and prices of ev2gym 2.0.0 (`ev/`, `prices/`) and the load profiles of
demandlib 0.2.2 (`load/`), unpacked from the two packages. The same seed gives the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

SEED = 20240827
ZONE = "Europe/Amsterdam"
DAY = pd.Timestamp("2024-08-27", tz=ZONE)
STEP = pd.Timedelta(minutes=15)
VOLTAGE_V = 230.0
TARGET = Path(__file__).resolve().parents[1] / "clients" / "evflex" / "cli" / "demo" / "data"


def main(source: Path) -> None:
    """Write all files."""
    generator = np.random.default_rng(SEED)
    workplace(source, generator)
    street(source, generator)


def workplace(source: Path, generator: np.random.Generator) -> None:
    """A car park of 50 sessions behind two boards, and the building that shares its grid connection."""
    index = pd.date_range(DAY + pd.Timedelta(hours=5), periods=72, freq=STEP)
    count = 50
    sessions = draw_sessions(source, generator, "workplace", count, index, "distribution-of-arrival.csv")
    sessions.insert(0, "session_id", [f"car-{i:02d}" for i in range(1, count + 1)])
    sessions.insert(1, "evse_id", [f"bay-{i:02d}" for i in range(1, count + 1)])
    sessions.insert(2, "node_id", np.where(np.arange(count) < count // 2, "board-a", "board-b"))
    chargers(sessions, generator, three_phase_share=0.6)
    nodes = pd.DataFrame(
        [
            ("grid-connection", "", 120.0, np.nan, "L1_L2_L3"),
            ("building", "grid-connection", np.nan, np.nan, "L1_L2_L3"),
            ("board-a", "grid-connection", np.nan, 100.0, "L1_L2_L3"),
            ("board-b", "grid-connection", np.nan, 100.0, "L1_L2_L3"),
        ],
        columns=["node_id", "parent_node_id", "max_import_kw", "max_current_a", "fixed_load_phases"],
    )
    steps = prices_and_emissions(source, index)
    steps["building"] = profile(source, "bdew_g25.csv", index, annual_kwh=130_000.0).round(2)
    cap_needs(sessions)
    write("workplace", sessions, nodes, steps)


def street(source: Path, generator: np.random.Generator) -> None:
    """Twenty homes and their 22 cars behind one transformer, from noon to noon."""
    index = pd.date_range(DAY + pd.Timedelta(hours=12), periods=96, freq=STEP)
    homes = [f"home-{i:02d}" for i in range(1, 21)]
    three_phase = generator.random(20) < 0.45
    phases = np.where(three_phase, "L1_L2_L3", np.array(["L1", "L2", "L3"])[np.arange(20) % 3])
    nodes = pd.DataFrame(
        {
            "node_id": ["transformer", *homes],
            "parent_node_id": ["", *["transformer"] * 20],
            "max_import_kw": [60.0, *[np.nan] * 20],
            "max_current_a": [110.0, *np.where(three_phase, 25.0, 35.0)],
            "fixed_load_phases": ["L1_L2_L3", *phases],
        }
    )
    owners = np.concatenate([np.arange(20), generator.choice(20, 2, replace=False)])
    sessions = draw_sessions(source, generator, "private", 22, index, "distribution-of-arrival.csv")
    owners = generator.permutation(owners)
    sessions.insert(0, "session_id", [f"ev-{i:02d}" for i in range(1, 23)])
    sessions.insert(1, "evse_id", [f"wallbox-{i:02d}" for i in range(1, 23)])
    sessions.insert(2, "node_id", [homes[i] for i in owners])
    chargers(sessions, generator, three_phase_share=1.0)
    single = ~three_phase[owners]
    sessions["phases"] = phases[owners]
    sessions.loc[single, "max_charge_kw"] = np.where(generator.random(22) < 0.6, 7.36, 3.68)[single]
    sessions.loc[single, "min_charge_kw"] = 1.38
    steps = prices_and_emissions(source, index)
    for home in homes:
        annual_kwh = float(np.clip(generator.lognormal(np.log(3300.0), 0.35), 1500.0, 7000.0))
        load = profile(source, "bdew_h25.csv", index, annual_kwh)
        steps[home] = (load * generator.lognormal(-0.08, 0.4, len(index))).round(3)
    cap_needs(sessions)
    write("street", sessions, nodes, steps)


def draw_sessions(
    source: Path,
    generator: np.random.Generator,
    place: str,
    count: int,
    index: pd.DatetimeIndex,
    arrivals: str,
) -> pd.DataFrame:
    """Stays drawn from the arrival, connection time and energy distributions, in order of arrival."""
    weights = pd.read_csv(source / "ev" / arrivals, encoding="utf-8-sig")[place].to_numpy()
    stay_h = quantiles(source, "distribution-of-connection-time.csv", place)
    energy_kwh = quantiles(source, "distribution-of-energy-demand.csv", place)
    rows = []
    while len(rows) < count:
        quarter = int(generator.choice(96, p=weights / weights.sum()))
        arrival = DAY + quarter * STEP + pd.Timedelta(minutes=int(generator.integers(0, 15)))
        arrival += pd.Timedelta(days=1) if arrival < index[0] else pd.Timedelta(0)
        # the longer a car stays, the more it tends to need: one draw is shared by half
        shared = generator.random()
        stay = stay_h(0.5 * shared + 0.5 * generator.random())
        energy = energy_kwh(0.5 * shared + 0.5 * generator.random())
        departure = arrival + pd.Timedelta(minutes=round(60 * stay))
        if arrival < index[-1] - pd.Timedelta(hours=1) and stay > 0.5 and departure <= index[-1] + STEP:
            rows.append((arrival, departure, round(energy, 1)))
    table = pd.DataFrame(rows, columns=["arrival_time", "departure_time", "energy_needed_kwh"])
    return table.sort_values("arrival_time", ignore_index=True)


def chargers(sessions: pd.DataFrame, generator: np.random.Generator, three_phase_share: float) -> None:
    """Give each session a charger."""
    count = len(sessions)
    three_phase = generator.random(count) < three_phase_share
    single = np.where(generator.random(count) < 0.6, 7.36, 3.68)
    sessions["max_charge_kw"] = np.where(three_phase, 11.04, single)
    sessions["min_charge_kw"] = np.where(three_phase, 4.14, 1.38)
    sessions["charge_efficiency"] = 0.92
    sessions["phases"] = np.where(three_phase, "L1_L2_L3", np.array(["L1", "L2", "L3"])[np.arange(count) % 3])


def cap_needs(sessions: pd.DataFrame) -> None:
    """Cap each need at 80 % of what the charger delivers during the stay."""
    hours = (sessions["departure_time"] - sessions["arrival_time"]).dt.total_seconds() / 3600.0
    most_kwh = 0.8 * 0.92 * sessions["max_charge_kw"] * hours
    sessions["energy_needed_kwh"] = np.minimum(sessions["energy_needed_kwh"], most_kwh).round(1)


def quantiles(source: Path, name: str, place: str):  # type: ignore[no-untyped-def]
    """Inverse of a published exceedance curve: column `place` over the percentage of charging events."""
    values = pd.read_csv(source / "ev" / name, encoding="utf-8-sig")[place].to_numpy()
    shares = np.linspace(0.0, 1.0, len(values))
    # the first entries are the extremes of millions of events; half a percent of them is enough
    return lambda share: float(np.interp(1.0 - 0.98 * share - 0.01, shares, values))


def prices_and_emissions(source: Path, index: pd.DatetimeIndex) -> pd.DataFrame:
    """Day-ahead prices per kWh, and an emission intensity that is made up."""
    table = pd.read_csv(source / "prices" / "nl_day_ahead_hourly_2022_on.csv")
    table.index = pd.to_datetime(table["hour_utc"], utc=True)
    utc = index.tz_convert("UTC")
    frame = pd.DataFrame(index=utc)
    frame["import_price_per_kwh"] = (table["eur_mwh"].reindex(utc.floor("h")).to_numpy() / 1000.0).round(5)
    hour = index.hour + index.minute / 60.0
    sun = np.exp(-(((hour - 13.5) / 3.2) ** 2))
    evening = np.exp(-(((hour - 19.5) / 2.2) ** 2))
    frame["emission_intensity_g_per_kwh"] = (310.0 - 190.0 * sun + 80.0 * evening).round(0)
    return frame


def profile(source: Path, name: str, index: pd.DatetimeIndex, annual_kwh: float) -> np.ndarray:
    """Standard load profile of an August working day in kW."""
    table = pd.read_csv(source / "load" / name, header=[0, 1], index_col=0)
    kwh_per_gwh = table[("August", "WT")].to_numpy(dtype=float)
    quarter = index.hour * 4 + index.minute // 15
    return kwh_per_gwh[quarter] * 4.0 * annual_kwh / 1_000_000.0


def write(name: str, sessions: pd.DataFrame, nodes: pd.DataFrame, steps: pd.DataFrame) -> None:
    """Write the three tables of a site."""
    for column in ("arrival_time", "departure_time"):
        sessions[column] = sessions[column].dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    steps.index = pd.Index(steps.index.strftime("%Y-%m-%dT%H:%M:%SZ"), name="time")
    TARGET.mkdir(exist_ok=True)
    sessions.to_csv(TARGET / f"{name}_sessions.csv", index=False, lineterminator="\n")
    nodes.to_csv(TARGET / f"{name}_nodes.csv", index=False, lineterminator="\n")
    steps.to_csv(TARGET / f"{name}_steps.csv", lineterminator="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
