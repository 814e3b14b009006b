"""The picture of the demo: price, site power against its limit, and the schedule of each car."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evflex.cli.demo.look import (
    DASHED,
    INK,
    LIMIT,
    METADATA,
    PLANNED,
    UNCONTROLLED,
    FloatArray,
    blank_figure,
    heading,
    local_dates,
    price_steps,
    rounded_change,
    step_edges,
    style,
    time_axis,
)
from evflex.cli.demo.site import DemoSite, outcomes
from evflex.client import Schedule

CARBON = "#8a9a5b"
BASE = "#c9d1d6"
HEAT = LinearSegmentedColormap.from_list("heat", ["#d9eef0", "#5bb5bf", "#0a7d8c", "#063f52"])
PARKED = "#eef1f3"
COLUMN_INCHES = 5.6
HEIGHT_INCHES = 7.6


def draw(pairs: list[tuple[DemoSite, Schedule]], path: Path) -> None:
    """Draw one column a site and write a PNG.

    Args:
        pairs: Sites with their schedules.
        path: File to write.
    """
    figure = blank_figure(COLUMN_INCHES * len(pairs) + 0.4, HEIGHT_INCHES)
    rows = figure.subplots(3, len(pairs), squeeze=False, sharex="col", gridspec_kw={"height_ratios": [1.0, 1.7, 2.3]})
    for column, (site, schedule) in enumerate(pairs):
        price_axes, power_axes, cars_axes = rows[:, column]
        for axes in rows[:, column]:
            style(axes)
        _price(price_axes, site)
        _power(power_axes, site, schedule)
        _cars(figure, cars_axes, site, schedule)
        time_axis(cars_axes, _edges(site), site.time_zone)
        heading(price_axes, site.title, _headline(site, schedule))
        figure.align_ylabels(list(rows[:, column]))
    figure.savefig(path, metadata=METADATA)


def _price(axes: Axes, site: DemoSite) -> None:
    edges = _edges(site)
    price_steps(axes, site.price_per_kwh, edges, site.price_label, site.currency_code)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if site.emission_g_per_kwh is None:
        return
    twin = axes.twinx()
    twin.stairs(
        site.emission_g_per_kwh.to_numpy(), edges, color=CARBON, linewidth=1.2, linestyle=(0, (3, 2)),
        baseline=None,
    )  # fmt: skip
    twin.set_ylim(0.0, 1.15 * float(site.emission_g_per_kwh.max()))
    twin.yaxis.set_major_locator(MaxNLocator(3))
    twin.tick_params(axis="y", labelsize=8, labelcolor=CARBON, length=0)
    for side in twin.spines.values():
        side.set_visible(False)
    twin.set_ylabel("CO₂, illustrative\n[g/kWh]", color=CARBON, fontsize=9)


def _power(axes: Axes, site: DemoSite, schedule: Schedule) -> None:
    edges = _edges(site)
    fixed = site.fixed_load_kw.to_numpy()
    planned = schedule.root_power_kw.to_numpy()
    uncontrolled = schedule.uncontrolled_root_power_kw.to_numpy()
    if np.any(fixed):
        axes.stairs(fixed, edges, fill=True, color=BASE, label="other loads")
    axes.stairs(planned, edges, baseline=fixed, fill=True, color=PLANNED, alpha=0.30, linewidth=0.0)
    axes.stairs(planned, edges, color=PLANNED, linewidth=1.8, baseline=None, label="optimised")
    axes.stairs(
        uncontrolled, edges, color=UNCONTROLLED, linewidth=1.4, linestyle=DASHED, baseline=None,
        label="uncontrolled",
    )  # fmt: skip
    highest = float(max(planned.max(initial=0.0), uncontrolled.max(initial=0.0)))
    if np.isfinite(site.limit_kw):
        axes.axhline(site.limit_kw, color=LIMIT, linewidth=1.2, label=f"limit {site.limit_kw:g} kW")
        highest = max(highest, site.limit_kw)
    axes.set_ylim(min(0.0, float(fixed.min(initial=0.0))), 1.30 * highest)
    axes.set_ylabel("power at the grid\nconnection [kW]")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.legend(
        loc="upper left", ncols=4, frameon=False, fontsize=8, handlelength=1.6, columnspacing=1.2,
        borderaxespad=0.2,
    )  # fmt: skip


def _cars(figure: Figure, axes: Axes, site: DemoSite, schedule: Schedule) -> None:
    edges = _edges(site)
    sessions = site.sessions.sort_values("arrival_time", kind="stable")
    arrivals = _days(pd.DatetimeIndex(sessions["arrival_time"]), site)
    departures = _days(pd.DatetimeIndex(sessions["departure_time"]), site)
    rows = np.arange(len(sessions))
    axes.barh(rows, departures - arrivals, left=arrivals, height=0.86, color=PARKED, linewidth=0.0)
    power = schedule.power_kw[list(sessions["session_id"])].to_numpy().T
    shown = np.ma.masked_less(power, 1e-6)
    mesh = axes.pcolormesh(
        edges, np.arange(len(sessions) + 1) - 0.5, shown, cmap=HEAT, vmin=0.0, shading="flat", rasterized=True
    )
    axes.set_ylim(len(sessions) - 0.5, -0.5)
    axes.grid(False)
    axes.set_yticks([])
    axes.set_ylabel("cars by arrival\n(grey: plugged in)")
    for edge in np.arange(1, len(sessions)) - 0.5:
        axes.axhline(edge, color="white", linewidth=0.6)
    bar = figure.colorbar(mesh, ax=axes, pad=0.015, fraction=0.03, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0, labelcolor=INK)
    bar.set_label("charging power [kW]", fontsize=8, color=INK)


def _headline(site: DemoSite, schedule: Schedule) -> str:
    uncontrolled, planned = outcomes(site, schedule)
    parts = [f"cost of charging {rounded_change(uncontrolled.total_cost, planned.total_cost)}"]
    if uncontrolled.emissions_kg is not None and planned.emissions_kg is not None:
        parts.append(f"CO₂ {rounded_change(uncontrolled.emissions_kg, planned.emissions_kg)}")
    parts.append(f"peak {uncontrolled.peak_kw:.0f} → {planned.peak_kw:.0f} kW")
    return "   ".join(parts)


def _edges(site: DemoSite) -> FloatArray:
    return step_edges(site.price_per_kwh.index, site.time_zone)


def _days(times: pd.DatetimeIndex, site: DemoSite) -> FloatArray:
    return local_dates(times, pd.Timestamp(site.price_per_kwh.index[0]), site.time_zone)
