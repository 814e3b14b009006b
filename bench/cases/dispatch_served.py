"""A million vehicles over the wire: upload, plan, powers to a client, and the server's memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from bench.fleets import reference_problem
from bench.instances import FloatArray
from bench.registry import Outcome, Setting, case
from bench.served import served
from bench.served_fleet import FleetCaller, WirePlan
from bench.timing import shown
from evflex.engine.dispatch.model import DispatchProblem

Answer = TypeVar("Answer")

_MILLION = 1_000_000
_GAP = 1e-3
_MEBIBYTE = 1 << 20
_PORTFOLIO, _SMALL = "million", "small"
# Powers are compared in single precision.
_TOLERANCE = 1e-4


@case("dispatch_served", "1 000 000 vehicles through the server", sizes=(_MILLION,), generated=True, domain="dispatch")
def dispatch_served(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "The server is a process of its own with default settings. The client is this process: it begins with arrays, "
        "writes the messages while it sends them, and ends with an array of all powers. Powers are read twice, after "
        "the plan and again from the stored plan; the second is timed, for the first waits for the solve.",
    ])  # fmt: skip
    small, problem = reference_problem(300), reference_problem(setting.pick(_MILLION, 300))
    with served() as server:
        caller = FleetCaller(server.channel)
        caller.create(small, _SMALL)
        caller.plan(small, _SMALL, _GAP, return_setpoints=True)
        idle_mb = server.peak_bytes() / _MEBIBYTE
        created, upload_s = _with_seconds(lambda: caller.create(problem, _PORTFOLIO))
        uploaded_mb = server.peak_bytes() / _MEBIBYTE
        planned, plan_s = _with_seconds(lambda: caller.plan(problem, _PORTFOLIO, _GAP, return_setpoints=True))
        stored, powers_s = _with_seconds(lambda: caller.stored(planned.plan.plan_id))
        peak_mb = server.peak_bytes() / _MEBIBYTE
    outcome.seconds = {
        "CreatePortfolio": [upload_s], "PlanPortfolio with all powers": [plan_s], "GetPlan with all powers": [powers_s],
    }  # fmt: skip
    ended = planned.plan.termination
    solve_s = ended.solve_duration.seconds + 1e-9 * ended.solve_duration.nanos
    outcome.add("upload", "Upload of 1 000 000 assets", upload_s, "s", at_most=10.0)
    outcome.add("memory", "Peak memory of the server through a plan of 1 000 000 with all powers", peak_mb, "MB",
                at_most=3.0 * 1024, peer=f"{idle_mb:.0f} MB before, {uploaded_mb:.0f} MB after the upload")  # fmt: skip
    outcome.add("powers", "Powers of 1 000 000 vehicles to a client", powers_s, "s", at_most=10.0,
                peer=f"plan and powers {shown(plan_s)}, of which the solve {shown(solve_s)}")  # fmt: skip
    outcome.add("faults", "Powers that are not the plan's, in two readings", _faults(problem, planned, stored), "",
                at_most=0)  # fmt: skip
    outcome.add("gap", "Certified gap as served", ended.relative_gap, "%", at_most=_GAP, peer=ended.method)
    outcome.details |= {"resident_bytes": created.portfolio.resident_bytes, "solve_s_as_stated": solve_s}
    return outcome


def _faults(problem: DispatchProblem, planned: WirePlan, stored: WirePlan) -> int:
    """How many of the two readings lack powers, or do not add up to the fleet's."""
    bad = 0
    for read in (planned, stored):
        wanted: FloatArray = np.asarray(planned.plan.fleet_power_kw)
        whole = read.power_kw is not None and read.power_kw.shape == (len(problem.fleet), problem.grid.step_count)
        if not whole or read.power_kw is None:
            bad += 1
            continue
        total = read.power_kw.sum(axis=0, dtype=np.float64)
        bad += bool(np.abs(total - wanted).max() > _TOLERANCE * max(1.0, float(np.abs(wanted).max())))
    return bad


def _with_seconds(run: Callable[[], Answer]) -> tuple[Answer, float]:
    started = time.perf_counter()
    return run(), time.perf_counter() - started
