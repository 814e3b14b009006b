"""The split of a step's power agrees with independent models, and keeps what every fair split must keep."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.capacity.model import AllocationPolicy
from evflex.engine.capacity.sharing import share
from evflex.engine.supply_tree import FloatArray, IntArray
from tests.conftest import SOAK
from tests.engine.capacity.reference.sharing_models import SharingCase, expected_kw

POLICIES = list(AllocationPolicy)
FAIR = AllocationPolicy.WEIGHTED_PROPORTIONAL_FAIR
SEEDS = range(1000 if SOAK else 60)
BALANCED = np.full((1, 3), 1.0 / 3.0)


def shared_kw(case: SharingCase) -> FloatArray:
    """What the kernel gives each hub."""
    result = np.full(len(case.most_kw), np.nan)
    share(int(case.policy), case.free_kw, case.phase_share, case.floor_kw, case.most_kw, case.weight, case.rank, result)
    return result


def random_case(policy: AllocationPolicy, seed: int, most_hubs: int = 12) -> SharingCase:
    """Hubs of all kinds: balanced and single-phase, with floors that fit and that do not, and zeros."""
    rng = np.random.default_rng([seed, int(policy)])
    hubs = int(rng.integers(1, most_hubs + 1))
    single_phase = rng.random(hubs) < rng.choice([0.0, 0.5, 1.0])
    two_phase = rng.random(hubs) < rng.choice([0.0, 0.2])
    shares = np.where(single_phase[:, None], np.eye(3)[rng.integers(0, 3, hubs)], 1.0 / 3.0)
    shares = np.where(two_phase[:, None], 0.5 * (1.0 - np.eye(3)[rng.integers(0, 3, hubs)]), shares)
    most = rng.uniform(0.0, 10.0 ** rng.uniform(0.0, 3.0), hubs) * (rng.random(hubs) < 0.9)
    floor = most * rng.uniform(0.0, 1.0, hubs) * (rng.random(hubs) < 0.6) * rng.choice([0.0, 0.2, 1.0])
    loaded = shares.T @ most
    free = loaded * rng.uniform(0.0, 1.2, 3) if rng.random() < 0.5 else np.full(3, loaded.max() * rng.uniform(0.0, 1.0))
    free *= np.where(rng.random(3) < 0.05, rng.choice([-1.0, 0.0]), 1.0)
    weight = 10.0 ** rng.uniform(-1.0, 1.0, hubs)
    return SharingCase(policy, free, shares, floor, most, weight, rng.integers(0, 4, hubs))


def case_of(
    policy: AllocationPolicy,
    free: float | list[float],
    most: list[float],
    *,
    floor: list[float] | None = None,
    shares: FloatArray = BALANCED,
    weight: list[float] | None = None,
    rank: list[int] | None = None,
) -> SharingCase:
    """Few hubs, balanced unless said otherwise; one number for ``free`` is three-phase power."""
    count = len(most)
    ranks: IntArray = np.array([0] * count if rank is None else rank, dtype=np.int64)
    return SharingCase(
        policy,
        np.full(3, free / 3.0) if isinstance(free, (int, float)) else np.array(free),
        np.array(np.broadcast_to(shares, (count, 3))),
        np.zeros(count) if floor is None else np.array(floor, dtype=np.float64),
        np.array(most),
        np.ones(count) if weight is None else np.array(weight),
        ranks,
    )


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (case_of(AllocationPolicy.MAX_MIN, 12.0, [2.0, 9.0, 9.0]), [2.0, 5.0, 5.0]),
        (case_of(AllocationPolicy.MAX_MIN, 12.0, [2.0, 9.0, 9.0], floor=[0.0, 0.0, 8.0]), [2.0, 2.0, 8.0]),
        (case_of(AllocationPolicy.MAX_MIN, 12.0, [9.0, 9.0, 20.0], floor=[4.0, 0.0, 14.0]), [4.0, 0.0, 8.0]),
        (case_of(AllocationPolicy.PROPORTIONAL, 12.0, [2.0, 8.0, 14.0]), [1.0, 4.0, 7.0]),
        (case_of(AllocationPolicy.PROPORTIONAL, 12.0, [2.0, 8.0, 12.0], floor=[2.0, 0, 0]), [2.0, 4.0, 6.0]),
        (case_of(FAIR, 12.0, [9.0, 9.0, 9.0], weight=[1.0, 2.0, 3.0]), [2.0, 4.0, 6.0]),
        (case_of(FAIR, 12.0, [9.0, 9.0, 5.0], weight=[1.0, 2.0, 3.0]), [7 / 3, 14 / 3, 5.0]),
        (case_of(FAIR, [3.0, 9.0, 9.0], [9.0, 9.0, 9.0], shares=np.eye(3), weight=[1.0, 1.0, 1.0]), [3.0, 9.0, 9.0]),
        (case_of(AllocationPolicy.PRIORITY, 12.0, [5.0, 8.0, 8.0], rank=[1, 0, 1]), [2.0, 8.0, 2.0]),
        (case_of(AllocationPolicy.LEAST_COST, 12.0, [5.0, 8.0, 8.0], rank=[2, 7, 2], floor=[0, 1, 0]), [5.0, 1.0, 6.0]),
        (case_of(AllocationPolicy.PRIORITY, 12.0, [9.0, 9.0], rank=[1, 0], floor=[8.0, 9.0]), [3.0, 9.0]),
    ],
)  # fmt: skip
def test_cases_of_hand(case: SharingCase, expected: list[float]) -> None:
    """Splits that a reader works out."""
    assert shared_kw(case) == pytest.approx(expected, abs=1e-9)


def test_proportional_fairness_charges_a_hub_for_all_phases_it_loads() -> None:
    """One three-phase hub beside three of one phase: w / y is the price of a phase, y = 1.5 for all of 2 per phase."""
    case = case_of(FAIR, [2.0, 2.0, 2.0], [9.0] * 4, shares=np.vstack([BALANCED, np.eye(3)]))
    assert shared_kw(case) == pytest.approx([1.5, 1.5, 1.5, 1.5], abs=1e-9)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_agrees_with_the_independent_model(policy: AllocationPolicy, seed: int) -> None:
    """Power of every hub to 1e-6 of the capacity."""
    case = random_case(policy, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the last digits of an asked 1e-13 were not reached
        expected = expected_kw(case)
    assert np.abs(shared_kw(case) - expected).max() <= 1e-6 * case.scale_kw


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("most_hubs", [12, 200])
def test_is_feasible_and_leaves_no_room_to_who_wants_more(policy: AllocationPolicy, most_hubs: int) -> None:
    """Phases hold, bounds hold, floors hold where they fit, and who lacks something has a full phase."""
    for seed in range(20_000 if SOAK else 500):
        case = random_case(policy, seed, most_hubs)
        power, free = shared_kw(case), np.maximum(case.free_kw, 0.0)
        used = case.phase_share.T @ power
        assert (power >= 0.0).all(), seed
        assert (power <= case.most_kw).all(), seed
        assert (used <= free * (1.0 + 1e-12)).all(), seed
        full = used >= free - 1e-9 * case.scale_kw
        lacks = power < case.most_kw - 1e-9 * case.scale_kw
        assert ((case.phase_share > 0.0) & full)[lacks].any(axis=1).all(), seed
        if (case.phase_share.T @ case.floor_kw <= free).all():
            assert (power >= case.floor_kw - 1e-9 * case.scale_kw).all(), seed


@pytest.mark.parametrize("policy", POLICIES)
def test_more_capacity_takes_nothing_from_anybody_on_one_phase(policy: AllocationPolicy) -> None:
    """With a single phase, or balanced hubs, each hub's power rises with capacity."""
    for seed in range(100):
        case = random_case(policy, seed)
        balanced = replace(case, phase_share=np.full_like(case.phase_share, 1.0 / 3.0))
        last = np.zeros(len(case.most_kw))
        for free in np.linspace(0.0, case.most_kw.sum() / 3.0, 15):
            power = shared_kw(replace(balanced, free_kw=np.full(3, free)))
            assert (power >= last - 1e-9 * case.scale_kw).all(), seed
            last = power


@pytest.mark.parametrize("policy", POLICIES)
def test_order_of_hubs_and_names_of_phases_do_not_matter(policy: AllocationPolicy) -> None:
    """Hubs and phases shuffled give the same powers shuffled."""
    for seed in range(200):
        case, rng = random_case(policy, seed), np.random.default_rng(seed)
        hubs, phases = rng.permutation(len(case.most_kw)), rng.permutation(3)
        shuffled = replace(
            case, free_kw=case.free_kw[phases], phase_share=np.ascontiguousarray(case.phase_share[hubs][:, phases]),
            floor_kw=case.floor_kw[hubs], most_kw=case.most_kw[hubs], weight=case.weight[hubs], rank=case.rank[hubs],
        )  # fmt: skip
        assert np.abs(shared_kw(shuffled) - shared_kw(case)[hubs]).max() <= 1e-9 * case.scale_kw, seed


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_to_split_is_split(policy: AllocationPolicy) -> None:
    """No hubs, no wants, no power, less than none."""
    assert shared_kw(case_of(policy, 10.0, [])).shape == (0,)
    assert shared_kw(case_of(policy, 10.0, [0.0, 0.0])).tolist() == [0.0, 0.0]
    assert shared_kw(case_of(policy, 0.0, [1.0, 2.0], floor=[1.0, 0.0])).tolist() == [0.0, 0.0]
    assert shared_kw(case_of(policy, -5.0, [1.0, 2.0])).tolist() == [0.0, 0.0]
    on_l1 = shared_kw(case_of(policy, [-1.0, 4.0, 4.0], [3.0, 3.0], shares=np.eye(3)[:2]))
    assert on_l1.tolist() == [0.0, 3.0]


@pytest.mark.parametrize("policy", POLICIES)
def test_nearly_equal_and_far_apart_sizes_are_split_exactly(policy: AllocationPolicy) -> None:
    """Wants, weights and capacities over nine decades keep phases and leave no room."""
    for seed in range(300):
        rng = np.random.default_rng([seed, 7])
        case = random_case(policy, seed)
        count = len(case.most_kw)
        case = replace(
            case, most_kw=case.most_kw * 10.0 ** rng.uniform(-6.0, 3.0, count), floor_kw=np.zeros(count),
            weight=10.0 ** rng.uniform(-4.0, 4.0, count),
        )  # fmt: skip
        case = replace(case, free_kw=case.phase_share.T @ case.most_kw * rng.uniform(0.0, 1.1, 3))
        power = shared_kw(case)
        used = case.phase_share.T @ power
        assert (used <= case.free_kw * (1.0 + 1e-12)).all(), seed
        full = used >= case.free_kw - 1e-9 * case.scale_kw
        lacks = power < case.most_kw - 1e-9 * case.scale_kw
        assert ((case.phase_share > 0.0) & full)[lacks].any(axis=1).all(), seed
