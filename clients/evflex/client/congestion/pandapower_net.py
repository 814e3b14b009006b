"""pandapower networks: what is sent of one, and answers by the indices of its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from evflex.client.congestion.power_flow import PowerFlowSteps

if TYPE_CHECKING:
    from pandapower import pandapowerNet

FILE_NAME = "network.json"
NEEDS_PANDAPOWER = "pandapower networks need pandapower: pip install 'evflex[pandapower]'"


def pandapower_files(net: pandapowerNet) -> dict[str, bytes]:
    """The file of a network.

    Raises:
        ImportError: pandapower is missing.
    """
    try:
        import pandapower
    except ImportError:
        raise ImportError(NEEDS_PANDAPOWER) from None
    return {FILE_NAME: pandapower.to_json(net).encode()}


def pandapower_columns(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """Columns of an answer that belong to one of the network's tables, named by its index.

    A bus is named by its index, a branch by table and index: ``line 3``, ``trafo 0``, ``impedance 0``, ``switch 5``.

    Args:
        frame: Steps as rows, buses or branches as columns, also by phase.
        table: ``bus``, ``line``, ``trafo``, ``impedance`` or ``switch``.
    """
    prefix = "" if table == "bus" else f"{table} "
    names = frame.columns.get_level_values(0)
    places, indices = [], []
    for place, name in enumerate(map(str, names)):
        index = name.removeprefix(prefix)
        if name.startswith(prefix) and index.isdecimal():
            places.append(place)
            indices.append(int(index))
    columns = pd.Index(indices, name=table, dtype="int64")
    if frame.columns.nlevels > 1:
        phases = frame.columns[places].get_level_values(1)
        columns = pd.MultiIndex.from_arrays([columns, phases], names=[table, "phase"])
    return frame.iloc[:, places].set_axis(columns, axis="columns")


@dataclass(frozen=True, slots=True, eq=False)
class PandapowerTables:
    """A power flow by the indices of a pandapower network; None where it was not asked for.

    Attributes:
        voltage_pu: Voltages in pu; columns are the index of ``net.bus``.
        line_loading_ratio: Loadings of lines; columns are the index of ``net.line``. pandapower tells them in percent.
        trafo_loading_ratio: Loadings of transformers; columns are the index of ``net.trafo``.
    """

    voltage_pu: pd.DataFrame | None
    line_loading_ratio: pd.DataFrame | None
    trafo_loading_ratio: pd.DataFrame | None

    @classmethod
    def of(cls, flow: PowerFlowSteps) -> PandapowerTables:
        """Tables of a power flow, or of some steps of it."""
        voltage, loading = flow.voltage_pu, flow.branch_loading_ratio
        return cls(
            voltage_pu=None if voltage is None else pandapower_columns(voltage, "bus"),
            line_loading_ratio=None if loading is None else pandapower_columns(loading, "line"),
            trafo_loading_ratio=None if loading is None else pandapower_columns(loading, "trafo"),
        )
