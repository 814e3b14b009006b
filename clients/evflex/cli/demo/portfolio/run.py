"""The run of the chapter: start a server, send the fleet, plan it, show the plan."""

from __future__ import annotations

import math
import time
from pathlib import Path

from rich.console import Console

from evflex.cli.demo.own_server import own_server
from evflex.cli.demo.portfolio.day import CURRENCY_CODE, VIOLATION_PRICE_PER_KWH, generated_day, uncontrolled_kw
from evflex.cli.demo.portfolio.figure import draw
from evflex.cli.demo.portfolio.report import print_story, write_csv
from evflex.cli.demo.stage import output_folder, print_written, progress_bar
from evflex.client import EvflexClient, PlanProgress, PortfolioLimit


def run(asset_count: int, folder: Path) -> None:
    """Plan the generated fleet, print the figures, and write picture and table.

    Args:
        asset_count: Number of cars.
        folder: Receives the files; made if need be.

    Raises:
        UsageError: The folder cannot be written.
        EvflexError: A call failed.
    """
    console = Console()
    with output_folder(folder), progress_bar(console) as progress:
        task = progress.add_task("Starting a server and compiling its kernels", total=4)

        def show(told: PlanProgress) -> None:
            # there is no gap before there is a plan
            gap = f", gap {100.0 * told.relative_gap:.2f} %" if math.isfinite(told.relative_gap) else ""
            progress.update(task, description=f"Planning: {told.phase}{gap}")

        day = generated_day(asset_count)
        before_kw = uncontrolled_kw(day)
        with own_server() as address, EvflexClient(address) as client:
            progress.update(task, description=f"Sending {asset_count:,} cars", advance=1)
            begun = time.perf_counter()
            portfolio = client.create_portfolio(day.fleet, currency_code=CURRENCY_CODE)
            sent = time.perf_counter()
            progress.update(task, description="Planning", advance=1)
            limit = PortfolioLimit(max_import_kw=day.limit_kw, violation_price_per_kwh=VIOLATION_PRICE_PER_KWH)
            plan = client.plan_portfolio(
                portfolio.portfolio_id, prices=day.price_per_kwh, limits=[limit], on_progress=show
            )
            planned = time.perf_counter()
        progress.update(task, description="Drawing", advance=1)
        files = [folder / "portfolio.png", folder / "portfolio_steps.csv"]
        draw(day, before_kw, plan, files[0])
        write_csv(day, before_kw, plan, files[1])
        progress.update(task, description="Done", advance=1)
    console.print()
    print_story(console, day, before_kw, plan, sent - begun, planned - sent)
    print_written(console, files)
