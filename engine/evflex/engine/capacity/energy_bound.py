"""Proves how much no plan can serve: a linear program that contains every plan.

Variables are the conditional power of each class of hubs in each step, all phases together. Rows are what every plan
keeps:

- the loading limits;
- what hubs can put to use in a set of steps, for the sets that matter (see :mod:`absorbable`). Which do is learned from
  the duals: where rows of several sets share a step, their unions and intersections (the level sets of the sum of
  duals) are the next ones to look at, because what can be put to use is a submodular function of the set;
- tangents of temperatures and ageing (see :mod:`tangents`), added where the solution breaks a limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.capacity.absorbable import absorbable_kwh
from evflex.engine.capacity.forward import LoadedTransformer
from evflex.engine.capacity.prepared import PreparedHubs
from evflex.engine.capacity.tangents import Tangents
from evflex.engine.capacity.transformer import Transformer
from evflex.engine.highs import LpMethod, ProgramSolution, Solver
from evflex.engine.program_builder import Builder
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

_ROUNDS = 40
# Entries of the rows that the program begins with.
_FIRST_ENTRIES = 400_000
_BROKEN_RATIO = 1e-6
_ENOUGH_RATIO = 1e-5
_STALLED_RATIO = 1e-6
# Temperatures nearer than this to their limit in the plan get a tangent at once; later, those that are broken.
_NEAR_K, _BROKEN_K = 1.0, 1e-3
_LEAST_DUAL = 1e-9
_LEAST_KW = 1e-9
# Steps are set apart where their use, as a share of what hubs could use, rises most.
_RISES = 6


@dataclass(frozen=True, slots=True)
class EnergyBound:
    """What the program proves.

    Attributes:
        value: Largest sum over classes of worth times conditional energy in kWh that any plan can reach.
        rounds: Linear programs solved.
        power_kw: Conditional power of all hubs in the program's last solution, (T,); nothing where it has none.
        price_per_kwh: Worth of a kWh of the transformer's capacity in each step, (T,); nothing as above.
    """

    value: float
    rounds: int
    power_kw: FloatArray
    price_per_kwh: FloatArray


def bound_energy(
    grid: TimeGrid,
    transformer: LoadedTransformer,
    limits: Transformer,
    hubs: PreparedHubs,
    firm_kw: FloatArray,
    worth_per_kwh: FloatArray,
    plan_kw: FloatArray,
    enough: float,
    budget: Budget,
) -> EnergyBound:
    """Bound what conditional capacity can serve beyond what firm capacity alone does.

    Args:
        grid: Time axis.
        transformer: The transformer with its base load.
        limits: Its limits.
        hubs: The hubs; classes are their ranks.
        firm_kw: Firm capacity that is reserved, (T, H).
        worth_per_kwh: Worth of a kWh of each class, (classes,).
        plan_kw: Conditional power of each class in a plan, to begin near it, (classes, T).
        enough: The program stops when it proves no more than this.
        budget: Time; what is proven when it is over holds.
    """
    classes, steps = plan_kw.shape
    room_kw = _room_kw(transformer, hubs, firm_kw)
    program = _program(grid, hubs, firm_kw, worth_per_kwh, room_kw, budget)
    tangents = Tangents.of(grid, transformer, limits, firm_kw.sum(axis=1), room_kw)
    first = _first_sets(steps, classes)
    for c in range(classes):
        program.add_sets(c, first)
    program.add_tangents(tangents, plan_kw, _NEAR_K)
    found = EnergyBound(np.inf, 0, np.empty(0), np.empty(0))
    while found.rounds < _ROUNDS:
        solution = program.solver.solve(LpMethod.SIMPLEX)
        if not solution.optimal:
            break
        power_kw = solution.x.reshape(classes, steps)
        before = found.value
        found = EnergyBound(
            min(before, -solution.objective), found.rounds + 1, power_kw.sum(axis=0), program.price_per_kwh(solution)
        )
        if found.value <= enough + _ENOUGH_RATIO * abs(found.value):
            break
        added = sum(program.add_broken_sets(c, solution, power_kw[c]) for c in range(classes))
        hot = program.add_tangents(tangents, power_kw, -_BROKEN_K)
        if not added + hot or (not hot and before - found.value <= _STALLED_RATIO * abs(found.value)):
            break
    return found


@dataclass(slots=True)
class _Program:
    """The program and which of its rows are about which set of steps.

    Attributes:
        solver: HiGHS.
        hubs: The hubs.
        firm_kw: Firm capacity, (T, H).
        most_kw: What the hubs of each class can use together beyond it, (classes, T).
        step_h: Length of a step in hours.
        rows: Number of rows.
        sets: Of each class, (n, T).
        set_rows: Their rows.
        tangent_rows: Row and coefficients of each tangent, (T,).
    """

    solver: Solver
    hubs: PreparedHubs
    firm_kw: FloatArray
    most_kw: FloatArray
    step_h: float
    rows: int
    sets: list[BoolArray]
    set_rows: list[IntArray]
    tangent_rows: list[tuple[int, FloatArray]] = field(default_factory=list)

    def add_sets(self, c: int, sets: BoolArray, power_kw: FloatArray | None = None) -> int:
        """Add rows of class c for sets of steps, those that powers exceed where they are given; returns how many."""
        most_kw = absorbable_kwh(self.hubs, self.step_h, self.firm_kw, sets, c) / self.step_h
        if power_kw is not None:
            broken = sets @ power_kw - most_kw > _BROKEN_RATIO * max(1.0, float(power_kw.sum()))
            sets, most_kw = sets[broken], most_kw[broken]
        for steps, most in zip(sets, most_kw.tolist(), strict=True):
            columns = np.flatnonzero(steps)
            self.solver.add_row(columns + c * len(steps), np.ones(len(columns)), -np.inf, most)
        self.sets[c] = np.concatenate([self.sets[c], sets])
        self.set_rows[c] = np.concatenate([self.set_rows[c], np.arange(self.rows, self.rows + len(sets))])
        self.rows += len(sets)
        return len(sets)

    def add_broken_sets(self, c: int, solution: ProgramSolution, power_kw: FloatArray) -> int:
        """Add rows for sets of steps that a solution of class c exceeds; returns how many."""
        worth = -solution.row_dual[self.set_rows[c]] @ self.sets[c]
        levels = np.unique(worth[worth > _LEAST_DUAL].round(9))
        of_levels = worth[None, :] >= levels[:, None] - _LEAST_DUAL
        # steps that the transformer limits most say nothing about the others
        use = power_kw / np.maximum(self.most_kw[c], _LEAST_KW)
        lower = np.sort(use)
        rises = np.argsort(lower[:-1] - lower[1:])[:_RISES]
        above = lower[rises + 1][lower[rises + 1] > lower[rises] + _BROKEN_RATIO]
        used = use[None, :] >= above[:, None]
        return self.add_sets(c, np.concatenate([used, of_levels & (use > _BROKEN_RATIO)]), power_kw)

    def add_tangents(self, tangents: Tangents, power_kw: FloatArray, nearer_k: float) -> int:
        """Add tangents at powers where a temperature is nearer than this to its limit; returns how many."""
        classes, steps = power_kw.shape
        before = self.rows
        for row, upper in tangents.near(power_kw.sum(axis=0), nearer_k):
            columns = np.flatnonzero(row)
            of_classes = (columns[None, :] + steps * np.arange(classes)[:, None]).ravel()
            self.solver.add_row(of_classes, np.tile(row[columns], classes), -np.inf, upper)
            self.tangent_rows.append((self.rows, row))
            self.rows += 1
        return self.rows - before

    def price_per_kwh(self, solution: ProgramSolution) -> FloatArray:
        """Worth of a kWh of the transformer's capacity in each step, from the duals of its limits, (T,)."""
        steps = self.firm_kw.shape[0]
        price = -solution.row_dual[:steps]
        for row, coefficients in self.tangent_rows:
            price = price - solution.row_dual[row] * coefficients
        return price / self.step_h


def _program(
    grid: TimeGrid,
    hubs: PreparedHubs,
    firm_kw: FloatArray,
    worth_per_kwh: FloatArray,
    room_kw: FloatArray,
    budget: Budget,
) -> _Program:
    """The program with loading limits only."""
    classes, steps = len(worth_per_kwh), len(room_kw)
    most_kw = np.zeros((classes, steps))
    np.add.at(most_kw, hubs.rank, np.where(hubs.cars == 0, 0.0, np.maximum(0.0, hubs.most_kw - firm_kw)).T)
    builder = Builder()
    cost = -np.repeat(worth_per_kwh, steps) * grid.step_h
    builder.add_columns(classes * steps, 0.0, most_kw.ravel(), cost)
    rows = builder.add_rows(steps, -np.inf, room_kw)
    builder.put(np.tile(rows, classes), np.arange(classes * steps), 1.0)
    none = [np.zeros((0, steps), dtype=np.bool_) for _ in range(classes)]
    nowhere = [np.zeros(0, dtype=np.int64) for _ in range(classes)]
    return _Program(Solver(builder.build(), budget), hubs, firm_kw, most_kw, grid.step_h, builder.rows, none, nowhere)


def _first_sets(steps: int, classes: int) -> BoolArray:
    """All steps, and those before and after some cuts; in large problems fewer."""
    count = min(steps - 1, _FIRST_ENTRIES // (2 * steps * classes))
    cuts = np.unique(np.linspace(1, steps - 1, count).astype(np.int64)) if count > 0 else np.zeros(0, dtype=np.int64)
    before = np.arange(steps)[None, :] < cuts[:, None]
    return np.concatenate([np.ones((1, steps), dtype=np.bool_), before, ~before])


def _room_kw(transformer: LoadedTransformer, hubs: PreparedHubs, firm_kw: FloatArray) -> FloatArray:
    """Conditional power that all phases together have room for, (T,)."""
    most_kva = transformer.ratio_limit[:, None] * transformer.rated_kva / 3.0
    room = np.sqrt(np.maximum(0.0, most_kva**2 - transformer.base_kvar**2)) - transformer.base_kw
    room -= np.einsum("th,thf->tf", firm_kw, hubs.phase_share)
    total: FloatArray = np.maximum(0.0, room).sum(axis=1)
    return total
