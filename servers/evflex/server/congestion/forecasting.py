"""Forecasts of congestion: decoding, one contingency after the other in the pool, streaming and storing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from evflex.congestion.v1 import congestion_pb2, congestion_service_pb2
from evflex.engine.grid import CongestionProblem, CongestionSearch, ContingencyFindings
from evflex.engine.validation import InvalidProblemError, Rules
from evflex.server.calls import Call
from evflex.server.congestion.decode_forecast import decode_forecast
from evflex.server.congestion.decode_injections import asked_steps
from evflex.server.congestion.encode_forecast import (
    congestion_chunks,
    encode_congestion,
    encode_island,
    encode_unsolved,
    worst_chunks,
)
from evflex.server.congestion.flows import check_steps
from evflex.server.congestion.prepared_networks import PreparedNetwork, PreparedNetworks
from evflex.server.congestion.stored_forecast import (
    forecast_blocks,
    new_forecast,
    shown_forecast,
    stored_chunks,
)
from evflex.server.engine_port import CongestionEngine
from evflex.server.errors import invalid_problem, limit_exceeded
from evflex.server.fields import check_request_id, refuse
from evflex.server.metrics import Metrics
from evflex.server.pool_run import PoolRun, in_order
from evflex.server.settings import Settings
from evflex.server.solve_pool import Lane, SolvePool
from evflex.server.store.forecasts import ForecastRow, ForecastStore
from evflex.server.store.networks import NetworkRow
from evflex.server.store.requests import request_key

_Request = congestion_service_pb2.ForecastCongestionRequest
_Response = congestion_service_pb2.ForecastCongestionResponse
_PROGRESS_INTERVAL_S = 0.3
# Contingencies that are searched or wait to be sent, so that memory stays bounded on machines of many processors.
_MOST_AHEAD = 8


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A forecast that can begin."""

    of: PreparedNetwork
    problem: CongestionProblem
    search: CongestionSearch


@dataclass(frozen=True, slots=True)
class CongestionForecaster:
    """Forecasts congestion.

    Attributes:
        settings: Limits.
        engine: Searches contingencies.
        pool: Where they are searched.
        networks: Networks, ready for it.
        store: Where forecasts are kept.
        metrics: Counts power flows.
        now_unix_us: The clock, microseconds since 1970-01-01 UTC.
    """

    settings: Settings
    engine: CongestionEngine
    pool: SolvePool
    networks: PreparedNetworks
    store: ForecastStore
    metrics: Metrics
    now_unix_us: Callable[[], int]

    def forecast(self, request: _Request, row: NetworkRow, call: Call) -> Iterator[_Response]:
        """The messages of the answer.

        Raises:
            ServiceError: The request is refused, or nobody waits any more.
        """
        rules = Rules()
        check_request_id(rules, request.request_id, required=request.store)
        refuse(rules)
        check_steps(request, self.settings)
        key = request_key(call.caller.tenant_id, "ForecastCongestion", request.request_id, request)
        if request.store and not request.validate_only:
            earlier = self.store.find_answer(key)
            if earlier is not None:
                yield from self._stored_answer(earlier, request)
                return
        ahead = min(self.pool.thread_count, _MOST_AHEAD)
        # a lane of its own: a long forecast takes turns with others, and is not refused halfway
        lane = self.pool.open_lane(ahead)
        prepared = PoolRun(lane, call, lambda _: self._prepared(request, row), self.settings).result()
        if request.validate_only:
            yield _Response(summary=congestion_pb2.CongestionForecast())
            return
        outcome = _Outcome(prepared, row, request)
        for found in self._findings(prepared.search, lane, call, ahead):
            yield from outcome.take(found)
        self.metrics.flow_steps.inc(outcome.summary.flows_solved)
        yield from outcome.worst()
        summary = outcome.ended()
        if request.store:
            new = new_forecast(key, summary, self.now_unix_us())
            stored, _ = self.store.save(new, forecast_blocks(outcome.chunks))
            summary = shown_forecast(stored)
        yield _Response(summary=summary)

    def _prepared(self, request: _Request, row: NetworkRow) -> _Prepared:
        try:
            of = self.networks.opened(row)
            if request.return_worst:
                values = asked_steps(request) * (of.network.branch_count + 2 * of.network.bus_count)
                if values > self.settings.max_worst_values:
                    raise limit_exceeded("max_worst_values", values, self.settings.max_worst_values)
            problem, options = decode_forecast(request, of)
            return _Prepared(of, problem, self.engine.prepare_congestion(problem, options, of.grid))
        except InvalidProblemError as error:
            raise invalid_problem(error) from error

    def _findings(self, search: CongestionSearch, lane: Lane, call: Call, ahead: int) -> Iterator[ContingencyFindings]:
        """What is found in each contingency, in order; the next are searched while the caller works with one."""

        def begun(position: int) -> PoolRun[ContingencyFindings]:
            def find(_: threading.Event) -> ContingencyFindings:
                return search.findings(position)

            return PoolRun(lane, call, find, self.settings)

        return in_order(begun, len(search.contingencies), ahead)

    def _stored_answer(self, row: ForecastRow, request: _Request) -> Iterator[_Response]:
        for message in stored_chunks(self.store.blocks(row), return_worst=request.return_worst):
            if message.HasField("worst"):
                yield _Response(worst=message.worst)
            else:
                yield _Response(congestions=message.congestions)
        yield _Response(summary=shown_forecast(row))


@dataclass(slots=True)
class _Outcome:
    """What all contingencies came to."""

    prepared: _Prepared
    row: NetworkRow
    request: _Request
    chunks: list[congestion_pb2.CongestionChunk | congestion_pb2.WorstChunk] = field(default_factory=list)
    summary: congestion_pb2.CongestionForecast = field(init=False)
    now_s: Callable[[], float] = time.perf_counter
    started_s: float = field(init=False)
    told_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.told_s = self.now_s()
        self.summary = congestion_pb2.CongestionForecast(
            network_id=self.row.network_id,
            network_etag=self.row.etag,
            area_id=self.row.area_id,
            time_grid=self.request.time_grid,
            contingency_count=len(self.prepared.search.contingencies),
        )

    def take(self, found: ContingencyFindings) -> Iterator[_Response]:
        """Congestions of a contingency, and progress if it is time for some."""
        network, problem, summary = self.prepared.of.network, self.prepared.problem, self.summary
        uncertain = problem.p_std_kw is not None or problem.q_std_kvar is not None or problem.p_samples_kw is not None
        with_relief = self.prepared.search.options.want_relief
        messages = [
            encode_congestion(network, congestion, uncertain=uncertain, with_relief=with_relief)
            for congestion in found.congestions
        ]
        summary.congestion_count += len(messages)
        summary.flows_solved += found.flows_solved
        if found.skipped:
            summary.skipped_branch_ids.append(network.branches.branch_ids[found.contingency])
        island, unsolved = encode_island(network, found, problem.grid.step_h), encode_unsolved(network, found)
        if island is not None:
            summary.islands.append(island)
        if unsolved is not None:
            summary.not_converged.append(unsolved)
        for chunk in congestion_chunks(messages):
            self.chunks.append(chunk)
            yield _Response(congestions=chunk)
        now_s = self.now_s()
        if now_s - self.told_s >= _PROGRESS_INTERVAL_S and found.done_count < found.total_count:
            self.told_s = now_s
            progress = congestion_pb2.ForecastProgress(
                contingencies_done=found.done_count,
                contingency_count=found.total_count,
                flows_solved=summary.flows_solved,
            )
            progress.elapsed_duration.FromNanoseconds(round((now_s - self.started_s) * 1e9))
            yield _Response(progress=progress)

    def worst(self) -> Iterator[_Response]:
        """The worst values, if they are wanted."""
        gathered = self.prepared.search.worst
        if gathered is not None:
            for chunk in worst_chunks(gathered.values()):
                self.chunks.append(chunk)
                yield _Response(worst=chunk)

    def ended(self) -> congestion_pb2.CongestionForecast:
        """The summary."""
        self.summary.solve_duration.FromNanoseconds(round((self.now_s() - self.started_s) * 1e9))
        return self.summary
