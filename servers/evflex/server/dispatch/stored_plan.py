"""Powers of a plan's assets as blocks of the store, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evflex.engine.dispatch.plan import Setpoints
from evflex.engine.validation import Rules
from evflex.server.dispatch.id_kernels import ByteTable, Rows
from evflex.server.dispatch.id_table import IdTable
from evflex.server.dispatch.plan_chunks import PlanChunks
from evflex.server.dispatch.read_fleet import read_ids
from evflex.server.engine_port import DispatchEngine
from evflex.server.fields import refuse
from evflex.server.store.arrays import Array, array_blocks, joined_arrays
from evflex.server.store.plans import PlanStore

_IDS = "ids"
_ARRAY = "array."


@dataclass(frozen=True, slots=True)
class PlanPowers:
    """Assets of a plan and their powers.

    Attributes:
        ids: Identifiers, (n, width).
        setpoints: Powers by row.
        step_count: Number of steps.
    """

    ids: ByteTable
    setpoints: Setpoints
    step_count: int

    def chunks(self, asset_ids: tuple[str, ...] = ()) -> PlanChunks:
        """Chunks of all assets, or of those that are named.

        Raises:
            ServiceError: INVALID_ARGUMENT for an asset that the plan does not have, or that is named twice.
        """
        rows = self._rows(asset_ids) if asset_ids else None
        return PlanChunks(self.ids, rows, self.setpoints, self.step_count)

    def _rows(self, asset_ids: tuple[str, ...]) -> Rows:
        rules = Rules()
        wanted = read_ids(rules, "asset_ids", asset_ids)
        refuse(rules)
        assert wanted is not None
        table = IdTable()
        table.reserve(len(self.ids), self.ids.shape[1])
        table.add(self.ids)
        rows = table.find(wanted)
        seen: set[int] = set()
        for i, row in enumerate(rows.tolist()):
            rules.check(row >= 0, f"asset_ids[{i}]", "must name an asset of the plan")
            rules.check(row < 0 or row not in seen, f"asset_ids[{i}]", "must not be named twice")
            seen.add(row)
        refuse(rules)
        return rows


def power_blocks(powers: PlanPowers) -> Iterator[bytes]:
    """Identifiers and all that powers are computed from, in blocks of some megabytes."""
    arrays: dict[str, Array] = {_IDS: powers.ids}
    arrays |= {_ARRAY + name: array for name, array in powers.setpoints.to_arrays().items()}
    yield from array_blocks(arrays)


def read_powers(store: PlanStore, engine: DispatchEngine, plan_id: str, step_count: int) -> PlanPowers:
    """What :func:`power_blocks` wrote."""
    with store.blocks(plan_id) as blocks:
        arrays = joined_arrays(blocks)
    setpoints = engine.setpoints_from_arrays(
        {name.removeprefix(_ARRAY): array for name, array in arrays.items() if name.startswith(_ARRAY)}
    )
    return PlanPowers(arrays[_IDS].astype(np.uint8), setpoints, step_count)
