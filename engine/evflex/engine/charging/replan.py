"""A stored plan laid onto a new grid, so that a new plan need not differ without reason."""

from __future__ import annotations

import numpy as np

from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid


def align_previous(
    session_ids: tuple[str, ...],
    grid: TimeGrid,
    previous_session_ids: tuple[str, ...],
    previous_grid: TimeGrid,
    previous_power_kw: FloatArray,
) -> FloatArray:
    """Mean power that the previous plan has in each step of ``grid``.

    Args:
        session_ids: Sessions of the new problem.
        grid: Its time axis.
        previous_session_ids: Rows of the previous plan.
        previous_grid: Its time axis.
        previous_power_kw: Shape (previous sessions, previous steps).

    Returns:
        Shape (sessions, steps); NaN for new sessions and for steps that the previous plan does not cover whole.
    """
    out = np.full((len(session_ids), grid.step_count), np.nan)
    edges = (
        grid.start_unix_s - previous_grid.start_unix_s + grid.step_s * np.arange(grid.step_count + 1)
    ) / previous_grid.step_s
    covered = (edges[:-1] >= -1e-9) & (edges[1:] <= previous_grid.step_count + 1e-9)
    row = {session_id: i for i, session_id in enumerate(previous_session_ids)}
    cumulative = np.concatenate([np.zeros((len(row), 1)), np.cumsum(previous_power_kw, axis=1)], axis=1)
    knots = np.arange(previous_grid.step_count + 1)
    for i, session_id in enumerate(session_ids):
        if session_id in row:
            energy = np.interp(edges, knots, cumulative[row[session_id]])
            mean = np.diff(energy) * previous_grid.step_s / grid.step_s
            out[i, covered] = mean[covered]
    return out
