"""All parts of a fleet behind one question: what would you do at these prices?"""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.columns import FIGURES, SHORTFALL_COST, SHORTFALL_KWH, Columns
from evflex.engine.dispatch.coupling import Coupling
from evflex.engine.dispatch.parts import Part
from evflex.engine.dispatch.prices import Prices
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.workers import Workers


class FleetOracle:
    """All parts of a fleet behind one question: what would you do at these prices?

    Attributes:
        parts: The parts.
        coupling: What assets share.
        prices: Prices without limits.
        workers: Threads.
        absent_need_kwh: Energy that assets without a part need, and lack, (some,).
        fixed: Figures of assets without a part, (6,).
        signature: Signature of each block of all parts, one part after the other, (B,).
    """

    def __init__(
        self, parts: list[Part], coupling: Coupling, prices: Prices, workers: Workers, absent_need_kwh: FloatArray,
        absent_short_price: FloatArray,
    ) -> None:  # fmt: skip
        """Put parts together."""
        self.parts, self.coupling, self.prices, self.workers = parts, coupling, prices, workers
        self.absent_need_kwh, self._absent_short_price = absent_need_kwh, absent_short_price
        self.fixed = np.zeros(FIGURES)
        self.fixed[SHORTFALL_KWH] = absent_need_kwh.sum()
        self.fixed[SHORTFALL_COST] = absent_need_kwh @ absent_short_price
        signatures = [part.block_signature for part in parts]
        self.signature: IntArray = np.concatenate([np.empty(0, dtype=np.int64), *signatures])

    def with_parts(self, parts: list[Part]) -> FleetOracle:
        """The same fleet, some parts of which answer otherwise."""
        return FleetOracle(
            parts, self.coupling, self.prices, self.workers, self.absent_need_kwh, self._absent_short_price
        )

    def ask(self, limit_price: FloatArray, asked: BoolArray) -> Columns:
        """Answers at prices of limits (L, T) of the blocks that are asked (B,); zeros for others."""
        added = self.coupling.price(limit_price)
        answers, begin = [], 0
        for part in self.parts:
            end = begin + len(part.block_signature)
            answers.append(part.respond(added, asked[begin:end], self.prices, self.workers))
            begin = end
        return Columns.joined(answers, len(self.prices.draw))

    def rows_kw(self, power_kw: FloatArray) -> FloatArray:
        """Sums of the shared rows, (L, T), from the power of each block, (B, T)."""
        rows: FloatArray = self.coupling.member[self.signature].astype(np.float64).T @ power_kw
        return rows
