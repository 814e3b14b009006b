"""Timing side by side: A B A B, so that whatever disturbs the machine disturbs both."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

Timings = dict[str, list[float]]


def timed(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def alternate(runs: Mapping[str, Callable[[], object]], rounds: int, budget_s: float = 60.0) -> Timings:
    """Time each of `runs` in turn, several times round; stops after a full round once `budget_s` is spent.

    The garbage collector runs between the measurements, not within.
    """
    timings: Timings = {name: [] for name in runs}
    started = time.perf_counter()
    for _ in range(rounds):
        for name, run in runs.items():
            gc.collect()
            gc.disable()
            try:
                timings[name].append(timed(run))
            finally:
                gc.enable()
        if time.perf_counter() - started > budget_s:
            break
    return timings


def medians(timings: Timings) -> dict[str, float]:
    """Median seconds by name."""
    return {name: median(times) for name, times in timings.items()}


def shown(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"
