"""`evflex demo portfolio`: a generated fleet becomes a story, a picture and a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from evflex.cli.demo.portfolio import run as run_module
from evflex.cli.demo.portfolio.day import START, STEP, STEP_COUNT, PortfolioDay, generated_day, uncontrolled_kw
from evflex.cli.demo.portfolio.fleet import generated_fleet
from evflex.cli.main import app
from evflex.client.dispatch.fleet import FleetColumns
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from tests.client.fake_server import FakeServer, after_reading

COUNT = 400


@pytest.fixture(scope="module")
def day() -> PortfolioDay:
    return generated_day(COUNT)


def test_the_fleet_is_the_same_in_every_run(day: PortfolioDay) -> None:
    pd.testing.assert_frame_equal(day.fleet, generated_fleet(COUNT, START))


def test_the_fleet_can_be_sent_and_served(day: PortfolioDay) -> None:
    fleet = day.fleet
    assert len(FleetColumns.from_frame(fleet).asset_ids) == COUNT
    stay_h = (fleet["available_until"] - fleet["available_from"]).dt.total_seconds() / 3600.0
    assert stay_h.min() > 1.4
    assert (fleet["available_from"] >= START).all()
    assert (fleet["available_until"] <= START + STEP_COUNT * STEP).all()
    assert (fleet["energy_needed_kwh"] <= fleet["charge_efficiency"] * fleet["max_charge_kw"] * stay_h).all()
    assert (fleet["energy_needed_kwh"] > 0.0).all()
    assert (fleet["energy_headroom_kwh"] >= fleet["energy_needed_kwh"]).all()
    assert 0.01 < (fleet["max_discharge_kw"] > 0.0).mean() < 0.08


def test_the_limit_matters_in_the_evening_and_leaves_room_for_all(day: PortfolioDay) -> None:
    power = uncontrolled_kw(day)
    highest = int(power.to_numpy().argmax())
    assert pd.DatetimeIndex(power.index).hour[highest] in range(17, 21)
    assert power.iloc[highest] > 2.0 * day.limit_kw.iloc[highest]
    assert power.sum() < 0.7 * day.limit_kw.sum()


def test_charging_on_arrival_is_that_of_a_slow_walk_through_the_cars(day: PortfolioDay) -> None:
    step_h = STEP / pd.Timedelta(hours=1)
    expected = np.zeros(STEP_COUNT)
    for car in day.fleet.to_dict("records"):
        begin_h = (car["available_from"] - START) / pd.Timedelta(hours=1)
        end_h = begin_h + car["energy_needed_kwh"] / car["charge_efficiency"] / car["max_charge_kw"]
        for step in range(STEP_COUNT):
            within_h = max(min(end_h, (step + 1) * step_h) - max(begin_h, step * step_h), 0.0)
            expected[step] += car["max_charge_kw"] * within_h / step_h
    assert uncontrolled_kw(day).to_numpy() == pytest.approx(expected, abs=1e-6)


def test_the_chapter_tells_its_story(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_module, "own_server", scripted_server)
    folder = tmp_path / "deep" / "out"
    result = run("portfolio", "--assets", str(COUNT), "--output", str(folder))
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    for shown in (
        "400 cars",
        "can discharge",
        "evening peak",
        "energy missed │ 0.00 MWh │ 0.00 MWh",
        "at most 0.050 %",
    ):
        assert shown in told
    assert {path.name for path in folder.iterdir()} == {"portfolio.png", "portfolio_steps.csv"}
    picture = matplotlib.image.imread(folder / "portfolio.png")
    assert picture.shape[1] > 1000
    assert float(np.std(picture[..., :3])) > 0.05
    steps = pd.read_csv(folder / "portfolio_steps.csv")
    assert len(steps) == STEP_COUNT
    assert (steps["planned_kw"] <= steps["limit_kw"] + 1e-6).all()
    assert steps["uncontrolled_kw"].max() > steps["planned_kw"].max()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["portfoli"], "did you mean 'portfolio'?"),
        (["portfolio", "--sessions", "s.csv", "--prices", "p.csv"], "go with charging"),
        (["portfolio", "--assets", "0"], "--assets"),
    ],
)
def test_arguments_that_cannot_be_used_say_why(flags: list[str], problem: str) -> None:
    result = run(*flags)
    assert result.exit_code == 2
    assert problem in result.stderr


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["demo", *arguments])


@contextmanager
def scripted_server() -> Iterator[str]:
    """A server whose plan spreads the energy like the limit."""
    fake = FakeServer()
    fake.on("CreatePortfolio", after_reading(pb.CreatePortfolioResponse()))
    fake.on("PlanPortfolio", _plan)
    try:
        yield fake.address
    finally:
        fake.stop()


def _plan(request: Any, _context: Any) -> Iterator[pb.PlanPortfolioResponse]:
    progress = pb.PlanPortfolioResponse()
    progress.progress.phase = "master"
    yield progress
    answer = pb.PlanPortfolioResponse()
    plan = answer.summary.plan
    plan.time_grid.CopyFrom(request.time_grid)
    limit_kw = np.asarray(request.limits[0].max_import_kw)
    power_kw = 0.5 * limit_kw
    plan.fleet_power_kw.extend(power_kw.tolist())
    plan.limits.add(power_kw=power_kw.tolist(), price_per_kw_step=np.linspace(0.0, 0.02, len(limit_kw)).tolist())
    plan.figures.import_cost = float(power_kw @ np.asarray(request.import_price_per_kwh)) * 0.25
    plan.termination.relative_gap = 5e-4
    yield answer
