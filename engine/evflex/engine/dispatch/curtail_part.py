"""PV that can be curtailed: each step by itself produces what it could, unless that costs more than it earns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.columns import DISCHARGE_COST, EXPORT_REVENUE, FIGURES, Columns
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.workers import Workers
from evflex.engine.supply_tree import FloatArray, IntArray


class CurtailPart:
    """Generators, a block for each signature and wear.

    Attributes: see :class:`Part`.
    """

    nets = False

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
        self._possible_kw = possible_kw[order]
        signed = signature[order].astype(np.int64)
        fresh = np.ones(len(rows), dtype=bool)
        fresh[1:] = (np.diff(signed) != 0) | (np.diff(self._wear) != 0.0)
        begin = np.flatnonzero(fresh)
        self.block_begin = np.append(begin, len(rows))
        self.block_signature = signed[begin]
        self._block_wear = self._wear[begin]
        self._sum_kw = np.add.reduceat(self._possible_kw, begin, axis=0) if len(rows) else self._possible_kw

    def respond(self, added: FloatArray, prices: Prices, workers: Workers) -> Columns:
        """See :class:`Part`."""
        earned = prices.injecting(added)[self.block_signature] - self._block_wear[:, None]
        produced = np.where(earned > 0.0, self._sum_kw, 0.0)
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
