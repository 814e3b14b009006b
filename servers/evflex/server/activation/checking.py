"""CheckCommitments: a batch in columns, checked with the ledger in the pool; nothing is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from evflex.activation.v1 import activation_service_pb2 as api
from evflex.activation.v1 import check_pb2, commitment_pb2
from evflex.engine.activation import (
    BatchConflicts,
    Columns,
    Commitment,
    PreparedRegistry,
    Registry,
    columns_of,
    joined,
)
from evflex.engine.activation.model import MOST_NAMED, Conflict
from evflex.engine.validation import Rules
from evflex.server.activation.encode import conflict_message
from evflex.server.activation.keeper import LedgerKeeper
from evflex.server.activation.read_batch import BatchReader, IntArray
from evflex.server.activation.world import LedgerWorld
from evflex.server.caller import Caller
from evflex.server.calls import Call
from evflex.server.engine_port import ActivationEngine
from evflex.server.errors import limit_exceeded
from evflex.server.fields import refuse
from evflex.server.pool_run import PoolRun
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.upload import Upload, without_silence

_Upload = Upload[check_pb2.CheckCommitmentsHeader, check_pb2.CheckCommitmentsChunk]
_CONFLICTS_PER_MESSAGE = 1_000


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What a batch is checked with.

    Attributes:
        prepared: The registry.
        commitments: Those that count.
        sequence: Place of the ledger; 0 where its commitments are ignored.
    """

    prepared: PreparedRegistry
    commitments: Sequence[Commitment]
    sequence: int


class Checking:
    """Checks batches."""

    def __init__(self, settings: Settings, engine: ActivationEngine, pool: SolvePool, keeper: LedgerKeeper) -> None:
        """Work with these parts."""
        self._settings = settings
        self._engine = engine
        self._pool = pool
        self._keeper = keeper
        self._lock = threading.Lock()
        self._prepared: PreparedRegistry | None = None

    def check(self, messages: Iterator[object], call: Call) -> Iterator[api.CheckCommitmentsResponse]:
        """Check a batch; the messages of the answer.

        Raises:
            ServiceError: INVALID_ARGUMENT; RESOURCE_EXHAUSTED, there are too many rows; no thread is free.
        """
        upload: _Upload = Upload(without_silence(messages, self._settings.max_upload_silence_s))
        header = upload.header()
        rows, most = header.expected_rows, self._settings.max_check_rows
        upload.rules.check(rows > 0, "header.expected_rows", f"must be > 0, is {rows}")
        refuse(upload.rules)
        if rows > most:
            raise limit_exceeded("max_check_rows", rows, most)
        reader = BatchReader(rows, call.caller.tenant_id)
        for path, chunk in upload.chunks():
            reader.add(upload.rules, path, chunk)
        refuse(upload.rules)
        upload.rules.check(
            reader.row_count == rows, "header.expected_rows", f"must be the number of rows, {reader.row_count}"
        )
        refuse(upload.rules)

        def work(_: threading.Event) -> tuple[BatchConflicts, list[str], _Rows, int]:
            ledger = self._ledger(header.ignore_ledger)
            rules = Rules()
            columns, order = reader.columns(rules, partial(_number_of, ledger.prepared, call.caller))
            refuse(rules)
            known = columns_of(ledger.prepared, ledger.commitments)
            names = [commitment.commitment_id for commitment in ledger.commitments]
            batch = joined(known, columns) if len(known) else columns
            found = self._engine.check_batch(ledger.prepared, batch, self._settings.max_check_conflicts)
            return found, names, _Rows.of(columns, order), ledger.sequence

        found, names, batch_rows, sequence = PoolRun(self._pool.unary, call, work, self._settings).result()
        yield _summary(found, len(names), batch_rows, sequence)
        for first in range(0, len(found.conflicts), _CONFLICTS_PER_MESSAGE):
            some = found.conflicts[first : first + _CONFLICTS_PER_MESSAGE]
            told = [_told(conflict, names, batch_rows) for conflict in some]
            yield api.CheckCommitmentsResponse(chunk=check_pb2.CheckCommitmentsConflicts(conflicts=told))

    def _ledger(self, ignore_commitments: bool) -> _Ledger:
        """The ledger as it is; the registry by number is kept as long as it does not change."""

        def see(world: LedgerWorld) -> tuple[Registry | None, list[Commitment], int]:
            registry = world.ledger.registry
            is_new = self._prepared is None or self._prepared.version != registry.version
            commitments = [] if ignore_commitments else world.ledger.commitments()
            # the copy takes milliseconds; what follows would hold up the writer for seconds
            return (registry.copy() if is_new else None), commitments, 0 if ignore_commitments else world.position

        with self._lock:
            registry, commitments, sequence = self._keeper.look(see)
            if registry is not None:
                self._prepared = self._engine.prepare_registry(registry)
            assert self._prepared is not None
            return _Ledger(self._prepared, commitments, sequence)


def _number_of(prepared: PreparedRegistry, caller: Caller, name: str) -> int | None:
    """Number of a resource or session, None where the caller may not know of it."""
    number = prepared.number_of.get(name)
    if number is None or not caller.may_use_area(prepared.area_ids[prepared.area_of[number]]):
        return None
    return number


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a batch by commitment.

    Attributes:
        order: Where each row stood.
        first: First row of each commitment, and the end, in that order.
    """

    order: IntArray
    first: IntArray

    @classmethod
    def of(cls, columns: Columns, order: IntArray) -> _Rows:
        count = int(columns.commitment[-1]) + 1
        return cls(order, np.searchsorted(columns.commitment, np.arange(count + 1)).astype(np.int64))


def _summary(found: BatchConflicts, known: int, rows: _Rows, sequence: int) -> api.CheckCommitmentsResponse:
    clear = ~found.takes_part[known:]
    return api.CheckCommitmentsResponse(
        summary=check_pb2.CheckCommitmentsSummary(
            row_count=len(rows.order),
            conflict_count=int(found.count_by_kind.sum()),
            conflict_count_by_kind=found.count_by_kind.tolist(),
            clear_row_count=int(np.diff(rows.first)[clear].sum()),
            ledger_sequence=sequence,
        )
    )


def _told(conflict: Conflict, names: Sequence[str], rows: _Rows) -> commitment_pb2.Conflict:
    """A conflict whose commitments are named: those of the ledger by identifier, those of the batch by their rows."""
    numbers = [int(name) for name in conflict.commitment_ids]
    known = tuple(names[number] for number in numbers if number < len(names))
    message = conflict_message(replace(conflict, commitment_ids=known), {})
    for number in numbers:
        if number >= len(names):
            own = number - len(names)
            message.request_indices.extend(rows.order[rows.first[own] : rows.first[own + 1]].tolist())
    del message.request_indices[MOST_NAMED:]
    return message
