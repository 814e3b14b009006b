"""Writes what a tracker decides: each hub's capacity once, in bytes that the operator and every watcher are sent.

A hub's message is written in the wire format, because all of them must go out within milliseconds of a cut: through its
Python wrapper one costs about 8 µs, here about 1 µs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from evflex.capacity.v1 import capacity_service_pb2, tracking_pb2
from evflex.engine.capacity.tracking_model import TrackedUpdate
from evflex.server.messages import set_timestamp, timestamp
from evflex.server.wire import delimited, varint

_Hub = tracking_pb2.HubCapacity
_Kind = capacity_service_pb2.CapacityEventKind
_RESPONSE_HUBS = tracking_pb2.TrackCapacityResponse.HUBS_FIELD_NUMBER
_EVENT_HUBS = capacity_service_pb2.WatchCapacityResponse.HUBS_FIELD_NUMBER
_FIXED64, _DELIMITED = 1, 2
_CURRENT_BYTES = 24
# capacity_kw, fallback_kw and the three packed numbers of current_a, each after its key
_NUMBERS = struct.Struct("<BdBdBB3d")
_NUMBER_KEYS = (
    _Hub.CAPACITY_KW_FIELD_NUMBER << 3 | _FIXED64,
    _Hub.FALLBACK_KW_FIELD_NUMBER << 3 | _FIXED64,
    _Hub.CURRENT_A_FIELD_NUMBER << 3 | _DELIMITED,
)
_EVS_KEY = varint(_Hub.EVS_SERVED_FIELD_NUMBER << 3)
_REASON_KEY = varint(_Hub.REASON_FIELD_NUMBER << 3)
_SEQUENCE_KEY = varint(_Hub.SEQUENCE_FIELD_NUMBER << 3)


class HubWriter:
    """Writes the messages of the hubs of one transformer."""

    def __init__(self, transformer_id: str, hub_ids: Sequence[str]) -> None:
        """Prepare what never changes."""
        of_transformer = delimited(_Hub.TRANSFORMER_ID_FIELD_NUMBER, transformer_id.encode())
        self._names = [delimited(_Hub.HUB_ID_FIELD_NUMBER, hub_id.encode()) + of_transformer for hub_id in hub_ids]
        self._since = [b""] * len(hub_ids)

    def write(
        self, update: TrackedUpdate, hubs: Iterable[int], now_unix_us: int, sequence: int, *, renewed: bool = False
    ) -> list[bytes]:
        """HubCapacity messages, one a hub.

        Args:
            update: What was decided.
            hubs: Indices.
            now_unix_us: Time of the change.
            sequence: Number of the change.
            renewed: Capacities are those of before, and only valid for longer.
        """
        until = _time_field(_Hub.VALID_UNTIL_TIME_FIELD_NUMBER, round(1e6 * update.valid_until_unix_s))
        since = _time_field(_Hub.VALID_FROM_TIME_FIELD_NUMBER, now_unix_us) + _SEQUENCE_KEY + varint(sequence)
        capacity_kw, fallback_kw = update.capacity_kw.tolist(), update.fallback_kw.tolist()
        current_a, served, reason = update.current_a.tolist(), update.evs_served.tolist(), update.reason.tolist()
        first, second, third = _NUMBER_KEYS
        messages = []
        for h in hubs:
            if not renewed or not self._since[h]:
                self._since[h] = since
            numbers = _NUMBERS.pack(first, capacity_kw[h], second, fallback_kw[h], third, _CURRENT_BYTES, *current_a[h])
            counts = _EVS_KEY + varint(served[h]) + _REASON_KEY + varint(reason[h])
            messages.append(b"".join((self._names[h], numbers, counts, self._since[h], until)))
        return messages


def response(update: TrackedUpdate, measurement_time: Timestamp | None, hubs: Sequence[bytes]) -> bytes:
    """A TrackCapacityResponse with hubs that are written already."""
    message = tracking_pb2.TrackCapacityResponse(
        outcome=int(update.outcome),  # type: ignore[arg-type] # the numbers are the same in engine and contract
        detail=update.detail,
        measurement_time=measurement_time,
        fallen_back=update.fallen_back,
    )
    transformer = message.transformer
    transformer.loading_ratio = update.loading_ratio
    transformer.hot_spot_c = update.state.hot_spot_c
    transformer.hubs_capacity_kw = update.hubs_capacity_kw
    transformer.state.top_oil_c = update.state.top_oil_c
    transformer.state.winding_gradient_c = update.state.winding_gradient_c
    transformer.state.oil_gradient_c = update.state.oil_gradient_c
    set_timestamp(message.valid_until_time, round(1e6 * update.valid_until_unix_s))
    return message.SerializeToString() + b"".join(delimited(_RESPONSE_HUBS, hub) for hub in hubs)


def event_head(kind: int, token: str, event_unix_us: int, allocation_id: str = "") -> bytes:
    """All of a WatchCapacityResponse but its hubs."""
    return capacity_service_pb2.WatchCapacityResponse(
        kind=kind,  # type: ignore[arg-type]
        resume_token=token,
        event_time=timestamp(event_unix_us),
        allocation_id=allocation_id,
    ).SerializeToString()


def event_hub(hub: bytes) -> bytes:
    """A hub as a field of a WatchCapacityResponse."""
    return delimited(_EVENT_HUBS, hub)


def _time_field(number: int, unix_us: int) -> bytes:
    return delimited(number, timestamp(unix_us).SerializeToString())
