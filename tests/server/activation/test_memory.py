"""The ledger in memory is what the store would lead to, whatever was asked, refused, or broken on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from google.rpc import code_pb2

from evflex.server.errors import ServiceError
from tests.conftest import SOAK
from tests.server.activation.ledger_bench import Bench, BrokenError, breaking_after, check_memory
from tests.server.activation.ledger_chance import Chance

SEEDS = range(60 if SOAK else 3)
STEPS = 300 if SOAK else 60


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_is_what_the_store_leads_to(bench: Bench, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = Chance(bench, seed)
    chance.set_up()
    outcomes: Counter[str] = Counter()
    for step in range(STEPS):
        kind = chance.random.random()
        if kind < 0.7:
            outcomes[_outcome(chance.work())] += 1
        elif kind < 0.85:
            for answer in bench.together([chance.work() for _ in range(chance.random.randrange(2, 6))]):
                outcomes["refused" if isinstance(answer, ServiceError) else "done"] += 1
        else:
            error = chance.random.choice([BrokenError(), ServiceError(code_pb2.FAILED_PRECONDITION, "NO", "no")])
            with breaking_after(monkeypatch, chance.random.randrange(1, 4), error):
                outcomes[_outcome(chance.work())] += 1
        if step % 3 == 0:
            check_memory(bench)
    check_memory(bench)
    assert outcomes["done"] > STEPS // 5
    assert outcomes["refused"] > STEPS // 20


def _outcome(work: Callable[[], Any]) -> str:
    try:
        work()
    except ServiceError:
        return "refused"
    return "done"
