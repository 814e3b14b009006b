"""Who sells a vehicle and the charge point that it is at: all pairs, beside a join in SQLite."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench.activation_worlds import plugged, sales_of_both_sides
from bench.registry import Outcome, Setting, case
from bench.sqlite_ledger_peer import JOINS, Triple, sqlite_sessions
from bench.timing import alternate, medians, shown, timed
from evflex.engine.activation import prepare_registry, warm_up
from evflex.engine.activation.batch_pairs import cross_sale_pairs
from evflex.engine.activation.model import PolicyKind

_VEHICLES, _POINTS, _SESSIONS, _PER_SIDE = 60_000, 40_000, 300_000, 250_000
_OURS, _PEER = "evflex, all cross sales", "SQLite, fastest join"
_ASKED = 8.0


@case(
    "activation_sessions", "Vehicle and charge point both sold: 500 000 commitments through 300 000 sessions",
    sizes=(2 * _PER_SIDE,), generated=True, domain="activation",
)  # fmt: skip
def activation_sessions(setting: Setting) -> Outcome:
    warm_up()
    vehicles, points, sessions, per_side = (
        count // (1 if not setting.quick else 500) for count in (_VEHICLES, _POINTS, _SESSIONS, _PER_SIDE)
    )
    outcome = Outcome(notes=[
        f"{vehicles} vehicles and {points} charge points, {sessions} sessions of one to six hours and commitments of a "
        "quarter of an hour to two hours within five days, of which 60 % begin in a session. SQLite's tables hold "
        "their rows in the order in which the join reads them, in a file or in memory, whichever is faster, and the "
        "query knows the longest session and the longest commitment, so that it looks at near ones only; loading is "
        "not counted, nor is preparing our registry.",
    ])  # fmt: skip
    world = plugged(vehicles, points, sessions)
    prepare_s = timed(lambda: prepare_registry(world.registry))
    prepared, sales = prepare_registry(world.registry), sales_of_both_sides(world, per_side)
    columns, policy = sales.columns(), np.full(len(sales), PolicyKind.NONE, dtype=np.int64)
    ours = partial(cross_sale_pairs, prepared, columns, policy)
    found = ours()
    pairs = zip(found.first.tolist(), found.second.tolist(), found.where.tolist(), strict=True)
    with (
        tempfile.TemporaryDirectory(prefix="evflex-bench-") as folder,
        sqlite_sessions(world, sales) as memory,
        sqlite_sessions(world, sales, Path(folder) / "sessions.sqlite") as file,
    ):
        joins: dict[str, Callable[[], list[Triple]]] = {
            f"{join}, {place}": partial(database.cross_sales, join)
            for place, database in (("in memory", memory), ("in a file", file))
            for join in JOINS
        }
        expected = set(pairs)
        differing = max(len(expected ^ {_in_order(triple) for triple in join()}) for join in joins.values())
        joins_s = {name: timed(join) for name, join in joins.items()}
        fastest = min(joins_s, key=joins_s.__getitem__)
        outcome.seconds = alternate({_OURS: ours, _PEER: joins[fastest]}, setting.pick(9, 2), setting.seconds(60.0))
    typical = medians(outcome.seconds)
    outcome.add(
        "sqlite", "All cross sales, times faster than SQLite", typical[_PEER] / typical[_OURS], "×", at_least=_ASKED,
        peer=f"{shown(typical[_OURS])} beside {shown(typical[_PEER])} ({fastest}), {len(found)} pairs",
    )  # fmt: skip
    outcome.add("differing", "Cross sales that both do not find alike", differing, at_most=0)
    outcome.add("prepare", f"Preparing the registry with {len(world.vehicle)} sessions", prepare_s, "s")
    outcome.details["SQLite's joins"] = joins_s
    return outcome


def _in_order(triple: Triple) -> Triple:
    """The pair with the earlier commitment first, as we tell it."""
    first, second, session = triple
    return (min(first, second), max(first, second), session)
