"""What an importer answers: the network, what it refused by element, and what it decided."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from evflex.engine.grid.network import Network


class NetworkFormat(IntEnum):
    """Format of network files; values as in the public contract."""

    MATPOWER = 1
    PANDAPOWER = 2
    POWER_GRID_MODEL = 3
    SIMBENCH = 4


@dataclass(frozen=True, slots=True)
class Refusal:
    """An element of the file that the network lacks, because it was not understood.

    Attributes:
        element: The element as the file names it, for example ``trafo3w 0 'T3'``.
        reason: Why it was left out.
    """

    element: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """A network, and how far it is what the file says.

    Attributes:
        network: All that was understood; it keeps the rules of
            :func:`evflex.engine.grid.network_rules.validate_network`.
        refused: What was not understood. Whether the network may be used without it is the caller's to decide.
        notes: What was decided in reading, for example which taps have no effect.
    """

    network: Network
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
