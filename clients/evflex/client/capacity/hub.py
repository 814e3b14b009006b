"""Charging hubs that share a transformer: what they want, and what they are entitled to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.capacity.v1 import hub_pb2
from evflex.client.capacity.agreement import AgreementTerms
from evflex.client.capacity.axis import every_step
from evflex.client.errors import Violation
from evflex.client.sessions import read_columns, rows
from evflex.client.steps import PerStep
from evflex.client.supply import phase_connection

SESSION_COLUMNS = ("session_id", "arrival_time", "departure_time", "energy_needed_kwh", "max_charge_kw")

Counts = int | Sequence[int] | NDArray[np.int64] | pd.Series
"""One count for all steps, or one for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Hub:
    """A hub. It wants either ``demand_kw`` or the energy of ``sessions``.

    Attributes:
        hub_id: Identifier.
        max_kw: Largest power of the hub's connection in kW.
        demand_kw: Power wanted in kW by step; a number holds for all steps. What is curtailed is wanted later.
        sessions: Cars one by one: a table with the columns ``session_id`` (or the index of that name),
            ``arrival_time``, ``departure_time`` (with a time zone), ``energy_needed_kwh`` and ``max_charge_kw``.
        connected_evs: Cars connected, for all steps or for each; None is any number. Only with ``demand_kw``.
        min_kw_per_ev: Least power in kW at which a car charges; None is 6 A at 230 V on each of the car's phases.
        phases: Phases that the hub is connected to, for example ``L1``.
        phases_per_ev: Phases that each of its cars uses: 1, or 0 for all phases of the hub.
        weight: Weight for WEIGHTED_PROPORTIONAL_FAIR; None is 1.
        agreement_id: Active agreement that the server keeps.
        agreement: Terms that stand in this request only. Without either, all of ``max_kw`` is conditional.
    """

    hub_id: str
    max_kw: float
    demand_kw: PerStep | None = None
    sessions: pd.DataFrame | None = None
    connected_evs: Counts | None = None
    min_kw_per_ev: float | None = None
    phases: str = "L1_L2_L3"
    phases_per_ev: int = 0
    weight: float | None = None
    agreement_id: str = ""
    agreement: AgreementTerms | None = None

    def write(self, message: hub_pb2.Hub, step_count: int, path: str, violations: list[Violation]) -> None:
        """Write a hub of the contract.

        Args:
            message: Receives the hub.
            step_count: Steps that a demand of one number is spread over; 0 where there is no time axis.
            path: Where the hub stands, for the violations.
            violations: Receives what cannot be written.
        """
        message.hub_id = self.hub_id
        message.max_kw = self.max_kw
        message.phases_per_ev = self.phases_per_ev
        message.agreement_id = self.agreement_id
        if self.min_kw_per_ev is not None:
            message.min_kw_per_ev = self.min_kw_per_ev
        if self.weight is not None:
            message.weight = self.weight
        try:
            message.phases = phase_connection(self.phases)  # type: ignore[assignment]
        except ValueError as error:
            violations.append(Violation(f"{path}.phases", str(error)))
        if self.agreement is not None:
            try:
                message.agreement.CopyFrom(self.agreement.to_message(hub_id=self.hub_id))
            except (TypeError, ValueError) as error:
                violations.append(Violation(f"{path}.agreement", str(error)))
        self._write_demand(message, step_count, path, violations)

    def _write_demand(self, message: hub_pb2.Hub, step_count: int, path: str, violations: list[Violation]) -> None:
        try:
            if self.demand_kw is not None:
                message.demand_kw.extend(every_step(self.demand_kw, step_count))
        except (TypeError, ValueError) as error:
            violations.append(Violation(f"{path}.demand_kw", str(error)))
        try:
            if self.connected_evs is not None:
                message.connected_evs.extend(np.atleast_1d(np.asarray(self.connected_evs)).tolist())
        except (TypeError, ValueError) as error:
            violations.append(Violation(f"{path}.connected_evs", str(error)))
        if self.sessions is not None:
            table = f"{path}.sessions"
            columns = read_columns(self.sessions, SESSION_COLUMNS, SESSION_COLUMNS, table, violations)
            if columns is not None:
                for row in rows(columns):
                    message.sessions.add(**row)
