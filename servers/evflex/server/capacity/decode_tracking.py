"""Turns the messages of TrackCapacity into the engine's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from evflex.capacity.v1 import tracking_pb2, transformer_pb2
from evflex.engine.capacity.hub import ANY_COUNT
from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.capacity.tracking_model import HubWish, Measurement, TrackedHubs, TrackerSetup
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import Rules
from evflex.server.capacity.agreements import ActiveTerms
from evflex.server.capacity.decode_hubs import HubConnection, decode_connection
from evflex.server.capacity.decode_transformer import decode_contingency, decode_n1_rated_kva, decode_transformer
from evflex.server.capacity.hub_terms import terms_of_hub
from evflex.server.capacity.terms import Terms
from evflex.server.errors import invalid
from evflex.server.fields import check_id, check_request_id, duration_s, known_member, merged, timestamp_s

_DURATIONS = {
    "max_silence_duration": "max_silence_s",
    "rotation_duration": "rotation_s",
    "max_clock_skew_duration": "max_clock_skew_s",
}
_RATIOS = ("dead_band_ratio", "ramp_ratio_per_min")


@dataclass(frozen=True, slots=True)
class Changes:
    """What the operator has told.

    Attributes:
        contingency: Whether the grid is in N-1; None leaves it.
        wishes: Of hubs whose wants have changed; one of an unknown hub has index -1.
        cut_kw: Most that the hubs together may draw; None leaves it.
        clear_cut: Takes the cut back.
        fault: What the wire alone can get wrong; empty when nothing is.
    """

    contingency: bool | None
    wishes: tuple[HubWish, ...]
    cut_kw: float | None
    clear_cut: bool
    fault: str


def decode_header(
    header: tracking_pb2.TrackCapacityHeader, agreed: Mapping[str, ActiveTerms], now_unix_s: float
) -> TrackerSetup:
    """What is to be tracked.

    Args:
        header: The header.
        agreed: Terms in force of the agreements that its hubs name.
        now_unix_s: The instant at which agreements must be valid.

    Raises:
        ServiceError: INVALID_ARGUMENT with every broken rule.
    """
    rules = Rules()
    check_request_id(rules, header.request_id, required=False, path="header.request_id")
    check_id(rules, "header.area_id", header.area_id)
    transformer = decode_transformer(rules, header.transformer, 1, "header.transformer")
    contingency = decode_contingency(rules, [header.grid_condition], 1, "header.grid_condition")
    given = header.n1_rated_kva if header.HasField("n1_rated_kva") else None
    durations = {
        own: duration_s(rules, f"header.{name}", getattr(header, name))
        for name, own in _DURATIONS.items()
        if header.HasField(name)
    }
    setup = TrackerSetup(
        transformer=transformer,
        n1_rated_kva=decode_n1_rated_kva(rules, given, transformer.rated_kva, "header.n1_rated_kva"),
        hubs=_hubs(rules, header, agreed, now_unix_s),
        policy=known_member(rules, "header.policy", header.policy, AllocationPolicy.MAX_MIN),
        contingency=bool(contingency[0]),
        **durations,
        **{name: getattr(header, name) for name in _RATIOS if header.HasField(name)},
    )
    found = Rules()
    setup.validate(found)
    in_header = Rules()
    for violation in found.violations:
        in_header.check(False, f"header.{violation.field}", violation.description)
    faults = merged(rules, in_header)
    if faults:
        raise invalid(faults)
    return setup


def _hubs(
    rules: Rules, header: tracking_pb2.TrackCapacityHeader, agreed: Mapping[str, ActiveTerms], now_unix_s: float
) -> TrackedHubs:
    connections: list[HubConnection] = []
    entitled: list[Terms] = []
    for i, hub in enumerate(header.hubs):
        path = f"header.hubs[{i}]"
        connections.append(decode_connection(rules, hub, path))
        terms = terms_of_hub(rules, hub, header.transformer.transformer_id, agreed, path)
        rules.check(terms.is_valid_at(now_unix_s), f"{path}.agreement", "must be valid now")
        entitled.append(terms)
        for name in ("demand_kw", "connected_evs", "sessions"):
            rules.check(not len(getattr(hub, name)), f"{path}.{name}", "must be empty, TrackedHub tells it")
    return TrackedHubs(
        hub_ids=tuple(hub.hub_id for hub in header.hubs),
        max_kw=_column([c.max_kw for c in connections]),
        min_kw_per_ev=_column([c.min_kw_per_ev for c in connections]),
        phases=np.array([c.phases for c in connections], dtype=np.int64),
        phases_per_ev=np.array([c.phases_per_ev for c in connections], dtype=np.int64),
        weight=_column([c.weight for c in connections]),
        firm_kw=_column([terms.firm_kw for terms in entitled]),
        conditional_kw=_column([terms.conditional_kw for terms in entitled]),
        priority=np.array([terms.priority for terms in entitled], dtype=np.int64),
        curtailment_price_per_kwh=_column([terms.curtailment_price_per_kwh for terms in entitled]),
    )


def decode_measurement(message: tracking_pb2.CapacityMeasurement) -> Measurement:
    """A measurement; a time that is absent or no time becomes NaN, which the tracker refuses."""
    rules = Rules()
    unix_s = nan
    if message.HasField("measurement_time"):
        unix_s = timestamp_s(rules, "measurement_time", message.measurement_time)
    return Measurement(
        unix_s=nan if rules.violations else unix_s,
        current_a=_column(message.current_a),
        voltage_v=_column(message.voltage_v),
        power_factor=message.power_factor,
        hub_power_kw=_column(message.hub_power_kw),
        ambient_c=message.ambient_c if message.HasField("ambient_c") else None,
    )


def decode_changes(message: tracking_pb2.TrackedChanges, index_of: Mapping[str, int]) -> Changes:
    """Changes by the operator; ``index_of`` gives the hubs of the header."""
    condition, fault = message.grid_condition, ""
    if condition not in transformer_pb2.GridCondition.values():
        fault = f"grid_condition must be a known GridCondition, is {condition}"
    for i, hub in enumerate(message.hubs):
        if hub.HasField("connected_evs") and hub.connected_evs < 0:
            fault = f"hubs[{i}].connected_evs must be >= 0, is {hub.connected_evs}"
    wishes = tuple(
        HubWish(
            index_of.get(hub.hub_id, -1),
            hub.demand_kw if hub.HasField("demand_kw") else inf,
            hub.connected_evs if hub.HasField("connected_evs") else ANY_COUNT,
        )
        for hub in message.hubs
    )
    return Changes(
        contingency=None if not condition else condition == transformer_pb2.GRID_CONDITION_CONTINGENCY,
        wishes=wishes,
        cut_kw=message.cut_kw if message.HasField("cut_kw") else None,
        clear_cut=message.clear_cut,
        fault=fault,
    )


def _column(values: Sequence[float]) -> FloatArray:
    return np.array(values, dtype=np.float64)
