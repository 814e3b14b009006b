"""What it was measured on, without names or places."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("numpy", "numba", "scipy", "highspy", "cvxpy", "clarabel", "grpcio", "protobuf")


def machine() -> dict[str, object]:
    """Cores, processor, memory and versions."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_gb": round(int((_first("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 1e6, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "evflex": version("evflex"),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def machine_line(described: dict[str, object]) -> str:
    """One line of it."""
    packages = described["packages"]
    assert isinstance(packages, dict)
    versions = ", ".join(f"{name} {number}" for name, number in packages.items())
    return (
        f"{described['cores']} cores ({described['processor']}), {described['memory_gb']} GB, {described['system']}, "
        f"Python {described['python']}, evflex {described['evflex']}; {versions}"
    )


def _first(path: str, key: str) -> str:
    """Value of the first line `key : value` of a file; empty where there is none."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
