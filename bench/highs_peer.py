"""The peer: the same site written by hand for HiGHS, as a linear program and with binaries."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from scipy import sparse

from bench.instances import VOLTAGE_KV, FloatArray, IntArray, Site

INFINITY = highspy.kHighsInf
Options = Mapping[str, str | int | float]

# Every way to run HiGHS on a linear program that this benchmark tries; the fastest is the peer.
LP_MODES: dict[str, Options] = {
    "default": {},
    "dual simplex": {"solver": "simplex", "simplex_strategy": 1},
    "dual simplex, no presolve": {"solver": "simplex", "simplex_strategy": 1, "presolve": "off"},
    "primal simplex, no presolve": {"solver": "simplex", "simplex_strategy": 4, "presolve": "off"},
    "interior point + crossover": {"solver": "ipx"},
    "interior point": {"solver": "ipx", "run_crossover": "off"},
    "interior point, no presolve": {"solver": "ipx", "run_crossover": "off", "presolve": "off"},
}
SUBSTITUTED = ", shortfall substituted"


@dataclass(frozen=True, slots=True)
class Program:
    """Arrays of a HiGHS model, built before any clock runs.

    Attributes:
        lp: The model; its objective is the plan's cost.
        integer: Whether any column must be whole.
    """

    lp: highspy.HighsLp
    integer: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What HiGHS says.

    Attributes:
        objective: Of its plan, infinite where it has none.
        bound: Proven.
        gap: As a share of the objective, infinite where there is no plan.
        optimal: Whether it finished.
        seconds: Of passing the model and solving.
    """

    objective: float
    bound: float
    gap: float
    optimal: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class _Cells:
    """Session and step of each power column, in the order of sessions."""

    session: IntArray
    step: IntArray

    @classmethod
    def of(cls, site: Site) -> _Cells:
        stay = site.depart - site.arrive
        session = np.repeat(np.arange(site.count), stay)
        first = np.repeat(np.cumsum(stay) - stay, stay)
        return cls(session, np.arange(len(session)) - first + site.arrive[session])


def linear_program(site: Site, *, explicit_shortfall: bool = True) -> Program:
    """Least cost without a minimum, by power of each session in each step.

    Args:
        site: The site.
        explicit_shortfall: Shortfall has columns of its own; otherwise it is substituted.
    """
    cells = _Cells.of(site)
    gain = site.efficiency * site.step_h
    cost = site.price_per_kwh[cells.step] * site.step_h
    n, columns = site.count, len(cells.session)
    energy = sparse.csc_array((np.full(columns, gain), (cells.session, np.arange(columns))), shape=(n, columns))
    limit = _by_step(site, cells)
    upper = np.append(site.energy_kwh, site.limit_kw)
    lower = np.full(len(upper), -INFINITY)
    if not explicit_shortfall:
        matrix = sparse.vstack([energy, limit], format="csc")
        lp = _model(cost - site.shortfall_price * gain, site.max_kw[cells.session], matrix, lower, upper)
        lp.offset_ = site.shortfall_price * float(site.energy_kwh.sum())
        return Program(lp, False)
    short = sparse.csc_array(sparse.eye_array(n))
    matrix = sparse.block_array([[energy, short], [limit, None]], format="csc")
    lower[:n] = site.energy_kwh
    cost = np.append(cost, np.full(n, site.shortfall_price))
    column_upper = np.append(site.max_kw[cells.session], np.full(n, INFINITY))
    return Program(_model(cost, column_upper, matrix, lower, upper), False)


def mixed_program(
    site: Site, *, start_cost: float = 0.0, quantum_a: float = 0.0, semi_continuous: bool = False
) -> Program:
    """Least cost with the minimum, shortfall substituted, which HiGHS solves several times faster than with columns.

    Columns are powers and binaries that say whether a session charges in a step, then starts (where they cost) and
    counts of quanta (where there are any). A start costs where a session charges and did not in the step before.

    Args:
        site: The site.
        start_cost: Of each start.
        quantum_a: Step of the current; 0 is any current.
        semi_continuous: Leave the binaries to HiGHS; only without starts and quanta.
    """
    cells = _Cells.of(site)
    count, n = len(cells.session), site.count
    gain = site.efficiency * site.step_h
    none = sparse.csc_array((count, count))
    each = sparse.csc_array(sparse.eye_array(count))
    energy = sparse.csc_array((np.full(count, gain), (cells.session, np.arange(count))), shape=(n, count))
    smallest, largest = site.min_kw[cells.session], site.max_kw[cells.session]
    free, zero = np.full(count, INFINITY), np.zeros(count)
    cost = [(site.price_per_kwh[cells.step] - site.shortfall_price * site.efficiency) * site.step_h]
    lower = [np.full(n + site.steps, -INFINITY)]
    upper = [site.energy_kwh, site.limit_kw]
    if semi_continuous:
        matrix = sparse.vstack([energy, _by_step(site, cells)], format="csc")
        lp = _model(cost[0], largest, matrix, lower[0], np.concatenate(upper))
        lp.col_lower_ = smallest
        return _integers(site, lp, [highspy.HighsVarType.kSemiContinuous] * count)
    # columns of each block of rows: power, on, start, quanta
    rows = [
        [energy, sparse.csc_array((n, count))],
        [_by_step(site, cells), sparse.csc_array((site.steps, count))],
        [each, _diagonal(-smallest)],
        [each, _diagonal(-largest)],
    ]
    cost.append(zero)
    lower += [zero, -free]
    upper += [free, zero]
    column_upper = [largest, np.ones(count)]
    whole = [False, True]
    if start_cost > 0.0:
        rows = [[*row, sparse.csc_array((row[0].shape[0], count))] for row in rows]
        rows.append([none, _step_before(cells) - each, each])
        cost.append(np.full(count, start_cost))
        lower.append(zero)
        upper.append(free)
        column_upper.append(np.ones(count))
        whole.append(False)
    if quantum_a > 0.0:
        quantum_kw = quantum_a * VOLTAGE_KV * site.phases[cells.session].astype(np.float64)
        rows = [[*row, sparse.csc_array((row[0].shape[0], count))] for row in rows]
        rows.append([each, *[none] * (len(whole) - 1), _diagonal(-quantum_kw)])
        cost.append(zero)
        lower.append(zero)
        upper.append(zero)
        column_upper.append(np.floor(largest / quantum_kw + 1e-9))
        whole.append(True)
    matrix = sparse.vstack([sparse.hstack(row, format="csr") for row in rows], format="csc")
    lp = _model(
        np.concatenate(cost), np.concatenate(column_upper), matrix, np.concatenate(lower), np.concatenate(upper)
    )
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    return _integers(site, lp, [kinds[is_whole] for is_whole in whole for _ in range(count)])


def solver(options: Options | None = None) -> highspy.Highs:
    """HiGHS on one thread, silent."""
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    for name, value in {"threads": 1, "random_seed": 0, **(options or {})}.items():
        highs.setOptionValue(name, value)
    return highs


def solve(program: Program, options: Options | None = None, time_limit_s: float = 60.0) -> Answer:
    """Pass a model and run it; the clock starts at the passing."""
    highs = solver(options)
    highs.setOptionValue("time_limit", time_limit_s)
    started = time.perf_counter()
    highs.passModel(program.lp)
    highs.run()
    seconds = time.perf_counter() - started
    info = highs.getInfo()
    optimal = highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    has_plan = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    objective = info.objective_function_value if has_plan else np.inf
    bound = info.mip_dual_bound if program.integer else (objective if optimal else -np.inf)
    gap = (objective - bound) / max(abs(objective), 1e-9) if has_plan else np.inf
    return Answer(float(objective), float(bound), float(gap), optimal, seconds)


def fastest_lp(site: Site, time_limit_s: float = 60.0) -> tuple[str, Program, dict[str, float]]:
    """HiGHS' fastest way to the optimum of the site's linear program: both ways to write it, all modes.

    Returns:
        Name of the mode, the program as it is fastest, and the seconds of every mode that ended (best of two runs).
    """
    seconds: dict[str, float] = {}
    chosen: dict[str, Program] = {}
    for form, explicit in (("", True), (SUBSTITUTED, False)):
        program = linear_program(site, explicit_shortfall=explicit)
        for mode, options in LP_MODES.items():
            # a mode that takes twice as long as the best is not the fastest
            limit_s = min([time_limit_s, *(2.0 * taken + 0.01 for taken in seconds.values())])
            answers = [solve(program, options, limit_s) for _ in range(2)]
            if all(answer.optimal for answer in answers):
                seconds[mode + form] = min(answer.seconds for answer in answers)
                chosen[mode + form] = program
    if not seconds:
        raise RuntimeError(f"HiGHS solved the linear program in no mode within {time_limit_s:g} s")
    name = min(seconds, key=seconds.__getitem__)
    return name, chosen[name], seconds


def mode_options(name: str) -> Options:
    """Options of a mode as :func:`fastest_lp` names it."""
    return LP_MODES[name.removesuffix(SUBSTITUTED)]


def _integers(site: Site, lp: highspy.HighsLp, kinds: Sequence[highspy.HighsVarType]) -> Program:
    lp.offset_ = site.shortfall_price * float(site.energy_kwh.sum())
    lp.integrality_ = list(kinds)
    return Program(lp, True)


def _step_before(cells: _Cells) -> sparse.csc_array:
    """Picks the cell of the same session in the step before; an empty row at the beginning of a stay."""
    same = np.flatnonzero(np.r_[False, cells.session[1:] == cells.session[:-1]])
    shape = (len(cells.session),) * 2
    return sparse.csc_array((np.ones(len(same)), (same, same - 1)), shape=shape)


def _diagonal(values: FloatArray) -> sparse.csc_array:
    return sparse.csc_array(sparse.diags_array(values))


def _by_step(site: Site, cells: _Cells) -> sparse.csc_array:
    columns = len(cells.session)
    return sparse.csc_array((np.ones(columns), (cells.step, np.arange(columns))), shape=(site.steps, columns))


def _model(
    cost: FloatArray, column_upper: FloatArray, matrix: sparse.csc_array, lower: FloatArray, upper: FloatArray
) -> highspy.HighsLp:
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = matrix.shape
    lp.col_cost_ = cost
    lp.col_lower_ = np.zeros(len(cost))
    lp.col_upper_ = column_upper
    lp.row_lower_ = lower
    lp.row_upper_ = upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = matrix.indptr
    lp.a_matrix_.index_ = matrix.indices
    lp.a_matrix_.value_ = matrix.data
    return lp
