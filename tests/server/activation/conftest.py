"""A server of the ledger with a vehicle at hand, a charge point and the site that it is behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.activation.support import CHARGE_POINT, SITE, RunningLedger, register, resource, running_ledger


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RunningLedger]:
    with running_ledger(tmp_path) as server:
        furnish(server)
        yield server


def furnish(server: RunningLedger) -> None:
    register(
        server.cpo, resource("ev"), resource("ev-2"), resource("cp", CHARGE_POINT, parent_id="site"),
        resource("cp-2", CHARGE_POINT, parent_id="site"), resource("site", SITE, up_w=15_000),
    )  # fmt: skip
