"""A network that is kept by the server, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from google.protobuf.message import Message

from evflex.client.congestion.tables import PHASES
from evflex.client.enums import EnumTable, short_name
from evflex.client.errors import broken_stream
from evflex.client.moments import timestamp
from evflex.congestion.v1 import congestion_service_pb2 as pb
from evflex.congestion.v1 import network_pb2

_ENUMS: dict[str, tuple[EnumTable, str]] = {
    "kinds": (network_pb2.BranchKind, "BRANCH_KIND_"),
    "zero_sequence": (network_pb2.ZeroSequencePath, "ZERO_SEQUENCE_PATH_"),
}
_LOADS = ("load_p_kw", "load_q_kvar")


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network; it never changes. Positive power is consumption.

    Attributes:
        network_id: Identifier.
        display_name: Name for people.
        network_format: What it was imported from.
        phase_count: 1 where one phase stands for all, 3 where each phase is computed by itself.
        base_kva: Power of 1 pu in kVA.
        bus_count: Number of buses.
        branch_count: Number of branches.
        source_count: Number of sources.
        generator_count: Number of generators that hold a voltage.
        load_kw: Active power of the file's loads and generators together in kW.
        load_kvar: Reactive power of the same in kvar; positive is inductive.
        islanded_bus_count: Buses that no source reaches.
        refusal_count: Elements that were not taken over.
        refusals: The first 1000 of them: ``element``, ``reason``. Empty in lists.
        notes: What was assumed, and what was left out as without effect. Empty in lists.
        buses: By ``bus_id`` what the contract's ``BusTable`` has, of three phases ``load_p_kw.L1`` and so on; None
            unless asked for, as the other tables.
        branches: By ``branch_id``: ``kind``, ``from_bus_id``, ``to_bus_id``, and the rest of the ``BranchTable``.
        sources: By ``bus_id``: ``voltage_pu``, ``angle_deg``.
        generators: By ``bus_id``: ``p_kw``, ``voltage_pu``.
        tenant_id: Owner.
        area_id: Grid area.
        etag: Differs between any two networks.
        create_time: When it was imported (UTC).
        update_time: The same.
    """

    network_id: str
    display_name: str
    network_format: str
    phase_count: int
    base_kva: float
    bus_count: int
    branch_count: int
    source_count: int
    generator_count: int
    load_kw: float
    load_kvar: float
    islanded_bus_count: int
    refusal_count: int
    refusals: pd.DataFrame
    notes: tuple[str, ...]
    buses: pd.DataFrame | None
    branches: pd.DataFrame | None
    sources: pd.DataFrame | None
    generators: pd.DataFrame | None
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(cls, message: network_pb2.Network, tables: network_pb2.NetworkTables | None = None) -> Network:
        """Read a network of the contract, and its tables where they were asked for."""
        bus_ids = [] if tables is None else list(tables.buses.bus_ids)
        return cls(
            network_id=message.network_id,
            display_name=message.display_name,
            network_format=short_name(network_pb2.NetworkFormat, "NETWORK_FORMAT_", message.format),
            phase_count=message.phase_count,
            base_kva=message.base_kva,
            bus_count=message.bus_count,
            branch_count=message.branch_count,
            source_count=message.source_count,
            generator_count=message.generator_count,
            load_kw=message.load_kw,
            load_kvar=message.load_kvar,
            islanded_bus_count=message.islanded_bus_count,
            refusal_count=message.refusal_count,
            refusals=pd.DataFrame(
                [(row.element, row.reason) for row in message.refusals], columns=["element", "reason"]
            ),
            notes=tuple(message.notes),
            buses=None if tables is None else _buses(tables.buses, message.phase_count),
            branches=None if tables is None else _branches(tables.branches, bus_ids),
            sources=None if tables is None else _at_buses(tables.sources, bus_ids),
            generators=None if tables is None else _at_buses(tables.generators, bus_ids),
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


class NetworkStream:
    """Puts a network together from the messages of ``GetNetwork``; begins anew after a lost connection."""

    def __init__(self, *, with_tables: bool) -> None:
        self._with_tables = with_tables
        self.begin()

    def begin(self) -> None:
        """Forget what has come: the stream begins again."""
        self._network: network_pb2.Network | None = None
        self._tables = network_pb2.NetworkTables()

    def accept(self, message: pb.GetNetworkResponse) -> Sequence[Network]:
        """Take a message; nothing is whole before the end."""
        if message.HasField("network"):
            self._network = message.network
        elif message.HasField("tables"):
            # rows follow one another
            self._tables.MergeFrom(message.tables)
        return ()

    def check_ended(self) -> None:
        """Check the end of a stream.

        Raises:
            ServerError: Something is missing.
        """
        network, tables = self._network, self._tables
        whole = network is not None and (
            not self._with_tables
            or (len(tables.buses.bus_ids), len(tables.branches.branch_ids)) == (network.bus_count, network.branch_count)
        )
        if not whole:
            raise broken_stream("ended before the network was whole")

    def network(self) -> Network:
        """The network, once the stream has ended."""
        assert self._network is not None
        return Network.from_message(self._network, self._tables if self._with_tables else None)


def _columns(table: Message, *left_out: str) -> dict[str, object]:
    """Columns of a table of the contract by their names; those without rows are absent."""
    columns: dict[str, object] = {}
    for name in table.DESCRIPTOR.fields_by_name:
        values = getattr(table, name)
        if name in left_out or not len(values):
            continue
        if name in _ENUMS:
            columns[name.removesuffix("s")] = [short_name(*_ENUMS[name], value) for value in values]
        else:
            columns[name] = np.asarray(values)
    return columns


def _buses(table: network_pb2.BusTable, phase_count: int) -> pd.DataFrame:
    columns = _columns(table, "bus_ids", *_LOADS)
    for name in _LOADS:
        values = np.asarray(getattr(table, name), dtype=np.float64)
        if phase_count > 1:
            by_phase = values.reshape(-1, phase_count).T
            columns |= {f"{name}.{phase}": row for phase, row in zip(PHASES, by_phase, strict=True)}
        else:
            columns[name] = values
    return pd.DataFrame(columns, index=_ids(table.bus_ids, "bus_id"))


def _branches(table: network_pb2.BranchTable, bus_ids: Sequence[str]) -> pd.DataFrame:
    ends = {
        "from_bus_id": [bus_ids[bus] for bus in table.from_bus_indices],
        "to_bus_id": [bus_ids[bus] for bus in table.to_bus_indices],
    }
    columns = _columns(table, "branch_ids", "from_bus_indices", "to_bus_indices")
    kind = {"kind": columns.pop("kind", [])}
    return pd.DataFrame(kind | ends | columns, index=_ids(table.branch_ids, "branch_id"))


def _at_buses(table: network_pb2.SourceTable | network_pb2.GeneratorTable, bus_ids: Sequence[str]) -> pd.DataFrame:
    names = [name for name in table.DESCRIPTOR.fields_by_name if name != "bus_indices"]
    index = _ids([bus_ids[bus] for bus in table.bus_indices], "bus_id")
    return pd.DataFrame(_columns(table, "bus_indices"), index=index, columns=names)


def _ids(names: Sequence[str], name: str) -> pd.Index:
    return pd.Index(list(names), name=name, dtype=object)
