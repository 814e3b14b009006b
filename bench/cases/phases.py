"""Where the time of one request goes, by size: pytest-benchmark on each phase."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.phases_benchmark import QUICK_VARIABLE
from bench.registry import Outcome, Setting, case

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 180.0


@case("phases", "Phases of one request by size, on pytest-benchmark", sizes=(10, 100, 1000))
def phases(setting: Setting) -> Outcome:
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder:
        path = Path(folder) / "benchmark.json"
        command = [
            sys.executable, "-m", "pytest", "bench/phases_benchmark.py", "-q", "-p", "no:cacheprovider",
            "--benchmark-only", f"--benchmark-json={path}",
        ]  # fmt: skip
        # Under a parallel test run pytest-benchmark would switch itself off.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment = inherited | {QUICK_VARIABLE: "1" if setting.quick else ""}
        finished = subprocess.run(
            command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if finished.returncode:
            raise RuntimeError(f"pytest-benchmark failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
        rows = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    for row in rows:
        size, phase = row["params"]["size"], row["params"]["phase"]
        outcome.phases.setdefault(phase, {})[str(size)] = row["stats"]["median"]
    return outcome
