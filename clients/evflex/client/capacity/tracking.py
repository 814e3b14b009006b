"""What goes to and fro while a transformer is tracked: header, measurements and changes out, capacities in."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from evflex.capacity.v1 import tracking_pb2 as pb
from evflex.capacity.v1 import transformer_pb2
from evflex.client.capacity.enums import AllocationPolicy, policy_name, reason_text
from evflex.client.capacity.hub import Hub
from evflex.client.capacity.loading import Phases, by_phase
from evflex.client.capacity.transformer import ThermalState, Transformer
from evflex.client.enums import short_name
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import duration_message, timestamp, timestamp_message


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrackingHeader:
    """What is tracked; attributes as the parameters of ``EvflexClient.track_capacity``."""

    transformer: Transformer
    hubs: Sequence[Hub]
    policy: AllocationPolicy | str = AllocationPolicy.MAX_MIN
    contingency: bool = False
    n1_rated_kva: float | None = None
    max_silence: timedelta | None = None
    dead_band_ratio: float | None = None
    ramp_ratio_per_min: float | None = None
    rotation: timedelta | None = None
    max_clock_skew: timedelta | None = None
    area_id: str = ""
    request_id: str = ""

    def to_message(self) -> pb.TrackCapacityRequest:
        """Write the first message of the stream.

        Raises:
            InvalidRequestError: Naming each field that cannot be written.
        """
        violations: list[Violation] = []
        message = pb.TrackCapacityHeader(
            request_id=self.request_id or str(uuid.uuid4()),
            n1_rated_kva=self.n1_rated_kva,
            max_silence_duration=duration_message(self.max_silence),
            dead_band_ratio=self.dead_band_ratio,
            ramp_ratio_per_min=self.ramp_ratio_per_min,
            rotation_duration=duration_message(self.rotation),
            max_clock_skew_duration=duration_message(self.max_clock_skew),
            area_id=self.area_id,
            grid_condition=_condition(self.contingency),
        )
        try:
            message.transformer.CopyFrom(self.transformer.to_message())
        except (TypeError, ValueError) as error:
            violations.append(Violation("transformer", str(error)))
        try:
            message.policy = policy_name(self.policy)  # type: ignore[assignment]
        except ValueError as error:
            violations.append(Violation("policy", str(error)))
        for i, hub in enumerate(self.hubs):
            hub.write(message.hubs.add(), 0, f"hubs[{i}]", violations)
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return pb.TrackCapacityRequest(header=message)


@dataclass(frozen=True, slots=True, eq=False)
class CapacityMeasurement:
    """A measurement of the transformer with everything behind it.

    Attributes:
        measurement_time: When it was measured, with a time zone; rises from one to the next.
        current_a: Current of L1, L2, L3 in A at the low-voltage side.
        voltage_v: Line-to-neutral voltage of L1, L2, L3 in V.
        power_factor: In [-1, 1] without 0; negative is export.
        hub_power_kw: Power of each hub in kW, in the order of the header; None where they have no meters. Hubs without
            one count as other load, so that nothing is given twice.
        ambient_c: Ambient temperature in degrees Celsius from now on; None leaves it.
    """

    measurement_time: pd.Timestamp
    current_a: Phases
    voltage_v: Phases
    power_factor: float = 1.0
    hub_power_kw: Phases | None = None
    ambient_c: float | None = None

    def to_message(self) -> pb.TrackCapacityRequest:
        """Write a message of the stream.

        Raises:
            ValueError: ``measurement_time`` has no time zone, or a value is no number.
        """
        measurement = pb.CapacityMeasurement(
            measurement_time=timestamp_message(self.measurement_time, "measurement_time"),
            current_a=by_phase(self.current_a),
            voltage_v=by_phase(self.voltage_v),
            power_factor=self.power_factor,
            hub_power_kw=[] if self.hub_power_kw is None else by_phase(self.hub_power_kw),
            ambient_c=self.ambient_c,
        )
        return pb.TrackCapacityRequest(measurement=measurement)


@dataclass(frozen=True, slots=True)
class TrackedHub:
    """What a hub wants from now on.

    Attributes:
        hub_id: Hub of the header.
        demand_kw: Power wanted in kW; None is as much as possible.
        connected_evs: Cars connected; None is any number.
    """

    hub_id: str
    demand_kw: float | None = None
    connected_evs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedChanges:
    """Changes that the operator tells.

    Attributes:
        contingency: Whether the grid is in N-1 from now on; None leaves it as it is.
        hubs: Hubs whose wants have changed.
        cut_kw: Power in kW that the hubs together may not exceed from now on, also below firm capacity.
        clear_cut: Takes the cut back.
    """

    contingency: bool | None = None
    hubs: Sequence[TrackedHub] = ()
    cut_kw: float | None = None
    clear_cut: bool = False

    def to_message(self) -> pb.TrackCapacityRequest:
        """Write a message of the stream."""
        changes = pb.TrackedChanges(
            grid_condition=None if self.contingency is None else _condition(self.contingency),
            hubs=[
                pb.TrackedHub(hub_id=hub.hub_id, demand_kw=hub.demand_kw, connected_evs=hub.connected_evs)
                for hub in self.hubs
            ],
            cut_kw=self.cut_kw,
            clear_cut=self.clear_cut,
        )
        return pb.TrackCapacityRequest(changes=changes)


TrackingMessage = CapacityMeasurement | TrackedChanges
"""What is sent while a transformer is tracked."""


@dataclass(frozen=True, slots=True)
class HubCapacity:
    """Capacity of one hub from now on.

    Attributes:
        hub_id: Hub.
        capacity_kw: Most that it may draw in kW.
        current_a: The same as current of L1, L2, L3 in A.
        evs_served: Cars that can charge at the same time.
        valid_from_time: From when (UTC, server's clock).
        valid_until_time: Until when (UTC, server's clock) unless renewed; then ``fallback_kw`` holds.
        fallback_kw: Capacity in kW that holds when nothing is heard.
        sequence: Rises with each change of this hub's capacity.
        reason: Why it is less than wanted, for example ``HOT_SPOT``; ``UNSPECIFIED`` where it is not.
        transformer_id: Transformer that feeds the hub.
    """

    hub_id: str
    capacity_kw: float
    current_a: tuple[float, ...]
    evs_served: int
    valid_from_time: pd.Timestamp | None
    valid_until_time: pd.Timestamp | None
    fallback_kw: float
    sequence: int
    reason: str
    transformer_id: str

    @classmethod
    def from_message(cls, message: pb.HubCapacity) -> HubCapacity:
        """Read a capacity of the contract."""
        return cls(
            hub_id=message.hub_id,
            capacity_kw=message.capacity_kw,
            current_a=tuple(message.current_a),
            evs_served=message.evs_served,
            valid_from_time=timestamp(message, "valid_from_time"),
            valid_until_time=timestamp(message, "valid_until_time"),
            fallback_kw=message.fallback_kw,
            sequence=message.sequence,
            reason=reason_text(message.reason),
            transformer_id=message.transformer_id,
        )


@dataclass(frozen=True, slots=True)
class TrackedTransformer:
    """State of the transformer after a measurement.

    Attributes:
        loading_ratio: Load of the most loaded phase over rated power.
        state: Thermal state.
        hot_spot_c: Hot-spot temperature in degrees Celsius.
        hubs_capacity_kw: Capacity in kW that the hubs together may draw.
    """

    loading_ratio: float
    state: ThermalState
    hot_spot_c: float
    hubs_capacity_kw: float

    @classmethod
    def from_message(cls, message: pb.TrackedTransformer) -> TrackedTransformer:
        """Read a state of the contract."""
        state = ThermalState.from_message(message.state)
        return cls(message.loading_ratio, state, message.hot_spot_c, message.hubs_capacity_kw)


@dataclass(frozen=True, slots=True)
class TrackingAnswer:
    """An answer: one to each message that was sent, and one whenever silence changes something.

    Attributes:
        outcome: ``ACCEPTED``, or why the measurement was refused: ``NONSENSE``, ``OUT_OF_ORDER``, ``CLOCK_AHEAD`` or
            ``TOO_OLD``; ``UNSPECIFIED`` when the message was none.
        detail: Why it was refused, in one line; empty when it was not.
        measurement_time: Time of the measurement that this answers (UTC).
        hubs: Hubs whose capacity has changed.
        transformer: The transformer.
        valid_until_time: Until when all capacities are valid unless renewed (UTC, server's clock).
        fallen_back: Whether silence has put the hubs on their firm capacity.
    """

    outcome: str
    detail: str
    measurement_time: pd.Timestamp | None
    hubs: tuple[HubCapacity, ...]
    transformer: TrackedTransformer
    valid_until_time: pd.Timestamp | None
    fallen_back: bool

    @property
    def capacity_kw(self) -> pd.Series:
        """Capacity in kW of the hubs that have changed, by hub."""
        index = pd.Index([hub.hub_id for hub in self.hubs], name="hub_id", dtype=object)
        return pd.Series([hub.capacity_kw for hub in self.hubs], index=index, name="capacity_kw", dtype=float)

    @classmethod
    def from_message(cls, message: pb.TrackCapacityResponse) -> TrackingAnswer:
        """Read an answer of the contract."""
        return cls(
            outcome=short_name(pb.MeasurementOutcome, "MEASUREMENT_OUTCOME_", message.outcome),
            detail=message.detail,
            measurement_time=timestamp(message, "measurement_time"),
            hubs=tuple(map(HubCapacity.from_message, message.hubs)),
            transformer=TrackedTransformer.from_message(message.transformer),
            valid_until_time=timestamp(message, "valid_until_time"),
            fallen_back=message.fallen_back,
        )


def _condition(contingency: bool) -> transformer_pb2.GridCondition:
    return transformer_pb2.GRID_CONDITION_CONTINGENCY if contingency else transformer_pb2.GRID_CONDITION_NORMAL
