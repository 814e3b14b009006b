"""The peer of many sites: one CVXPY model for each site, without the minimum, which favours it."""

from __future__ import annotations

import cvxpy as cp
import numpy as np

from bench.instances import Site

# None: what CVXPY chooses by itself.
SOLVERS: tuple[str | None, ...] = (None, "CLARABEL", "HIGHS")


def plan(site: Site, solver: str | None) -> float:
    """Build and solve the site's linear program; returns the objective."""
    power = cp.Variable((site.count, site.steps), nonneg=True)
    short = cp.Variable(site.count, nonneg=True)
    step = np.arange(site.steps)
    present = (step >= site.arrive[:, None]) & (step < site.depart[:, None])
    delivered = site.efficiency * site.step_h * cp.sum(power, axis=1)
    problem = cp.Problem(
        cp.Minimize(site.step_h * cp.sum(power @ site.price_per_kwh) + site.shortfall_price * cp.sum(short)),
        [
            power <= present * site.max_kw[:, None],
            delivered + short == site.energy_kwh,
            cp.sum(power, axis=0) <= site.limit_kw,
        ],
    )
    problem.solve(solver=solver)  # type: ignore[no-untyped-call]
    return float(problem.value)
