"""A table of assets as the columns of the contract, cut into messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.columns import check_complete, faulty_columns, instants_ns, numbers, with_id_column
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.timegrid import TimeGrid
from evflex.dispatch.v1 import fleet_pb2

# An asset takes up to 210 bytes, so a message stays well below the server's limit of 16 MiB.
ASSETS_PER_MESSAGE = 50_000
PROFILE_VALUES_PER_MESSAGE = 1_000_000

NUMBER_COLUMNS = (
    "max_charge_kw", "min_charge_kw", "max_discharge_kw", "energy_needed_kwh", "energy_headroom_kwh",
    "energy_available_kwh", "shortfall_price_per_kwh", "charge_efficiency", "discharge_efficiency",
    "discharge_cost_per_kwh", "energy_value_per_kwh",
)  # fmt: skip
# Columns whose name or values differ from those of the contract, with the contract's name.
TRANSLATED_COLUMNS = {
    "kind": "kinds",
    "group": "group_indices",
    "operator": "operator_indices",
    "available_from": "available_from_unix_s",
    "available_until": "available_until_unix_s",
}
COLUMNS = ("asset_id", *TRANSLATED_COLUMNS, *NUMBER_COLUMNS)

_KIND_PREFIX = "ASSET_KIND_"
KINDS = {name.removeprefix(_KIND_PREFIX): value for name, value in fleet_pb2.AssetKind.items() if value}
"""Kinds of assets by name."""

_Column = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FleetColumns:
    """Assets, checked and ready to be sent.

    Attributes:
        asset_ids: Identifiers.
        columns: Arrays with one entry an asset by the names of ``evflex.dispatch.v1.Fleet``.
        groups: Groups that ``group_indices`` refers to.
        operators: Operators that ``operator_indices`` refers to.
    """

    asset_ids: list[str]
    columns: dict[str, _Column]
    groups: list[str]
    operators: list[str]

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, groups: Sequence[str] = (), operators: Sequence[str] = ()) -> FleetColumns:
        """Read a table with one row an asset.

        Columns are named as those of ``evflex.dispatch.v1.Fleet``, in the singular. ``asset_id`` may be the index.
        ``kind`` is text such as ``EV`` or ``HEAT_PUMP``. ``group`` and ``operator`` are names, or missing for none;
        all categories of a categorical count. ``available_from`` and ``available_until`` are times with a time zone,
        of which whole seconds are taken. An absent column leaves the default of the contract.

        Args:
            frame: Table.
            groups: Groups that there are already; others are added behind them.
            operators: Operators that there are already; others are added behind them.

        Raises:
            InvalidRequestError: Naming each column that cannot be read.
        """
        table = with_id_column(frame, "asset_id")
        violations = faulty_columns(table, ("asset_id",), COLUMNS, "fleet")
        if violations:
            raise InvalidRequestError.before_sending(violations)
        columns: dict[str, _Column] = {}
        names = {"group": list(groups), "operator": list(operators)}
        asset_ids: list[str] = []
        for column in table.columns:
            values = table[column]
            try:
                if column == "asset_id":
                    asset_ids = _texts(values)
                else:
                    read = _reader(column, names)
                    columns[TRANSLATED_COLUMNS.get(column, column)] = read(values)
            except (TypeError, ValueError) as error:
                violations.append(Violation(f"fleet.{column}", str(error)))
        if violations:
            raise InvalidRequestError.before_sending(violations)
        return cls(asset_ids, columns, names["group"], names["operator"])

    def messages(self) -> Iterator[fleet_pb2.Fleet]:
        """The assets in messages below the server's limit."""
        for first in range(0, len(self.asset_ids), ASSETS_PER_MESSAGE):
            rows = slice(first, first + ASSETS_PER_MESSAGE)
            message = fleet_pb2.Fleet(asset_ids=self.asset_ids[rows])
            for name, values in self.columns.items():
                getattr(message, name).extend(values[rows].tolist())
            yield message


def names_groups(frame: pd.DataFrame | None) -> bool:
    """Whether a table names groups or operators."""
    return frame is not None and bool(frame.columns.isin(["group", "operator"]).any())


def profile_messages(profiles: pd.DataFrame) -> Iterator[list[fleet_pb2.Profile]]:
    """Profiles of assets, as many together as a message takes.

    Args:
        profiles: Power in kW; rows are steps by time, columns are assets.

    Raises:
        InvalidRequestError: The index is no time axis, or an entry is no number.
    """
    try:
        if not isinstance(profiles.index, pd.DatetimeIndex):
            raise ValueError("the index must be the start of each step, with a time zone")
        grid = TimeGrid.from_index(profiles.index).to_message()
        power_kw = profiles.to_numpy(dtype=np.float64).T
    except (TypeError, ValueError) as error:
        raise InvalidRequestError.before_sending([Violation("profiles", str(error))]) from None
    together = max(PROFILE_VALUES_PER_MESSAGE // len(profiles), 1)
    asset_ids = [str(column) for column in profiles.columns]
    for first in range(0, len(asset_ids), together):
        rows = slice(first, first + together)
        yield [
            fleet_pb2.Profile(asset_id=asset_id, time_grid=grid, power_kw=row.tolist())
            for asset_id, row in zip(asset_ids[rows], power_kw[rows], strict=True)
        ]


def _reader(column: str, names: dict[str, list[str]]) -> Callable[[pd.Series], _Column]:
    if column in names:
        return partial(_indices, names=names[column])
    if column == "kind":
        return _kinds
    return _seconds if column in TRANSLATED_COLUMNS else _numbers


def _texts(values: pd.Series) -> list[str]:
    check_complete(values.isna().to_numpy())
    given = values.tolist()
    return given if pd.api.types.infer_dtype(given, skipna=False) == "string" else [str(value) for value in given]


def _numbers(values: pd.Series) -> NDArray[np.float64]:
    given = numbers(values)
    check_complete(np.isnan(given))
    return given


def _seconds(values: pd.Series) -> NDArray[np.int64]:
    instants, missing = instants_ns(values)
    check_complete(missing)
    return instants // 1_000_000_000


def _kinds(values: pd.Series) -> NDArray[np.int64]:
    codes, found = pd.factorize(values)
    check_complete(codes < 0)
    unknown = [kind for kind in found if kind not in KINDS]
    if unknown:
        raise ValueError(f"unknown kind {unknown[0]!r}; known are {', '.join(KINDS)}")
    return np.array([KINDS[kind] for kind in found], dtype=np.int64)[codes]


def _indices(values: pd.Series, names: list[str]) -> NDArray[np.int64]:
    """Index of each name, -1 where there is none; new names are added to ``names``."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, found = values.cat.codes.to_numpy(), values.cat.categories
    else:
        codes, found = pd.factorize(values)
    index = {name: i for i, name in enumerate(names)}
    for name in map(str, found):
        if name not in index:
            index[name] = len(names)
            names.append(name)
    # the last entry is what the code -1 of a missing name finds
    return np.array([*(index[str(name)] for name in found), -1], dtype=np.int64)[codes]
