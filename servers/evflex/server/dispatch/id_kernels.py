"""An open-addressing hash table of identifiers: slots of rows, linear probing, removal by shifting back.

Identifiers stand in the rows of a byte table, padded with zeros; `slots` has a power of two of entries, -1 where free.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ByteTable = NDArray[np.uint8]
Slots = NDArray[np.int32]
Rows = NDArray[np.int64]

_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)


@njit(cache=True, inline="always")
def _home(ids: ByteTable, row: int, seed: np.uint64, mask: int) -> int:
    """Slot where the search for an identifier begins: FNV-1a over its bytes, mixed, so that its width is no matter."""
    value = seed
    for k in range(ids.shape[1]):
        byte = ids[row, k]
        if byte == 0:
            break
        value = (value ^ np.uint64(byte)) * _PRIME
    value = (value ^ (value >> np.uint64(33))) * _MIX
    value ^= value >> np.uint64(33)
    return int(np.int64(value & np.uint64(mask)))


@njit(cache=True, inline="always")
def _same(left: ByteTable, i: int, right: ByteTable, j: int) -> bool:
    """Whether two identifiers are equal, whatever the widths of their tables."""
    width = min(left.shape[1], right.shape[1])
    for k in range(width):
        if left[i, k] != right[j, k]:
            return False
        if left[i, k] == 0:
            return True
    if left.shape[1] > width:
        return bool(left[i, width] == 0)
    return right.shape[1] == width or bool(right[j, width] == 0)


@njit(cache=True, nogil=True)
def find_rows(slots: Slots, ids: ByteTable, wanted: ByteTable, seed: np.uint64) -> Rows:
    """Row of each wanted identifier, -1 where there is none."""
    mask = len(slots) - 1
    found = np.full(wanted.shape[0], -1, dtype=np.int64)
    for i in range(wanted.shape[0]):
        slot = _home(wanted, i, seed, mask)
        while slots[slot] >= 0:
            if _same(ids, slots[slot], wanted, i):
                found[i] = slots[slot]
                break
            slot = (slot + 1) & mask
    return found


@njit(cache=True, nogil=True)
def insert_rows(slots: Slots, ids: ByteTable, first: int, last: int, seed: np.uint64) -> Rows:
    """Enter rows first … last - 1 of `ids`.

    Returns:
        For each the row that has its identifier already, which stays alone in the table; -1 where there was none.
    """
    mask = len(slots) - 1
    taken = np.full(last - first, -1, dtype=np.int64)
    for row in range(first, last):
        slot = _home(ids, row, seed, mask)
        while slots[slot] >= 0:
            if _same(ids, slots[slot], ids, row):
                taken[row - first] = slots[slot]
                break
            slot = (slot + 1) & mask
        if taken[row - first] < 0:
            slots[slot] = row
    return taken


@njit(cache=True, nogil=True)
def remove_rows(slots: Slots, ids: ByteTable, count: int, rows: Rows, seed: np.uint64) -> tuple[Rows, Rows]:
    """Take rows out of the table, each replaced by what is then the last row.

    Args:
        slots: The hash table.
        ids: Identifiers, moved along.
        count: Rows in use.
        rows: Distinct rows to remove, descending, so that none of them is moved before its turn.
        seed: Of the hash.

    Returns:
        Rows that received another, and the rows that they received, in the order of the moves; equal where the last row
        itself went.
    """
    mask = len(slots) - 1
    targets = np.empty(len(rows), dtype=np.int64)
    sources = np.empty(len(rows), dtype=np.int64)
    for i in range(len(rows)):
        row = rows[i]
        last = count - 1 - i
        _free(slots, ids, _slot_of(slots, ids, row, seed, mask), seed, mask)
        if row != last:
            slots[_slot_of(slots, ids, last, seed, mask)] = row
            ids[row] = ids[last]
        ids[last] = 0
        targets[i], sources[i] = row, last
    return targets, sources


@njit(cache=True, inline="always")
def _slot_of(slots: Slots, ids: ByteTable, row: int, seed: np.uint64, mask: int) -> int:
    slot = _home(ids, row, seed, mask)
    while slots[slot] != row:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def _free(slots: Slots, ids: ByteTable, slot: int, seed: np.uint64, mask: int) -> None:
    """Empty a slot, and move back what stands behind it only because it was taken."""
    hole = slot
    following = (hole + 1) & mask
    while slots[following] >= 0:
        home = _home(ids, slots[following], seed, mask)
        if ((following - home) & mask) >= ((following - hole) & mask):
            slots[hole] = slots[following]
            hole = following
        following = (following + 1) & mask
    slots[hole] = -1


@njit(cache=True, nogil=True)
def pack_ids(joined: NDArray[np.uint8], lengths: Rows, into: ByteTable) -> None:
    """Write identifiers that stand one after another into the rows of a table of zeros."""
    at = 0
    for row in range(len(lengths)):
        for k in range(lengths[row]):
            into[row, k] = joined[at + k]
        at += lengths[row]


@njit(cache=True)
def write_texts(key: int, ids: ByteTable, out: NDArray[np.uint8]) -> int:
    """Write identifiers, shorter than 128 bytes, as a repeated string field whose key is one byte; returns the size."""
    at = 0
    for row in range(ids.shape[0]):
        length = 0
        while length < ids.shape[1] and ids[row, length] != 0:
            out[at + 2 + length] = ids[row, length]
            length += 1
        out[at] = key
        out[at + 1] = length
        at += 2 + length
    return at
