"""A transformer with its limits and the parameters of its thermal model, and the load that it carries besides hubs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from math import inf, isfinite

import numpy as np

from evflex.engine.supply_tree import DEFAULT_VOLTAGE_V, BoolArray, FloatArray
from evflex.engine.validation import Rules

DEFAULT_AMBIENT_C = 20.0
# Far beyond any transformer, and far enough from overflow for squares and powers of what follows from them.
LEAST_RATED_KVA, LARGEST_KVA = 1e-3, 1e9
_COLDEST_C, _HOTTEST_C = -60.0, 60.0
# Shorter ones would need inner steps of less than a quarter of a minute.
_LEAST_TIME_CONSTANT_MIN = 0.5


class Cooling(IntEnum):
    """How oil and winding are cooled; values as in the public contract."""

    ONAN = 1
    ONAF = 2
    OFAF = 3
    ODAF = 4


class InsulationPaper(IntEnum):
    """Paper of the winding; values as in the public contract."""

    NORMAL = 1
    THERMALLY_UPGRADED = 2


@dataclass(frozen=True, slots=True)
class ThermalParameters:
    """Parameters of the difference equations of IEC 60076-7, clause 8.2.3.

    Attributes:
        top_oil_rise_k: Top-oil temperature rise at rated losses.
        hot_spot_gradient_k: Hot-spot to top-oil gradient at rated current.
        loss_ratio: Load losses at rated current over no-load losses (R).
        oil_exponent: x.
        winding_exponent: y.
        oil_time_constant_min: Average oil time constant in minutes.
        winding_time_constant_min: Winding time constant in minutes.
        k11: Thermal model constant.
        k21: Thermal model constant.
        k22: Thermal model constant.
    """

    top_oil_rise_k: float
    hot_spot_gradient_k: float
    loss_ratio: float
    oil_exponent: float
    winding_exponent: float
    oil_time_constant_min: float
    winding_time_constant_min: float
    k11: float
    k21: float
    k22: float

    @classmethod
    def of(cls, cooling: Cooling, *, distribution: bool = False) -> ThermalParameters:
        """What IEC 60076-7 recommends (tables 4 and E.1): the hot-spot is 98 °C at rated load and 20 °C."""
        if distribution:
            return cls(55.0, 23.0, 5.0, 0.8, 1.6, 180.0, 4.0, 1.0, 1.0, 2.0)
        return _OF_CLASS[cooling]

    def validate(self, rules: Rules, path: str) -> None:
        """Report every broken rule."""
        least = {
            "winding_exponent": 1.0,
            "k21": 1.0,
            "oil_time_constant_min": _LEAST_TIME_CONSTANT_MIN,
            "winding_time_constant_min": _LEAST_TIME_CONSTANT_MIN,
        }
        for field in fields(self):
            value, minimum = getattr(self, field.name), least.get(field.name, 0.0)
            ok = isfinite(value) and (value >= minimum if field.name in least else value > 0.0)
            rule = f">= {minimum:g}" if field.name in least else "> 0"
            rules.check(ok, f"{path}.{field.name}", f"must be finite and {rule}, is {value:g}")


_OF_CLASS = {
    Cooling.ONAN: ThermalParameters(52.0, 26.0, 6.0, 0.8, 1.3, 210.0, 10.0, 0.5, 2.0, 2.0),
    Cooling.ONAF: ThermalParameters(52.0, 26.0, 6.0, 0.8, 1.3, 150.0, 7.0, 0.5, 2.0, 2.0),
    Cooling.OFAF: ThermalParameters(56.0, 22.0, 6.0, 1.0, 1.3, 90.0, 7.0, 1.0, 1.3, 1.0),
    Cooling.ODAF: ThermalParameters(49.0, 29.0, 6.0, 1.0, 2.0, 90.0, 7.0, 1.0, 1.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class ThermalState:
    """State of the thermal model; the hot-spot is top oil + winding gradient - oil gradient.

    Attributes:
        top_oil_c: Top-oil temperature in °C.
        winding_gradient_c: First hot-spot gradient in K (Δθ_h1).
        oil_gradient_c: Second hot-spot gradient in K (Δθ_h2).
    """

    top_oil_c: float
    winding_gradient_c: float
    oil_gradient_c: float

    @property
    def hot_spot_c(self) -> float:
        """Hot-spot temperature in °C."""
        return self.top_oil_c + self.winding_gradient_c - self.oil_gradient_c


@dataclass(frozen=True, slots=True)
class Transformer:
    """A transformer and what it may be burdened with.

    Attributes:
        rated_kva: Rated three-phase power, 1e-3 to 1e9.
        thermal: Parameters of the thermal model.
        ambient_c: Ambient temperature in °C in each step, (T,).
        max_loading_ratio: Largest load over rated power, of the most loaded phase.
        max_hot_spot_c: Largest hot-spot temperature.
        max_top_oil_c: Largest top-oil temperature.
        max_loss_of_life_h_per_day: Largest loss of life in hours in each 24 hours from the grid's start, in
            proportion to the time of the steps that begin in them; infinite where there is no limit.
        paper: Paper of the winding.
        initial_state: State at the start; None for the steady state of the first step's load without hubs.
    """

    rated_kva: float
    thermal: ThermalParameters
    ambient_c: FloatArray
    max_loading_ratio: float = 1.5
    max_hot_spot_c: float = 120.0
    max_top_oil_c: float = 105.0
    max_loss_of_life_h_per_day: float = inf
    paper: InsulationPaper = InsulationPaper.NORMAL
    initial_state: ThermalState | None = None

    def validate(self, rules: Rules, step_count: int, path: str = "transformer") -> None:
        """Report every broken rule."""
        check_rated_kva(rules, f"{path}.rated_kva", self.rated_kva)
        ratio = self.max_loading_ratio
        rules.check(
            isfinite(ratio) and ratio > 0.0, f"{path}.max_loading_ratio", f"must be finite and > 0, is {ratio:g}"
        )
        for name in ("max_hot_spot_c", "max_top_oil_c"):
            value = getattr(self, name)
            rules.check(isfinite(value), f"{path}.{name}", f"must be finite, is {value:g}")
        rules.check(
            self.max_loss_of_life_h_per_day > 0.0,
            f"{path}.max_loss_of_life_h_per_day",
            f"must be > 0, is {self.max_loss_of_life_h_per_day:g}",
        )
        self.thermal.validate(rules, f"{path}.thermal_parameters")
        if rules.array(f"{path}.ambient_c", self.ambient_c, (step_count,), minimum=_COLDEST_C):
            for k in np.flatnonzero(self.ambient_c > _HOTTEST_C).tolist():
                rules.check(
                    False, f"{path}.ambient_c[{k}]", f"must be at most {_HOTTEST_C:g}, is {self.ambient_c[k]:g}"
                )
        if self.initial_state is not None:
            _check_state(rules, f"{path}.initial_state", self.initial_state)


def _check_state(rules: Rules, path: str, state: ThermalState) -> None:
    for field in fields(state):
        value = getattr(state, field.name)
        least = _COLDEST_C if field.name == "top_oil_c" else 0.0
        ok = isfinite(value) and least <= value <= 500.0
        rules.check(ok, f"{path}.{field.name}", f"must lie between {least:g} and 500, is {value:g}")


@dataclass(frozen=True, slots=True)
class BaseLoad:
    """Load of a transformer by everything but hubs, phase by phase; positive is consumption.

    Attributes:
        phase_kw: Active power of L1, L2, L3, (T, 3).
        phase_kvar: Reactive power of L1, L2, L3, (T, 3).
        voltage_v: Line-to-neutral voltage of L1, L2, L3, (3,).
    """

    phase_kw: FloatArray
    phase_kvar: FloatArray
    voltage_v: FloatArray

    @classmethod
    def balanced(cls, load_kw: FloatArray, load_kvar: FloatArray | None = None) -> BaseLoad:
        """Three-phase power spread evenly, (T,) each, at nominal voltage."""
        kw = np.repeat(load_kw[:, None] / 3.0, 3, axis=1)
        kvar = np.zeros_like(kw) if load_kvar is None else np.repeat(load_kvar[:, None] / 3.0, 3, axis=1)
        return cls(kw, kvar, np.full(3, DEFAULT_VOLTAGE_V))

    def validate(self, rules: Rules, step_count: int, path: str = "loading") -> None:
        """Report every broken rule."""
        shape = (step_count, 3)
        for name in ("phase_kw", "phase_kvar"):
            values = getattr(self, name)
            ok = values.shape == shape and bool((np.abs(values) <= LARGEST_KVA).all())
            rules.check(ok, f"{path}.{name}", f"must lie within ±{LARGEST_KVA:g} and be of shape {shape}")
        ok = self.voltage_v.shape == (3,) and bool((np.isfinite(self.voltage_v) & (self.voltage_v > 0.0)).all())
        rules.check(ok, f"{path}.voltage_v", "must be three numbers > 0")

    @property
    def loading_kva(self) -> FloatArray:
        """Three times the apparent power of the most loaded phase, (T,)."""
        kva: FloatArray = 3.0 * np.hypot(self.phase_kw, self.phase_kvar).max(axis=1)
        return kva


def validate_condition(rules: Rules, contingency: BoolArray, n1_rated_kva: float, step_count: int) -> None:
    """Report a condition of the wrong length, or an N-1 limit that is none."""
    rules.length("grid_condition", contingency.shape[0], (step_count,))
    check_rated_kva(rules, "n1_rated_kva", n1_rated_kva)


def check_rated_kva(rules: Rules, path: str, kva: float) -> None:
    """Report a rated power that no transformer has."""
    rule = f"must lie between {LEAST_RATED_KVA:g} and {LARGEST_KVA:g}, is {kva:g}"
    rules.check(LEAST_RATED_KVA <= kva <= LARGEST_KVA, path, rule)
