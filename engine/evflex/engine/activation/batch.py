"""A batch of commitments, checked among themselves: kernels find the conflicts, the ledger's rules tell them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from evflex.engine.activation.batch_capacity import Runs, capacity_runs, members_of_runs
from evflex.engine.activation.batch_counts import ROW, WHO, Counts, count_rows
from evflex.engine.activation.batch_energy import sessions_at_risk
from evflex.engine.activation.batch_pairs import Pairs, cascade_pairs, counter_pairs, cross_sale_pairs
from evflex.engine.activation.capacity_rule import RULES
from evflex.engine.activation.columns import Columns, commitment_at
from evflex.engine.activation.counting import counts_of
from evflex.engine.activation.energy_rule import energy_exceeded
from evflex.engine.activation.model import MOST_NAMED, Conflict, ConflictKind, Direction, PolicyKind
from evflex.engine.activation.pair_rules import Sold, counter_activation, cross_sale, forbidden_cascade
from evflex.engine.activation.policy_rule import policy_conflicts
from evflex.engine.activation.prepared import PreparedRegistry, is_charging

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
_DIRECTIONS = (Direction.UP, Direction.DOWN)


@dataclass(frozen=True, slots=True)
class BatchConflicts:
    """What a batch came to.

    Attributes:
        conflicts: The first conflicts, in the order of kinds; commitments are named by their number.
        count_by_kind: Number of conflicts of each kind, by its value, (9,).
        takes_part: Whether a commitment takes part in any, (commitments,).
    """

    conflicts: list[Conflict]
    count_by_kind: IntArray
    takes_part: BoolArray


def check_batch(prepared: PreparedRegistry, columns: Columns, most_conflicts: int = 10_000) -> BatchConflicts:
    """Find every conflict among the commitments of a batch.

    Args:
        prepared: The registry, in its present version.
        columns: The batch.
        most_conflicts: Conflicts that are told; all are counted.
    """
    takes_part = np.zeros(int(columns.commitment[-1]) + 1 if len(columns) else 0, dtype=np.bool_)
    count_by_kind = np.zeros(len(ConflictKind) + 1, dtype=np.int64)
    if not len(columns):
        return BatchConflicts([], count_by_kind, takes_part)
    policy, side = _policies(prepared, columns)
    counts = count_rows(prepared, columns, policy)
    things = len(prepared.thing_ids)
    runs = capacity_runs(counts, columns, prepared, takes_part)
    pairs = {
        ConflictKind.CROSS_SALE: cross_sale_pairs(prepared, columns, policy),
        ConflictKind.COUNTER_ACTIVATION: counter_pairs(counts, columns, things),
        ConflictKind.CASCADE: cascade_pairs(counts, columns, things, policy),
    }
    tell = _Teller(prepared, columns)
    exceeded = list(tell.energy(sessions_at_risk(prepared, counts), counts))
    broken = np.flatnonzero(_breaks_policy(prepared, columns, policy, side))
    count_by_kind += np.bincount(runs.kind, minlength=len(count_by_kind))
    for kind, found in pairs.items():
        count_by_kind[kind] += len(found)
        takes_part[found.first] = takes_part[found.second] = True
    count_by_kind[ConflictKind.ENERGY_EXCEEDED] = len(exceeded)
    for conflict in exceeded:
        takes_part[[int(name) for name in conflict.commitment_ids]] = True
    count_by_kind[ConflictKind.POLICY] = len(broken)
    takes_part[columns.commitment[broken]] = True
    told = chain.from_iterable(
        chain(
            tell.runs(runs, counts, kind, most_conflicts),
            tell.pairs(kind, pairs[kind]) if kind in pairs else (),
            exceeded if kind == ConflictKind.ENERGY_EXCEEDED else (),
            tell.policies(broken) if kind == ConflictKind.POLICY else (),
        )
        for kind in ConflictKind
    )
    return BatchConflicts(list(islice(told, most_conflicts)), count_by_kind, takes_part)


def _policies(prepared: PreparedRegistry, columns: Columns) -> tuple[IntArray, IntArray]:
    """Policy of each row, and the side that ONE_SIDE lets be sold of those that are not sold yet, (n,)."""
    if not prepared.registry.policies:
        return np.maximum(columns.policy, PolicyKind.NONE), np.zeros(len(columns), dtype=np.int64)
    kinds, sides = prepared.policy_kinds(columns.product_ids)
    area = prepared.area_of[columns.name]
    is_new = columns.policy < 0
    policy = np.where(is_new, kinds[area, columns.product], columns.policy)
    return policy, np.where(policy == PolicyKind.ONE_SIDE, sides[area, columns.product], 0)


def _breaks_policy(prepared: PreparedRegistry, columns: Columns, policy: IntArray, side: IntArray) -> BoolArray:
    """Rows that may not be sold by themselves, as :func:`policy_conflicts` has it."""
    session = prepared.session_of[columns.name]
    is_session = session >= 0
    if not side.any() and not is_session.any():
        return is_session
    start_ms, end_ms = prepared.session_ms
    inside = np.ones(len(columns), dtype=np.bool_)
    where = session[is_session]
    starts, ends = columns.start_ms[is_session], columns.end_ms[is_session]
    inside[is_session] = (start_ms[where] <= starts) & (ends <= end_ms[where])
    kind = np.where(is_session, 0, prepared.kind[prepared.thing_of[columns.name]])
    other_side = is_session | (is_charging(kind) & (kind != side))
    forbidden = ~inside | ((policy == PolicyKind.ONE_SIDE) & (side > 0) & other_side)
    return forbidden & (columns.start_ms < columns.end_ms)


class _Teller:
    """Makes conflicts of what the kernels found, by the rules of the ledger."""

    def __init__(self, prepared: PreparedRegistry, columns: Columns) -> None:
        self._prepared = prepared
        self._columns = columns
        self._names = list(prepared.number_of)
        self._sold: dict[int, Sold] = {}

    def runs(self, runs: Runs, counts: Counts, kind: ConflictKind, most: int) -> Iterator[Conflict]:
        """The first capacity conflicts of a kind."""
        things, areas = self._prepared.thing_ids, self._prepared.area_ids
        chosen = np.flatnonzero(runs.kind == kind)[:most]
        found = np.stack(
            [runs.bucket[chosen], runs.start_ms[chosen], runs.end_ms[chosen], runs.excess_w[chosen]], axis=1
        )
        members = np.empty((len(chosen), MOST_NAMED), dtype=np.int64)
        members_of_runs(found, counts.starts, counts.entries, self._columns.commitment, members)
        for (bucket, start_ms, end_ms, excess_w), numbers in zip(found.tolist(), members.tolist(), strict=True):
            place = bucket // 2
            is_cap = place >= len(things)
            yield Conflict(
                kind, "" if is_cap else things[place], start_ms, end_ms,
                tuple(str(number) for number in numbers if number >= 0), _DIRECTIONS[bucket % 2], excess_w=excess_w,
                area_id=areas[(place - len(things)) % len(areas)] if is_cap else "", rule=RULES[kind],
            )  # fmt: skip

    def pairs(self, kind: ConflictKind, pairs: Pairs) -> Iterator[Conflict]:
        """Conflicts of two commitments."""
        judge = self._judge(kind)
        for first, second, where in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.where.tolist(), strict=True):
            conflict = judge(self.sold(first), self.sold(second), where)
            assert conflict is not None  # the kernel judges by the same rule
            yield conflict

    def energy(self, sessions: IntArray, counts: Counts) -> Iterator[Conflict]:
        """Sessions whose need cannot be met, of those that may be in danger."""
        prepared = self._prepared
        for number in sessions.tolist():
            session = prepared.registry.sessions[prepared.session_ids[number]]
            rows = []
            for side in prepared.session_sides[:, number].tolist():
                entries = counts.entries[counts.starts[2 * side] : counts.starts[2 * side + 1]]
                rows.append(entries[entries[:, WHO] & 1 == 1, ROW])
            takers = np.unique(self._columns.commitment[np.concatenate(rows)])
            conflict = energy_exceeded(prepared.registry, session, [self.sold(k) for k in takers.tolist()])
            if conflict is not None:
                yield conflict

    def policies(self, rows: IntArray) -> Iterator[Conflict]:
        """Rows that break a policy."""
        for row in rows.tolist():
            name = self._names[int(self._columns.name[row])]
            sold = self.sold(int(self._columns.commitment[row]))
            found = policy_conflicts(self._prepared.registry, sold.commitment)
            yield next(conflict for conflict in found if conflict.resource_id == name)

    def sold(self, number: int) -> Sold:
        """A commitment of the batch, with where it counts."""
        known = self._sold.get(number)
        if known is None:
            first, end = np.searchsorted(self._columns.commitment, (number, number + 1)).tolist()
            rows = slice(first, end)
            commitment = commitment_at(self._columns, self._names, rows, str(number), number + 1)
            known = self._sold[number] = Sold(commitment, counts_of(self._prepared.registry, commitment))
        return known

    def _judge(self, kind: ConflictKind) -> Callable[[Sold, Sold, int], Conflict | None]:
        registry, things, sessions = self._prepared.registry, self._prepared.thing_ids, self._prepared.session_ids
        if kind == ConflictKind.CROSS_SALE:
            return lambda a, b, where: cross_sale(registry, a, b, registry.sessions[sessions[where]])
        if kind == ConflictKind.COUNTER_ACTIVATION:
            return lambda a, b, where: counter_activation(a, b, things[where])
        return lambda a, b, where: forbidden_cascade(registry, a, b, things[where])
