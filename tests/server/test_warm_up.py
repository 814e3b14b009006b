"""After the warm-up no request compiles a kernel, which would take seconds."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def compiled_since_warm_up() -> list[str]:
    """Kernels that sites of every feature and portfolios, read from requests, compile after the warm-up."""
    import pkgutil
    from importlib import import_module

    from numba.core.dispatcher import Dispatcher

    import evflex.engine
    import evflex.server
    from evflex.charging.v1 import schedule_pb2
    from evflex.dispatch.v1 import dispatch_service_pb2 as api
    from evflex.engine.charging import optimize_schedule, optimize_together
    from evflex.server.charging.decode import decode_request
    from evflex.server.charging.encode import encode_schedule
    from evflex.server.warm_up import warm_up
    from tests.engine.charging.reference.generators import FEATURES, random_problem
    from tests.server.dispatch.support import created, fleet, planned, running_dispatch, updated
    from tests.server.support import site_request

    names = [
        module.name
        for package in (evflex.engine, evflex.server)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if ".migrations" not in module.name
    ]
    kernels = {
        f"{kernel.py_func.__module__}.{kernel.py_func.__name__}": kernel
        for name in names
        for kernel in vars(import_module(name)).values()
        if isinstance(kernel, Dispatcher)
    }
    warm_up()
    before = {name: len(kernel.signatures) for name, kernel in kernels.items()}
    for sessions in (2, 20, 80):
        request = site_request(sessions=sessions)
        request.nodes[0].max_import_kw[:] = [5.0 * sessions]
        request.options.relative_gap = 0.0
        read = decode_request(request, 5.0)
        plan = optimize_schedule(read.problem, read.options)
        encode_schedule(schedule_pb2.Schedule(), request, read.problem, plan, "tenant", 0)
    small = [site_request(site_id=f"site-{k}", sessions=3 + k) for k in range(6)]
    for k, request in enumerate(small):
        request.nodes[0].max_import_kw[:] = [4.0 + k]
        request.options.shortfall_price_per_kwh = 2.0
    reads = [decode_request(request, 5.0) for request in small]
    plans = optimize_together([read.problem for read in reads], [read.options for read in reads])
    for request, read, together in zip(small, reads, plans, strict=True):
        plan = together or optimize_schedule(read.problem, read.options)
        encode_schedule(schedule_pb2.Schedule(), request, read.problem, plan, "tenant", 0)
    for feature in FEATURES:
        optimize_schedule(*random_problem(11, (feature, "min"), count=3, steps=6))
    with tempfile.TemporaryDirectory() as folder, running_dispatch(Path(folder), warm_up=False) as here:
        created(here, 40)
        change = fleet(2, 39, max_discharge_kw=[1.0, 2.0])
        updated(here, api.PortfolioChunk(fleet=change, removed_asset_ids=["asset-000003", "asset-000001"]))
        plan_id = planned(here).plan.plan_id
        here.server.compaction.compact("default", "p")
        list(here.dispatch.GetPlan(api.GetPlanRequest(plan_id=plan_id, asset_ids=["asset-000002"])))
    plan_portfolios()
    share_capacity()
    compute_flows()
    return [name for name, kernel in kernels.items() if len(kernel.signatures) > before[name]]


def plan_portfolios() -> None:
    """Plan fleets of every feature by decomposition, and read their powers back from arrays."""
    import numpy as np

    from evflex.engine.dispatch import PlanOptions, plan_portfolio, setpoints_from_arrays
    from evflex.engine.dispatch.model import PlanMethod
    from tests.engine.dispatch.reference.fleets import FEATURES, random_problem
    from tests.engine.dispatch.reference.reference_fleet import reference_problem
    from tests.engine.dispatch.test_nested import over_all

    options = PlanOptions(relative_gap=1e-6, method=PlanMethod.DECOMPOSITION, time_limit_s=5.0)
    problems = [random_problem(seed, (feature, "ev", "fleet_limit")) for seed, feature in enumerate(FEATURES)]
    problems += [
        reference_problem(700, 1, minimum=minimum, v2g=v2g) for minimum in (False, True) for v2g in (False, True)
    ]
    problems.append(over_all(reference_problem(200, 1, feeders=7), 0.9))
    for problem in problems:
        plan = plan_portfolio(problem, options)
        setpoints_from_arrays(plan.setpoints.to_arrays()).power_kw(np.arange(len(problem.fleet)))


def compute_flows() -> None:
    """Compute flows of a network as requests do."""
    import numpy as np

    from evflex.engine.grid import FlowOptions, prepare_grid, run_power_flow
    from evflex.engine.grid.injections import Injections, LoadRows
    from tests.server.congestion.support import toy_network

    power = np.ones((2, 40))
    for phases in (1, 3):
        network = toy_network(5, phases, cut=[3])
        grid = prepare_grid(network)
        rows = LoadRows(np.array([1, 2]), np.full((2, phases), 1.0 / phases))
        injections = Injections.of_rows(network, rows, power, power, add_network_loads=True)
        for options in (FlowOptions(), FlowOptions(complex_voltages=True, branch_flows=True)):
            run_power_flow(grid, *injections.block(3, 30), options)


def share_capacity() -> None:
    """Rate, share and track transformers through servers, hot ones and cool ones."""
    from evflex.capacity.v1 import capacity_service_pb2_grpc
    from tests.server.capacity.live_support import Operator, running_live
    from tests.server.capacity.planning_support import (
        FakeAgreements,
        HeardPlans,
        PlanningServer,
        allocate_request,
        car,
        forecast,
        hub,
        rate_request,
        terms,
        transformer,
    )  # fmt: skip
    from tests.server.support import open_channel, settings_for

    steps = 12
    load = forecast(load_kw=[80.0] * steps, load_kvar=[20.0] * steps)
    hot = transformer(rated_kva=100.0, max_hot_spot_c=100.0, max_loss_of_life_h_per_day=6.0)
    with tempfile.TemporaryDirectory() as folder:
        server = PlanningServer(settings_for(Path(folder), warm_up=False))
        server.agreements, server.heard = FakeAgreements(), HeardPlans()
        with server, open_channel(server.port) as channel:
            stub: Any = capacity_service_pb2_grpc.CapacityServiceStub(channel)
            stub.RateTransformer(rate_request(steps, transformer=hot, loading=load), timeout=60.0)
            hubs = [
                hub("demand", steps, connected_evs=[5], phases_per_ev=1),
                hub("cars", sessions=[car(f"car-{i}") for i in range(3)]),
                hub("agreed", steps, agreement=terms(firm_kw=5.0, conditional_kw=20.0)),
            ]
            for policy in range(1, 6):
                request = allocate_request(steps, transformer=hot, loading=load, hubs=hubs, policy=policy, store=True)
                stub.AllocateCapacity(request, timeout=60.0)
    with tempfile.TemporaryDirectory() as folder, running_live(Path(folder), warm_up=False) as here:
        operator = Operator(here)
        for base_kw in (100.0, 395.0):
            operator.measure(base_kw)


@pytest.mark.slow
def test_no_request_compiles_a_kernel() -> None:
    # in a process of its own, where no other test has called them
    command = f"from {__name__} import compiled_since_warm_up as look; print(look())"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=240.0, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
