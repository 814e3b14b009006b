"""Most energy that hubs can be served under the nonlinear thermal model, for small cases; shares no code with the engine.

Powers of hubs, or of their cars, and capacities that hold firm rights in every step are the variables of a linear
program; the loading of a phase is linear in them, and the squares and exponents of the thermal model come in as cuts: the
program is solved, temperatures and ageing are worked out at its answer, what is broken is linearised there, and again. The
hot-spot is not quite convex in the load where the oil's second gradient outweighs the first, so that a cut may take away a
little: at the end all cuts are drawn anew at the answer alone, as long as that gains something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.supply_tree import FloatArray
from tests.engine.capacity.reference.twin import (
    Stress,
    day_of_step,
    heat,
    inner_steps,
    loading_ratio,
    phase_limit_kva,
    phase_shares,
    stress,
)

_TOLERANCE = 1e-6
_MOST_ROUNDS = 400
_MOST_RENEWALS = 4
# Limits further away than this are not linearised when all cuts are drawn anew.
_NEAR_C = 15.0


@dataclass(frozen=True, slots=True)
class Optimum:
    """What could be served.

    Attributes:
        served_kwh: Energy of each hub, (H,).
        power_kw: Use of each hub, (H, T).
        capacity_kw: The larger of firm right and use, (H, T).
    """

    served_kwh: FloatArray
    power_kw: FloatArray
    capacity_kw: FloatArray

    @property
    def total_kwh(self) -> float:
        """Energy of all hubs."""
        return float(self.served_kwh.sum())


def optimum(problem: AllocationProblem) -> Optimum:
    """Most energy; with LEAST_COST least compensation; with PRIORITY most for each class after those above it.

    The least power of a car is left out, so that this bounds what can be served with it.

    Raises:
        ValueError: Where base load and firm capacity alone break a limit.
    """
    program = _Program(problem)
    prices = np.array([hub.curtailment_price_per_kwh for hub in problem.hubs])
    values = np.ones(len(problem.hubs))
    if problem.policy == AllocationPolicy.LEAST_COST:
        # A kWh without a price still counts a little, as a tie-break.
        values = prices + 1e-4 * max(1e-9, float(prices.max()))
    if problem.policy != AllocationPolicy.PRIORITY:
        return program.best(values)
    priority = np.array([hub.priority for hub in problem.hubs])
    for of_class in sorted(set(priority.tolist()), reverse=True):
        answer = program.best((priority == of_class).astype(float))
        program.keep(priority == of_class, float(answer.served_kwh[priority == of_class].sum()))
    return answer


class _Program:
    """The linear program, growing by cuts: capacities (H, T) first, then one power a hub or car and step."""

    def __init__(self, problem: AllocationProblem) -> None:
        self.problem = problem
        self.hubs, self.steps = len(problem.hubs), problem.grid.step_count
        self.shares = phase_shares(problem.hubs)
        owner, bounds, rows = [], self._capacity_bounds(), _Rows()
        for h, hub in enumerate(problem.hubs):
            for limits, energy_rows in _wants(problem, hub):
                first = len(bounds)
                bounds += [(0.0, float(limit)) for limit in limits]
                owner += [h] * self.steps
                for steps, energy_kwh in energy_rows:
                    rows.add(first + steps, np.full(len(steps), problem.grid.step_h), energy_kwh)
        self.bounds, self.owner = bounds, np.array(owner, dtype=np.int64)
        self.step = np.tile(np.arange(self.steps), len(owner) // self.steps)
        powers = np.arange(len(owner)) + self.hubs * self.steps
        for h in range(self.hubs):
            for k in range(self.steps):
                used = powers[(self.owner == h) & (self.step == k)]
                rows.add(np.append(used, h * self.steps + k), np.append(np.ones(len(used)), -1.0), 0.0)
        self._add_phase_rows(rows)
        self.rows, self.powers = rows, powers
        self.cuts = _Rows()
        self.response = _Response(problem)

    def _capacity_bounds(self) -> list[tuple[float, float]]:
        bounds = []
        for hub in self.problem.hubs:
            firm = np.minimum(hub.firm_kw, hub.max_kw)
            most = np.minimum(hub.firm_kw + hub.conditional_kw, hub.max_kw)
            bounds += list(zip(firm.tolist(), most.tolist(), strict=True))
        return bounds

    def _add_phase_rows(self, rows: _Rows) -> None:
        base, limit = self.problem.base, phase_limit_kva(self.problem)
        for k in range(self.steps):
            for f in range(3):
                on = np.flatnonzero(self.shares[:, f])
                free = np.sqrt(max(0.0, limit[k] ** 2 - base.phase_kvar[k, f] ** 2)) - base.phase_kw[k, f]
                rows.add(on * self.steps + k, self.shares[on, f], float(free))

    def keep(self, members: FloatArray, energy_kwh: float) -> None:
        """Hold the energy of some hubs from now on."""
        of_members = self.powers[np.isin(self.owner, np.flatnonzero(members))]
        slack = _TOLERANCE * max(1.0, energy_kwh)
        self.rows.add(of_members, np.full(len(of_members), -self.problem.grid.step_h), slack - energy_kwh)

    def best(self, value_per_kwh: FloatArray) -> Optimum:
        """Most value of served energy."""
        best, value = self._converged(value_per_kwh)
        for _ in range(_MOST_RENEWALS):
            self.cuts = _Rows()
            self._cut(best.capacity_kw, stress(self.problem, best.capacity_kw), _NEAR_C)
            again, more = self._converged(value_per_kwh)
            if more <= value + _TOLERANCE * max(1.0, value):
                return best
            best, value = again, more
        return best

    def _converged(self, value_per_kwh: FloatArray) -> tuple[Optimum, float]:
        for _ in range(_MOST_ROUNDS):
            answer = self._solve(value_per_kwh)
            if not self._cut(answer.capacity_kw, stress(self.problem, answer.capacity_kw), 0.0):
                return answer, float(answer.served_kwh @ value_per_kwh)
        raise AssertionError("the cuts do not converge")

    def _solve(self, value_per_kwh: FloatArray) -> Optimum:
        cost = np.zeros(len(self.bounds))
        cost[self.powers] = -value_per_kwh[self.owner] * self.problem.grid.step_h
        # Of equal answers the one that loads the transformer least needs the fewest cuts.
        cost[: self.hubs * self.steps] = 1e-7 * self.problem.grid.step_h
        matrix = vstack([self.rows.matrix(len(cost)), self.cuts.matrix(len(cost))]).tocsr()
        result = linprog(cost, A_ub=matrix, b_ub=self.rows.right + self.cuts.right, bounds=self.bounds, method="highs")
        if result.status == 2:
            raise ValueError("base load and firm capacity break a limit")
        assert result.status == 0, result.message
        power = np.zeros((self.hubs, self.steps))
        np.add.at(power, (self.owner, self.step), result.x[self.powers])
        firm = np.array([np.minimum(hub.firm_kw, hub.max_kw) for hub in self.problem.hubs])
        return Optimum(power.sum(axis=1) * self.problem.grid.step_h, power, np.maximum(firm, power))

    def _cut(self, capacity: FloatArray, found: Stress, near_c: float) -> bool:
        """Linearise what is broken, or within ``near_c`` of it; False where nothing was."""
        slope = self._ratio_slope(capacity)
        before = len(self.cuts.right)
        transformer, response = self.problem.transformer, self.response
        ratio = loading_ratio(self.problem, capacity)
        for temperatures, limit, per_ratio in (
            (found.heat.hot_spot_c, transformer.max_hot_spot_c, response.hot_spot_slope),
            (found.heat.top_oil_c, transformer.max_top_oil_c, response.top_oil_slope),
        ):
            for k in np.flatnonzero(temperatures.max(axis=1) > limit + _TOLERANCE - near_c).tolist():
                i = int(temperatures[k].argmax())
                self._add_cut(capacity, per_ratio(ratio, k, i), slope, limit - float(temperatures[k, i]))
        day = day_of_step(self.problem)
        for of_day in np.unique(day).tolist():
            steps = np.flatnonzero(day == of_day)
            room = float(found.day_limit_h[steps[0]] - found.day_loss_h[steps[0]])
            scale = max(1.0, float(found.day_limit_h[steps[0]])) if np.isfinite(room) else 1.0
            if np.isfinite(room) and room < (-_TOLERANCE + 0.5 * (near_c > 0.0)) * scale:
                self._add_cut(capacity, response.ageing_slope(found, ratio, steps), slope, room)
        return len(self.cuts.right) > before

    def _ratio_slope(self, capacity: FloatArray) -> FloatArray:
        """Change of the loading ratio of a step with each hub's power in it, (H, T)."""
        base = self.problem.base
        active = base.phase_kw + np.einsum("ht,hf->tf", capacity, self.shares)
        kva = np.sqrt(active**2 + base.phase_kvar**2)
        worst = kva.argmax(axis=1)
        at = np.arange(self.steps)
        slope: FloatArray = 3.0 / self.problem.transformer.rated_kva * (
            self.shares[:, worst] * (active[at, worst] / np.maximum(kva[at, worst], 1e-12))
        )
        return slope

    def _add_cut(self, capacity: FloatArray, per_ratio: FloatArray, slope: FloatArray, room: float) -> None:
        row = (slope * per_ratio).ravel()
        used = np.flatnonzero(np.abs(row) > 1e-12)
        scale = max(1e-12, float(np.abs(row).max(initial=0.0)))
        self.cuts.add(used, row[used] / scale, (room + float(row @ capacity.ravel())) / scale)


class _Response:
    """What the loading ratio of a step does to temperatures in each inner step after it."""

    def __init__(self, problem: AllocationProblem) -> None:
        self.problem, thermal = problem, problem.transformer.thermal
        self.count, steps = inner_steps(thermal, problem.grid.step_s), problem.grid.step_count
        inner_min = problem.grid.step_s / 60.0 / self.count
        oil_min = thermal.k11 * thermal.oil_time_constant_min
        winding_min = thermal.k22 * thermal.winding_time_constant_min
        gradient_min = thermal.oil_time_constant_min / thermal.k22
        self.rise, self.gradient = np.zeros((steps, self.count, steps)), np.zeros((steps, self.count, steps))
        state = np.zeros((3, steps))
        for k in range(steps):
            on = (np.arange(steps) == k).astype(float)
            for i in range(self.count):
                state[0] += inner_min / oil_min * (on - state[0])
                state[1] += inner_min / winding_min * (thermal.k21 * on - state[1])
                state[2] += inner_min / gradient_min * ((thermal.k21 - 1.0) * on - state[2])
                self.rise[k, i], self.gradient[k, i] = state[0], state[1] - state[2]

    def _target_slopes(self, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of steady top-oil rise and hot-spot gradient in each step, (T,) each."""
        thermal = self.problem.transformer.thermal
        losses = (1.0 + thermal.loss_ratio * ratio**2) / (1.0 + thermal.loss_ratio)
        rise = thermal.top_oil_rise_k * thermal.oil_exponent * losses ** (thermal.oil_exponent - 1.0)
        rise = rise * 2.0 * thermal.loss_ratio * ratio / (1.0 + thermal.loss_ratio)
        power = thermal.winding_exponent
        return rise, thermal.hot_spot_gradient_k * power * ratio ** (power - 1.0)

    def top_oil_slope(self, ratio: FloatArray, k: int, i: int) -> FloatArray:
        """Derivatives of the top oil at inner step i of step k with each ratio, (T,)."""
        return self.rise[k, i] * self._target_slopes(ratio)[0]

    def hot_spot_slope(self, ratio: FloatArray, k: int, i: int) -> FloatArray:
        """Derivatives of the hot-spot at inner step i of step k with each ratio, (T,)."""
        rise, gradient = self._target_slopes(ratio)
        return self.rise[k, i] * rise + self.gradient[k, i] * gradient

    def ageing_slope(self, found: Stress, ratio: FloatArray, steps: FloatArray) -> FloatArray:
        """Derivatives of the loss of life over some steps with each ratio, (T,)."""
        hot_spot = found.heat.hot_spot_c[steps]
        inner_h = self.problem.grid.step_h / self.count
        rate = _ageing_derivative(self.problem, hot_spot) * inner_h
        rise, gradient = self._target_slopes(ratio)
        return np.einsum("ki,kij->j", rate, self.rise[steps]) * rise + (
            np.einsum("ki,kij->j", rate, self.gradient[steps]) * gradient
        )


def _ageing_derivative(problem: AllocationProblem, hot_spot_c: FloatArray) -> FloatArray:
    from tests.engine.capacity.reference.twin import ageing

    step_c = 1e-4
    paper = problem.transformer.paper
    derivative: FloatArray = (ageing(hot_spot_c + step_c, paper) - ageing(hot_spot_c - step_c, paper)) / (2.0 * step_c)
    return derivative


class _Rows:
    """Rows of a matrix, one after the other, each at most its right side."""

    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.right: list[float] = []

    def add(self, columns: FloatArray, values: FloatArray, right: float) -> None:
        self.row += [len(self.right)] * len(columns)
        self.column += columns.tolist()
        self.value += values.tolist()
        self.right.append(right)

    def matrix(self, columns: int) -> csr_array:
        return coo_array((self.value, (self.row, self.column)), shape=(len(self.right), columns)).tocsr()


def _wants(
    problem: AllocationProblem, hub: Hub
) -> Iterator[tuple[FloatArray, list[tuple[FloatArray, float]]]]:
    """For the hub, or each of its cars: most power in each step, and steps with the energy they may take together."""
    steps, step_h = problem.grid.step_count, problem.grid.step_h
    if not len(hub.sessions):
        limit = np.where(hub.connected_evs == 0, 0.0, hub.max_kw)
        arrived = np.cumsum(hub.demand_kw) * step_h
        yield limit, [(np.arange(k + 1), float(arrived[k])) for k in range(steps)]
        return
    begin = problem.grid.start_unix_s + np.arange(steps) * problem.grid.step_s
    cars = hub.sessions
    for i in range(len(cars)):
        there_s = np.minimum(cars.departure_unix_s[i], begin + problem.grid.step_s) - np.maximum(
            cars.arrival_unix_s[i], begin
        )
        limit = cars.max_charge_kw[i] * np.clip(there_s / problem.grid.step_s, 0.0, 1.0)
        yield limit, [(np.arange(steps), float(cars.energy_needed_kwh[i]))]
