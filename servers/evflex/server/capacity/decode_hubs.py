"""Turns hubs into the engine's model: connection, demand by steps or by cars, and entitlement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from evflex.capacity.v1 import hub_pb2
from evflex.engine.capacity.hub import ANY_COUNT, Hub, HubSessions, default_min_kw_per_ev
from evflex.engine.supply_tree import FloatArray, IntArray, PhaseConnection
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from evflex.server.capacity.terms import Terms
from evflex.server.fields import check_id, check_ids, known_member, timestamp_s


@dataclass(frozen=True, slots=True)
class HubConnection:
    """What a hub is connected to, with every default filled in.

    Attributes:
        max_kw: Largest power of the connection.
        min_kw_per_ev: Least power at which a car charges.
        phases: Phases of the hub.
        phases_per_ev: Phases of a car: 1, or 0 for all of the hub's.
        weight: For WEIGHTED_PROPORTIONAL_FAIR.
    """

    max_kw: float
    min_kw_per_ev: float
    phases: PhaseConnection
    phases_per_ev: int
    weight: float


def decode_connection(rules: Rules, message: hub_pb2.Hub, path: str) -> HubConnection:
    """The connection of a hub; the engine checks its numbers."""
    check_id(rules, f"{path}.hub_id", message.hub_id, required=True)
    phases = known_member(rules, f"{path}.phases", message.phases, PhaseConnection.L1_L2_L3)
    least_kw = default_min_kw_per_ev(phases, message.phases_per_ev)
    return HubConnection(
        max_kw=message.max_kw,
        min_kw_per_ev=message.min_kw_per_ev if message.HasField("min_kw_per_ev") else least_kw,
        phases=phases,
        phases_per_ev=message.phases_per_ev,
        weight=message.weight if message.HasField("weight") else 1.0,
    )


def decode_hub(rules: Rules, message: hub_pb2.Hub, terms: Terms, grid: TimeGrid, path: str) -> Hub:
    """A hub of a plan.

    Args:
        rules: Receives the faults that the engine cannot see.
        message: The hub.
        terms: What it is entitled to.
        grid: Sound time axis.
        path: Where the hub stands in the request.
    """
    steps = grid.step_count
    connection = decode_connection(rules, message, path)
    sessions = _sessions(rules, message.sessions, f"{path}.sessions")
    if len(sessions):
        demand_kw, connected_evs = np.array(message.demand_kw), np.array(message.connected_evs, dtype=np.int64)
    else:
        demand_kw = _demand(rules, message.demand_kw, steps, f"{path}.demand_kw")
        connected_evs = _connected(rules, message.connected_evs, steps, f"{path}.connected_evs")
    return Hub(
        hub_id=message.hub_id,
        demand_kw=demand_kw,
        connected_evs=connected_evs,
        sessions=sessions,
        max_kw=connection.max_kw,
        min_kw_per_ev=connection.min_kw_per_ev,
        phases=connection.phases,
        phases_per_ev=connection.phases_per_ev,
        weight=connection.weight,
        firm_kw=terms.firm_kw_on(grid),
        conditional_kw=terms.conditional_kw_on(grid),
        priority=terms.priority,
        curtailment_price_per_kwh=terms.curtailment_price_per_kwh,
        noticed_kw=np.zeros(steps),
    )


def _demand(rules: Rules, values: Sequence[float], steps: int, path: str) -> FloatArray:
    if not len(values):
        rules.check(False, path, "must be given, or sessions")
        return np.zeros(steps)
    return np.array(values, dtype=np.float64)


def _connected(rules: Rules, values: Sequence[int], steps: int, path: str) -> IntArray:
    """Cars connected in each step; any number where the caller tells none, or what cannot be used."""
    counts = np.array(values, dtype=np.int64)
    usable = rules.length(path, len(counts), (0, 1, steps))
    for k in np.flatnonzero(counts < 0).tolist():
        rules.check(False, f"{path}[{k}]", f"must be >= 0, is {counts[k]}")
        usable = False
    if not usable or not len(counts):
        return np.full(steps, ANY_COUNT, dtype=np.int64)
    return np.broadcast_to(counts, (steps,)).copy()


def _sessions(rules: Rules, messages: Sequence[hub_pb2.HubSession], path: str) -> HubSessions:
    if not len(messages):
        return HubSessions.none()
    cars = list(messages)
    session_ids = tuple(car.session_id for car in cars)
    check_ids(rules, path, {"session_id": session_ids})
    return HubSessions(
        session_ids=session_ids,
        arrival_unix_s=np.array([_time_s(rules, car, "arrival_time", f"{path}[{i}]") for i, car in enumerate(cars)]),
        departure_unix_s=np.array(
            [_time_s(rules, car, "departure_time", f"{path}[{i}]") for i, car in enumerate(cars)]
        ),
        energy_needed_kwh=np.array([car.energy_needed_kwh for car in cars]),
        max_charge_kw=np.array([car.max_charge_kw for car in cars]),
    )


def _time_s(rules: Rules, car: hub_pb2.HubSession, name: str, path: str) -> float:
    return timestamp_s(rules, f"{path}.{name}", getattr(car, name)) if car.HasField(name) else nan
