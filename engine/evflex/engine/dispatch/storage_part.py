"""The part of a fleet that has a store: vehicles and batteries that discharge, and heat pumps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.columns import (
    DISCHARGE_COST,
    ENERGY_VALUE,
    EXPORT_REVENUE,
    FIGURES,
    IMPORT_COST,
    SHORTFALL_COST,
    SHORTFALL_KWH,
    Columns,
)
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.slope_trick import (
    CHARGE_EFFICIENCY,
    DISCHARGE_EFFICIENCY,
    NEED,
    SHORT_PRICE,
    VALUE,
    WEAR,
    StoragePatterns,
    StoredAssets,
)
from evflex.engine.dispatch.storage_oracle import combine_storage, solve_storage
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.workers import Workers


class StoragePart:
    """Assets with a store. A mixture of their plans is netted, so its sums and costs are not the mixture of theirs.

    Attributes:
        rows: See :class:`Part`.
        assets: The assets, (m,).
        least_kw: Smallest power of each when charging, which its answers do not heed, (m,).
        block_begin: See :class:`Part`.
        block_signature: See :class:`Part`.
        step_h: Length of a step in hours.
    """

    nets = True
    kind = "storage"
    _patterns: StoragePatterns | None = None

    def __init__(
        self, rows: IntArray, assets: StoredAssets, least_kw: FloatArray, block_begin: IntArray,
        block_signature: IntArray, step_h: float,
    ) -> None:  # fmt: skip
        """Take assets sorted into blocks, those of a class together.

        Args:
            rows: Row of the fleet of each, (m,).
            assets: The assets, (m,).
            least_kw: Smallest power of each when charging, (m,).
            block_begin: First asset of each block, and the end of the last, (B + 1,).
            block_signature: Signature of each block, (B,).
            step_h: Length of a step in hours.
        """
        self.rows, self.assets, self.least_kw = rows, assets, least_kw
        self.block_begin, self.block_signature, self.step_h = block_begin, block_signature, step_h

    def respond(self, added: FloatArray, asked: BoolArray, prices: Prices, workers: Workers) -> Columns:
        """See :class:`Part`."""
        blocks, steps = len(self.block_signature), added.shape[1]
        charge, discharge = prices.drawing(added) / self.step_h, prices.injecting(added) / self.step_h
        drawn, injected = np.zeros((blocks, steps)), np.zeros((blocks, steps))
        figures, least = np.zeros((blocks, FIGURES)), np.zeros(blocks)

        def answer(begin: int, end: int) -> None:
            for block in np.flatnonzero(asked[begin:end]) + begin:
                rows = np.arange(self.block_begin[block], self.block_begin[block + 1])
                signature = self.block_signature[block]
                totals = solve_storage(
                    self.assets, self._patterns, rows, charge[signature], discharge[signature], self.step_h,
                    drawn[block], injected[block],
                )  # fmt: skip
                least[block] = totals.relaxed_cost
                figures[block, DISCHARGE_COST] = totals.wear_cost
                figures[block, SHORTFALL_COST] = totals.shortfall_cost
                figures[block, ENERGY_VALUE] = totals.energy_value
                figures[block, SHORTFALL_KWH] = totals.shortfall_kwh

        workers.share(answer, self.block_begin)
        figures[:, IMPORT_COST] = drawn @ prices.draw
        figures[:, EXPORT_REVENUE] = injected @ prices.inject
        return Columns(drawn - injected, figures, least)

    def powers(self, chosen: IntArray, added: FloatArray, weight: FloatArray, prices: Prices) -> FloatArray:
        """See :class:`Part`."""
        power, end = np.empty((len(chosen), added.shape[1])), np.empty(len(chosen))
        combine_storage(
            self.assets, self._patterns, chosen, prices.drawing(added) / self.step_h,
            prices.injecting(added) / self.step_h, weight[None, :], np.zeros(len(chosen), dtype=np.int64), self.step_h,
            power, end,
        )  # fmt: skip
        return power

    def outcome(self, chosen: IntArray, power_kw: FloatArray, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """See :class:`Part`."""
        table, figures = self.assets.table[chosen], np.zeros(FIGURES)
        drawn, injected = np.maximum(power_kw, 0.0), np.maximum(-power_kw, 0.0)
        moved = power_kw - self._base_kw(chosen, power_kw.shape[1])
        gained, lost = np.maximum(moved, 0.0).sum(axis=1), np.maximum(-moved, 0.0).sum(axis=1)
        state = (gained * table[:, CHARGE_EFFICIENCY] - lost / table[:, DISCHARGE_EFFICIENCY]) * self.step_h
        above = state - table[:, NEED]
        missing = np.maximum(-above, 0.0)
        figures[IMPORT_COST] = drawn.sum(axis=0) @ prices.draw
        figures[EXPORT_REVENUE] = injected.sum(axis=0) @ prices.inject
        figures[DISCHARGE_COST] = injected.sum(axis=1) @ table[:, WEAR] * self.step_h
        figures[SHORTFALL_COST] = missing @ table[:, SHORT_PRICE]
        figures[ENERGY_VALUE] = np.maximum(above, 0.0) @ table[:, VALUE]
        figures[SHORTFALL_KWH] = missing.sum()
        return figures, missing

    def _base_kw(self, chosen: IntArray, steps: int) -> FloatArray:
        """What heat pumps would draw, (m, T)."""
        assets, base = self.assets, np.zeros((len(chosen), steps))
        for k in np.flatnonzero(assets.profile[chosen] >= 0):
            i = chosen[k]
            first, last = assets.first[i], assets.last[i]
            base[k, first:last] = assets.base_kw[assets.profile[i], first:last]
            if last - first > 1:
                base[k, last - 1] *= assets.last_ratio[i]
            base[k, first] *= assets.first_ratio[i]
        return base

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`Part`."""
        kept = {"rows": self.rows, "block_begin": self.block_begin, "block_signature": self.block_signature}
        step_h = {"step_h": np.array(self.step_h)}
        return {**kept, **step_h, **{name: getattr(self.assets, name) for name in StoredAssets._fields}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> StoragePart:
        """The way back from ``to_arrays``."""
        assets = StoredAssets(**{name: arrays[name] for name in StoredAssets._fields})  # type: ignore[arg-type]
        rows, begin, signature = (arrays[name].astype(np.int64) for name in ("rows", "block_begin", "block_signature"))
        return cls(rows, assets, np.zeros(len(rows)), begin, signature, float(arrays["step_h"]))
