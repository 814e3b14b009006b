"""Forecast congestion: limits broken in the sound network and without each of some branches, and the relief needed."""

from __future__ import annotations

from collections.abc import Iterator

from evflex.engine.grid.congestion_model import CongestionOptions, CongestionProblem
from evflex.engine.grid.congestion_report import CongestionForecast, ContingencyFindings
from evflex.engine.grid.congestion_search import CongestionSearch, congestion_search
from evflex.engine.grid.prepared import prepare_grid
from evflex.engine.validation import Rules
from evflex.engine.workers import Workers

# Contingencies that each thread takes before what they found is handed on.
_A_THREAD = 4


def forecast_congestion(
    problem: CongestionProblem, options: CongestionOptions | None = None, workers: Workers | None = None
) -> CongestionForecast:
    """Find congestions in the sound network and in each contingency.

    Args:
        problem: The network, its injections, limits and contingencies.
        options: What is wanted.
        workers: Threads that share the contingencies; None for this one alone. The answer does not depend on them.

    Raises:
        InvalidProblemError: The input breaks a rule; every fault is named.
    """
    search = _prepared(problem, options or CongestionOptions())
    found = list(_walk(search, workers))
    return CongestionForecast(
        congestions=tuple(congestion for row in found for congestion in row.congestions),
        islands=tuple(row.island for row in found if row.island is not None),
        closed_ties={row.contingency: row.closed_ties for row in found if row.closed_ties},
        skipped=tuple(row.contingency for row in found if row.skipped),
        not_converged=tuple(row.not_converged for row in found if row.not_converged is not None),
        worst=None if search.worst is None else search.worst.values(),
        flows_solved=sum(row.flows_solved for row in found),
    )


def stream_congestion(
    problem: CongestionProblem, options: CongestionOptions | None = None, workers: Workers | None = None
) -> Iterator[ContingencyFindings]:
    """Find the same contingency by contingency, the sound network first; who stops asking stops the work.

    Args:
        problem: The network, its injections, limits and contingencies.
        options: What is wanted; the worst values over contingencies are not gathered.
        workers: Threads that share the contingencies.

    Raises:
        InvalidProblemError: The input breaks a rule; every fault is named. Raised at once, before the first finding.
    """
    return _walk(_prepared(problem, options or CongestionOptions()), workers)


def _prepared(problem: CongestionProblem, options: CongestionOptions) -> CongestionSearch:
    rules = Rules()
    problem.validate(rules)
    options.validate(rules)
    rules.raise_if_any()
    return congestion_search(problem, options, prepare_grid(problem.network))


def _walk(search: CongestionSearch, workers: Workers | None) -> Iterator[ContingencyFindings]:
    positions = range(len(search.contingencies))
    if workers is None:
        yield from map(search.findings, positions)
        return
    at_once = _A_THREAD * workers.count
    for first in range(0, len(positions), at_once):
        yield from workers.each(search.findings, positions[first : first + at_once])
