"""Whether a fleet could answer a call of reserve from its plan: a linear program over its whole freedom."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

import numpy as np

from evflex.engine.dispatch.model import DispatchProblem
from evflex.engine.dispatch.plan import FleetPlan
from tests.engine.dispatch.reference.case import Assets, Case, FloatArray, IntArray
from tests.engine.dispatch.reference.program import Program


class Direction(Enum):
    """Which way a call goes; the value is the sign of the fleet's power."""

    UP = -1.0
    DOWN = 1.0


def missing_kw(
    problem: DispatchProblem,
    plan: FleetPlan,
    direction: Direction,
    start_step: int,
    step_count: int,
    amount_kw: float,
    *,
    time_limit_s: float = 60.0,
) -> float:
    """The part of a call that the fleet cannot deliver in some step of it; 0 where it can in full.

    Powers before the call are the plan's. During it the fleet draws ``amount_kw`` less (up) or more (down) than
    planned; afterwards it is free. Each asset keeps its own limits, and lacks no more at its departure than in the
    plan; one that leaves after the grid has until then to catch up. The minimum of EVs and shared limits play no part.

    Args:
        problem: What was planned; its reserves are not looked at.
        plan: From where the fleet is called.
        direction: Upward is less consumption.
        start_step: First step of the call.
        step_count: Steps of the call; those beyond the grid are not looked at.
        amount_kw: Power of the call.
        time_limit_s: For the solve.
    """
    case = Case(replace(problem, reserves=()))
    assets = case.all_assets()
    planned = plan.setpoints.power_kw(np.arange(case.count))
    state = assets.state_kwh(planned, case.dt)
    before = state[:, start_step - 1] if start_step else np.zeros(case.count)
    program = Program()
    charge = _columns(program, assets.charge_most_kw, start_step)
    discharge = _columns(program, assets.discharge_most_kw, start_step)
    _never_both_in_full(program, assets, charge, discharge)
    _states(program, case, assets, state, before, charge, discharge, start_step)
    missing = program.columns(1, cost=1.0)
    called = range(start_step, min(start_step + step_count, case.steps))
    for k in called:
        wanted = planned[:, k].sum() + direction.value * amount_kw - assets.base_kw[:, k].sum()
        row = program.rows(
            1,
            lower=wanted if direction is Direction.DOWN else -np.inf,
            upper=wanted if direction is Direction.UP else np.inf,
        )
        for columns, sign in ((charge[:, k], 1.0), (discharge[:, k], -1.0)):
            some = columns[columns >= 0]
            program.put(np.repeat(row, len(some)), some, sign)
        program.put(row, missing, direction.value)
    return max(0.0, program.solve(time_limit_s).objective)


def _columns(program: Program, most_kw: FloatArray, start_step: int) -> IntArray:
    columns = np.full(most_kw.shape, -1)
    some = most_kw > 0.0
    some[:, :start_step] = False
    columns[some] = program.columns(int(some.sum()), upper=most_kw[some])
    return columns


def _never_both_in_full(program: Program, assets: Assets, charge: IntArray, discharge: IntArray) -> None:
    """Shares of charging and discharging add up to 1 at most, so that little energy is burned."""
    at = np.nonzero((charge >= 0) & (discharge >= 0))
    rows = program.rows(len(at[0]), upper=1.0)
    program.put(rows, charge[at], 1.0 / assets.charge_most_kw[at])
    program.put(rows, discharge[at], 1.0 / assets.discharge_most_kw[at])


def _states(
    program: Program,
    case: Case,
    assets: Assets,
    planned_kwh: FloatArray,
    before_kwh: FloatArray,
    charge: IntArray,
    discharge: IntArray,
    start_step: int,
) -> None:
    """State from the call on, within its bounds (or the plan's, where rounding left them), and enough at the end."""
    kept = np.flatnonzero(assets.has_state)
    low = np.minimum(assets.state_low_kwh, planned_kwh.min(axis=1))[kept]
    high = np.maximum(assets.state_high_kwh, planned_kwh.max(axis=1))[kept]
    enough = np.minimum(assets.needed_kwh, planned_kwh[:, -1]) - _caught_up_later_kwh(case, assets)
    last_state = before_kwh[kept]
    previous: IntArray | None = None
    for k in range(start_step, case.steps):
        is_last = k == case.steps - 1
        state = program.columns(len(kept), lower=np.maximum(low, enough[kept]) if is_last else low, upper=high)
        constant = last_state if previous is None else np.zeros(len(kept))
        rows = program.rows(len(kept), lower=constant, upper=constant)
        program.put(rows, state, 1.0)
        if previous is not None:
            program.put(rows, previous, -1.0)
        for columns, gain in (
            (charge[kept, k], assets.charge_efficiency[kept] * case.dt),
            (discharge[kept, k], -case.dt / assets.discharge_efficiency[kept]),
        ):
            some = columns >= 0
            program.put(rows[some], columns[some], -gain[some])
        previous = state


def _caught_up_later_kwh(case: Case, assets: Assets) -> FloatArray:
    """What an asset can charge after the grid and before it leaves."""
    fleet = case.problem.fleet
    end = case.start + case.step_s * case.steps
    begin = np.maximum(fleet.available_from_unix_s, end)
    hours = np.maximum(fleet.available_until_unix_s - begin, 0.0) / 3600.0
    return np.asarray(hours * fleet.max_charge_kw * assets.charge_efficiency)
