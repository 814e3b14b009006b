"""Temperatures and headroom of a transformer under its load."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.capacity.tables import by_step, violation_table
from evflex.client.capacity.transformer import ThermalState
from evflex.client.moments import timestamp
from evflex.client.timegrid import TimeGrid

_COLUMNS = ("loading_ratio", "top_oil_c", "hot_spot_c", "loss_of_life_h", "headroom_n_kva", "headroom_n1_kva")


@dataclass(frozen=True, slots=True, eq=False)
class TransformerRating:
    """What a load does to a transformer, and what could come on top.

    Attributes:
        rating_id: Identifier; empty unless it was stored.
        transformer_id: Transformer.
        time_grid: Time axis.
        steps: By step (UTC): ``loading_ratio`` of the most loaded phase, ``top_oil_c`` at the end of the step,
            ``hot_spot_c`` at its highest, ``loss_of_life_h`` in hours, and the load at unity power factor on balanced
            phases that can come on top jointly in all wanted steps: ``headroom_n_kva`` with each step in its own
            condition, ``headroom_n1_kva`` with every step in N-1.
        limit_violations: Limits that the load breaks by itself: time, step, reason, limit, excess, hub_id, phase.
        final_state: State at the end of the last step.
        tenant_id: Owner.
        area_id: Grid area.
        etag: Changes with every change.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    rating_id: str
    transformer_id: str
    time_grid: TimeGrid
    steps: pd.DataFrame
    limit_violations: pd.DataFrame
    final_state: ThermalState
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(cls, message: pb.TransformerRating) -> TransformerRating:
        """Read a rating of the contract."""
        grid = TimeGrid.from_message(message.time_grid)
        return cls(
            rating_id=message.rating_id,
            transformer_id=message.transformer_id,
            time_grid=grid,
            steps=by_step({name: getattr(message, name) for name in _COLUMNS}, grid.index),
            limit_violations=violation_table(message.limit_violations, grid.index),
            final_state=ThermalState.from_message(message.final_state),
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )
