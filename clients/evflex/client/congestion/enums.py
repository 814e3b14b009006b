"""Enums of the congestion service by the short names that people write."""

from __future__ import annotations

from enum import StrEnum

from evflex.client.enums import full_name
from evflex.common.v1 import supply_node_pb2
from evflex.congestion.v1 import network_pb2


class NetworkFormat(StrEnum):
    """In what a network is written down.

    Attributes:
        MATPOWER: A case file (``.m``).
        PANDAPOWER: A network as JSON, as ``pandapower.to_json`` writes it.
        POWER_GRID_MODEL: Input data as JSON.
        SIMBENCH: A folder of CSV files.
    """

    MATPOWER = "MATPOWER"
    PANDAPOWER = "PANDAPOWER"
    POWER_GRID_MODEL = "POWER_GRID_MODEL"
    SIMBENCH = "SIMBENCH"


def format_name(network_format: NetworkFormat | str) -> str:
    """Name of the contract for a format.

    Raises:
        ValueError: The format is unknown.
    """
    return full_name(network_pb2.NetworkFormat, "NETWORK_FORMAT_", str(network_format))


def connection_name(phases: str) -> str:
    """Name of the contract for the phases that a load is connected to, for example ``L1``; empty is all.

    Raises:
        ValueError: The phases are unknown.
    """
    return full_name(supply_node_pb2.PhaseConnection, "PHASE_CONNECTION_", phases)
