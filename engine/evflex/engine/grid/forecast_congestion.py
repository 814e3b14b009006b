"""Forecast congestion: limits broken in the sound network and without each of some branches, and the relief needed."""

from __future__ import annotations

from evflex.engine.grid.congestion_model import CongestionOptions, CongestionProblem
from evflex.engine.grid.congestion_report import CongestionForecast, ContingencyFindings
from evflex.engine.grid.congestion_search import CongestionSearch, congestion_search
from evflex.engine.grid.prepared import PreparedGrid, prepare_grid
from evflex.engine.validation import Rules
from evflex.engine.workers import Workers


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
    search = prepare_congestion(problem, options or CongestionOptions())
    found = _walk(search, workers)
    return CongestionForecast(
        congestions=tuple(congestion for row in found for congestion in row.congestions),
        islands=tuple(row.island for row in found if row.island is not None),
        closed_ties={row.contingency: row.closed_ties for row in found if row.closed_ties},
        skipped=tuple(row.contingency for row in found if row.skipped),
        not_converged=tuple(row.not_converged for row in found if row.not_converged is not None),
        worst=None if search.worst is None else search.worst.values(),
        flows_solved=sum(row.flows_solved for row in found),
    )


def prepare_congestion(
    problem: CongestionProblem, options: CongestionOptions, grid: PreparedGrid | None = None
) -> CongestionSearch:
    """Check a problem, and prepare what its contingencies share; each is then searched by itself, in any order.

    Args:
        problem: The network, its injections, limits and contingencies.
        options: What is wanted.
        grid: The network where it is prepared already.

    Raises:
        InvalidProblemError: The input breaks a rule; every fault is named.
    """
    rules = Rules()
    problem.validate(rules)
    options.validate(rules)
    rules.raise_if_any()
    return congestion_search(problem, options, prepare_grid(problem.network) if grid is None else grid)


def _walk(search: CongestionSearch, workers: Workers | None) -> list[ContingencyFindings]:
    positions = range(len(search.contingencies))
    if workers is None:
        return [search.findings(position) for position in positions]
    return workers.each(search.findings, positions)
