"""Whether profiles suit their assets, and profiles put together by their time axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evflex.engine.dispatch.model import AssetKind
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules
from evflex.server.dispatch.id_kernels import ByteTable
from evflex.server.dispatch.id_table import packed
from evflex.server.dispatch.profiles import ProfileRows
from evflex.server.dispatch.read_fleet import ReadProfile

UNKNOWN_KIND = 0
_LOADS = (AssetKind.FLEXIBLE_LOAD, AssetKind.HEAT_PUMP)


def newest_profiles(profiles: Sequence[ReadProfile]) -> list[ReadProfile]:
    """The last profile of each asset."""
    return list({profile.asset_id: profile for profile in profiles}.values())


def profile_ids(profiles: Sequence[ReadProfile]) -> ByteTable:
    """Identifiers of the profiles' assets."""
    return packed([profile.asset_id for profile in profiles])


def profile_sign(kind: int) -> int:
    """Sign of the powers that a profile of this kind of asset has, 0 where it may have none."""
    if kind == AssetKind.PV:
        return -1
    return int(kind in _LOADS)


def check_profiles(rules: Rules, profiles: Sequence[ReadProfile], kinds: NDArray[np.uint8]) -> None:
    """Report profiles of assets that are not there (:data:`UNKNOWN_KIND`), of the wrong kind, or of the wrong sign."""
    for profile, kind in zip(profiles, kinds.tolist(), strict=True):
        sign = profile_sign(kind)
        if kind == UNKNOWN_KIND:
            rules.check(False, f"{profile.path}.asset_id", "must name an asset of the portfolio")
        elif sign == 0:
            rules.check(False, f"{profile.path}.asset_id", "must be PV, a flexible load or a heat pump")
        else:
            wrong = profile.power_kw * sign < 0.0
            if wrong.any():
                k = int(wrong.argmax())
                rule = "must be <= 0 for PV" if sign < 0 else "must be >= 0 for a load"
                rules.check(False, f"{profile.path}.power_kw[{k}]", f"{rule}, is {profile.power_kw[k]}")


def by_grid(profiles: Sequence[ReadProfile]) -> tuple[ProfileRows, ...]:
    """Profiles that share a time axis as one matrix; `asset` is the place in the sequence."""
    places: dict[TimeGrid, list[int]] = {}
    for i, profile in enumerate(profiles):
        places.setdefault(profile.grid, []).append(i)
    return tuple(
        ProfileRows(grid, np.array(rows, dtype=np.int64), np.stack([profiles[i].power_kw for i in rows]))
        for grid, rows in places.items()
    )
