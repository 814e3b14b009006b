"""Compiles what keeps portfolios and writes plans."""

from __future__ import annotations

import numpy as np

from evflex.engine.dispatch.model import Fleet
from evflex.engine.dispatch.plan import Setpoints
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.server.dispatch.id_table import packed
from evflex.server.dispatch.plan_chunks import PlanChunks
from evflex.server.dispatch.portfolio import Change, Portfolio, PortfolioNames
from evflex.server.store.arrays import Array


class _Nothing(Setpoints):
    """No power anywhere."""

    def power_kw(self, rows: IntArray) -> FloatArray:
        return np.zeros((len(rows), 1))

    def to_arrays(self) -> dict[str, Array]:
        return {}


def warm_up_dispatch() -> None:
    """Change a small portfolio, and write a chunk of its plan."""
    portfolio = Portfolio(PortfolioNames("", "", "", "EUR", (), ()))
    portfolio.make_room(2, 1)
    portfolio.add(packed(["a", "b"]), Fleet.of(2, {}))
    change = Change(packed(["a"]), packed(["b", "c"]), Fleet.of(2, {}), (), packed([]), (), ())
    portfolio.prepare(change)
    portfolio.apply(change, 2)
    for _ in PlanChunks(portfolio.snapshot().ids, None, _Nothing(), 1).messages(1):
        pass
