"""Over one step a plan is a split of power, and agrees with the independent models of the policies."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.capacity import AllocationOptions, AllocationPolicy, allocate_capacity
from evflex.engine.supply_tree import PhaseConnection
from tests.conftest import SOAK
from tests.engine.capacity.reference.hand import hub, problem_of
from tests.engine.capacity.reference.sharing_models import SharingCase, expected_kw
from tests.engine.capacity.reference.twin import phase_shares

PHASES = [PhaseConnection.L1_L2_L3, PhaseConnection.L1, PhaseConnection.L2, PhaseConnection.L3]


@pytest.mark.parametrize("policy", list(AllocationPolicy))
@pytest.mark.parametrize("seed", range(200 if SOAK else 15))
def test_one_step_is_split_as_the_policy_says(seed: int, policy: AllocationPolicy) -> None:
    rng = np.random.default_rng([seed, int(policy)])
    count = int(rng.integers(2, 9))
    single_phase = rng.choice([0.0, 0.4])
    hubs = [
        replace(
            hub(
                f"hub-{h}", [float(rng.uniform(1.0, 60.0))], max_kw=float(rng.uniform(5.0, 60.0)),
                firm_kw=float(rng.choice([0.0, 1.0])), weight=float(10.0 ** rng.uniform(-0.5, 0.5)),
                phases=PHASES[int(rng.integers(1, 4)) if rng.random() < single_phase else 0],
            ),
            priority=int(rng.integers(0, 3)), curtailment_price_per_kwh=float(rng.choice([0.1, 0.2, 0.3])),
        )
        for h in range(count)
    ]  # fmt: skip
    base_kw = 30.0 + rng.uniform(-5.0, 5.0, 3)
    problem = problem_of([90.0], hubs, policy=policy, max_loading_ratio=float(rng.uniform(1.2, 2.0)))
    problem = replace(problem, base=replace(problem.base, phase_kw=base_kw[None, :]))
    plan = allocate_capacity(problem, AllocationOptions())

    firm = np.array([one.firm_kw[0] for one in hubs])
    wanted = np.minimum([one.demand_kw[0] for one in hubs], [one.max_kw for one in hubs])
    most = np.maximum(wanted - firm, 0.0)
    shares = phase_shares(problem.hubs)
    key = {
        AllocationPolicy.PRIORITY: [-one.priority for one in hubs],
        AllocationPolicy.LEAST_COST: [-one.curtailment_price_per_kwh for one in hubs],
    }.get(policy, [0.0] * count)
    # there is no later step, so that all is a floor: what a hub does not get now is lost
    case = SharingCase(
        policy, problem.transformer.max_loading_ratio * 100.0 / 3.0 - base_kw - firm @ shares, shares, most, most,
        np.array([one.weight for one in hubs]),
        np.unique(np.array(key, dtype=np.float64), return_inverse=True)[1].astype(np.int64),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the last digits of an asked 1e-13 were not reached
        expected = np.minimum(wanted, firm) + expected_kw(case)
    assert plan.power_kw[:, 0] == pytest.approx(expected, abs=1e-6 * case.scale_kw)
