"""A congestion, and tables of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evflex.client.enums import short_name
from evflex.client.timegrid import TimeGrid
from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import congestion_pb2

_TABLE_COLUMNS = (
    "element_id", "kind", "contingency_id", "start_time", "end_time", "start_step", "end_step", "worst_value",
    "worst_time", "worst_step", "limit", "phase", "relief_bus_id", "probability",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Congestion:
    """A limit that is broken by one element in steps that follow one another.

    Attributes:
        element_id: Bus or branch.
        kind: ``LINE_OVERLOAD``, ``TRANSFORMER_OVERLOAD``, ``UNDERVOLTAGE`` or ``OVERVOLTAGE``.
        contingency_id: Branch whose outage causes it; empty for the network as it is.
        start_step: First step.
        end_step: Step after the last.
        start_time: When it begins (UTC).
        end_time: When it ends (UTC).
        worst_value: Worst loading ratio, or voltage in pu.
        worst_step: Step of the worst value.
        worst_time: Start of that step (UTC).
        limit: The limit, in the unit of ``worst_value``.
        phase: Phase of the worst value; empty in a network of one phase.
        relief_bus_id: Bus where the least change of power clears it; empty where no bus alone does.
        relief_needed_kw: By step of it what clears it in an AC power flow in kW: positive is to draw that much less at
            ``relief_bus_id``, negative is to draw more; NaN where no bus alone does.
        probability: Share of scenarios in which it happens in some step, a ratio; None without uncertainty.
        step_probability: Share of scenarios in which it happens in each step of it; None without uncertainty.
    """

    element_id: str
    kind: str
    contingency_id: str
    start_step: int
    end_step: int
    start_time: pd.Timestamp
    end_time: pd.Timestamp
    worst_value: float
    worst_step: int
    worst_time: pd.Timestamp
    limit: float
    phase: str
    relief_bus_id: str
    relief_needed_kw: pd.Series
    probability: float | None
    step_probability: pd.Series | None

    @classmethod
    def from_message(cls, message: congestion_pb2.Congestion, grid: TimeGrid) -> Congestion:
        """Read a congestion of the contract.

        Args:
            message: Congestion.
            grid: Time axis of the forecast.
        """
        index = grid.index[message.start_step : message.end_step]
        start, step = grid.start_time, grid.step_duration
        return cls(
            element_id=message.element_id,
            kind=short_name(congestion_pb2.CongestionKind, "CONGESTION_KIND_", message.kind),
            contingency_id=message.contingency_id,
            start_step=message.start_step,
            end_step=message.end_step,
            start_time=start + message.start_step * step,
            end_time=start + message.end_step * step,
            worst_value=message.worst_value,
            worst_step=message.worst_step,
            worst_time=start + message.worst_step * step,
            limit=message.limit,
            phase=short_name(supply_node_pb2.Phase, "PHASE_", message.phase) if message.phase else "",
            relief_bus_id=message.relief_bus_id,
            relief_needed_kw=_by_step(message.relief_needed_kw, index, "relief_needed_kw"),
            probability=message.probability if message.HasField("probability") else None,
            step_probability=_by_step(message.step_probability, index, "step_probability")
            if len(message.step_probability)
            else None,
        )


def congestion_table(congestions: Sequence[Congestion]) -> pd.DataFrame:
    """One row a congestion, without what is told by step."""
    rows = {name: [getattr(row, name) for row in congestions] for name in _TABLE_COLUMNS}
    table = pd.DataFrame(rows, columns=list(_TABLE_COLUMNS))
    table["probability"] = table["probability"].astype(np.float64)
    table.index.name = "congestion"
    return table


def relief_table(congestions: Sequence[Congestion]) -> pd.DataFrame:
    """One row for each congestion and step of it: ``relief_bus_id``, ``relief_needed_kw`` and ``step_probability``.

    The index is the row of the congestion in :func:`congestion_table` and the start of the step.
    """
    pieces = [
        pd.DataFrame(
            {
                "congestion": number,
                "time": row.relief_needed_kw.index,
                "relief_bus_id": row.relief_bus_id,
                "relief_needed_kw": row.relief_needed_kw.to_numpy(),
                "step_probability": np.nan if row.step_probability is None else row.step_probability.to_numpy(),
            }
        )
        for number, row in enumerate(congestions)
        if len(row.relief_needed_kw)
    ]
    if not pieces:
        columns = ["congestion", "time", "relief_bus_id", "relief_needed_kw", "step_probability"]
        return pd.DataFrame(columns=columns).set_index(["congestion", "time"])
    return pd.concat(pieces, ignore_index=True).set_index(["congestion", "time"])


def _by_step(values: Sequence[float], index: pd.DatetimeIndex, name: str) -> pd.Series:
    """Values of the steps of a congestion; NaN in all where they are not told."""
    told = np.asarray(values, dtype=np.float64) if len(values) else np.full(len(index), np.nan)
    return pd.Series(told, index=index, name=name)
