"""Prices that the assets of a signature see, per kW and step: drawing and injecting, with what limits add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.supply_tree import FloatArray


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of the plan without limits, per kW and step.

    Attributes:
        draw: Price of drawing, (T,).
        inject: Price of injecting, <= ``draw``, (T,).
    """

    draw: FloatArray
    inject: FloatArray

    def drawing(self, added: FloatArray) -> FloatArray:
        """Price of drawing where limits add ``added``, (…, T)."""
        return np.ascontiguousarray(self.draw + added)

    def injecting(self, added: FloatArray) -> FloatArray:
        """Price of injecting where limits add ``added``, (…, T)."""
        return np.ascontiguousarray(self.inject + added)
