"""The map of the feeder: cables coloured by loading, houses by voltage, congested elements ringed and labelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patheffects import withStroke

from evflex.cli.demo.congestion.evening import MAX_LOADING_RATIO, VOLTAGE_MIN_PU, Evening
from evflex.cli.demo.congestion.outcome import (
    UNDERVOLTAGE,
    EveningOutcome,
    Proof,
    congestions_of,
    expected,
    loading_of,
    voltage_of,
)
from evflex.cli.demo.congestion.village import BOARD_BUS, NOMINAL_V, TRANSFORMER, Village
from evflex.cli.demo.look import DASHED, INK, LIMIT, QUIET

# Both grow darker towards the limit and differ in hue, so they tell the same to eyes that see few colours.
LOADING_COLOURS = LinearSegmentedColormap.from_list("loading", ["#f2dfb3", "#e9a64d", "#b5541c", "#4a1a06"])
VOLTAGE_COLOURS = LinearSegmentedColormap.from_list("voltage", ["#dcebf5", "#6fa8d0", "#2b5f9e", "#0d1f4b"])
LOADING_RANGE = Normalize(0.0, 1.2)
# Dark is low: the map's colours are of what is missing to the nominal voltage.
VOLTAGE_RANGE = Normalize(0.0, 0.12)
_HOUSE_POINTS, _BOARD_POINTS, _RING_POINTS = 7.5, 15.0, 13.0
_MAIN_WIDTH, _SERVICE_WIDTH = 5.0, 1.6
SMALL = 8
# From a street to its name, so that the houses of that side stand between them.
_NAME_APART_M = 46.0
_ON_MAP = withStroke(linewidth=3.0, foreground="white")
# Where labels stand beside what they name, and where their line begins: of the transformer to the right, where no
# street leads, of others above.
_LABELS = {True: ("left", (58.0, -16.0), (0.0, 0.5)), False: ("center", (-30.0, 56.0), (0.5, 0.0))}


@dataclass(frozen=True, slots=True)
class _Worst:
    """The worst of the evening: loading by branch, voltage by bus."""

    loading: pd.Series
    voltage_pu: pd.Series


def draw_map(axes: Axes, evening: Evening, outcome: EveningOutcome) -> None:
    """Draw the feeder with the worst of the evening."""
    village = evening.village
    worst = _Worst(loading_of(outcome.flow).max(), voltage_of(outcome.flow).min())
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    _cables(axes, village, worst)
    _tie(axes, evening, outcome)
    _buses(axes, village, worst)
    _street_names(axes, village)
    rows = expected(congestions_of(outcome.forecast))
    _rings(axes, village, rows)
    for proof in outcome.proofs:
        _label(axes, village, rows, proof)
    _legend(axes)


def _cables(axes: Axes, village: Village, worst: _Worst) -> None:
    lines = village.lines[~village.lines["is_tie"]]
    for is_service, width in ((True, _SERVICE_WIDTH), (False, _MAIN_WIDTH)):
        part = lines[lines["is_service"] == is_service]
        strokes = LineCollection(
            [[village.place(a), village.place(b)] for a, b in zip(part["from_bus_id"], part["to_bus_id"], strict=True)],
            cmap=LOADING_COLOURS, norm=LOADING_RANGE, linewidths=width, capstyle="round", zorder=2,
        )  # fmt: skip
        strokes.set_array(worst.loading.reindex(part.index).to_numpy())
        axes.add_collection(strokes)


def _tie(axes: Axes, evening: Evening, outcome: EveningOutcome) -> None:
    """The cable that is open as a rule, and what it does when it is closed."""
    village = evening.village
    ends = village.lines.loc[village.tie, ["from_bus_id", "to_bus_id"]]
    (x_a, y_a), (x_b, y_b) = (village.place(str(end)) for end in ends)
    axes.plot([x_a, x_b], [y_a, y_b], color=QUIET, linewidth=1.6, linestyle=DASHED, zorder=1)
    axes.annotate(
        f"tie, open as a rule,\n{_outage_text(evening, outcome)}", (0.5 * (x_a + x_b), 0.5 * (y_a + y_b)), (7.0, 4.0),
        textcoords="offset points", va="bottom", fontsize=SMALL, color=QUIET, linespacing=1.35,
    )  # fmt: skip


def _outage_text(evening: Evening, outcome: EveningOutcome) -> str:
    """What becomes of voltages when the tie must feed one of the two streets."""
    outages = [expected(congestions_of(outcome.forecast, branch_id)) for branch_id in evening.contingencies]
    low_pu = [rows.loc[rows["kind"] == UNDERVOLTAGE, "worst_value"].min() for rows in outages]
    streets = [str(evening.village.lines.at[branch_id, "street"]) for branch_id in evening.contingencies]
    told = f"closed when the first cable\nof {' or '.join(streets)} fails"
    return told if np.isnan(low_pu).all() else f"{told}:\nvoltage down to {NOMINAL_V * np.nanmin(low_pu):.0f} V then"


def _buses(axes: Axes, village: Village, worst: _Worst) -> None:
    houses = village.buses.loc[village.houses]
    axes.scatter(
        houses["x"], houses["y"], s=_HOUSE_POINTS**2, c=1.0 - worst.voltage_pu.reindex(houses.index),
        cmap=VOLTAGE_COLOURS, norm=VOLTAGE_RANGE, edgecolors="white", linewidths=0.8, zorder=3,
    )  # fmt: skip
    board = village.place(BOARD_BUS)
    colour = LOADING_COLOURS(LOADING_RANGE(float(worst.loading[TRANSFORMER])))
    axes.scatter(
        [board[0]], [board[1]], s=_BOARD_POINTS**2, marker="s", c=[colour], edgecolors="white", linewidths=1.2, zorder=4
    )


def _street_names(axes: Axes, village: Village) -> None:
    """Each name beside the middle of its street, along it, where no house stands."""
    for street in village.streets:
        joints = [str(bus) for bus in village.lines.loc[village.cables(street), "to_bus_id"]]
        places = np.array([village.place(bus) for bus in joints])
        middle = len(places) // 2
        along = places[min(middle + 3, len(places) - 1)] - places[max(middle - 3, 0)]
        along = along if along[0] >= 0.0 else -along
        across = np.array([-along[1], along[0]]) / np.hypot(*along)
        x, y = places[middle] + _NAME_APART_M * across
        axes.text(
            x, y, street, rotation=float(np.rad2deg(np.arctan2(along[1], along[0]))), rotation_mode="anchor",
            ha="center", va="center", fontsize=9, fontweight="bold", color=INK, path_effects=[_ON_MAP], zorder=6,
        )  # fmt: skip


def _rings(axes: Axes, village: Village, rows: pd.DataFrame) -> None:
    """Rings around houses, and around the middle of cables, and a square around the transformer."""
    elements = set(rows["element_id"])
    places = [village.place(bus) for bus in village.houses if bus in elements]
    for branch_id in village.lines.index[village.lines.index.isin(elements)]:
        ends = village.lines.loc[branch_id, ["from_bus_id", "to_bus_id"]]
        places.append(tuple(np.mean([village.place(str(end)) for end in ends], axis=0)))
    if places:
        ringed = np.array(places)
        axes.scatter(
            ringed[:, 0], ringed[:, 1], s=_RING_POINTS**2, facecolors="none", edgecolors=LIMIT, linewidths=1.5, zorder=5
        )
    if TRANSFORMER in elements:
        x, y = village.place(BOARD_BUS)
        axes.scatter(
            [x], [y], s=(_BOARD_POINTS + 7.0) ** 2, marker="s", facecolors="none", edgecolors=LIMIT, linewidths=1.5,
            zorder=5,
        )  # fmt: skip


def _label(axes: Axes, village: Village, rows: pd.DataFrame, proof: Proof) -> None:
    """What is congested, and what clears it, beside the element with a line to it."""
    congestion = proof.congestion
    of_voltage = str(congestion["kind"]).endswith("VOLTAGE")
    element, bus = str(congestion["element_id"]), str(congestion["relief_bus_id"])
    is_transformer = element == TRANSFORMER
    relief = f"−{proof.relief_kw.max():.0f} kW"
    probability = f"{100.0 * congestion['probability']:.0f} %"
    if of_voltage:
        alike = village.known(rows.loc[rows["kind"] == congestion["kind"], "element_id"])
        number = village.name_of(element).split()[-1]
        told = (
            f"{len(alike)} houses below {NOMINAL_V * congestion['limit']:.0f} V\n"
            f"number {number}: {NOMINAL_V * congestion['worst_value']:.0f} V, probability {probability}"
        )
        place = village.place(element)
    else:
        told = f"{village.name_of(element)} at {100.0 * congestion['worst_value']:.0f} %, probability {probability}"
        place = village.place(BOARD_BUS if is_transformer else str(village.lines.at[element, "to_bus_id"]))
    cleared = f"{relief} here clears it" if bus == element else f"{relief} at {village.name_of(bus)} clears it"
    align, offset, line_end = _LABELS[is_transformer]
    axes.annotate(
        f"{told}\n{cleared}", place, offset, textcoords="offset points", ha=align, va="center", fontsize=SMALL,
        color=LIMIT, fontweight="bold", linespacing=1.35, path_effects=[_ON_MAP], zorder=7,
        arrowprops={
            "arrowstyle": "-", "color": LIMIT, "linewidth": 1.0, "shrinkA": 2.0,
            "shrinkB": 12.0 if is_transformer else 7.0, "relpos": line_end,
        },
    )  # fmt: skip


def _legend(axes: Axes) -> None:
    """Colour bars in the corner where no street leads; limits stand where the bar has a stroke."""
    bars = (
        (
            "cables and transformer: highest loading", LOADING_COLOURS, "0 %",
            f"limit {100.0 * MAX_LOADING_RATIO:.0f} %", MAX_LOADING_RATIO, LOADING_RANGE,
        ),
        (
            "houses: lowest voltage", VOLTAGE_COLOURS, f"{NOMINAL_V:.0f} V",
            f"limit {VOLTAGE_MIN_PU * NOMINAL_V:.0f} V", 1.0 - VOLTAGE_MIN_PU, VOLTAGE_RANGE,
        ),
    )  # fmt: skip
    for row, (title, colours, none, limit_text, limit, scale) in enumerate(bars):
        bar = axes.inset_axes((0.005, 0.93 - 0.13 * row, 0.24, 0.024))
        bar.imshow(np.linspace(0.0, 1.0, 256)[None], aspect="auto", cmap=colours, extent=(0.0, 1.0, 0.0, 1.0))
        bar.set_axis_off()
        at = float(scale(limit))
        bar.axvline(at, color=LIMIT, linewidth=2.5)
        for x, text, colour, align in ((0.0, none, INK, "left"), (at, limit_text, LIMIT, "center")):
            bar.annotate(
                text,
                (x, 0.0),
                (0.0, -3.0),
                textcoords="offset points",
                ha=align,
                va="top",
                fontsize=SMALL,
                color=colour,
            )
        bar.set_title(title, fontsize=SMALL, color=INK, loc="left", pad=3)
