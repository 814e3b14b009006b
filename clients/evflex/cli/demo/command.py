"""`evflex demo`: from data to a picture."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from evflex.cli.faults import UsageError, reported

CHAPTERS = ("charging", "portfolio", "capacity", "congestion", "activation")


@reported
def demo(
    chapter: Annotated[
        str, typer.Argument(metavar="[CHAPTER]", help=f"What to show: {', '.join(CHAPTERS)}.")
    ] = "charging",
    sessions: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Your sessions: arrival, departure, energy in kWh."),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Your prices: time, price per MWh or kWh.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Day of your sessions; default: the busiest.")
    ] = None,
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", help="Zone of times without one, and of the times shown.")
    ] = "UTC",
    price_timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Take prices by the local time of day of this zone.")
    ] = None,
    area: Annotated[str | None, typer.Option(help="Price area, where your prices have several.")] = None,
    limit_kw: Annotated[
        float | None,
        typer.Option(metavar="KW", min=0.0, help="Limit of your site; default: 60 % of the peak."),
    ] = None,
    max_charge_kw: Annotated[
        float, typer.Option(metavar="KW", min=0.1, help="Charging power where your sessions have none.")
    ] = 7.4,
    assets: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Cars of the chapter portfolio.")] = 100_000,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the picture and the tables.")] = Path(
        "evflex-demo"
    ),
) -> None:
    """Plan a day of charging on a server of its own and show what it saves.

    The chapter charging plans a car park and a street, or a day of yours; portfolio plans a fleet of 100 000 cars;
    capacity shares a transformer between two hubs; congestion looks for what a cold evening overloads in a village;
    activation sells one car twice and shows what is done about it.
    """
    if chapter not in CHAPTERS:
        close = difflib.get_close_matches(chapter, CHAPTERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(CHAPTERS)}"
        raise UsageError(f"there is no chapter {chapter!r}; {hint}")
    if (sessions is None) != (prices is None):
        raise UsageError("give both --sessions and --prices, or neither for the packaged day")
    if sessions is not None and chapter != "charging":
        raise UsageError(f"the chapter {chapter} generates its cars; --sessions and --prices go with charging")
    # pandas, matplotlib and the server take a second to import, which no other command should wait for
    if chapter == "capacity":
        from evflex.cli.demo.capacity.run import run as run_capacity

        run_capacity(output)
        return
    if chapter == "activation":
        from evflex.cli.demo.activation.run import run as run_activation

        run_activation(output)
        return
    if chapter == "congestion":
        from evflex.cli.demo.congestion.run import run as run_congestion

        run_congestion(output)
        return
    if chapter == "portfolio":
        from evflex.cli.demo.portfolio.run import run as run_portfolio

        run_portfolio(assets, output)
        return
    from evflex.cli.demo.files import FileOptions, site_from_files
    from evflex.cli.demo.packaged import packaged_sites
    from evflex.cli.demo.run import run

    if sessions is not None and prices is not None:
        options = FileOptions(date, timezone, price_timezone, area, limit_kw, max_charge_kw)
        sites = [site_from_files(sessions, prices, options)]
    else:
        sites = list(packaged_sites())
    run(sites, output)
