"""A batch of commitments in columns, one row a resource that delivers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.model import Commitment, Direction, PolicyKind, Row
from evflex.engine.activation.prepared import PreparedRegistry

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
EXCLUSIVE, CO_DELIVERY = 0, 1


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of commitments; the rows of one commitment stand together, all columns have length n.

    Attributes:
        product_ids: Table of products.
        aggregator_ids: Table of aggregators.
        group_names: Table of groups.
        name: Resource or session, a number of the prepared registry.
        product: Product of each row.
        aggregator: Aggregator of each row.
        direction: 1 up, 2 down.
        start_ms: Start, milliseconds since 1970-01-01 UTC.
        end_ms: End.
        power_w: Power in W, > 0.
        commitment_w: Power of its commitment in W, before any row was truncated or left out.
        energy_wh: Most energy of the commitment in Wh, -1 for full power all the time.
        group: Twice the number of its group, one more for co-delivery; -1 for none.
        commitment: Number of its commitment; rises, from 0 without gaps.
        is_declared: Whether counter-activation is declared.
        policy: Policy that it was sold under, -1 for the one that holds.
    """

    product_ids: Sequence[str]
    aggregator_ids: Sequence[str]
    group_names: Sequence[str]
    name: IntArray
    product: IntArray
    aggregator: IntArray
    direction: IntArray
    start_ms: IntArray
    end_ms: IntArray
    power_w: IntArray
    commitment_w: IntArray
    energy_wh: IntArray
    group: IntArray
    commitment: IntArray
    is_declared: BoolArray
    policy: IntArray

    def __len__(self) -> int:
        return len(self.name)


def columns_of(prepared: PreparedRegistry, commitments: Iterable[Commitment]) -> Columns:
    """Commitments as columns."""
    tables: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
    products, aggregators, groups = tables
    rows: list[tuple[int, ...]] = []
    for number, c in enumerate(commitments):
        name = c.exclusive_group or c.co_delivery_group
        group = 2 * groups.setdefault(name, len(groups)) + (not c.exclusive_group) if name else -1
        common = (
            products.setdefault(c.product_id, len(products)),
            aggregators.setdefault(c.aggregator_id, len(aggregators)),
            int(c.direction),
            c.start_ms,
        )
        energy = -1 if c.energy_wh is None else c.energy_wh
        rows += [
            (
                prepared.number_of[row.resource_id], *common, row.end_ms, row.power_w, c.power_w, energy, group, number,
                c.counter_activation_declared, -1 if row.policy is None else int(row.policy),
            )
            for row in c.rows
        ]  # fmt: skip
    table = np.array(rows, dtype=np.int64).reshape(-1, 13).T
    names = (
        "name", "product", "aggregator", "direction", "start_ms", "end_ms", "power_w", "commitment_w", "energy_wh",
        "group", "commitment",
    )  # fmt: skip
    numbers = {key: np.ascontiguousarray(table[k]) for k, key in enumerate(names)}
    return Columns(
        list(products), list(aggregators), list(groups), **numbers, is_declared=table[11].astype(np.bool_),
        policy=np.ascontiguousarray(table[12]),
    )  # fmt: skip


def joined(first: Columns, second: Columns) -> Columns:
    """The rows of one after those of another, in common tables."""
    products, of_product = _table(first.product_ids, second.product_ids)
    aggregators, of_aggregator = _table(first.aggregator_ids, second.aggregator_ids)
    groups, of_group = _table(first.group_names, second.group_names)
    moved_group = second.group.copy()
    named = moved_group >= 0
    moved_group[named] = 2 * of_group[moved_group[named] // 2] + moved_group[named] % 2
    offset = int(first.commitment[-1]) + 1 if len(first) else 0
    plain = ("name", "direction", "start_ms", "end_ms", "power_w", "commitment_w", "energy_wh", "policy")
    return Columns(
        products, aggregators, groups,
        product=np.concatenate([first.product, of_product[second.product]]),
        aggregator=np.concatenate([first.aggregator, of_aggregator[second.aggregator]]),
        group=np.concatenate([first.group, moved_group]),
        commitment=np.concatenate([first.commitment, second.commitment + offset]),
        is_declared=np.concatenate([first.is_declared, second.is_declared]),
        **{key: np.concatenate([getattr(first, key), getattr(second, key)]) for key in plain},
    )  # fmt: skip


def commitment_at(columns: Columns, names: Sequence[str], rows: slice, commitment_id: str, sequence: int) -> Commitment:
    """A commitment as an object again, from its rows."""
    first = rows.start
    group = int(columns.group[first])
    group_name = columns.group_names[group // 2] if group >= 0 else ""
    parts = tuple(
        Row(
            names[int(columns.name[k])],
            int(columns.power_w[k]),
            int(columns.end_ms[k]),
            None if columns.policy[k] < 0 else PolicyKind(int(columns.policy[k])),
        )
        for k in range(rows.start, rows.stop)
    )
    energy_wh = int(columns.energy_wh[first])
    return Commitment(
        commitment_id=commitment_id,
        aggregator_id=columns.aggregator_ids[int(columns.aggregator[first])],
        product_id=columns.product_ids[int(columns.product[first])],
        direction=Direction(int(columns.direction[first])),
        rows=parts,
        start_ms=int(columns.start_ms[first]),
        end_ms=max(part.end_ms for part in parts),
        power_w=int(columns.commitment_w[first]),
        energy_wh=None if energy_wh < 0 else energy_wh,
        exclusive_group=group_name if group % 2 == EXCLUSIVE else "",
        co_delivery_group=group_name if group % 2 == CO_DELIVERY else "",
        counter_activation_declared=bool(columns.is_declared[first]),
        sequence=sequence,
    )


def _table(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], IntArray]:
    """Both tables in one, and where the second's entries stand in it."""
    numbers = {text: k for k, text in enumerate(first)}
    moved = [numbers.setdefault(text, len(numbers)) for text in second]
    return list(numbers), np.array(moved, dtype=np.int64)
