"""What is measured: cases by name, each with the figures that it must reach."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

from bench.instances import Site, data_folder, generated_site, shared_site

Sense = Literal["<=", ">="]
Domain = Literal["charging", "dispatch", "capacity", "congestion", "activation"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is asked, and what was measured.

    Attributes:
        key: Short name within the case; remarks are kept under `case.key`.
        title: What it is.
        asked: The threshold; None where nothing is asked.
        sense: Side of the threshold that is good.
        measured: As a plain number.
        unit: `%` shows the number times 100, `×` a ratio, `s`, `MB`, or nothing.
        peer: What was measured beside it, in words.
    """

    key: str
    title: str
    asked: float | None
    sense: Sense
    measured: float
    unit: str
    peer: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it is reached; None where nothing is asked."""
        if self.asked is None:
            return None
        return self.measured <= self.asked if self.sense == "<=" else self.measured >= self.asked

    @property
    def share(self) -> float:
        """Measured as a share of what is allowed: up to 1 is good."""
        if self.asked is None:
            return math.nan
        low, high = (self.measured, self.asked) if self.sense == "<=" else (self.asked, self.measured)
        if high > 0.0:
            return low / high
        return 0.0 if low <= high else math.inf


@dataclass(slots=True)
class Outcome:
    """What a case measured.

    Attributes:
        figures: What is asked, in the order of the issue.
        seconds: Every timing, by what was timed.
        details: Anything else worth keeping, plain JSON.
        notes: Sentences on how it was measured.
        curves: Points (size, seconds) by name, for the picture of sizes.
        phases: Seconds by phase and size.
    """

    figures: list[Figure] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(
        self, key: str, title: str, measured: float, unit: str = "", *, at_most: float | None = None,
        at_least: float | None = None, peer: str = "",
    ) -> None:  # fmt: skip
        """Record a figure; it must be at most, or at least, what is asked."""
        asked, sense = (at_least, ">=") if at_least is not None else (at_most, "<=")
        self.figures.append(Figure(key, title, asked, sense, float(measured), unit, peer))  # type: ignore[arg-type]

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        plain = asdict(self)
        for row, figure in zip(plain["figures"], self.figures, strict=True):
            row["met"] = figure.met
            if not math.isfinite(row["measured"]):
                row["measured"] = None
        return plain


@dataclass(frozen=True, slots=True)
class Setting:
    """How much is measured.

    Attributes:
        quick: A try on tiny generated sites, whose figures mean nothing.
    """

    quick: bool = False

    def site(self, count: int) -> Site:
        """The instance of 10, 100 or 1000 sessions."""
        return generated_site(max(3, count // 100)) if self.quick else shared_site(count)

    def pick(self, whole: int, quick: int = 1) -> int:
        """A number of repetitions or samples."""
        return quick if self.quick else whole

    def seconds(self, whole: float, quick: float = 1.0) -> float:
        """A time limit."""
        return min(whole, quick) if self.quick else whole


@dataclass(frozen=True, slots=True)
class Case:
    """A case of the registry.

    Attributes:
        name: As on the command line.
        title: For people.
        run: Measures.
        sizes: Sizes that it covers.
        needs_data: Whether even a quick try needs the shared data.
        generated: Whether it never needs the shared data.
        domain: Part of the contract that it measures.
    """

    name: str
    title: str
    run: Callable[[Setting], Outcome]
    sizes: tuple[int, ...]
    needs_data: bool
    generated: bool = False
    domain: Domain = "charging"

    def missing(self, setting: Setting) -> str:
        """Why it cannot run here; empty when it can."""
        if (self.needs_data or not (setting.quick or self.generated)) and not data_folder().is_dir():
            return "needs the data sets in the folder named by EVFLEX_SHARED_DATA"
        return ""


CASES: dict[str, Case] = {}


def case(
    name: str, title: str, *, sizes: tuple[int, ...] = (), needs_data: bool = False, generated: bool = False,
    domain: Domain = "charging",
) -> Callable[[Callable[[Setting], Outcome]], Callable[[Setting], Outcome]]:  # fmt: skip
    """Enter a function into the registry."""

    def enter(run: Callable[[Setting], Outcome]) -> Callable[[Setting], Outcome]:
        if name in CASES:
            raise ValueError(f"case {name!r} is registered twice")
        CASES[name] = Case(name, title, run, sizes, needs_data, generated, domain)
        return run

    return enter
