"""Powers of single assets: x_i = Σ_j w_j x_i(λ_j), the oracle's answers replayed at the prices that were mixed.

Those of a small fleet are known without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.curtail_part import CurtailPart
from evflex.engine.dispatch.parts import Mixing, Part
from evflex.engine.dispatch.pattern_part import PatternPart
from evflex.engine.dispatch.prices import Prices
from evflex.engine.dispatch.storage_part import StoragePart
from evflex.engine.dispatch.storage_pattern_part import StoragePatternPart
from evflex.engine.dispatch.window_part import WindowPart
from evflex.engine.supply_tree import FloatArray, IntArray

_PARTS: dict[str, type[WindowPart] | type[PatternPart] | type[StoragePart] | type[CurtailPart]] = {
    cls.kind: cls for cls in (WindowPart, PatternPart, StoragePart, StoragePatternPart, CurtailPart)
}
# Name of all powers among arrays.
_KNOWN = "power_kw"


class MixedSetpoints:
    """Powers that are computed where they are asked for; see ``Setpoints`` of the plan."""

    def __init__(self, parts: Sequence[Part], mixings: Sequence[Mixing], prices: Prices, count: int) -> None:
        """Keep what powers are computed from.

        Args:
            parts: Parts of the fleet; assets without one rest.
            mixings: What the blocks of each part mix.
            prices: Prices without limits.
            count: Number of assets of the fleet.
        """
        self._parts, self._mixings, self._prices, self._count = tuple(parts), tuple(mixings), prices, count
        self._part = np.full(count, -1, dtype=np.int8)
        self._place = np.zeros(count, dtype=np.int32)
        for k, part in enumerate(parts):
            self._part[part.rows] = k
            self._place[part.rows] = np.arange(len(part.rows), dtype=np.int32)

    def power_kw(self, rows: IntArray) -> FloatArray:
        """Mean powers of some rows of the fleet, (len(rows), T)."""
        power = np.zeros((len(rows), len(self._prices.draw)))
        for k in range(len(self._parts)):
            at = np.flatnonzero(self._part[rows] == k)
            place = self._place[rows[at]].astype(np.int64)
            order = np.argsort(place, kind="stable")
            power[at[order]] = self.part_powers(k, place[order])
        return power

    def part_powers(self, k: int, place: IntArray) -> FloatArray:
        """Powers of assets of a part, given in ascending order, (len(place), T)."""
        part, mixing = self._parts[k], self._mixings[k]
        power = np.empty((len(place), len(self._prices.draw)))
        cut = np.searchsorted(place, part.block_begin)
        for block in np.flatnonzero(np.diff(cut)).tolist():
            some = slice(int(cut[block]), int(cut[block + 1]))
            power[some] = part.powers(place[some], *mixing.of_block(block), self._prices)
        return power

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything that the powers are computed from."""
        arrays: dict[str, NDArray[np.generic]] = {
            "count": np.array(self._count), "draw": self._prices.draw, "inject": self._prices.inject,
        }  # fmt: skip
        for k, (part, mixing) in enumerate(zip(self._parts, self._mixings, strict=True)):
            arrays |= {f"{k}/{part.kind}/{name}": values for name, values in part.to_arrays().items()}
            for name in Mixing.__dataclass_fields__:
                arrays[f"{k}/mixing/{name}"] = getattr(mixing, name)
        return arrays


class KnownSetpoints:
    """Powers of a small fleet, all in memory; see ``Setpoints`` of the plan."""

    def __init__(self, power_kw: FloatArray) -> None:
        """Keep the powers of all assets, (n, T)."""
        self._power_kw = power_kw

    def power_kw(self, rows: IntArray) -> FloatArray:
        """Mean powers of some rows of the fleet, (len(rows), T)."""
        return self._power_kw[rows]

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """The powers."""
        return {_KNOWN: self._power_kw}


def setpoints_from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> MixedSetpoints | KnownSetpoints:
    """The way back from ``to_arrays`` of setpoints."""
    if _KNOWN in arrays:
        return KnownSetpoints(arrays[_KNOWN].astype(np.float64))
    grouped: dict[int, dict[str, dict[str, NDArray[np.generic]]]] = {}
    for key, values in arrays.items():
        if "/" in key:
            k, group, name = key.split("/")
            grouped.setdefault(int(k), {}).setdefault(group, {})[name] = values
    parts: list[Part] = []
    mixings: list[Mixing] = []
    for _, groups in sorted(grouped.items()):
        mixings.append(Mixing(**groups.pop("mixing")))  # type: ignore[arg-type]
        kind, own = groups.popitem()
        parts.append(_PARTS[kind].from_arrays(own))
    prices = Prices(arrays["draw"].astype(np.float64), arrays["inject"].astype(np.float64))
    return MixedSetpoints(parts, mixings, prices, int(arrays["count"]))
