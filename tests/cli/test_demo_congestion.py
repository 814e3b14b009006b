"""`evflex demo congestion`: an invented village is forecast by a real server, told, drawn and written as tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from evflex.cli.demo.congestion import run as run_module
from evflex.cli.demo.congestion.evening import (
    CAR_KW,
    CAR_SHARES,
    START,
    STEP,
    STEP_COUNT,
    VOLTAGE_MIN_PU,
    Evening,
    generated_evening,
)
from evflex.cli.demo.congestion.outcome import EveningOutcome, congestions_of, worst_of_each_kind
from evflex.cli.demo.congestion.run import look
from evflex.cli.main import app
from evflex.client import EvflexClient, NetworkFormat
from tests.cli.serving import server_in_process


@pytest.fixture(scope="module")
def evening() -> Evening:
    return generated_evening()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server_in_process(tmp_path_factory.mktemp("data")) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def outcome(address: str, evening: Evening) -> EveningOutcome:
    with EvflexClient(address) as client:
        return look(client, client.import_network(evening.village.files, NetworkFormat.PANDAPOWER), evening)


def test_the_evening_is_the_same_in_every_run(evening: Evening) -> None:
    again = generated_evening()
    for name in ("home_kw", "pump_kw", "car_kw"):
        pd.testing.assert_frame_equal(getattr(evening, name), getattr(again, name))


def test_the_village_is_streets_of_houses_with_a_tie_between_two(evening: Evening) -> None:
    village = evening.village
    assert set(village.streets) == set(CAR_SHARES)
    assert len(village.houses) == 79
    assert village.buses.loc[village.houses, ["x", "y"]].notna().all(axis=None)
    tie = village.lines.loc[village.tie]
    ends = [str(tie["from_bus_id"]), str(tie["to_bus_id"])]
    assert set(village.buses.loc[ends, "street"]) == {"Mill Lane", "High Street"}


def test_cars_charge_in_one_piece_and_no_faster_than_they_can(evening: Evening) -> None:
    assert len(evening.index) == STEP_COUNT
    assert evening.index[0] == START
    for house in evening.car_kw.columns[(evening.car_kw > 0.0).any()]:
        power_kw = evening.car_kw[house].to_numpy()
        assert power_kw.max() <= CAR_KW
        assert np.abs(np.diff((power_kw > 0.0).astype(int))).sum() <= 2


@pytest.mark.slow
def test_relief_of_the_worst_congestions_clears_them(outcome: EveningOutcome) -> None:
    worst = worst_of_each_kind(congestions_of(outcome.forecast))
    assert set(worst["kind"]) == {"TRANSFORMER_OVERLOAD", "UNDERVOLTAGE"}
    for proof in outcome.proofs:
        limit = float(proof.congestion["limit"])
        if proof.congestion["kind"] == "UNDERVOLTAGE":
            assert limit == VOLTAGE_MIN_PU
            assert proof.congestion["worst_value"] < limit <= proof.value * (1.0 + 1e-9)
        else:
            assert proof.congestion["worst_value"] > limit >= proof.value * (1.0 - 1e-9)


@pytest.mark.slow
def test_the_tie_feeds_either_street(evening: Evening, outcome: EveningOutcome) -> None:
    islands = outcome.forecast.islands.set_index("contingency_id")
    for cable in evening.contingencies:
        assert islands.at[cable, "bus_ids"] == ()
        assert islands.at[cable, "closed_branch_ids"] == (evening.village.tie,)


@pytest.mark.slow
def test_the_chapter_tells_its_story(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> None:
    @contextmanager
    def running() -> Iterator[str]:
        yield address

    monkeypatch.setattr(run_module, "own_server", running)
    folder = tmp_path / "deep" / "out"
    result = run("congestion", "--output", str(folder))
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    for shown in ("79 houses behind a transformer of 400 kVA", "Ferry Way", "relief", "without cable Mill Lane 1"):
        assert shown in told
    assert {path.name for path in folder.iterdir()} == {
        "congestion.png", "congestion_steps.csv", "congestion_list.csv",
    }  # fmt: skip
    picture = matplotlib.image.imread(folder / "congestion.png")
    assert picture.shape[1] > 1000
    assert float(np.std(picture[..., :3])) > 0.05
    steps = pd.read_csv(folder / "congestion_steps.csv", index_col=0, parse_dates=True)
    assert len(steps) == STEP_COUNT
    assert (steps.index[1:] - steps.index[:-1] == STEP).all()
    assert len(pd.read_csv(folder / "congestion_list.csv")) > 0


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["congestio"], "did you mean 'congestion'?"),
        (["congestion", "--sessions", "s.csv", "--prices", "p.csv"], "the chapter congestion generates its cars"),
    ],
)
def test_arguments_that_cannot_be_used_say_why(flags: list[str], problem: str) -> None:
    result = run(*flags)
    assert result.exit_code == 2
    assert problem in result.stderr


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["demo", *arguments])
