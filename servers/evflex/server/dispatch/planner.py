"""Plans portfolios: the request, a snapshot, the solve in the pool, storing, and the stream of what came out."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from google.rpc import code_pb2

from evflex.activation.v1.commitment_pb2 import Commitment
from evflex.dispatch.v1 import dispatch_service_pb2, plan_pb2
from evflex.engine.align import mean_power
from evflex.engine.dispatch.model import DispatchProblem, PlanOptions, Profiles
from evflex.engine.dispatch.plan import PlanProgress
from evflex.engine.termination import TerminationReason
from evflex.engine.timegrid import TimeGrid
from evflex.engine.validation import InvalidProblemError, Rules
from evflex.server.caller import Caller
from evflex.server.calls import Call
from evflex.server.dispatch import shown
from evflex.server.dispatch.commitment_reserve import named_commitments
from evflex.server.dispatch.decode_plan import check_plan_request, decode_plan
from evflex.server.dispatch.encode_plan import encode_plan, new_plan, progress_message
from evflex.server.dispatch.plan_chunks import PlanChunks
from evflex.server.dispatch.portfolio import PortfolioNames
from evflex.server.dispatch.products import Products
from evflex.server.dispatch.profiles import ProfileRows
from evflex.server.dispatch.residents import Resident, Residents
from evflex.server.dispatch.sold_commitments import SoldCommitments
from evflex.server.dispatch.stored_plan import PlanPowers, power_blocks, read_powers
from evflex.server.engine_port import DispatchEngine
from evflex.server.errors import ServiceError, invalid, invalid_problem, limit_exceeded, not_found
from evflex.server.fields import refuse
from evflex.server.metrics import Metrics
from evflex.server.pool_run import PoolRun, solve_time_s, time_left_s
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.store.plans import PlanRow, PlanStore
from evflex.server.store.requests import RequestKey, request_key

_Request = dispatch_service_pb2.PlanPortfolioRequest
_Response = dispatch_service_pb2.PlanPortfolioResponse
_PROGRESS_INTERVAL_S = 0.3
# The powers of all assets are streamed and stored at this rate at least; so much of a deadline is kept back for them.
_ANSWER_CELLS_PER_S = 5e7
_LARGEST_ANSWER_RATIO = 0.3


@dataclass(frozen=True, slots=True)
class _Solved:
    """A plan that was just made."""

    names: PortfolioNames
    message: plan_pb2.Plan
    powers: PlanPowers


class _Newest:
    """The newest progress, handed from the solver's thread to the RPC's."""

    def __init__(self) -> None:
        self._progress: PlanProgress | None = None
        self._lock = threading.Lock()

    def put(self, progress: PlanProgress) -> None:
        with self._lock:
            self._progress = progress

    def take(self) -> PlanProgress | None:
        with self._lock:
            progress, self._progress = self._progress, None
            return progress


@dataclass(frozen=True, slots=True)
class PortfolioPlanner:
    """Plans portfolios.

    Attributes:
        settings: Limits and deadlines.
        engine: Plans a problem.
        pool: Where solves run.
        residents: Portfolios.
        store: Where plans are kept.
        products: What reserves refer to.
        commitments: Finds what was sold.
        metrics: Counts solves.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: DispatchEngine
    pool: SolvePool
    residents: Residents
    store: PlanStore
    products: Products
    commitments: SoldCommitments
    metrics: Metrics
    now_unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def plan(self, request: _Request, call: Call) -> Iterator[bytes]:
        """Plan a portfolio; the messages of the answer, serialized.

        Raises:
            ServiceError: The request is refused, no thread is free, or nobody waits any more.
        """
        rules = Rules()
        check_plan_request(request, rules)
        refuse(rules)
        key = request_key(call.caller.tenant_id, "PlanPortfolio", request.request_id, request)
        if not request.validate_only:
            earlier = self.store.find_answer(key)
            if earlier is not None:
                yield from self._stored_answer(earlier, request.options.return_setpoints)
                return
        problem, options = self._checked(request, call)
        if request.validate_only:
            yield _Response(summary=plan_pb2.PlanSummary(plan=plan_pb2.Plan())).SerializeToString()
            return
        deadline_s = time.monotonic() + options.time_limit_s
        newest = _Newest()

        def solve(cancel: threading.Event) -> _Solved:
            left_s = time_left_s(deadline_s - time.monotonic())
            return self._solve(request, call.caller, problem, options.with_time_limit(left_s), cancel, newest.put)

        run = PoolRun(self.pool.unary, call, solve, self.settings)
        while not run.wait(_PROGRESS_INTERVAL_S):
            yield from _progress(newest)
        solved = run.result()
        yield from _progress(newest)
        yield from self._store(key, solved, request.options.return_setpoints)

    def _checked(self, request: _Request, call: Call) -> tuple[DispatchProblem, PlanOptions]:
        """The problem without its fleet, every rule checked."""
        with self.residents.opened(call.caller.tenant_id, request.portfolio_id) as resident:
            _check_version(request, resident, call.caller)
            names, assets = resident.portfolio.names, resident.portfolio.asset_count
        _check_sizes(request, names, self.settings)
        remaining_s = call.remaining_s(self.settings.stream_default_deadline_s)
        cells = assets * max(0, request.time_grid.step_count) * (2 if request.options.return_setpoints else 1)
        answer_s = min(cells / _ANSWER_CELLS_PER_S, _LARGEST_ANSWER_RATIO * remaining_s)
        time_limit_s = solve_time_s(self.settings, remaining_s - answer_s)
        decoded = decode_plan(request, names, self.products, self._sold(request, call.caller), time_limit_s)
        violations = decoded.violations()
        if violations:
            raise invalid(violations)
        return decoded.problem, decoded.options

    def _sold(self, request: _Request, caller: Caller) -> Mapping[str, Commitment]:
        """Commitments that reserves name and the caller may see."""
        ids = named_commitments(request.reserves)
        found = self.commitments.find(caller.tenant_id, ids) if ids else {}
        return {key: commitment for key, commitment in found.items() if caller.may_use_area(commitment.area_id)}

    def _solve(
        self,
        request: _Request,
        caller: Caller,
        problem: DispatchProblem,
        options: PlanOptions,
        cancel: threading.Event,
        on_progress: Callable[[PlanProgress], None],
    ) -> _Solved:
        # only now, because a snapshot of a million assets is large, and many requests may wait
        with self.residents.opened(caller.tenant_id, request.portfolio_id) as resident:
            _check_version(request, resident, caller)
            snapshot = resident.portfolio.snapshot()
        whole = dataclasses.replace(
            problem,
            fleet=snapshot.fleet,
            profiles=aligned_profiles(problem.grid, snapshot.profiles),
            group_count=len(snapshot.names.groups),
            operator_count=len(snapshot.names.operators),
        )
        try:
            plan = self.engine.plan_portfolio(whole, options, cancel, on_progress)
        except InvalidProblemError as error:
            raise invalid_problem(error) from error
        ended = plan.termination
        self.metrics.solved(TerminationReason(ended.reason).name, ended.solve_duration_s, ended.relative_gap)
        message = encode_plan(request, snapshot.names, snapshot.version, whole, plan)
        return _Solved(snapshot.names, message, PlanPowers(snapshot.ids, plan.setpoints, problem.grid.step_count))

    def _store(self, key: RequestKey, solved: _Solved, return_setpoints: bool) -> Iterator[bytes]:
        new = new_plan(key, solved.names, solved.message, self.now_unix_us())
        row, is_own = self.store.save(new, power_blocks(solved.powers))
        if is_own:
            yield from _answer(row, solved.powers.chunks() if return_setpoints else None)
        else:  # the same request was answered meanwhile
            yield from self._stored_answer(row, return_setpoints)

    def _stored_answer(self, row: PlanRow, return_setpoints: bool) -> Iterator[bytes]:
        yield from _answer(row, self.powers(row).chunks() if return_setpoints else None)

    def powers(self, row: PlanRow) -> PlanPowers:
        """Powers of a stored plan."""
        return read_powers(self.store, self.engine, row.plan_id, shown.plan(row).time_grid.step_count)


def aligned_profiles(grid: TimeGrid, profiles: tuple[ProfileRows, ...]) -> Profiles:
    """Profiles on the plan's grid, in the order of the fleet."""
    if not profiles:
        return Profiles.none(grid.step_count)
    asset = np.concatenate([rows.asset for rows in profiles])
    power_kw = np.concatenate([mean_power(grid, rows.grid, rows.power_kw) for rows in profiles])
    order = np.argsort(asset)
    return Profiles(asset[order], power_kw[order])


def summary_of(row: PlanRow, chunks: PlanChunks | None) -> plan_pb2.PlanSummary:
    """The summary of a stored plan, before its chunks."""
    return plan_pb2.PlanSummary(plan=shown.plan(row), chunk_count=0 if chunks is None else chunks.count)


def _answer(row: PlanRow, chunks: PlanChunks | None) -> Iterator[bytes]:
    yield _Response(summary=summary_of(row, chunks)).SerializeToString()
    if chunks is not None:
        yield from chunks.messages(_Response.CHUNK_FIELD_NUMBER)


def _progress(newest: _Newest) -> Iterator[bytes]:
    progress = newest.take()
    if progress is not None:
        yield progress_message(progress)


def _check_version(request: _Request, resident: Resident, caller: Caller) -> None:
    if not caller.may_use_area(resident.row.area_id):
        raise not_found("portfolio", request.portfolio_id)
    present = resident.portfolio.version
    if request.HasField("portfolio_version") and request.portfolio_version != present:
        raise ServiceError(
            code_pb2.FAILED_PRECONDITION,
            "PORTFOLIO_VERSION_PASSED",
            f"the portfolio has version {present}, the request asks for version {request.portfolio_version}",
            metadata={"version": str(present), "requested_version": str(request.portfolio_version)},
        )


def _check_sizes(request: _Request, names: PortfolioNames, settings: Settings) -> None:
    """Raise RESOURCE_EXHAUSTED, naming the limit, for a plan that is larger than the settings allow."""
    steps = request.time_grid.step_count
    if steps > settings.max_steps:
        raise limit_exceeded("max_steps", steps, settings.max_steps)
    series = len(names.groups) + len(request.limits) + len(request.reserves)
    # a request without steps is refused later, but not before the ledger was asked for its reserves
    cells = series * max(1, steps)
    if cells > settings.max_plan_series_steps:
        raise limit_exceeded("max_plan_series_steps", cells, settings.max_plan_series_steps)
