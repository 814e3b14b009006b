"""The part of a fleet that charges at 0 or at least at a minimum, once the steps to charge in are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.columns import Columns
from evflex.engine.dispatch.pattern_oracle import Patterns, add_pattern_powers, respond_in_patterns
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.window_assets import WindowTable
from evflex.engine.dispatch.window_oracle import TERMS
from evflex.engine.dispatch.window_part import window_columns, window_outcome
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.workers import Workers


@dataclass(frozen=True, slots=True)
class PatternPart:
    """Vehicles with a minimum power and chosen steps.

    Attributes:
        rows: See :class:`Part`.
        table: The assets, (m,).
        least_kw: Smallest power of each when charging, in kW, (m,).
        patterns: Chosen steps.
        block_begin: See :class:`Part`.
        block_signature: See :class:`Part`.
    """

    rows: IntArray
    table: WindowTable
    least_kw: FloatArray
    patterns: Patterns
    block_begin: IntArray
    block_signature: IntArray
    nets = False
    kind = "pattern"

    def respond(self, added: FloatArray, asked: BoolArray, prices: Prices, workers: Workers) -> Columns:
        """See :class:`Part`."""
        blocks, steps = len(self.block_signature), added.shape[1]
        price = np.ascontiguousarray(prices.drawing(added)[self.block_signature])
        power, terms = np.zeros((blocks, steps)), np.zeros((blocks, TERMS))

        def answer(begin: int, end: int) -> None:
            for block in range(begin, end):
                if asked[block]:
                    some = self.block_begin[block : block + 2]
                    respond_in_patterns(
                        self.table, self.least_kw, self.patterns, some, price[block], power[block], terms[block]
                    )

        workers.share(answer, self.block_begin)
        return window_columns(power, terms, price, prices)

    def powers(self, chosen: IntArray, added: FloatArray, weight: FloatArray, prices: Prices) -> FloatArray:
        """See :class:`Part`."""
        power = np.zeros((len(chosen), added.shape[1]))
        add_pattern_powers(self.table, self.least_kw, self.patterns, chosen, prices.drawing(added), weight, power)
        return power

    def outcome(self, chosen: IntArray, power_kw: FloatArray, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """See :class:`Part`."""
        return window_outcome(self.table, chosen, power_kw, prices)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`Part`."""
        kept = {"rows": self.rows, "block_begin": self.block_begin, "block_signature": self.block_signature}
        own = {"least_kw": self.least_kw, "begin": self.patterns.begin, "step": self.patterns.step}
        return {**kept, **own, **self.table._asdict()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> PatternPart:
        """The way back from ``to_arrays``."""
        table = WindowTable(**{name: arrays[name] for name in WindowTable._fields})  # type: ignore[arg-type]
        patterns = Patterns(arrays["begin"].astype(np.int64), arrays["step"].astype(np.int64))
        rows, begin, signature = (arrays[name].astype(np.int64) for name in ("rows", "block_begin", "block_signature"))
        return cls(rows, table, arrays["least_kw"].astype(np.float64), patterns, begin, signature)
