"""The part of a fleet that only charges: its blocks, and its answer to prices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.assets import Windows
from evflex.engine.dispatch.columns import ENERGY_VALUE, FIGURES, IMPORT_COST, SHORTFALL_COST, SHORTFALL_KWH, Columns
from evflex.engine.dispatch.model import Fleet
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.window_assets import Runs, WindowTable, cut, sorted_windows
from evflex.engine.dispatch.window_oracle import SHORT_COST, SHORTFALL, TERMS, VALUE, add_powers, respond
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.workers import Workers


class WindowPart:
    """Assets that only charge.

    Attributes:
        rows: Row of the fleet of each asset of the table, (m,).
        table: The assets, (m,).
        least_kw: Smallest power of each when charging, which its answers do not heed, (m,).
        block_begin: First asset of each block, and the end of the last, (B + 1,).
        block_signature: Signature of each block, (B,).
    """

    nets = False
    kind = "window"

    def __init__(
        self, rows: IntArray, table: WindowTable, least_kw: FloatArray, block_begin: IntArray,
        block_signature: IntArray, runs: Runs,
    ) -> None:  # fmt: skip
        """Take assets sorted into blocks and runs; :meth:`of` does that."""
        self.rows, self.table, self.least_kw = rows, table, least_kw
        self.block_begin, self.block_signature, self._runs = block_begin, block_signature, runs

    @classmethod
    def of(
        cls, fleet: Fleet, windows: Windows, rows: IntArray, signature: NDArray[np.int32], grid: TimeGrid, blocks: int
    ) -> WindowPart:
        """Sort assets and cut them into about so many blocks, each of one signature.

        Args:
            fleet: The fleet, with all shortfall prices.
            windows: Its windows.
            rows: Assets of this part.
            signature: Signature of each asset of the fleet.
            grid: The plan's grid.
            blocks: Blocks wanted; a signature with few assets has one all the same.
        """
        at = sorted_windows(fleet, windows, rows, signature, grid.step_count)
        kwh = fleet.charge_efficiency[at] * grid.step_h
        need = fleet.energy_needed_kwh[at] / kwh
        table = WindowTable(
            first=windows.first[at], last=windows.last[at], first_ratio=windows.first_ratio[at],
            last_ratio=windows.last_ratio[at], power=fleet.max_charge_kw[at], need=need,
            room=np.maximum(fleet.energy_headroom_kwh[at] / kwh, need), value=fleet.energy_value_per_kwh[at] * kwh,
            short_price=fleet.shortfall_price_per_kwh[at] * kwh, kwh=kwh,
        )  # fmt: skip
        return cls(at, table, fleet.min_charge_kw[at], *cut(table, signature[at].astype(np.int64), blocks))

    def respond(self, added: FloatArray, asked: BoolArray, prices: Prices, workers: Workers) -> Columns:
        """See :class:`Part`."""
        blocks, steps = len(self.block_signature), added.shape[1]
        price = prices.drawing(added)
        power, terms = np.zeros((blocks, steps)), np.zeros((blocks, TERMS))

        def answer(begin: int, end: int) -> None:
            for block in range(begin, end):
                if asked[block]:
                    some = self._runs.of_block[block : block + 2]
                    own = price[self.block_signature[block]]
                    respond(self.table, self._runs.begin, some, own, power[block], terms[block])

        workers.share(answer, self.block_begin)
        return window_columns(power, terms, price[self.block_signature], prices)

    def powers(self, chosen: IntArray, added: FloatArray, weight: FloatArray, prices: Prices) -> FloatArray:
        """See :class:`Part`."""
        power = np.zeros((len(chosen), added.shape[1]))
        add_powers(self.table, chosen, prices.drawing(added), weight, power)
        return power

    def outcome(self, chosen: IntArray, power_kw: FloatArray, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """See :class:`Part`."""
        return window_outcome(self.table, chosen, power_kw, prices)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`Part`."""
        kept = {"rows": self.rows, "block_begin": self.block_begin, "block_signature": self.block_signature}
        return {**kept, **self.table._asdict()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> WindowPart:
        """The way back from ``to_arrays``, for powers of single assets."""
        table = WindowTable(**{name: arrays[name] for name in WindowTable._fields})  # type: ignore[arg-type]
        at = (arrays[name].astype(np.int64) for name in ("rows", "block_begin", "block_signature"))
        rows, begin, signature = at
        return cls(rows, table, np.zeros(len(rows)), begin, signature, Runs.none())


def window_columns(power_kw: FloatArray, terms: FloatArray, price: FloatArray, prices: Prices) -> Columns:
    """Columns of blocks of assets that only charge.

    Args:
        power_kw: Power of each block, (B, T).
        terms: What the oracle says besides, (B, 3).
        price: Price that each block saw, per kW and step, (B, T).
        prices: Prices without limits.
    """
    figures = np.zeros((len(power_kw), FIGURES))
    figures[:, IMPORT_COST] = power_kw @ prices.draw
    figures[:, SHORTFALL_COST] = terms[:, SHORT_COST]
    figures[:, ENERGY_VALUE] = terms[:, VALUE]
    figures[:, SHORTFALL_KWH] = terms[:, SHORTFALL]
    return Columns(power_kw, figures, (power_kw * price).sum(axis=1) + terms[:, SHORT_COST] - terms[:, VALUE])


def window_outcome(
    table: WindowTable, chosen: IntArray, power_kw: FloatArray, prices: Prices
) -> tuple[FloatArray, FloatArray]:
    """What powers of assets that only charge cost and leave undone; see ``Part.outcome``."""
    figures = np.zeros(FIGURES)
    above = power_kw.sum(axis=1) - table.need[chosen]
    missing = np.maximum(-above, 0.0)
    figures[IMPORT_COST] = power_kw.sum(axis=0) @ prices.draw
    figures[SHORTFALL_COST] = missing @ table.short_price[chosen]
    figures[ENERGY_VALUE] = np.maximum(above, 0.0) @ table.value[chosen]
    short_kwh = missing * table.kwh[chosen]
    figures[SHORTFALL_KWH] = short_kwh.sum()
    return figures, short_kwh
