"""The checker finds what it is there to find: a sound allocation passes, and each planted fault is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evflex.engine.capacity.allocation import Allocation, CapacityViolation
from evflex.engine.capacity.hub import Hub, HubSessions
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem, BindingReason
from evflex.engine.capacity.transformer import BaseLoad, Cooling, ThermalParameters, Transformer
from evflex.engine.supply_tree import PhaseConnection
from evflex.engine.timegrid import TimeGrid
from tests.engine.capacity.reference.builders import allocation_of
from tests.engine.capacity.reference.checker import violations
from tests.engine.capacity.reference.twin import stress

GRID = TimeGrid(1_767_225_600.0, 3600.0, 4)
START = GRID.start_unix_s
LOADING, AGREEMENT = int(BindingReason.LOADING_RATIO), int(BindingReason.AGREEMENT)


def transformer(**changes: Any) -> Transformer:
    """100 kVA that may be loaded fully, and does not get hot in the cold."""
    plain = Transformer(100.0, ThermalParameters.of(Cooling.ONAN), np.full(4, -10.0), max_loading_ratio=1.0)
    return replace(plain, **changes)


def cars() -> HubSessions:
    """One over the whole grid, one in the second half of step 1 and all of step 2."""
    return HubSessions(
        ("a", "b"), np.array([START - 60.0, START + 5400.0]), np.array([START + 99_999.0, START + 10_800.0]),
        np.array([20.0, 30.0]), np.array([11.0, 22.0]),
    )  # fmt: skip


PROBLEM = AllocationProblem(
    GRID,
    transformer(),
    BaseLoad.balanced(np.array([40.0, 70.0, 70.0, 40.0])),
    np.zeros(4, dtype=np.bool_),
    60.0,
    (
        replace(
            Hub.of_demand("by-demand", np.array([30.0, 30.0, 0.0, 0.0]), max_kw=50.0, firm_kw=5.0, min_kw_per_ev=4.0),
            curtailment_price_per_kwh=0.5,
        ),
        replace(
            Hub.of_demand("by-cars", np.empty(0), max_kw=40.0), sessions=cars(),
            firm_kw=np.full(4, 4.0), conditional_kw=np.full(4, 20.0), noticed_kw=np.zeros(4),
        ),
    ),
)  # fmt: skip
CARS = np.array([[11.0, 6.0, 3.0, 0.0], [0.0, 11.0, 19.0, 0.0]])
TOLD = [(1, 0, LOADING), (1, 1, LOADING), (2, 0, LOADING), (3, 0, LOADING)]


def sound() -> Allocation:
    """Fills the transformer in steps 1 and 2, and serves what is left of the demand in step 3."""
    power = np.array([[30.0, 13.0, 6.0, 11.0], [11.0, 17.0, 22.0, 0.0]])
    return allocation_of(PROBLEM, power, session_power_kw=(np.zeros((0, 4)), CARS), binding=TOLD[:3])


def changed(values: Any, place: Any, value: Any) -> Any:
    """A copy with one entry changed."""
    copy = values.copy()
    copy[place] = value
    return copy


def test_a_sound_allocation_passes() -> None:
    """No fault where there is none."""
    assert violations(PROBLEM, sound()) == []


@pytest.mark.parametrize(
    ("field", "place", "value", "words"),
    [
        ("capacity_kw", (0, 1), 30.0, "currents are not those of its capacity"),
        ("current_a", (0, 1), 60.0, "phase 1 carries"),
        ("capacity_kw", (0, 3), 3.0, "below the least power"),
        ("capacity_kw", (1, 3), 2.0, "of firm"),
        ("capacity_kw", (1, 0), 26.0, "more than agreement"),
        ("capacity_kw", (0, 0), 35.0, "beyond right and use"),
        ("power_kw", (0, 0), 31.0, "power above capacity"),
        ("power_kw", (0, 3), 13.0, "uses more than was wanted"),
        ("power_kw", (1, 0), 10.0, "cars draw"),
        ("current_a", (0, 0, 0), 1.0, "currents"),
        ("evs_served", (0, 0), 8, "more than the capacity holds"),
        ("evs_served", (1, 0), 2, "more than are there"),
        ("wanted_kwh", 0, 70.0, "wanted"),
        ("served_kwh", 0, 59.0, "served"),
        ("compensation", 0, 3.0, "compensation"),
        ("loading_ratio", 0, 0.5, "loading_ratio"),
        ("top_oil_c", 0, 50.0, "top_oil_c"),
        ("hot_spot_c", 3, 50.0, "hot_spot_c"),
        ("loss_of_life_h", 3, 1.0, "loss_of_life_h"),
        ("headroom_n_kva", 1, 5.0, "headroom_n_kva: a phase"),
        ("headroom_n1_kva", 0, 1.0, "headroom_n1_kva: a phase"),
    ],
)
def test_tells_a_planted_fault(field: str, place: Any, value: Any, words: str) -> None:
    """One figure of the sound allocation changed."""
    allocation = sound()
    planted = replace(allocation, **{field: changed(getattr(allocation, field), place, value)})
    assert any(words in fault for fault in violations(PROBLEM, planted)), violations(PROBLEM, planted)


@pytest.mark.parametrize(
    ("car_power", "words"),
    [
        (changed(CARS, (1, 1), 12.0), "beyond its own"),
        (changed(CARS, (1, 0), 1.0), "while absent"),
        (changed(CARS, (0, 3), 5.0), "gets 25"),
    ],
)
def test_tells_faults_of_cars(car_power: Any, words: str) -> None:
    """Powers of cars beyond what they can or need."""
    planted = replace(sound(), session_power_kw=(np.zeros((0, 4)), car_power))
    assert any(words in fault for fault in violations(PROBLEM, planted))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (TOLD[1:3], "no reason is told"),
        ([(2, 0, LOADING), (1, 0, LOADING), (1, 1, LOADING)], "not by step"),
        ([(1, 0, AGREEMENT), (2, 0, LOADING)], "AGREEMENT leaves"),
        ([(1, 0, int(BindingReason.HUB_LIMIT)), (2, 0, LOADING)], "HUB_LIMIT leaves"),
        ([(1, 0, int(BindingReason.HOT_SPOT)), (2, 0, LOADING)], "HOT_SPOT does not bind"),
        ([(1, 0, int(BindingReason.SILENCE)), (2, 0, LOADING)], "does not happen"),
        ([(0, 1, LOADING), (1, 0, LOADING), (2, 0, LOADING)], "gets what it wants"),
    ],
)
def test_tells_reasons_that_do_not_hold(rows: list[tuple[int, int, int]], words: str) -> None:
    """Rows missing, out of order, or of limits that do not bind."""
    planted = replace(sound(), binding=np.array(rows, dtype=np.int64))
    assert any(words in fault for fault in violations(PROBLEM, planted)), violations(PROBLEM, planted)


def test_tells_needless_curtailment() -> None:
    """The last 6 kWh fit in step 3."""
    power = changed(sound().power_kw, (0, 3), 5.0)
    planted = allocation_of(PROBLEM, power, session_power_kw=(np.zeros((0, 4)), CARS), binding=TOLD)
    faults = violations(PROBLEM, planted)
    assert len(faults) == 1
    assert "step 3: LOADING_RATIO does not bind" in faults[0]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("max_hot_spot_c", "HOT_SPOT broken"), ("max_top_oil_c", "TOP_OIL broken"),
        ("max_loss_of_life_h_per_day", "LOSS_OF_LIFE broken"),
    ],
)  # fmt: skip
def test_tells_heat(limit: str, words: str) -> None:
    """A limit just below what all capacities do to the transformer."""
    found = stress(PROBLEM, sound().capacity_kw)
    reached = {
        "max_hot_spot_c": found.hot_spot_c.max(),
        "max_top_oil_c": found.top_oil_c.max(),
        "max_loss_of_life_h_per_day": found.day_loss_h[0] * 24.0 / 4.0,
    }[limit]
    hotter = replace(PROBLEM, transformer=transformer(**{limit: float(reached) * (1.0 - 1e-4)}))
    assert any(words in fault for fault in violations(hotter, sound()))
    just = replace(PROBLEM, transformer=transformer(**{limit: float(reached) * (1.0 + 1e-9)}))
    assert not any("broken" in fault for fault in violations(just, sound()))


def test_firm_cut_must_be_told_needed_and_even() -> None:
    """Two hubs with 20 kW of firm capacity each where 30 kW are free in step 0."""
    hubs = tuple(Hub.of_demand(name, np.full(4, 20.0), max_kw=20.0, firm_kw=20.0) for name in "ab")
    base = BaseLoad.balanced(np.array([70.0, 60.0, 60.0, 60.0]))
    problem = replace(PROBLEM, hubs=hubs, base=base)

    def cut(to_a: float, to_b: float, told: bool = True) -> list[str]:
        power = np.full((2, 4), 20.0)
        power[:, 0] = to_a, to_b
        rows = [(k, h, LOADING) for k in range(4) for h in range(2)]
        allocation = allocation_of(problem, power, capacity_kw=power, binding=rows)
        lacks = [CapacityViolation(0, BindingReason.LOADING_RATIO, 20.0, 20.0 - power[h, 0], h) for h in range(2)]
        return violations(problem, replace(allocation, violations=tuple(lacks) if told else ()))

    assert not any("firm" in fault for fault in cut(15.0, 15.0))
    assert any("not reported" in fault for fault in cut(15.0, 15.0, told=False))
    assert any("here and" in fault for fault in cut(10.0, 20.0))
    assert any("phase 1 carries" in fault for fault in cut(20.0, 20.0))


def test_base_load_over_a_limit_must_be_reported_and_not_worsened() -> None:
    """110 kVA on 100 kVA in step 1, and hubs that draw nothing then."""
    base = BaseLoad.balanced(np.array([40.0, 110.0, 40.0, 40.0]))
    hub = Hub.of_demand("a", np.array([0.0, 0.0, 5.0, 5.0]), max_kw=20.0)
    problem = replace(PROBLEM, base=base, hubs=(hub,))
    allocation = allocation_of(problem, np.array([[0.0, 0.0, 5.0, 5.0]]))
    assert any("not reported" in fault for fault in violations(problem, allocation))
    told = tuple(CapacityViolation(1, BindingReason.LOADING_RATIO, 1.0, 0.1, -1, f) for f in (1, 2, 3))
    assert violations(problem, replace(allocation, violations=told)) == []
    worse = allocation_of(problem, np.array([[0.0, 1.0, 5.0, 5.0]]))
    assert any("phase 1 carries" in fault for fault in violations(problem, replace(worse, violations=told)))


def test_contingency_has_its_own_limit_and_single_phase_hubs_their_phase() -> None:
    """60 kVA in N-1 are 20 on L2, of which the base load takes 10: 10 kW fit, 11 do not, and L1 is not touched."""
    contingency = np.array([False, True, False, False])
    hub = Hub.of_demand("a", np.array([0.0, 11.0, 0.0, 0.0]), max_kw=20.0, phases=PhaseConnection.L2)
    problem = replace(
        PROBLEM, base=BaseLoad.balanced(np.full(4, 30.0)), hubs=(hub,), contingency=contingency,
        policy=AllocationPolicy.LEAST_COST,
    )  # fmt: skip
    rows = [(1, 0, int(BindingReason.CONTINGENCY))]
    fits = allocation_of(problem, np.array([[0.0, 10.0, 1.0, 0.0]]), binding=rows)
    assert violations(problem, fits) == []
    assert fits.current_a[0, 1].tolist() == pytest.approx([0.0, 10_000.0 / 230.0, 0.0])
    over = allocation_of(problem, np.array([[0.0, 11.0, 0.0, 0.0]]))
    assert any("phase 2 carries" in fault for fault in violations(problem, over))
