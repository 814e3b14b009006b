"""A million commitments checked at once, beside the same sums in SQLite, and how the time grows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.activation_worlds import Sales, batteries, sales_of_batteries
from bench.registry import Outcome, Setting, case
from bench.sqlite_ledger_peer import WAYS, Run, SqliteSales, sqlite_sales
from bench.timing import alternate, medians, shown, timed
from evflex.engine.activation import ConflictKind, PreparedRegistry, check_batch, prepare_registry, warm_up

_RESOURCES = 100_000
_ASKED = 8.0
_EVERYTHING = 1 << 60
_OURS, _PEER = "evflex, check of a batch", "SQLite, fastest way"
_CAPACITY = (ConflictKind.CAPACITY_EXCEEDED, ConflictKind.CASCADE)


@dataclass(frozen=True, slots=True)
class _Beside:
    """Times of one batch, and whether both found the same."""

    runs: int
    ours_s: float
    peer_s: float
    way: str
    ways_s: dict[str, float]
    differing: int


@case(
    "activation_batch", "1 000 000 commitments on 100 000 resources, one check",
    sizes=(10_000, 100_000, 1_000_000), generated=True, domain="activation",
)  # fmt: skip
def activation_batch(setting: Setting) -> Outcome:
    warm_up()
    outcome = Outcome(notes=[
        "Ten commitments a resource, in both directions, of a quarter of an hour to four hours within five days. We "
        "judge by all rules and tell the conflicts; SQLite adds up and finds the runs above the headroom, with their "
        "largest excess. Its tables hold their rows in the order in which the query reads them, in a file or in "
        "memory, whichever is faster; loading them is not counted, nor is preparing our registry. Three ways to ask "
        "were tried: "
        f"{', '.join(WAYS)}; the last two sum up only where something is exceeded. SQLite works on one thread, we on "
        "all.",
    ])  # fmt: skip
    sizes = [_RESOURCES // 100, _RESOURCES // 10, _RESOURCES] if not setting.quick else [40, 80, 160]
    outcome.curves = {_OURS: [], _PEER: []}
    for resources in sizes:
        registry = batteries(resources, behind_sites=False)
        prepare_s = timed(lambda registry=registry: prepare_registry(registry))  # type: ignore[misc]
        prepared, sales = prepare_registry(registry), sales_of_batteries(resources)
        beside = _beside(outcome, setting, prepared, sales, sales)
        outcome.curves[_OURS].append((len(sales), beside.ours_s))
        outcome.curves[_PEER].append((len(sales), beside.peer_s))
        outcome.seconds[f"preparing the registry, {resources} resources"] = [prepare_s]
    window_s = beside.ways_s[WAYS[0]]
    outcome.add(
        "sqlite", "1 000 000 commitments, times faster than SQLite's window query", window_s / beside.ours_s, "×",
        at_least=_ASKED, peer=f"{shown(beside.ours_s)} beside {shown(window_s)}, {beside.runs} runs",
    )  # fmt: skip
    _add(outcome, "fastest", "The same beside the fastest way that was found to ask SQLite", beside, None)
    outcome.add("prepare", "Preparing the registry of 100 000 resources", prepare_s, "s")
    registry = batteries(sizes[-1], behind_sites=True)
    prepared = prepare_registry(registry)
    beside = _beside(outcome, setting, prepared, sales, _at_every_place(prepared, sales))
    _add(outcome, "sites", "The same behind 10 000 sites and 200 nodes, times faster than SQLite", beside, None)
    return outcome


def _add(outcome: Outcome, key: str, title: str, beside: _Beside, at_least: float | None) -> None:
    outcome.add(
        key, title, beside.peer_s / beside.ours_s, "×", at_least=at_least,
        peer=f"{shown(beside.ours_s)} beside {shown(beside.peer_s)} ({beside.way}), {beside.runs} runs",
    )  # fmt: skip
    outcome.add(f"{key}_differing", f"{title.partition(',')[0]}: runs that both do not find alike", beside.differing,
                at_most=0)  # fmt: skip
    outcome.details[f"SQLite's ways, {key}"] = beside.ways_s


def _beside(outcome: Outcome, setting: Setting, prepared: PreparedRegistry, sales: Sales, counting: Sales) -> _Beside:
    """Time a batch on both sides; `counting` are its rows at every place where they count."""
    columns = sales.columns()
    ours = partial(check_batch, prepared, columns)
    found = check_batch(prepared, columns, _EVERYTHING)
    # a run is at a thing, which is named by its only resource here
    expected = sorted(
        (2 * prepared.number_of[c.resource_id] + int(c.direction or 0) - 1, c.start_ms, c.end_ms, c.excess_w)
        for c in found.conflicts
        if c.kind in _CAPACITY
    )
    with _databases(prepared, counting) as databases:
        ways: dict[str, Callable[[], list[Run]]] = {
            f"{way}, {place}": partial(database.runs, way) for place, database in databases for way in WAYS
        }
        differing = max(len(set(expected) ^ set(run())) for run in ways.values())
        ways_s = {name: timed(run) for name, run in ways.items()}
        way = min(ways_s, key=ways_s.__getitem__)
        seconds = alternate({_OURS: ours, _PEER: ways[way]}, setting.pick(7, 2), setting.seconds(60.0))
    told = f"{len(sales)} commitments" + (", behind sites" if counting is not sales else "")
    outcome.seconds |= {f"{name}, {told}": times for name, times in seconds.items()}
    typical = medians(seconds)
    fastest_s = {way: min(s for name, s in ways_s.items() if name.startswith(way)) for way in WAYS}
    return _Beside(len(expected), typical[_OURS], typical[_PEER], way, fastest_s | ways_s, differing)


@contextmanager
def _databases(prepared: PreparedRegistry, counting: Sales) -> Iterator[Sequence[tuple[str, SqliteSales]]]:
    """The same in memory and in a file."""
    with (
        tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder,
        sqlite_sales(counting, prepared.headroom_w) as memory,
        sqlite_sales(counting, prepared.headroom_w, Path(folder) / "sales.sqlite") as file,
    ):
        yield (("in memory", memory), ("in a file", file))


def _at_every_place(prepared: PreparedRegistry, sales: Sales) -> Sales:
    """Each commitment once for its resource and for each that this is behind."""
    levels = 3
    places = prepared.places[prepared.place_starts[sales.name][:, None] + np.arange(levels)]
    repeated = {key: np.repeat(getattr(sales, key), levels) for key in Sales.__slots__}
    return replace(sales, **repeated | {"name": places.ravel()})
