"""Relief that clears congestions: at which bus, by sensitivities, and how much of it, by AC power flows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.congestion_report import ReliefObstacle
from evflex.engine.grid.counted_flows import CountedFlows, perturbation_kw
from evflex.engine.grid.relief_search import smallest_relief
from evflex.engine.grid.runs import Runs
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray

# Effects that differ by less are the same, and the earlier bus is taken.
_SAME = 1e-6
# A change of a value that may be what power flows leave unsolved.
_ROUNDING = 1e-8
# First the most effective bus; where that does not suffice, the stiffest of those with this share of its effect.
_SHARES = (1.0 - _SAME, 0.9, 0.5)


@dataclass(frozen=True, slots=True)
class Reliefs:
    """Relief of R congestions.

    Attributes:
        bus: Bus of each, (R,); −1 where none is needed or none suffices.
        relief_kw: Per step of each congestion, as in :class:`Congestion`.
        obstacle: :class:`ReliefObstacle` of each, (R,).
    """

    bus: IntArray
    relief_kw: tuple[FloatArray, ...]
    obstacle: IntArray


def find_relief(flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray, runs: Runs, allowed: BoolArray) -> Reliefs:
    """Relief of each congestion of a contingency, at one bus for all of its steps.

    Relief changes active power, and in three phases that of all phases alike: who offers it need not know which phase
    is worst. It may break limits of other elements; it clears one congestion.

    Args:
        flows: The network in its contingency.
        p_kw: Active power drawn, (T, n) or (T, n, 3).
        q_kvar: Reactive power drawn.
        runs: The congestions.
        allowed: Whether flexibility may be at a bus, (n,).
    """
    count = len(runs.column)
    relief = tuple(np.where(excess > 0.0, np.nan, 0.0) for excess in runs.excess)
    bus, obstacle = np.full(count, -1, dtype=np.int64), np.zeros(count, dtype=np.int64)
    needed = np.flatnonzero([np.isnan(values).any() for values in relief])
    candidates = np.flatnonzero(allowed & flows.grid.energised)
    buses, slopes = _choices(flows, p_kw, q_kvar, runs, needed, candidates)
    obstacle[needed[buses[:, 0] < 0]] = ReliefObstacle.NO_EFFECT
    left = np.flatnonzero(buses[:, 0] >= 0)
    for choice in range(len(_SHARES)):
        # where a choice is that of before there is nothing new to try
        tried = left[~(buses[left, :choice] == buses[left, choice, None]).any(axis=1)]
        if not len(tried):
            continue
        at = needed[tried]
        found, reasons = _at_buses(flows, p_kw, q_kvar, runs, at, buses[tried, choice], slopes[tried, choice])
        clears = reasons == ReliefObstacle.NONE
        for i in np.flatnonzero(clears).tolist():
            relief[at[i]][:] = found[i]
        bus[at[clears]] = buses[tried[clears], choice]
        # of several obstacles that of the most effective bus is told
        obstacle[at] = np.where(clears | (choice == 0), reasons, obstacle[at])
        left = np.setdiff1d(left, tried[clears])
    return Reliefs(bus, relief, obstacle)


def _choices(
    flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray, runs: Runs, needed: IntArray, candidates: IntArray
) -> tuple[IntArray, FloatArray]:
    """Buses to try for each congestion at its worst step, and the change of its excess per kW drawn more there.

    Stiff is a bus whose own voltage changes least: it takes most before the voltage collapses.
    """
    buses = np.full((len(needed), len(_SHARES)), -1, dtype=np.int64)
    slopes = np.zeros((len(needed), len(_SHARES)))
    if not len(candidates):
        return buses, slopes
    for step in np.unique(runs.worst_step[needed]).tolist():
        at = np.flatnonzero(runs.worst_step[needed] == step)
        effect = flows.slopes(p_kw[step], q_kvar[step], (candidates,), runs.column[needed[at]], reactive=False)
        negligible = _ROUNDING / perturbation_kw(p_kw[step], q_kvar[step])
        softness = np.abs(np.nan_to_num(effect.own_voltage))
        for i, of_column in zip(at.tolist(), np.nan_to_num(effect.excess).T, strict=True):
            size = np.abs(of_column)
            largest = float(size.max())
            if largest < negligible:
                continue
            for choice, share in enumerate(_SHARES):
                strong = np.flatnonzero(size >= share * largest)
                pick = strong[0] if choice == 0 else strong[np.argmin(softness[strong])]
                buses[i, choice], slopes[i, choice] = candidates[pick], of_column[pick]
    return buses, slopes


def _at_buses(
    flows: CountedFlows, p_kw: FloatArray, q_kvar: FloatArray, runs: Runs, at: IntArray, buses: IntArray,
    slopes: FloatArray,
) -> tuple[list[FloatArray], IntArray]:  # fmt: skip
    """Relief of each congestion at a given bus, and why there is none."""
    lengths = [len(runs.excess[i]) for i in at.tolist()]
    owner = np.repeat(np.arange(len(at)), lengths)
    excess = np.concatenate([runs.excess[i] for i in at.tolist()])
    step = np.concatenate([runs.start[i] + np.arange(len(runs.excess[i])) for i in at.tolist()])
    relief, reasons = np.zeros(len(excess)), np.zeros(len(at), dtype=np.int64)
    needed = np.flatnonzero(excess > 0.0)
    mine = owner[needed]
    column, where, sign = runs.column[at[mine]], buses[mine], np.sign(slopes[mine])
    phases = 1 if p_kw.ndim == 2 else p_kw.shape[2]

    def evaluate(jobs: IntArray, relief_kw: FloatArray) -> FloatArray:
        value = np.empty(len(jobs))
        for first in range(0, len(jobs), flows.block_steps):
            part = slice(first, first + flows.block_steps)
            block = jobs[part]
            p, q = p_kw[step[needed[block]]], q_kvar[step[needed[block]]]
            less = (sign[block] * relief_kw[part] / phases).reshape(-1, *(1 for _ in range(p.ndim - 2)))
            p[np.arange(len(block)), where[block]] -= less
            value[part] = flows.excess(p, q)[np.arange(len(block)), column[block]]
        return value

    found, why = smallest_relief(evaluate, excess[needed], np.abs(slopes[mine]))
    relief[needed] = sign * found
    np.maximum.at(reasons, mine, why)
    return np.split(relief, np.cumsum(lengths)[:-1]), reasons
