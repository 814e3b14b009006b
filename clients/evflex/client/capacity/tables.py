"""Arrays of answers as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.capacity.v1 import allocation_pb2
from evflex.client.capacity.enums import reason_text
from evflex.common.v1 import supply_node_pb2


def by_step(columns: Mapping[str, Sequence[float]], index: pd.DatetimeIndex) -> pd.DataFrame:
    """Columns of one value a step; the table is empty where a listing leaves the values out."""
    length = max(map(len, columns.values()), default=0)
    table = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items() if len(values)}
    return pd.DataFrame(table, index=index[:length], columns=list(columns))


def by_hub(
    values: Sequence[Sequence[float]], hub_ids: Sequence[str], index: pd.DatetimeIndex, dtype: type = np.float64
) -> pd.DataFrame:
    """One column a hub, one row a step."""
    columns = pd.Index(list(hub_ids), name="hub_id", dtype=object)
    length = max(map(len, values), default=0)
    matrix: NDArray[np.generic] = np.array([list(row) for row in values], dtype=dtype).reshape(len(columns), length).T
    return pd.DataFrame(matrix, index=index[:length], columns=columns)


def binding_table(rows: Sequence[allocation_pb2.BindingConstraint], index: pd.DatetimeIndex) -> pd.DataFrame:
    """Where a hub got less than it wanted: time, hub_id, step, reason."""
    return pd.DataFrame(
        {
            "time": index[[row.step for row in rows]],
            "hub_id": [row.hub_id for row in rows],
            "step": [row.step for row in rows],
            "reason": [reason_text(row.reason) for row in rows],
        }
    )


def violation_table(rows: Sequence[allocation_pb2.CapacityViolation], index: pd.DatetimeIndex) -> pd.DataFrame:
    """What could not be kept: time, step, reason, limit, excess, hub_id, phase."""
    return pd.DataFrame(
        {
            "time": index[[row.step for row in rows]],
            "step": [row.step for row in rows],
            "reason": [reason_text(row.reason) for row in rows],
            "limit": [row.limit for row in rows],
            "excess": [row.excess for row in rows],
            "hub_id": [row.hub_id for row in rows],
            "phase": [supply_node_pb2.Phase.Name(row.phase).removeprefix("PHASE_") for row in rows],
        }
    )
