"""The pictures: every figure as a share of what is allowed, and time by number of sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.registry import Figure
from bench.report import asked, figures, number

_INK, _QUIET, _GRID = "#1d2b36", "#7b8a95", "#dfe5e9"
_MET, _MISSED = "#0a7d8c", "#b3261e"
_LINES = ("#0a7d8c", "#e07b39", "#5b4b8a", "#7a9a01", "#b3261e")
# Shares outside are drawn at the border.
_LEAST, _MOST = 1e-3, 30.0


def draw_overview(results: list[dict[str, Any]], path: Path) -> None:
    """One row a figure: how much of what is allowed it takes, on a logarithmic axis."""
    rows = [figure for result in results for figure in figures(result) if figure.asked is not None]
    sheet = Sheet(figsize=(10.0, 1.3 + 0.34 * max(1, len(rows))), dpi=130, layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots()
    for y, figure in enumerate(reversed(rows)):
        _bar(axes, y, figure)
    axes.axvline(1.0, color=_INK, linewidth=1.2)
    axes.annotate("as asked", (1.0, len(rows) - 0.35), color=_INK, fontsize=8, ha="center", annotation_clip=False)
    axes.set_xscale("log")
    axes.set_xlim(_LEAST, _MOST * 3.0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [figure.title for figure in reversed(rows)])
    axes.xaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.1, 1.0, 10.0]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100.0 * value:g} %"))
    axes.set_xlabel("share of what is allowed, left of the line is better", color=_QUIET, fontsize=9)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    _style(axes)
    _save(sheet, path)


def draw_sizes(results: list[dict[str, Any]], path: Path, axis: str) -> bool:
    """Seconds by what the `axis` counts, both axes logarithmic; False where no result has points."""
    curves = {name: points for result in results for name, points in result["curves"].items() if points}
    if not curves:
        return False
    sheet = Sheet(figsize=(7.0, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots()
    for (name, points), colour in zip(curves.items(), _LINES, strict=False):
        sizes, seconds = zip(*points, strict=True)
        axes.loglog(sizes, seconds, "o-", color=colour, linewidth=1.8, markersize=4.5, label=name)
    axes.set_xlabel(axis, color=_QUIET, fontsize=9)
    axes.set_ylabel("seconds (median)", color=_QUIET, fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color=_GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    _style(axes)
    _save(sheet, path)
    return True


def draw_week(results: list[dict[str, Any]], path: Path) -> bool:
    """Load over time where a result has a week of it; False where none has."""
    weeks = [result["details"]["week"] for result in results if "week" in result["details"]]
    for week in weeks:
        sheet = Sheet(figsize=(10.0, 4.2), dpi=130, layout="constrained")
        FigureCanvasAgg(sheet)
        axes = sheet.subplots()
        series = {name: values for name, values in week.items() if name != "hours"}
        for (name, values), colour in zip(reversed(series.items()), _LINES, strict=False):
            axes.plot(week["hours"], values, color=colour, linewidth=1.2, label=name)
        axes.set_xlabel("hours", color=_QUIET, fontsize=9)
        axes.set_ylabel("kW", color=_QUIET, fontsize=9)
        axes.xaxis.set_major_locator(FixedLocator([24 * day for day in range(8)]))
        axes.grid(color=_GRID, linewidth=0.8)
        axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
        _style(axes)
        _save(sheet, path)
    return bool(weeks)


def _bar(axes: Axes, y: int, figure: Figure) -> None:
    share = min(max(figure.share, _LEAST * 1.05), _MOST)
    colour = _MET if figure.met else _MISSED
    axes.plot([_LEAST, share], [y, y], color=colour, linewidth=1.4, alpha=0.5, solid_capstyle="butt")
    axes.plot([share], [y], "o", color=colour, markersize=6)
    text = f"{number(figure.measured, figure.unit)}  ({asked(figure)})"
    # written to the left where the dot is close to the line
    left = 0.05 < share < 1.0
    axes.annotate(
        text, (share, y), (-8 if left else 8, 0), textcoords="offset points", fontsize=7.5, color=_INK, va="center",
        ha="right" if left else "left",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
    )  # fmt: skip


def _style(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.tick_params(labelsize=8.5, labelcolor=_INK, length=0)
    axes.set_axisbelow(True)


def _save(sheet: Sheet, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(path, metadata={"Software": "evflex bench"})
