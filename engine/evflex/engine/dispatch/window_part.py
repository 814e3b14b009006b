"""The part of a fleet that only charges: its blocks, and its answer to prices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.assets import Windows
from evflex.engine.dispatch.columns import ENERGY_VALUE, FIGURES, IMPORT_COST, SHORTFALL_COST, SHORTFALL_KWH, Columns
from evflex.engine.dispatch.model import Fleet
from evflex.engine.dispatch.window_assets import WindowTable, sorted_windows
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.window_oracle import SHORT_COST, SHORTFALL, TERMS, VALUE, add_powers, respond
from evflex.engine.dispatch.workers import Workers
from evflex.engine.supply_tree import FloatArray, IntArray


class WindowPart:
    """Assets that only charge.

    Attributes:
        rows: Row of the fleet of each asset of the table, (m,).
        table: The assets.
        block_begin: First asset of each block, and the end of the last, (B + 1,).
        block_signature: Signature of each block, (B,).
    """

    def __init__(
        self, fleet: Fleet, windows: Windows, rows: IntArray, signature: NDArray[np.int32], short_price: FloatArray,
        step_h: float, step_count: int, blocks: int,
    ) -> None:  # fmt: skip
        """Sort the assets and cut them into about so many blocks, each of one signature.

        Args:
            fleet: The fleet.
            windows: Its windows.
            rows: Assets of this part.
            signature: Signature of each asset of the fleet.
            short_price: Price of a shortfall of each asset of the fleet, per battery-side kWh.
            step_h: Length of a step in hours.
            step_count: Steps of the grid.
            blocks: Blocks wanted; signatures with few assets have one each.
        """
        self.rows = sorted_windows(fleet, windows, rows, signature, step_count)
        at = self.rows
        kwh = fleet.charge_efficiency[at] * step_h
        need = fleet.energy_needed_kwh[at] / kwh
        self.table = WindowTable(
            first=windows.first[at], last=windows.last[at], first_ratio=windows.first_ratio[at],
            last_ratio=windows.last_ratio[at], power=fleet.max_charge_kw[at], need=need,
            room=np.maximum(fleet.energy_headroom_kwh[at] / kwh, need), value=fleet.energy_value_per_kwh[at] * kwh,
            short_price=short_price[at] * kwh, kwh=kwh, least=fleet.min_charge_kw[at],
        )  # fmt: skip
        self._cut(signature[at].astype(np.int64), blocks)

    def _cut(self, signature: IntArray, blocks: int) -> None:
        """Runs of one window, and blocks of whole runs."""
        table, count = self.table, len(self.rows)
        new = np.ones(count + 1, dtype=bool)
        new[1:-1] = (
            (table.first[1:] != table.first[:-1]) | (table.last[1:] != table.last[:-1]) | (signature[1:] != signature[:-1])
        )
        self._run_begin = np.flatnonzero(new).astype(np.int64)
        begin = self._run_begin[:-1]
        of_run = signature[begin]
        wanted = max(count // max(blocks, 1), 1)
        # a block ends with its signature, and where the next so many assets begin
        within = begin - begin[np.searchsorted(of_run, of_run)]
        label = within // wanted
        fresh = np.ones(len(begin), dtype=bool)
        fresh[1:] = (label[1:] != label[:-1]) | (of_run[1:] != of_run[:-1])
        self._run_block = np.cumsum(fresh) - 1
        self.block_signature = of_run[fresh]
        self.block_begin = np.append(begin[fresh], count)
        self._first_run = np.append(np.flatnonzero(fresh), len(begin))

    def respond(self, added: FloatArray, prices: Prices, workers: Workers) -> Columns:
        """See :class:`Part`."""
        blocks, steps = len(self.block_signature), added.shape[1]
        price = prices.drawing(added)
        power, terms = np.zeros((blocks, steps)), np.zeros((blocks, TERMS))

        def answer(begin: int, end: int) -> None:
            runs = np.array([self._first_run[begin], self._first_run[end]])
            respond(self.table, self._run_begin, self._run_block, runs, price, self.block_signature, power, terms)

        workers.share(answer, self.block_begin)
        figures = np.zeros((blocks, FIGURES))
        figures[:, IMPORT_COST] = power @ prices.draw
        figures[:, SHORTFALL_COST] = terms[:, SHORT_COST]
        figures[:, ENERGY_VALUE] = terms[:, VALUE]
        figures[:, SHORTFALL_KWH] = terms[:, SHORTFALL]
        least = (power * price[self.block_signature]).sum(axis=1) + terms[:, SHORT_COST] - terms[:, VALUE]
        return Columns(power, figures, least)

    def powers(self, chosen: IntArray, added: FloatArray, weight: FloatArray, prices: Prices) -> FloatArray:
        """See :class:`Part`."""
        power = np.zeros((len(chosen), added.shape[1]))
        add_powers(self.table, chosen, prices.drawing(added), weight, power)
        return power
