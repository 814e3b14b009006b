"""Capacity of an earlier plan that the notice of agreements protects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from math import ceil

import numpy as np

from evflex.capacity.v1 import allocation_pb2
from evflex.engine.align import largest_overlapping
from evflex.engine.capacity.model import AllocationProblem
from evflex.engine.validation import Rules
from evflex.server.capacity.terms import Terms
from evflex.server.fields import decode_grid

_TIME_TOLERANCE_S = 1e-6


def with_notice(
    problem: AllocationProblem, terms: Sequence[Terms], previous: allocation_pb2.Allocation
) -> AllocationProblem:
    """The problem in which hubs keep what `previous` gave them in steps that begin within their notice.

    A step keeps the largest capacity of those of the previous plan that overlap it; new hubs keep nothing.
    """
    earlier_grid = decode_grid(Rules(), previous.time_grid)
    earlier = {hub.hub_id: hub for hub in previous.hubs}
    hubs = []
    for hub, own in zip(problem.hubs, terms, strict=True):
        count = min(problem.grid.step_count, ceil((own.notice_s - _TIME_TOLERANCE_S) / problem.grid.step_s))
        if count > 0 and hub.hub_id in earlier:
            capacity_kw = np.array(earlier[hub.hub_id].capacity_kw, dtype=np.float64)
            noticed_kw = largest_overlapping(problem.grid, earlier_grid, capacity_kw)
            noticed_kw[count:] = 0.0
            hub = dataclasses.replace(hub, noticed_kw=noticed_kw)
        hubs.append(hub)
    return dataclasses.replace(problem, hubs=tuple(hubs))
