"""Case × size × phase on pytest-benchmark: `python -m pytest bench/phases_benchmark.py`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.highs_peer import LP_MODES, linear_program, solve
from bench.instances import data_folder
from bench.registry import Setting
from bench.translation import Translation

QUICK_VARIABLE = "EVFLEX_BENCH_QUICK"
SIZES = (10, 100, 1000)
PHASES = ("parse", "decode", "validate", "solve", "encode", "serialize", "HiGHS LP")
_GAP = 1e-3
# The mode that is fastest, or nearly, at each size.
_PEER_MODE = {10: "dual simplex, no presolve", 100: "dual simplex, no presolve", 1000: "interior point"}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("size", SIZES)
def test_phase(benchmark: BenchmarkFixture, size: int, phase: str) -> None:
    quick = bool(os.environ.get(QUICK_VARIABLE))
    if not quick and not data_folder().is_dir():
        pytest.skip("needs data sets in the folder named by EVFLEX_SHARED_DATA")
    run = _runs(size, quick)[phase]
    slow = phase in ("solve", "HiGHS LP")
    benchmark.group = f"{size} sessions"
    benchmark.pedantic(run, rounds=2 if quick else 5 if slow else 20, warmup_rounds=1)  # type: ignore[no-untyped-call]


@cache
def _runs(size: int, quick: bool) -> dict[str, Callable[[], object]]:
    site = Setting(quick).site(size)
    translation = Translation(site.message("site", _GAP).SerializeToString())
    peer = partial(solve, linear_program(site), LP_MODES[_PEER_MODE[size]])
    return {**translation.parts, "solve": translation.solve, "HiGHS LP": peer}
