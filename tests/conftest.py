"""What all tests share: how many examples to try, and which tests need something that may be absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SOAK = os.environ.get("EVFLEX_SOAK") == "1"

# A first call compiles kernels, so no single example has a deadline; pytest-timeout bounds the test.
settings.register_profile("reduced", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("soak", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("soak" if SOAK else "reduced")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip soak tests outside `make soak`, and tests on shared data where there is none."""
    missing = {}
    if not SOAK:
        missing["soak"] = "runs with EVFLEX_SOAK=1 (make soak)"
    if not _shared_data().is_dir():
        missing["shared_data"] = "needs data sets in the folder named by EVFLEX_SHARED_DATA"
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the data sets too large to pack; tests that use it carry the marker `shared_data`."""
    return _shared_data()


def _shared_data() -> Path:
    beside_the_checkout = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("EVFLEX_SHARED_DATA", beside_the_checkout))
