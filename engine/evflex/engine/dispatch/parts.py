"""A part of the fleet: assets that one oracle answers for, in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.columns import Columns
from evflex.engine.dispatch.prices import Prices
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.workers import Workers


@dataclass(frozen=True, slots=True)
class Mixing:
    """Which price vectors each block mixes, and with which weights.

    Attributes:
        added: What limits add to prices, one vector a row, (V, T).
        begin: First entry of each block, and the end of the last, (B + 1,).
        vector: Vector of each entry, (entries,).
        weight: Weight of each entry; those of a block add up to 1, (entries,).
    """

    added: FloatArray
    begin: IntArray
    vector: IntArray
    weight: FloatArray

    def of_block(self, block: int) -> tuple[FloatArray, FloatArray]:
        """Vectors (J, T) and weights (J,) of a block."""
        at = slice(int(self.begin[block]), int(self.begin[block + 1]))
        return self.added[self.vector[at]], self.weight[at]

    def blocks(self, begin: int, end: int) -> Mixing:
        """The same for some blocks only."""
        at = slice(int(self.begin[begin]), int(self.begin[end]))
        return Mixing(self.added, self.begin[begin : end + 1] - self.begin[begin], self.vector[at], self.weight[at])


class Part(Protocol):
    """Assets that one oracle answers for, sorted into blocks."""

    @property
    def rows(self) -> IntArray:
        """Row of the fleet of each asset, (m,)."""

    @property
    def block_begin(self) -> IntArray:
        """First asset of each block, and the end of the last, (B + 1,)."""

    @property
    def block_signature(self) -> IntArray:
        """Signature of each block, (B,)."""

    @property
    def nets(self) -> bool:
        """Whether a mixture of powers is netted, so that its sums and costs are not the mixture of theirs."""

    @property
    def kind(self) -> str:
        """Name of the class among those that ``from_arrays`` knows."""

    def respond(self, added: FloatArray, asked: BoolArray, prices: Prices, workers: Workers) -> Columns:
        """What the blocks that are asked (B,) do where limits add (S, T) to the prices; zeros for others."""

    def powers(self, chosen: IntArray, added: FloatArray, weight: FloatArray, prices: Prices) -> FloatArray:
        """Powers of assets of one block, mixed of their answers to J vectors.

        Args:
            chosen: Assets of the part, ascending, (m,).
            added: What limits add, (J, T).
            weight: Weights, (J,).
            prices: Prices without limits.

        Returns:
            Shape (m, T).
        """

    def outcome(self, chosen: IntArray, power_kw: FloatArray, prices: Prices) -> tuple[FloatArray, FloatArray]:
        """What powers of single assets cost and leave undone.

        Args:
            chosen: Assets of the part, (m,).
            power_kw: Their powers, (m, T).
            prices: Prices without limits.

        Returns:
            Figures of all of them, (6,), and the shortfall of each in kWh, (m,).
        """

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything that ``powers`` reads; the class' ``from_arrays`` is the way back."""
