"""The picture of the chapter: a map of the feeder by loading and voltage, and the evening below it."""

from __future__ import annotations

from dataclasses import dataclass
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
from evflex.cli.demo.congestion.outcome import EveningOutcome, loading_of, voltage_of
from evflex.cli.demo.congestion.village import NOMINAL_V, TRANSFORMER
from evflex.cli.demo.look import (
    LIMIT,
    METADATA,
    PLANNED,
    FloatArray,
    blank_figure,
    heading,
    step_edges,
    style,
    time_axis,
)
from evflex.client import PowerFlow

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
    heading(
        map_axes, f"A village on a winter evening at {OUTDOOR_C:.0f} °C".replace("-", "−"), _headline(evening, outcome)
    )
    voltage_axes, loading_axes = (figure.add_subplot(grid[1, column]) for column in (0, 1))
    _over_time(voltage_axes, evening, outcome, _voltage(outcome))
    voltage_axes.set_ylabel("lowest voltage\n[V]")
    _over_time(loading_axes, evening, outcome, _loading(outcome))
    loading_axes.set_ylabel("transformer loading\n[%]")
    figure.savefig(path, metadata=METADATA)


@dataclass(frozen=True, slots=True)
class _Course:
    """A value over the evening: as expected, and with the relief of what is congested most; its limit."""

    values: FloatArray
    relieved: FloatArray
    limit: float
    colour: tuple[float, float, float, float]
    below: bool


def _voltage(outcome: EveningOutcome) -> _Course:
    lowest_v = [NOMINAL_V * voltage_of(flow).min(axis=1).to_numpy() for flow in _flows(outcome)]
    return _Course(lowest_v[0], lowest_v[-1], NOMINAL_V * VOLTAGE_MIN_PU, VOLTAGE_COLOURS(0.85), below=True)


def _loading(outcome: EveningOutcome) -> _Course:
    percent = [100.0 * loading_of(flow)[TRANSFORMER].to_numpy() for flow in _flows(outcome)]
    return _Course(percent[0], percent[-1], 100.0 * MAX_LOADING_RATIO, LOADING_COLOURS(0.8), below=False)


def _flows(outcome: EveningOutcome) -> list[PowerFlow]:
    """As expected, and relieved if something is congested."""
    return [outcome.flow, *(proof.flow for proof in outcome.proofs[:1])]


def _over_time(axes: Axes, evening: Evening, outcome: EveningOutcome, course: _Course) -> None:
    """A course against its limit, with the time shaded in which it is beyond it."""
    style(axes)
    edges = step_edges(evening.index, TIME_ZONE)
    values, limit, below = course.values, course.limit, course.below
    for step in np.flatnonzero(values < limit if below else values > limit):
        axes.axvspan(edges[step], edges[step + 1], color=SHADE, linewidth=0.0, zorder=0)
    axes.stairs(values, edges, color=course.colour, linewidth=1.8, baseline=None)
    axes.axhline(limit, color=LIMIT, linewidth=1.3)
    changed = np.where(np.abs(course.relieved - values) > 1e-9, course.relieved, np.nan)
    axes.stairs(changed, edges, color=PLANNED, linewidth=2.2, baseline=None, label=_relief(evening, outcome))
    low, high = min(float(values.min()), limit), max(float(values.max()), limit)
    room = 0.12 * (high - low)
    axes.set_ylim(low - 1.6 * room, high + 2.2 * room)
    axes.annotate(
        "limit", (float(edges[-1]), limit), (-3.0, -3.0 if below else 3.0), textcoords="offset points", ha="right",
        va="top" if below else "bottom", fontsize=SMALL, color=LIMIT,
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if outcome.proofs:
        axes.legend(loc="upper center" if below else "lower center", frameon=False, fontsize=SMALL, handlelength=2.4)
    time_axis(axes, edges, TIME_ZONE)


def _relief(evening: Evening, outcome: EveningOutcome) -> str:
    """The relief that is shown."""
    if not outcome.proofs:
        return ""
    proof = outcome.proofs[0]
    return f"with −{proof.relief_kw.max():.0f} kW at {evening.village.name_of(proof.congestion['relief_bus_id'])}"


def _headline(evening: Evening, outcome: EveningOutcome) -> str:
    houses, cars = len(evening.village.houses), evening.car_count
    return (
        f"{houses} homes with heat pumps and {cars} cars of 11 kW   "
        f"lowest voltage {NOMINAL_V * outcome.lowest_voltage_pu.min():.0f} V   "
        f"transformer up to {100.0 * loading_of(outcome.flow)[TRANSFORMER].max():.0f} %"
    )
