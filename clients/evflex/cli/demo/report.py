"""What the demo prints and writes beside the picture."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from evflex.cli.demo.site import DemoSite, Outcome, outcomes
from evflex.client import Schedule


def print_table(console: Console, site: DemoSite, schedule: Schedule) -> None:
    """Print cost, CO2, peak and unserved energy against uncontrolled charging."""
    table = Table(title=site.title, title_justify="left", title_style="bold", header_style="", pad_edge=False)
    table.add_column("")
    for heading in ("uncontrolled", "optimised", "change"):
        table.add_column(heading, justify="right")
    uncontrolled, planned = outcomes(site, schedule)
    for label, unit, before, after in _rows(site, uncontrolled, planned):
        table.add_row(label, f"{before:,.2f} {unit}", f"{after:,.2f} {unit}", _change(before, after))
    console.print(table)
    ending = schedule.termination
    console.print(
        f"{ending.reason.lower()}: at most {100.0 * ending.relative_gap:.3f} % above the best possible plan, "
        f"after {1000.0 * ending.solve_duration.total_seconds():.0f} ms ({ending.method})",
        highlight=False,
    )


def print_notes(console: Console, sites: list[DemoSite]) -> None:
    """Print what a reader must know about the data, each note once."""
    for note in dict.fromkeys(note for site in sites for note in site.notes):
        console.print(f"[dim]{note}[/dim]", highlight=False)


def write_csv(site: DemoSite, schedule: Schedule, folder: Path) -> list[Path]:
    """Write the schedule and the outcome of each session as CSV.

    Returns:
        The files written.
    """
    steps = pd.DataFrame(
        {
            "price_per_kwh": site.price_per_kwh.to_numpy(),
            "site_power_kw": schedule.root_power_kw.to_numpy().round(4),
            "uncontrolled_site_power_kw": schedule.uncontrolled_root_power_kw.to_numpy().round(4),
        },
        index=schedule.power_kw.index,
    )
    power = schedule.power_kw.round(4)
    table = pd.concat([steps, power.rename(columns=lambda name: f"{name}_kw")], axis=1)
    times = schedule.time_grid.index.strftime("%Y-%m-%dT%H:%M:%SZ")
    table.index = pd.Index(times, name="time_utc")
    files = [folder / f"{site.site_id}_schedule.csv", folder / f"{site.site_id}_sessions.csv"]
    table.to_csv(files[0], lineterminator="\n")
    schedule.sessions.round(4).to_csv(files[1], lineterminator="\n")
    return files


def _rows(site: DemoSite, uncontrolled: Outcome, planned: Outcome) -> list[tuple[str, str, float, float]]:
    money = site.currency_code
    rows = [("energy charged, cost", money, uncontrolled.energy_cost, planned.energy_cost)]
    if site.peak_price_per_kw:
        rows.append(("peak, cost", money, uncontrolled.peak_cost, planned.peak_cost))
        rows.append(("together", money, uncontrolled.total_cost, planned.total_cost))
    if uncontrolled.emissions_kg is not None and planned.emissions_kg is not None:
        rows.append(("CO2 of charging", "kg", uncontrolled.emissions_kg, planned.emissions_kg))
    rows.append(("peak of the site", "kW", uncontrolled.peak_kw, planned.peak_kw))
    rows.append(("energy delivered", "kWh", uncontrolled.energy_kwh, planned.energy_kwh))
    rows.append(("energy missed", "kWh", uncontrolled.shortfall_kwh, planned.shortfall_kwh))
    return rows


def _change(before: float, after: float) -> str:
    if abs(before - after) < 0.005:
        return "="
    return f"{100.0 * (after / before - 1.0):+.1f} %" if before > 0.0 else f"{after - before:+.2f}"
