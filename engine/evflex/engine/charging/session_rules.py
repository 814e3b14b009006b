"""Rules of charging sessions: one compiled look over all columns, and names for what it finds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from evflex.engine.supply_tree import ACTIVE, BoolArray, FloatArray
from evflex.engine.validation import Rules

if TYPE_CHECKING:
    from evflex.engine.charging.model import Sessions

# Charger powers are rounded by their makers: a minimum may exceed its maximum by this much before it is a fault.
_POWER_TOLERANCE_KW = 1e-9
_LARGEST = sys.float_info.max
_ABOVE_ZERO = np.nextafter(0.0, 1.0)


@dataclass(frozen=True, slots=True)
class _Range:
    """Least and largest value of a column; NaN stands for "not set" in the one column where that is allowed."""

    column: str
    low: float
    high: float
    rule: str
    public: str
    may_be_nan: bool = False


@dataclass(frozen=True, slots=True)
class _Order:
    """A column that may not exceed another; a breach is reported of `column`."""

    smaller: str
    larger: str
    column: str
    rule: str
    tolerance: float = 0.0


def _quantity(column: str, public: str = "") -> _Range:
    return _Range(column, 0.0, _LARGEST, "must be finite and >= 0", public or column)


_RANGES = (
    _Range("arrival_unix_s", -_LARGEST, _LARGEST, "must be set", "arrival_time"),
    _Range("departure_unix_s", -_LARGEST, _LARGEST, "must be set", "departure_time"),
    _Range("minimum_energy_unix_s", -inf, inf, "must be a time", "minimum_energy_time"),
    _quantity("energy_needed_kwh"),
    _quantity("minimum_energy_kwh"),
    _quantity("energy_headroom_kwh"),
    _quantity("energy_available_kwh"),
    _quantity("max_charge_kw"),
    _quantity("min_charge_kw"),
    _quantity("max_discharge_kw"),
    _quantity("min_discharge_kw"),
    _quantity("discharge_cost_per_kwh"),
    _quantity("energy_value_per_kwh"),
    _quantity("delivered_kwh", "state.delivered_kwh"),
    _quantity("run_duration_s", "state.run_duration"),
    _Range("charge_efficiency", _ABOVE_ZERO, 1.0, "must lie in (0, 1]", "charge_efficiency"),
    _Range("discharge_efficiency", _ABOVE_ZERO, 1.0, "must lie in (0, 1]", "discharge_efficiency"),
    _Range("shortfall_weight", _ABOVE_ZERO, _LARGEST, "must be finite and > 0", "shortfall_weight"),
    _Range("max_ramp_kw_per_step", _ABOVE_ZERO, inf, "must be > 0", "max_ramp_kw_per_step"),
    _Range("max_cycles", 0.0, inf, "must be >= 0", "max_cycles"),
    _Range(
        "shortfall_price_per_kwh", 0.0, _LARGEST, "must be finite and >= 0", "shortfall_price_per_kwh", may_be_nan=True
    ),
    _Range("phases", 0.0, len(ACTIVE) - 1.0, "must be a known PhaseConnection", "phases"),
)
_ORDERS = (
    _Order("arrival_unix_s", "departure_unix_s", "departure_unix_s", "must not lie before arrival_time"),
    _Order(
        "energy_value_per_kwh", "shortfall_price_per_kwh", "shortfall_price_per_kwh", "must be >= energy_value_per_kwh"
    ),
    _Order("energy_needed_kwh", "energy_headroom_kwh", "energy_headroom_kwh", "must be >= energy_needed_kwh"),
    _Order("minimum_energy_kwh", "energy_headroom_kwh", "minimum_energy_kwh", "must be <= energy_headroom_kwh"),
    _Order("min_charge_kw", "max_charge_kw", "min_charge_kw", "must be <= max_charge_kw", _POWER_TOLERANCE_KW),
    _Order(
        "min_discharge_kw", "max_discharge_kw", "min_discharge_kw", "must be <= max_discharge_kw", _POWER_TOLERANCE_KW
    ),
)
_ROW = {entry.column: row for row, entry in enumerate(_RANGES)}
_LOW = np.array([entry.low for entry in _RANGES])
_HIGH = np.array([entry.high for entry in _RANGES])
_MAY_BE_NAN = np.array([entry.may_be_nan for entry in _RANGES])
_SMALLER = np.array([_ROW[order.smaller] for order in _ORDERS], dtype=np.int64)
_LARGER = np.array([_ROW[order.larger] for order in _ORDERS], dtype=np.int64)
_TOLERANCE = np.array([order.tolerance for order in _ORDERS])
_numbers = attrgetter(*_ROW)
_COLUMNS = ("session_ids", "evse_ids", "node_ids", "charging_now", *_ROW)
_columns = attrgetter(*_COLUMNS)


def validate_sessions(sessions: Sessions, rules: Rules, known_node_ids: tuple[str, ...], path: str) -> None:
    """Report every broken rule of `sessions`, which may name the nodes `known_node_ids`."""
    if not _same_lengths(sessions, rules, path):
        return
    _validate_ids(sessions, rules, known_node_ids, path)
    if not _is_sound(sessions):
        _name_faults(sessions, rules, path)


def _same_lengths(sessions: Sessions, rules: Rules, path: str) -> bool:
    n = len(sessions.session_ids)
    lengths = list(map(len, _columns(sessions)))
    if lengths.count(n) == len(lengths):
        return True
    for column, length in zip(_COLUMNS, lengths, strict=True):
        rules.check(length == n, f"{path}.{column}", f"must have one entry a session ({n}), has {length}")
    return False


def _is_sound(sessions: Sessions) -> bool:
    """Whether no number breaks a rule; about 5 µs for a small site."""
    # as one matrix, so that there is one compiled form whatever the columns' layouts
    table = np.concatenate(_numbers(sessions)).reshape(len(_RANGES), len(sessions.session_ids))
    return bool(_all_keep_rules(table))


@njit(cache=True, error_model="numpy")  # holds the GIL: letting it go and waiting for it takes longer
def _all_keep_rules(table: FloatArray) -> bool:
    """Whether each row lies within its range, and nowhere above the row that it may not exceed."""
    rows, n = table.shape
    for row in range(rows):
        for i in range(n):
            value = table[row, i]
            if not _LOW[row] <= value <= _HIGH[row] and not (_MAY_BE_NAN[row] and np.isnan(value)):
                return False
    for k in range(len(_SMALLER)):
        for i in range(n):
            if table[_SMALLER[k], i] > table[_LARGER[k], i] + _TOLERANCE[k]:
                return False
    return True


def _name_faults(sessions: Sessions, rules: Rules, path: str) -> None:
    """The slow twin of :func:`_all_keep_rules`. Two columns are only compared where neither is at fault itself."""
    sound: dict[str, BoolArray] = {}
    for entry in _RANGES:
        values = getattr(sessions, entry.column)
        ok = (values >= entry.low) & (values <= entry.high)
        if entry.may_be_nan:
            ok |= np.isnan(values)
        sound[entry.column] = ok
        rules.rows(path, entry.public, ~ok, entry.rule, values)
    for order in _ORDERS:
        above = getattr(sessions, order.smaller) > getattr(sessions, order.larger) + order.tolerance
        bad = above & sound[order.smaller] & sound[order.larger]
        public = _RANGES[_ROW[order.column]].public
        rules.rows(path, public, bad, order.rule, getattr(sessions, order.column))


def _validate_ids(sessions: Sessions, rules: Rules, known_node_ids: tuple[str, ...], path: str) -> None:
    rules.identifiers(path, "session_id", sessions.session_ids)
    known = {"", *known_node_ids}
    if not known.issuperset(sessions.node_ids):
        for i, node_id in enumerate(sessions.node_ids):
            rules.check(node_id in known, f"{path}[{i}].node_id", f"must name a node of the request, is {node_id!r}")
