"""`evflex demo activation`: one car is sold twice on a real server, told, drawn and written as a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from evflex.cli.demo.activation import run as run_module
from evflex.cli.demo.activation.evening import (
    ACTS,
    AGGREGATORS,
    CAR_CLOUD,
    CAR_KW,
    CHARGE_NET,
    PARTIES,
    PLUG_IN_HOUR,
    Evening,
    Side,
    clock,
)
from evflex.cli.demo.activation.outcome import ActOutcome, EveningOutcome
from evflex.cli.demo.activation.run import play
from evflex.cli.main import app
from evflex.client import Resource
from tests.cli.serving import server_in_process

SEVEN_TO_EIGHT = (19.0, 20.0)


@pytest.fixture(scope="module")
def evening() -> Evening:
    return Evening.beginning(pd.Timestamp.now(tz="UTC"))


@pytest.fixture(scope="module")
def outcome(evening: Evening, tmp_path_factory: pytest.TempPathFactory) -> EveningOutcome:
    with fresh_server(tmp_path_factory.mktemp("data")) as address:
        return play(address, evening)


def act(outcome: EveningOutcome, area_id: str) -> ActOutcome:
    return next(one for one in outcome.acts if one.act.area_id == area_id)


def results(outcome: ActOutcome) -> list[tuple[str, str, float, str]]:
    return [(sale.offer.aggregator, sale.offer.side, sale.offer.power_kw, sale.result) for sale in outcome.sales]


def kinds(outcome: ActOutcome, sale: int) -> set[str]:
    return {conflict.kind for conflict in outcome.sales[sale].conflicts}


def test_the_clock_of_the_evening_goes_by_the_plug_in() -> None:
    evening = Evening.beginning(pd.Timestamp("2026-07-04T09:13:59.5Z"))
    assert evening.instant(PLUG_IN_HOUR) == pd.Timestamp("2026-07-04T09:13:00Z")
    assert evening.instant(19.0) == pd.Timestamp("2026-07-04T10:43:00Z")
    assert evening.hour(evening.instant(31.0)) == 31.0
    assert [clock(hour) for hour in (17.5, 19.0, 31.25)] == ["17:30", "19:00", "07:15"]


def test_acts_share_neither_area_nor_thing() -> None:
    registered = [resource for one in ACTS for made in one.resources().values() for resource in made]
    assert len({resource.resource_id for resource in registered}) == len(registered)
    assert len({one.area_id for one in ACTS}) == len(ACTS)
    for scheme in ("vin", "evse_id"):
        by_area = {
            (resource.area_id, resource.aliases[scheme]) for resource in registered if scheme in resource.aliases
        }
        assert len({alias for _, alias in by_area}) == len(by_area) == len(ACTS)


def test_without_a_remedy_the_later_sale_is_lost_at_plug_in(outcome: EveningOutcome, evening: Evening) -> None:
    found = act(outcome, "no-remedy")
    assert results(found) == [
        (CAR_CLOUD, Side.CAR, 7.0, "sold"),
        (CHARGE_NET, Side.CHARGE_POINT, 7.0, "suspended"),
        (CHARGE_NET, Side.CHARGE_POINT, 4.0, "refused"),
        (CHARGE_NET, Side.STREET, 16.0, "refused"),
    ]
    assert kinds(found, 2) == {"CROSS_SALE"}
    assert kinds(found, 3) == {"CASCADE"}
    (cross,) = [conflict for conflict in found.sales[1].conflicts if conflict.kind == "CROSS_SALE"]
    assert (cross.start_time, cross.end_time) == tuple(map(evening.instant, SEVEN_TO_EIGHT))
    assert cross.excess_kw == 7.0
    assert found.against(cross) == [found.sales[0].offer, found.sales[1].offer]


def test_both_are_told_and_neither_learns_who_the_other_is(outcome: EveningOutcome) -> None:
    told = act(outcome, "no-remedy").told
    car, point = (next(one for one in told[name] if one.conflict.kind == "CROSS_SALE") for name in AGGREGATORS)
    assert car.suspended_commitment_id == point.suspended_commitment_id != ""
    assert (car.kept_aggregator_id, car.suspended_aggregator_id) == (CAR_CLOUD, "")
    assert (point.kept_aggregator_id, point.suspended_aggregator_id) == ("", CHARGE_NET)


def test_where_one_side_is_sold_the_other_is_refused_before_plug_in(outcome: EveningOutcome) -> None:
    found = act(outcome, "one-side")
    assert [result for *_, result in results(found)] == ["sold", "refused"]
    assert kinds(found, 1) == {"POLICY"}
    assert not any(found.told.values())


def test_a_session_is_sold_once(outcome: EveningOutcome) -> None:
    found = act(outcome, "session")
    assert [result for *_, result in results(found)] == ["sold", "suspended", "sold", "refused"]
    assert kinds(found, 1) == kinds(found, 3) == {"CAPACITY_EXCEEDED"}
    assert sold_at(found, 19.5) == CAR_KW


def test_one_aggregator_sells_both_sides_as_far_as_the_car_goes(outcome: EveningOutcome) -> None:
    found = act(outcome, "same-aggregator")
    assert [result for *_, result in results(found)] == ["sold", "sold", "refused"]
    assert {sale.offer.aggregator for sale in found.with_result("sold")} == {CAR_CLOUD}
    assert "CROSS_SALE" in kinds(found, 2)
    assert sold_at(found, 19.5) == CAR_KW


def test_no_act_leaves_more_sold_than_the_car_has(outcome: EveningOutcome) -> None:
    for found in outcome.acts:
        assert max(sold_at(found, hour) for hour in np.arange(17.0, 22.0, 0.25)) <= CAR_KW


def sold_at(outcome: ActOutcome, hour: float) -> float:
    offers = [sale.offer for sale in outcome.with_result("sold")]
    return sum(offer.power_kw for offer in offers if offer.start_hour <= hour < offer.end_hour)


def test_all_parties_read_one_chain_and_their_own_lines(outcome: EveningOutcome, evening: Evening) -> None:
    assert set(outcome.exports) == set(PARTIES)
    chains = {tuple(line.hash for line in export) for export in outcome.exports.values()}
    assert len(chains) == 1
    for party, export in outcome.exports.items():
        assert {line.tenant_id for line in export if line.event} <= {party}
    cars = [line.change for line in outcome.exports[CAR_CLOUD] if isinstance(line.change, Resource)]
    assert [car.resource_id for car in cars] == [one.resource_id(Side.CAR) for one in ACTS]
    ledger = outcome.ledger(evening)
    assert ledger["sequence"].tolist() == list(range(1, len(ledger) + 1))
    assert (ledger["what"] != "").all()


def test_the_chapter_tells_its_story_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = tmp_path / "deep" / "one", tmp_path / "two"
    told = []
    for folder in folders:
        server = fresh_server(tmp_path / f"data-{folder.name}")
        monkeypatch.setattr(run_module, "own_server", lambda server=server: server)
        result = run("activation", "--output", str(folder))
        assert result.exit_code == 0, result.output
        told.append(" ".join(result.stdout.split("one car of")[1].split("Written:")[0].split()))
    assert told[0] == told[1]
    for shown in (
        "11 kW and its charge point, on a street of 22 kW",
        "suspended at plug-in",
        "CROSS_SALE 19:00–20:00, 7 kW too much, with car-cloud's car",
        "CROSS_SALE 18:00–19:00, 4 kW too much, with car-cloud's car",
        "CASCADE 18:00–19:00, 1 kW too much, with car-cloud's car",
        "POLICY 19:00–21:00",
        "told of the double sale at plug-in: car-cloud, whose sale stays; charge-net, whose sale is suspended",
        "the chain of digests was verified",
    ):
        assert shown in told[0]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {"activation.png", "activation_ledger.csv"}
    pictures = [matplotlib.image.imread(folder / "activation.png") for folder in folders]
    assert pictures[0].shape[1] > 1000
    assert float(np.std(pictures[0][..., :3])) > 0.05
    np.testing.assert_array_equal(pictures[0], pictures[1])
    first, second = (pd.read_csv(folder / "activation_ledger.csv") for folder in folders)
    assert list(first.columns) == ["sequence", "tenant", "what", "hash"]
    pd.testing.assert_frame_equal(first.drop(columns="hash"), second.drop(columns="hash"))
    assert first["hash"].is_unique


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["activatio"], "did you mean 'activation'?"),
        (["activation", "--sessions", "s.csv", "--prices", "p.csv"], "the chapter activation generates its cars"),
    ],
)
def test_arguments_that_cannot_be_used_say_why(flags: list[str], problem: str) -> None:
    result = run(*flags)
    assert result.exit_code == 2
    assert problem in result.stderr


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["demo", *arguments])


@contextmanager
def fresh_server(folder: Path) -> Iterator[str]:
    """A real server with an empty ledger."""
    with server_in_process(folder) as server:
        yield f"127.0.0.1:{server.port}"
