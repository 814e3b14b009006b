"""The convex relaxation: a plan without minimums, starts and quanta, its bound, and the prices of the limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evflex.engine.budget import Budget
from evflex.engine.charging.evaluation import fixed_load_objective
from evflex.engine.charging.program import Level, SiteProgram, build_program
from evflex.engine.charging.session_problem import SharedProblem, lagrangian_bound
from evflex.engine.charging.session_simplex import solve_shared
from evflex.engine.charging.site import Site
from evflex.engine.highs import INFINITY, LpMethod, ProgramSolution, Solver
from evflex.engine.supply_tree import BoolArray, FloatArray

# Wishes that rank before cost, first the most important; an Evaluation has their values in this order.
LEVEL_NAMES = ("safety relief", "minimum energy", "agreement", "shortfall")
# A wish before cost is met as far as possible when it misses its proven least by this (kWh, or share).
LEVEL_TOLERANCE_KWH = 2e-6
# A price for wishes that rank before cost, in multiples of the highest rate: where it leaves no wish open, the ranking
# is settled by one solve.
PENALTY = 1e3
# Interior point with crossover overtakes simplex at this many columns (measured on the instances of the benchmark).
_INTERIOR_POINT_COLUMNS = 8_000
# The simplex of sessions: from this many on, prices are found on every so manieth session first.
SAMPLE_FROM, _SAMPLE_EVERY = 60, 6
# Another vertex: prices move by this share of the highest one, the start's limit prices by that share of their own.
_NUDGE, _GUESS_SPREAD = 1e-6, 0.01


@dataclass(frozen=True, slots=True)
class RankedBound:
    """Lower bound on the objective that knows what a plan gave up before cost.

    Attributes:
        objective: Bound for plans whose wishes before cost equal ``levels``.
        levels: Least value of each wish before cost, by name, in kWh, of plans that meet those before it as far; 0 for
            those that are missing.
        level_price: What the bound loses for each kWh by which a plan misses a level.
    """

    objective: float
    levels: dict[str, float]
    level_price: dict[str, float]

    def at(self, ranks: tuple[float, ...]) -> float:
        """Bound for plans with these wishes before cost, by duality."""
        missed = {
            name: max(0.0, rank - self.levels.get(name, 0.0)) for name, rank in zip(LEVEL_NAMES, ranks, strict=True)
        }
        return self.objective - sum(self.level_price.get(name, 0.0) * value for name, value in missed.items())

    def reached_by(self, ranks: tuple[float, ...]) -> bool:
        """Whether no plan has smaller wishes before cost, in their order."""
        return all(
            rank <= self.levels.get(name, 0.0) + LEVEL_TOLERANCE_KWH * max(1.0, rank)
            for name, rank in zip(LEVEL_NAMES, ranks, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Optimum of the relaxation.

    Attributes:
        model: The program that was solved; None where the simplex of sessions needed none.
        power_kw: Net mean power, (n, T).
        bound: What it proves.
        price: Marginal cost of a kW of charging in each step, limits priced. (n, T).
        free_price: The same without the limits' prices. (n, T).
        limit_price: Dual of each limit in the objective per kW; positive where the upper limit binds. (groups, T).
        agreement_price: The same for agreements. (groups, T).
        row_dual: Duals of the program's rows.
        method: How it was solved.
        proven: Whether the solve ended by itself; else the bound is minus infinity.
    """

    model: SiteProgram | None
    power_kw: FloatArray
    bound: RankedBound
    price: FloatArray
    free_price: FloatArray
    limit_price: FloatArray
    agreement_price: FloatArray
    row_dual: FloatArray
    method: str
    proven: bool
    # What reports tell from: limits' prices that count open wishes too (objective per kW; negative below), and the
    # wish, in kWh per kW, that each limit takes; None where no wish is open.
    reported_price: FloatArray | None = None
    reported_agreement_price: FloatArray | None = None
    blame: FloatArray | None = None


def relax(site: Site, budget: Budget) -> Relaxation | None:
    """Solve the relaxation; None when time ran out before any point was found."""
    return relax_sessions(site) or _relax_program(site, budget)


def _relax_program(site: Site, budget: Budget) -> Relaxation | None:
    """The relaxation as a linear program in HiGHS."""
    model = build_program(site, exact=False)
    ranked = solve_ranked(model, budget)
    if ranked is None:
        return None
    solution = ranked.solution
    rows = model.program.matrix.shape[0]
    dual, open_dual, wish_dual = (
        np.append(values[:rows], 0.0) for values in (solution.row_dual, ranked.priced_dual, ranked.wish_dual)
    )
    bound = solution.bound + model.constant - fixed_load_objective(site) if solution.optimal else -np.inf
    price, free_price = _marginal_prices(model, solution.row_dual)
    some_open = bool(wish_dual.any())
    return Relaxation(
        model=model,
        power_kw=net_power_kw(site, model, solution.x),
        bound=RankedBound(bound, ranked.levels, ranked.level_price),
        price=price,
        free_price=free_price,
        limit_price=-dual[model.limit_row],
        agreement_price=-dual[model.agreement_row],
        row_dual=dual[:-1],
        method="linear program",
        proven=solution.optimal,
        reported_price=-open_dual[model.limit_row] if some_open else None,
        reported_agreement_price=-open_dual[model.agreement_row] if some_open else None,
        blame=np.abs(wish_dual[model.limit_row]) + np.abs(wish_dual[model.agreement_row]) if some_open else None,
    )


def program_of(site: Site, relaxation: Relaxation) -> tuple[SiteProgram, FloatArray]:
    """The relaxation's program and the duals of its rows."""
    if relaxation.model is not None:
        return relaxation.model, relaxation.row_dual
    model = build_program(site, exact=False)
    dual = np.zeros(model.program.matrix.shape[0] + 1)
    dual[model.limit_row] = -relaxation.limit_price
    dual[model.agreement_row] = -relaxation.agreement_price
    return model, dual[:-1]


def relax_sessions(site: Site) -> Relaxation | None:
    """The relaxation by the simplex of sessions; None where the site needs more, or a wish before cost is open."""
    if not is_shared_problem(site):
        return None
    shared = shared_problem(site)
    power, dual = np.zeros(site.presence.shape), np.zeros(site.limits.upper_kw.shape)
    if _solve_from_sample(shared, power, dual) < 0 or unpriced_shortfall(site, shared, power).any():
        return None
    return priced_relaxation(site, shared, power, dual, lagrangian_bound(shared, dual) + shared_constant(site))


def unpriced_shortfall(site: Site, shared: SharedProblem, power_kw: FloatArray) -> BoolArray:
    """Sessions that a solution leaves short although shortfall ranks before cost, (n,)."""
    return np.asarray(np.isnan(site.shortfall_price_per_kwh) & (shared.wanted - power_kw.sum(axis=1) > 1e-9))


def priced_relaxation(
    site: Site, shared: SharedProblem, power_kw: FloatArray, limit_dual: FloatArray, bound: float
) -> Relaxation:
    """The relaxation from an optimum of the simplex of sessions.

    Args:
        site: The site.
        shared: What was solved.
        power_kw: Its optimum, (n, T).
        limit_dual: Prices of the limits (<= 0), (groups, T).
        bound: What they prove.
    """
    session = np.repeat(np.arange(site.session_count), np.diff(shared.session_start))
    worth = np.zeros(site.presence.shape)
    np.add.at(worth, session, limit_dual[shared.group] * shared.weight[:, None])
    # A plain array, like the one of the program: a kernel is compiled anew for every other layout.
    free_price = np.tile(shared.price, (site.session_count, 1))
    agreed = site.limits.agreement_kw < site.limits.upper_kw
    return Relaxation(
        model=None,
        power_kw=power_kw,
        bound=RankedBound(bound, {}, {"shortfall": shortfall_penalty(site)}),
        price=free_price - np.divide(worth, site.presence, out=np.zeros_like(worth), where=site.presence > 0.0),
        free_price=free_price,
        limit_price=np.where(agreed, 0.0, -limit_dual),
        agreement_price=np.where(agreed, -limit_dual, 0.0),
        row_dual=np.empty(0),
        method="session simplex",
        proven=True,
    )


def another_vertex(site: Site, relaxation: Relaxation, seed: int) -> FloatArray | None:
    """Another optimum of the relaxation, up to rounding, (n, T); None where the simplex of sessions does not apply.

    Steps of equal price and sessions of equal need make many vertices optimal. Prices differ by less than the tie
    tolerance here, so that another one is met.
    """
    if relaxation.model is not None:
        return None
    random = np.random.default_rng(seed)
    shared = shared_problem(site)
    nudge = _NUDGE * float(np.abs(shared.price).max(initial=0.0)) * random.random(shared.price.shape)
    price = relaxation.limit_price + relaxation.agreement_price
    guess = -np.maximum(price, 0.0) * (1.0 + _GUESS_SPREAD * random.standard_normal(price.shape))
    power, dual = np.zeros(site.presence.shape), np.zeros(price.shape)
    pivots = _solve(shared._replace(price=shared.price + nudge), guess, power, dual)
    return power if pivots >= 0 else None


def is_shared_problem(site: Site) -> bool:
    """Whether sessions only charge, share only upper limits, and pay the import price for every kWh."""
    sessions, options, limits = site.problem.sessions, site.options, site.limits
    changes = options.change_cost_per_kwh > 0.0 and options.previous_power_kw.size > 0
    return not (
        site.max_discharge_kw.any()
        or site.minimum_kwh.any()
        or limits.relief_kw.any()
        or changes
        or site.problem.tariff.peak_price_per_kw > 0.0
        or (site.fixed_kw + site.given_kw.sum(axis=0)).min() < 0.0
        or np.isfinite(sessions.max_ramp_kw_per_step).any()
    )


def shortfall_penalty(site: Site) -> float:
    """Price of a kWh of shortfall that ranks before cost, where no price is asked."""
    return PENALTY * max(float(np.abs(site.import_rate).max(initial=0.0)), 1e-3)


def shared_constant(site: Site) -> float:
    """What the objective of a shared problem leaves out: the cost of uncontrolled steps."""
    base = float(site.import_rate @ (site.fixed_kw + site.given_kw.sum(axis=0))) * site.step_h
    return base - fixed_load_objective(site)


def shared_problem(site: Site) -> SharedProblem:
    """The site as the simplex of sessions reads it; shortfall without a price gets the penalty."""
    sessions, limits = site.problem.sessions, site.limits
    kwh_per_kw = sessions.charge_efficiency * site.step_h
    given = site.given_kw.sum(axis=1)
    wanted = np.maximum(site.need_kwh / kwh_per_kw - given, 0.0)
    present = site.presence > 0.0
    some = present.any(axis=1)
    price = np.where(
        np.isnan(site.shortfall_price_per_kwh),
        shortfall_penalty(site) * sessions.shortfall_weight,
        site.shortfall_price_per_kwh,
    )
    return SharedProblem(
        price=site.import_rate * site.step_h,
        high=site.presence * site.max_charge_kw[:, None],
        first=np.where(some, present.argmax(axis=1), 0),
        last=np.where(some, site.step_count - present[:, ::-1].argmax(axis=1), 0),
        wanted=wanted,
        most=np.maximum(site.ceiling_kwh / kwh_per_kw - given, wanted),
        short_price=price * kwh_per_kw,
        value=site.value_per_kwh * kwh_per_kw,
        presence=site.presence,
        upper=np.minimum(limits.upper_kw, limits.agreement_kw),
        session_start=limits.session_start,
        group=limits.group,
        weight=limits.weight,
    )


def _solve_from_sample(shared: SharedProblem, power: FloatArray, dual: FloatArray) -> int:
    """Solve; the prices of a sample of the sessions tell a large problem where its limits bind."""
    n = len(shared.wanted)
    if n >= SAMPLE_FROM:
        some = np.arange(0, n, _SAMPLE_EVERY)
        width = np.diff(shared.session_start)
        entries = np.flatnonzero(np.repeat(np.isin(np.arange(n), some), width))
        session = np.repeat(np.arange(n), width)
        groups = len(shared.upper)
        load = np.bincount(shared.group, weights=shared.wanted[session], minlength=groups)
        part = np.bincount(shared.group[entries], weights=shared.wanted[session[entries]], minlength=groups)
        share = np.divide(part, load, out=np.ones(groups), where=load > 0.0)
        with np.errstate(invalid="ignore"):
            upper = np.where(np.isfinite(shared.upper), shared.upper * share[:, None], np.inf)
        sample = shared._replace(
            high=shared.high[some], first=shared.first[some], last=shared.last[some], wanted=shared.wanted[some],
            most=shared.most[some], short_price=shared.short_price[some], value=shared.value[some],
            presence=shared.presence[some], upper=upper, group=shared.group[entries], weight=shared.weight[entries],
            session_start=np.concatenate([[0], np.cumsum(width[some])]),
        )  # fmt: skip
        _solve_from_sample(sample, np.zeros(sample.high.shape), dual)
    return _solve(shared, dual, power, dual)


def _solve(shared: SharedProblem, guess: FloatArray, power: FloatArray, dual: FloatArray) -> int:
    """Pivots of the simplex of sessions, -1 where it gave up."""
    return int(solve_shared(shared, guess, power, dual))


def net_power_kw(site: Site, model: SiteProgram, x: FloatArray) -> FloatArray:
    """Net mean power of a point, (n, T).

    Where the relaxation charges and discharges at once, what is left is the power that fills the battery as much.
    """
    padded = np.append(x, 0.0)
    charge, discharge = padded[model.charge], padded[model.discharge]
    both = (charge > 0.0) & (discharge > 0.0)
    if not both.any():
        return charge - discharge
    eta_c = site.problem.sessions.charge_efficiency[:, None]
    eta_d = site.problem.sessions.discharge_efficiency[:, None]
    stored = charge * eta_c - discharge / eta_d
    return np.where(both, np.where(stored > 0.0, stored / eta_c, stored * eta_d), charge - discharge)


def _marginal_prices(model: SiteProgram, row_dual: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Marginal cost of a kW of charging with and without the limits' prices, (n, T) each.

    Both are the column's cost less what its entries in shared rows are worth; rows of the session itself do not count.
    """
    matrix = model.program.matrix
    dual = row_dual[: matrix.shape[0]]
    limited = np.zeros(matrix.shape[0])
    for rows in (model.limit_row, model.agreement_row):
        used = rows[rows >= 0]
        limited[used] = dual[used]
    root = np.zeros(matrix.shape[0])
    root[model.root_rows] = dual[model.root_rows]
    free = model.program.cost - matrix.T @ root
    priced = free - matrix.T @ limited
    return np.append(priced, 0.0)[model.charge], np.append(free, 0.0)[model.charge]


@dataclass(frozen=True, slots=True)
class RankedSolution:
    """Answer of :func:`solve_ranked`.

    Attributes:
        solution: The last solve, whose objective is cost; its bound is minus infinity where time stopped it.
        levels: Least value of each level, as far as it is proven; each counts for points that meet those before it.
        level_price: Price of each level.
        wish_dual: Duals of the rows in the solves of levels that stayed open, in kWh for each unit of a row. (rows,).
        priced_dual: Duals of the rows in the objective when each level that stayed open has its price besides. (rows,).
    """

    solution: ProgramSolution
    levels: dict[str, float]
    level_price: dict[str, float]
    wish_dual: FloatArray
    priced_dual: FloatArray


def solve_ranked(model: SiteProgram, budget: Budget, *, precise: bool = False) -> RankedSolution | None:
    """Minimise the levels of a linear program in their order, then cost; None when no point was found in time.

    Args:
        model: The program.
        budget: Time and cancellation.
        precise: Whether rows are kept to the finest tolerance.
    """
    program = model.program
    solver = Solver(program, budget, precise=precise)
    rows = program.matrix.shape[0]
    # Rows that couple a session's steps slow interior point down more than simplex (measured: twice as slow).
    coupled = (model.ramp_row >= 0).any() or (model.discharge >= 0).any()
    small = len(program.cost) < _INTERIOR_POINT_COLUMNS
    method = LpMethod.SIMPLEX if small or coupled else LpMethod.INTERIOR_POINT
    names = [level.name for level in model.levels]
    penalty = PENALTY * max(float(np.abs(program.cost).max(initial=0.0)), 1e-3)
    penalised = program.cost.copy()
    for level in model.levels:
        penalised[level.columns] += penalty * level.weights
    solver.set_cost(penalised)
    solution = solver.solve(method)
    if not model.levels or (solution.optimal and all(_value(level, solution.x) <= 1e-9 for level in model.levels)):
        prices = dict.fromkeys(names, penalty)
        none = np.zeros(rows)
        return RankedSolution(solution, {}, prices, none, solution.row_dual) if solution.has_point else None

    levels: dict[str, float] = {}
    duals: dict[str, FloatArray] = {}
    last = solution if solution.has_point else None
    for level in model.levels:
        cost = np.zeros_like(program.cost)
        cost[level.columns] = level.weights
        solver.set_cost(cost)
        solution = solver.solve(method)
        if not solution.optimal:
            break
        last = solution
        value = max(0.0, _value(level, solution.x))
        levels[level.name] = value
        if value > 1e-7:
            duals[level.name] = solution.row_dual[:rows]
        solver.add_row(level.columns, level.weights, -INFINITY, value + 1e-9 * max(1.0, value))
    else:
        solver.set_cost(program.cost)
        solution = solver.solve(method)
        if solution.optimal:
            own = solution.row_dual[rows:]
            prices = {name: max(0.0, -float(own[k])) for k, name in enumerate(names)}
            wish = sum(duals.values(), np.zeros(rows))
            priced = solution.row_dual[:rows] + sum(prices[name] * dual for name, dual in duals.items())
            return RankedSolution(solution, levels, prices, wish, priced)
    if last is None:
        return None
    last = replace(last, bound=-np.inf, optimal=False, row_dual=np.zeros(rows))
    none = np.zeros(rows)
    return RankedSolution(last, levels, dict.fromkeys(names, 0.0), none, none)


def _value(level: Level, x: FloatArray) -> float:
    return float(level.weights @ x[level.columns])
