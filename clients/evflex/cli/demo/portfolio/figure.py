"""The picture of the chapter: the fleet's power against its limit, what the limit costs, and the price."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evflex.cli.demo.look import (
    DASHED,
    GRID,
    LIMIT,
    METADATA,
    PLANNED,
    UNCONTROLLED,
    FloatArray,
    blank_figure,
    heading,
    price_steps,
    rounded_change,
    step_edges,
    style,
    time_axis,
)
from evflex.cli.demo.portfolio.day import CURRENCY_CODE, TIME_ZONE, PortfolioDay
from evflex.cli.demo.portfolio.outcome import planned_outcome, uncontrolled_outcome
from evflex.client import FleetPlan

WIDTH_INCHES = 8.4
HEIGHT_INCHES = 6.6
KW_PER_MW = 1000.0


def draw(day: PortfolioDay, uncontrolled_kw: pd.Series, plan: FleetPlan, path: Path) -> None:
    """Draw the day and write a PNG.

    Args:
        day: Fleet, prices and limit.
        uncontrolled_kw: Power of the fleet without a plan.
        plan: Plan of the fleet.
        path: File to write.
    """
    figure = blank_figure(WIDTH_INCHES, HEIGHT_INCHES)
    power_axes, limit_axes, price_axes = figure.subplots(3, 1, sharex=True, height_ratios=[3.0, 1.0, 1.0])
    edges = step_edges(day.price_per_kwh.index, TIME_ZONE)
    for axes in (power_axes, limit_axes, price_axes):
        style(axes)
    _power(power_axes, day, uncontrolled_kw, plan, edges)
    _limit_price(limit_axes, plan, edges)
    price_steps(price_axes, day.price_per_kwh, edges, "energy price", CURRENCY_CODE)
    price_axes.yaxis.set_major_locator(MaxNLocator(4))
    time_axis(price_axes, edges, TIME_ZONE)
    heading(power_axes, f"{len(day.fleet):,} electric vehicles under one limit", _headline(day, uncontrolled_kw, plan))
    figure.align_ylabels([power_axes, limit_axes, price_axes])
    figure.savefig(path, metadata=METADATA)


def _power(axes: Axes, day: PortfolioDay, uncontrolled_kw: pd.Series, plan: FleetPlan, edges: FloatArray) -> None:
    planned, uncontrolled, limit = (
        series.to_numpy() / KW_PER_MW for series in (plan.power_kw, uncontrolled_kw, day.limit_kw)
    )
    axes.stairs(planned, edges, fill=True, color=PLANNED, alpha=0.30, linewidth=0.0)
    axes.stairs(planned, edges, color=PLANNED, linewidth=1.8, baseline=None, label="planned")
    axes.stairs(
        uncontrolled, edges, color=UNCONTROLLED, linewidth=1.4, linestyle=DASHED, baseline=None,
        label="charging on arrival",
    )  # fmt: skip
    axes.stairs(limit, edges, color=LIMIT, linewidth=1.4, baseline=None, label="limit of the fleet")
    axes.axhline(0.0, color=GRID, linewidth=0.8, zorder=0)
    axes.set_ylim(top=1.18 * float(max(planned.max(), uncontrolled.max(), limit.max())))
    axes.set_ylabel("power of the fleet\n[MW]")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.legend(loc="upper right", ncols=3, frameon=False, fontsize=8, handlelength=1.6, columnspacing=1.2)


def _limit_price(axes: Axes, plan: FleetPlan, edges: FloatArray) -> None:
    """What one MW more would save in each step; the fleet has the only limit."""
    price = plan.limits["price_per_kw_step"].to_numpy() * KW_PER_MW
    axes.stairs(price, edges, fill=True, color=LIMIT, alpha=0.30, linewidth=0.0)
    axes.stairs(price, edges, color=LIMIT, linewidth=1.4, baseline=None)
    axes.set_ylim(bottom=min(0.0, float(price.min())))
    axes.margins(y=0.15)
    axes.set_ylabel(f"price of the limit\n[{CURRENCY_CODE}/MW, step]", color=LIMIT)
    axes.tick_params(axis="y", labelcolor=LIMIT)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _headline(day: PortfolioDay, uncontrolled_kw: pd.Series, plan: FleetPlan) -> str:
    before, after = uncontrolled_outcome(day, uncontrolled_kw), planned_outcome(day, plan)
    return (
        f"cost of charging {rounded_change(before.cost, after.cost)}   "
        f"peak {before.peak_kw / KW_PER_MW:,.3g} → {after.peak_kw / KW_PER_MW:,.3g} MW   "
        f"planned in {plan.termination.solve_duration.total_seconds():.1f} s"
    )
