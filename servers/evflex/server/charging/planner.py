"""Plans one site: limits, decoding, the solve in the pool, encoding, and storing where asked for."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.rpc import code_pb2

from evflex.charging.v1 import charging_service_pb2, schedule_pb2
from evflex.engine.charging.model import ScheduleOptions, ScheduleProblem
from evflex.engine.charging.schedule import Schedule
from evflex.engine.termination import TerminationReason
from evflex.engine.validation import InvalidProblemError, Rules
from evflex.server.caller import Caller
from evflex.server.calls import Call
from evflex.server.charging import stored
from evflex.server.charging.decode import DecodedRequest, decode_request
from evflex.server.charging.encode import encode_schedule
from evflex.server.charging.limits import check_limits, check_unary_answer
from evflex.server.engine_port import ChargingEngine
from evflex.server.errors import ServiceError, invalid, invalid_problem
from evflex.server.fields import decode_grid
from evflex.server.metrics import Metrics
from evflex.server.pool_run import PoolRun, solve_time_s, time_left_s
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.store.schedules import NewSchedule, ScheduleStore

PREVIOUS_FIELD = "options.previous_schedule_id"


@dataclass(slots=True)
class Planned:
    """A plan, written into the message that will carry it, and the row to store where the request asks for it."""

    schedule: schedule_pb2.Schedule
    new: NewSchedule | None = None

    def replace(self, schedule: schedule_pb2.Schedule) -> None:
        """Carry another schedule."""
        self.schedule.CopyFrom(schedule)
        self.new = None


@dataclass(frozen=True, slots=True)
class ReadSite:
    """A site in the engine's terms, and the message that its schedule goes into."""

    request: charging_service_pb2.OptimizeScheduleRequest
    into: schedule_pb2.Schedule
    problem: ScheduleProblem
    options: ScheduleOptions


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans sites.

    Attributes:
        settings: Limits and deadlines.
        engine: Plans a problem.
        pool: Where solves run.
        store: Where schedules are kept.
        metrics: Counts solves.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: ChargingEngine
    pool: SolvePool
    store: ScheduleStore
    metrics: Metrics
    now_unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def plan_one(
        self, request: charging_service_pb2.OptimizeScheduleRequest, into: schedule_pb2.Schedule, call: Call
    ) -> None:
        """Plan a site for a unary call and write the schedule into `into`, nothing when it was only to be checked.

        Raises:
            ServiceError: The request is refused, no thread is free, or nobody waits any more.
        """
        check_limits(request, self.settings)
        check_unary_answer(call.method, request, self.settings)
        problem, options = self.prepare(
            request, call.caller, solve_time_s(self.settings, call.remaining_s(self.settings.default_deadline_s))
        )
        if request.validate_only:
            return
        if request.store:
            earlier = self.store.find_answer(stored.optimize_key(call.caller.tenant_id, request))
            if earlier is not None:
                into.CopyFrom(stored.whole(earlier))
                return
        deadline_s = time.monotonic() + options.time_limit_s

        def solve(cancel: threading.Event) -> Planned:
            left_s = time_left_s(deadline_s - time.monotonic())
            plan = self._solve(problem, dataclasses.replace(options, time_limit_s=left_s), cancel)
            return self._planned(request, into, problem, plan, call.caller)

        result = PoolRun(self.pool.unary, call, solve, self.settings).result()
        (refusal,) = self.store_plans([result])
        if refusal is not None:
            raise refusal

    def read_site(
        self,
        request: charging_service_pb2.OptimizeScheduleRequest,
        into: schedule_pb2.Schedule,
        caller: Caller,
        remaining_s: float,
    ) -> Planned | ReadSite:
        """Read a site of a stream; what was answered before, or is only to be checked, is planned with that.

        Raises:
            ServiceError: The site is refused.
        """
        check_limits(request, self.settings)
        decoded = decode_request(request, solve_time_s(self.settings, remaining_s))
        problem, options = decoded.problem, decoded.options
        # otherwise the engine alone checks its rules, once
        if decoded.wire.violations or request.validate_only or request.options.previous_schedule_id:
            problem, options = self._checked(request, caller, decoded)
        caller.require_area(request.area_id)
        if request.validate_only:
            return Planned(into)
        if request.store:
            earlier = self.store.find_answer(stored.optimize_key(caller.tenant_id, request))
            if earlier is not None:
                into.CopyFrom(stored.whole(earlier))
                return Planned(into)
        return ReadSite(request, into, problem, options)

    def plan_together(self, sites: Sequence[ReadSite], caller: Caller) -> list[Planned | None]:
        """Plan those of some sites that can be planned at once; None for each to be planned alone."""
        plans = self.engine.optimize_together([site.problem for site in sites], [site.options for site in sites])
        return [
            None if plan is None else self._counted_and_planned(site, plan, caller)
            for site, plan in zip(sites, plans, strict=True)
        ]

    def plan_alone(self, site: ReadSite, caller: Caller, remaining_s: float, cancel: threading.Event) -> Planned:
        """Plan a site of a stream, in a thread of the pool; what is to be stored is handed back.

        Raises:
            ServiceError: This site has no schedule.
        """
        # others may have been planned since the site was read
        time_limit_s = min(site.options.time_limit_s, solve_time_s(self.settings, remaining_s))
        options = dataclasses.replace(site.options, time_limit_s=time_limit_s)
        return self._planned(site.request, site.into, site.problem, self._solve(site.problem, options, cancel), caller)

    def prepare(
        self, request: charging_service_pb2.OptimizeScheduleRequest, caller: Caller, time_limit_s: float
    ) -> tuple[ScheduleProblem, ScheduleOptions]:
        """The request in the engine's terms, every rule checked.

        Raises:
            ServiceError: INVALID_ARGUMENT with every fault.
        """
        checked = self._checked(request, caller, decode_request(request, time_limit_s))
        caller.require_area(request.area_id)
        return checked

    def store_plans(self, plans: Sequence[Planned]) -> list[ServiceError | None]:
        """Store the plans that ask for it in one transaction, and complete their schedules.

        Returns:
            For each plan why it was refused, None when it was not.

        Raises:
            ServiceError: The store failed, and nothing was stored.
        """
        refusals: list[ServiceError | None] = [None] * len(plans)
        asking = [i for i, plan in enumerate(plans) if plan.new is not None]
        rows = self.store.save([new for plan in plans if (new := plan.new) is not None]) if asking else []
        for i, row in zip(asking, rows, strict=True):
            plan = plans[i]
            if isinstance(row, ServiceError):
                refusals[i] = row
            elif plan.new is not None and row.payload is plan.new.payload:
                stored.complete(plan.schedule, row)
            else:  # the same request was answered meanwhile
                plan.replace(stored.whole(row))
        return refusals

    def _checked(
        self, request: charging_service_pb2.OptimizeScheduleRequest, caller: Caller, decoded: DecodedRequest
    ) -> tuple[ScheduleProblem, ScheduleOptions]:
        previous = self._previous(request, caller, decoded.wire)
        violations = decoded.violations()
        if violations:
            raise invalid(violations)
        if previous is None:
            return decoded.problem, decoded.options
        power_kw = self.engine.align_previous(
            decoded.problem.sessions.session_ids,
            decoded.problem.grid,
            tuple(previous.session_ids),
            decode_grid(Rules(), previous.time_grid),
            stored.power_matrix(previous),
        )
        return decoded.problem, dataclasses.replace(decoded.options, previous_power_kw=power_kw)

    def _previous(
        self, request: charging_service_pb2.OptimizeScheduleRequest, caller: Caller, rules: Rules
    ) -> schedule_pb2.Schedule | None:
        schedule_id = request.options.previous_schedule_id
        if not schedule_id:
            return None
        try:
            row = self.store.get(caller.tenant_id, schedule_id)
        except ServiceError as error:
            if error.code != code_pb2.NOT_FOUND:
                raise
            row = None
        if row is None or row.site_id != request.site_id or not caller.may_use_area(row.area_id):
            rules.check(False, PREVIOUS_FIELD, "must name a stored schedule of the same site")
            return None
        return stored.whole(row)

    def _solve(self, problem: ScheduleProblem, options: ScheduleOptions, cancel: threading.Event) -> Schedule:
        try:
            plan = self.engine.optimize_schedule(problem, options, cancel)
        except InvalidProblemError as error:
            raise invalid_problem(error) from error
        self._count(plan)
        return plan

    def _count(self, plan: Schedule) -> None:
        ended = plan.termination
        self.metrics.solved(TerminationReason(ended.reason).name, ended.solve_duration_s, ended.relative_gap)

    def _counted_and_planned(self, site: ReadSite, plan: Schedule, caller: Caller) -> Planned:
        self._count(plan)
        return self._planned(site.request, site.into, site.problem, plan, caller)

    def _planned(
        self,
        request: charging_service_pb2.OptimizeScheduleRequest,
        into: schedule_pb2.Schedule,
        problem: ScheduleProblem,
        plan: Schedule,
        caller: Caller,
    ) -> Planned:
        now_unix_us = self.now_unix_us()
        encode_schedule(into, request, problem, plan, caller.tenant_id, now_unix_us)
        if not request.store:
            return Planned(into)
        return Planned(into, stored.new_row(stored.optimize_key(caller.tenant_id, request), into, now_unix_us))
