"""Turns the engine's plan into messages: whole, or a summary followed by chunks of rows."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.charging.v1 import charging_service_pb2, schedule_pb2
from evflex.common.v1 import termination_pb2
from evflex.engine.charging.model import ScheduleProblem
from evflex.engine.charging.schedule import LimitRows, Schedule, ScheduleFigures
from evflex.engine.termination import Termination

MEBIBYTE = 1 << 20
# A schedule up to the first size travels whole, a larger one in chunks of about the second.
WHOLE_BYTES = MEBIBYTE
CHUNK_BYTES = 768 << 10
_MICROS = 1_000_000
_DOUBLE_BYTES = 8


def encode_schedule(
    request: charging_service_pb2.OptimizeScheduleRequest,
    problem: ScheduleProblem,
    plan: Schedule,
    tenant_id: str,
    create_time_unix_us: int,
) -> schedule_pb2.Schedule:
    """The plan as a message, without what only a stored schedule has."""
    sessions = problem.sessions
    figures = plan.figures
    return schedule_pb2.Schedule(
        site_id=request.site_id,
        time_grid=request.time_grid,
        session_ids=sessions.session_ids,
        evse_ids=sessions.evse_ids,
        power_kw=plan.power_kw.ravel().tolist(),
        current_a=plan.current_a.ravel().tolist() if request.options.return_currents else (),
        root_power_kw=plan.root_power_kw.tolist(),
        uncontrolled=_figures(plan.uncontrolled),
        uncontrolled_root_power_kw=plan.uncontrolled_root_power_kw.tolist(),
        session_results=_session_results(problem, plan),
        binding_limits=[
            schedule_pb2.BindingLimit(
                node_id=node_id, step=step, phase=phase, unit=unit, limit=limit, shadow_price=amount
            )
            for node_id, step, phase, unit, limit, amount in _limit_rows(problem, plan.binding_limits)
        ],
        limit_violations=[
            schedule_pb2.LimitViolation(
                node_id=node_id, step=step, phase=phase, unit=unit, limit=limit, excess=amount
            )
            for node_id, step, phase, unit, limit, amount in _limit_rows(problem, plan.limit_violations)
        ],
        termination=_termination(plan.termination),
        create_time=timestamp(create_time_unix_us),
        valid_until_time=timestamp(round(problem.grid.end_unix_s * _MICROS)),
        currency_code=problem.tariff.currency_code,
        tenant_id=tenant_id,
        area_id=request.area_id,
        energy_cost=figures.energy_cost,
        peak_cost=figures.peak_cost,
        emission_cost=figures.emission_cost,
        discharge_cost=figures.discharge_cost,
        start_cost=figures.start_cost,
        shortfall_cost=figures.shortfall_cost,
        energy_value=figures.energy_value,
        change_cost=figures.change_cost,
        total_cost=figures.total_cost,
        emissions_kg=figures.emissions_kg,
        peak_import_kw=figures.peak_import_kw,
        delivered_kwh=figures.delivered_kwh,
        shortfall_kwh=figures.shortfall_kwh,
    )


def timestamp(unix_us: int) -> Timestamp:
    """A timestamp from microseconds since 1970-01-01 UTC."""
    seconds, micros = divmod(unix_us, _MICROS)
    return Timestamp(seconds=seconds, nanos=1_000 * micros)


def without_rows(schedule: schedule_pb2.Schedule) -> schedule_pb2.Schedule:
    """A copy without rows: what stands before chunks."""
    head = schedule_pb2.Schedule()
    head.CopyFrom(schedule)
    for name in ("session_ids", "evse_ids", "power_kw", "current_a", "session_results"):
        head.ClearField(name)
    return head


def without_arrays(schedule: schedule_pb2.Schedule) -> schedule_pb2.Schedule:
    """A copy without rows and arrays per step: what a list shows."""
    head = without_rows(schedule)
    for name in ("root_power_kw", "uncontrolled_root_power_kw", "binding_limits", "limit_violations"):
        head.ClearField(name)
    return head


def chunked(
    schedule: schedule_pb2.Schedule,
) -> Iterator[charging_service_pb2.ScheduleSummary | charging_service_pb2.ScheduleChunk]:
    """The parts in which a schedule is streamed: whole, or its summary and then chunks of whole rows."""
    rows = len(schedule.session_ids)
    size_bytes = schedule.ByteSize()
    if size_bytes <= WHOLE_BYTES or rows == 0:
        yield charging_service_pb2.ScheduleSummary(schedule=schedule)
        return
    columns = len(schedule.power_kw) // rows
    row_bytes = -(-size_bytes // rows)
    rows_per_chunk = max(1, CHUNK_BYTES // row_bytes)
    starts = range(0, rows, rows_per_chunk)
    yield charging_service_pb2.ScheduleSummary(schedule=without_rows(schedule), chunk_count=len(starts))
    for index, first in enumerate(starts):
        last = min(rows, first + rows_per_chunk)
        cells = slice(first * columns, last * columns)
        yield charging_service_pb2.ScheduleChunk(
            chunk_index=index,
            session_ids=schedule.session_ids[first:last],
            evse_ids=schedule.evse_ids[first:last],
            power_kw=schedule.power_kw[cells],
            current_a=schedule.current_a[cells],
            session_results=schedule.session_results[first:last],
        )


def answer_bytes_at_least(session_count: int, step_count: int, *, with_currents: bool) -> int:
    """Lower bound on the size of a schedule, known before it is planned."""
    matrices = 2 if with_currents else 1
    return _DOUBLE_BYTES * step_count * (session_count * matrices + 2)


def _figures(figures: ScheduleFigures) -> schedule_pb2.ScheduleFigures:
    return schedule_pb2.ScheduleFigures(
        energy_cost=figures.energy_cost,
        peak_cost=figures.peak_cost,
        emission_cost=figures.emission_cost,
        discharge_cost=figures.discharge_cost,
        start_cost=figures.start_cost,
        shortfall_cost=figures.shortfall_cost,
        energy_value=figures.energy_value,
        change_cost=figures.change_cost,
        total_cost=figures.total_cost,
        emissions_kg=figures.emissions_kg,
        peak_import_kw=figures.peak_import_kw,
        delivered_kwh=figures.delivered_kwh,
        shortfall_kwh=figures.shortfall_kwh,
    )


def _session_results(problem: ScheduleProblem, plan: Schedule) -> list[schedule_pb2.SessionResult]:
    outcome = plan.sessions
    node_ids = (*problem.nodes.node_ids, "")  # index -1: no node
    columns = zip(
        problem.sessions.session_ids,
        outcome.delivered_kwh.tolist(),
        outcome.shortfall_kwh.tolist(),
        outcome.cost.tolist(),
        outcome.emissions_kg.tolist(),
        outcome.self_supplied_kwh.tolist(),
        outcome.starts.tolist(),
        outcome.limiting_node_index.tolist(),
        strict=True,
    )
    return [
        schedule_pb2.SessionResult(
            session_id=session_id,
            delivered_kwh=delivered_kwh,
            shortfall_kwh=shortfall_kwh,
            cost=cost,
            emissions_kg=emissions_kg,
            self_supplied_kwh=self_supplied_kwh,
            starts=starts,
            limiting_node_id=node_ids[node],
        )
        for session_id, delivered_kwh, shortfall_kwh, cost, emissions_kg, self_supplied_kwh, starts, node in columns
    ]


def _limit_rows(
    problem: ScheduleProblem, rows: LimitRows
) -> Iterator[tuple[str, int, int, int, float, float]]:
    node_ids = problem.nodes.node_ids
    return zip(
        [node_ids[i] for i in rows.node_index.tolist()],
        rows.step.tolist(),
        rows.phase.tolist(),
        rows.unit.tolist(),
        rows.limit.tolist(),
        rows.amount.tolist(),
        strict=True,
    )


def _termination(termination: Termination) -> termination_pb2.Termination:
    duration = Duration()
    duration.FromNanoseconds(round(termination.solve_duration_s * 1e9))
    return termination_pb2.Termination(
        reason=termination.reason,
        stopped_by=termination.stopped_by,
        objective=termination.objective,
        objective_bound=termination.objective_bound,
        absolute_gap=termination.absolute_gap,
        relative_gap=termination.relative_gap,
        solve_duration=duration,
        method=termination.method,
        detail=termination.detail,
    )
