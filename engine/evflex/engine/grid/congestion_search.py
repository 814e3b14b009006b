"""The forecast of one contingency: flows, limits broken, their probability and relief."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.congestion_model import CongestionKind, CongestionOptions, CongestionProblem
from evflex.engine.grid.congestion_report import (
    Congestion,
    ContingencyFindings,
    Island,
    NotConverged,
    ReliefObstacle,
)
from evflex.engine.grid.contingencies import ContingencyState, outage_state, sound_state, unserved_kw
from evflex.engine.grid.counted_flows import CountedFlows
from evflex.engine.grid.limits import Limits, limits_of
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.grid.probability import near_probabilities, sampled_probabilities
from evflex.engine.grid.relief import Reliefs, find_relief
from evflex.engine.grid.runs import Entries, Runs, runs_of
from evflex.engine.grid.solvable import nearest_solvable
from evflex.engine.grid.uncertainty import Uncertainty, uncertainty_of
from evflex.engine.grid.worst_case import WorstCase
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class CongestionSearch:
    """What all contingencies of a forecast share.

    Attributes:
        problem: The problem.
        options: What is wanted.
        grid: The sound network.
        limits: What must hold.
        uncertainty: Deviations of the injections, if given.
        relief_buses: Whether flexibility may be at a bus, (n,).
        contingencies: Branches that are lost, the sound network (−1) first.
        worst: Gathers the worst values, if wanted.
    """

    problem: CongestionProblem
    options: CongestionOptions
    grid: PreparedGrid
    limits: Limits
    uncertainty: Uncertainty | None
    relief_buses: BoolArray
    contingencies: IntArray
    worst: WorstCase | None

    def findings(self, position: int) -> ContingencyFindings:
        """What is found in the contingency at a position. Called from several threads at once."""
        contingency, total = int(self.contingencies[position]), len(self.contingencies)
        state = self._state(contingency)
        if state is None:
            return ContingencyFindings(contingency, (), True, (), None, None, 0, position + 1, total)
        flows = CountedFlows(state.grid, self.limits)
        entries, unsolved = self._scan(position, flows)
        congestions = self._congestions(state, flows, runs_of(entries))
        failed = self._not_converged(state, unsolved)
        island = None
        if len(state.island):
            island = Island(contingency, state.island, unserved_kw(self.problem.p_kw, state.island))
        solved = state.flows_solved + flows.solved
        return ContingencyFindings(
            contingency, state.closed_ties, False, congestions, island, failed, solved, position + 1, total
        )

    def _state(self, contingency: int) -> ContingencyState | None:
        if contingency < 0:
            return sound_state(self.grid)
        problem = self.problem
        return outage_state(self.grid, self.limits, contingency, problem.tie_branches, problem.p_kw, problem.q_kvar)

    def _scan(self, position: int, flows: CountedFlows) -> tuple[list[Entries], IntArray]:
        """Limits broken or likely to be, by blocks of steps, and the steps that were not solved."""
        entries, unsolved = [], []
        for first in range(0, self.problem.grid.step_count, flows.block_steps):
            part = slice(first, first + flows.block_steps)
            flow = flows.run(self.problem.p_kw[part], self.problem.q_kvar[part])
            if self.worst is not None:
                self.worst.take(position, first, flow)
            unsolved.append(first + np.flatnonzero(~flow.converged))
            excess = self.limits.excess(flow)
            broken = self.limits.broken(excess)
            probability = self._probability(flows, part, excess)
            hit = broken if probability is None else broken | (probability >= self.options.min_probability)
            step, column = np.nonzero(hit)
            entries.append(
                Entries(
                    first + step, column,
                    np.where(broken[step, column], excess[step, column], np.minimum(excess[step, column], 0.0)),
                    np.ones(len(step)) if probability is None else probability[step, column],
                )
            )  # fmt: skip
        return entries, np.concatenate(unsolved)

    def _probability(self, flows: CountedFlows, part: slice, excess: FloatArray) -> FloatArray | None:
        problem = self.problem
        if problem.p_samples_kw is not None:
            p_kw = problem.p_samples_kw[:, part]
            q_kvar = problem.q_samples_kvar
            expected = np.broadcast_to(problem.q_kvar[part], p_kw.shape)
            return sampled_probabilities(flows, p_kw, expected if q_kvar is None else q_kvar[:, part])
        if self.uncertainty is None:
            return None
        return near_probabilities(
            flows, problem.p_kw[part], problem.q_kvar[part], excess, self.uncertainty.of_steps(part),
            self.options.min_probability,
        )  # fmt: skip

    def _congestions(self, state: ContingencyState, flows: CountedFlows, runs: Runs) -> tuple[Congestion, ...]:
        problem, limits = self.problem, self.limits
        if self.options.want_relief:
            reliefs = find_relief(flows, problem.p_kw, problem.q_kvar, runs, self.relief_buses)
        else:
            unknown = tuple(np.where(excess > 0.0, np.nan, 0.0) for excess in runs.excess)
            none = np.zeros(len(runs.column), dtype=np.int64)
            reliefs = Reliefs(none - 1, unknown, none)
        rows = []
        for i, column in enumerate(runs.column.tolist()):
            start, excess = int(runs.start[i]), runs.excess[i]
            limit = float(limits.limit[column])
            rows.append(
                Congestion(
                    CongestionKind(int(limits.kind[column])), int(limits.element[column]), state.contingency,
                    state.closed_ties, start, start + len(excess), limit + float(limits.sign[column] * excess.max()),
                    int(runs.worst_step[i]), limit, int(reliefs.bus[i]), reliefs.relief_kw[i],
                    ReliefObstacle(int(reliefs.obstacle[i])),
                    float(runs.probability[i].max()), runs.probability[i],
                )
            )  # fmt: skip
        return tuple(rows)

    def _not_converged(self, state: ContingencyState, steps: IntArray) -> NotConverged | None:
        if not len(steps):
            return None
        p_kw, q_kvar = self.problem.p_kw, self.problem.q_kvar
        apparent = np.hypot(p_kw[steps], q_kvar[steps]).reshape(len(steps), -1).sum(axis=1)
        heaviest = int(steps[np.argmax(apparent)])
        return NotConverged(
            state.contingency, steps, heaviest, nearest_solvable(state.grid, p_kw[heaviest], q_kvar[heaviest])
        )


def congestion_search(problem: CongestionProblem, options: CongestionOptions, grid: PreparedGrid) -> CongestionSearch:
    """Prepare what all contingencies share; the problem keeps its rules."""
    network = problem.network
    contingencies = np.concatenate([[-1], problem.contingencies]).astype(np.int64)
    worst = None
    if options.want_worst:
        worst = WorstCase(problem.grid.step_count, network.branch_count, network.bus_count, contingencies)
    allowed = np.ones(network.bus_count, dtype=bool) if problem.relief_buses is None else problem.relief_buses.copy()
    # what a source's bus draws passes no branch
    allowed[network.sources.bus] = False
    return CongestionSearch(
        problem, options, grid, limits_of(problem), uncertainty_of(problem, options), allowed, contingencies, worst
    )
