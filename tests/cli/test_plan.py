"""`evflex plan`: a fleet from a file, JSON out, and the powers in a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from evflex.cli.main import app
from evflex.dispatch.v1 import dispatch_service_pb2 as pb
from tests.client.dispatch.test_plans import planned, streaming
from tests.client.fake_server import FakeServer, after_reading, failing

Write = Callable[[Any], str]
Run = Callable[..., Result]

REQUEST: dict[str, Any] = {
    "portfolio_id": "p-1",
    "time_grid": {"start_time": "2026-03-04T11:00:00Z", "step_duration": "900s", "step_count": 2},
    "import_price_per_kwh": [0.3, 0.1],
    "limits": [{"max_import_kw": [6], "violation_price_per_kwh": 2}],
}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    fake.on("PlanPortfolio", streaming(planned()))
    created = pb.CreatePortfolioResponse()
    created.portfolio.portfolio_id = "p-7"
    fake.on("CreatePortfolio", after_reading(created))
    yield fake
    fake.stop()


@pytest.fixture
def run(server: FakeServer) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        runner = CliRunner(env={"EVFLEX_SERVER": server.address, "COLUMNS": "200", "NO_COLOR": "1"})
        return runner.invoke(app, list(arguments), input=stdin)

    return invoke


def fleet_file(folder: Path, text: str = "asset_id,max_charge_kw\na,11\nb,7.4\n") -> str:
    path = folder / "fleet.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_plan_is_json_on_standard_output(run: Run, server: FakeServer, write: Write) -> None:
    result = run("plan", "--request", write(REQUEST))
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert list(answer) == ["plan"]
    assert answer["plan"]["fleet_power_kw"] == [3.0, 6.0]
    assert answer["plan"]["limits"][0]["price_per_kw_step"] == [0.0, 0.2]
    (sent,) = server.asked("PlanPortfolio")
    assert sent.portfolio_id == "p-1"
    assert sent.request_id
    assert not sent.options.return_setpoints


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_powers_are_written_where_asked(
    run: Run, server: FakeServer, write: Write, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"powers.{suffix}"
    result = run("plan", "--request", write(REQUEST), "--setpoints", str(path))
    assert result.exit_code == 0, result.stderr
    assert server.asked("PlanPortfolio")[0].options.return_setpoints
    table = pd.read_parquet(path) if suffix == "parquet" else pd.read_csv(path, index_col="asset_id")
    assert list(table.columns) == ["2026-03-04T11:00:00Z", "2026-03-04T11:15:00Z"]
    assert table.to_numpy()[2].tolist() == [2.0, 2.5]


def test_a_portfolio_is_created_first(run: Run, server: FakeServer, write: Write, tmp_path: Path) -> None:
    result = run("plan", "--request", write(REQUEST), "--portfolio", fleet_file(tmp_path), "--currency", "DKK")
    assert result.exit_code == 0, result.stderr
    header = server.asked("CreatePortfolio")[0][0].header
    assert (header.portfolio_id, header.currency_code, header.expected_assets) == ("p-1", "DKK", 2)
    assert server.asked("PlanPortfolio")[0].portfolio_id == "p-7"


def test_a_refusal_ends_with_1(run: Run, server: FakeServer, write: Write, tmp_path: Path) -> None:
    server.on("CreatePortfolio", failing(grpc.StatusCode.ALREADY_EXISTS, "there is a portfolio p-1"))
    result = run("plan", "--request", write(REQUEST), "--portfolio", fleet_file(tmp_path))
    assert result.exit_code == 1
    assert "CreatePortfolio failed [ALREADY_EXISTS]: there is a portfolio p-1" in result.stderr
    assert server.asked("PlanPortfolio") == []


def test_an_unknown_field_is_named_with_the_nearest(run: Run, write: Write) -> None:
    result = run("plan", "--request", write(REQUEST | {"portfolio": "p-1"}))
    assert result.exit_code == 2
    assert 'did you mean "portfolio_id"?' in result.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("asset_id,max_chage_kw\na,11\n", "max_chage_kw: unknown column; did you mean max_charge_kw?"),
        ("asset_id,kind\na,CAR\n", "kind: unknown kind 'CAR'"),
        ("asset_id,max_charge_kw\na,fast\n", "max_charge_kw: row 0 must be a number, is 'fast'"),
        ("", "No columns to parse"),
    ],
)
def test_a_fleet_that_cannot_be_used_is_a_usage_error(
    run: Run, server: FakeServer, write: Write, tmp_path: Path, text: str, problem: str
) -> None:
    result = run("plan", "--request", write(REQUEST), "--portfolio", fleet_file(tmp_path, text))
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--portfolio", "no-such.csv"], "cannot read no-such.csv: No such file"),
        (["--portfolio", "fleet.xlsx"], "must end in .parquet"),
        (["--setpoints", "powers.xlsx"], "--setpoints must end in .csv or .parquet, is powers.xlsx"),
        (["--setpoints", "no-such-folder/powers.csv"], "there is no folder no-such-folder"),
    ],
)
def test_files_that_cannot_be_used_are_told_before_anything_is_sent(
    run: Run, server: FakeServer, write: Write, flags: list[str], problem: str
) -> None:
    result = run("plan", "--request", write(REQUEST), *flags)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert server.calls == []


def test_a_missing_pyarrow_is_told(run: Run, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for flag in ("--portfolio", "--setpoints"):
        result = run("plan", "--request", write(REQUEST), flag, "fleet.parquet")
        assert result.exit_code == 2
        assert "pip install 'evflex[parquet]'" in result.stderr


def test_a_portfolio_can_be_called_for_as_json_lines(run: Run, server: FakeServer) -> None:
    lines = [
        {"header": {"portfolio_id": "p-7", "currency_code": "EUR", "expected_assets": 1}},
        {"chunk": {"fleet": {"asset_ids": ["a"], "kinds": ["ASSET_KIND_EV"]}}},
        {"commit": {}},
    ]
    result = run("call", "DispatchService/CreatePortfolio", "--request", "-", stdin="\n".join(map(json.dumps, lines)))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"portfolio": {"portfolio_id": "p-7"}}
    assert len(server.asked("CreatePortfolio")[0]) == 3


def test_a_plan_can_be_called_for_as_json_lines(run: Run, write: Write) -> None:
    result = run("call", "DispatchService/PlanPortfolio", "--request", write(REQUEST))
    assert result.exit_code == 0, result.stderr
    assert [next(iter(json.loads(line))) for line in result.stdout.splitlines()] == [
        "progress", "summary", "chunk", "chunk",
    ]  # fmt: skip
