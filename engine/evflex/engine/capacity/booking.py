"""How much of a transformer's headroom, and of an agreement, is left in each step of a window.

Headroom and bookings are constant within the steps of grids of their own. The window is cut at every instant at which
any of them changes; within a piece all are constant, so that sums and limits compare exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

# Pieces shorter than this are none: double precision resolves unix seconds to 2.4e-7 s, so that grids that meet may
# seem to overlap.
_TIME_TOLERANCE_S = 1e-6
# A booking may exceed what is left by this much, because sums of decimal fractions are not exact.
_POWER_TOLERANCE_KW = 1e-6


@dataclass(frozen=True, slots=True)
class StepSeries:
    """A power that is constant within each step of its grid.

    Attributes:
        grid: Its time axis.
        power_kw: Power in each step, (T,).
    """

    grid: TimeGrid
    power_kw: FloatArray


@dataclass(frozen=True, slots=True)
class BookedWindow:
    """All that bears on a booking of firm, or of conditional, capacity in a window.

    Attributes:
        window: Time axis of the booking.
        agreed_kw: Most that bookings of this kind under the agreement may take together.
        booked_in_agreement: Bookings of this kind under the agreement.
        headroom_n: Ratings' headroom in N in kVA at unity power factor, newest first; where several cover an instant,
            the newest holds.
        headroom_n1: The same in N-1.
        booked_firm: Firm bookings of all hubs on the transformer.
        booked_conditional: Conditional bookings of all hubs on the transformer.
    """

    window: TimeGrid
    agreed_kw: float
    booked_in_agreement: tuple[StepSeries, ...]
    headroom_n: tuple[StepSeries, ...]
    headroom_n1: tuple[StepSeries, ...]
    booked_firm: tuple[StepSeries, ...]
    booked_conditional: tuple[StepSeries, ...]


@dataclass(frozen=True, slots=True)
class CapacityLeft:
    """What is left in each step of a window, negative where more is booked than there is now.

    Attributes:
        in_agreement_kw: Left of the agreement, (T,).
        on_transformer_kw: Left of the transformer's headroom, NaN where a part of the step has no rating, (T,).
    """

    in_agreement_kw: FloatArray
    on_transformer_kw: FloatArray


def capacity_left(booked: BookedWindow, *, firm: bool) -> CapacityLeft:
    """What can still be booked in each step of a window.

    All bookings together stay within the headroom in N, and firm ones together within that of N-1 as well. Headroom in
    kVA at unity power factor on balanced phases is taken as kW of the hubs.

    Args:
        booked: Limits and bookings.
        firm: Whether firm capacity is asked for, or conditional.
    """
    in_all = (*booked.booked_firm, *booked.booked_conditional)
    every = (*booked.booked_in_agreement, *booked.headroom_n, *booked.headroom_n1, *in_all)
    pieces = _Pieces.of(booked.window, [series.grid for series in every])
    transformer_kw = pieces.newest(booked.headroom_n) - pieces.total(in_all)
    if firm:
        transformer_kw = np.minimum(
            transformer_kw, pieces.newest(booked.headroom_n1) - pieces.total(booked.booked_firm)
        )
    agreement_kw = booked.agreed_kw - pieces.total(booked.booked_in_agreement)
    return CapacityLeft(pieces.least(agreement_kw), pieces.least(transformer_kw))


def fits(wanted_kw: FloatArray, left_kw: FloatArray) -> BoolArray:
    """Whether each step's power is left; a step that wants nothing always fits, (T,)."""
    fit: BoolArray = (wanted_kw <= 0.0) | (wanted_kw <= left_kw + _POWER_TOLERANCE_KW)
    return fit


def bookable_kw(left_kw: FloatArray) -> FloatArray:
    """What is left in whole watts, so that a booking of just that fits, (T,)."""
    whole: FloatArray = np.maximum(np.floor((left_kw + _POWER_TOLERANCE_KW) * 1e3) / 1e3, 0.0)
    return whole


def ratings_that_hold(window: TimeGrid, grids: Sequence[TimeGrid]) -> list[int]:
    """Indices of the grids, newest first, that are the newest at some instant of the window."""
    if not grids:
        return []
    begin_s = np.array([grid.start_unix_s for grid in grids]) - window.start_unix_s
    end_s = np.array([grid.end_unix_s for grid in grids]) - window.start_unix_s
    length_s = window.end_unix_s - window.start_unix_s
    middle_s = _middles(np.clip(np.concatenate([begin_s, end_s, [0.0, length_s]]), 0.0, length_s))
    covered = np.zeros(len(middle_s), dtype=np.bool_)
    holding = []
    for i in range(len(grids)):
        covers = (begin_s[i] < middle_s) & (middle_s < end_s[i]) & ~covered
        if covers.any():
            holding.append(i)
            covered |= covers
            if covered.all():
                break
    return holding


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A window cut where anything changes.

    Attributes:
        start_unix_s: Start of the window.
        middle_s: Middle of each piece, from the start of the window, (n,).
        first: First piece of each step of the window, (T,).
    """

    start_unix_s: float
    middle_s: FloatArray
    first: IntArray

    @classmethod
    def of(cls, window: TimeGrid, grids: Sequence[TimeGrid]) -> _Pieces:
        """Cut a window at the edges of grids."""
        steps_s = window.step_s * np.arange(window.step_count + 1)
        cuts = [steps_s, *(_edges_within(window, grid) for grid in set(grids))]
        middle_s = _middles(np.concatenate(cuts))
        return cls(window.start_unix_s, middle_s, np.searchsorted(middle_s, steps_s[:-1]))

    def newest(self, series: Sequence[StepSeries]) -> FloatArray:
        """Value in each piece of the first series that covers it, NaN where none does."""
        values = np.full(len(self.middle_s), np.nan)
        for one in series:
            step, inside = self._steps(one.grid)
            taken = inside & np.isnan(values)
            values[taken] = one.power_kw[step[taken]]
        return values

    def total(self, series: Sequence[StepSeries]) -> FloatArray:
        """Sum in each piece."""
        values = np.zeros(len(self.middle_s))
        for one in series:
            step, inside = self._steps(one.grid)
            values[inside] += one.power_kw[step[inside]]
        return values

    def least(self, values: FloatArray) -> FloatArray:
        """Least value within each step of the window, NaN where one is."""
        least: FloatArray = np.minimum.reduceat(values, self.first)
        return least

    def _steps(self, grid: TimeGrid) -> tuple[IntArray, BoolArray]:
        """Step of a grid that each piece lies in, and whether it lies in any."""
        step = np.floor((self.middle_s + (self.start_unix_s - grid.start_unix_s)) / grid.step_s).astype(np.int64)
        return step, (step >= 0) & (step < grid.step_count)


def _edges_within(window: TimeGrid, grid: TimeGrid) -> FloatArray:
    """Edges of a grid inside a window, from the window's start."""
    offset_s = grid.start_unix_s - window.start_unix_s
    first = min(max(int(-offset_s // grid.step_s), 0), grid.step_count)
    last = min(max(int((window.step_s * window.step_count - offset_s) // grid.step_s) + 1, first), grid.step_count)
    edges_s: FloatArray = offset_s + grid.step_s * np.arange(first, last + 1, dtype=np.float64)
    return edges_s[(edges_s > 0.0) & (edges_s < window.step_s * window.step_count)]


def _middles(cuts_s: FloatArray) -> FloatArray:
    """Middles of the pieces between cuts; slivers are none."""
    edges_s: FloatArray = np.unique(cuts_s)
    wide = np.diff(edges_s) > _TIME_TOLERANCE_S
    return (edges_s[:-1] + 0.5 * np.diff(edges_s))[wide]
