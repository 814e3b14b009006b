"""The electrical tree behind a grid connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from evflex.client.steps import PerStep, per_step
from evflex.common.v1 import supply_node_pb2


@dataclass(frozen=True, slots=True, eq=False)
class SupplyNode:
    """Grid connection, transformer, panel or circuit; positive power flows from the grid towards the loads.

    Attributes:
        node_id: Unique identifier.
        parent_node_id: Node that feeds this one; empty at the root.
        max_import_kw: Safety limit on import in kW; None is no limit.
        max_export_kw: Safety limit on export in kW, a positive number; None is no limit.
        agreement_import_kw: Import in kW that the connection agreement allows; gives way to minimum energy
            only.
        max_current_a: Safety limit on the current of each phase in A.
        nominal_voltage_v: Line-to-neutral voltage in V.
        fixed_load_kw: Uncontrolled net load at this node in kW, PV surplus negative; None is none.
        fixed_load_phases: Phases of the fixed load, for example ``L1``.
    """

    node_id: str
    parent_node_id: str = ""
    max_import_kw: PerStep | None = None
    max_export_kw: PerStep | None = None
    agreement_import_kw: PerStep | None = None
    max_current_a: float | None = None
    nominal_voltage_v: float | None = None
    fixed_load_kw: PerStep | None = None
    fixed_load_phases: str = "L1_L2_L3"

    def to_message(self) -> supply_node_pb2.SupplyNode:
        """Write a node of the contract.

        Raises:
            ValueError: ``fixed_load_phases`` is unknown.
        """
        return supply_node_pb2.SupplyNode(
            node_id=self.node_id,
            parent_node_id=self.parent_node_id,
            max_import_kw=per_step(self.max_import_kw),
            max_export_kw=per_step(self.max_export_kw),
            agreement_import_kw=per_step(self.agreement_import_kw),
            max_current_a=self.max_current_a,
            nominal_voltage_v=self.nominal_voltage_v,
            fixed_load_kw=per_step(self.fixed_load_kw),
            fixed_load_phases=phase_connection(self.fixed_load_phases),  # type: ignore[arg-type]
        )


def nodes_from_frame(frame: pd.DataFrame) -> list[SupplyNode]:
    """Nodes from a table with the columns of :class:`SupplyNode`; NaN means absent.

    Raises:
        ValueError: A column is unknown or ``node_id`` is missing.
    """
    known = {field.name for field in fields(SupplyNode)}
    unknown = [str(column) for column in frame.columns if column not in known]
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if "node_id" not in frame.columns:
        raise ValueError("the column node_id is missing")
    rows: list[dict[str, object]] = frame.to_dict("records")  # type: ignore[assignment]
    return [SupplyNode(**{k: v for k, v in row.items() if not _absent(v)}) for row in rows]  # type: ignore[arg-type]


def node_messages(nodes: Iterable[SupplyNode] | pd.DataFrame) -> list[supply_node_pb2.SupplyNode]:
    """Nodes of the contract from dataclasses or a table."""
    given = nodes_from_frame(nodes) if isinstance(nodes, pd.DataFrame) else nodes
    return [node.to_message() for node in given]


def phase_connection(name: str) -> int:
    """Enum value of phases such as ``L1`` or ``L1_L2_L3``, with or without the enum's prefix.

    Raises:
        ValueError: The name is unknown.
    """
    try:
        return PHASE_CONNECTIONS[name]
    except KeyError:
        known = ", ".join(key for key in PHASE_CONNECTIONS if len(key) < 10 and key)
        raise ValueError(f"unknown phases {name!r}; known are {known}") from None


def _phase_connections() -> dict[str, int]:
    prefix = "PHASE_CONNECTION_"
    values: dict[str, int] = dict(supply_node_pb2.PhaseConnection.items())
    unspecified = values.pop(f"{prefix}UNSPECIFIED")
    return {"": unspecified} | {k.removeprefix(prefix): v for k, v in values.items()} | values


def _absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


PHASE_CONNECTIONS = _phase_connections()
"""Enum values by name, short and full; empty means unspecified."""
