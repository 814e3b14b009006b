"""Networks as arrays of the store, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from evflex.engine.grid import Branches, Buses, Generators, Network, Sources
from evflex.server.store.arrays import Array, array_blocks, joined_arrays

_TABLES: Mapping[str, type[Any]] = {
    "buses": Buses,
    "branches": Branches,
    "sources": Sources,
    "generators": Generators,
}
_SCALARS = ("base_kva", "phase_count")
_LOADS = ("load_p_kw", "load_q_kvar")


def network_blocks(network: Network) -> Iterator[bytes]:
    """All of a network in blocks of some megabytes."""
    arrays: dict[str, Array] = {name: np.array([getattr(network, name)]) for name in _SCALARS}
    arrays |= {name: getattr(network, name) for name in _LOADS}
    for table, kind in _TABLES.items():
        for field in fields(kind):
            values = getattr(getattr(network, table), field.name)
            is_text = isinstance(values, tuple)
            arrays[f"{table}.{field.name}"] = _packed(values) if is_text else values
    return array_blocks(arrays)


def read_stored_network(blocks: Iterator[bytes]) -> Network:
    """What :func:`network_blocks` wrote."""
    arrays = joined_arrays(blocks)
    tables: dict[str, Any] = {
        table: kind(**{field.name: _column(field.name, arrays[f"{table}.{field.name}"]) for field in fields(kind)})
        for table, kind in _TABLES.items()
    }
    return Network(
        base_kva=float(arrays["base_kva"][0]),
        phase_count=int(arrays["phase_count"][0]),
        load_p_kw=arrays["load_p_kw"].astype(np.float64),
        load_q_kvar=arrays["load_q_kvar"].astype(np.float64),
        **tables,
    )


def _packed(texts: tuple[str, ...]) -> Array:
    return np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8)


def _column(name: str, array: Array) -> object:
    return tuple(json.loads(array.tobytes())) if name.endswith("_ids") else array
