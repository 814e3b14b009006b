"""PV that can be curtailed: each step by itself produces what it could, unless that costs more than it earns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.columns import DISCHARGE_COST, EXPORT_REVENUE, FIGURES, Columns
from evflex.engine.dispatch.prices import Prices
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.workers import Workers


class CurtailPart:
    """Generators, a block for each signature and wear.

    Attributes: see :class:`Part`.
    """

    nets = False
    kind = "curtail"

    def __init__(
        self, rows: IntArray, possible_kw: FloatArray, wear: FloatArray, signature: NDArray[np.int32]
    ) -> None:  # fmt: skip
        """Sort generators into blocks.

        Args:
            rows: Generators.
            possible_kw: What each could produce, >= 0, (m, T).
            wear: Cost of each kW and step, (m,).
            signature: Signature of each, (m,).
        """
        order = np.lexsort((wear, signature))
        self.rows, self._wear = rows[order], wear[order]
        self._possible_kw, self._signature = possible_kw[order], signature[order]
        fresh = np.ones(len(rows), dtype=bool)
        fresh[1:] = (np.diff(self._signature) != 0) | (np.diff(self._wear) != 0.0)
        begin = np.flatnonzero(fresh)
        self.block_begin = np.append(begin, len(rows))
        self.block_signature = self._signature[begin].astype(np.int64)
        self._block_wear = self._wear[begin]
        self._sum_kw = np.add.reduceat(self._possible_kw, begin, axis=0)

    def respond(self, added: FloatArray, asked: BoolArray, prices: Prices, workers: Workers) -> Columns:
        """See :class:`Part`."""
        earned = prices.injecting(added)[self.block_signature] - self._block_wear[:, None]
        produced = np.where((earned > 0.0) & asked[:, None], self._sum_kw, 0.0)
        figures = np.zeros((len(produced), FIGURES))
        figures[:, EXPORT_REVENUE] = produced @ prices.inject
        figures[:, DISCHARGE_COST] = produced.sum(axis=1) * self._block_wear
        return Columns(-produced, figures, -(earned * produced).sum(axis=1))

    def powers(self, chosen: IntArray, added: FloatArray, weight: FloatArray, prices: Prices) -> FloatArray:
        """See :class:`Part`."""
        possible = self._possible_kw[chosen]
        share = np.zeros_like(possible)
        for vector, w in zip(added, weight, strict=True):
            share += w * (prices.injecting(vector)[None, :] > self._wear[chosen][:, None])
        return -possible * share

    def outcome(self, chosen: IntArray, power_kw: FloatArray, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """See :class:`Part`."""
        figures = np.zeros(FIGURES)
        figures[EXPORT_REVENUE] = -power_kw.sum(axis=0) @ prices.inject
        figures[DISCHARGE_COST] = -power_kw.sum(axis=1) @ self._wear[chosen]
        return figures, np.zeros(len(chosen))

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`Part`."""
        return {"rows": self.rows, "possible_kw": self._possible_kw, "wear": self._wear, "signature": self._signature}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> CurtailPart:
        """The way back from ``to_arrays``."""
        return cls(**arrays)  # type: ignore[arg-type]
