"""From the bytes of network files to a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from evflex.engine.grid.formats.archive import unpack_files
from evflex.engine.grid.formats.imported import ImportedNetwork, NetworkFormat
from evflex.engine.grid.formats.matpower import read_matpower
from evflex.engine.grid.formats.pandapower import read_pandapower
from evflex.engine.grid.formats.power_grid_model import read_power_grid_model
from evflex.engine.grid.formats.simbench import read_simbench
from evflex.engine.validation import InvalidProblemError, Violation

_Reader = Callable[[Mapping[str, bytes], bool | None], ImportedNetwork]


def read_network(
    network_format: NetworkFormat, files: Mapping[str, bytes], *, three_phase: bool | None = None
) -> ImportedNetwork:
    """Read network files, which may be packed with gzip or zip.

    Args:
        network_format: What the files are.
        files: Content by file name.
        three_phase: Whether phases are to be told apart; by default where the file has loads or generators that do. A
            balanced network takes what the three phases add up to. MATPOWER and SimBench are balanced.

    Raises:
        InvalidProblemError: When the files are not of the format, or break a rule; each fault names file, table, row,
            column and rule. What is merely not understood is listed in the answer.
    """
    try:
        with np.errstate(all="ignore"):
            return _READERS[network_format](unpack_files(files), three_phase)
    except (ArithmeticError, RecursionError) as error:
        # values within bounds that an element's formula cannot take, and nesting deeper than any network's
        raise InvalidProblemError(
            [Violation("files", f"must hold values that can be computed with: {error}")]
        ) from None


def _matpower(files: Mapping[str, bytes], three_phase: bool | None) -> ImportedNetwork:
    return read_matpower(files)


_READERS: dict[NetworkFormat, _Reader] = {
    NetworkFormat.MATPOWER: _matpower,
    NetworkFormat.PANDAPOWER: read_pandapower,
    NetworkFormat.POWER_GRID_MODEL: read_power_grid_model,
    NetworkFormat.SIMBENCH: read_simbench,
}
