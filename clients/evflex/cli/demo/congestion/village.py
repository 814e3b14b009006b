"""The feeder of the chapter: its file as the server takes it, and where its buses lie and what they are called."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

FILE_NAME = "winter_feeder.json"
NOMINAL_V = 400.0
# Of the file: the bus of the board in the substation, and how the server names its transformer.
BOARD_BUS = "1"
TRANSFORMER = "trafo 0"
_TIE_NAME = "tie"
_JOINT, _SERVICE = " joint ", "service "


@dataclass(frozen=True, slots=True, eq=False)
class Village:
    """A feeder on a map.

    Attributes:
        content: The network's file, as pandapower writes it.
        rated_kva: Rated power of the transformer.
        buses: By ``bus_id``: ``name``, ``street`` (empty at the substation), ``is_house``, ``x`` and ``y`` in m.
        lines: By ``branch_id``: ``name``, ``street``, ``from_bus_id``, ``to_bus_id``, ``is_service`` (from the street's
            cable to a house), ``is_tie`` (open as a rule).
    """

    content: bytes
    rated_kva: float
    buses: pd.DataFrame
    lines: pd.DataFrame

    @property
    def files(self) -> dict[str, bytes]:
        """Contents by file name, to be imported."""
        return {FILE_NAME: self.content}

    @property
    def houses(self) -> pd.Index:
        """Buses of the houses."""
        return self.buses.index[self.buses["is_house"]]

    @property
    def streets(self) -> list[str]:
        """Names of the streets."""
        return [str(street) for street in self.buses["street"].unique() if street]

    @property
    def tie(self) -> str:
        """The cable that is open as a rule."""
        return str(self.lines.index[self.lines["is_tie"]][0])

    def cables(self, street: str) -> list[str]:
        """The cables of a street from the substation to its end."""
        along = (self.lines["street"] == street) & ~self.lines["is_service"]
        return [str(branch_id) for branch_id in self.lines.index[along]]

    def place(self, bus_id: str) -> tuple[float, float]:
        """Where a bus lies."""
        x, y = self.buses[["x", "y"]].to_numpy()[self.buses.index.get_loc(bus_id)].tolist()
        return x, y

    def known(self, element_ids: Iterable[str]) -> list[str]:
        """Those of some buses and branches that people know: not the joints of cables below the street."""
        return [element for element in element_ids if element not in self.buses.index or element in self.houses]

    def name_of(self, element_id: str) -> str:
        """What people call a bus or a branch: houses by their address, cables by the stretch that they lie in."""
        if element_id == TRANSFORMER:
            return "transformer"
        if element_id in self.lines.index:
            return f"cable {self.lines.at[element_id, 'name']!s}"
        return str(self.buses.at[element_id, "name"])


def packaged_village() -> Village:
    """The feeder that comes with the demo, drawn by `docs/sample_demo_feeder.py`."""
    content = (resources.files("evflex.cli.demo") / "data" / FILE_NAME).read_bytes()
    tables = json.loads(content)["_object"]
    buses, lines, transformers = (_table(tables[name]) for name in ("bus", "line", "trafo"))
    names = buses["name"].astype(str)
    places = np.array([json.loads(place)["coordinates"] for place in buses["geo"]])
    is_house = (buses["vn_kv"] == NOMINAL_V / 1000.0) & ~names.str.contains(_JOINT) & (buses.index != BOARD_BUS)
    line_names = lines["name"].astype(str)
    return Village(
        content=content,
        rated_kva=1000.0 * float(transformers["sn_mva"].iloc[0]),
        buses=pd.DataFrame(
            {
                "name": names,
                "street": names.str.replace(_JOINT, " ").str.extract(r"^(.*) \d+$")[0].fillna(""),
                "is_house": is_house,
                "x": places[:, 0],
                "y": places[:, 1],
            }
        ),
        lines=pd.DataFrame(
            {
                "name": line_names,
                "street": line_names.str.removeprefix(_SERVICE).str.extract(r"^(.*) \d+$")[0].fillna("").to_numpy(),
                "from_bus_id": lines["from_bus"].astype(str),
                "to_bus_id": lines["to_bus"].astype(str),
                "is_service": line_names.str.startswith(_SERVICE),
                "is_tie": line_names == _TIE_NAME,
            }
        ).set_axis("line " + lines.index, axis=0),
    )


def _table(stored: dict[str, Any]) -> pd.DataFrame:
    """A table of pandapower's file; the index is that of pandapower, as text."""
    table = json.loads(stored["_object"])
    return pd.DataFrame(table["data"], columns=table["columns"], index=[str(i) for i in table["index"]])
