"""Importers of network files: MATPOWER, pandapower, power-grid-model and SimBench."""

from evflex.engine.grid.formats.imported import ImportedNetwork, NetworkFormat, Refusal
from evflex.engine.grid.formats.read import read_network

__all__ = ["ImportedNetwork", "NetworkFormat", "Refusal", "read_network"]
