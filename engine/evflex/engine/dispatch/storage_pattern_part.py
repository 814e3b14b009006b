"""The part of a fleet that discharges, and charges at 0 or at least at a minimum: its charging steps are chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.slope_trick import StoragePatterns, StoredAssets
from evflex.engine.dispatch.storage_part import StoragePart
from evflex.engine.supply_tree import IntArray


class StoragePatternPart(StoragePart):
    """Vehicles with a store, a minimum power and chosen steps.

    In a step either all answers charge or none does, so that powers mix as they are.

    Attributes: see :class:`StoragePart`; its answers heed all minimums, so ``least_kw`` is 0.
    """

    nets = False
    kind = "storage_pattern"

    def __init__(
        self, rows: IntArray, assets: StoredAssets, patterns: StoragePatterns, block_begin: IntArray,
        block_signature: IntArray, step_h: float,
    ) -> None:  # fmt: skip
        """Take assets sorted into blocks, those of a class together.

        Args:
            rows: Row of the fleet of each, (m,).
            assets: The assets, (m,).
            patterns: Chosen steps.
            block_begin: First asset of each block, and the end of the last, (B + 1,).
            block_signature: Signature of each block, (B,).
            step_h: Length of a step in hours.
        """
        super().__init__(rows, assets, np.zeros(len(rows)), block_begin, block_signature, step_h)
        self._patterns: StoragePatterns = patterns

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """See :class:`Part`."""
        return {**super().to_arrays(), **self._patterns._asdict()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> StoragePatternPart:
        """The way back from ``to_arrays``."""
        base = StoragePart.from_arrays(arrays)
        begin, step = arrays["begin"].astype(np.int64), arrays["step"].astype(np.int64)
        patterns = StoragePatterns(arrays["least_kw"].astype(np.float64), begin, step)
        return cls(base.rows, base.assets, patterns, base.block_begin, base.block_signature, base.step_h)
