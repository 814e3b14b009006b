"""Many transformers on one time axis: what is asked of all of them at once, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.capacity.transformer import LARGEST_KVA, LEAST_RATED_KVA, ThermalParameters, ThermalState
from evflex.engine.supply_tree import BoolArray, FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import Rules

_PARAMETERS = tuple(ThermalParameters.__dataclass_fields__)
# No less than any rule of the parameters asks for, column by column.
_USUAL_LEAST = np.array([0.01, 0.01, 0.01, 0.01, 1.0, 1.0, 1.0, 0.01, 1.0, 0.01])
_LEAST_TEMPERATURE_C, _LARGEST_AMBIENT_C, _LARGEST_TEMPERATURE_C = -60.0, 60.0, 500.0


@dataclass(frozen=True, slots=True)
class TransformerBatch:
    """Transformers under their load. Arrays over time hold a step in each row and a transformer in each column.

    Attributes:
        grid: Time axis.
        rated_kva: Rated three-phase power, 1e-3 to 1e9, (n,).
        thermal_parameters: A row a transformer, columns as in :class:`ThermalParameters`, (n, 10).
        upgraded: Whether the paper is thermally upgraded, (n,).
        max_loading_ratio: Largest load over rated power, (n,).
        n1_rated_kva: Limit of loading in N-1, 1e-3 to 1e9, (n,).
        max_hot_spot_c: Largest hot-spot temperature, (n,).
        max_top_oil_c: Largest top-oil temperature, (n,).
        max_loss_of_life_h_per_day: As in :class:`Transformer`, (n,).
        loading_ratio: Load over rated power, at unity power factor on balanced phases; export negative, (T, n).
        ambient_c: Ambient temperature, (T, n).
        contingency: Whether a step is in N-1, (T, n).
        wanted: Steps in which extra load is wanted, (T, n).
        initial_state: Top oil, winding gradient and oil gradient at the start, (n, 3); None for the steady states of
            the first step's load.
    """

    grid: TimeGrid
    rated_kva: FloatArray
    thermal_parameters: FloatArray
    upgraded: BoolArray
    max_loading_ratio: FloatArray
    n1_rated_kva: FloatArray
    max_hot_spot_c: FloatArray
    max_top_oil_c: FloatArray
    max_loss_of_life_h_per_day: FloatArray
    loading_ratio: FloatArray
    ambient_c: FloatArray
    contingency: BoolArray
    wanted: BoolArray
    initial_state: FloatArray | None = None

    def __len__(self) -> int:
        """Number of transformers."""
        return self.rated_kva.shape[0]

    def validate(self, rules: Rules) -> None:
        """Report every broken rule; the index is that of the transformer."""
        if not self.grid.validate(rules):
            return
        n, steps = len(self), self.grid.step_count
        rules.check(n > 0, "rated_kva", "must hold at least one transformer")
        for name in ("rated_kva", "n1_rated_kva"):
            values = getattr(self, name)
            within = (values >= LEAST_RATED_KVA) & (values <= LARGEST_KVA)
            _each(rules, name, values, (n,), within, f"must lie between {LEAST_RATED_KVA:g} and {LARGEST_KVA:g}")
        values = self.max_loading_ratio
        good = np.isfinite(values) & (values > 0.0)
        _each(rules, "max_loading_ratio", values, (n,), good, "must be finite and > 0")
        for name in ("max_hot_spot_c", "max_top_oil_c"):
            values = getattr(self, name)
            _each(rules, name, values, (n,), np.isfinite(values), "must be finite")
        values = self.max_loss_of_life_h_per_day
        _each(rules, "max_loss_of_life_h_per_day", values, (n,), values > 0.0, "must be > 0")
        rules.length("upgraded", self.upgraded.shape[0], (n,))
        if _shape(rules, "thermal_parameters", self.thermal_parameters, (n, len(_PARAMETERS))):
            self._validate_parameters(rules)
        for name in ("contingency", "wanted"):
            _shape(rules, name, getattr(self, name), (steps, n))
        if _shape(rules, "loading_ratio", self.loading_ratio, (steps, n)) and not _sound(self.loading_ratio, np.inf):
            _columns(rules, "loading_ratio", np.isfinite(self.loading_ratio), "must be finite")
        if _shape(rules, "ambient_c", self.ambient_c, (steps, n)) and not _sound(self.ambient_c, _LARGEST_AMBIENT_C):
            within = (self.ambient_c >= _LEAST_TEMPERATURE_C) & (self.ambient_c <= _LARGEST_AMBIENT_C)
            _columns(
                rules, "ambient_c", within, f"must lie between {_LEAST_TEMPERATURE_C:g} and {_LARGEST_AMBIENT_C:g}"
            )
        self._validate_state(rules, n)

    def _validate_parameters(self, rules: Rules) -> None:
        # a sort would take longer than all other checks
        if (self.thermal_parameters >= _USUAL_LEAST).all() and np.isfinite(self.thermal_parameters).all():
            return
        distinct, first = np.unique(self.thermal_parameters, axis=0, return_index=True)
        for row, i in zip(distinct.tolist(), first.tolist(), strict=True):
            ThermalParameters(*row).validate(rules, f"thermal_parameters[{i}]")

    def _validate_state(self, rules: Rules, n: int) -> None:
        if self.initial_state is None or not _shape(rules, "initial_state", self.initial_state, (n, 3)):
            return
        least = np.array([_LEAST_TEMPERATURE_C, 0.0, 0.0])
        within = ((self.initial_state >= least) & (self.initial_state <= _LARGEST_TEMPERATURE_C)).all(axis=1)
        for i in np.flatnonzero(~within).tolist():
            rules.check(
                False, f"initial_state[{i}]", f"must lie between {least.tolist()} and {_LARGEST_TEMPERATURE_C:g}"
            )

    def initial_states(self) -> FloatArray:
        """State at the start, a row each for top oil, winding gradient and oil gradient, (3, n)."""
        if self.initial_state is not None:
            return np.array(self.initial_state.T, dtype=np.float64, order="C")
        rise, gradient, loss_ratio, x, y, _, _, _, k21, _ = self.thermal_parameters.T
        first = np.abs(self.loading_ratio[0])
        oil = self.ambient_c[0] + rise * ((1.0 + first**2 * loss_ratio) / (1.0 + loss_ratio)) ** x
        winding = gradient * first**y
        return np.stack([oil, k21 * winding, (k21 - 1.0) * winding])


@dataclass(frozen=True, slots=True)
class BatchTemperatures:
    """What loads do to transformers; a step in each row, a transformer in each column.

    Attributes:
        top_oil_c: At the end of each step, (T, n).
        hot_spot_c: Largest within each step, (T, n).
        loss_of_life_h: In each step, (T, n).
        max_top_oil_c: Largest over the horizon, (n,).
        max_hot_spot_c: Largest over the horizon, (n,).
        final_state: Top oil, winding gradient and oil gradient at the end, (n, 3).
    """

    top_oil_c: FloatArray
    hot_spot_c: FloatArray
    loss_of_life_h: FloatArray
    max_top_oil_c: FloatArray
    max_hot_spot_c: FloatArray
    final_state: FloatArray

    def state(self, i: int) -> ThermalState:
        """State of one transformer at the end."""
        return ThermalState(*self.final_state[i].tolist())


@dataclass(frozen=True, slots=True)
class BatchRating:
    """Temperatures, ageing and headroom of transformers; a step in each row, a transformer in each column.

    Attributes:
        temperatures: Temperatures and ageing under the load.
        headroom_n_kva: Extra load at unity power factor on balanced phases, as in :class:`Rating`, (T, n).
        headroom_n1_kva: The same with every step in N-1, (T, n).
        broken: Whether the load breaks a limit by itself, (n,).
    """

    temperatures: BatchTemperatures
    headroom_n_kva: FloatArray
    headroom_n1_kva: FloatArray
    broken: BoolArray


def _shape(
    rules: Rules, name: str, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], shape: tuple[int, ...]
) -> bool:
    rules.check(values.shape == shape, name, f"must be of shape {shape}, is of {values.shape}")
    return values.shape == shape


def _sound(values: FloatArray, largest: float) -> bool:
    """Whether all numbers lie between the coldest ambient temperature (or minus the largest) and the largest."""
    least = _LEAST_TEMPERATURE_C if largest == _LARGEST_AMBIENT_C else -largest
    low, high = float(values.min()), float(values.max())
    return least <= low and high <= largest and np.isfinite(low) and np.isfinite(high)


def _each(rules: Rules, name: str, values: FloatArray, shape: tuple[int, ...], good: BoolArray, rule: str) -> None:
    if _shape(rules, name, values, shape):
        for i in np.flatnonzero(~good).tolist():
            rules.check(False, f"{name}[{i}]", f"{rule}, is {values[i]:g}")


def _columns(rules: Rules, name: str, good: BoolArray, rule: str) -> None:
    """Report the first bad step of each transformer."""
    for i in np.flatnonzero(~good.all(axis=0)).tolist():
        rules.check(False, f"{name}[{int(np.argmin(good[:, i]))}, {i}]", rule)
