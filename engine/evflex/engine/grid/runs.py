"""Limits broken in consecutive steps, gathered from what is found block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.supply_tree import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Entries:
    """Limits that are broken or likely to be, one step each, in any order.

    Attributes:
        step: The step, (E,).
        column: Column of the limit, (E,).
        excess: By how much it is passed with the expected injections, (E,); negative where it holds.
        probability: Probability that it is broken, (E,).
    """

    step: IntArray
    column: IntArray
    excess: FloatArray
    probability: FloatArray


@dataclass(frozen=True, slots=True)
class Runs:
    """Congestions, ascending by column and step.

    Attributes:
        column: Column of the limit, (R,).
        start: First step, (R,).
        worst_step: Step of the largest excess, (R,).
        excess: Excess per step of each.
        probability: Probability per step of each.
    """

    column: IntArray
    start: IntArray
    worst_step: IntArray
    excess: tuple[FloatArray, ...]
    probability: tuple[FloatArray, ...]


def runs_of(blocks: list[Entries]) -> Runs:
    """Join entries of consecutive steps of a column; an excess of rounding only is none."""
    step = np.concatenate([block.step for block in blocks])
    column = np.concatenate([block.column for block in blocks])
    order = np.lexsort((step, column))
    step, column = step[order], column[order]
    excess = np.concatenate([block.excess for block in blocks])[order]
    probability = np.concatenate([block.probability for block in blocks])[order]
    begins = np.ones(len(step), dtype=bool)
    begins[1:] = (np.diff(column) != 0) | (np.diff(step) != 1)
    first = np.flatnonzero(begins)
    cuts = first[1:]
    parts = np.split(excess, cuts) if len(step) else []
    worst = np.array([int(np.argmax(part)) for part in parts], dtype=np.int64)
    probabilities = np.split(probability, cuts) if len(step) else []
    return Runs(column[first], step[first], step[first] + worst, tuple(parts), tuple(probabilities))
