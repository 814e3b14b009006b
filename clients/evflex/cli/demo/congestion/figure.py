"""The picture of the chapter: a map of the feeder by loading and voltage, and the evening below it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from evflex.cli.demo.congestion.evening import (
    MAX_LOADING_RATIO,
    OUTDOOR_C,
    TIME_ZONE,
    VOLTAGE_MIN_PU,
    Evening,
)
from evflex.cli.demo.congestion.feeder_map import LOADING_COLOURS, VOLTAGE_COLOURS, draw_map
from evflex.cli.demo.congestion.outcome import EveningOutcome, congestions_of, expected, loading_of
from evflex.cli.demo.congestion.village import NOMINAL_V, TRANSFORMER
from evflex.cli.demo.look import (
    LIMIT,
    METADATA,
    FloatArray,
    blank_figure,
    heading,
    step_edges,
    style,
    time_axis,
)

WIDTH_INCHES = 9.0
HEIGHT_INCHES = 8.8
SHADE = "#f3ecdc"
SMALL = 8


def draw(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Draw the evening and write a PNG.

    Args:
        evening: What was given.
        outcome: Answers of the server.
        path: File to write.
    """
    figure = blank_figure(WIDTH_INCHES, HEIGHT_INCHES)
    grid = figure.add_gridspec(2, 2, height_ratios=[4.4, 1.0])
    map_axes = figure.add_subplot(grid[0, :])
    draw_map(map_axes, evening, outcome)
    heading(map_axes, f"A village on a winter evening at {OUTDOOR_C:.0f} °C".replace("-", "−"), _headline(evening, outcome))
    edges = step_edges(evening.index, TIME_ZONE)
    voltage_axes, loading_axes = (figure.add_subplot(grid[1, column]) for column in (0, 1))
    _over_time(
        voltage_axes, outcome, "VOLTAGE", edges, NOMINAL_V * outcome.lowest_voltage_pu.to_numpy(),
        NOMINAL_V * VOLTAGE_MIN_PU, VOLTAGE_COLOURS(0.85),
    )  # fmt: skip
    voltage_axes.set_ylabel("lowest voltage\n[V]")
    _over_time(
        loading_axes, outcome, "OVERLOAD", edges, 100.0 * loading_of(outcome.flow)[TRANSFORMER].to_numpy(),
        100.0 * MAX_LOADING_RATIO, LOADING_COLOURS(0.8),
    )  # fmt: skip
    loading_axes.set_ylabel("transformer loading\n[%]")
    figure.savefig(path, metadata=METADATA)


def _over_time(
    axes: Axes, outcome: EveningOutcome, kind: str, edges: FloatArray, values: FloatArray, limit: float,
    colour: tuple[float, float, float, float],
) -> None:  # fmt: skip
    """A value against its limit, with the hours shaded in which something of its kind is congested."""
    style(axes)
    rows = expected(congestions_of(outcome.forecast))
    congested = np.zeros(len(values), dtype=bool)
    for start, end in rows.loc[rows["kind"].str.endswith(kind), ["start_step", "end_step"]].to_numpy():
        congested[start:end] = True
    for step in np.flatnonzero(congested):
        axes.axvspan(edges[step], edges[step + 1], color=SHADE, linewidth=0.0, zorder=0)
    axes.stairs(values, edges, color=colour, linewidth=1.8, baseline=None)
    axes.axhline(limit, color=LIMIT, linewidth=1.3)
    low, high = min(float(values.min()), limit), max(float(values.max()), limit)
    room = 0.12 * (high - low)
    axes.set_ylim(low - 1.6 * room, high + 1.6 * room)
    below = kind == "VOLTAGE"
    axes.annotate(
        "limit", (float(edges[-1]), limit), (-3.0, -3.0 if below else 3.0), textcoords="offset points", ha="right",
        va="top" if below else "bottom", fontsize=SMALL, color=LIMIT,
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(4))
    time_axis(axes, edges, TIME_ZONE)


def _headline(evening: Evening, outcome: EveningOutcome) -> str:
    houses, cars = len(evening.village.houses), evening.car_count
    return (
        f"{houses} homes with heat pumps and {cars} cars of 11 kW   "
        f"lowest voltage {NOMINAL_V * outcome.lowest_voltage_pu.min():.0f} V   "
        f"transformer up to {100.0 * loading_of(outcome.flow)[TRANSFORMER].max():.0f} %"
    )
