"""Turns networks into messages: what they are, and their tables in chunks of rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from evflex.congestion.v1 import congestion_service_pb2, network_pb2
from evflex.engine.grid import Network
from evflex.engine.grid.formats import ImportedNetwork
from evflex.server.messages import set_timestamp
from evflex.server.store.networks import NetworkRow, NewNetwork
from evflex.server.store.requests import RequestKey
from evflex.server.wire import packed_doubles

MAX_TOLD = 1_000
_CHUNK_BYTES = (1 << 20) - 4_096
# A number of any column, and what stands around an identifier.
_NUMBER_BYTES = 8
_TEXT_BYTES = 4
_COMPRESSION_LEVEL = 1
_LEFT_OUT_OF_LISTS = ("refusals", "notes")

Columns = Mapping[str, "Sequence[str] | np.ndarray[Any, Any]"]


def encode_network(
    header: congestion_service_pb2.ImportNetworkHeader, imported: ImportedNetwork, islanded_bus_count: int
) -> network_pb2.Network:
    """An imported network without what only a stored one has."""
    network = imported.network
    refused, notes = imported.refused, imported.notes
    return network_pb2.Network(
        display_name=header.display_name,
        format=header.format,
        phase_count=network.phase_count,
        base_kva=network.base_kva,
        bus_count=network.bus_count,
        branch_count=network.branch_count,
        source_count=network.sources.bus.shape[0],
        generator_count=network.generators.bus.shape[0],
        load_kw=float(network.load_p_kw.sum()),
        load_kvar=float(network.load_q_kvar.sum()),
        islanded_bus_count=islanded_bus_count,
        refusal_count=len(refused),
        refusals=[network_pb2.RefusedElement(element=r.element, reason=r.reason) for r in refused[:MAX_TOLD]],
        notes=notes[:MAX_TOLD],
        area_id=header.area_id,
    )


def new_network(key: RequestKey, network_id: str, message: network_pb2.Network, create_time_unix_us: int) -> NewNetwork:
    """A network ready to be stored."""
    summary = network_pb2.Network()
    summary.CopyFrom(message)
    for name in _LEFT_OUT_OF_LISTS:
        summary.ClearField(cast("Any", name))
    payload = zlib.compress(message.SerializeToString(), _COMPRESSION_LEVEL)
    return NewNetwork(key, message.area_id, network_id, summary.SerializeToString(), payload, create_time_unix_us)


def shown_network(row: NetworkRow) -> network_pb2.Network:
    """A stored network, as lists show it where only its summary was read."""
    message = network_pb2.Network.FromString(zlib.decompress(row.payload) if row.payload else row.summary)
    message.network_id = row.network_id
    message.tenant_id = row.tenant_id
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    return message


def table_chunks(network: Network) -> Iterator[network_pb2.NetworkTables]:
    """The tables of a network, some rows a message."""
    for buses in _parts(network_pb2.BusTable, _bus_columns(network)):
        yield network_pb2.NetworkTables(buses=buses)
    for branches in _parts(network_pb2.BranchTable, _branch_columns(network)):
        yield network_pb2.NetworkTables(branches=branches)
    sources, generators = network.sources, network.generators
    source_columns = {
        "bus_indices": sources.bus, "voltage_pu": sources.voltage_pu, "angle_deg": sources.angle_deg,
    }  # fmt: skip
    for source in _parts(network_pb2.SourceTable, source_columns):
        yield network_pb2.NetworkTables(sources=source)
    generator_columns = {
        "bus_indices": generators.bus, "p_kw": generators.p_kw, "voltage_pu": generators.voltage_pu,
    }  # fmt: skip
    for generator in _parts(network_pb2.GeneratorTable, generator_columns):
        yield network_pb2.NetworkTables(generators=generator)


def _bus_columns(network: Network) -> Columns:
    buses = network.buses
    names = ("bus_ids", "nominal_kv", "shunt_g_pu", "shunt_b_pu", "voltage_min_pu", "voltage_max_pu", "x", "y")
    columns: dict[str, Any] = {name: getattr(buses, name) for name in names}
    return {**columns, "load_p_kw": network.load_p_kw, "load_q_kvar": network.load_q_kvar}


def _branch_columns(network: Network) -> Columns:
    branches = network.branches
    always = (
        "branch_ids", "kinds", "r_pu", "x_pu", "g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu", "shift_deg",
        "from_closed", "to_closed", "rated_from_a", "rated_to_a", "rated_kva",
    )  # fmt: skip
    by_phase = ("zero_sequence", "r0_pu", "x0_pu", "g0_from_pu", "b0_from_pu", "g0_to_pu", "b0_to_pu")
    names = (*always, *by_phase) if network.phase_count > 1 else always
    columns: dict[str, Any] = {name: getattr(branches, name) for name in names}
    return {
        **columns, "turns_ratio": branches.ratio,
        "from_bus_indices": branches.from_bus, "to_bus_indices": branches.to_bus,
    }  # fmt: skip


def _parts(kind: type[Message], columns: Columns) -> Iterator[Any]:
    """Messages of columns, each with as many rows as a chunk may hold."""
    count = len(next(iter(columns.values())))
    row_bytes = sum(_row_bytes(values) for values in columns.values())
    per_part = max(1, _CHUNK_BYTES // row_bytes)
    for first in range(0, count, per_part):
        yield _message(kind, {name: values[first : first + per_part] for name, values in columns.items()})


def _row_bytes(values: Sequence[str] | np.ndarray[Any, Any]) -> int:
    if isinstance(values, np.ndarray):
        return _NUMBER_BYTES * (values.shape[1] if values.ndim > 1 else 1)
    return _TEXT_BYTES + max((len(text.encode()) for text in values), default=0)


def _message(kind: type[Message], columns: Columns) -> Message:
    message = kind()
    fields = kind.DESCRIPTOR.fields_by_name
    for name, values in columns.items():
        if not isinstance(values, np.ndarray):
            getattr(message, name).extend(values)
        elif fields[name].type == FieldDescriptor.TYPE_DOUBLE:
            message.MergeFromString(packed_doubles(fields[name].number, values.reshape(-1)))
        else:
            getattr(message, name).extend(values.tolist())
    return message
