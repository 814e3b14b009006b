"""Requests in the engine's terms: what is said, what is meant where nothing is said, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from evflex.capacity.v1 import capacity_service_pb2 as api
from evflex.capacity.v1 import transformer_pb2
from evflex.engine.capacity.hub import ANY_COUNT, Hub
from evflex.engine.capacity.model import AllocationPolicy, AllocationProblem
from evflex.engine.capacity.transformer import (
    Cooling,
    InsulationPaper,
    ThermalParameters,
    ThermalState,
    Transformer,
)
from evflex.engine.supply_tree import PhaseConnection
from evflex.engine.validation import Rules
from evflex.server.capacity.agreements import ActiveTerms
from evflex.server.capacity.decode_request import decode_allocation, decode_rating
from evflex.server.capacity.decode_transformer import decode_transformer
from evflex.server.capacity.notice import with_notice
from evflex.server.capacity.terms import Terms
from evflex.server.messages import timestamp
from tests.server.capacity.planning_support import (
    STEPS,
    allocate_request,
    car,
    forecast,
    grid,
    hub,
    measured,
    rate_request,
    terms,
    transformer,
)
from tests.server.support import START_S

HOUR_S = 3600


def problem_of(**changes: Any) -> AllocationProblem:
    """The problem of a request without a fault."""
    decoded = decode_allocation(allocate_request(**changes), {}, 10.0)
    assert decoded.violations() == []
    return decoded.problem


def hub_of(message: Any, **changes: Any) -> Hub:
    (only,) = problem_of(hubs=[message], **changes).hubs
    return only


def faults_of(agreed: Mapping[str, ActiveTerms] | None = None, **changes: Any) -> dict[str, str]:
    decoded = decode_allocation(allocate_request(**changes), agreed or {}, 10.0)
    return {v.field: v.description for v in decoded.violations()}


def at(offset_s: float) -> Timestamp:
    return timestamp(round(1e6 * (START_S + offset_s)))


def test_what_is_not_said_has_its_default() -> None:
    problem = problem_of(hubs=[hub()])
    own = problem.transformer
    assert own == Transformer(
        400.0, ThermalParameters.of(Cooling.ONAN), own.ambient_c, 1.5, 120.0, 105.0, inf, InsulationPaper.NORMAL, None
    )
    assert own.ambient_c.tolist() == [20.0] * STEPS
    assert not problem.contingency.any()
    assert problem.contingency.shape == (STEPS,)
    assert (problem.n1_rated_kva, problem.policy) == (400.0, AllocationPolicy.MAX_MIN)
    (only,) = problem.hubs
    assert (only.phases, only.phases_per_ev, only.weight, only.priority) == (PhaseConnection.L1_L2_L3, 0, 1.0, 0)
    assert only.min_kw_per_ev == pytest.approx(3 * 6.0 * 0.230)
    assert only.connected_evs.tolist() == [ANY_COUNT] * STEPS
    assert only.firm_kw.tolist() == [0.0] * STEPS
    assert only.conditional_kw.tolist() == [50.0] * STEPS
    assert only.noticed_kw.tolist() == [0.0] * STEPS
    assert only.curtailment_price_per_kwh == 0.0


def test_a_car_on_one_phase_needs_a_third() -> None:
    assert hub_of(hub(phases_per_ev=1)).min_kw_per_ev == pytest.approx(6.0 * 0.230)
    assert hub_of(hub(phases=PhaseConnection.L1_L2)).min_kw_per_ev == pytest.approx(2 * 6.0 * 0.230)
    assert hub_of(hub(min_kw_per_ev=0.0)).min_kw_per_ev == 0.0


def test_parameters_that_are_given_replace_those_of_the_class() -> None:
    own = transformer_pb2.ThermalParameters(oil_exponent=0.9, k21=1.5)
    message = transformer(cooling=Cooling.OFAF, thermal_parameters=own, paper=2, max_loading_ratio=1.2)
    message.initial_state.top_oil_c = 40.0
    decoded = problem_of(transformer=message).transformer
    expected = ThermalParameters.of(Cooling.OFAF)
    for field in fields(ThermalParameters):
        wanted = {"oil_exponent": 0.9, "k21": 1.5}.get(field.name, getattr(expected, field.name))
        assert getattr(decoded.thermal, field.name) == wanted, field.name
    assert decoded.paper is InsulationPaper.THERMALLY_UPGRADED
    assert decoded.max_loading_ratio == 1.2
    assert decoded.initial_state == ThermalState(40.0, 0.0, 0.0)
    distribution = problem_of(transformer=transformer(distribution=True)).transformer
    assert distribution.thermal == ThermalParameters.of(Cooling.ONAN, distribution=True)


def test_a_tracked_transformer_has_one_ambient_temperature() -> None:
    rules = Rules()
    assert decode_transformer(rules, transformer(ambient_c=[5.0]), 1, "header.transformer").ambient_c.tolist() == [5.0]
    assert rules.violations == []
    decode_transformer(rules, transformer(ambient_c=[5.0, 6.0], rated_kva=0.0), 1, "header.transformer")
    assert {v.field for v in rules.violations} == {"header.transformer.ambient_c", "header.transformer.rated_kva"}


def test_conditions_and_temperatures_may_be_constant_or_per_step() -> None:
    problem = problem_of(grid_condition=[2], transformer=transformer(ambient_c=[-3.0]), n1_rated_kva=250.0)
    assert problem.contingency.tolist() == [True] * STEPS
    assert problem.transformer.ambient_c.tolist() == [-3.0] * STEPS
    assert problem.n1_rated_kva == 250.0
    problem = problem_of(grid_condition=[0, 1, 2, 1], transformer=transformer(ambient_c=[1.0, 2.0, 3.0, 4.0]))
    assert problem.contingency.tolist() == [False, False, True, False]
    assert problem.transformer.ambient_c.tolist() == [1.0, 2.0, 3.0, 4.0]


@given(
    st.lists(st.floats(0, 1e4), min_size=3, max_size=3),
    st.lists(st.floats(1, 500), min_size=3, max_size=3),
    st.floats(-1, 1).filter(lambda factor: factor != 0.0),
)
def test_a_measurement_holds_throughout(current_a: list[float], voltage_v: list[float], factor: float) -> None:
    loading = measured(current_a=current_a, voltage_v=voltage_v, power_factor=factor)
    base = problem_of(loading=loading).base
    assert base.voltage_v.tolist() == voltage_v
    for phase in range(3):
        kva = current_a[phase] * voltage_v[phase] / 1000.0
        assert base.phase_kw[:, phase] == pytest.approx([kva * factor] * STEPS)
        assert base.phase_kvar[:, phase] == pytest.approx([kva * sqrt(1 - factor**2)] * STEPS)
    assert np.all(base.phase_kw * np.sign(factor) >= 0.0)
    assert np.all(base.phase_kvar >= 0.0)


def test_a_forecast_is_balanced_and_may_have_reactive_power() -> None:
    base = problem_of(loading=forecast(load_kw=[3.0, -6.0, 0.0, 9.0], load_kvar=[0.0, 3.0, -3.0, 6.0])).base
    for phase in range(3):
        assert base.phase_kw[:, phase].tolist() == [1.0, -2.0, 0.0, 3.0]
        assert base.phase_kvar[:, phase].tolist() == [0.0, 1.0, -1.0, 2.0]
    assert base.voltage_v.tolist() == [230.0] * 3
    assert not problem_of(loading=forecast()).base.phase_kvar.any()


@pytest.mark.parametrize(
    ("risk_quantile", "active_kw", "reactive_kvar"),
    [(None, 60.0, 12.0), (0.9, 60.0, 12.0), (0.1, 0.0, 6.0), (0.5, 30.0, 9.0), (0.7, 45.0, 10.5), (0.2, 7.5, 6.75)],
)
def test_a_quantile_lies_between_those_given(
    risk_quantile: float | None, active_kw: float, reactive_kvar: float
) -> None:
    load_kw = np.repeat([0.0, 30.0, 60.0], STEPS)
    load_kvar = np.repeat([6.0, 9.0, 12.0], STEPS)
    loading = forecast(load_kw=load_kw, load_kvar=load_kvar, quantiles=[0.1, 0.5, 0.9])
    asked = {} if risk_quantile is None else {"risk_quantile": risk_quantile}
    base = problem_of(loading=loading, **asked).base
    assert base.phase_kw == pytest.approx(np.full((STEPS, 3), active_kw / 3))
    assert base.phase_kvar == pytest.approx(np.full((STEPS, 3), reactive_kvar / 3))


def test_terms_of_a_request_hold_while_they_are_valid() -> None:
    # a step that the terms cover in part is not covered
    own = terms(
        priority=7, curtailment_price_per_kwh=0.2, currency_code="EUR",
        valid_from_time=at(1), valid_until_time=at(3 * 900),
    )  # fmt: skip
    decoded = hub_of(hub(agreement=own))
    assert decoded.firm_kw.tolist() == [0.0, 10.0, 10.0, 0.0]
    assert decoded.conditional_kw.tolist() == [0.0, 30.0, 30.0, 0.0]
    assert (decoded.priority, decoded.curtailment_price_per_kwh) == (7, 0.2)
    bounded = terms(valid_from_time=at(0), valid_until_time=at(4 * 900))
    assert hub_of(hub(agreement=bounded)).firm_kw.tolist() == [10.0] * STEPS


def test_an_agreement_without_terms_grants_nothing() -> None:
    message = hub()
    message.agreement.SetInParent()
    decoded = hub_of(message)
    assert not decoded.firm_kw.any()
    assert not decoded.conditional_kw.any()


def stored(hub_id: str = "hub-1", transformer_id: str = "trafo-1", **values: Any) -> dict[str, ActiveTerms]:
    own = {"firm_kw": 5.0, "conditional_kw": 6.0, "priority": 3, "notice_s": 0.0, "curtailment_price_per_kwh": 0.0,
           "currency_code": "", "valid_from_unix_s": -inf, "valid_until_unix_s": inf, **values}  # fmt: skip
    return {"a": ActiveTerms("a", 1, hub_id, transformer_id, Terms(**own))}


def test_terms_of_the_store_are_those_of_this_hub_and_transformer() -> None:
    request = allocate_request(hubs=[hub(agreement_id="a")])
    decoded = decode_allocation(request, stored(), 10.0)
    assert decoded.violations() == []
    (only,) = decoded.problem.hubs
    assert (only.firm_kw[0], only.conditional_kw[0], only.priority) == (5.0, 6.0, 3)
    for agreed in ({}, stored("hub-2"), stored("hub-1", "trafo-2")):
        assert set(faults_of(agreed, hubs=[hub(agreement_id="a")])) == {"hubs[0].agreement_id"}


def test_cars_stand_in_for_demand() -> None:
    decoded = hub_of(hub(sessions=[car("a"), car("b", energy_needed_kwh=3.0, arrival_time=at(0.5))]))
    cars = decoded.sessions
    assert cars.session_ids == ("a", "b")
    assert cars.arrival_unix_s.tolist() == [START_S - 600.0, START_S + 0.5]
    assert cars.departure_unix_s.tolist() == [START_S + HOUR_S] * 2
    assert cars.energy_needed_kwh.tolist() == [12.0, 3.0]
    assert cars.max_charge_kw.tolist() == [11.0, 11.0]
    assert len(decoded.demand_kw) == len(decoded.connected_evs) == 0


def test_connected_cars_may_be_constant_or_per_step() -> None:
    assert hub_of(hub(connected_evs=[0])).connected_evs.tolist() == [0] * STEPS
    assert hub_of(hub(connected_evs=[1, 2, 3, 0])).connected_evs.tolist() == [1, 2, 3, 0]


def test_the_caller_may_shorten_the_solve_only() -> None:
    for asked_s, expected_s in ((3, 3.0), (30, 10.0)):
        request = allocate_request(time_limit_duration=Duration(seconds=asked_s))
        assert decode_allocation(request, {}, 10.0).options.time_limit_s == expected_s


def test_steps_in_which_load_is_wanted() -> None:
    assert decode_rating(rate_request()).problem.wanted.tolist() == [True] * STEPS
    asked = [True, False, False, True]
    assert decode_rating(rate_request(wanted=asked)).problem.wanted.tolist() == asked
    decoded = decode_rating(rate_request(wanted=[True]))
    assert [v.field for v in decoded.violations()] == ["wanted"]


def previous(step_s: int = 900, start_s: int = START_S, steps: int = STEPS, **capacity_kw: list[float]) -> Any:
    allocation = api.GetAllocationResponse().allocation
    allocation.time_grid.CopyFrom(grid(steps, step_s, start_s))
    for hub_id, values in capacity_kw.items():
        allocation.hubs.add(hub_id=hub_id, capacity_kw=values)
    return allocation


def noticed(earlier: Any, notice_s: float, **changes: Any) -> list[list[float]]:
    own = terms(notice_duration=Duration(seconds=int(notice_s)))
    hubs = [hub("a", agreement=own), hub("b", agreement=own), hub("c")]
    decoded = decode_allocation(allocate_request(hubs=hubs, **changes), {}, 10.0)
    assert decoded.violations() == []
    return [own.noticed_kw.tolist() for own in with_notice(decoded.problem, decoded.terms, earlier).hubs]


def test_notice_protects_steps_that_begin_within_it() -> None:
    earlier = previous(a=[1.0, 2.0, 3.0, 4.0], c=[9.0] * 4)
    assert noticed(earlier, 1800) == [[1.0, 2.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]
    assert noticed(earlier, 1801)[0] == [1.0, 2.0, 3.0, 0.0]
    assert noticed(earlier, 0)[0] == [0.0] * 4
    assert noticed(earlier, 86_400)[0] == [1.0, 2.0, 3.0, 4.0]


def test_notice_of_another_time_axis_protects_the_largest() -> None:
    assert noticed(previous(450, START_S - 900, 6, a=[9.0, 9.0, 1.0, 2.0, 3.0, 4.0]), HOUR_S)[0] == [2.0, 4.0, 0.0, 0.0]
    assert noticed(previous(1800, START_S - 900, 2, a=[1.0, 2.0]), HOUR_S)[0] == [1.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"request_id": "x"}, ["request_id"]),
        ({"store": True, "request_id": ""}, ["request_id"]),
        ({"area_id": "\n"}, ["area_id"]),
        ({"previous_allocation_id": "\n"}, ["previous_allocation_id"]),
        ({"policy": 9}, ["policy"]),
        ({"n1_rated_kva": 0.0}, ["n1_rated_kva"]),
        ({"n1_rated_kva": nan}, ["n1_rated_kva"]),
        ({"time_limit_duration": Duration(seconds=0)}, ["time_limit_duration"]),
        ({"grid_condition": [1, 1]}, ["grid_condition"]),
        ({"grid_condition": [1, 1, 3, 1]}, ["grid_condition[2]"]),
        ({"grid_condition": [-1]}, ["grid_condition[0]"]),
        ({"risk_quantile": 0.5}, ["risk_quantile"]),
        ({"loading": measured(), "risk_quantile": 0.5}, ["risk_quantile"]),
        ({"hubs": []}, ["hubs"]),
        ({"hubs": [hub(), hub()]}, ["hubs[1].hub_id"]),
    ],
)  # fmt: skip
def test_a_fault_names_its_field(changes: dict[str, Any], paths: list[str]) -> None:
    assert sorted(faults_of(**changes)) == paths


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"transformer_id": ""}, ["transformer_id"]),
        ({"rated_kva": 0.0}, ["rated_kva"]),
        ({"rated_kva": nan}, ["rated_kva"]),
        ({"cooling": 9}, ["cooling"]),
        ({"paper": 3}, ["paper"]),
        ({"distribution": True, "cooling": Cooling.ONAF}, ["distribution"]),
        ({"ambient_c": [1.0, 2.0]}, ["ambient_c"]),
        ({"ambient_c": [61.0]}, ["ambient_c[0]"]),
        ({"ambient_c": [0.0, nan, -61.0, 60.0]}, ["ambient_c[1]", "ambient_c[2]"]),
        ({"max_loading_ratio": 0.0}, ["max_loading_ratio"]),
        ({"max_hot_spot_c": inf}, ["max_hot_spot_c"]),
        ({"max_top_oil_c": nan}, ["max_top_oil_c"]),
        ({"max_loss_of_life_h_per_day": 0.0}, ["max_loss_of_life_h_per_day"]),
        ({"max_loss_of_life_h_per_day": inf}, ["max_loss_of_life_h_per_day"]),
        ({"max_loss_of_life_h_per_day": nan}, ["max_loss_of_life_h_per_day"]),
        ({"thermal_parameters": transformer_pb2.ThermalParameters(k11=0.0)}, ["thermal_parameters.k11"]),
        ({"initial_state": transformer_pb2.ThermalState(top_oil_c=nan)}, ["initial_state.top_oil_c"]),
        ({"initial_state": transformer_pb2.ThermalState(oil_gradient_c=-1)}, ["initial_state.oil_gradient_c"]),
    ],
)  # fmt: skip
def test_a_fault_of_the_transformer_names_its_field(changes: dict[str, Any], paths: list[str]) -> None:
    expected = [f"transformer.{path}" for path in paths]
    assert sorted(faults_of(transformer=transformer(**changes))) == expected
    decoded = decode_rating(rate_request(transformer=transformer(**changes)))
    assert sorted(v.field for v in decoded.violations()) == expected


@pytest.mark.parametrize(
    ("loading", "paths"),
    [
        (measured(current_a=[1.0, 2.0]), ["measured.current_a"]),
        (measured(current_a=[1.0, -2.0, nan]), ["measured.current_a[1]", "measured.current_a[2]"]),
        (measured(voltage_v=[]), ["measured.voltage_v"]),
        (measured(voltage_v=[nan, 0.0, inf]), [f"measured.voltage_v[{k}]" for k in range(3)]),
        (measured(voltage_v=[230.0, 0.0, 230.0]), ["measured.voltage_v[1]"]),
        (measured(power_factor=0.0), ["measured.power_factor"]),
        (measured(power_factor=1.01), ["measured.power_factor"]),
        (measured(power_factor=nan), ["measured.power_factor"]),
        (measured(current_a=[1e308] * 3), ["measured.current_a"]),
        (measured(measurement_time=Timestamp(seconds=2**60)), ["measured.measurement_time"]),
        (forecast(load_kw=[1.0]), ["forecast.load_kw"]),
        (forecast(load_kw=[1.0, inf, 1.0, 1.0]), ["forecast.load_kw[1]"]),
        (forecast(load_kvar=[1.0]), ["forecast.load_kvar"]),
        (forecast(quantiles=[0.5, 0.9]), ["forecast.load_kw"]),
        (forecast(quantiles=[1.0]), ["forecast.quantiles[0]"]),
        (forecast(load_kw=[1.0] * 8, quantiles=[0.5, 0.5]), ["forecast.quantiles[1]"]),
        (forecast(load_kw=[1.0] * 8, quantiles=[0.5, nan]), ["forecast.quantiles[1]"]),
    ],
)
def test_a_fault_of_the_loading_names_its_field(loading: Any, paths: list[str]) -> None:
    assert sorted(faults_of(loading=loading)) == [f"loading.{path}" for path in paths]


@pytest.mark.parametrize("risk_quantile", [0.0, 1.0, nan, 0.09, 0.91, -inf])
def test_a_quantile_outside_those_given_is_refused(risk_quantile: float) -> None:
    loading = forecast(load_kw=[1.0] * 8, quantiles=[0.1, 0.9])
    assert set(faults_of(loading=loading, risk_quantile=risk_quantile)) == {"risk_quantile"}


@pytest.mark.parametrize(
    ("message", "paths"),
    [
        (hub(""), ["hub_id"]),
        (hub("x" * 300), ["hub_id"]),
        (hub(max_kw=0.0), ["max_kw"]),
        (hub(max_kw=nan), ["max_kw"]),
        (hub(weight=0.0), ["weight"]),
        (hub(min_kw_per_ev=-1.0), ["min_kw_per_ev"]),
        (hub(phases=8), ["phases"]),
        (hub(phases_per_ev=2), ["phases_per_ev"]),
        (hub(demand_kw=[]), ["demand_kw"]),
        (hub(demand_kw=[1.0]), ["demand_kw"]),
        (hub(demand_kw=[1.0, -1.0, nan, 1.0]), ["demand_kw[1]", "demand_kw[2]"]),
        (hub(connected_evs=[1, 2]), ["connected_evs"]),
        (hub(connected_evs=[-1]), ["connected_evs[0]"]),
        (hub(sessions=[car()], demand_kw=[1.0] * 4), ["sessions"]),
        (hub(sessions=[car()], connected_evs=[1]), ["sessions"]),
        (hub(sessions=[car(), car()]), ["sessions[1].session_id"]),
        (hub(sessions=[car("")]), ["sessions[0].session_id"]),
        (hub(sessions=[car("\t")]), ["sessions[0].session_id"]),
        (hub(sessions=[car(arrival_time=None)]), ["sessions[0].arrival_time"]),
        (hub(sessions=[car(departure_time=at(-601))]), ["sessions[0].departure_time"]),
        (hub(sessions=[car(departure_time=Timestamp(nanos=-1))]), ["sessions[0].departure_time"]),
        (hub(sessions=[car(energy_needed_kwh=-1.0)]), ["sessions[0].energy_needed_kwh"]),
        (hub(sessions=[car(max_charge_kw=0.0)]), ["sessions[0].max_charge_kw"]),
        (hub(agreement_id="a", agreement=terms()), ["agreement_id"]),
        (hub(agreement_id="unknown"), ["agreement_id"]),
        (hub(agreement=terms(firm_kw=-1.0)), ["agreement.firm_kw"]),
        (hub(agreement=terms(conditional_kw=nan)), ["agreement.conditional_kw"]),
        (
            hub(agreement=terms(curtailment_price_per_kwh=inf, currency_code="EUR")),
            ["agreement.curtailment_price_per_kwh"],
        ),
        (hub(agreement=terms(curtailment_price_per_kwh=1.0)), ["agreement.currency_code"]),
        (hub(agreement=terms(notice_duration=Duration(seconds=-1))), ["agreement.notice_duration"]),
        (hub(agreement=terms(valid_from_time=at(5), valid_until_time=at(5))), ["agreement.valid_until_time"]),
        (hub(agreement=terms(hub_id="hub-2")), ["agreement.hub_id"]),
        (hub(agreement=terms(transformer_id="trafo-2")), ["agreement.transformer_id"]),
    ],
)  # fmt: skip
def test_a_fault_of_a_hub_names_its_field(message: Any, paths: list[str]) -> None:
    assert sorted(faults_of(hubs=[message])) == [f"hubs[0].{path}" for path in paths]


@pytest.mark.parametrize("name", ["time_grid", "transformer", "loading"])
def test_what_is_missing_is_told_once(name: str) -> None:
    request = allocate_request()
    request.ClearField(name)
    assert [v.field for v in decode_allocation(request, {}, 10.0).violations()] == [name]


def test_prices_in_several_currencies_have_no_least_cost() -> None:
    hubs = [
        hub("a", agreement=terms(curtailment_price_per_kwh=1.0, currency_code="EUR")),
        hub("b", agreement=terms(currency_code="USD")),
        hub("c", agreement=terms(curtailment_price_per_kwh=1.0, currency_code="DKK")),
    ]
    assert set(faults_of(hubs=hubs, policy=AllocationPolicy.LEAST_COST)) == {"hubs[2].agreement.currency_code"}
    assert faults_of(hubs=hubs) == {}


def test_many_faults_are_told_together() -> None:
    found = faults_of(
        policy=7, transformer=transformer(rated_kva=-1.0), hubs=[hub(max_kw=-1.0), hub("b", demand_kw=[nan] * 4)]
    )
    assert {"policy", "transformer.rated_kva", "hubs[0].max_kw", "hubs[1].demand_kw[3]"} <= set(found)
