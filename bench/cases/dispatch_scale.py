"""A million vehicles under one limit: time beside HiGHS on thousands, and how it grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from bench.cases.dispatch_sides import PEER_NOTE, PRICES_NOTE, PeerRun, PlannedFleet, peer
from bench.elaad import elaad_problem
from bench.fleets import Variant, reference_problem
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown, timed

_MILLION = 1_000_000
_GAP, _FINE_GAP = 1e-3, 1e-4
_MERGED, _PER_ASSET = "evflex, windows in common", "evflex, all windows and powers distinct"
_FINE = "evflex, to 1e-4"
_PEER, _LOOSE_PEER = "HiGHS' fastest mode", "HiGHS' fastest mode, to 1e-4"
_CHUNK = 50_000
_ORACLE_NOTE = (
    "One oracle serves both: it adds up vehicles that share a window as one step function, in which each enters with "
    "its own power, energy and worth; where no two share a window exactly, those that touch the same steps still do."
)


@case(
    "dispatch_million", "1 000 000 vehicles under one limit", sizes=(1000, 10_000, 100_000, _MILLION), generated=True,
    domain="dispatch",
)  # fmt: skip
def dispatch_million(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[PRICES_NOTE, PEER_NOTE, _ORACLE_NOTE])
    sizes = [1000, 10_000, 100_000, _MILLION] if not setting.quick else [20, 40, 60, 80]
    merged_gap = _ladder(outcome, setting, sizes, _MERGED, Variant())
    distinct_gap = _ladder(outcome, setting, sizes, _PER_ASSET, Variant(distinct=True))
    fine = PlannedFleet(reference_problem(sizes[-1]), _FINE_GAP)
    outcome.seconds[_FINE] = alternate({_FINE: fine}, setting.pick(2), setting.seconds(60.0))[_FINE]
    outcome.add("merged_gap", "Certified gap of 1 000 000 vehicles, windows in common", merged_gap, "%", at_most=_GAP)
    outcome.add("distinct_gap", "Certified gap of 1 000 000 vehicles, all distinct", distinct_gap, "%", at_most=_GAP)
    outcome.add("fine_gap", "Certified gap of 1 000 000 vehicles, 0.01 % asked", fine.gap, "%", at_most=_FINE_GAP)
    peers = {count: peer(setting.pick(count, count // 100), Variant()) for count in (1000, 5000, 10_000)}
    outcome.curves[_PEER] = [(count, run.answer.solve_s) for count, run in peers.items()]
    outcome.curves[_LOOSE_PEER] = [(count, run.loose_s) for count, run in peers.items() if run.loose_seconds]
    for count, run in peers.items():
        outcome.seconds[f"HiGHS, {count} ({run.mode})"] = [run.answer.solve_s]
        outcome.seconds[f"HiGHS, {count}, building and passing"] = [run.answer.construction_s]
        outcome.seconds |= {f"HiGHS, {count} ({mode})": [took_s] for mode, took_s in run.loose_seconds.items()}
        outcome.details[f"HiGHS modes, {count}"] = run.seconds | run.loose_seconds
    _compare(outcome, sizes, peers)
    return outcome


def _ladder(outcome: Outcome, setting: Setting, sizes: Sequence[int], name: str, variant: Variant) -> float:
    """Measure one kind of fleet at all sizes; returns the certified gap at the largest."""
    gap = math.inf
    outcome.curves[name] = []
    for count in sizes:
        ours = PlannedFleet(reference_problem(count, 0, variant), _GAP).warm(variant)
        seconds = alternate({name: ours}, setting.pick(3), setting.seconds(30.0))
        typical_s = medians(seconds)[name]
        outcome.seconds[f"{name}, {count}"] = seconds[name]
        outcome.curves[name].append((count, typical_s))
        outcome.phases.setdefault(f"{name}: plan", {})[str(count)] = typical_s
        setpoints_s = timed(partial(_all_setpoints, ours))
        outcome.phases.setdefault(f"{name}: all setpoints", {})[str(count)] = setpoints_s
        outcome.details[f"{name}, {count}"] = ours.told()
        gap = ours.gap
    return gap


@case("dispatch_v2g", "1 000 000 vehicles that give energy back with losses", sizes=(_MILLION,), generated=True,
      domain="dispatch")  # fmt: skip
def dispatch_v2g(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[PRICES_NOTE, PEER_NOTE])
    variant = Variant(discharging=True)
    run = peer(setting.pick(10_000, 40), Variant())
    count = setting.pick(_MILLION, 80)
    ours = PlannedFleet(reference_problem(count, 0, variant), _GAP, time_limit_s=600.0).warm(variant)
    seconds = timed(ours)
    outcome.seconds = {"evflex": [seconds], "HiGHS, 10 000 vehicles that only charge": [run.answer.solve_s]}
    outcome.add("gap", "Certified gap of 1 000 000 vehicles with V2G", ours.gap, "%", at_most=_GAP,
                peer=ours.plan.termination.method)  # fmt: skip
    outcome.add(
        "time", "1 000 000 vehicles with V2G, in times of HiGHS on 10 000 without", seconds / run.answer.solve_s, "×",
        at_most=5.0,
        peer=f"{shown(seconds)} beside {shown(run.answer.solve_s)} ({run.mode}); {shown(run.loose_s)} to 1e-4",
    )  # fmt: skip
    outcome.details["evflex"] = ours.told()
    return outcome


@case("dispatch_elaad", "1 000 000 vehicles as ElaadNL measures them", sizes=(100_000, _MILLION), needs_data=True,
      domain="dispatch")  # fmt: skip
def dispatch_elaad(setting: Setting) -> Outcome:
    outcome = Outcome(notes=["Stays, energies and powers follow ElaadNL's distributions; no two vehicles merge."])
    for count in (setting.pick(100_000, 40), setting.pick(_MILLION, 80)):
        ours = PlannedFleet(elaad_problem(count), _GAP).warm(Variant(distinct=True))
        outcome.seconds[f"evflex, {count}"] = alternate({"": ours}, setting.pick(2), setting.seconds(30.0))[""]
        typical_s = medians(outcome.seconds)[f"evflex, {count}"]
        outcome.add(f"gap_{count}", f"Certified gap of {count} vehicles of ElaadNL", ours.gap, "%", at_most=_GAP,
                    peer=shown(typical_s))  # fmt: skip
        outcome.details[f"evflex, {count}"] = ours.told()
    return outcome


def _compare(outcome: Outcome, sizes: Sequence[int], peers: Mapping[int, PeerRun]) -> None:
    """The ratios that are asked of a million."""
    ours = {name: dict(outcome.curves[name]) for name in (_MERGED, _PER_ASSET)}
    largest, tenth = sizes[-1], sizes[-2]
    merged_s, distinct_s = ours[_MERGED][largest], ours[_PER_ASSET][largest]
    fine_s = medians(outcome.seconds)[_FINE]
    for key, said, ours_s, count, at_most in (
        ("merged", "1 000 000 vehicles, windows in common", merged_s, 5000, 0.5),
        ("distinct", "1 000 000 vehicles, all distinct", distinct_s, 5000, 1.0),
        ("fine", "1 000 000 vehicles to 0.01 %", fine_s, 10_000, 1.0),
    ):
        run = peers[count]
        highs_s = run.answer.solve_s
        outcome.add(
            f"{key}_time", f"{said}, in times of HiGHS on {count}", ours_s / highs_s, "×", at_most=at_most,
            peer=f"{shown(ours_s)} beside HiGHS {shown(highs_s)} ({run.mode}); {shown(run.loose_s)} to 1e-4",
        )  # fmt: skip
    outcome.add(
        "growth", "Time at 1 000 000 in times of 100 000, windows in common", merged_s / ours[_MERGED][tenth], "×",
        at_most=4.0, peer=f"{shown(merged_s)} and {shown(ours[_MERGED][tenth])}; all distinct {shown(distinct_s)} and "
        f"{shown(ours[_PER_ASSET][tenth])}",
    )  # fmt: skip


def _all_setpoints(ours: PlannedFleet) -> None:
    count = len(ours.problem.fleet)
    for first in range(0, count, _CHUNK):
        ours.plan.setpoints.power_kw(np.arange(first, min(first + _CHUNK, count)))
