"""The picture of the demo: price, site power against its limit, and the schedule of each car."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from evflex.cli.demo.site import DemoSite, outcomes
from evflex.client import Schedule

FloatArray = NDArray[np.float64]

INK = "#1d2b36"
QUIET = "#7b8a95"
GRID = "#dfe5e9"
PRICE = "#5b4b8a"
CARBON = "#8a9a5b"
BASE = "#c9d1d6"
PLANNED = "#0a7d8c"
UNCONTROLLED = "#e07b39"
LIMIT = "#b3261e"
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
    size = (COLUMN_INCHES * len(pairs) + 0.4, HEIGHT_INCHES)
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.08))
    FigureCanvasAgg(figure)
    rows = figure.subplots(3, len(pairs), squeeze=False, sharex="col", gridspec_kw={"height_ratios": [1.0, 1.7, 2.3]})
    for column, (site, schedule) in enumerate(pairs):
        price_axes, power_axes, cars_axes = rows[:, column]
        for axes in rows[:, column]:
            _style(axes)
        _price(price_axes, site)
        _power(power_axes, site, schedule)
        _cars(figure, cars_axes, site, schedule)
        _time_axis(cars_axes, site)
        price_axes.set_title(_headline(site, schedule), loc="left", fontsize=9, color=QUIET, pad=6)
        price_axes.annotate(
            site.title, (0.0, 1.0), (0.0, 19.0), xycoords="axes fraction", textcoords="offset points",
            fontsize=12, fontweight="bold", color=INK,
        )  # fmt: skip
        figure.align_ylabels(list(rows[:, column]))
    figure.savefig(path, metadata={"Software": "evflex demo"})


def _price(axes: Axes, site: DemoSite) -> None:
    start, edges = _edges(site)
    axes.stairs(100.0 * site.price_per_kwh.to_numpy(), edges, color=PRICE, linewidth=1.6, baseline=None)
    axes.axhline(0.0, color=GRID, linewidth=0.8, zorder=0)
    axes.set_xlim(start, edges[-1])
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    cents = {"EUR": "ct", "USD": "¢"}.get(site.currency_code, f"{site.currency_code}/100")
    axes.set_ylabel(f"{site.price_label}\n[{cents}/kWh]", color=PRICE)
    axes.tick_params(axis="y", labelcolor=PRICE)
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
    _, edges = _edges(site)
    fixed = site.fixed_load_kw.to_numpy()
    planned = schedule.root_power_kw.to_numpy()
    uncontrolled = schedule.uncontrolled_root_power_kw.to_numpy()
    if np.any(fixed):
        axes.stairs(fixed, edges, fill=True, color=BASE, label="other loads")
    axes.stairs(planned, edges, baseline=fixed, fill=True, color=PLANNED, alpha=0.30, linewidth=0.0)
    axes.stairs(planned, edges, color=PLANNED, linewidth=1.8, baseline=None, label="optimised")
    axes.stairs(
        uncontrolled, edges, color=UNCONTROLLED, linewidth=1.4, linestyle=(0, (4, 1.5)), baseline=None,
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
    start, edges = _edges(site)
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
    axes.set_xlim(start, edges[-1])
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
    parts = [f"cost of charging {_change(uncontrolled.total_cost, planned.total_cost)}"]
    if uncontrolled.emissions_kg is not None and planned.emissions_kg is not None:
        parts.append(f"CO₂ {_change(uncontrolled.emissions_kg, planned.emissions_kg)}")
    parts.append(f"peak {uncontrolled.peak_kw:.0f} → {planned.peak_kw:.0f} kW")
    return "   ".join(parts)


def _change(before: float, after: float) -> str:
    return f"{100.0 * (after / before - 1.0):+.0f} %".replace("-", "−") if before > 0.0 else f"{after:.2f}"


def _edges(site: DemoSite) -> tuple[float, FloatArray]:
    """Start of the axis and edges of the steps as matplotlib dates."""
    index = pd.DatetimeIndex(site.price_per_kwh.index)
    ends = pd.DatetimeIndex([*index, index[-1] + (index[1] - index[0])])
    edges = _days(ends, site)
    return float(edges[0]), edges


def _days(times: pd.DatetimeIndex, site: DemoSite) -> FloatArray:
    """Matplotlib dates (days since 1970) in local time.

    The offset at the start serves for all, so that the axis stays even across a change of the clock.
    """
    start = pd.Timestamp(site.price_per_kwh.index[0]).tz_convert(site.time_zone)
    offset = start.utcoffset() or timedelta(0)
    since = times.tz_convert("UTC") - pd.Timestamp(0, tz="UTC") + offset
    return np.asarray(since / pd.Timedelta(days=1), dtype=np.float64)


def _time_axis(axes: Axes, site: DemoSite) -> None:
    hours = len(site.price_per_kwh) * site.step_h
    every = range(0, 24, 3 if hours <= 30 else 6)
    axes.xaxis.set_major_locator(mdates.HourLocator(byhour=every))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.set_xlabel(f"time of day ({site.time_zone})", color=QUIET, fontsize=8)


def _style(axes: Axes) -> None:
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=0, labelcolor=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set_color(GRID)
