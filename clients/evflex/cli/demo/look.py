"""How the pictures of the demo look: colours, axes of local time, headings."""

from __future__ import annotations

from datetime import timedelta

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

INK = "#1d2b36"
QUIET = "#7b8a95"
GRID = "#dfe5e9"
PRICE = "#5b4b8a"
PLANNED = "#0a7d8c"
UNCONTROLLED = "#e07b39"
LIMIT = "#b3261e"
DASHED = (0, (4, 1.5))
METADATA = {"Software": "evflex demo"}


def blank_figure(width_inches: float, height_inches: float) -> Figure:
    """A figure that needs no display."""
    size = (width_inches, height_inches)
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes) -> None:
    """Quiet lines and small figures."""
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=0, labelcolor=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set_color(GRID)


def heading(axes: Axes, title: str, headline: str) -> None:
    """A title, and below it what it comes to."""
    axes.set_title(headline, loc="left", fontsize=9, color=QUIET, pad=6)
    axes.annotate(
        title, (0.0, 1.0), (0.0, 19.0), xycoords="axes fraction", textcoords="offset points",
        fontsize=12, fontweight="bold", color=INK,
    )  # fmt: skip


def price_steps(axes: Axes, price_per_kwh: pd.Series, edges: FloatArray, label: str, currency_code: str) -> None:
    """Draw a price in hundredths of the currency."""
    axes.stairs(100.0 * price_per_kwh.to_numpy(), edges, color=PRICE, linewidth=1.6, baseline=None)
    axes.axhline(0.0, color=GRID, linewidth=0.8, zorder=0)
    axes.margins(y=0.12)
    cents = {"EUR": "ct", "USD": "¢"}.get(currency_code, f"{currency_code}/100")
    axes.set_ylabel(f"{label}\n[{cents}/kWh]", color=PRICE)
    axes.tick_params(axis="y", labelcolor=PRICE)


def step_edges(index: pd.Index, time_zone: str) -> FloatArray:
    """Edges of steps as matplotlib dates of local time.

    Args:
        index: Start of each step.
        time_zone: Zone shown.
    """
    starts = pd.DatetimeIndex(index)
    ends = pd.DatetimeIndex([*starts, starts[-1] + (starts[1] - starts[0])])
    return local_dates(ends, starts[0], time_zone)


def local_dates(times: pd.DatetimeIndex, start: pd.Timestamp, time_zone: str) -> FloatArray:
    """Matplotlib dates (days since 1970) in local time.

    The offset at the start serves for all, so that the axis stays even across a change of the clock.

    Args:
        times: Instants.
        start: Start of the axis.
        time_zone: Zone shown.
    """
    offset = start.tz_convert(time_zone).utcoffset() or timedelta(0)
    since = times.tz_convert("UTC") - pd.Timestamp(0, tz="UTC") + offset
    return np.asarray(since / pd.Timedelta(days=1), dtype=np.float64)


def time_axis(axes: Axes, edges: FloatArray, time_zone: str) -> None:
    """Label the hours between the first edge and the last."""
    hours = 24.0 * float(edges[-1] - edges[0])
    every = range(0, 24, 3 if hours <= 30 else 6)
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.xaxis.set_major_locator(mdates.HourLocator(byhour=every))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.set_xlabel(f"time of day ({time_zone})", color=QUIET, fontsize=8)


def rounded_change(before: float, after: float) -> str:
    """Change in whole percent."""
    return f"{100.0 * (after / before - 1.0):+.0f} %".replace("-", "−") if before > 0.0 else f"{after:.2f}"
