"""Rates transformers and shares their capacity: limits, decoding, the solve in the pool, encoding, and storing."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from evflex.capacity.v1 import allocation_pb2
from evflex.engine.capacity.allocation import Allocation
from evflex.engine.capacity.model import AllocationOptions, AllocationProblem
from evflex.engine.termination import TerminationReason
from evflex.engine.validation import InvalidProblemError, Rules
from evflex.server.caller import Caller
from evflex.server.calls import Call
from evflex.server.capacity import stored_rating
from evflex.server.capacity.decode_request import (
    PREVIOUS_FIELD,
    AllocateRequest,
    DecodedAllocation,
    RateRequest,
    decode_allocation,
    decode_rating,
)
from evflex.server.capacity.encode_allocation import encode_allocation
from evflex.server.capacity.encode_rating import TransformerRating, encode_rating
from evflex.server.capacity.hub_terms import AgreementTerms, agreed_terms
from evflex.server.capacity.limits import check_allocation_limits, check_rating_limits
from evflex.server.capacity.notice import with_notice
from evflex.server.capacity.stored_allocation import new_allocation, shown
from evflex.server.engine_port import CapacityEngine
from evflex.server.errors import invalid, invalid_problem
from evflex.server.metrics import Metrics
from evflex.server.pool_run import PoolRun, solve_time_s, time_left_s
from evflex.server.settings import Settings
from evflex.server.solve_pool import SolvePool
from evflex.server.store.allocations import AllocationStore
from evflex.server.store.ratings import RatingStore
from evflex.server.store.requests import may_be_uuid, request_key
from evflex.server.wire import check_unary_size


class PlanListener(Protocol):
    """Who wants to hear of stored allocations."""

    def planned(
        self, owner_tenant: str, allocation_id: str, hub_ids: Sequence[str], transformer_id: str, area_id: str
    ) -> None:
        """An allocation of a tenant was stored that concerns these hubs of a transformer."""


@dataclass(frozen=True, slots=True)
class CapacityPlanner:
    """Rates transformers and shares their capacity.

    Attributes:
        settings: Limits and deadlines.
        engine: Solves a problem.
        pool: Where solves run.
        allocations: Where allocations are kept.
        ratings: Where ratings are kept.
        agreements: What hubs are entitled to.
        listener: Is told of stored allocations.
        metrics: Counts solves.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: CapacityEngine
    pool: SolvePool
    allocations: AllocationStore
    ratings: RatingStore
    agreements: AgreementTerms
    listener: PlanListener
    metrics: Metrics
    now_unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000

    def rate(self, request: RateRequest, call: Call) -> TransformerRating | None:
        """The rating of a transformer, None where it was only to be checked.

        Raises:
            ServiceError: The request is refused, no thread is free, or nobody waits any more.
        """
        check_rating_limits(request, self.settings)
        call.caller.require_area(request.area_id)
        key = request_key(call.caller.tenant_id, "RateTransformer", request.request_id, request)
        if _may_be_answered(request) and (earlier := self.ratings.find_answer(key)) is not None:
            return stored_rating.shown(earlier)
        decoded = decode_rating(request)
        if violations := decoded.violations():
            raise invalid(violations)
        if request.validate_only:
            return None

        def solve(_: threading.Event) -> TransformerRating:
            try:
                return encode_rating(request, self.engine.rate_transformer(decoded.problem))
            except InvalidProblemError as error:
                raise invalid_problem(error) from error

        message = PoolRun(self.pool.unary, call, solve, self.settings).result()
        # what cannot be answered is not stored either
        check_unary_size(call.method, message.ByteSize(), self.settings.max_unary_answer_bytes)
        if not request.store:
            return message
        row, _ = self.ratings.save(stored_rating.new_rating(key, decoded.problem.grid, message, self.now_unix_us()))
        return stored_rating.shown(row)

    def allocate(self, request: AllocateRequest, call: Call) -> allocation_pb2.Allocation | None:
        """An allocation, None where it was only to be checked.

        Raises:
            ServiceError: The request is refused, no thread is free, or nobody waits any more.
        """
        check_allocation_limits(call.method, request, self.settings)
        call.caller.require_area(request.area_id)
        key = request_key(call.caller.tenant_id, "AllocateCapacity", request.request_id, request)
        if _may_be_answered(request) and (earlier := self.allocations.find_answer(key)) is not None:
            return shown(earlier)
        decoded = self._checked(request, call)
        if request.validate_only:
            return None
        message = self._solved(request, decoded, call)
        check_unary_size(call.method, message.ByteSize(), self.settings.max_unary_answer_bytes)
        if not request.store:
            return message
        row, is_own = self.allocations.save(new_allocation(key, message, self.now_unix_us()))
        if is_own:
            hub_ids = [hub.hub_id for hub in message.hubs]
            self.listener.planned(row.tenant_id, row.allocation_id, hub_ids, row.transformer_id, row.area_id)
        return shown(row)

    def _checked(self, request: AllocateRequest, call: Call) -> DecodedAllocation:
        """The request in the engine's terms, every rule checked, notice included."""
        time_limit_s = solve_time_s(self.settings, call.remaining_s(self.settings.default_deadline_s))
        agreed = agreed_terms(self.agreements, request.hubs, call.caller)
        decoded = decode_allocation(request, agreed, time_limit_s)
        previous = self._previous(request, call.caller, decoded.wire)
        if violations := decoded.violations():
            raise invalid(violations)
        if previous is None:
            return decoded
        return dataclasses.replace(decoded, problem=with_notice(decoded.problem, decoded.terms, previous))

    def _previous(self, request: AllocateRequest, caller: Caller, rules: Rules) -> allocation_pb2.Allocation | None:
        if not request.previous_allocation_id:
            return None
        row = self.allocations.find(request.previous_allocation_id)
        if (
            row is None
            or row.tenant_id != caller.tenant_id
            or row.transformer_id != request.transformer.transformer_id
            or not caller.may_use_area(row.area_id)
        ):
            rules.check(False, PREVIOUS_FIELD, "must name a stored allocation of the same transformer")
            return None
        return shown(row)

    def _solved(self, request: AllocateRequest, decoded: DecodedAllocation, call: Call) -> allocation_pb2.Allocation:
        deadline_s = time.monotonic() + decoded.options.time_limit_s

        def solve(cancel: threading.Event) -> allocation_pb2.Allocation:
            left_s = time_left_s(deadline_s - time.monotonic())
            options = dataclasses.replace(decoded.options, time_limit_s=left_s)
            allocation = self._allocate(decoded.problem, options, cancel)
            return encode_allocation(request, decoded.problem, decoded.terms, allocation)

        return PoolRun(self.pool.unary, call, solve, self.settings).result()

    def _allocate(self, problem: AllocationProblem, options: AllocationOptions, cancel: threading.Event) -> Allocation:
        try:
            allocation = self.engine.allocate_capacity(problem, options, cancel)
        except InvalidProblemError as error:
            raise invalid_problem(error) from error
        ended = allocation.termination
        self.metrics.solved(TerminationReason(ended.reason).name, ended.solve_duration_s, ended.relative_gap)
        return allocation


def _may_be_answered(request: RateRequest | AllocateRequest) -> bool:
    """Whether an answer may have been kept; what is wrong with an id is told with all other faults."""
    return request.store and not request.validate_only and may_be_uuid(request.request_id)
