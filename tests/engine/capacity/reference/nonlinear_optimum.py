"""Most energy that hubs can be served under the nonlinear thermal model, for small cases; shares no engine code.

Powers of hubs, or of their cars, and capacities that hold firm rights in every step are the variables of a linear
program; the loading of a phase is linear in them, and the squares and exponents of the thermal model come in as cuts.
The program is solved, which bounds the value; of its many answers the one with the flattest load is aimed at. From
points known to be safe a line is drawn to it, and limits are linearised where the line breaks them (extended supporting
hyperplanes); the best safe point is the answer once the bound is near. The hot-spot is not quite convex in the load
where the oil's second gradient outweighs the first, so that a cut may take away a little, and more the further away it
was drawn: at the end all cuts are drawn anew around the answer, as long as that gains something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cvxpy
import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from evflex.engine.capacity.hub import Hub
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from tests.engine.capacity.reference.twin import (
    ageing,
    day_of_step,
    excesses,
    heat,
    inner_steps,
    loading_ratio,
    phase_limit_kva,
    phase_shares,
    steady_rises,
    stress,
)

_GAP = 1e-3
_MOST_ROUNDS = 300
_MOST_RENEWALS = 8
_LINE = np.linspace(0.0, 1.0, 41)
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
        day, found = day_of_step(problem), stress(problem, self._firm())
        self.same_day, self.day_limit_h = (day[:, None] == day[None, :]).astype(float), found.day_limit_h
        self.safe = np.zeros(len(bounds))
        self.safe[: self.hubs * self.steps] = self._firm().ravel()
        self.answer = self.safe
        if max(float(over.max()) for over in excesses(problem, found).values()) > 0.0:
            raise ValueError("base load and firm capacity break a limit")

    def _firm(self) -> FloatArray:
        """Firm rights, (H, T)."""
        return np.array([np.minimum(hub.firm_kw, hub.max_kw) for hub in self.problem.hubs])

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

    def keep(self, members: BoolArray, energy_kwh: float) -> None:
        """Hold the energy of some hubs from now on."""
        of_members = self.powers[np.isin(self.owner, np.flatnonzero(members))]
        slack = _GAP * max(1.0, energy_kwh)
        self.rows.add(of_members, np.full(len(of_members), -self.problem.grid.step_h), slack - energy_kwh)
        self.safe = self.answer

    def best(self, value_per_kwh: FloatArray) -> Optimum:
        """Most value of served energy."""
        worth = np.zeros(len(self.bounds))
        worth[self.powers] = value_per_kwh[self.owner] * self.problem.grid.step_h
        best = self._converged(worth, self.safe)
        for _ in range(_MOST_RENEWALS):
            self.cuts = _Rows()
            self._cut(best, _NEAR_C)
            again = self._converged(worth, best)
            gained = worth @ again > (1.0 + _GAP) * (worth @ best)
            best = again if gained else best
            if not gained:
                break
        self.answer = best
        power = np.zeros((self.hubs, self.steps))
        np.add.at(power, (self.owner, self.step), best[self.powers])
        return Optimum(power.sum(axis=1) * self.problem.grid.step_h, power, self._capacity(best))

    def _converged(self, worth: FloatArray, best: FloatArray) -> FloatArray:
        """The best safe point, once the linear program proves that there is hardly a better one."""
        for _ in range(_MOST_ROUNDS):
            bound = self._solve(worth)
            if self._is_safe(bound[None])[0]:
                return bound
            value, reached = float(worth @ bound), float(worth @ best)
            if value - reached <= _GAP * max(1e-3, value):
                return best
            aim = self._flattest(worth, value - 0.5 * min(_GAP * value, value - reached))
            if self._is_safe(aim[None])[0]:
                best = aim
                continue
            for target in (aim, bound):
                for inner in (self.safe, 0.2 * self.safe + 0.8 * best):
                    begin, end = self._border(inner, target)
                    if self._is_safe(begin[None])[0] and worth @ begin > worth @ best:
                        best = begin
                    self._cut(end, 0.0)
                if (self.cuts.matrix(len(worth)) @ target <= np.array(self.cuts.right) + 1e-7).all():
                    self._cut(target, 0.0)
        raise AssertionError(f"safe {worth @ best}, bound {worth @ bound}")

    def _border(self, inner: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The last safe point on a line, and the first that is not, next to it."""
        for _ in range(3):
            line = inner + _LINE[:, None] * (target - inner)
            safe = self._is_safe(line)
            last = len(safe) - 1 if safe.all() else int(np.argmin(safe))
            inner, target = line[max(0, last - 1)], line[last]
        return inner, target

    def _flattest(self, worth: FloatArray, least: float) -> FloatArray:
        """Of all points of a worth within the cuts the one with the smallest squares of load, which heats least."""
        point = cvxpy.Variable(len(worth))
        columns = self.hubs * self.steps
        load = np.sqrt(1.0 / columns) * np.tile(np.eye(self.steps), (1, self.hubs)) @ point[:columns]
        base = self.problem.base.phase_kw.sum(axis=1)
        scale = self.problem.transformer.rated_kva
        matrix = vstack([self.rows.matrix(len(worth)), self.cuts.matrix(len(worth))]).tocsr()
        low, high = (np.array(side) for side in zip(*self.bounds, strict=True))
        program = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.sum_squares((load + np.sqrt(1.0 / columns) * base) / scale)),
            [
                matrix @ point <= np.array(self.rows.right + self.cuts.right), worth @ point >= least, point >= low,
                point <= high,
            ],
        )  # fmt: skip
        program.solve(solver=cvxpy.CLARABEL)  # type: ignore[no-untyped-call]
        assert point.value is not None, program.status
        return np.clip(np.asarray(point.value), low, high)

    def _solve(self, worth: FloatArray) -> FloatArray:
        cost = -worth
        # Of equal answers the one that loads the transformer least needs the fewest cuts.
        cost[: self.hubs * self.steps] = 1e-7 * np.abs(worth).max()
        matrix = vstack([self.rows.matrix(len(cost)), self.cuts.matrix(len(cost))]).tocsr()
        result = linprog(  # type: ignore[call-overload]  # sparse matrices are not in its stubs
            cost, A_ub=matrix, b_ub=self.rows.right + self.cuts.right, bounds=self.bounds, method="highs"
        )
        assert result.status == 0, result.message
        return np.asarray(result.x)

    def _capacity(self, point: FloatArray) -> FloatArray:
        """Capacities of points, (..., H, T)."""
        return point[..., : self.hubs * self.steps].reshape(*point.shape[:-1], self.hubs, self.steps)

    def _is_safe(self, points: FloatArray) -> BoolArray:
        """Whether temperatures and ageing keep their limits, (n,)."""
        transformer = self.problem.transformer
        top_oil, hot_spot = self.response.temperatures(loading_ratio(self.problem, self._capacity(points)))
        lost = self.response.lost_h(hot_spot) @ self.same_day
        safe: BoolArray = (
            (hot_spot.max(axis=(1, 2)) <= transformer.max_hot_spot_c)
            & (top_oil.max(axis=(1, 2)) <= transformer.max_top_oil_c)
            & (lost <= self.day_limit_h).all(axis=1)
        )
        return safe

    def _cut(self, point: FloatArray, near_c: float) -> None:
        """Linearise at a point what is broken there, or within ``near_c`` of it."""
        capacity, transformer, response = self._capacity(point), self.problem.transformer, self.response
        slope, ratio = self._ratio_slope(capacity), loading_ratio(self.problem, capacity)
        top_oil, hot_spot = (rows[0] for rows in response.temperatures(ratio[None]))
        for temperatures, limit, per_ratio in (
            (hot_spot, transformer.max_hot_spot_c, response.hot_spot_slope),
            (top_oil, transformer.max_top_oil_c, response.top_oil_slope),
        ):
            for k in np.flatnonzero(temperatures.max(axis=1) > limit - near_c).tolist():
                i = int(temperatures[k].argmax())
                self._add_cut(capacity, per_ratio(ratio, k, i), slope, limit - float(temperatures[k, i]))
        lost = response.lost_h(hot_spot) @ self.same_day
        for k in np.flatnonzero(np.diff(day_of_step(self.problem), prepend=-1.0)).tolist():
            if lost[k] > self.day_limit_h[k] * (1.0 - 0.02 * near_c):
                steps = np.flatnonzero(self.same_day[k])
                per_ratio_h = response.ageing_slope(hot_spot[steps], ratio, steps)
                self._add_cut(capacity, per_ratio_h, slope, float(self.day_limit_h[k] - lost[k]))

    def _ratio_slope(self, capacity: FloatArray) -> FloatArray:
        """Change of the loading ratio of a step with each hub's power in it, (H, T)."""
        base = self.problem.base
        active = base.phase_kw + np.einsum("ht,hf->tf", capacity, self.shares)
        kva = np.sqrt(active**2 + base.phase_kvar**2)
        worst = kva.argmax(axis=1)
        at = np.arange(self.steps)
        slope: FloatArray = (
            3.0
            / self.problem.transformer.rated_kva
            * (self.shares[:, worst] * (active[at, worst] / np.maximum(kva[at, worst], 1e-12)))
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

        # What start and ambient temperature do is what a load does less what its rises do.
        some = np.full(steps, 0.5)
        warm = heat(problem, some)
        self.offset = np.zeros((2, steps, self.count))
        of_rises = self.temperatures(some[None])
        self.offset[0], self.offset[1] = warm.top_oil_c - of_rises[0][0], warm.hot_spot_c - of_rises[1][0]

    def temperatures(self, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Top oil and hot-spot in each inner step, (n, T, inner) each, of ratios, (n, T)."""
        rise, gradient = steady_rises(self.problem.transformer.thermal, ratio)
        oil = np.tensordot(rise, self.rise, axes=(1, 2))
        top_oil: FloatArray = self.offset[0] + oil
        hot_spot: FloatArray = self.offset[1] + oil + np.tensordot(gradient, self.gradient, axes=(1, 2))
        return top_oil, hot_spot

    def lost_h(self, hot_spot_c: FloatArray) -> FloatArray:
        """Loss of life in each step, (..., T)."""
        rate = ageing(hot_spot_c, self.problem.transformer.paper)
        lost: FloatArray = rate.sum(axis=-1) * self.problem.grid.step_h / self.count
        return lost

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

    def ageing_slope(self, hot_spot: FloatArray, ratio: FloatArray, steps: IntArray) -> FloatArray:
        """Derivatives of the loss of life over some steps with each ratio, (T,)."""
        step_c, paper = 1e-4, self.problem.transformer.paper
        rate = (ageing(hot_spot + step_c, paper) - ageing(hot_spot - step_c, paper)) / (2.0 * step_c)
        rate = rate * self.problem.grid.step_h / self.count
        rise, gradient = self._target_slopes(ratio)
        return np.einsum("ki,kij->j", rate, self.rise[steps]) * rise + (
            np.einsum("ki,kij->j", rate, self.gradient[steps]) * gradient
        )


class _Rows:
    """Rows of a matrix, one after the other, each at most its right side."""

    def __init__(self) -> None:
        self.row: list[int] = []
        self.column: list[int] = []
        self.value: list[float] = []
        self.right: list[float] = []

    def add(self, columns: IntArray, values: FloatArray, right: float) -> None:
        self.row += [len(self.right)] * len(columns)
        self.column += columns.tolist()
        self.value += values.tolist()
        self.right.append(right)

    def matrix(self, columns: int) -> csr_array:
        return coo_array((self.value, (self.row, self.column)), shape=(len(self.right), columns)).tocsr()


def _wants(problem: AllocationProblem, hub: Hub) -> Iterator[tuple[FloatArray, list[tuple[IntArray, float]]]]:
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
