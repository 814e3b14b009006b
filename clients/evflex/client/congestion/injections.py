"""What is drawn where: tables of power by time and bus, or profiles times scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.columns import faulty_columns, numbers
from evflex.client.congestion.enums import connection_name
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_service_pb2 as pb
from evflex.congestion.v1 import power_flow_pb2

_ROW_COLUMNS = ("bus_id", "phases", "p_profile", "p_scale_kw", "q_profile", "q_scale_kvar")
_REQUIRED_ROW_COLUMNS = ("bus_id", "p_scale_kw")
_CONSTANT = -1


@dataclass(frozen=True, slots=True, eq=False)
class Injections:
    """Power drawn at buses, step by step; consumption is positive.

    Attributes:
        p_kw: Active power in kW. Rows are steps by time, columns are buses, or pairs of a bus and its phases such as
            ``("12", "L1")``. A bus may have several columns, which add up.
        q_kvar: Reactive power in kvar, inductive is positive; rows and columns as those of ``p_kw``. None is none.
        add_network_loads: Whether the loads and generators of the network's file are drawn on top, in every step.
    """

    p_kw: pd.DataFrame
    q_kvar: pd.DataFrame | None = None
    add_network_loads: bool = False

    @property
    def index(self) -> pd.Index:
        """Steps."""
        return self.p_kw.index

    def to_message(self) -> power_flow_pb2.Injections:
        """Write injections of the contract.

        Raises:
            ValueError: An entry is no number, phases are unknown, or the tables differ in rows or columns.
        """
        bus_ids, phases = _bus_columns(self.p_kw.columns)
        return power_flow_pb2.Injections(
            bus_ids=bus_ids,
            phases=phases,
            p_kw=by_row(self.p_kw).tolist(),
            q_kvar=[] if self.q_kvar is None else by_row(like(self.q_kvar, self.p_kw, "q_kvar")).tolist(),
            add_network_loads=self.add_network_loads,
        )

    def write(self, message: pb.RunPowerFlowRequest | pb.ForecastCongestionRequest) -> None:
        """Set the load of a request."""
        message.injections.CopyFrom(self.to_message())


@dataclass(frozen=True, slots=True, eq=False)
class ProfiledInjections:
    """Power drawn at buses in few numbers, for long horizons: each row is a profile times a scale.

    Attributes:
        profiles: Profiles without unit; rows are steps by time, columns are their names. None where all is constant.
        rows: One row a load: ``bus_id`` and ``p_scale_kw``, the power in kW where its profile is 1, consumption
            positive; optional ``p_profile`` (name of a profile, missing for constant), ``q_scale_kvar``, ``q_profile``
            (the same as ``p_profile`` where the column is absent) and ``phases``.
        add_network_loads: Whether the loads and generators of the network's file are drawn on top, in every step.
    """

    profiles: pd.DataFrame | None
    rows: pd.DataFrame
    add_network_loads: bool = False

    @property
    def index(self) -> pd.Index | None:
        """Steps."""
        return None if self.profiles is None else self.profiles.index

    def to_message(self) -> power_flow_pb2.ProfiledInjections:
        """Write injections of the contract.

        Raises:
            InvalidRequestError: Columns are missing or unknown.
            ValueError: An entry is no number, or no profile has its name.
        """
        violations = faulty_columns(self.rows, _REQUIRED_ROW_COLUMNS, _ROW_COLUMNS, "injections.rows")
        if violations:
            raise InvalidRequestError.before_sending(violations)
        rows, count = self.rows, len(self.rows)
        constant = pd.Series(None, index=rows.index, dtype=object)
        return power_flow_pb2.ProfiledInjections(
            profile_count=0 if self.profiles is None else self.profiles.shape[1],
            profile_values=[] if self.profiles is None else by_row(self.profiles).tolist(),
            bus_ids=[str(bus_id) for bus_id in rows["bus_id"]],
            phases=[connection_name(phases) for phases in rows["phases"]] if "phases" in rows else [],
            p_profile_indices=self._indices(rows.get("p_profile", constant)),
            p_scale_kw=numbers(rows["p_scale_kw"]).tolist(),
            q_profile_indices=self._indices(rows["q_profile"]) if "q_profile" in rows else [],
            q_scale_kvar=numbers(rows.get("q_scale_kvar", pd.Series(np.zeros(count)))).tolist()
            if "q_scale_kvar" in rows
            else [],
            add_network_loads=self.add_network_loads,
        )

    def write(self, message: pb.RunPowerFlowRequest | pb.ForecastCongestionRequest) -> None:
        """Set the load of a request."""
        message.profiled_injections.CopyFrom(self.to_message())

    def _indices(self, names: pd.Series) -> list[int]:
        known = [] if self.profiles is None else list(self.profiles.columns)
        places = {name: place for place, name in enumerate(known)}
        missing = names.isna().to_numpy()
        unknown = [name for name, absent in zip(names, missing, strict=True) if not absent and name not in places]
        if unknown:
            raise ValueError(f"there is no profile {unknown[0]!r}; there are {', '.join(map(str, known)) or 'none'}")
        return [_CONSTANT if absent else places[name] for name, absent in zip(names, missing, strict=True)]


Load = Injections | ProfiledInjections | pd.DataFrame | None
"""What is drawn: a bare table is active power, None what the network's file brings."""


def write_load(
    message: pb.RunPowerFlowRequest | pb.ForecastCongestionRequest, load: Load, violations: list[Violation]
) -> None:
    """Set the load of a request.

    Args:
        message: Request.
        load: What is drawn.
        violations: Receives what cannot be written.
    """
    injections = Injections(load) if isinstance(load, pd.DataFrame) else load
    if injections is None:
        return
    try:
        injections.write(message)
    except InvalidRequestError as error:
        violations.extend(error.violations)
    except (TypeError, ValueError) as error:
        violations.append(Violation("injections", str(error)))


def load_index(load: Load) -> pd.Index | None:
    """Steps of what is drawn; None where nothing tells them."""
    return None if load is None else load.index


def load_axis(load: Load, time_grid: TimeGrid | None) -> TimeGrid | None:
    """The time axis that was given, or that of what is drawn; None where neither tells one.

    Raises:
        ValueError: The index of a table is no time axis.
    """
    index = load_index(load)
    if time_grid is not None or not isinstance(index, pd.DatetimeIndex):
        return time_grid
    return TimeGrid.from_index(index)


def by_row(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Entries of a table by column, then by step.

    Raises:
        ValueError: An entry is no number.
    """
    return frame.to_numpy(dtype=np.float64).T.ravel()


def like(frame: pd.DataFrame, other: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table with its columns in the order of another's.

    Raises:
        ValueError: The two differ in rows or columns.
    """
    if len(frame) != len(other) or not frame.index.equals(other.index):
        raise ValueError(f"{name} must have the index of p_kw")
    if frame.columns.equals(other.columns):
        return frame
    if frame.columns.has_duplicates or set(frame.columns) != set(other.columns):
        raise ValueError(f"{name} must have the columns of p_kw")
    return frame[other.columns]


def _bus_columns(columns: pd.Index) -> tuple[list[str], list[str]]:
    """Bus of each column, and its phases where they are told."""
    if isinstance(columns, pd.MultiIndex):
        if columns.nlevels != 2:
            raise ValueError(f"columns must be buses, or pairs of bus and phases, have {columns.nlevels} levels")
        return [str(bus) for bus, _ in columns], [connection_name(str(phases)) for _, phases in columns]
    return [str(bus) for bus in columns], []
