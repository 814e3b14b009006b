"""Networks in memory, ready for power flows: brought back from the store when used, the least lately used given up."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from evflex.engine.grid import Network, PreparedGrid
from evflex.server.congestion.stored_network import read_stored_network
from evflex.server.engine_port import CongestionEngine
from evflex.server.errors import not_found
from evflex.server.store.networks import NetworkRow, NetworkStore


@dataclass(frozen=True, slots=True)
class PreparedNetwork:
    """A network with what makes its power flows quick.

    Attributes:
        network: The network.
        grid: The same, prepared by the engine.
        bus_index: Index of each bus by its identifier.
    """

    network: Network
    grid: PreparedGrid
    bus_index: dict[str, int] = field(repr=False)

    @property
    def islanded_bus_ids(self) -> list[str]:
        """Buses that no source reaches."""
        return [self.network.buses.bus_ids[i] for i in np.flatnonzero(~self.grid.energised).tolist()]

    @classmethod
    def of(cls, network: Network, engine: CongestionEngine) -> PreparedNetwork:
        """Prepare a network.

        Raises:
            InvalidProblemError: The network breaks a rule.
        """
        grid = engine.prepare_grid(network)
        return cls(network, grid, {bus_id: i for i, bus_id in enumerate(network.buses.bus_ids)})


class PreparedNetworks:
    """The networks used lately; a stored network never changes, so what is here stays right."""

    def __init__(self, store: NetworkStore, engine: CongestionEngine, most: int) -> None:
        """Load from `store`, prepare with `engine`, and keep at most so many."""
        self._store = store
        self._engine = engine
        self._most = most
        self._kept: OrderedDict[str, PreparedNetwork] = OrderedDict()
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def adopt(self, network_uid: str, prepared: PreparedNetwork) -> None:
        """Keep a network that was just stored."""
        with self._lock:
            self._kept[network_uid] = prepared
            self._kept.move_to_end(network_uid)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def opened(self, row: NetworkRow) -> PreparedNetwork:
        """A stored network; takes a while where it has to be prepared.

        Raises:
            ServiceError: NOT_FOUND, it was deleted meanwhile.
        """
        uid = row.network_uid
        with self._lock:
            turn = self._turns.setdefault(uid, threading.Lock())
        try:
            with turn:  # only one prepares, the others wait for what it made
                prepared = self._find(uid) or self._load(row)
                self.adopt(uid, prepared)
                return prepared
        finally:
            with self._lock:
                self._turns.pop(uid, None)

    def _find(self, network_uid: str) -> PreparedNetwork | None:
        with self._lock:
            return self._kept.get(network_uid)

    def _load(self, row: NetworkRow) -> PreparedNetwork:
        return PreparedNetwork.of(self.network(row), self._engine)

    def network(self, row: NetworkRow) -> Network:
        """A stored network, not prepared for anything.

        Raises:
            ServiceError: NOT_FOUND, it was deleted meanwhile.
        """
        kept = self._find(row.network_uid)
        if kept is not None:
            return kept.network
        with self._store.blocks(row.network_uid) as blocks:
            try:
                return read_stored_network(blocks)
            except StopIteration:  # there is no first block
                raise not_found("network", row.network_id) from None
