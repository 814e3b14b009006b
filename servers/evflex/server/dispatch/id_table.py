"""Identifiers of assets: a byte table, and an index of some 4 to 11 bytes an asset that finds their rows."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from evflex.server.dispatch.id_kernels import ByteTable, Rows, Slots, find_rows, insert_rows, pack_ids, remove_rows

MAX_ID_BYTES = 64
_WIDTH_STEP = 4
_FEWEST_SLOTS = 16
_SLOT_BYTES = 4
# Nobody outside can choose identifiers that collide in a table whose seed he does not know.
_SEED = np.uint64(secrets.randbits(64) | 1)


class IdTable:
    """Rows of distinct identifiers, found by identifier."""

    def __init__(self, width: int = _WIDTH_STEP) -> None:
        """Hold nothing yet; `width` is the number of bytes that each identifier may have without a new layout."""
        self.count = 0
        self._ids: ByteTable = np.zeros((0, _rounded(width)), dtype=np.uint8)
        self._slots: Slots = np.full(_FEWEST_SLOTS, -1, dtype=np.int32)

    @property
    def ids(self) -> ByteTable:
        """The identifiers, padded with zeros, (count, width)."""
        return self._ids[: self.count]

    @property
    def capacity(self) -> int:
        """Identifiers that there is room for."""
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return self._ids.nbytes + self._slots.nbytes

    def reserve(self, capacity: int, width: int) -> None:
        """Make room for `capacity` identifiers of `width` bytes, so that adding them cannot fail."""
        width = max(self._ids.shape[1], _rounded(width))
        capacity = max(capacity, len(self._ids))
        if self._ids.shape != (capacity, width):
            grown = np.zeros((capacity, width), dtype=np.uint8)
            grown[: self.count, : self._ids.shape[1]] = self.ids
            self._ids = grown
        if len(self._slots) < _slot_count(capacity):
            self._slots = np.full(_slot_count(capacity), -1, dtype=np.int32)
            insert_rows(self._slots, self._ids, 0, self.count, _SEED)

    def find(self, wanted: ByteTable) -> Rows:
        """Row of each identifier of a byte table, -1 where there is none."""
        return find_rows(self._slots, self._ids, wanted, _SEED)

    def add(self, ids: ByteTable) -> Rows:
        """Append identifiers, for which there is room.

        Returns:
            For each the row that has had it already, -1 where there was none. Rows are appended all the same, so who
            finds another number must give the table up.
        """
        first = self.count
        self._ids[first : first + len(ids), : ids.shape[1]] = ids
        self.count += len(ids)
        return insert_rows(self._slots, self._ids, first, self.count, _SEED)

    def remove(self, rows: Rows) -> tuple[Rows, Rows]:
        """Remove distinct rows, given descending; returns which rows received which others, in the order of moves."""
        moves = remove_rows(self._slots, self._ids, self.count, rows, _SEED)
        self.count -= len(rows)
        return moves


def packed(ids: Sequence[str]) -> ByteTable:
    """Identifiers as a byte table as wide as the longest of them."""
    encoded = [text.encode() for text in ids]
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    table = np.zeros((len(encoded), int(lengths.max(initial=1))), dtype=np.uint8)
    pack_ids(np.frombuffer(b"".join(encoded), dtype=np.uint8), lengths, table)
    return table


def id_bytes(capacity: int, width: int) -> int:
    """Memory that a table of this size takes."""
    return capacity * _rounded(width) + _SLOT_BYTES * _slot_count(capacity)


def _rounded(width: int) -> int:
    return max(_WIDTH_STEP, -(-width // _WIDTH_STEP) * _WIDTH_STEP)


def _slot_count(capacity: int) -> int:
    """The power of two that is at most three quarters full."""
    return max(_FEWEST_SLOTS, 1 << (4 * capacity // 3).bit_length())
