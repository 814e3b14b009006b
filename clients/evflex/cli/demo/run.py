"""The run of the demo: start a server, ask for the schedules, show them."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from evflex.cli.demo.figure import draw
from evflex.cli.demo.own_server import own_server
from evflex.cli.demo.report import print_notes, print_table, write_csv
from evflex.cli.demo.site import DemoSite
from evflex.cli.demo.stage import output_folder, print_written, progress_bar
from evflex.client import EvflexClient, Schedule


def run(sites: list[DemoSite], folder: Path) -> None:
    """Plan the sites, print the figures, and write picture and tables.

    Args:
        sites: Sites.
        folder: Receives the files; made if need be.

    Raises:
        UsageError: The folder cannot be written.
        EvflexError: A call failed.
    """
    console = Console()
    with output_folder(folder), progress_bar(console) as progress:
        task = progress.add_task("Starting a server and compiling its kernels", total=len(sites) + 2)
        pairs: list[tuple[DemoSite, Schedule]] = []
        with own_server() as address, EvflexClient(address) as client:
            progress.advance(task)
            for site in sites:
                progress.update(task, description=f"Planning {site.site_id}")
                pairs.append((site, client.optimize_schedule(site.request())))
                progress.advance(task)
        progress.update(task, description="Drawing")
        picture = folder / "demo.png"
        draw(pairs, picture)
        files = [picture, *(path for pair in pairs for path in write_csv(*pair, folder))]
        progress.update(task, description="Done", advance=1)
    for site, schedule in pairs:
        console.print()
        print_table(console, site, schedule)
    console.print()
    print_notes(console, sites)
    print_written(console, files)
