"""Command line: `python -m bench [names…] [--domain DOMAIN] [--output DIR]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import bench.cases  # noqa: F401 fills the registry
from bench.picture import draw_overview, draw_sizes, draw_week
from bench.registry import CASES, Case, Outcome, Setting
from bench.report import RESULTS_FOLDER, SIZES, asked, load, number, of_domain, remarks, render, save, verdict
from bench.timing import shown
from evflex.engine.charging import warm_up

_DEFAULT_OUTPUT = Path(__file__).resolve().parent
# So that a run without a terminal is readable too.
_LEAST_WIDTH = 150


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named cases, or all; returns 1 when one failed to run, a missed figure is no failure."""
    given = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_LEAST_WIDTH)
    if given.list:
        for case in CASES.values():
            console.print(f"{case.name:12} {case.title}; sizes {', '.join(map(str, case.sizes))}")
        return 0
    failed = 0
    if not given.report:
        warm_up()
        chosen = [CASES[name] for name in given.names or CASES]
        chosen = [case for case in chosen if given.domain in ("", case.domain)]
        failed = run_cases(chosen, Setting(given.quick), given.output, console)
    write_report(given.output)
    return 1 if failed else 0


def run_cases(cases: Sequence[Case], setting: Setting, output: Path, console: Console) -> int:
    """Run cases, print and save each as soon as it is done; returns how many failed."""
    failed = 0
    for case in cases:
        missing = case.missing(setting)
        if missing:
            console.print(f"[yellow]{case.name}: skipped, {missing}[/]")
            continue
        started = time.perf_counter()
        try:
            outcome = case.run(setting)
        except Exception as error:
            failed += 1
            console.print(f"[red]{case.name}: failed, {type(error).__name__}: {error}[/]", markup=True, highlight=False)
            continue
        seconds = time.perf_counter() - started
        save(outcome, case.name, seconds, output, quick=setting.quick)
        for table in _tables(case, outcome, seconds):
            console.print(table)
    return failed


def write_report(output: Path) -> None:
    """RESULTS.md and the pictures, from the JSON that is there."""
    results = load(output)
    if not results:
        return
    draw_overview(results, output / RESULTS_FOLDER / "overview.png")
    for domain, (picture, _, axis) in SIZES.items():
        draw_sizes(of_domain(results, domain), output / RESULTS_FOLDER / picture, axis)
    draw_week(results, output / RESULTS_FOLDER / "week.png")
    (output / "RESULTS.md").write_text(render(results, remarks()), encoding="utf-8")


def _tables(case: Case, outcome: Outcome, seconds: float) -> Iterator[Table]:
    title = f"{case.name}: {case.title} ({seconds:.0f} s)"
    if outcome.figures:
        table = Table("", "asked", "measured", "", "beside", title=title, title_justify="left")
        for figure in outcome.figures:
            colour = {True: "green", False: "red", None: "white"}[figure.met]
            said = verdict(figure).strip("*")
            measured = number(figure.measured, figure.unit)
            table.add_row(figure.title, asked(figure), f"[{colour}]{measured}[/]", f"[{colour}]{said}[/]", figure.peer)
        yield table
    if outcome.phases:
        sizes = list(next(iter(outcome.phases.values())))
        counted = SIZES[case.domain][1]
        table = Table("phase", *(f"{size} {counted}" for size in sizes), title=title, title_justify="left")
        for phase, row in outcome.phases.items():
            table.add_row(phase, *(shown(row[size]) if size in row else "" for size in sizes))
        yield table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench", description="Measure what must be reached, beside its peers.")
    parser.add_argument("names", nargs="*", choices=[[], *CASES], metavar="name", help="cases; all where none is named")
    parser.add_argument(
        "--domain", default="", choices=list(SIZES), help="only the cases of a part of the contract; all by default"
    )
    parser.add_argument(
        "--output", type=Path, default=_DEFAULT_OUTPUT, metavar="DIR", help="for RESULTS.md and results/"
    )
    parser.add_argument("--quick", action="store_true", help="try it out on tiny generated sites")
    parser.add_argument("--report", action="store_true", help="only write the report anew from the JSON")
    parser.add_argument("--list", action="store_true", help="list the cases")
    return parser


if __name__ == "__main__":
    sys.exit(main())
