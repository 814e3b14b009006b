"""The answer: capacity of each hub, and what the transformer does under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.capacity.v1 import allocation_pb2 as pb
from evflex.client.capacity.enums import policy_text
from evflex.client.capacity.tables import binding_table, by_hub, by_step, violation_table
from evflex.client.capacity.transformer import ThermalState
from evflex.client.moments import timestamp
from evflex.client.termination import Termination
from evflex.client.timegrid import TimeGrid

_PHASES = ("L1", "L2", "L3")
_HUB_COLUMNS = ("wanted_kwh", "served_kwh", "curtailed_kwh", "compensation", "currency_code")
_TRANSFORMER_COLUMNS = ("loading_ratio", "top_oil_c", "hot_spot_c", "headroom_n_kva", "headroom_n1_kva")


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Capacity of a transformer shared between hubs. Tables have steps (UTC) as rows.

    Attributes:
        allocation_id: Identifier; empty unless it was stored.
        transformer_id: Transformer.
        time_grid: Time axis.
        policy: How conditional capacity was split.
        capacity_kw: Most that each hub may draw in kW; columns are hubs.
        power_kw: Expected use of it in kW; columns are hubs.
        current_a: Current at the capacity in A; columns are hubs and phases (``L1``, ``L2``, ``L3``).
        evs_served: Cars that can charge at the same time; columns are hubs.
        session_power_kw: Power of each car in kW; columns are hubs and sessions, for hubs that have them.
        hubs: By hub: ``wanted_kwh``, ``served_kwh``, ``curtailed_kwh``, ``compensation``, ``currency_code``.
        transformer: ``loading_ratio`` of the most loaded phase, ``top_oil_c`` at the end of the step, ``hot_spot_c`` at
            its highest, and what could come on top of all capacities: ``headroom_n_kva``, ``headroom_n1_kva``.
        loss_of_life_h: Loss of life over the horizon in hours.
        final_state: State at the end of the last step.
        fairness_index: Jain's index of served over wanted energy, in (0, 1].
        binding: Where a hub got less than it wanted: time, hub_id, step, reason.
        limit_violations: What could not be kept: time, step, reason, limit, excess, hub_id, phase.
        termination: How the solve ended; the objective is the energy curtailed in kWh, with LEAST_COST money.
        tenant_id: Owner.
        area_id: Grid area.
        etag: Changes with every change.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    allocation_id: str
    transformer_id: str
    time_grid: TimeGrid
    policy: str
    capacity_kw: pd.DataFrame
    power_kw: pd.DataFrame
    current_a: pd.DataFrame
    evs_served: pd.DataFrame
    session_power_kw: pd.DataFrame
    hubs: pd.DataFrame
    transformer: pd.DataFrame
    loss_of_life_h: float
    final_state: ThermalState
    fairness_index: float
    binding: pd.DataFrame
    limit_violations: pd.DataFrame
    termination: Termination
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    def supply_limit(self, hub_id: str) -> NDArray[np.float64]:
        """Capacity of a hub in kW, one number a step: the ``max_import_kw`` of a hub's :class:`SupplyNode`.

        The schedule that uses it has this allocation's ``time_grid``.

        Raises:
            KeyError: The allocation has no such hub.
        """
        if hub_id not in self.capacity_kw.columns:
            raise KeyError(f"the allocation has no hub {hub_id!r}; it has {', '.join(self.capacity_kw.columns)}")
        return self.capacity_kw[hub_id].to_numpy(dtype=np.float64, copy=True)

    @classmethod
    def from_message(cls, message: pb.Allocation) -> Allocation:
        """Read an allocation of the contract. Arrays that a listing leaves out are empty."""
        grid = TimeGrid.from_message(message.time_grid)
        index, hubs, outcome = grid.index, message.hubs, message.transformer
        hub_ids = [hub.hub_id for hub in hubs]
        return cls(
            allocation_id=message.allocation_id,
            transformer_id=message.transformer_id,
            time_grid=grid,
            policy=policy_text(message.policy),
            capacity_kw=by_hub([hub.capacity_kw for hub in hubs], hub_ids, index),
            power_kw=by_hub([hub.power_kw for hub in hubs], hub_ids, index),
            current_a=_currents(hubs, index),
            evs_served=by_hub([hub.evs_served for hub in hubs], hub_ids, index, np.int64),
            session_power_kw=_sessions(hubs, index),
            hubs=pd.DataFrame(
                {name: [getattr(hub, name) for hub in hubs] for name in _HUB_COLUMNS},
                index=pd.Index(hub_ids, name="hub_id", dtype=object),
            ),
            transformer=by_step({name: getattr(outcome, name) for name in _TRANSFORMER_COLUMNS}, index),
            loss_of_life_h=outcome.loss_of_life_h,
            final_state=ThermalState.from_message(outcome.final_state),
            fairness_index=message.fairness_index,
            binding=binding_table(message.binding, index),
            limit_violations=violation_table(message.limit_violations, index),
            termination=Termination.from_message(message.termination),
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


def _currents(hubs: Sequence[pb.HubAllocation], index: pd.DatetimeIndex) -> pd.DataFrame:
    columns = pd.MultiIndex.from_product([[hub.hub_id for hub in hubs], _PHASES], names=["hub_id", "phase"])
    tables = [np.asarray(hub.setpoint_current_a, dtype=np.float64).reshape(-1, len(_PHASES)) for hub in hubs]
    matrix = np.hstack(tables) if tables else np.zeros((0, 0))
    return pd.DataFrame(matrix, index=index[: len(matrix)], columns=columns)


def _sessions(hubs: Sequence[pb.HubAllocation], index: pd.DatetimeIndex) -> pd.DataFrame:
    pairs = [(hub.hub_id, session_id) for hub in hubs for session_id in hub.session_ids]
    columns = pd.MultiIndex.from_tuples(pairs, names=["hub_id", "session_id"]) if pairs else pd.Index([])
    power_kw = [np.asarray(hub.session_power_kw, dtype=np.float64) for hub in hubs]
    matrix = np.concatenate(power_kw).reshape(len(pairs), -1).T if pairs else np.zeros((len(index), 0))
    return pd.DataFrame(matrix, index=index[: len(matrix)], columns=columns)
