"""Symmetrical components: zero, positive and negative sequence, and the phases that they make (Fortescue, 1918)."""

from __future__ import annotations

import numpy as np

from evflex.engine.grid.admittance import ComplexArray

_A = np.exp(2j * np.pi / 3.0)
_PHASES = np.array([[1.0, 1.0, 1.0], [1.0, _A**2, _A], [1.0, _A, _A**2]])


def phases_of(sequences: ComplexArray) -> ComplexArray:
    """Quantities of the phases L1, L2, L3 on the last axis, from their sequences 0, 1, 2."""
    phases: ComplexArray = sequences @ _PHASES.T
    return phases
