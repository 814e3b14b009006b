"""`evflex demo`: the packaged day and the user's own files become figures, a picture and tables."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from evflex.cli.demo.files import FileOptions, site_from_files
from evflex.cli.demo.packaged import packaged_sites
from evflex.cli.demo.tables import read_prices, read_sessions
from evflex.cli.faults import UsageError
from tests.cli.conftest import Run

Csv = Callable[[str, str], Path]

SESSIONS = """id,connect,disconnect,kWh
s1,2024-05-06 08:00,2024-05-06 16:00,20
s2,2024-05-06 09:00,2024-05-06 12:00,15
s3,2024-05-07 08:30,2024-05-07 11:00,9
bad,2024-05-06 12:00,2024-05-06 11:00,5
"""
PRICES = "hour_utc,area,eur_mwh\n" + "".join(
    f"2024-05-{day:02d} {hour:02d}:00,{area},{40 + 3 * hour}\n"
    for area in ("DK1", "DK2")
    for day in range(1, 10)
    for hour in range(24)
)


@pytest.fixture
def csv(tmp_path: Path) -> Csv:
    def writing(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return writing


@pytest.mark.slow
def test_the_packaged_day_is_planned_and_drawn(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    result = run("demo", "--output", str(folder))
    assert result.exit_code == 0, result.output
    for shown in ("Workplace car park, 50 cars", "Street of 20 homes, 22 cars", "CO2 of charging", "peak of the site"):
        assert shown in result.stdout
    assert "illustrative, not measured" in " ".join(result.stdout.split())
    assert {path.name for path in folder.iterdir()} == {
        "demo.png", "workplace_schedule.csv", "workplace_sessions.csv", "street_schedule.csv", "street_sessions.csv",
    }  # fmt: skip
    picture = matplotlib.image.imread(folder / "demo.png")
    assert picture.shape[1] > 1000
    assert float(np.std(picture[..., :3])) > 0.05
    schedule = pd.read_csv(folder / "workplace_schedule.csv")
    assert schedule["site_power_kw"].max() <= 120.0 + 1e-6
    power = schedule[[name for name in schedule.columns if name.startswith("car-")]]
    assert power.shape == (72, 50)
    assert power.to_numpy().min() >= 0.0


@pytest.mark.slow
def test_own_files_are_planned(run: Run, csv: Csv, tmp_path: Path) -> None:
    files = [str(csv("mine.csv", SESSIONS)), str(csv("prices.csv", PRICES))]
    result = run(
        "demo", "charging", "--sessions", files[0], "--prices", files[1], "--area", "DK2", "--output", str(tmp_path)
    )
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "mine, 06 May 2024, 2 sessions" in shown
    assert "Prices of the same hours in prices.csv." in shown
    assert "No --limit-kw was given" in shown
    assert (tmp_path / "mine_schedule.csv").is_file()


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("sessions", "prices", "note"),
    [
        ("acn_caltech_2021.csv", "dk_day_ahead_hourly.csv", "same hours"),
        ("acn_caltech_2021.csv", "nl_day_ahead_hourly_2022_on.csv", "does not cover these dates"),
        ("norway_trondheim_residential.csv", "dk_day_ahead_hourly.csv", "same hours"),
    ],
)
def test_public_files_are_understood(shared_data: Path, sessions: str, prices: str, note: str) -> None:
    paths = shared_data / "sessions" / sessions, shared_data / "prices" / prices
    site = site_from_files(*paths, FileOptions(time_zone="Europe/Oslo"))
    assert any(note in told for told in site.notes)
    message = site.request().to_message()
    assert len(message.sessions) > 20
    assert len(message.tariff.import_price_per_kwh) == message.time_grid.step_count
    assert max(message.tariff.import_price_per_kwh) < 5.0


def test_the_packaged_day_says_what_it_is() -> None:
    folder = resources.files("evflex.cli.demo") / "data"
    notice = (folder / "NOTICE.txt").read_text(encoding="utf-8")
    assert "Copyright (c) 2024 Stavros Orfanoudakis" in notice
    assert "Copyright (c) oemof developer group" in notice
    assert "illustrative, not measured" in (folder / "sampling.md").read_text(encoding="utf-8")


def test_the_packaged_sites_are_whole() -> None:
    workplace, street = packaged_sites()
    assert (len(workplace.sessions), len(street.sessions)) == (50, 22)
    assert len(street.nodes) == 21
    homes = {node.node_id: node for node in street.nodes}
    for session in street.sessions.itertuples():
        fixed_load_phases = homes[str(session.node_id)].fixed_load_phases
        assert session.phases == fixed_load_phases
    for site in (workplace, street):
        stay_h = (site.sessions["departure_time"] - site.sessions["arrival_time"]).dt.total_seconds() / 3600.0
        deliverable = 0.92 * site.sessions["max_charge_kw"] * stay_h
        assert (site.sessions["energy_needed_kwh"] <= deliverable).all()
        assert site.fixed_load_kw.max() < site.limit_kw


@pytest.mark.shared_data
def test_prices_of_a_single_day_do_not_cover_a_night(shared_data: Path) -> None:
    sessions = shared_data / "sessions" / "norway_trondheim_residential.csv"
    prices = shared_data / "prices" / "dk2_day_ahead_15min_2026-03-04.csv"
    with pytest.raises(UsageError, match="without a gap"):
        site_from_files(sessions, prices, FileOptions(time_zone="Europe/Oslo"))


def test_the_busiest_day_is_taken_unless_one_is_named(csv: Csv) -> None:
    paths = csv("s.csv", SESSIONS), csv("p.csv", PRICES.replace("DK1", "DK2"))
    assert list(site_from_files(*paths, FileOptions()).sessions["session_id"]) == ["s1", "s2"]
    assert list(site_from_files(*paths, FileOptions(date="2024-05-07")).sessions["session_id"]) == ["s3"]


def test_prices_of_other_dates_are_aligned_by_time_of_day(csv: Csv) -> None:
    paths = csv("s.csv", SESSIONS.replace("2024-", "2023-")), csv("p.csv", PRICES.replace("DK1", "DK2"))
    site = site_from_files(*paths, FileOptions())
    noon = site.price_per_kwh[pd.DatetimeIndex(site.price_per_kwh.index).hour == 12]
    assert noon.tolist() == [pytest.approx(0.076)] * 4
    assert any("does not cover these dates" in note and "by time of day" in note for note in site.notes)


def test_a_column_called_utc_is_utc(csv: Csv) -> None:
    prices = read_prices(
        csv("p.csv", "hour_utc,eur_mwh\n2024-01-01 00:00,50\n2024-01-01 01:00,60\n"), "Asia/Tokyo", None
    )
    assert prices.per_kwh.index[0] == pd.Timestamp("2024-01-01T00:00Z")


def test_prices_may_keep_their_local_time_of_day(csv: Csv) -> None:
    paths = csv("s.csv", SESSIONS), csv("p.csv", PRICES.replace("DK1", "DK2"))
    site = site_from_files(*paths, FileOptions(time_zone="America/New_York", price_zone="UTC"))
    local = pd.DatetimeIndex(site.price_per_kwh.index).tz_convert("America/New_York")
    assert site.price_per_kwh[local.hour == 12].tolist() == [pytest.approx(0.076)] * 4
    assert any("08:00 in UTC is 08:00 in America/New_York" in note for note in site.notes)


def test_a_limit_is_chosen_that_leaves_nobody_short(csv: Csv) -> None:
    paths = csv("s.csv", SESSIONS), csv("p.csv", PRICES.replace("DK1", "DK2"))
    assert site_from_files(*paths, FileOptions()).limit_kw == 10.0
    assert site_from_files(*paths, FileOptions(limit_kw=7.0)).limit_kw == 7.0


def test_a_session_that_took_more_than_its_charger_gets_a_larger_one(csv: Csv) -> None:
    paths = csv("s.csv", SESSIONS.replace(",9\n", ",45\n")), csv("p.csv", PRICES.replace("DK1", "DK2"))
    site = site_from_files(*paths, FileOptions(date="2024-05-07"))
    assert site.sessions["max_charge_kw"].tolist() == [22.0]
    assert any("1 sessions took more" in note for note in site.notes)


def test_semicolons_and_decimal_commas_are_read(csv: Csv) -> None:
    path = csv("s.csv", "Start_plugin;End_plugout;El_kWh\n21.12.2018 10:20;21.12.2018 20:20;3,5\n")
    (row,) = read_sessions(path, "Europe/Oslo", 7.4).itertuples()
    assert row.energy_needed_kwh == 3.5
    assert row.arrival_time == pd.Timestamp("2018-12-21T09:20:00Z")


@pytest.mark.parametrize(("column", "scale", "currency"), [("eur_mwh", 1000, "EUR"), ("price DKK/kWh", 1, "DKK")])
def test_the_unit_of_a_price_is_in_its_name(csv: Csv, column: str, scale: float, currency: str) -> None:
    path = csv("p.csv", f"time,{column}\n2024-01-01 00:00,50\n2024-01-01 01:00,60\n")
    prices = read_prices(path, "UTC", None)
    assert prices.per_kwh.tolist() == [50 / scale, 60 / scale]
    assert prices.currency_code == currency


@pytest.mark.parametrize(
    ("sessions", "prices", "flags", "problem"),
    [
        ("a,b\n1,2\n", PRICES, [], "no column for the arrival: name it arrival_time; the columns are a, b"),
        (SESSIONS, PRICES, [], "several areas, name one with --area: DK1, DK2"),
        (SESSIONS, PRICES, ["--area", "SE1"], "has no area 'SE1'"),
        (SESSIONS, "time,price\n2024-01-01,3\n", [], "no price column"),
        (SESSIONS, "time,eur_mwh\n2024-01-01,3\n", [], "fewer than two prices"),
        (SESSIONS, PRICES, ["--area", "DK1", "--date", "2020-01-01"], "sessions from 2024-05-06 to 2024-05-07"),
        (SESSIONS, PRICES, ["--area", "DK1", "--date", "tomorrow-ish"], "--date must be YYYY-MM-DD"),
        (SESSIONS, PRICES, ["--area", "DK1", "--timezone", "Mars/Base"], "unknown time zone 'Mars/Base'"),
        ("id,connect,disconnect,kwh\na,x,y,3\n", PRICES, [], "holds no times"),
        ("id,connect,disconnect,kwh\na,2024-01-02,2024-01-01,3\n", PRICES, [], "no session with an energy above 0"),
        ("", PRICES, [], "is no CSV table"),
    ],
)
def test_files_that_cannot_be_used_say_why(
    run: Run, csv: Csv, sessions: str, prices: str, flags: list[str], problem: str
) -> None:
    files = str(csv("s.csv", sessions)), str(csv("p.csv", prices))
    result = run("demo", "--sessions", files[0], "--prices", files[1], *flags)
    assert result.exit_code == 2, result.output
    assert problem in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["chargin"], "did you mean 'charging'?"),
        (["--sessions", "s.csv"], "give both --sessions and --prices"),
        (["--sessions", "no-such.csv", "--prices", "no-such.csv"], "cannot read no-such.csv"),
    ],
)
def test_arguments_that_cannot_be_used_say_why(run: Run, flags: list[str], problem: str) -> None:
    result = run("demo", *flags)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_folder_that_cannot_be_made_is_named(run: Run, csv: Csv) -> None:
    file = csv("taken", "")
    result = run("demo", "--output", str(file / "out"))
    assert result.exit_code == 2
    assert f"cannot write to {file / 'out'}" in result.stderr
