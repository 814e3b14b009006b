"""The picture of the chapter: what the transformer carries, how hot it gets, and what each hub may draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from evflex.cli.demo.capacity.evening import (
    CONTRACTS,
    HOMES,
    MAX_HOT_SPOT_C,
    MAX_TOP_OIL_C,
    RATED_KVA,
    ROAD,
    TIME_ZONE,
    Evening,
)
from evflex.cli.demo.capacity.outcome import EveningOutcome
from evflex.cli.demo.look import (
    DASHED,
    GRID,
    INK,
    LIMIT,
    METADATA,
    PLANNED,
    PRICE,
    QUIET,
    UNCONTROLLED,
    FloatArray,
    blank_figure,
    heading,
    step_edges,
    style,
    time_axis,
)

WIDTH_INCHES = 8.8
HEIGHT_INCHES = 8.4
BASE = "#c9d1d6"
HOT_SPOT = PRICE
TOP_OIL = "#4f6d7a"
SHADE = "#f3ecdc"
HUB_COLOURS = {HOMES: PLANNED, ROAD: UNCONTROLLED}
FIRM_COLOURS = {HOMES: "#064a53", ROAD: "#8f4310"}
SMALL = 8
# keeps a label apart from lines behind it
ON_LINES = withStroke(linewidth=3.0, foreground="white")


def draw(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Draw the evening and write a PNG.

    Args:
        evening: What was given.
        outcome: Answers of the server.
        path: File to write.
    """
    figure = blank_figure(WIDTH_INCHES, HEIGHT_INCHES)
    panels = figure.subplots(4, 1, sharex=True, height_ratios=[2.6, 1.7, 1.0, 1.0])
    load_axes, heat_axes, *hub_axes = panels
    edges = step_edges(evening.base_kw.index, TIME_ZONE)
    for axes in panels:
        style(axes)
        _shade_contingency(axes, evening, edges)
    _load(load_axes, evening, outcome, edges)
    _heat(heat_axes, outcome, edges)
    for axes, hub_id in zip(hub_axes, CONTRACTS, strict=True):
        _capacity(axes, outcome, hub_id, edges)
    time_axis(hub_axes[-1], edges, TIME_ZONE)
    heading(load_axes, f"Two charging hubs behind a transformer of {RATED_KVA:g} kVA", _headline(outcome))
    figure.align_ylabels(list(panels))
    figure.savefig(path, metadata=METADATA)


def _load(axes: Axes, evening: Evening, outcome: EveningOutcome, edges: FloatArray) -> None:
    """Homes and hubs on top of each other, against what the transformer may carry."""
    shared, below = outcome.shared, evening.base_kva
    axes.stairs(below, edges, fill=True, color=BASE, label="homes")
    drawn_kw = np.zeros(len(below))
    for hub_id, contract in CONTRACTS.items():
        drawn_kw = drawn_kw + shared.power_kw[hub_id].to_numpy()
        top = evening.apparent_kva(drawn_kw)
        axes.stairs(
            top, edges, baseline=below, fill=True, color=HUB_COLOURS[hub_id], alpha=0.75, linewidth=0.0,
            label=contract.title,
        )  # fmt: skip
        below = top
    entitled = shared.transformer["loading_ratio"].to_numpy() * RATED_KVA
    axes.stairs(entitled, edges, color=INK, linewidth=1.0, baseline=None, label="if hubs draw all their capacity")
    limit = evening.limit_kva
    axes.stairs(limit, edges, color=LIMIT, linewidth=1.6, baseline=None)
    axes.axhline(RATED_KVA, color=QUIET, linewidth=1.0, linestyle=DASHED)
    _at_right(axes, edges, float(limit[-1]), "limit of loading", LIMIT)
    _at_right(axes, edges, RATED_KVA, "rated power", QUIET)
    axes.set_ylim(0.0, 1.22 * float(max(limit.max(), entitled.max())))
    axes.set_ylabel("load of the transformer\n[kVA]")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.legend(loc="upper left", ncols=4, frameon=False, fontsize=SMALL, handlelength=1.6, columnspacing=1.2)
    steps = np.flatnonzero(evening.contingency)
    if len(steps):
        middle = 0.5 * float(edges[steps[0]] + edges[steps[-1] + 1])
        # just above the lowered limit, where hubs cannot reach
        axes.annotate(
            "N-1", (middle, float(limit[steps[0]])), (0.0, 6.0), textcoords="offset points", ha="center", va="bottom",
            fontsize=SMALL, fontweight="bold", color=INK,
        )  # fmt: skip


def _heat(axes: Axes, outcome: EveningOutcome, edges: FloatArray) -> None:
    """Temperatures if all hubs draw all their capacity, with their limits."""
    transformer = outcome.shared.transformer
    middles = 0.5 * (edges[:-1] + edges[1:])
    for column, limit_c, label, colour, offset_points in (
        ("hot_spot_c", MAX_HOT_SPOT_C, "hot-spot", HOT_SPOT, 5.0),
        ("top_oil_c", MAX_TOP_OIL_C, "top-oil", TOP_OIL, -12.0),
    ):
        values = transformer[column].to_numpy()
        axes.plot(middles, values, color=colour, linewidth=1.8)
        axes.axhline(limit_c, color=colour, linewidth=1.2, linestyle=DASHED)
        _at_right(axes, edges, limit_c, f"limit of {label}", colour)
        hottest = int(values.argmax())
        axes.annotate(
            label, (float(middles[hottest]), float(values[hottest])), (0.0, offset_points),
            textcoords="offset points", ha="center", fontsize=SMALL, color=colour, path_effects=[ON_LINES],
        )  # fmt: skip
    lowest = float(transformer["top_oil_c"].min())
    axes.set_ylim(min(0.0, lowest - 5.0), 1.12 * max(MAX_HOT_SPOT_C, float(transformer["hot_spot_c"].max())))
    axes.set_ylabel("temperature\n[°C]")
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _capacity(axes: Axes, outcome: EveningOutcome, hub_id: str, edges: FloatArray) -> None:
    """Capacity of one hub: firm below, conditional on top, and what is used of it."""
    contract, capacity_kw = CONTRACTS[hub_id], outcome.shared.capacity_kw[hub_id].to_numpy()
    firm_kw = np.minimum(contract.terms.firm_kw, capacity_kw)
    colour = HUB_COLOURS[hub_id]
    axes.stairs(capacity_kw, edges, baseline=firm_kw, fill=True, color=colour, alpha=0.35, linewidth=0.0)
    axes.stairs(
        firm_kw, edges, fill=True, facecolor=FIRM_COLOURS[hub_id], edgecolor="white", hatch="////", linewidth=0.0
    )
    axes.stairs(capacity_kw, edges, color=colour, linewidth=1.6, baseline=None)
    axes.axhline(0.0, color=GRID, linewidth=0.8, zorder=0)
    _at_right(axes, edges, 0.5 * contract.terms.firm_kw, f"firm {contract.terms.firm_kw:g} kW", FIRM_COLOURS[hub_id])
    highest_kw = float(max(capacity_kw.max(), contract.terms.firm_kw))
    conditional = f"conditional,\nup to {contract.terms.conditional_kw:g} kW"
    _at_right(axes, edges, 0.55 * highest_kw, conditional, colour)
    axes.set_ylim(0.0, 1.15 * highest_kw)
    axes.set_ylabel(f"{contract.title}\n[kW]", color=FIRM_COLOURS[hub_id])
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _shade_contingency(axes: Axes, evening: Evening, edges: FloatArray) -> None:
    steps = np.flatnonzero(evening.contingency)
    if len(steps):
        axes.axvspan(float(edges[steps[0]]), float(edges[steps[-1] + 1]), color=SHADE, linewidth=0.0, zorder=0)


def _at_right(axes: Axes, edges: FloatArray, height: float, text: str, colour: str) -> None:
    """A label behind the last step, at the height of what it names."""
    axes.annotate(
        text, (float(edges[-1]), height), (5.0, 0.0), textcoords="offset points", ha="left", va="center",
        fontsize=SMALL, color=colour, annotation_clip=False,
    )  # fmt: skip


def _headline(outcome: EveningOutcome) -> str:
    hubs, temperature_c = outcome.hubs, outcome.shared.transformer["hot_spot_c"].max()
    return (
        f"served {hubs['served_kwh'].sum():,.0f} of {hubs['wanted_kwh'].sum():,.0f} kWh wanted   "
        f"with firm capacity alone {hubs['firm_only_kwh'].sum():,.0f} kWh   "
        f"hottest winding {temperature_c:.0f} °C"
    )
