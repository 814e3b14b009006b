"""Loads as they are measured or forecast: power on the phases, and a quantile of what may come."""

from __future__ import annotations

from math import sqrt

import numpy as np

from evflex.engine.supply_tree import FloatArray


def phase_power(current_a: FloatArray, voltage_v: FloatArray, power_factor: float) -> tuple[FloatArray, FloatArray]:
    """Active power in kW, negative for export, and reactive power in kvar, >= 0, of L1, L2, L3.

    Args:
        current_a: (3,).
        voltage_v: Line to neutral, (3,).
        power_factor: cos φ in [-1, 1], negative for export.
    """
    apparent_kva = current_a * voltage_v / 1000.0
    return apparent_kva * power_factor, apparent_kva * sqrt(max(0.0, 1.0 - power_factor * power_factor))


def at_quantile(table: FloatArray, quantiles: FloatArray, quantile: float) -> FloatArray:
    """Row of a quantile, linear between the rows that are given.

    Args:
        table: A row a quantile, (n, T).
        quantiles: Probabilities of the rows, rising, (n,).
        quantile: Within them.
    """
    above = int(np.searchsorted(quantiles, quantile))
    row: FloatArray = table[above]
    if quantiles[above] == quantile:
        return row
    share = (quantile - quantiles[above - 1]) / (quantiles[above] - quantiles[above - 1])
    between: FloatArray = (1.0 - share) * table[above - 1] + share * row
    return between
