"""Forecasts of congestion, put together from the messages of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pandas as pd

from evflex.client.congestion.congestion import Congestion, congestion_table, relief_table
from evflex.client.congestion.network import Network
from evflex.client.congestion.tables import element_columns, steps_table
from evflex.client.errors import broken_stream
from evflex.client.moments import timestamp
from evflex.client.timegrid import TimeGrid
from evflex.congestion.v1 import congestion_pb2
from evflex.congestion.v1 import congestion_service_pb2 as pb

_WORST = {
    "voltage_min_pu": "worst_voltage_min_pu",
    "voltage_max_pu": "worst_voltage_max_pu",
    "branch_loading_ratio": "worst_loading_ratio",
}
_CONTINGENCIES = {
    "voltage_min_contingency": "worst_voltage_min_pu",
    "voltage_max_contingency": "worst_voltage_max_pu",
    "branch_loading_contingency": "worst_loading_ratio",
}


@dataclass(frozen=True, slots=True)
class ForecastProgress:
    """How far a forecast is.

    Attributes:
        contingencies_done: Contingencies looked at, the network as it is among them.
        contingency_count: Contingencies in all.
        flows_solved: Power flows solved.
        elapsed_duration: Since the forecast began.
    """

    contingencies_done: int
    contingency_count: int
    flows_solved: int
    elapsed_duration: timedelta

    @classmethod
    def from_message(cls, message: congestion_pb2.ForecastProgress) -> ForecastProgress:
        """Read progress of the contract."""
        return cls(
            contingencies_done=message.contingencies_done,
            contingency_count=message.contingency_count,
            flows_solved=message.flows_solved,
            elapsed_duration=message.elapsed_duration.ToTimedelta(),
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CongestionForecast:
    """Where and when a network is overloaded or leaves its voltage band.

    Attributes:
        forecast_id: Identifier; empty unless it was stored.
        network_id: Network.
        network_etag: Etag of the network.
        time_grid: Time axis.
        congestion_count: Number of congestions.
        contingency_count: Contingencies looked at, the network as it is among them.
        skipped_branch_ids: Contingencies that were not computed, because their branch is open already. Empty in lists.
        flows_solved: Power flows solved.
        congestions: One row a congestion, with the attributes of :class:`Congestion` but what is told by step. Empty in
            lists.
        relief: By ``congestion`` (row of ``congestions``) and ``time``: ``relief_bus_id``, ``relief_needed_kw``
            (positive is to draw that much less there, negative is to draw more), ``step_probability``. Empty in lists.
        islands: What a contingency cuts off: ``contingency_id``, ``bus_ids`` without a source, ``closed_branch_ids``
            that are closed to feed others, and ``unserved_kwh``. Empty in lists.
        not_converged: Steps that are not solved: ``contingency_id``, ``step``, ``time``, and for the one of the largest
            load ``nearest_solvable_loading_ratio`` and ``weakest_bus_id``. Empty in lists.
        worst_voltage_min_pu: Lowest voltage in pu over all contingencies; rows are steps (UTC), columns
            are buses. None unless asked for, as the other two.
        worst_voltage_max_pu: Highest voltage in pu.
        worst_loading_ratio: Largest loading over rating; columns are branches.
        worst_contingencies: By the names of these three tables: the contingency of each value, as the index of its
            branch in the network, −1 for the network as it is and where nothing is known.
        solve_duration: Wall time of the forecast.
        tenant_id: Owner.
        area_id: Grid area of the network.
        etag: Changes with every change.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    forecast_id: str
    network_id: str
    network_etag: str
    time_grid: TimeGrid
    congestion_count: int
    contingency_count: int
    skipped_branch_ids: tuple[str, ...]
    flows_solved: int
    congestions: pd.DataFrame
    relief: pd.DataFrame
    islands: pd.DataFrame
    not_converged: pd.DataFrame
    worst_voltage_min_pu: pd.DataFrame | None = None
    worst_voltage_max_pu: pd.DataFrame | None = None
    worst_loading_ratio: pd.DataFrame | None = None
    worst_contingencies: dict[str, pd.DataFrame] = field(default_factory=dict)
    solve_duration: timedelta
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(
        cls,
        message: congestion_pb2.CongestionForecast,
        congestions: Sequence[Congestion] = (),
        worst: dict[str, pd.DataFrame] | None = None,
        worst_contingencies: dict[str, pd.DataFrame] | None = None,
    ) -> CongestionForecast:
        """Read a forecast of the contract.

        Args:
            message: Forecast.
            congestions: Its congestions.
            worst: Tables of worst values by attribute.
            worst_contingencies: Tables of their contingencies by attribute.
        """
        grid = TimeGrid.from_message(message.time_grid)
        return cls(
            forecast_id=message.forecast_id,
            network_id=message.network_id,
            network_etag=message.network_etag,
            time_grid=grid,
            congestion_count=message.congestion_count,
            contingency_count=message.contingency_count,
            skipped_branch_ids=tuple(message.skipped_branch_ids),
            flows_solved=message.flows_solved,
            congestions=congestion_table(congestions),
            relief=relief_table(congestions),
            islands=_islands(message.islands),
            not_converged=_not_converged(message.not_converged, grid.index),
            solve_duration=message.solve_duration.ToTimedelta(),
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
            worst_contingencies=worst_contingencies or {},
            **(worst or {}),
        )


@dataclass(frozen=True, slots=True)
class WantedNetwork:
    """The very network that a forecast was made with.

    Attributes:
        network_id: Identifier.
        network_etag: Its etag; another network may have taken the identifier since.
    """

    network_id: str
    network_etag: str

    def is_met_by(self, network: Network) -> bool:
        """Whether it is this network, with its tables."""
        return network.buses is not None and (network.network_id, network.etag) == (self.network_id, self.network_etag)


class ForecastStream:
    """Congestions as they are found, over lost connections: those that were handed out are passed over afterwards.

    Attributes:
        summary: What is told besides congestions, once it has come.
    """

    def __init__(
        self,
        grid: TimeGrid | None = None,
        on_progress: Callable[[ForecastProgress], None] | None = None,
        on_summary: Callable[[CongestionForecast], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            grid: Time axis; None where the summary comes first and tells it.
            on_progress: Called with each message of progress.
            on_summary: Called at the end, with the forecast without its congestions.
        """
        self.summary: congestion_pb2.CongestionForecast | None = None
        self._grid = grid
        self._on_progress = on_progress
        self._on_summary = on_summary
        self._known: set[tuple[str, int, str, int]] = set()
        self._handed_out: set[tuple[str, int, str, int]] = set()
        self.begin()

    def begin(self) -> None:
        """Begin anew; what was handed out stays so."""
        self.summary = None
        self._known |= self._handed_out
        self._handed_out = set()
        self._count = 0
        self._worst: list[congestion_pb2.WorstChunk] = []

    def accept(self, message: pb.ForecastCongestionResponse | pb.GetForecastResponse) -> Sequence[Congestion]:
        """Take a message; congestions that are new are returned.

        Raises:
            ServerError: A message is out of order.
        """
        kind = message.WhichOneof("payload")
        if kind == "progress" and isinstance(message, pb.ForecastCongestionResponse):
            if self._on_progress is not None:
                self._on_progress(ForecastProgress.from_message(message.progress))
        elif kind == "congestions":
            return self._found(message.congestions)
        elif kind == "worst":
            self._add_worst(message.worst)
        elif kind == "summary":
            self.summary = message.summary
            self._grid = self._grid or TimeGrid.from_message(message.summary.time_grid)
        return ()

    def check_ended(self) -> None:
        """Check the end of a stream.

        Raises:
            ServerError: Something is missing.
        """
        summary, worst = self.summary, self._worst
        whole = summary is not None and self._count == summary.congestion_count
        if whole and summary is not None and worst:
            whole = worst[-1].first_step + worst[-1].step_count == summary.time_grid.step_count
        if not whole:
            raise broken_stream("ended before the forecast was whole")
        if self._on_summary is not None and summary is not None:
            self._on_summary(CongestionForecast.from_message(summary))

    @property
    def wanted_network(self) -> WantedNetwork | None:
        """The network whose tables name the columns of worst values; None where there are no such values."""
        if not self._worst or self.summary is None:
            return None
        return WantedNetwork(self.summary.network_id, self.summary.network_etag)

    def forecast(self, congestions: Sequence[Congestion], network: Network | None = None) -> CongestionForecast:
        """The forecast, once the stream has ended.

        Args:
            congestions: All that were handed out.
            network: The network with its tables, which names the columns of worst values; else they are numbered.
        """
        assert self.summary is not None
        values, contingencies = self._tables(network, _WORST), self._tables(network, _CONTINGENCIES)
        return CongestionForecast.from_message(
            self.summary, congestions, values, {name: table.astype(np.int64) for name, table in contingencies.items()}
        )

    def _found(self, chunk: congestion_pb2.CongestionChunk) -> list[Congestion]:
        if self._grid is None:
            raise broken_stream("is out of order")
        self._count += len(chunk.congestions)
        new = []
        for message in chunk.congestions:
            key = (message.element_id, message.kind, message.contingency_id, message.start_step)
            if key not in self._known:
                self._handed_out.add(key)
                new.append(Congestion.from_message(message, self._grid))
        return new

    def _add_worst(self, chunk: congestion_pb2.WorstChunk) -> None:
        expected = self._worst[-1].first_step + self._worst[-1].step_count if self._worst else 0
        if chunk.first_step != expected:
            raise broken_stream("is out of order")
        self._worst.append(chunk)

    def _tables(self, network: Network | None, fields: dict[str, str]) -> dict[str, pd.DataFrame]:
        if not self._worst or self._grid is None:
            return {}
        index = self._grid.index
        tables = {}
        for name, attribute in fields.items():
            values = np.concatenate([np.asarray(getattr(chunk, name), dtype=np.float64) for chunk in self._worst])
            if len(values) % max(len(index), 1):
                raise broken_stream(f"has {name} of another length than it must")
            matrix = values.reshape(len(index), -1)
            tables[attribute] = steps_table(matrix, index, _named(attribute, matrix.shape[1], network))
        return tables


def _named(attribute: str, count: int, network: Network | None) -> pd.Index:
    name = "branch_id" if attribute == "worst_loading_ratio" else "bus_id"
    if network is None or network.buses is None or network.branches is None:
        return pd.RangeIndex(count, name=name)
    ids = (network.branches if name == "branch_id" else network.buses).index
    if len(ids) != count:
        raise broken_stream("has worst values of another network")
    return element_columns(list(ids), name)


def _islands(rows: Sequence[congestion_pb2.Island]) -> pd.DataFrame:
    return pd.DataFrame(
        [(row.contingency_id, tuple(row.bus_ids), tuple(row.closed_branch_ids), row.unserved_kwh) for row in rows],
        columns=["contingency_id", "bus_ids", "closed_branch_ids", "unserved_kwh"],
    )


def _not_converged(rows: Sequence[congestion_pb2.UnsolvedContingency], index: pd.DatetimeIndex) -> pd.DataFrame:
    told = [
        (
            row.contingency_id, step, index[step],
            row.nearest_solvable_loading_ratio
            if step == row.heaviest_step and row.HasField("nearest_solvable_loading_ratio")
            else np.nan,
            row.weakest_bus_id if step == row.heaviest_step else "",
        )
        for row in rows
        for step in row.steps
    ]  # fmt: skip
    columns = ["contingency_id", "step", "time", "nearest_solvable_loading_ratio", "weakest_bus_id"]
    return pd.DataFrame(told, columns=columns)
