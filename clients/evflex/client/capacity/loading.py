"""How a transformer is loaded by everything but the hubs: measured, or forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.capacity.v1 import transformer_pb2 as pb
from evflex.client.moments import timestamp_message
from evflex.client.request import Flags
from evflex.client.steps import PerStep
from evflex.client.timegrid import TimeGrid

Phases = Sequence[float] | NDArray[np.float64] | pd.Series
"""Values of L1, L2, L3."""

Rows = PerStep | pd.DataFrame
"""Values by step, or by step (rows) and quantile (columns)."""


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredLoading:
    """Loading as measured at the low-voltage side, held over the horizon.

    Attributes:
        current_a: Current of L1, L2, L3 in A.
        voltage_v: Line-to-neutral voltage of L1, L2, L3 in V.
        power_factor: In [-1, 1] without 0; negative is export.
        measurement_time: When it was measured, with a time zone; None is not told.
    """

    current_a: Phases
    voltage_v: Phases
    power_factor: float = 1.0
    measurement_time: pd.Timestamp | None = None

    def to_message(self, _grid: TimeGrid) -> pb.Loading:
        """Write a loading of the contract.

        Raises:
            ValueError: ``measurement_time`` has no time zone, or a value is no number.
        """
        measured = pb.MeasuredLoading(
            current_a=by_phase(self.current_a),
            voltage_v=by_phase(self.voltage_v),
            power_factor=self.power_factor,
            measurement_time=timestamp_message(self.measurement_time, "measurement_time"),
        )
        return pb.Loading(measured=measured)


@dataclass(frozen=True, slots=True, eq=False)
class ForecastLoading:
    """Loading as forecast, without the hubs; export is negative.

    Attributes:
        load_kw: Active power in kW by step; a number holds for all steps. With quantiles a table whose rows are steps
            and whose columns are their probabilities, or such an array and ``quantiles``.
        load_kvar: Reactive power in kvar, shaped like ``load_kw``; None is none.
        quantiles: Probabilities of the columns of an array, rising.
    """

    load_kw: Rows
    load_kvar: Rows | None = None
    quantiles: Sequence[float] = ()

    def to_message(self, grid: TimeGrid) -> pb.Loading:
        """Write a loading of the contract.

        Args:
            grid: Time axis.

        Raises:
            ValueError: A value is no number, or the columns of a table are no probabilities.
        """
        quantiles = self.load_kw.columns if isinstance(self.load_kw, pd.DataFrame) else self.quantiles
        forecast = pb.ForecastLoading(
            load_kw=_by_quantile(self.load_kw, grid.step_count),
            load_kvar=[] if self.load_kvar is None else _by_quantile(self.load_kvar, grid.step_count),
            quantiles=np.asarray(quantiles, dtype=np.float64).tolist(),
        )
        return pb.Loading(forecast=forecast)


Loading = MeasuredLoading | ForecastLoading
"""Where the loading comes from."""


def conditions(contingency: bool | Flags | None) -> list[pb.GridCondition]:
    """Condition of the grid for all steps or for each: N-1 where ``contingency`` is true."""
    flags: list[bool] = [] if contingency is None else np.atleast_1d(np.asarray(contingency, dtype=np.bool_)).tolist()
    return [pb.GRID_CONDITION_CONTINGENCY if flag else pb.GRID_CONDITION_NORMAL for flag in flags]


def by_phase(values: Phases) -> list[float]:
    """Values of L1, L2, L3 as a repeated field."""
    numbers: list[float] = np.asarray(values, dtype=np.float64).tolist()
    return numbers


def _by_quantile(values: Rows, step_count: int) -> list[float]:
    """Quantiles x steps, row-major."""
    numbers = np.asarray(values, dtype=np.float64)
    spread = np.full(step_count, numbers) if numbers.ndim == 0 else numbers
    flat: list[float] = spread.T.ravel().tolist()
    return flat
