"""The picture of the chapter: one car sold twice on a time line, and the same evening under three remedies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from evflex.cli.demo.activation.evening import CAR_CLOUD, CHARGE_NET, PLUG_IN_HOUR, Evening, Offer, Side, clock
from evflex.cli.demo.activation.outcome import (
    REFUSED,
    SOLD,
    SUSPENDED,
    ActOutcome,
    EveningOutcome,
    Sale,
    interval,
    main_conflict,
)
from evflex.cli.demo.look import (
    DASHED,
    GRID,
    INK,
    LIMIT,
    METADATA,
    PLANNED,
    QUIET,
    UNCONTROLLED,
    blank_figure,
    heading,
    style,
)

WIDTH_INCHES = 9.6
HEIGHT_INCHES = 8.0
FIRST_HOUR, LAST_HOUR = 17.0, 21.5
COLOURS = {CAR_CLOUD: PLANNED, CHARGE_NET: UNCONTROLLED}
PLUGGED = "#c9d1d6"
SHADE = "#f7dcd9"
SMALL = 8
BAR_HEIGHT = 0.72
SUBTITLE = "Each sale was fine by itself. At plug-in the ledger suspends the later one, and tells both."
ROWS = (Side.CAR, Side.CHARGE_POINT, Side.SESSION)
# keeps a label apart from hatches behind it
ON_HATCHES = withStroke(linewidth=3.5, foreground="white")


def draw(evening: Evening, outcome: EveningOutcome, path: Path) -> None:
    """Draw the evening and write a PNG.

    Args:
        evening: Clock of the story.
        outcome: What the offers came to.
        path: File to write.
    """
    without, *remedies = outcome.acts
    figure = blank_figure(WIDTH_INCHES, HEIGHT_INCHES)
    names = [remedy.act.area_id for remedy in remedies]
    rows: list[Any] = [["story"] * len(names), names, [f"{name} text" for name in names]]
    panels = figure.subplot_mosaic(rows, height_ratios=[3.0, 2.4, 1.25])
    story = panels["story"]
    _timeline(story, evening, without, large=True)
    heading(story, _title(evening, without), SUBTITLE)
    figure.legend(
        handles=[*_keys()], loc="outside lower center", ncols=6, frameon=False, fontsize=SMALL, handlelength=2.2
    )
    for number, remedy in enumerate(remedies, start=1):
        name = remedy.act.area_id
        _timeline(panels[name], evening, remedy, large=False)
        panels[name].tick_params(labelleft=name == names[0])
        panels[name].set_title(
            f"Remedy {number}: {remedy.act.title}\n", loc="left", fontsize=10, fontweight="bold", color=INK
        )
        panels[name].text(
            0.0, 1.03, _sums(remedy), transform=panels[name].transAxes, fontsize=SMALL, color=QUIET, va="bottom"
        )
        _balance(panels[f"{name} text"], remedy)
    figure.savefig(path, metadata=METADATA)


def _timeline(axes: Axes, evening: Evening, outcome: ActOutcome, *, large: bool) -> None:
    """Rows of what is sold, the session below, and the hours in which something was sold twice."""
    style(axes)
    lanes = _lanes(outcome.sales)
    for row, side in enumerate(ROWS):
        if side == Side.SESSION:
            _plugged_in(axes, row + 0.5, large=large)
        placed = [(sale, lane) for sale, lane in lanes if sale.offer.side == side]
        height = 1.0 / max([lane + 1 for _, lane in placed], default=1)
        for sale, lane in placed:
            _bar(axes, sale, row + (lane + 0.5) * height, BAR_HEIGHT * height**0.8, large=large)
        axes.axhline(row + 1.0, color=GRID, linewidth=0.8, zorder=0)
    if large:
        for sale in outcome.with_result(SUSPENDED):
            _mark_conflict(axes, evening, sale)
    axes.axvline(PLUG_IN_HOUR, color=INK, linewidth=1.0, linestyle=DASHED, zorder=1)
    axes.set_ylim(len(ROWS), -0.3 if large else 0.0)
    axes.set_yticks([row + 0.5 for row in range(len(ROWS))], ["car", "charge\npoint", "session"])
    axes.set_xlim(FIRST_HOUR, LAST_HOUR)
    hours = range(int(FIRST_HOUR), int(LAST_HOUR) + 1)
    axes.set_xticks(list(hours), [clock(hour) if large else f"{hour}" for hour in hours])
    axes.set_xlabel("time of day" if large else "hour", color=QUIET, fontsize=SMALL)


def _lanes(sales: Sequence[Sale]) -> list[tuple[Sale, int]]:
    """Each sale with the first lane of its row in which nothing drawn before meets it."""
    placed: list[tuple[Sale, int]] = []
    for sale in sales:
        taken = {lane for other, lane in placed if _meet(sale.offer, other.offer)}
        placed.append((sale, next(lane for lane in range(len(sales)) if lane not in taken)))
    return placed


def _meet(one: Offer, other: Offer) -> bool:
    return one.side == other.side and one.start_hour < other.end_hour and other.start_hour < one.end_hour


def _plugged_in(axes: Axes, middle: float, *, large: bool) -> None:
    """The session: from plug-in on, and beyond the picture."""
    height = BAR_HEIGHT if large else 0.96
    axes.add_patch(
        Rectangle((PLUG_IN_HOUR, middle - 0.5 * height), LAST_HOUR - PLUG_IN_HOUR, height, color=PLUGGED, linewidth=0.0)
    )
    if large:
        text = f"the car is plugged in from {clock(PLUG_IN_HOUR)}; before, no one can tell where it will be"
        axes.text(PLUG_IN_HOUR + 0.08, middle, text, va="center", fontsize=SMALL + 1, color=INK)


def _bar(axes: Axes, sale: Sale, middle: float, height: float, *, large: bool) -> None:
    """A sale: full where it stands, hatched where it was suspended, empty where it was refused."""
    offer, colour = sale.offer, COLOURS[sale.offer.aggregator]
    corner = (offer.start_hour + 0.02, middle - 0.5 * height)
    length = offer.end_hour - offer.start_hour - 0.04
    axes.add_patch(Rectangle(corner, length, height, zorder=2, **_looks(sale.result, colour)))
    words = f"{offer.power_kw:g} kW {sale.result}"
    if large:
        words = f"{offer.aggregator}: {words}" if length > 1.5 else f"{offer.aggregator}:\n{words} at once"
        words += " at plug-in" if sale.result == SUSPENDED else ""
    elif length < 1.5:
        words = f"{offer.power_kw:g} kW\n{sale.result}"
    stands = sale.result == SOLD
    axes.text(
        corner[0] + 0.5 * length, middle, words, ha="center", va="center", zorder=3,
        fontsize=SMALL + 1 if large else SMALL - (1 if "\n" in words else 0), fontweight="bold" if large else "normal",
        color="white" if stands else LIMIT, path_effects=[] if stands else [ON_HATCHES], linespacing=0.95,
    )  # fmt: skip


def _looks(result: str, colour: str) -> dict[str, Any]:
    """How a bar looks."""
    if result == SOLD:
        return {"facecolor": colour, "edgecolor": colour, "linewidth": 1.2}
    if result == SUSPENDED:
        return {"facecolor": to_rgba(colour, 0.25), "edgecolor": colour, "linewidth": 1.2, "hatch": "////"}
    return {"facecolor": "white", "edgecolor": colour, "linewidth": 1.4, "linestyle": DASHED}


def _mark_conflict(axes: Axes, evening: Evening, sale: Sale) -> None:
    """Shade the hours in which a suspended sale met another."""
    conflict = main_conflict(sale)
    if conflict is None or conflict.start_time is None or conflict.end_time is None:
        return
    start, end = evening.hour(conflict.start_time), evening.hour(conflict.end_time)
    axes.axvspan(start, end, color=SHADE, linewidth=0.0, zorder=0.5)
    axes.text(
        0.5 * (start + end), -0.12, f"{conflict.excess_kw:g} kW sold twice", ha="center", va="center",
        fontsize=SMALL + 1, fontweight="bold", color=LIMIT,
    )  # fmt: skip


def _balance(axes: Axes, outcome: ActOutcome) -> None:
    """What a remedy gives and costs."""
    axes.set_axis_off()
    for height, sign, colour, text in ((1.0, "+", PLANNED, outcome.act.gives), (0.46, "−", LIMIT, outcome.act.costs)):
        axes.text(0.0, height, sign, transform=axes.transAxes, fontsize=11, fontweight="bold", color=colour, va="top")
        axes.text(
            0.075,
            height,
            fill(text, 42),
            transform=axes.transAxes,
            fontsize=SMALL,
            color=INK,
            va="top",
            linespacing=1.2,
        )


def _keys() -> list[Patch]:
    """What colours and hatches mean."""
    return [
        *(Patch(color=colour, label=f"sold by {name}") for name, colour in COLOURS.items()),
        Patch(**_looks(SUSPENDED, QUIET), label="suspended at plug-in"),
        Patch(**_looks(REFUSED, QUIET), label="refused at once"),
        Patch(color=PLUGGED, label="plugged in"),
    ]


def _title(evening: Evening, outcome: ActOutcome) -> str:
    """What happened, in one line."""
    for sale in outcome.with_result(SUSPENDED):
        conflict = main_conflict(sale)
        if conflict is not None and conflict.start_time is not None and conflict.end_time is not None:
            when = interval(evening.hour(conflict.start_time), evening.hour(conflict.end_time))
            return f"One car, sold twice: {conflict.excess_kw:g} kW from {when.replace('–', ' to ')}"
    return "One car, sold once"


def _sums(outcome: ActOutcome) -> str:
    """Powers by what they came to."""
    parts = []
    for result in (SOLD, SUSPENDED, REFUSED):
        powers = [f"{sale.offer.power_kw:g}" for sale in outcome.with_result(result)]
        if powers:
            parts.append(f"{result} {' + '.join(powers)} kW")
    return ", ".join(parts)
