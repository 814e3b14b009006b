"""Turns a transformer and the condition of its grid into the engine's model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import fields
from math import isfinite

import numpy as np

from evflex.capacity.v1 import transformer_pb2
from evflex.engine.capacity.transformer import (
    DEFAULT_AMBIENT_C,
    Cooling,
    InsulationPaper,
    ThermalParameters,
    ThermalState,
    Transformer,
)
from evflex.engine.supply_tree import BoolArray
from evflex.engine.validation import Rules
from evflex.server.fields import check_id, known_member, take_over

_LIMITS = ("max_loading_ratio", "max_hot_spot_c", "max_top_oil_c", "max_loss_of_life_h_per_day")


def decode_transformer(
    rules: Rules, message: transformer_pb2.Transformer, step_count: int | None, path: str = "transformer"
) -> Transformer:
    """The transformer, with every fault of it reported, also those that the engine would find.

    Args:
        rules: Receives the faults.
        message: The transformer.
        step_count: Steps of the ambient temperature; None where that is not known, and then any length will do.
        path: Where the message stands in the request.
    """
    check_id(rules, f"{path}.transformer_id", message.transformer_id, required=True)
    cooling = known_member(rules, f"{path}.cooling", message.cooling, Cooling.ONAN)
    is_onan = cooling is Cooling.ONAN
    rules.check(is_onan or not message.distribution, f"{path}.distribution", "goes with cooling ONAN only")
    if message.max_loss_of_life_h_per_day == np.inf:  # the engine's word for "no limit"
        rules.check(False, f"{path}.max_loss_of_life_h_per_day", "must be finite and > 0, is inf")
    transformer = Transformer(
        rated_kva=message.rated_kva,
        thermal=_thermal(message, cooling),
        ambient_c=np.array(message.ambient_c or [DEFAULT_AMBIENT_C], dtype=np.float64),
        paper=known_member(rules, f"{path}.paper", message.paper, InsulationPaper.NORMAL),
        initial_state=decode_state(message.initial_state) if message.HasField("initial_state") else None,
        **{name: getattr(message, name) for name in _LIMITS if message.HasField(name)},
    )
    # before temperatures are spread over the steps, so that a constant one is reported once
    found = Rules()
    transformer.validate(found, len(transformer.ambient_c), path)
    if step_count is not None:
        found.length(f"{path}.ambient_c", len(message.ambient_c), (0, 1, step_count))
        usable = not any(v.field.startswith(f"{path}.ambient_c") for v in found.violations)
        ambient_c = np.broadcast_to(transformer.ambient_c if usable else DEFAULT_AMBIENT_C, (step_count,)).copy()
        transformer = dataclasses.replace(transformer, ambient_c=ambient_c)
    take_over(rules, found)
    return transformer


def decode_state(message: transformer_pb2.ThermalState) -> ThermalState:
    """The state of the thermal model."""
    return ThermalState(message.top_oil_c, message.winding_gradient_c, message.oil_gradient_c)


def decode_contingency(
    rules: Rules, conditions: Sequence[int], step_count: int | None, path: str = "grid_condition"
) -> BoolArray:
    """Whether each step is in N-1; none given means that no step is."""
    numbers = np.array(conditions, dtype=np.int64)
    known = tuple(transformer_pb2.GridCondition.values())
    for k in np.flatnonzero(~np.isin(numbers, known)).tolist():
        rules.check(False, f"{path}[{k}]", f"must be a known GridCondition, is {numbers[k]}")
    contingency: BoolArray = numbers == transformer_pb2.GRID_CONDITION_CONTINGENCY
    if step_count is None:
        return contingency
    if not rules.length(path, len(numbers), (0, 1, step_count)) or not len(numbers):
        return np.zeros(step_count, dtype=np.bool_)
    return np.broadcast_to(contingency, (step_count,)).copy()


def decode_n1_rated_kva(rules: Rules, given: float | None, rated_kva: float, path: str = "n1_rated_kva") -> float:
    """Limit of loading in N-1: what is given, or else the rated power, whose own fault is not told twice."""
    if given is not None:
        sound = isfinite(given) and given > 0.0
        rules.check(sound, path, f"must be finite and > 0, is {given:g}")
        return given if sound else 1.0
    return rated_kva if isfinite(rated_kva) and rated_kva > 0.0 else 1.0


def _thermal(message: transformer_pb2.Transformer, cooling: Cooling) -> ThermalParameters:
    """The parameters of the class, but for those that are given."""
    own = message.thermal_parameters
    given = {field.name: getattr(own, field.name) for field in fields(ThermalParameters) if own.HasField(field.name)}
    return dataclasses.replace(ThermalParameters.of(cooling, distribution=message.distribution), **given)
