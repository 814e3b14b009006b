"""What a forecast of congestion is held against, and how uncertain its injections are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evflex.client.columns import numbers, with_id_column
from evflex.client.congestion.injections import Injections, Load, ProfiledInjections, by_row, like
from evflex.congestion.v1 import congestion_pb2

_BAND = ("voltage_min_pu", "voltage_max_pu")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CongestionLimits:
    """Limits; None takes the default of the contract.

    Attributes:
        voltage_min_pu: Lowest voltage in pu of buses that are not listed; None is the network's own, else 0.9.
        voltage_max_pu: Highest voltage in pu of buses that are not listed; None is the network's own, else 1.1.
        max_loading_ratio: Largest loading over rating of branches that are not listed; None is 1.
        buses: Buses with a band of their own: ``voltage_min_pu`` and ``voltage_max_pu`` by ``bus_id``.
        branches: Branches with a loading of their own: largest loading over rating by branch.
    """

    voltage_min_pu: float | None = None
    voltage_max_pu: float | None = None
    max_loading_ratio: float | None = None
    buses: pd.DataFrame | None = None
    branches: pd.Series | None = None

    def to_message(self) -> congestion_pb2.CongestionLimits:
        """Write limits of the contract.

        Raises:
            ValueError: A column is missing, or an entry is no number.
        """
        message = congestion_pb2.CongestionLimits(
            voltage_min_pu=self.voltage_min_pu,
            voltage_max_pu=self.voltage_max_pu,
            max_loading_ratio=self.max_loading_ratio,
        )
        if self.buses is not None:
            table = with_id_column(self.buses, "bus_id")
            absent = [name for name in ("bus_id", *_BAND) if name not in table]
            if absent:
                raise ValueError(f"buses must have bus_id, voltage_min_pu and voltage_max_pu; {absent[0]} is missing")
            message.bus_ids.extend(map(str, table["bus_id"]))
            message.bus_voltage_min_pu.extend(numbers(table["voltage_min_pu"]).tolist())
            message.bus_voltage_max_pu.extend(numbers(table["voltage_max_pu"]).tolist())
        if self.branches is not None:
            message.branch_ids.extend(map(str, self.branches.index))
            message.branch_max_loading_ratio.extend(numbers(self.branches).tolist())
        return message


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class InjectionUncertainty:
    """How uncertain injections are: standard deviations or samples, not both.

    Attributes:
        p_std_kw: Standard deviation of active power in kW; rows and columns as those of the injections' ``p_kw``.
        q_std_kvar: The same of reactive power in kvar; None is none.
        scenario_count: Power flows of a step near a limit that correct its probability; None is 128.
        seed: Seed of the draw; the same gives the same.
        samples_p_kw: Active power in kW, a table like ``p_kw`` for each sample, in its place.
        samples_q_kvar: The same of reactive power in kvar; none takes that of the injections.
    """

    p_std_kw: pd.DataFrame | None = None
    q_std_kvar: pd.DataFrame | None = None
    scenario_count: int | None = None
    seed: int = 0
    samples_p_kw: Sequence[pd.DataFrame] = ()
    samples_q_kvar: Sequence[pd.DataFrame] = ()

    def to_message(self, load: Load) -> congestion_pb2.InjectionUncertainty:
        """Write an uncertainty of the contract.

        Args:
            load: What is drawn.

        Raises:
            ValueError: A table differs in rows or columns from that of the injections, or an entry is no number.
        """
        return congestion_pb2.InjectionUncertainty(
            p_std_kw=_values(self.p_std_kw, load, "p_std_kw"),
            q_std_kvar=_values(self.q_std_kvar, load, "q_std_kvar"),
            scenario_count=self.scenario_count,
            seed=self.seed,
            sample_count=len(self.samples_p_kw),
            sample_p_kw=_samples(self.samples_p_kw, load, "samples_p_kw"),
            sample_q_kvar=_samples(self.samples_q_kvar, load, "samples_q_kvar"),
        )


def _samples(tables: Sequence[pd.DataFrame], load: Load, name: str) -> list[float]:
    return [value for i, table in enumerate(tables) for value in _values(table, load, f"{name}[{i}]")]


def _values(table: pd.DataFrame | None, load: Load, name: str) -> list[float]:
    """Entries by row of the injections, then by step. Rows of profiled injections are the columns in their order."""
    if table is None:
        return []
    power_kw = load.p_kw if isinstance(load, Injections) else load
    if isinstance(power_kw, pd.DataFrame):
        table = like(table, power_kw, name)
    elif isinstance(power_kw, ProfiledInjections) and table.shape[1] != len(power_kw.rows):
        raise ValueError(f"{name} must have a column for each row of the injections")
    flat: list[float] = np.asarray(by_row(table)).tolist()
    return flat
