"""A dispatch problem as arrays: a fleet, the limits and reserves that its assets share, and prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import IntEnum, StrEnum
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray

from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

# The end of the year 9999: an asset that never leaves.
ALWAYS_UNIX_S = 253_402_300_799
_PRICE_TOLERANCE = 1e-12


class AssetKind(IntEnum):
    """What an asset is; values as in the public contract."""

    EV = 1
    BATTERY = 2
    PV = 3
    FLEXIBLE_LOAD = 4
    HEAT_PUMP = 5


class LimitScope(IntEnum):
    """Whose powers a limit adds up."""

    FLEET = 0
    GROUP = 1
    OPERATOR = 2


@dataclass(frozen=True, slots=True)
class Fleet:
    """Assets as columns of equal length; the fields are those of ``evflex.dispatch.v1.Fleet``.

    Battery energies are battery-side and relative to the start of availability (or of the plan, if later); powers are
    grid-side.

    Attributes:
        kind: :class:`AssetKind` values, (n,) uint8.
        group_index: Group of each asset, -1 for none, (n,) int32.
        operator_index: Operator of each asset, -1 for none, (n,) int32.
        available_from_unix_s: Start of availability, (n,) int64.
        available_until_unix_s: Exclusive end of availability, (n,) int64.
        max_charge_kw: Largest charging power.
        min_charge_kw: Smallest charging power when charging; EV only.
        max_discharge_kw: Largest discharging power, a positive number.
        energy_needed_kwh: Wanted by the end of availability.
        energy_headroom_kwh: Most that the battery takes, >= needed.
        energy_available_kwh: May be discharged below the first level.
        shortfall_price_per_kwh: For each battery-side kWh; NaN means ten times the plan's dearest price.
        charge_efficiency: In (0, 1].
        discharge_efficiency: In (0, 1].
        discharge_cost_per_kwh: Wear for each grid-side kWh.
        energy_value_per_kwh: Worth of battery energy above the need.
    """

    kind: NDArray[np.uint8]
    group_index: NDArray[np.int32]
    operator_index: NDArray[np.int32]
    available_from_unix_s: IntArray
    available_until_unix_s: IntArray
    max_charge_kw: FloatArray
    min_charge_kw: FloatArray
    max_discharge_kw: FloatArray
    energy_needed_kwh: FloatArray
    energy_headroom_kwh: FloatArray
    energy_available_kwh: FloatArray
    shortfall_price_per_kwh: FloatArray
    charge_efficiency: FloatArray
    discharge_efficiency: FloatArray
    discharge_cost_per_kwh: FloatArray
    energy_value_per_kwh: FloatArray

    @classmethod
    def of(cls, count: int, columns: Mapping[str, NDArray[np.generic] | float]) -> Fleet:
        """A fleet from the columns that are given; others hold the contract's defaults.

        Args:
            count: Number of assets.
            columns: Arrays of shape (count,), or scalars that hold for all, by the names of this class.

        Raises:
            KeyError: A column is not a field.
            ValueError: A column has another length.
        """
        given = dict(columns)
        values: dict[str, NDArray[np.generic]] = {}
        for name, (default, kind) in _COLUMNS.items():
            value = given.pop(name, None)
            if value is None:
                value = values["energy_needed_kwh"].copy() if name == "energy_headroom_kwh" else default
            values[name] = _column(name, value, count, kind)
        if given:
            raise KeyError(f"a fleet has no column {next(iter(given))}")
        return cls(**values)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: IntArray | slice) -> Fleet:
        """Some of the assets, in the order of ``rows``."""
        return Fleet(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def validate(self, rules: Rules, group_count: int, operator_count: int) -> None:
        """Report every broken rule, with the names of the public contract."""
        n = len(self)
        for field in fields(self):
            rules.length(WIRE_NAMES[field.name], len(getattr(self, field.name)), (n,))
        if rules.violations:
            return
        _check_rows(self, rules, group_count, operator_count)


# Default and type of each column; a headroom that is not given is the need.
_COLUMNS: dict[str, tuple[float, type[np.generic]]] = {
    "kind": (AssetKind.EV, np.uint8),
    "group_index": (-1, np.int32),
    "operator_index": (-1, np.int32),
    "available_from_unix_s": (0, np.int64),
    "available_until_unix_s": (ALWAYS_UNIX_S, np.int64),
    "max_charge_kw": (0.0, np.float64),
    "min_charge_kw": (0.0, np.float64),
    "max_discharge_kw": (0.0, np.float64),
    "energy_needed_kwh": (0.0, np.float64),
    "energy_headroom_kwh": (0.0, np.float64),
    "energy_available_kwh": (0.0, np.float64),
    "shortfall_price_per_kwh": (np.nan, np.float64),
    "charge_efficiency": (1.0, np.float64),
    "discharge_efficiency": (1.0, np.float64),
    "discharge_cost_per_kwh": (0.0, np.float64),
    "energy_value_per_kwh": (0.0, np.float64),
}


def _column(name: str, value: NDArray[np.generic] | float, count: int, kind: type[np.generic]) -> NDArray[np.generic]:
    """A column of its own type; a whole number that does not fit becomes the nearest: it must not wrap into a valid."""
    entries = np.asarray(value)
    if entries.ndim and entries.shape != (count,):
        raise ValueError(f"{name} must have shape {(count,)}, has {entries.shape}")
    if issubclass(kind, np.integer) and not np.can_cast(entries.dtype, kind):
        entries = entries.clip(np.iinfo(kind).min, np.iinfo(kind).max)
    array = np.empty(count, dtype=kind)
    array[...] = entries
    return array


# Columns by their names in the public contract.
WIRE_NAMES: dict[str, str] = {
    "kind": "kinds",
    "group_index": "group_indices",
    "operator_index": "operator_indices",
} | {name: name for name in _COLUMNS if name not in ("kind", "group_index", "operator_index")}


def _check_rows(fleet: Fleet, rules: Rules, group_count: int, operator_count: int) -> None:
    """Report each entry that breaks its column's rule."""

    def rows(name: str, bad: NDArray[np.bool_], rule: str) -> None:
        if bad.any():
            values = getattr(fleet, name)
            for i in np.flatnonzero(bad).tolist():
                rules.check(False, f"{WIRE_NAMES[name]}[{i}]", f"{rule}, is {values[i]}")

    known = np.isin(fleet.kind, [int(kind) for kind in AssetKind])
    rows("kind", ~known, "must be a known asset kind")
    for name, count in (("group_index", group_count), ("operator_index", operator_count)):
        index = getattr(fleet, name)
        rows(name, (index < -1) | (index >= count), f"must be -1 or the index of one of {count}")
    rows(
        "available_until_unix_s",
        fleet.available_until_unix_s < fleet.available_from_unix_s,
        "must not lie before available_from_unix_s",
    )
    for name in (
        "max_charge_kw", "min_charge_kw", "max_discharge_kw", "energy_needed_kwh", "energy_available_kwh",
        "discharge_cost_per_kwh", "energy_value_per_kwh", "energy_headroom_kwh",
    ):  # fmt: skip
        values = getattr(fleet, name)
        rows(name, ~((values >= 0.0) & (values < inf)), "must be finite and >= 0")
    rows("min_charge_kw", fleet.min_charge_kw > fleet.max_charge_kw, "must not exceed max_charge_kw")
    rows("min_charge_kw", (fleet.min_charge_kw > 0.0) & (fleet.kind != AssetKind.EV), "is for an EV only")
    rows("energy_headroom_kwh", fleet.energy_headroom_kwh < fleet.energy_needed_kwh, "must be >= energy_needed_kwh")
    for name in ("charge_efficiency", "discharge_efficiency"):
        values = getattr(fleet, name)
        rows(name, ~((values > 0.0) & (values <= 1.0)), "must lie in (0, 1]")
    price = fleet.shortfall_price_per_kwh
    bad_price = ~np.isnan(price) & ~((price >= fleet.energy_value_per_kwh - _PRICE_TOLERANCE) & (price < inf))
    rows("shortfall_price_per_kwh", bad_price, "must be finite and >= energy_value_per_kwh")


@dataclass(frozen=True, slots=True)
class Profiles:
    """What PV could produce or loads would draw, on the plan's grid.

    Attributes:
        asset: Row of the fleet, strictly ascending, (k,).
        power_kw: Mean power in each step, <= 0 for PV, >= 0 for loads, (k, T).
    """

    asset: IntArray
    power_kw: FloatArray

    @classmethod
    def none(cls, step_count: int) -> Profiles:
        """No profiles."""
        return cls(np.empty(0, dtype=np.int64), np.empty((0, step_count)))


@dataclass(frozen=True, slots=True)
class PortfolioLimit:
    """A limit on the sum of powers of several assets: lower <= sum <= upper, violated at a price.

    Attributes:
        scope: Whose powers are added up.
        index: Group or operator; 0 for the fleet.
        lower_kw: Least power, -inf where there is none (minus the largest export), (T,).
        upper_kw: Largest power, inf where there is none, (T,). Equal to ``lower_kw`` where a target is tracked.
        violation_price_per_kwh: Price of each kWh outside, > 0.
    """

    scope: LimitScope
    index: int
    lower_kw: FloatArray
    upper_kw: FloatArray
    violation_price_per_kwh: float


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve sold before, to be kept deliverable.

    Attributes:
        up_kw: More injection or less consumption, (T,).
        down_kw: Less injection or more consumption, (T,).
        endurance_s: How long full power must be held.
    """

    up_kw: FloatArray
    down_kw: FloatArray
    endurance_s: float


@dataclass(frozen=True, slots=True)
class DispatchProblem:
    """What is planned: least cost of the fleet under shared limits.

    minimise sum over assets and steps of step_h * (import price * charging - (export price - wear) * discharging)
    + shortfall and violation at their prices - value of energy above the need (design of portfolio dispatch).

    Attributes:
        grid: Time axis of all arrays.
        fleet: Assets.
        profiles: Profiles of some of them.
        import_price_per_kwh: Price of energy drawn, (T,).
        export_price_per_kwh: Price of energy injected, not above the import price, (T,).
        limits: Shared limits, at most one for each scope and index.
        reserves: Reserves sold before.
        group_count: Number of groups.
        operator_count: Number of operators.
    """

    grid: TimeGrid
    fleet: Fleet
    profiles: Profiles
    import_price_per_kwh: FloatArray
    export_price_per_kwh: FloatArray
    limits: tuple[PortfolioLimit, ...] = ()
    reserves: tuple[Reserve, ...] = ()
    group_count: int = 0
    operator_count: int = 0

    def validate(self, rules: Rules) -> None:
        """Report every broken rule of grid, prices, limits, reserves and profiles.

        The fleet has rules of its own, see :meth:`Fleet.validate`: a resident fleet is checked when it comes.
        """
        if not self.grid.validate(rules):
            return
        steps = self.grid.step_count
        sound = rules.array("import_price_per_kwh", self.import_price_per_kwh, (steps,))
        sound &= rules.array("export_price_per_kwh", self.export_price_per_kwh, (steps,))
        if sound:
            for k in np.flatnonzero(self.export_price_per_kwh > self.import_price_per_kwh + _PRICE_TOLERANCE).tolist():
                rules.check(
                    False,
                    f"export_price_per_kwh[{k}]",
                    f"must not exceed the import price {self.import_price_per_kwh[k]}, is "
                    f"{self.export_price_per_kwh[k]}",
                )
        seen: set[tuple[int, int]] = set()
        for i, limit in enumerate(self.limits):
            self._check_limit(rules, f"limits[{i}]", limit, seen)
        for i, reserve in enumerate(self.reserves):
            for name, values in (("up_kw", reserve.up_kw), ("down_kw", reserve.down_kw)):
                rules.array(f"reserves[{i}].{name}", values, (steps,), minimum=0.0)
            endurance = isfinite(reserve.endurance_s) and reserve.endurance_s >= 0.0
            rules.check(endurance, f"reserves[{i}].endurance_s", "must be finite and >= 0")
        self._check_profiles(rules)

    def _check_limit(self, rules: Rules, path: str, limit: PortfolioLimit, seen: set[tuple[int, int]]) -> None:
        steps = self.grid.step_count
        count = {LimitScope.FLEET: 1, LimitScope.GROUP: self.group_count, LimitScope.OPERATOR: self.operator_count}
        rules.check(0 <= limit.index < count[limit.scope], f"{path}.group_id", "must be a group or an operator")
        rules.check((limit.scope, limit.index) not in seen, f"{path}.group_id", "has a limit already")
        seen.add((limit.scope, limit.index))
        price = limit.violation_price_per_kwh
        rules.check(
            isfinite(price) and price > 0.0, f"{path}.violation_price_per_kwh", f"must be finite and > 0, is {price}"
        )
        lower, upper = limit.lower_kw, limit.upper_kw
        sound = True
        for name, values, bound, possible in (
            ("max_export_kw", lower, "below inf", lower < inf),
            ("max_import_kw", upper, "above -inf", upper > -inf),
        ):
            sound &= rules.length(f"{path}.{name}", len(values), (steps,))
            rules.check(bool(possible.all()), f"{path}.{name}", f"must be a number {bound}")
        if sound:
            for k in np.flatnonzero(lower > upper).tolist():
                rules.check(False, f"{path}.max_import_kw[{k}]", "must not lie below -max_export_kw")

    def _check_profiles(self, rules: Rules) -> None:
        rows, power = self.profiles.asset, self.profiles.power_kw
        if power.shape != (len(rows), self.grid.step_count):
            rules.check(False, "profiles", f"must have shape {(len(rows), self.grid.step_count)}, has {power.shape}")
            return
        if not len(rows):
            return
        if rows.min() < 0 or rows.max() >= len(self.fleet) or (np.diff(rows) <= 0).any():
            rules.check(False, "profiles", "must be of assets in ascending order")
            return
        kind = self.fleet.kind[rows]
        takes = np.isin(kind, [AssetKind.PV, AssetKind.FLEXIBLE_LOAD, AssetKind.HEAT_PUMP])
        sign = np.where(kind == AssetKind.PV, -1.0, 1.0)
        finite = np.isfinite(power).all(axis=1)
        signed = (power * sign[:, None] >= 0.0).all(axis=1)
        for k in np.flatnonzero(~(takes & finite & signed)).tolist():
            what = "is for PV, a flexible load or a heat pump" if not takes[k] else (
                "must be finite, <= 0 for PV and >= 0 for loads"
            )  # fmt: skip
            rules.check(False, f"profiles[{k}].power_kw", what)


class PlanMethod(StrEnum):
    """How a plan is made."""

    CHOOSE = "choose"
    DECOMPOSITION = "decomposition"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How a plan is made.

    Attributes:
        relative_gap: The solve stops once this gap is proven.
        absolute_gap: Or this one, in money.
        time_limit_s: Longest solve.
        method: By the size of the problem, or as given; decomposition follows where a direct solve ends without a plan.
    """

    relative_gap: float = 1e-3
    absolute_gap: float = 0.0
    time_limit_s: float = inf
    method: PlanMethod = PlanMethod.CHOOSE

    def validate(self, rules: Rules) -> None:
        """Report every broken rule."""
        for name in ("relative_gap", "absolute_gap"):
            value = getattr(self, name)
            rules.check(isfinite(value) and value >= 0.0, f"options.{name}", f"must be finite and >= 0, is {value}")
        rules.check(self.time_limit_s > 0.0, "options.time_limit_duration", "must be > 0")

    def with_time_limit(self, time_limit_s: float) -> PlanOptions:
        """The same with another time limit."""
        return replace(self, time_limit_s=time_limit_s)
