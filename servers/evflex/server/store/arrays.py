"""Named arrays as one binary: a line of JSON that says what follows, then the bytes of each.

A column that holds one value throughout, as columns of fleets often do, takes the place of that value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
_BLOCK_BYTES = 8 << 20


def pack_arrays(arrays: Mapping[str, Array]) -> bytes:
    """The binary of some arrays of numbers."""
    heads: list[tuple[str, str, tuple[int, ...], bool]] = []
    parts: list[bytes | memoryview] = []
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        constant = plain.size > 1 and _is_constant(plain)
        heads.append((name, plain.dtype.str, plain.shape, constant))
        if plain.size:
            parts.append((plain.reshape(-1)[:1] if constant else plain).reshape(-1).view(np.uint8).data)
    return b"".join([json.dumps(heads).encode(), b"\n", *parts])


def unpack_arrays(packed: bytes) -> dict[str, Array]:
    """The arrays of a binary, each a copy that may be written."""
    end = packed.index(b"\n")
    at = end + 1
    arrays: dict[str, Array] = {}
    for name, kind, shape, constant in json.loads(packed[:end]):
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64))
        stored = np.frombuffer(packed, dtype=dtype, count=1 if constant else size, offset=at)
        at += stored.nbytes
        native = dtype.newbyteorder("=")
        arrays[name] = np.full(shape, stored[0], dtype=native) if constant else stored.astype(native).reshape(shape)
    return arrays


def array_blocks(arrays: Mapping[str, Array]) -> Iterator[bytes]:
    """Some arrays of numbers in blocks of some megabytes, for :func:`joined_arrays`."""
    shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
    yield pack_arrays({"shapes": np.frombuffer(json.dumps(shapes).encode(), dtype=np.uint8)})
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array).reshape(-1)
        per_block = max(1, _BLOCK_BYTES // array.itemsize)
        for first in range(0, len(flat), per_block):
            yield pack_arrays({name: flat[first : first + per_block]})


def joined_arrays(blocks: Iterator[bytes]) -> dict[str, Array]:
    """The arrays that :func:`array_blocks` wrote."""
    shapes: dict[str, tuple[str, list[int]]] = json.loads(unpack_arrays(next(blocks))["shapes"].tobytes())
    flat = {name: np.empty(math.prod(shape), dtype=kind) for name, (kind, shape) in shapes.items()}
    filled = dict.fromkeys(flat, 0)
    for block in blocks:
        for name, part in unpack_arrays(block).items():
            flat[name][filled[name] : filled[name] + len(part)] = part
            filled[name] += len(part)
    return {name: flat[name].reshape(shape) for name, (_, shape) in shapes.items()}


def pack_doubles(values: NDArray[np.float64]) -> bytes:
    """Numbers and nothing else: little-endian doubles."""
    return values.astype("<f8").tobytes()


def unpack_doubles(packed: bytes) -> NDArray[np.float64]:
    """The numbers, a copy that may be written, (n,)."""
    return np.frombuffer(packed, dtype="<f8").astype(np.float64)


def _is_constant(array: Array) -> bool:
    """Whether all values have the same bytes, NaN included."""
    bits = array.reshape(-1).view(f"u{array.itemsize}") if array.itemsize in (1, 2, 4, 8) else None
    return bits is not None and bool((bits == bits[0]).all())
