"""Capacity in real time: answers to an operator, cuts that reach every hub, and an hour second by second."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

from bench.capacity_operator import MAX_KW, operator
from bench.capacity_watchers import watchers
from bench.registry import Outcome, Setting, case
from bench.served import served
from bench.timing import shown
from evflex.capacity.v1 import tracking_pb2 as api
from evflex.engine.capacity.tracker import CapacityTracker
from evflex.engine.capacity.tracking_model import Measurement, TrackedHubs, TrackerSetup
from evflex.engine.capacity.transformer import Cooling, ThermalParameters, Transformer

_HUBS = 200
_RATED_KVA = 1600.0
_MILLI = 1e-3


@case("capacity_answers", "TrackCapacity with 200 hubs: answers, and cuts that reach every hub", sizes=(_HUBS,),
      generated=True, domain="capacity")  # fmt: skip
def capacity_answers(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "The server is a process of its own with default settings. Answers are timed at "
        "the operator's client, from sending a measurement to having its answer; every measurement changes most hubs. "
        "Cuts are timed from sending the cut to when a third process, with one watch for each hub, has its message.",
    ])  # fmt: skip
    rng = np.random.default_rng(5)
    hubs = setting.pick(_HUBS, 20)
    fast = {"dead_band_ratio": 0.0, "ramp_ratio_per_min": 1e9}
    with served() as server:
        with operator(server.channel, hubs, _RATED_KVA, **fast) as track:
            for _ in range(20):
                track.told(track.measurement(np.full(3, 400.0)))
            answers_s, changed = [], 0
            for _ in range(setting.pick(3000, 50)):
                answer, seconds = track.told(track.measurement(500.0 + rng.normal(0.0, 20.0, 3)))
                answers_s.append(seconds)
                changed += len(answer.hubs)
        time.sleep(0.5)
        with operator(server.channel, hubs, _RATED_KVA, **fast) as track, watchers(server.port, hubs) as watching:
            for _ in range(3):
                track.told(track.measurement(np.full(3, 400.0)))
            watching.seen_ns()
            cuts_s: list[float] = []
            last_s: list[float] = []
            told_s: list[float] = []
            for _ in range(setting.pick(200, 5)):
                time.sleep(0.05)
                started_ns = time.monotonic_ns()
                cut = api.TrackedChanges(cut_kw=float(rng.uniform(100.0, 500.0)))
                told_s.append(track.told(api.TrackCapacityRequest(changes=cut))[1])
                reached_s = [1e-9 * (seen - started_ns) for seen in watching.seen_ns()]
                cuts_s += reached_s
                last_s.append(max(reached_s))
                time.sleep(0.05)
                track.told(api.TrackCapacityRequest(changes=api.TrackedChanges(clear_cut=True)))
                watching.seen_ns()
    outcome.seconds = {
        "answer to a measurement": answers_s, "last hub of a cut": last_s, "answer to a cut, all watches open": told_s,
    }  # fmt: skip
    typical, slow = np.percentile(answers_s, [50, 99])
    outcome.add("answer", f"Answer to a measurement, {hubs} hubs, 99th percentile", slow, "s", at_most=5 * _MILLI,
                peer=f"median {shown(typical)}, {changed / len(answers_s):.0f} hubs changed in each")  # fmt: skip
    typical, slow = np.percentile(cuts_s, [50, 99])
    last = shown(float(np.median(last_s)))
    outcome.add("cut", f"From a cut to the watch of a hub, {hubs} watches, 99th percentile", slow, "s",
                at_most=50 * _MILLI, peer=f"median {shown(typical)}, the last hub in the median {last}")  # fmt: skip
    return outcome


@case("capacity_hour", "An hour of 200 hubs, second by second", sizes=(_HUBS,), generated=True, domain="capacity")
def capacity_hour(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "Hubs draw all that they may at once. Limits are checked by a loop of its own: loading of each phase, and the "
        "hot-spot by the difference equations with a step of a second.",
    ])  # fmt: skip
    rng = np.random.default_rng(7)
    own = ThermalParameters.of(Cooling.ONAN)
    transformer = Transformer(_RATED_KVA, own, np.array([25.0]))
    hubs = TrackedHubs.of(_HUBS, max_kw=MAX_KW, firm_kw=2.0)
    tracker = CapacityTracker(TrackerSetup(transformer, 1000.0, hubs, rotation_s=60.0))
    update = tracker.begin(0.0, 0.0)
    state = [60.0, 30.0, 15.0]
    broken, step_s = 0, []
    seconds = setting.pick(3600, 60)
    before_bytes = 0
    for k in range(1, seconds + 1):
        if k == seconds // 5:  # timed before, for tracing slows it down
            tracemalloc.start()
            before_bytes = tracemalloc.get_traced_memory()[0]
        base_kw = 420.0 + 60.0 * np.sin(k / 300.0 + np.arange(3)) + rng.normal(0.0, 3.0, 3)
        phase_kw = base_kw + update.capacity_kw.sum() / 3.0
        sample = Measurement(float(k), phase_kw * 1000.0 / 230.0, np.full(3, 230.0), 1.0, update.capacity_kw)
        started_s = time.perf_counter()
        update = tracker.measure(sample, float(k), float(k))
        if not tracemalloc.is_tracing():
            step_s.append(time.perf_counter() - started_s)
        if k == 1:
            state = [update.state.top_oil_c, update.state.winding_gradient_c, update.state.oil_gradient_c]
        ratio = 3.0 * float((base_kw + update.capacity_kw.sum() / 3.0).max()) / _RATED_KVA
        state = _second_later(own, state, ratio, 25.0)
        broken += ratio > 1.5 * (1.0 + 1e-9) or state[0] + state[1] - state[2] > 120.0 or state[0] > 105.0
    grown_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    tracemalloc.stop()
    outcome.seconds = {"a measurement in the engine": step_s[1:]}
    typical, slow = np.percentile(step_s[1:], [50, 99])
    outcome.add("limits", "Broken limits in an hour of seconds, all hubs drawing all they may", broken, at_most=0)
    outcome.add("memory", "Growth of memory in that hour", grown_bytes / (1 << 20), "MB", at_most=1.0)
    outcome.add("engine", "A measurement in the engine, 99th percentile", slow, "s", at_most=_MILLI,
                peer=f"median {shown(typical)}")  # fmt: skip
    return outcome


def _second_later(own: ThermalParameters, state: list[float], ratio: float, ambient_c: float) -> list[float]:
    """One step of the difference equations of IEC 60076-7."""
    oil, first, second = state
    rise = own.top_oil_rise_k * ((1 + ratio**2 * own.loss_ratio) / (1 + own.loss_ratio)) ** own.oil_exponent
    gradient = own.hot_spot_gradient_k * ratio**own.winding_exponent
    minute = 1.0 / 60.0
    oil += minute / (own.k11 * own.oil_time_constant_min) * (rise + ambient_c - oil)
    first += minute / (own.k22 * own.winding_time_constant_min) * (own.k21 * gradient - first)
    second += minute * own.k22 / own.oil_time_constant_min * ((own.k21 - 1) * gradient - second)
    return [oil, first, second]
