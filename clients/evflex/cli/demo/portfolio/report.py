"""What the chapter prints, and the table that it writes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from evflex.cli.demo.portfolio.day import CURRENCY_CODE, PortfolioDay
from evflex.cli.demo.portfolio.outcome import planned_outcome, uncontrolled_outcome
from evflex.client import FleetPlan

NOTE = (
    "Generated data: cars at home over night and at work by day, drawn at random in the same way in every run; prices "
    "and the limit are made up after a winter day. Cars that can discharge sell at the price at which they buy and pay "
    "0.04 EUR of wear for each kWh."
)


def print_story(
    console: Console, day: PortfolioDay, uncontrolled_kw: pd.Series, plan: FleetPlan, upload_s: float, plan_s: float
) -> None:
    """Print cost and peak against charging on arrival, the proof and the time it took.

    Args:
        console: Where to print.
        day: Fleet, prices and limit.
        uncontrolled_kw: Power of the fleet without a plan.
        plan: Plan of the fleet.
        upload_s: Time to create the portfolio.
        plan_s: Time from the request to the whole answer.
    """
    before, after = uncontrolled_outcome(day, uncontrolled_kw), planned_outcome(day, plan)
    bidirectional = int((day.fleet["max_discharge_kw"] > 0.0).sum())
    title = f"{len(day.fleet):,} cars, {bidirectional:,} of them can discharge"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="", pad_edge=False)
    table.add_column("")
    for heading in ("on arrival", "planned"):
        table.add_column(heading, justify="right")
    for label, unit, scale, first, second in (
        ("cost of charging", CURRENCY_CODE, 1.0, before.cost, after.cost),
        ("evening peak, 17:00 to 21:00", "MW", 1e3, before.evening_peak_kw, after.evening_peak_kw),
        ("peak of the day", "MW", 1e3, before.peak_kw, after.peak_kw),
        ("energy above the limit", "MWh", 1e3, before.above_limit_kwh, after.above_limit_kwh),
        ("energy missed", "MWh", 1e3, before.missing_kwh, after.missing_kwh),
    ):
        table.add_row(label, f"{first / scale:,.2f} {unit}", f"{second / scale:,.2f} {unit}")
    console.print(table)
    ending = plan.termination
    console.print(
        f"{ending.reason.lower()}: at most {100.0 * plan.gap:.3f} % above the best possible plan ({ending.method}); "
        f"the fleet was sent in {upload_s:.1f} s and planned in {plan_s:.1f} s",
        highlight=False,
    )
    console.print(f"[dim]{NOTE}[/dim]", highlight=False)


def write_csv(day: PortfolioDay, uncontrolled_kw: pd.Series, plan: FleetPlan, path: Path) -> None:
    """Write prices, limit and powers by step."""
    table = pd.DataFrame(
        {
            "price_per_kwh": day.price_per_kwh.to_numpy(),
            "limit_kw": day.limit_kw.to_numpy(),
            "uncontrolled_kw": uncontrolled_kw.to_numpy().round(3),
            "planned_kw": plan.power_kw.to_numpy().round(3),
            "limit_price_per_kw_step": plan.limits["price_per_kw_step"].to_numpy().round(6),
        },
        index=pd.Index(plan.time_grid.index.strftime("%Y-%m-%dT%H:%M:%SZ"), name="time_utc"),
    )
    table.to_csv(path, lineterminator="\n")
