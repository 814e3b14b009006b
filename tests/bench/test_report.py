"""RESULTS.md and the pictures are made of the JSON alone, and keep the remarks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import bench.cases
from bench.__main__ import main, write_report
from bench.registry import Figure, Outcome
from bench.report import figures, load, number, remarks, render, save


def outcome() -> Outcome:
    made = Outcome(
        seconds={"evflex": [0.2, 0.1, 0.3], "HiGHS LP": [0.5]},
        details={"5 cars": {"max_gap": 0.001, "max_s": 0.1}},
        notes=["A note."],
        curves={"evflex": [(10, 0.01), (100, 0.1)]},
    )
    made.add("gap", "Gap", 1e-4, "%", at_most=2e-4, peer="a | b")
    made.add("highs", "Faster than HiGHS", 1.5, "×", at_least=2.0)
    made.add("days", "Days", 0, at_most=0)
    made.add("saving", "Saving", 0.12, "%")
    made.add("lost", "No plan", math.inf, "%", at_most=1.0)
    return made


def test_results_survive_the_file(tmp_path: Path) -> None:
    made = outcome()
    save(made, "lp_n1000", 1.0, tmp_path, quick=False)
    (result,) = load(tmp_path)
    assert figures(result) == made.figures
    assert [figure.met for figure in made.figures] == [True, False, True, None, False]


def test_no_name_or_place_of_the_machine_is_written(tmp_path: Path) -> None:
    described = json.loads(save(outcome(), "lp_n1000", 1.0, tmp_path, quick=False).read_text(encoding="utf-8"))
    assert set(described["machine"]) == {
        "cores", "processor", "memory_gb", "system", "python", "evflex", "packages",
    }  # fmt: skip
    assert str(tmp_path) not in json.dumps(described)


def test_the_report_says_what_is_met_and_why_not(tmp_path: Path) -> None:
    save(outcome(), "lp_n1000", 1.0, tmp_path, quick=False)
    text = render(load(tmp_path), {"lp_n1000": {"highs": "a known cause"}})
    assert "2 of 4 figures that are asked are met" in text
    assert r"| Gap | ≤ 0.02 % | 0.01 % | met | a \| b |  |" in text
    assert "| Faster than HiGHS | ≥ 2 × | 1.5 × | **missed** |  | a known cause |" in text
    assert "| Saving | – | 12 % |  |  |  |" in text
    assert "| evflex | 3 | 200 ms | 100 ms | 300 ms |" in text
    assert "A note." in text


def test_pictures_and_report_are_written_anew_from_the_files(tmp_path: Path) -> None:
    save(outcome(), "scale_10000", 1.0, tmp_path, quick=False)
    assert main(["--report", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "RESULTS.md").is_file()
    for name in ("overview.png", "sizes.png"):
        assert (tmp_path / "results" / name).read_bytes().startswith(b"\x89PNG")


def test_a_domain_has_a_picture_and_words_of_its_own(tmp_path: Path) -> None:
    made = outcome()
    made.phases = {"plan": {"1000": 0.1, "10000": 0.2}, "HiGHS": {"1000": 0.5}}
    save(made, "dispatch_million", 1.0, tmp_path, quick=False)
    write_report(tmp_path)
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| phase | 1000 assets | 10000 assets |" in text
    assert "| HiGHS | 500 ms |  |" in text
    assert "results/fleets.png" in text
    assert "results/sizes.png" not in text
    assert (tmp_path / "results" / "fleets.png").is_file()
    assert not (tmp_path / "results" / "sizes.png").exists()


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_kept_remarks_can_be_read() -> None:
    for case, rows in remarks().items():
        assert case in bench.registry.CASES
        assert all(isinstance(text, str) for text in rows.values())


@pytest.mark.parametrize(
    ("measured", "asked", "sense", "share"),
    [(0.5, 1.0, "<=", 0.5), (3.0, 2.0, ">=", 2 / 3), (0.0, 0.0, "<=", 0.0), (1.0, 0.0, "<=", math.inf)],
)
def test_a_share_above_one_is_a_miss(measured: float, asked: float, sense: str, share: float) -> None:
    figure = Figure("key", "title", asked, sense, measured, "")  # type: ignore[arg-type]
    assert figure.share == pytest.approx(share)
    assert figure.met == (share <= 1.0)


def test_numbers_are_written_for_people() -> None:
    assert number(0.00015, "%") == "0.015 %"
    assert number(0.4, "×") == "0.4 ×"
    assert number(273.54, "MB") == "273.5 MB"
    assert number(math.inf, "%") == "none"
