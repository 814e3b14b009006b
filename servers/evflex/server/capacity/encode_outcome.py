"""What ratings and allocations have in common on the wire: thermal states, and limits that are broken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evflex.capacity.v1 import allocation_pb2, transformer_pb2
from evflex.engine.capacity.allocation import CapacityViolation
from evflex.engine.capacity.transformer import ThermalState
from evflex.server.rows import RowLayout

_Violation = allocation_pb2.CapacityViolation


def set_state(into: transformer_pb2.ThermalState, state: ThermalState) -> None:
    """Write the state of the thermal model."""
    into.top_oil_c = state.top_oil_c
    into.winding_gradient_c = state.winding_gradient_c
    into.oil_gradient_c = state.oil_gradient_c


def violation_layout(field_number: int) -> RowLayout:
    """The layout of a repeated field of CapacityViolation."""
    return RowLayout.of(
        field_number,
        _Violation.HUB_ID_FIELD_NUMBER,
        {"limit": _Violation.LIMIT_FIELD_NUMBER, "excess": _Violation.EXCESS_FIELD_NUMBER},
        {
            "step": _Violation.STEP_FIELD_NUMBER,
            "reason": _Violation.REASON_FIELD_NUMBER,
            "phase": _Violation.PHASE_FIELD_NUMBER,
        },
    )


def violation_rows(layout: RowLayout, violations: Sequence[CapacityViolation], hub_ids: Sequence[str]) -> bytes:
    """Violations as the wire has them."""
    names = [hub_ids[v.hub] if v.hub >= 0 else "" for v in violations]
    kinds = dict.fromkeys(layout.doubles, np.float64) | dict.fromkeys(layout.ints, np.int64)
    return layout.write(names, lambda name: np.array([getattr(v, name) for v in violations], dtype=kinds[name]))
