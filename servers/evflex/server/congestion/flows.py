"""Computes power flows block by block in the pool, and streams what comes out while the next blocks are solved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from evflex.congestion.v1 import congestion_service_pb2, power_flow_pb2
from evflex.engine.grid import PowerFlow
from evflex.engine.grid.injections import Injections
from evflex.engine.supply_tree import FloatArray
from evflex.engine.validation import InvalidProblemError, Rules
from evflex.server.calls import Call
from evflex.server.congestion.decode_injections import asked_steps, decode_load
from evflex.server.congestion.flow_chunks import FlowChunks
from evflex.server.congestion.prepared_networks import PreparedNetwork, PreparedNetworks
from evflex.server.engine_port import CongestionEngine
from evflex.server.errors import invalid_problem, limit_exceeded
from evflex.server.fields import refuse
from evflex.server.metrics import Metrics
from evflex.server.pool_run import PoolRun, in_order
from evflex.server.settings import Settings
from evflex.server.solve_pool import Lane, SolvePool
from evflex.server.store.networks import NetworkRow

_Request = congestion_service_pb2.RunPowerFlowRequest
_Response = congestion_service_pb2.RunPowerFlowResponse
_PROGRESS_INTERVAL_S = 0.3
_MOST_TOLD = 1_000
# Each takes as long as some hundred steps.
_MOST_EXPLAINED = 50
# Blocks that are solved or wait to be sent, so that memory stays bounded on machines of many processors.
_MOST_AHEAD = 4


@dataclass(frozen=True, slots=True)
class FlowRunner:
    """Computes power flows.

    Attributes:
        settings: Limits.
        engine: Solves steps.
        pool: Where they are solved.
        networks: Networks, ready for it.
        metrics: Counts steps.
    """

    settings: Settings
    engine: CongestionEngine
    pool: SolvePool
    networks: PreparedNetworks
    metrics: Metrics

    def run(self, request: _Request, row: NetworkRow, call: Call) -> Iterator[bytes]:
        """RunPowerFlowResponse messages, serialized.

        Raises:
            ServiceError: The request is refused, or nobody waits any more.
        """
        check_steps(request, self.settings)
        # a lane of its own: a long flow takes turns with others, and is not refused halfway
        lane = self.pool.open_lane(self._ahead)
        of = PoolRun(lane, call, lambda _: self._prepared(row), self.settings).result()
        rules = Rules()
        injections = decode_load(rules, request, of)
        refuse(rules)
        assert injections is not None
        yield _header(row, of, injections).SerializeToString()
        chunks = FlowChunks.of(of.network, request.outputs)
        outcome = _Outcome(injections.step_count)
        for first, flow in self._blocks(of, injections, chunks, lane, call):
            outcome.take(first, flow)
            self.metrics.flow_steps.inc(flow.converged.shape[0])
            yield from chunks.messages(first, flow)
            yield from outcome.progress(first + flow.converged.shape[0])
        if outcome.unsolved:
            PoolRun(lane, call, lambda cancel: self._explain(of, injections, outcome, cancel), self.settings).result()
        yield _Response(summary=outcome.summary(of)).SerializeToString()

    @property
    def _ahead(self) -> int:
        return min(self.pool.thread_count, _MOST_AHEAD)

    def _explain(self, of: PreparedNetwork, injections: Injections, outcome: _Outcome, cancel: threading.Event) -> None:
        """Tell of the first steps without solution how much of them could be solved."""
        for unsolved in outcome.unsolved[:_MOST_EXPLAINED]:
            if cancel.is_set():
                return
            p_kw, q_kvar = injections.block(unsolved.step, unsolved.step + 1)
            nearest = self.engine.nearest_solvable(of.grid, p_kw[0], q_kvar[0])
            if nearest is not None:
                unsolved.nearest_solvable_loading_ratio = nearest.ratio
                unsolved.weakest_bus_id = of.network.buses.bus_ids[nearest.weakest_bus]

    def _prepared(self, row: NetworkRow) -> PreparedNetwork:
        try:
            return self.networks.opened(row)
        except InvalidProblemError as error:
            raise invalid_problem(error) from error

    def _blocks(
        self, of: PreparedNetwork, injections: Injections, chunks: FlowChunks, lane: Lane, call: Call
    ) -> Iterator[tuple[int, PowerFlow]]:
        """First step and flow of each block, in order; the next are solved while the caller works with one."""
        steps = injections.step_count
        starts = range(0, steps, chunks.steps_per_block)

        def begun(block: int) -> PoolRun[PowerFlow]:
            def solve(_: threading.Event) -> PowerFlow:
                p_kw, q_kvar = injections.block(starts[block], min(starts[block] + chunks.steps_per_block, steps))
                return self.engine.run_power_flow(of.grid, p_kw, q_kvar, chunks.options)

            return PoolRun(lane, call, solve, self.settings)

        return zip(starts, in_order(begun, len(starts), self._ahead), strict=True)


def check_steps(request: _Request | congestion_service_pb2.ForecastCongestionRequest, settings: Settings) -> None:
    """Raise RESOURCE_EXHAUSTED, naming the limit, for more steps than the settings allow."""
    steps = asked_steps(request)
    if steps > settings.max_steps:
        raise limit_exceeded("max_steps", steps, settings.max_steps)


def _header(row: NetworkRow, of: PreparedNetwork, injections: Injections) -> _Response:
    network = of.network
    return _Response(
        header=power_flow_pb2.PowerFlowHeader(
            network_id=row.network_id,
            network_etag=row.etag,
            phase_count=network.phase_count,
            step_count=injections.step_count,
            bus_ids=network.buses.bus_ids,
            branch_ids=network.branches.branch_ids,
        )
    )


@dataclass(slots=True)
class _Outcome:
    """What all steps came to."""

    step_count: int
    losses_kw: FloatArray = field(init=False)
    unsolved: list[power_flow_pb2.UnsolvedStep] = field(default_factory=list)
    converged_count: int = 0
    now_s: Callable[[], float] = time.perf_counter
    started_s: float = field(init=False)
    told_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.losses_kw = np.full(self.step_count, np.nan)
        self.started_s = self.told_s = self.now_s()

    def take(self, first: int, flow: PowerFlow) -> None:
        self.losses_kw[first : first + flow.losses_kw.shape[0]] = flow.losses_kw
        self.converged_count += int(flow.converged.sum())
        for k in np.flatnonzero(~flow.converged)[: _MOST_TOLD - len(self.unsolved)].tolist():
            self.unsolved.append(power_flow_pb2.UnsolvedStep(step=first + k))

    def progress(self, steps_done: int) -> Iterator[bytes]:
        """A message of progress, if it is time for one."""
        now_s = self.now_s()
        if now_s - self.told_s < _PROGRESS_INTERVAL_S or steps_done == self.step_count:
            return
        self.told_s = now_s
        message = power_flow_pb2.PowerFlowProgress(steps_done=steps_done, step_count=self.step_count)
        message.elapsed_duration.FromNanoseconds(round((now_s - self.started_s) * 1e9))
        yield _Response(progress=message).SerializeToString()

    def summary(self, of: PreparedNetwork) -> power_flow_pb2.PowerFlowSummary:
        summary = power_flow_pb2.PowerFlowSummary(
            step_count=self.step_count,
            converged_count=self.converged_count,
            losses_kw=self.losses_kw.tolist(),
            islanded_bus_ids=of.islanded_bus_ids,
            not_converged=self.unsolved,
        )
        summary.solve_duration.FromNanoseconds(round((self.now_s() - self.started_s) * 1e9))
        return summary
