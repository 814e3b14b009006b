"""Reads the columns of a batch as they come in, and reports what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evflex.activation.v1 import check_pb2
from evflex.engine.activation.columns import CO_DELIVERY, EXCLUSIVE, Columns
from evflex.engine.activation.model import MOST_COMMITMENT_MS, MOST_POWER_W
from evflex.engine.validation import Rules
from evflex.server.errors import limit_exceeded
from evflex.server.fields import check_id

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
# Stands for the caller among aggregators, where a row does not say whose it is.
_CALLER = -1
_TABLES = ("resource_ids", "product_ids", "aggregator_ids", "groups")
_REQUIRED = ("product_indices", "directions", "start_unix_ms", "end_unix_ms", "power_w")
_DEFAULTS = {
    "aggregator_indices": _CALLER, "exclusive_group_indices": -1, "co_delivery_group_indices": -1, "energy_wh": 0,
    "counter_activation_declared": 0, "pool_numbers": 0,
}  # fmt: skip
# Which table each column refers to, and the least number.
_REFERENCES = {
    "resource_indices": ("resource_ids", 0),
    "product_indices": ("product_ids", 0),
    "aggregator_indices": ("aggregator_ids", 0),
    "exclusive_group_indices": ("groups", -1),
    "co_delivery_group_indices": ("groups", -1),
}
# The least and the greatest value of the other columns; those that are not here are flags.
_RANGES = {
    "directions": (1, 2),
    "power_w": (1, MOST_POWER_W),
    "energy_wh": (0, MOST_POWER_W),
    "pool_numbers": (0, 1 << 62),
    "start_unix_ms": (0, 253_402_300_800_000),
    "end_unix_ms": (0, 253_402_300_800_000),
}


class BatchReader:
    """A batch that is coming in.

    Attributes:
        row_count: Rows read.
    """

    def __init__(self, expected_rows: int, caller_id: str) -> None:
        """Expect so many rows, which are the caller's where they do not say whose."""
        self.row_count = 0
        self._expected_rows = expected_rows
        self._caller_id = caller_id
        self._tables: dict[str, list[str]] = {name: [] for name in _TABLES}
        self._parts: dict[str, list[IntArray]] = {name: [] for name in ("resource_indices", *_REQUIRED, *_DEFAULTS)}

    def add(self, rules: Rules, path: str, chunk: check_pb2.CheckCommitmentsChunk) -> None:
        """Take a chunk in.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED, there are more rows than were announced.
        """
        for name in _TABLES:
            texts: Sequence[str] = getattr(chunk, name)
            for i, text in enumerate(texts):
                check_id(rules, f"{path}.{name}[{i}]", text, required=True)
            self._tables[name] += texts
        count = len(chunk.resource_indices)
        self.row_count += count
        if self.row_count > self._expected_rows:
            raise limit_exceeded("header.expected_rows", self.row_count, self._expected_rows)
        for name in self._parts:
            values = np.asarray(getattr(chunk, name), dtype=np.int64)
            is_required = name not in _DEFAULTS
            allowed = (count,) if is_required else (0, count)
            if rules.length(f"{path}.{name}", len(values), allowed):
                column = values if len(values) or is_required else np.full(count, _DEFAULTS[name], dtype=np.int64)
                self._check(rules, path, name, values)
                self._parts[name].append(column)

    def columns(self, rules: Rules, number_of: Callable[[str], int | None]) -> tuple[Columns, IntArray]:
        """The whole batch, rows of one pool together, and where each of its rows stood.

        Args:
            rules: Receives faults; what is returned is of no use then.
            number_of: Number of a resource or session in the prepared registry, None for one that is not there.
        """
        names = self._tables["resource_ids"]
        numbers = [number_of(name) for name in names]
        for i, number in enumerate(numbers):
            rules.check(number is not None, f"resource_ids[{i}]", f"must be registered, is {names[i]!r}")
        data = {name: np.concatenate(parts) for name, parts in self._parts.items() if parts}
        pools = data["pool_numbers"]
        # rows that stand alone keep their order; those of a pool come where its first row stands
        order = np.arange(len(pools))
        if pools.any():
            _, first, inverse = np.unique(pools, return_index=True, return_inverse=True)
            order = np.lexsort((np.arange(len(pools)), np.where(pools > 0, first[inverse], np.arange(len(pools)))))
        data = {name: np.ascontiguousarray(column[order]) for name, column in data.items()}
        is_first = np.ones(len(order), dtype=np.bool_)
        is_first[1:] = (data["pool_numbers"][1:] != data["pool_numbers"][:-1]) | (data["pool_numbers"][1:] == 0)
        self._check_pools(rules, data, is_first, order)
        group = np.full(len(order), -1, dtype=np.int64)
        for name, sort in (("exclusive_group_indices", EXCLUSIVE), ("co_delivery_group_indices", CO_DELIVERY)):
            group = np.where(data[name] >= 0, 2 * data[name] + sort, group)
        table = np.array([-1 if number is None else number for number in numbers], dtype=np.int64)
        aggregator, aggregator_ids = data["aggregator_indices"], list(self._tables["aggregator_ids"])
        if self._caller_id not in aggregator_ids:
            aggregator_ids.append(self._caller_id)
        caller = aggregator_ids.index(self._caller_id)
        commitment = np.cumsum(is_first) - 1
        columns = Columns(
            product_ids=self._tables["product_ids"],
            aggregator_ids=aggregator_ids,
            group_names=self._tables["groups"],
            name=table[data["resource_indices"]],
            product=data["product_indices"],
            aggregator=np.where(aggregator == _CALLER, caller, aggregator),
            direction=data["directions"],
            start_ms=data["start_unix_ms"],
            end_ms=data["end_unix_ms"],
            power_w=data["power_w"],
            commitment_w=np.add.reduceat(data["power_w"], np.flatnonzero(is_first))[commitment],
            energy_wh=np.where(data["energy_wh"] > 0, data["energy_wh"], -1),
            group=group,
            commitment=commitment,
            is_declared=data["counter_activation_declared"].astype(np.bool_),
            policy=np.full(len(order), -1, dtype=np.int64),
        )
        return columns, order.astype(np.int64)

    def _check(self, rules: Rules, path: str, name: str, values: IntArray) -> None:
        """Report each value that is out of its range."""
        if name in _REFERENCES:
            table, low = _REFERENCES[name]
            high = len(self._tables[table]) - 1
        elif name in _RANGES:
            low, high = _RANGES[name]
        else:
            return
        bad = (values < low) | (values > high)
        if not bad.any():
            return
        for i in np.flatnonzero(bad)[:100].tolist():
            rules.check(False, f"{path}.{name}[{i}]", f"must lie between {low} and {high}, is {values[i]}")

    def _check_pools(self, rules: Rules, data: dict[str, IntArray], is_first: BoolArray, order: IntArray) -> None:
        """Report rows that end before they begin, are in two groups, or differ from the first row of their pool."""
        length = data["end_unix_ms"] - data["start_unix_ms"]
        self._rows(rules, order, (length <= 0) | (length > MOST_COMMITMENT_MS), "end_unix_ms",
                   "must be after the start, and at most 366 days")  # fmt: skip
        both = (data["exclusive_group_indices"] >= 0) & (data["co_delivery_group_indices"] >= 0)
        self._rows(rules, order, both, "co_delivery_group_indices", "must be -1 where there is an exclusive group")
        later = np.flatnonzero(~is_first)
        for name in (
            "product_indices", "aggregator_indices", "exclusive_group_indices", "co_delivery_group_indices",
            "directions", "start_unix_ms", "end_unix_ms", "energy_wh", "counter_activation_declared",
        ):  # fmt: skip
            differs = np.zeros(len(order), dtype=np.bool_)
            differs[later] = data[name][later] != data[name][later - 1]
            self._rows(rules, order, differs, name, "must be the same in all rows of a pool")

    def _rows(self, rules: Rules, order: IntArray, bad: BoolArray, name: str, rule: str) -> None:
        for row in sorted(order[np.flatnonzero(bad)[:100]].tolist()):
            rules.check(False, f"{name}[{row}]", rule)
