"""Power flows as tables, put together from the messages of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.congestion.tables import element_columns, steps_table
from evflex.client.errors import broken_stream
from evflex.congestion.v1 import congestion_service_pb2 as pb
from evflex.congestion.v1 import power_flow_pb2

_BUS_FIELDS = ("voltage_pu", "voltage_angle_deg", "voltage_unbalance_ratio")
_BRANCH_FIELDS = (
    "branch_loading_ratio", "from_p_kw", "from_q_kvar", "from_current_a", "to_p_kw", "to_q_kvar", "to_current_a",
)  # fmt: skip
FIELDS = (*_BUS_FIELDS, *_BRANCH_FIELDS)
# One number for all phases.
_WITHOUT_PHASES = ("voltage_unbalance_ratio", "branch_loading_ratio")


@dataclass(frozen=True, slots=True)
class PowerFlowProgress:
    """How far a power flow is.

    Attributes:
        steps_done: Steps computed.
        step_count: Steps in all.
        elapsed_duration: Since the computation began.
    """

    steps_done: int
    step_count: int
    elapsed_duration: timedelta

    @classmethod
    def from_message(cls, message: power_flow_pb2.PowerFlowProgress) -> PowerFlowProgress:
        """Read progress of the contract."""
        return cls(message.steps_done, message.step_count, message.elapsed_duration.ToTimedelta())


@dataclass(frozen=True, slots=True, eq=False)
class PowerFlowSummary:
    """What comes after all steps of a power flow.

    Attributes:
        step_count: Steps in all.
        converged_count: Steps that are solved.
        losses_kw: Losses of the network in kW by step, NaN where it is not solved.
        islanded_bus_ids: Buses that no source reaches.
        not_converged: Steps that are not solved, the first 1000: ``step``, ``time`` (its row in the tables),
            ``nearest_solvable_loading_ratio`` (largest share of all injections that can still be solved, NaN where it
            is not known) and ``weakest_bus_id`` (lowest voltage there).
        solve_duration: Wall time of the computation.
    """

    step_count: int
    converged_count: int
    losses_kw: pd.Series
    islanded_bus_ids: tuple[str, ...]
    not_converged: pd.DataFrame
    solve_duration: timedelta

    @classmethod
    def from_message(cls, message: power_flow_pb2.PowerFlowSummary, index: pd.Index) -> PowerFlowSummary:
        """Read a summary of the contract.

        Args:
            message: Summary.
            index: Start of each step, or its number.
        """
        rows = message.not_converged
        steps = [row.step for row in rows]
        share = "nearest_solvable_loading_ratio"
        return cls(
            step_count=message.step_count,
            converged_count=message.converged_count,
            losses_kw=pd.Series(np.asarray(message.losses_kw, dtype=np.float64), index=index, name="losses_kw"),
            islanded_bus_ids=tuple(message.islanded_bus_ids),
            not_converged=pd.DataFrame(
                {
                    "step": steps,
                    "time": index[steps],
                    share: [getattr(row, share) if row.HasField(share) else np.nan for row in rows],
                    "weakest_bus_id": [row.weakest_bus_id for row in rows],
                }
            ),
            solve_duration=message.solve_duration.ToTimedelta(),
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PowerFlowSteps:
    """Some steps of a power flow. Rows of all tables are steps: their start in UTC, or their number without time axis.

    Columns are buses or branches; in a network of three phases pairs of these and ``L1``, ``L2``, ``L3``. Tables that
    were not asked for are None. At buses that no source reaches, at branches between such, and in steps that are not
    solved, values are NaN.

    Attributes:
        first_step: Number of the first row.
        converged: Whether each step is solved.
        voltage_pu: Voltage of buses in pu.
        voltage_angle_deg: Angle of the voltage in degrees.
        branch_loading_ratio: Loading over rating of the most loaded end and phase; columns are branches. NaN also where
            a branch has no rating.
        from_p_kw: Active power in kW that enters at the from side.
        from_q_kvar: Reactive power in kvar that enters at the from side.
        from_current_a: Current in A at the from side.
        to_p_kw: Active power in kW that enters at the to side.
        to_q_kvar: Reactive power in kvar that enters at the to side.
        to_current_a: Current in A at the to side.
        voltage_unbalance_ratio: Negative over positive sequence of the voltage; columns are buses.
    """

    first_step: int
    converged: pd.Series
    voltage_pu: pd.DataFrame | None = None
    voltage_angle_deg: pd.DataFrame | None = None
    branch_loading_ratio: pd.DataFrame | None = None
    from_p_kw: pd.DataFrame | None = None
    from_q_kvar: pd.DataFrame | None = None
    from_current_a: pd.DataFrame | None = None
    to_p_kw: pd.DataFrame | None = None
    to_q_kvar: pd.DataFrame | None = None
    to_current_a: pd.DataFrame | None = None
    voltage_unbalance_ratio: pd.DataFrame | None = None

    @property
    def index(self) -> pd.Index:
        """Rows of all tables."""
        return self.converged.index


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PowerFlow(PowerFlowSteps):
    """A power flow, whole: the tables of :class:`PowerFlowSteps` with all steps, and what comes after them.

    Attributes:
        network_id: Network.
        network_etag: Etag of the network.
        phase_count: 1, or 3.
        summary: What comes after all steps.
    """

    network_id: str
    network_etag: str
    phase_count: int
    summary: PowerFlowSummary

    @property
    def losses_kw(self) -> pd.Series:
        """Losses of the network in kW by step, NaN where it is not solved."""
        return self.summary.losses_kw


class PowerFlowStream:
    """Steps of a power flow part by part, over lost connections: what was handed out is passed over afterwards.

    Attributes:
        header: What the parts refer to, once it has come.
        summary: What comes after all parts, once it has come.
    """

    def __init__(
        self,
        index_of: Callable[[int], pd.Index],
        on_progress: Callable[[PowerFlowProgress], None] | None = None,
        on_summary: Callable[[PowerFlowSummary], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            index_of: Rows of all tables, by the number of steps.
            on_progress: Called with each message of progress.
            on_summary: Called at the end.
        """
        self.header: power_flow_pb2.PowerFlowHeader | None = None
        self.summary: PowerFlowSummary | None = None
        self._index_of = index_of
        self._on_progress = on_progress
        self._on_summary = on_summary
        self._done = 0
        self.begin()

    def begin(self) -> None:
        """Begin anew; what was handed out stays so."""
        self._pending: power_flow_pb2.PowerFlowChunk | None = None
        self._expected = 0
        self._begun = False

    def accept(self, message: pb.RunPowerFlowResponse) -> Sequence[PowerFlowSteps]:
        """Take a message; a part that is whole and new is returned.

        Raises:
            ServerError: A chunk is out of order.
        """
        kind = message.WhichOneof("payload")
        if kind == "header":
            self._open(message.header)
        elif kind == "progress" and self._on_progress is not None:
            self._on_progress(PowerFlowProgress.from_message(message.progress))
        elif kind == "chunk":
            return self._add(message.chunk)
        elif kind == "summary":
            return self._end(message.summary)
        return ()

    def check_ended(self) -> None:
        """Check the end of a stream.

        Raises:
            ServerError: Steps are missing.
        """
        if self.summary is None or self.header is None or self._done != self.header.step_count:
            raise broken_stream("ended before the power flow was whole")
        if self._on_summary is not None:
            self._on_summary(self.summary)

    def _open(self, header: power_flow_pb2.PowerFlowHeader) -> None:
        known = self.header
        if known is not None and (known.network_etag, known.step_count) != (header.network_etag, header.step_count):
            raise broken_stream("changed to another network while the connection was lost")
        self.header, self._begun = header, True
        self._index = self._index_of(header.step_count)
        self._columns = {
            name: element_columns(
                header.bus_ids if name in _BUS_FIELDS else header.branch_ids,
                "bus_id" if name in _BUS_FIELDS else "branch_id",
                1 if name in _WITHOUT_PHASES else header.phase_count,
            )
            for name in FIELDS
        }

    def _add(self, chunk: power_flow_pb2.PowerFlowChunk) -> Sequence[PowerFlowSteps]:
        pending = self._pending
        if pending is not None and pending.first_step == chunk.first_step:
            # a step of a very large network comes in several chunks, each with other arrays
            pending.MergeFrom(chunk)
            return ()
        if not self._begun or chunk.first_step != self._expected:
            raise broken_stream("is out of order")
        self._expected += chunk.step_count
        self._pending = chunk
        return self._handed_out(pending)

    def _end(self, summary: power_flow_pb2.PowerFlowSummary) -> Sequence[PowerFlowSteps]:
        if not self._begun or len(summary.losses_kw) != len(self._index):
            raise broken_stream("ended before the power flow was whole")
        part = self._handed_out(self._pending)
        self._pending = None
        self.summary = PowerFlowSummary.from_message(summary, self._index)
        return part

    def _handed_out(self, chunk: power_flow_pb2.PowerFlowChunk | None) -> Sequence[PowerFlowSteps]:
        if chunk is None:
            return ()
        end = chunk.first_step + chunk.step_count
        if end > len(self._index):
            raise broken_stream("has more steps than there are")
        first = max(self._done, chunk.first_step)
        if first >= end:
            return ()
        self._done = end
        known = slice(first - chunk.first_step, None)
        index = self._index[first:end]
        return [
            PowerFlowSteps(
                first_step=first,
                converged=pd.Series(np.asarray(chunk.converged, dtype=np.bool_)[known], index=index, name="converged"),
                **{name: steps_table(values[known], index, self._columns[name]) for name, values in self._read(chunk)},
            )
        ]

    def _read(self, chunk: power_flow_pb2.PowerFlowChunk) -> list[tuple[str, NDArray[np.float64]]]:
        if len(chunk.converged) != chunk.step_count:
            raise broken_stream("has converged of another length than it must")
        read = []
        for name in FIELDS:
            values = np.asarray(getattr(chunk, name), dtype=np.float64)
            if len(values):
                if len(values) != chunk.step_count * len(self._columns[name]):
                    raise broken_stream(f"has {name} of another length than it must")
                read.append((name, values.reshape(chunk.step_count, -1)))
        return read


class PowerFlowWhole:
    """Collects parts into one power flow; each array is allocated once."""

    def __init__(self, stream: PowerFlowStream) -> None:
        self._stream = stream
        self._arrays: dict[str, NDArray[np.float64]] = {}
        self._columns: dict[str, pd.Index] = {}
        self._converged = np.zeros(0, dtype=np.bool_)

    def add(self, part: PowerFlowSteps) -> None:
        """Take a part."""
        assert self._stream.header is not None
        count = self._stream.header.step_count
        if not len(self._converged):
            self._converged = np.zeros(count, dtype=np.bool_)
        rows = slice(part.first_step, part.first_step + len(part.converged))
        self._converged[rows] = part.converged.to_numpy()
        for name in FIELDS:
            frame: pd.DataFrame | None = getattr(part, name)
            if frame is not None:
                if name not in self._arrays:
                    self._arrays[name] = np.full((count, frame.shape[1]), np.nan)
                    self._columns[name] = frame.columns
                self._arrays[name][rows] = frame.to_numpy()

    def power_flow(self) -> PowerFlow:
        """The power flow, once its stream has ended."""
        header, summary = self._stream.header, self._stream.summary
        assert header is not None
        assert summary is not None
        index = summary.losses_kw.index
        return PowerFlow(
            first_step=0,
            converged=pd.Series(self._converged, index=index, name="converged"),
            network_id=header.network_id,
            network_etag=header.network_etag,
            phase_count=header.phase_count,
            summary=summary,
            **{name: steps_table(values, index, self._columns[name]) for name, values in self._arrays.items()},
        )
