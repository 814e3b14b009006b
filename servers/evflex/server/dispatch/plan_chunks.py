"""Powers of assets as chunks of a stream, written straight in the wire format, some rows of the fleet at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.dispatch.v1 import plan_pb2
from evflex.engine.dispatch.plan import Setpoints
from evflex.server.dispatch.id_kernels import ByteTable, Rows, write_texts
from evflex.server.wire import varint

_Chunk = plan_pb2.PlanChunk
_DELIMITED = 2
_VARINT = 0
_DOUBLE_BYTES = 8
# A chunk with all that stands around it stays under 1 MiB.
_CHUNK_BYTES = (1 << 20) - 64
# Powers that are computed at once.
_BATCH_BYTES = 16 << 20
_MOST_BATCH_ROWS = 65_536
_IDS_KEY = _Chunk.ASSET_IDS_FIELD_NUMBER << 3 | _DELIMITED
_POWER_KEY = varint(_Chunk.POWER_KW_FIELD_NUMBER << 3 | _DELIMITED)
_INDEX_KEY = varint(_Chunk.CHUNK_INDEX_FIELD_NUMBER << 3 | _VARINT)


@dataclass(frozen=True, slots=True)
class PlanChunks:
    """The chunks of some assets of a plan.

    Attributes:
        ids: Identifiers of all assets of the plan, (n, width).
        rows: Rows that are asked for; None for all.
        setpoints: Gives their powers.
        step_count: Number of steps.
    """

    ids: ByteTable
    rows: Rows | None
    setpoints: Setpoints
    step_count: int

    @property
    def row_count(self) -> int:
        """Number of assets."""
        return len(self.ids) if self.rows is None else len(self.rows)

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.row_count // self._rows_per_chunk)

    def messages(self, field_number: int) -> Iterator[bytes]:
        """Each chunk as the field of that number of a message, serialized."""
        per_chunk = self._rows_per_chunk
        batch_rows = min(_MOST_BATCH_ROWS, _BATCH_BYTES // (_DOUBLE_BYTES * self.step_count))
        batch_rows = max(1, batch_rows // per_chunk) * per_chunk
        index = 0
        for first in range(0, self.row_count, batch_rows):
            rows = self._rows(first, min(first + batch_rows, self.row_count))
            power_kw = np.ascontiguousarray(self.setpoints.power_kw(rows), dtype="<f8")
            for start in range(0, len(rows), per_chunk):
                part = slice(start, start + per_chunk)
                yield _message(field_number, index, self.ids[rows[part]], power_kw[part])
                index += 1

    @property
    def _rows_per_chunk(self) -> int:
        row_bytes: int = _DOUBLE_BYTES * self.step_count + self.ids.shape[1] + 2
        return max(1, _CHUNK_BYTES // row_bytes)

    def _rows(self, first: int, last: int) -> Rows:
        return np.arange(first, last) if self.rows is None else self.rows[first:last]


def _message(field_number: int, index: int, ids: ByteTable, power_kw: NDArray[np.float64]) -> bytes:
    head = _INDEX_KEY + varint(index) if index else b""
    texts = np.empty(ids.shape[0] * (ids.shape[1] + 2), dtype=np.uint8)
    texts_bytes = write_texts(_IDS_KEY, ids, texts)
    power_head = _POWER_KEY + varint(power_kw.nbytes)
    size = len(head) + texts_bytes + len(power_head) + power_kw.nbytes
    outer = varint(field_number << 3 | _DELIMITED) + varint(size)
    # joined once, without copies in between: a million assets are 768 MB
    return b"".join([outer, head, texts[:texts_bytes].data, power_head, power_kw.reshape(-1).view(np.uint8).data])
