"""Assets and profiles of a message as arrays, with every fault that a message shows by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evflex.dispatch.v1 import fleet_pb2
from evflex.engine.dispatch.model import WIRE_NAMES, AssetKind, Fleet
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import MAX_REPORTED, Rules, Violation
from evflex.server.dispatch.id_kernels import ByteTable
from evflex.server.dispatch.id_table import MAX_ID_BYTES, packed
from evflex.server.fields import sound_grid

FloatArray = NDArray[np.float64]
_ROWS_AT_ONCE = 8_192
_FIRST_KIND, _LAST_KIND = min(AssetKind), max(AssetKind)


@dataclass(frozen=True, slots=True)
class ReadFleet:
    """Assets of one message.

    Attributes:
        ids: Identifiers, (n, width).
        columns: Those columns that are given, by the engine's names, each (n,).
    """

    ids: ByteTable
    columns: dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class ReadProfile:
    """A profile, and where it stood.

    Attributes:
        path: Of the message, for faults.
        asset_id: Asset that it is of.
        grid: Time axis.
        power_kw: Powers, (grid.step_count,).
    """

    path: str
    asset_id: str
    grid: TimeGrid
    power_kw: FloatArray


def read_fleet(rules: Rules, path: str, fleet: fleet_pb2.Fleet) -> ReadFleet | None:
    """Assets of a message; None where identifiers or lengths are wrong, which is reported."""
    ids = read_ids(rules, f"{path}.asset_ids", fleet.asset_ids)
    count = len(fleet.asset_ids)
    columns: dict[str, NDArray[np.generic]] = {}
    sound = ids is not None
    for name, wire_name in WIRE_NAMES.items():
        values: Sequence[float] = getattr(fleet, wire_name)
        if not len(values):
            continue
        if rules.length(f"{path}.{wire_name}", len(values), (0, count)):
            columns[name] = np.asarray(values)
        else:
            sound = False
    if ids is None or not sound:
        return None
    _check_given(rules, path, columns)
    return ReadFleet(ids, columns)


def read_ids(rules: Rules, path: str, ids: Sequence[str]) -> ByteTable | None:
    """Identifiers of assets as a byte table; None where one is wrong, which is reported."""
    joined = "".join(ids)
    if joined.isprintable():
        table = packed(ids)
        if table.shape[1] <= MAX_ID_BYTES and (not len(table) or bool(table[:, 0].all())):
            return table
    before = len(rules.violations)
    for i, text in enumerate(ids):
        if len(rules.violations) - before >= MAX_REPORTED:
            break
        if not text or len(text.encode()) > MAX_ID_BYTES:
            rules.check(False, f"{path}[{i}]", f"must have 1 to {MAX_ID_BYTES} bytes, has {len(text.encode())}")
        elif not text.isprintable():
            rules.check(False, f"{path}[{i}]", "must hold printable characters only")
    return None


def read_profiles(rules: Rules, path: str, profiles: Sequence[fleet_pb2.Profile]) -> list[ReadProfile]:
    """Profiles of a message whose axis, length and numbers are sound; other faults are reported."""
    sound: list[ReadProfile] = []
    for i, profile in enumerate(profiles):
        if len(rules.violations) >= MAX_REPORTED:
            break
        place = f"{path}[{i}]"
        before = len(rules.violations)
        read_ids(rules, f"{place}.asset_id", [profile.asset_id])
        grid = sound_grid(rules, f"{place}.time_grid", profile)
        if grid is not None:
            power_kw = np.array(profile.power_kw, dtype=np.float64)
            rules.array(f"{place}.power_kw", power_kw, (grid.step_count,))
        if grid is not None and len(rules.violations) == before:
            sound.append(ReadProfile(place, profile.asset_id, grid, power_kw))
    return sound


def check_fleet(rules: Rules, path: str, fleet: Fleet, group_count: int, operator_count: int) -> None:
    """Report what breaks a rule, some rows at a time until there is as much as is told: a message has many rows."""
    for first in range(0, len(fleet), _ROWS_AT_ONCE):
        if len(rules.violations) >= MAX_REPORTED:
            return
        found = Rules()
        fleet.take(slice(first, first + _ROWS_AT_ONCE)).validate(found, group_count, operator_count)
        for violation in found.violations:
            name, _, row = violation.field.removesuffix("]").partition("[")
            rules.violations.append(Violation(f"{path}.{name}[{first + int(row)}]", violation.description))


def first_of(faulty: NDArray[np.bool_]) -> list[int]:
    """Rows with a fault, as many as are told."""
    rows: list[int] = np.flatnonzero(faulty)[:MAX_REPORTED].tolist()
    return rows


def _check_given(rules: Rules, path: str, columns: dict[str, NDArray[np.generic]]) -> None:
    """Report what the engine could not tell from a default, and leave such rows sound, so that they are told once."""
    if "kind" in columns:
        kinds = columns["kind"].astype(np.int64)
        unknown = (kinds < _FIRST_KIND) | (kinds > _LAST_KIND)
        for i in first_of(unknown):
            rules.check(False, f"{path}.kinds[{i}]", f"must be a known asset kind, is {kinds[i]}")
        columns["kind"] = np.where(unknown, AssetKind.EV, kinds).astype(np.uint8)
    prices = columns.get("shortfall_price_per_kwh")
    if prices is not None:
        for i in first_of(np.isnan(prices)):
            rules.check(False, f"{path}.shortfall_price_per_kwh[{i}]", "must be finite, is nan")
