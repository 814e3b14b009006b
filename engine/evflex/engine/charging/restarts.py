"""Repaired plans from several optimal vertices of the relaxation.

Every optimal vertex proves the same bound, but how many of its steps lie below a minimum, and whether they can be
mended for nothing, differs from vertex to vertex. Where one repair leaves the asked gap open, another often closes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evflex.engine.charging.column_generation import read_sessions, shared_limits
from evflex.engine.charging.evaluation import group_power_kw
from evflex.engine.charging.relaxation import Relaxation, another_vertex, shortfall_penalty
from evflex.engine.charging.repair import repair
from evflex.engine.charging.repairable import has_minimums
from evflex.engine.charging.site import Site
from evflex.engine.charging.switching_oracle import replan_sessions
from evflex.engine.supply_tree import FloatArray

# Vertices tried: about as many as cost the time of one large relaxation (measured).
_TRIES, _TRIED_SESSIONS = 24, 2_400
# Vertices that are only repaired, before sessions are re-planned too, which takes five times as long.
_PLAIN_TRIES = 5
_LARGEST = 400


def repaired_plans(site: Site, relaxation: Relaxation) -> Iterator[tuple[str, FloatArray]]:
    """Plans for the controlled steps, by method, best chances first; the caller stops when one is good enough."""
    first = repair(site, relaxation)
    yield "relaxation and repair", first
    n = site.session_count
    if not has_minimums(site) or n > _LARGEST or site.max_discharge_kw.any() or site.minimum_kwh.any():
        return
    sessions = read_sessions(site, shortfall_penalty(site))
    limits, everyone = shared_limits(site), np.ones(n, dtype=np.bool_)
    for seed in range(1, _PLAIN_TRIES + 1):
        vertex = another_vertex(site, relaxation, seed)
        if vertex is None:
            return
        yield "relaxation and repair of another vertex", repair(site, relaxation, vertex)
    for seed in range(min(_TRIES, max(2, _TRIED_SESSIONS // max(n, 1)))):
        vertex = another_vertex(site, relaxation, seed) if seed > 0 else relaxation.power_kw
        if vertex is None:
            return
        power = repair(site, relaxation, vertex) if seed > 0 else first.copy()
        replan_sessions(sessions, limits, relaxation.free_price, everyone, power, group_power_kw(site, power), False)
        yield "relaxation, repair and re-planning", power
