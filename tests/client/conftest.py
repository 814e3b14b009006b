"""A scripted server, and each client as a blocking one, so that one test holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

import pandas as pd
import pytest

from evflex.client import AsyncEvflexClient, EvflexClient, RetryPolicy, ScheduleRequest, SupplyNode
from tests.client.fake_server import FakeServer

Result = TypeVar("Result")
QUICK = RetryPolicy(max_attempts=3, initial_pause_s=0.001, max_pause_s=0.002)


class Blocking:
    """The asynchronous client with the methods of the synchronous one."""

    def __init__(self, address: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._made(address, options))

    @staticmethod
    async def _made(address: str, options: dict[str, Any]) -> AsyncEvflexClient:
        return AsyncEvflexClient(address, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if hasattr(result, "__aenter__"):
                return BlockingContext(result, self._runner)
            return self._iterate(result) if hasattr(result, "__aiter__") else self._run(result)

        return call

    def close(self) -> None:
        self._run(self._client.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def _iterate(self, items: AsyncIterator[Result]) -> Iterator[Result]:
        async def following() -> Result:
            return await anext(items)

        async def closing() -> None:
            await items.aclose()  # type: ignore[attr-defined]

        try:
            while True:
                try:
                    item = self._run(following())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._run(closing())


class BlockingContext:
    """An asynchronous context manager whose methods block."""

    def __init__(self, wrapped: Any, runner: asyncio.Runner) -> None:
        self._wrapped = wrapped
        self._runner = runner

    def __enter__(self) -> Any:
        self._runner.run(self._wrapped.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._runner.run(self._wrapped.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        async def rest() -> list[Any]:
            return [item async for item in self._wrapped]

        return iter(self._runner.run(rest()))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            async def calling() -> Any:
                result = found(*args, **kwargs)
                return await result if asyncio.iscoroutine(result) else result

            return self._runner.run(calling())

        return call


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.stop()


@pytest.fixture(params=[EvflexClient, Blocking], ids=["sync", "asyncio"])
def client(server: FakeServer, request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param(server.address, retry=QUICK)
    yield made
    made.close()


@pytest.fixture
def prices() -> pd.Series:
    index = pd.date_range("2024-11-05 12:00", periods=4, freq="h", tz="Europe/Copenhagen")
    return pd.Series([0.30, 0.10, 0.20, 0.40], index=index)


@pytest.fixture
def sessions(prices: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "session_id": ["a", "b"],
            "evse_id": ["bay-1", "bay-2"],
            "arrival_time": prices.index[0],
            "departure_time": prices.index[3],
            "energy_needed_kwh": [10.0, 20.0],
            "max_charge_kw": 11.0,
        }
    )


@pytest.fixture
def site(sessions: pd.DataFrame, prices: pd.Series) -> ScheduleRequest:
    return ScheduleRequest("depot", sessions, prices, [SupplyNode("grid", max_import_kw=22.0)])
