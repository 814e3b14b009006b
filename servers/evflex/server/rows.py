"""Messages of numbers written straight in the wire format, a column at a time; the counterpart of `columns`.

Adding a message through its Python wrapper costs about 2 µs, here about 0.1 µs. The GIL is held, as in `columns`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evflex.server.wire import varint

IntArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]

_FIXED64, _DELIMITED = 1, 2
_MOST_VARINT = 10


class Doubles:
    """Fields of doubles that are written together."""

    def __init__(self, *field_numbers: int) -> None:
        """Prepare the fields in the order in which values will be given."""
        keys = [varint(number << 3 | _FIXED64) for number in field_numbers]
        self._keys = keys
        self._form = struct.Struct("<" + "".join(f"{len(key)}sd" for key in keys))

    def write(self, values: Sequence[float]) -> bytes:
        """The fields as the wire has them."""
        arguments: list[object] = [None] * (2 * len(self._keys))
        arguments[::2] = self._keys
        arguments[1::2] = values
        return self._form.pack(*arguments)


@dataclass(frozen=True, slots=True)
class RowLayout:
    """A repeated message of one text and of numbers, all fields with numbers below 16.

    Attributes:
        doubles: Names of the fields of doubles.
        ints: Names of the fields of integers.
        keys: Numbers of the repeated field, the text, the doubles and the integers.
    """

    doubles: tuple[str, ...]
    ints: tuple[str, ...]
    keys: NDArray[np.uint64]

    @classmethod
    def of(cls, field_number: int, text_number: int, doubles: Mapping[str, int], ints: Mapping[str, int]) -> RowLayout:
        """The layout of a repeated field whose messages have a text, and doubles and integers by name and number."""
        keys = np.array([field_number, text_number, *doubles.values(), *ints.values()], dtype=np.uint64)
        return cls(tuple(doubles), tuple(ints), keys)

    def write(self, texts: Sequence[str], columns: Callable[[str], NDArray[np.generic]]) -> bytes:
        """The messages as protobuf's own serializer would write them.

        Args:
            texts: The text of each.
            columns: Gives each numeric field by name, doubles as float64 and integers, which are >= 0, as int64.
        """
        count = len(texts)
        if not count:
            return b""
        encoded = [text.encode() for text in texts]
        joined = b"".join(encoded)
        ends = np.array(list(accumulate(map(len, encoded))), dtype=np.int64)
        doubles = np.concatenate([np.empty(0), *(columns(name) for name in self.doubles)])
        ints = np.concatenate([columns(name) for name in self.ints])
        most_bytes = len(joined) + count * (2 * _MOST_VARINT + 2 + 9 * len(self.doubles) + 11 * len(self.ints))
        out = np.empty(most_bytes, dtype=np.uint8)
        text = np.frombuffer(joined, dtype=np.uint8)
        size_bytes = _write(
            self.keys, text, ends, doubles.view(np.uint64).reshape(-1, count), ints.reshape(-1, count), out
        )
        return out[:size_bytes].tobytes()


@njit(cache=True)
def _write(
    keys: NDArray[np.uint64],
    text: ByteArray,
    ends: IntArray,
    doubles: NDArray[np.uint64],
    ints: IntArray,
    out: ByteArray,
) -> int:
    """Write each message into `out`; fields that are zero are left out. Returns the number of bytes."""
    at, begin = 0, 0
    double_count = len(doubles)
    for row in range(len(ends)):
        length = ends[row] - begin
        size = (1 + _varint_size(np.uint64(length)) + length) if length else 0
        for k in range(double_count):
            size += 9 * (doubles[k, row] != 0)
        for k in range(len(ints)):
            size += (1 + _varint_size(np.uint64(ints[k, row]))) * (ints[k, row] != 0)
        at = _put_varint(out, at, keys[0] << np.uint64(3) | np.uint64(_DELIMITED))
        at = _put_varint(out, at, np.uint64(size))
        if length:
            at = _put_varint(out, at, keys[1] << np.uint64(3) | np.uint64(_DELIMITED))
            at = _put_varint(out, at, np.uint64(length))
            out[at : at + length] = text[begin : ends[row]]
            at += length
        begin = ends[row]
        for k in range(double_count):
            if doubles[k, row]:
                at = _put_varint(out, at, keys[2 + k] << np.uint64(3) | np.uint64(_FIXED64))
                for byte in range(8):
                    out[at + byte] = doubles[k, row] >> np.uint64(8 * byte) & np.uint64(0xFF)
                at += 8
        for k in range(len(ints)):
            if ints[k, row]:
                at = _put_varint(out, at, keys[2 + double_count + k] << np.uint64(3))
                at = _put_varint(out, at, np.uint64(ints[k, row]))
    return at


@njit(cache=True, inline="always")
def _varint_size(value: np.uint64) -> int:
    size = 1
    while value > np.uint64(0x7F):
        value >>= np.uint64(7)
        size += 1
    return size


@njit(cache=True, inline="always")
def _put_varint(out: ByteArray, at: int, value: np.uint64) -> int:
    """Write a varint; returns where the next thing goes."""
    while value > np.uint64(0x7F):
        out[at] = value & np.uint64(0x7F) | np.uint64(0x80)
        value >>= np.uint64(7)
        at += 1
    out[at] = value
    return at + 1
