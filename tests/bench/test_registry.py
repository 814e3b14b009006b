"""The benchmark's cases run on tiny sites, and their results can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

import bench.__main__
import bench.cases
from bench import registry
from bench.__main__ import main, run_cases, write_report
from bench.registry import CASES, Case, Outcome, Setting

# The list, in its order, then what else is worth knowing.
NAMES = [
    "lp_n1000", "milp_n100", "subsamples", "no_minimum", "starts", "quantum", "scale_10000", "many_sites",
    "rpc_share", "real_days", "ranking", "phases",
    "dispatch_million", "dispatch_v2g", "dispatch_elaad", "dispatch_objective", "dispatch_minimum", "dispatch_feeders",
    "dispatch_served", "capacity_rating", "capacity_answers", "capacity_hour", "capacity_booking",
    "capacity_allocation", "capacity_residential",
    "power_flow", "three_phases", "losses", "n_minus_1", "relief", "power_flow_year", "load_forecast",
    "activation_batch", "activation_sessions", "activation_served",
]  # fmt: skip
OF_DISPATCH = ["dispatch_million", "dispatch_v2g", "dispatch_objective", "dispatch_minimum", "dispatch_feeders"]
OF_ONE_PROCESS = ["lp_n1000", "milp_n100", "subsamples", "no_minimum", "quantum", "ranking"]


@pytest.fixture
def quiet() -> Iterator[Console]:
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        yield Console(file=nowhere)


def test_the_registry_holds_every_case_once_and_in_order() -> None:
    assert list(CASES) == NAMES


def test_a_name_cannot_be_registered_twice() -> None:
    with pytest.raises(ValueError, match="lp_n1000"):
        registry.case("lp_n1000", "again")(lambda _setting: Outcome())


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_ONE_PROCESS)
def test_a_case_runs_on_a_tiny_site(name: str, tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES[name]], Setting(quick=True), tmp_path, quiet) == 0
    result = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert result["quick"]
    assert result["figures"]
    assert all(times for times in result["seconds"].values())


@pytest.mark.slow
def test_a_cut_reaches_every_watch(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["capacity_answers"]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
def test_an_hour_of_capacity_runs_for_a_minute(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["capacity_hour"]], Setting(quick=True), tmp_path, quiet) == 0
    result = json.loads((tmp_path / "results" / "capacity_hour.json").read_text(encoding="utf-8"))
    assert {row["key"]: row["measured"] for row in result["figures"]}["limits"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["starts", "scale_10000", "phases"])
def test_a_longer_case_runs_on_a_tiny_site(name: str, tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES[name]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["many_sites", "rpc_share"])
def test_a_case_with_a_server_of_its_own_runs_on_tiny_sites(name: str, tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES[name]], Setting(quick=True), tmp_path, quiet) == 0
    write_report(tmp_path)
    assert "tiny generated sites" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["three_phases", pytest.param("losses", marks=pytest.mark.shared_data)])
def test_networks_are_measured(name: str, tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES[name]], Setting(quick=True), tmp_path, quiet) == 0
    figures = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    # a speed on few steps means nothing
    assert [figure["key"] for figure in figures if figure["met"] is False and figure["unit"] != "×"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_DISPATCH)
def test_a_dispatch_case_runs_on_tiny_fleets(name: str, tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES[name]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
def test_ratings_are_measured_on_few_transformers(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["capacity_rating"]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
def test_allocations_are_measured_on_few_hubs(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["capacity_allocation"]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
@pytest.mark.shared_data
def test_conditional_agreements_let_a_third_more_energy_through(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["capacity_residential"]], Setting(quick=True), tmp_path, quiet) == 0
    result = json.loads((tmp_path / "results" / "capacity_residential.json").read_text(encoding="utf-8"))
    assert all(figure["met"] is not False for figure in result["figures"])
    write_report(tmp_path)
    assert (tmp_path / "results" / "week.png").is_file()


@pytest.mark.slow
def test_a_portfolio_is_served(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["dispatch_served"]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
def test_the_last_kilowatt_is_raced_for(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["capacity_booking"]], Setting(quick=True), tmp_path, quiet) == 0
    result = json.loads((tmp_path / "results" / "capacity_booking.json").read_text(encoding="utf-8"))
    assert all(figure["met"] is not False for figure in result["figures"])


@pytest.mark.slow
@pytest.mark.shared_data
def test_measured_vehicles_are_planned(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["dispatch_elaad"]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
@pytest.mark.shared_data
def test_measured_days_run(tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES["real_days"]], Setting(quick=True), tmp_path, quiet) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["activation_batch", "activation_sessions", "activation_served"])
def test_the_ledger_is_measured_and_agrees_with_sqlite(name: str, tmp_path: Path, quiet: Console) -> None:
    assert run_cases([CASES[name]], Setting(quick=True), tmp_path, quiet) == 0
    figures = json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))["figures"]
    # a speed on few commitments means nothing; what must not happen at all is asked to be 0
    assert [figure["key"] for figure in figures if figure["asked"] == 0 and not figure["met"]] == []


def test_a_case_that_fails_does_not_stop_the_others(tmp_path: Path, quiet: Console) -> None:
    def fail(_setting: Setting) -> Outcome:
        raise RuntimeError("no luck")

    failing = Case("ranking", "fails", fail, (), needs_data=False)
    working = Case("quantum", "works", lambda _setting: Outcome(), (), needs_data=False)
    assert run_cases([failing, working], Setting(quick=True), tmp_path, quiet) == 1
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["quantum.json"]


def test_without_data_a_case_is_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVFLEX_SHARED_DATA", str(tmp_path / "nowhere"))
    assert "EVFLEX_SHARED_DATA" in CASES["lp_n1000"].missing(Setting())
    assert CASES["lp_n1000"].missing(Setting(quick=True)) == ""
    assert "EVFLEX_SHARED_DATA" in CASES["real_days"].missing(Setting(quick=True))
    assert CASES["dispatch_million"].missing(Setting()) == ""
    assert "EVFLEX_SHARED_DATA" in CASES["dispatch_elaad"].missing(Setting())


def test_the_command_line_lists_the_cases(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--list", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)


def test_a_domain_is_run_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    def remember(cases: Sequence[Case], *_others: object) -> int:
        ran.extend(case.name for case in cases)
        return 0

    monkeypatch.setattr(bench.__main__, "run_cases", remember)
    assert main(["--domain", "dispatch", "--output", str(tmp_path)]) == 0
    assert ran == [name for name in NAMES if name.startswith("dispatch_")]


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_case"])
    assert "no_such_case" in capsys.readouterr().err
